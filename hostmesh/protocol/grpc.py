"""gRPC over HTTP/2: what a proxy reads and writes of it.

Nothing here looks into messages. Sources: the gRPC protocol over HTTP/2 (``PROTOCOL-HTTP2.md``), its status codes
(``statuscodes.md``) and its mapping of HTTP statuses (``http-grpc-status-mapping.md``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import IntEnum
from typing import Final
from urllib.parse import unquote_to_bytes

from hostmesh.base.reasons import Reason


class Code(IntEnum):
    """The status codes. Peers may send others; they are failures of no known kind."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


CONTENT_TYPE: Final = b"application/grpc"

_content_type: Final = re.compile(rb"application/grpc(?:[+;\t ]|$)", re.IGNORECASE).match


def is_grpc(content_type: bytes | None) -> bool:
    """Whether a ``content-type`` says gRPC: ``application/grpc``, perhaps with ``+proto`` or parameters.

    Not gRPC-Web, whose trailers are in the body.
    """
    return content_type is not None and (
        content_type == CONTENT_TYPE or _content_type(content_type) is not None
    )


# -- status -----------------------------------------------------------------------------------------------------------

_status: Final = re.compile(rb"[0-9]{1,9}").fullmatch


def parse_status(value: bytes | None) -> int | None:
    """A ``grpc-status`` value, None when there is none. One that is no number is UNKNOWN, as gRPC's own clients
    read it."""
    if value is None:
        return None
    return int(value) if _status(value) else Code.UNKNOWN


def status_in(trailers: bytes | Iterable[tuple[bytes, bytes]]) -> int | None:
    """The status in trailers, be they the lines of HTTP/1.1 or the pairs of HTTP/2; None if they have none."""
    if isinstance(trailers, bytes):
        return _status_in_lines(trailers)
    for name, value in trailers:
        if name == b"grpc-status":
            return parse_status(value)
    return None


def _status_in_lines(lines: bytes) -> int | None:
    for line in lines.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"grpc-status":
            return parse_status(value.strip(b" \t"))
    return None


# RFC 7231's reason phrases made this necessary: a field value is ASCII, and details may be of any script.
_literal = frozenset(range(0x20, 0x7F)) - {0x25}

MAX_MESSAGE = 1024
"""Encoded bytes of a ``grpc-message`` written here: the limit of ``l5d-err``, which says the same."""


def encode_message(text: str, limit: int = MAX_MESSAGE) -> bytes:
    """The value of ``grpc-message``: UTF-8, percent-encoded outside of printable ASCII, at most ``limit`` bytes.

    It is never cut within an escape or within a character.
    """
    out = bytearray()
    for character in text[:limit]:
        raw = character.encode("utf-8", "backslashreplace")
        piece = b"".join([bytes((byte,)) if byte in _literal else b"%%%02X" % byte for byte in raw])
        if len(out) + len(piece) > limit:
            break
        out += piece
    return bytes(out)


def decode_message(value: bytes) -> str:
    """The text of a ``grpc-message``. What is no escape stays as it is, what is no UTF-8 is replaced: never an
    error."""
    return unquote_to_bytes(value).decode("utf-8", "replace")


# -- timeout ----------------------------------------------------------------------------------------------------------

_UNITS: Final = {
    b"H": 3_600_000_000_000,
    b"M": 60_000_000_000,
    b"S": 1_000_000_000,
    b"m": 1_000_000,
    b"u": 1_000,
    b"n": 1,
}
_FINEST_FIRST: Final = tuple(sorted(((size, unit) for unit, size in _UNITS.items())))

MAX_DIGITS: Final = 8
"""Digits of a timeout, by the specification."""

_LIMIT: Final = 10**MAX_DIGITS


def parse_timeout(value: bytes) -> int | None:
    """A ``grpc-timeout`` in nanoseconds; None for a value that is none, which is as if it were absent (T7)."""
    digits = value[:-1]
    unit = _UNITS.get(value[-1:])
    if unit is None or len(digits) > MAX_DIGITS or not digits.isdigit():
        return None
    return int(digits) * unit


def format_timeout(nanoseconds: int) -> bytes:
    """A ``grpc-timeout`` of that time in the finest unit that its eight digits allow.

    Rounded down: the next hop is never given more than there is. At least ``1n``, since zero is no timeout; more
    than eight digits of hours become the largest value there is.
    """
    nanoseconds = max(nanoseconds, 1)
    for size, unit in _FINEST_FIRST:
        amount = nanoseconds // size
        if amount < _LIMIT:
            return b"%d%b" % (amount, unit)
    return b"99999999H"


# -- codes for what is not gRPC ---------------------------------------------------------------------------------------

_OF_HTTP = {
    400: Code.INTERNAL,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.UNIMPLEMENTED,
    429: Code.UNAVAILABLE,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.UNAVAILABLE,
}


