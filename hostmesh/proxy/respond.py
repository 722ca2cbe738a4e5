"""Answers that hostmesh makes itself: every one carries ``l5d-err`` with a typed reason, and says what to do."""

from __future__ import annotations

from hostmesh.base.errors import MeshError, Sent
from hostmesh.base.reasons import Reason
from hostmesh.protocol.context import encode_err
from hostmesh.protocol.grpc import code_of_reason, encode_message
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


def first_lines(error: MeshError) -> str:
    """The message on one line: the first alone says "Unable to route request!", the second says why."""
    return " ".join([line for line in error.message.splitlines() if line][:2])


def error_parts(error: MeshError, *, clear: bool, max_body: int, reqid: bytes = b"") -> tuple[bytes, bytes]:
    """The field lines and the body of the response for ``error``, whatever protocol carries it.

    ``clear`` is for untrusted callers: no ``l5d-*`` and no details, only the request id (hardening T8).
    """
    if clear:
        return b"", b"request failed" + (b", id " + reqid if reqid else b"") + b"\n"
    lines = b"l5d-err: " + encode_err(f"{error.reason.value}: {first_lines(error)}") + b"\r\n"
    if error.reason is Reason.OVERLOADED:
        # What finagle and Linkerd callers take for "not processed, safe to send again" (reference 7).
        lines += b"Retry-After: 0\r\nfinagle-http-nack: true\r\n"
    if error.sent is Sent.NOTHING and error.reason in RETRYABLE_REASONS:
        lines += b"l5d-retryable: true\r\n"
    return lines, (error.message.rstrip("\n") + "\n").encode("utf-8", "backslashreplace")[:max_body]


def grpc_error_lines(error: MeshError, *, clear: bool, reqid: bytes = b"") -> bytes:
    """The field lines of the trailers-only response for ``error``, whose HTTP status is 200: what a gRPC caller is
    told by a status and its message, and a mesh by the same ``l5d-err`` as ever."""
    if clear:
        lines = b""
        text = "request failed" + (", id " + reqid.decode("latin-1") if reqid else "")
    else:
        lines, _body = error_parts(error, clear=False, max_body=0)
        text = f"{error.reason.value}: {first_lines(error)}"
    code = code_of_reason(error.reason, error.status)
    status = b"content-type: application/grpc\r\ngrpc-status: %d\r\ngrpc-message: %b\r\n"
    return status % (code, encode_message(text)) + lines


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
