"""Message bodies as they arrive: by length, in chunks, or until the connection ends.

All readers have one shape. ``feed(data, pos)`` takes what belongs to the body from ``data[pos:]`` and returns
(payload, index of the first byte not taken); the payload is ``data`` itself when all of it belongs to the
body. ``done`` turns True with the last byte; what follows belongs to nobody (F14) or to the next request.
``eof()`` is called once when the peer has ended its stream: it raises BadMessage if that cuts the body short,
so that a truncated body never looks like a complete one.

Chunks are never forwarded as they came: extensions are dropped and the payload gets new chunks (F5).
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from hostmesh.base.reasons import Reason
from hostmesh.protocol.h1_fields import HOP_BY_HOP, TOKEN, find_fields
from hostmesh.protocol.h1_message import (
    CHUNKED,
    BadMessage,
    RequestHead,
    ResponseHead,
    bad_request,
    bad_response,
    excerpt,
)
from hostmesh.protocol.limits import Limits

# A size line, or one after the CRLF that ends the previous chunk. 16 digits are 64 bits.
_EXTENSION: Final = rb"(;[\t -~\x80-\xff]*+)?[ \t]*+\r\n"
_size_line: Final = re.compile(rb"([0-9A-Fa-f]{1,16}+)" + _EXTENSION).match
_next_size_line: Final = re.compile(rb"\r\n([0-9A-Fa-f]{1,16}+)" + _EXTENSION).match
_partial_line: Final = re.compile(rb"(?:[0-9A-Fa-f]{0,16}+(?:;[\t -~\x80-\xff]*+)?[ \t]*+)\r?+").fullmatch
_trailers: Final = re.compile(rb"((?:" + TOKEN + rb"++:[\t -~\x80-\xff]*+\r\n)*+)\r\n").match
_bad_line_end: Final = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|[^\t\r\n -~\x80-\xff]").search

# What may not arrive after the body: framing, routing, credentials, what proxies vouch for (F19, RFC 9110
# 6.5.1).
_NOT_IN_TRAILERS: Final = HOP_BY_HOP | {
    b"trailer",
    b"host",
    b"content-length",
    b"content-encoding",
    b"content-type",
    b"content-range",
    b"authorization",
    b"cookie",
    b"set-cookie",
    b"expect",
    b"max-forwards",
    b"cache-control",
    b"forwarded",
    b"via",
    b"range",
    b"dtab-local",
}
_NOT_IN_TRAILERS_PREFIXES: Final = (b"l5d-", b"x-forwarded-", b"proxy-", b"if-")


class Body(Protocol):
    """See the module."""

    done: bool
    trailers: bytes

    def feed(self, data: bytes, pos: int = 0) -> tuple[bytes, int]: ...

    def eof(self) -> None: ...


class LengthBody:
    """Exactly ``length`` bytes."""

    __slots__ = ("_request", "done", "left", "length")
    trailers = b""

    def __init__(self, length: int, request: bool) -> None:
        self.length = length
        self.left = length
        self.done = length == 0
        self._request = request

    def feed(self, data: bytes, pos: int = 0) -> tuple[bytes, int]:
        size = len(data) - pos
        left = self.left
        if size < left:
            self.left = left - size
            return (data[pos:] if pos else data), pos + size
        self.left = 0
        self.done = True
        if size == left:
            return (data[pos:] if pos else data), pos + size
        return data[pos : pos + left], pos + left

    def eof(self) -> None:
        if not self.done:
            raise _cut_short(self._request, f"after {self.length - self.left} of {self.length} body bytes")


class CloseBody:
    """All bytes until the endpoint ends its stream; responses only."""

    __slots__ = ("done",)
    trailers = b""

    def __init__(self) -> None:
        self.done = False

    def feed(self, data: bytes, pos: int = 0) -> tuple[bytes, int]:
        return (data[pos:] if pos else data), len(data)

    def eof(self) -> None:
        self.done = True


class ChunkedBody:
    """Chunked transfer coding, decoded. ``trailers`` holds the field lines that may be forwarded after
    ``done``.
    """

    __slots__ = (
        "_after_chunk",
        "_in_trailers",
        "_left",
        "_limits",
        "_overhead",
        "_partial",
        "_request",
        "_searched",
        "done",
        "trailers",
    )

    def __init__(self, limits: Limits, request: bool) -> None:
        self._limits = limits
        self._request = request
        self._left = 0
        """Bytes of the current chunk still to come."""
        self._after_chunk = False
        self._in_trailers = False
        self._partial = b""
        """The beginning of a size line or of the trailers; bounded by the limits on those."""
        self._searched = 0
        """How much of ``_partial`` is known to hold no end of the trailers."""
        self._overhead = 0
        self.done = False
        self.trailers = b""

    def feed(self, data: bytes, pos: int = 0) -> tuple[bytes, int]:
        if self.done:
            return b"", pos
        shift = 0
        if self._partial:
            # Indices below are into the joined bytes; ``shift`` brings them back to those of ``data``.
            shift = len(self._partial) - pos
            data = self._partial + data[pos:]
            pos = 0
            self._partial = b""
        pieces: list[bytes] = []
        size = len(data)
        while pos < size:
            left = self._left
            if left:
                if size - pos < left:
                    pieces.append(data[pos:])
                    self._left = left - (size - pos)
                    pos = size
                    break
                pieces.append(data[pos : pos + left])
                pos += left
                self._left = 0
                self._after_chunk = True
                continue
            if self._in_trailers:
                pos = self._read_trailers(data, pos)
                break
            match = _next_size_line(data, pos) if self._after_chunk else _size_line(data, pos)
            if match is None:
                self._keep_partial_line(data, pos)
                pos = size
                break
            if match.end() - pos > 20:
                self._count_overhead(match)
            pos = match.end()
            self._left = left = int(match[1], 16)
            self._after_chunk = False
            if left == 0:
                self._in_trailers = True
        return (pieces[0] if len(pieces) == 1 else b"".join(pieces)), pos - shift

    def _refuse(self, message: str, reason: Reason = Reason.BAD_FRAMING, status: int = 400) -> BadMessage:
        if self._request:
            return bad_request(message, reason, status)
        return bad_response(message + " in the response", reason)

    def _count_overhead(self, match: re.Match[bytes]) -> None:
        line = match.end() - match.start()
        if line > self._limits.max_chunk_line + 4:
            raise self._refuse(f"chunk line longer than {self._limits.max_chunk_line} bytes")
        self._overhead += line
        if self._overhead > self._limits.max_chunk_overhead:
            raise self._refuse(f"chunk extensions of more than {self._limits.max_chunk_overhead} bytes")

    def _keep_partial_line(self, data: bytes, pos: int) -> None:
        """Keep the beginning of a size line, or refuse what cannot become one."""
        rest = data[pos : pos + self._limits.max_chunk_line + 5]
        line = rest
        if self._after_chunk:
            if rest != b"\r" and rest[:2] != b"\r\n":
                raise self._refuse(f"chunk data not followed by CRLF but {excerpt(rest, 8)}")
            line = rest[2:]
        if not _partial_line(line) or line == b"\r":
            raise self._refuse(f"malformed chunk size line {excerpt(line)}")
        if len(line) > self._limits.max_chunk_line + 1:
            raise self._refuse(f"chunk line longer than {self._limits.max_chunk_line} bytes")
        self._partial = rest

    def _read_trailers(self, data: bytes, pos: int) -> int:
        """Index after the trailers, which are then kept; or all is kept as partial."""
        if data.startswith(b"\r\n", pos):
            self.done = True
            return pos + 2
        limits = self._limits
        # Trailers may arrive byte by byte: what has been looked at is not looked at again.
        known, self._searched = self._searched, 0
        if data.find(b"\r\n\r\n", pos + max(known - 3, 0)) < 0:
            if _bad_line_end(data, pos + max(known - 1, 0)) is not None:
                raise self._bad_trailers()
            if len(data) - pos > limits.max_trailer_bytes + 3:
                raise self._trailers_too_long()
            self._partial = data[pos:]
            self._searched = len(data) - pos
            return len(data)
        match = _trailers(data, pos)
        if match is None:
            raise self._bad_trailers()
        block = match[1]
        if len(block) > limits.max_trailer_bytes:
            raise self._trailers_too_long()
        if block.count(b"\n") > limits.max_trailer_fields:
            raise self._refuse(
                f"more than {limits.max_trailer_fields} trailer fields", Reason.LIMIT_HEADER_COUNT, 431
            )
        self.trailers = forwardable_trailers(block)
        self.done = True
        return match.end()

    def _bad_trailers(self) -> BadMessage:
        return self._refuse(
            "malformed trailer lines", Reason.BAD_REQUEST if self._request else Reason.BAD_RESPONSE
        )

    def _trailers_too_long(self) -> BadMessage:
        return self._refuse(
            f"trailers longer than {self._limits.max_trailer_bytes} bytes", Reason.LIMIT_HEADER_BYTES, 431
        )

    def eof(self) -> None:
        if not self.done:
            raise _cut_short(self._request, "in the middle of a chunked body")


def _cut_short(request: bool, where: str) -> BadMessage:
    if request:
        return bad_request(f"caller closed the connection {where}", Reason.RESET_BY_CALLER)
    return bad_response(f"endpoint closed the connection {where}", Reason.RESET_BY_ENDPOINT)


def forwardable_trailers(block: bytes) -> bytes:
    """The trailer lines that may be forwarded as trailers, written anew; underscore twins count as the
    field.
    """
    lines = []
    for raw, value in find_fields(block):
        name = raw.lower().replace(b"_", b"-")
        if name not in _NOT_IN_TRAILERS and not name.startswith(_NOT_IN_TRAILERS_PREFIXES):
            lines.append(b"%b: %b\r\n" % (raw, value.rstrip(b" \t")))
    return b"".join(lines)


def request_body(head: RequestHead, limits: Limits) -> LengthBody | ChunkedBody:
    """The reader for this head's body; done at once when it has none."""
    if head.content_length == CHUNKED:
        return ChunkedBody(limits, True)
    return LengthBody(head.content_length, True)


def response_body(head: ResponseHead, limits: Limits) -> LengthBody | ChunkedBody | CloseBody:
    """The reader for this head's body; done at once when it has none."""
    if not head.has_body:
        return LengthBody(0, False)
    length = head.content_length
    if length >= 0:
        return LengthBody(length, False)
    return ChunkedBody(limits, False) if length == CHUNKED else CloseBody()


def chunk(data: bytes) -> bytes:
    """``data`` as one chunk; b"" for b"", because an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def last_chunk(trailers: bytes = b"") -> bytes:
    """The end of a chunked body; ``trailers`` are field lines, each with its CRLF."""
    return b"0\r\n%b\r\n" % trailers


LAST_CHUNK: Final = b"0\r\n\r\n"
