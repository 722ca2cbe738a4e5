"""Answers that hostmesh makes itself: every one carries ``l5d-err`` with a typed reason, and says what to do."""

from __future__ import annotations

from hostmesh.base.errors import MeshError, Sent
from hostmesh.base.reasons import Reason
from hostmesh.protocol.context import encode_err
from hostmesh.protocol.h1_write import answer

RETRYABLE_REASONS = frozenset(
    (
        Reason.CONNECT_REFUSED,
        Reason.CONNECT_TIMEOUT,
        Reason.LIMIT_POOL_WAITERS,
        Reason.LIMIT_PARKED,
        Reason.OVERLOADED,
        Reason.DRAINING,
    )
)


def error_parts(
    error: MeshError, *, clear: bool, max_body: int, reqid: bytes = b""
) -> tuple[bytes, bytes]:
    """The field lines and the body of the response for ``error``, whatever protocol carries it.

    ``clear`` is for untrusted callers: no ``l5d-*`` and no details, only the request id (hardening T8).
    """
    if clear:
        return b"", b"request failed" + (b", id " + reqid if reqid else b"") + b"\n"
    # The first line alone says "Unable to route request!"; the second says why.
    first = " ".join([line for line in error.message.splitlines() if line][:2])
    lines = b"l5d-err: " + encode_err(f"{error.reason.value}: {first}") + b"\r\n"
    if error.reason is Reason.OVERLOADED:
        # What finagle and Linkerd callers take for "not processed, safe to send again" (reference 7).
        lines += b"Retry-After: 0\r\nfinagle-http-nack: true\r\n"
    if error.sent is Sent.NOTHING and error.reason in RETRYABLE_REASONS:
        lines += b"l5d-retryable: true\r\n"
    return lines, (error.message.rstrip("\n") + "\n").encode("utf-8", "backslashreplace")[:max_body]


def error_answer(
    error: MeshError,
    *,
    head_only: bool,
    connection: bytes | None,
    clear: bool,
    max_body: int,
    reqid: bytes = b"",
) -> bytes:
    """The whole HTTP/1.1 response for ``error``; the other arguments are those of :func:`error_parts`."""
    lines, body = error_parts(error, clear=clear, max_body=max_body, reqid=reqid)
    return answer(error.status, body, lines, connection=connection, head_only=head_only)
