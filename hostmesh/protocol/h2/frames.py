"""HTTP/2 frames as they arrive: cut out of the bytes, checked where no stream's state is needed, and metered.

The scanner runs before any library sees a byte. It holds at most one incomplete frame and one incomplete header block;
both are bounded by what was announced and by the budgets (H3), so nothing a peer sends is kept without a limit. What
it refuses are errors of the connection (RFC 9113 5.4.1); errors of one stream are for the engine.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

from hostmesh.base.reasons import Reason
from hostmesh.protocol.h1_message import excerpt
from hostmesh.protocol.h2.engine import (
    ENHANCE_YOUR_CALM,
    FRAME_SIZE_ERROR,
    PREFACE,
    PROTOCOL_ERROR,
    ConnectionFault,
)

if TYPE_CHECKING:
    from hostmesh.protocol.h2.budgets import Meter
    from hostmesh.protocol.h2.settings import H2Settings

# Frame types, RFC 9113 section 6.
DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

_NAMES = (
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
)
_header = Struct(">BHBBL")
_ON_STREAMS = frozenset({DATA, HEADERS, PRIORITY, RST_STREAM, PUSH_PROMISE, CONTINUATION})
_ON_CONNECTION = frozenset({SETTINGS, PING, GOAWAY})
_LENGTHS = {RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
_STREAM_MASK = 0x7FFFFFFF
_HTTP1 = int.from_bytes(b"HTT", "big"), ord("P")
"""Size and type of the frame that an answer of HTTP/1 seems to begin with."""
SETTINGS_PER_COST: Final = 8
"""Entries of one SETTINGS frame that count as one control frame: nobody has more to say."""


def frame_name(kind: int) -> str:
    """The name of a frame type for messages to people."""
    return _NAMES[kind] if kind < len(_NAMES) else f"type {kind:#x}"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame as bytes; ``payload`` must not be longer than the peer's MAX_FRAME_SIZE."""
    size = len(payload)
    return _header.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


class Frame(NamedTuple):
    """One frame; a header block is one HEADERS frame, however many it came in."""

    kind: int
    flags: int
    stream: int
    payload: bytes
    """Without padding and, in HEADERS, without priority."""
    size: int
    """Payload octets as they came: what flow control counts."""