def code_of_http(status: int) -> Code:
    """What an answer without ``grpc-status`` means, by its HTTP status: the specification's table."""
    return _OF_HTTP.get(status, Code.UNKNOWN)


_OF_REASON = {
    # Our own limits of time, the binding's included; callers that are too slow have been timed out, too.
    Reason.TOTAL_TIMEOUT: Code.DEADLINE_EXCEEDED,
    Reason.ATTEMPT_TIMEOUT: Code.DEADLINE_EXCEEDED,
    Reason.DEADLINE_EXPIRED: Code.DEADLINE_EXCEEDED,
    Reason.BINDING_TIMEOUT: Code.DEADLINE_EXCEEDED,
    Reason.LIMIT_HEAD_TIME: Code.DEADLINE_EXCEEDED,
    Reason.LIMIT_BODY_TIME: Code.DEADLINE_EXCEEDED,
    # A connect that times out is an endpoint that is not there: callers may go elsewhere, nothing was sent.
    Reason.CONNECT_REFUSED: Code.UNAVAILABLE,
    Reason.CONNECT_TIMEOUT: Code.UNAVAILABLE,
    Reason.TLS_HANDSHAKE: Code.UNAVAILABLE,
    Reason.TLS_NAME_MISMATCH: Code.UNAVAILABLE,
    Reason.TLS_UNTRUSTED: Code.UNAVAILABLE,
    Reason.TLS_EXPIRED: Code.UNAVAILABLE,
    Reason.TLS_REVOKED: Code.UNAVAILABLE,
    Reason.TLS_WRONG_USAGE: Code.UNAVAILABLE,
    Reason.TLS_NO_CERTIFICATE: Code.UNAVAILABLE,
    Reason.TLS_NOT_ALLOWED: Code.UNAVAILABLE,
    Reason.TLS_NOT_SPOKEN: Code.UNAVAILABLE,
    Reason.TLS_VERSION: Code.UNAVAILABLE,
    Reason.TLS_REJECTED: Code.UNAVAILABLE,
    Reason.TLS_TIMEOUT: Code.UNAVAILABLE,
    Reason.RESET_BY_ENDPOINT: Code.UNAVAILABLE,
    # Names come and go: what leads nowhere now may lead somewhere at the next try.
    Reason.NO_DENTRY: Code.UNAVAILABLE,
    Reason.NAME_NEGATIVE: Code.UNAVAILABLE,
    Reason.REGISTRY_UNREACHABLE: Code.UNAVAILABLE,
    Reason.NO_ENDPOINTS: Code.UNAVAILABLE,
    Reason.ALL_EJECTED: Code.UNAVAILABLE,
    Reason.LIMIT_POOL_WAITERS: Code.UNAVAILABLE,
    Reason.LIMIT_PARKED: Code.UNAVAILABLE,
    Reason.OVERLOADED: Code.UNAVAILABLE,
    Reason.DRAINING: Code.UNAVAILABLE,
    # Wrong requests stay wrong.
    Reason.NO_IDENTIFIER: Code.UNIMPLEMENTED,
    Reason.UNSUPPORTED: Code.UNIMPLEMENTED,
    Reason.BAD_NAME: Code.INVALID_ARGUMENT,
    Reason.BAD_DTAB: Code.INVALID_ARGUMENT,
    Reason.POLICY_DTAB: Code.PERMISSION_DENIED,
    Reason.LIMIT_HEADER_BYTES: Code.RESOURCE_EXHAUSTED,
    Reason.LIMIT_HEADER_COUNT: Code.RESOURCE_EXHAUSTED,
    Reason.LIMIT_INITIAL_LINE: Code.RESOURCE_EXHAUSTED,
    Reason.LIMIT_BODY_BYTES: Code.RESOURCE_EXHAUSTED,
    Reason.LIMIT_CALL_DEPTH: Code.INTERNAL,
    # The protocol was broken, by whomever.
    Reason.BAD_REQUEST: Code.INTERNAL,
    Reason.BAD_RESPONSE: Code.INTERNAL,
    Reason.BAD_FRAMING: Code.INTERNAL,
    Reason.LIMIT_INFORMATIONAL: Code.INTERNAL,
    Reason.BUG: Code.INTERNAL,
    Reason.RESET_BY_CALLER: Code.CANCELLED,
}


def code_of_reason(reason: Reason, status: int) -> Code:
    """The code for an error made here: by its reason, or for one that is not listed by its HTTP status."""
    return _OF_REASON.get(reason) or code_of_http(status)


# -- names ------------------------------------------------------------------------------------------------------------

_method = re.compile(rb"/([A-Za-z_][A-Za-z0-9_.]{0,199})/([A-Za-z_][A-Za-z0-9_]{0,99})").fullmatch


def method_of(target: bytes) -> tuple[str, str] | None:
    """(``package.Service``, ``Method``) of a ``:path``; None if it has another shape."""
    found = _method(target)
    return None if found is None else (found[1].decode("ascii"), found[2].decode("ascii"))
