"""Why there was no TLS with somebody, of the standard library's errors, in the words that endpoints' errors have."""

from __future__ import annotations

import ssl


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