class Scanner:
    """Cuts a peer's bytes into frames. One per connection."""

    __slots__ = (
        "_block",
        "_block_flags",
        "_block_frames",
        "_block_size",
        "_block_stream",
        "_buffer",
        "_meter",
        "_need",
        "_preface",
        "_settings",
        "_started",
        "headers_since",
    )

    def __init__(self, settings: H2Settings, meter: Meter) -> None:
        self._settings = settings
        self._meter = meter
        self._buffer = bytearray()
        self._need = 9
        self._preface = b"" if settings.client_side else PREFACE
        self._started = False
        self._block: list[bytes] = []
        self._block_stream = 0
        self._block_flags = 0
        self._block_frames = 0
        self._block_size = 0
        self.headers_since: float | None = None
        """When the header block began that is not complete, else None."""

    def scan(self, data: bytes, now: float) -> tuple[list[Frame], ConnectionFault | None]:
        """The frames that ``data`` completes, and the fault that ends the connection after them, if any.

        After a fault no more may be scanned.
        """
        found: list[Frame] = []
        if self._buffer:
            # A frame that comes byte by byte is put together once, not copied with every byte.
            self._buffer += data
            if len(self._buffer) < self._need:
                return found, None
            data = bytes(self._buffer)
            self._buffer.clear()
        at = 0
        end = len(data)
        self._need = 9
        try:
            if self._preface:
                at = self._skip_preface(data)
                if self._preface:
                    return found, None
            while end - at >= 9:
                high, low, kind, flags, stream = _header.unpack_from(data, at)
                size = high << 16 | low
                stream &= _STREAM_MASK
                # Refused by its header: a frame too long is never waited for.
                self._check_header(kind, flags, stream, size)
                if end - at < 9 + size:
                    if kind == HEADERS and self.headers_since is None:
                        self.headers_since = now
                    self._need = 9 + size
                    break
                self._take(found, kind, flags, stream, data[at + 9 : at + 9 + size], now)
                at += 9 + size
        except ConnectionFault as fault:
            return found, fault
        if at < end:
            self._buffer += data[at:]
        return found, None

    def _skip_preface(self, buffer: bytes) -> int:
        preface = self._preface
        got = buffer[: len(preface)]
        if not preface.startswith(got):
            raise self._fault(f"no HTTP/2 preface but {excerpt(got, 24)}")
        self._preface = preface[len(got) :]
        return len(got)

    def _check_header(self, kind: int, flags: int, stream: int, size: int) -> None:
        limit = self._settings.max_frame
        if size > limit:
            if (size, kind) == _HTTP1:
                raise self._fault("what came is HTTP/1")
            raise self._fault(
                f"a {frame_name(kind)} frame of {size} octets, more than {limit}", FRAME_SIZE_ERROR
            )
        if not self._started and (kind != SETTINGS or flags & ACK):
            raise self._fault(f"{frame_name(kind)} before SETTINGS")
        if self._block_stream and (kind != CONTINUATION or stream != self._block_stream):
            raise self._fault(f"{frame_name(kind)} on stream {stream} inside a header block")
        if kind in _ON_STREAMS:
            if stream == 0:
                raise self._fault(f"{frame_name(kind)} on stream 0")
        elif kind in _ON_CONNECTION and stream != 0:
            raise self._fault(f"{frame_name(kind)} on stream {stream}")
        expected = _LENGTHS.get(kind)
        if expected is not None and size != expected:
            raise self._fault(
                f"a {frame_name(kind)} frame of {size} octets, not {expected}", FRAME_SIZE_ERROR
            )
        if kind == SETTINGS and (size % 6 or (flags & ACK and size)):
            raise self._fault(f"a SETTINGS frame of {size} octets", FRAME_SIZE_ERROR)
        if kind == GOAWAY and size < 8:
            raise self._fault(f"a GOAWAY frame of {size} octets", FRAME_SIZE_ERROR)
        if kind == PUSH_PROMISE:
            # Announced as off towards endpoints, and never a caller's to send (H10).
            raise self._fault("PUSH_PROMISE, and push is disabled")
        if kind == CONTINUATION and not self._block_stream:
            raise self._fault("CONTINUATION outside of a header block")

    def _take(
        self, found: list[Frame], kind: int, flags: int, stream: int, payload: bytes, now: float
    ) -> None:
        size = len(payload)
        if kind == DATA:
            if flags & PADDED:
                payload = self._unpadded(payload)
            if not payload and not flags & END_STREAM:
                self._meter.control(now)
            found.append(Frame(DATA, flags, stream, payload, size))
        elif kind == HEADERS:
            if flags & PADDED:
                payload = self._unpadded(payload)
            if flags & WITH_PRIORITY:
                if len(payload) < 5:
                    raise self._fault("a HEADERS frame too short for its priority", FRAME_SIZE_ERROR)
                payload = payload[5:]
            if flags & END_HEADERS:
                self._check_block(len(payload))
                self.headers_since = None
                found.append(Frame(HEADERS, flags, stream, payload, size))
            else:
                self._begin_block(flags, stream, payload, now)
        elif kind == CONTINUATION:
            self._continue_block(found, flags, payload)
        else:
            self._started = True
            # What windows and resets cost depends on the stream they are for; the engine counts those.
            if kind == SETTINGS:
                self._meter.control(now, 1 + size // 6 // SETTINGS_PER_COST)
            elif kind not in (RST_STREAM, WINDOW_UPDATE):
                self._meter.control(now)
            found.append(Frame(kind, flags, stream, payload, size))

    def _unpadded(self, payload: bytes) -> bytes:
        size = len(payload)
        if not size or payload[0] >= size:
            raise self._fault("padding longer than its frame")
        return payload[1 : size - payload[0]]

    def _begin_block(self, flags: int, stream: int, payload: bytes, now: float) -> None:
        self._check_block(len(payload))
        self._block = [payload]
        self._block_stream = stream
        self._block_flags = flags
        self._block_frames = 0
        self._block_size = len(payload)
        if self.headers_since is None:
            self.headers_since = now

    def _continue_block(self, found: list[Frame], flags: int, payload: bytes) -> None:
        limit = self._settings.budgets.max_continuations
        self._block_frames += 1
        if self._block_frames > limit:
            raise self._over(f"more than {limit} CONTINUATION frames in one header block")
        self._block_size += len(payload)
        self._check_block(self._block_size)
        self._block.append(payload)
        if flags & END_HEADERS:
            stream, self._block_stream = self._block_stream, 0
            block, self._block = b"".join(self._block), []
            self.headers_since = None
            found.append(Frame(HEADERS, self._block_flags | END_HEADERS, stream, block, self._block_size))

    def _check_block(self, size: int) -> None:
        limit = self._settings.budgets.max_block
        if size > limit:
            raise self._over(f"a header block of more than {limit} octets")

    def _over(self, message: str) -> ConnectionFault:
        return ConnectionFault(
            Reason.LIMIT_HEADER_BYTES, message, ENHANCE_YOUR_CALM, client_side=self._settings.client_side
        )

    def _fault(self, message: str, code: int = PROTOCOL_ERROR) -> ConnectionFault:
        client_side = self._settings.client_side
        reason = Reason.BAD_RESPONSE if client_side else Reason.BAD_REQUEST
        return ConnectionFault(reason, f"HTTP/2: {message}", code, client_side=client_side)
