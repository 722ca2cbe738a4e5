"""Why there was no TLS with somebody, of the standard library's errors, in the words that endpoints' errors have."""

from __future__ import annotations

import ssl
from typing import Final

import trio

OBJECTION_S: Final = 2.0
"""Seconds in which a peer that objects to our certificate has said so; one that does not says nothing at all."""


def tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """The engine's error below what libraries have made of it."""
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, ssl.SSLError):
            return error
        error, seen = error.__cause__ or error.__context__, seen + 1
    return None


def told(error: ssl.SSLError, whose: str) -> str:
    """For people. ``whose`` is the peer, as in "the caller"."""
    from hostmesh.protocol.tls.failures import of_library, of_verification

    if isinstance(error, ssl.SSLCertVerificationError):
        code = getattr(error, "verify_code", 0)
        if not code:
            # A name that is not the expected one; it tells everything.
            return str(error.strerror or error)
        said = of_verification((code, 0, ""), f"{whose}'s")[1]
        return " ".join(said.split())
    if isinstance(error, ssl.SSLEOFError):
        return f"{whose} closed the connection in the middle of the handshake"
    reason = (error.reason or str(error)).lower().replace("_", " ")
    return of_library([("", "", reason)], whose)[1]


async def objection(
    context: ssl.SSLContext, host: str, port: int, server_name: str | None, whose: str
) -> str | None:
    """Why there is no TLS with ``host``, asked on a connection of its own on which nothing is written; None if that
    does not tell either. For after a connection was cut without a word, in at most :data:`OBJECTION_S`.

    In TLS 1.3 a server judges our certificate when our part of the handshake is over. If it refuses, and closes while
    our request is on its way, that is a reset, after which nobody reads its alert.
    """
    with trio.move_on_after(OBJECTION_S):
        try:
            async with await trio.open_tcp_stream(host, port) as stream:
                await trio.SSLStream(stream, context, server_hostname=server_name).receive_some(1)
        except (OSError, trio.BrokenResourceError) as error:
            refused = tls_error(error)
            return None if refused is None else told(refused, whose)
    return None
