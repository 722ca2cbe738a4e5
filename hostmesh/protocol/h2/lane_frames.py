"""Frames for the lane engine: the usual ones straight from the buffer, all others as the scanner reads them.

The scanner's rules are the rules. What is cut here in line is what it would have passed: a complete frame of allowed
size outside of a header block, HEADERS that end their block, DATA and WINDOW_UPDATE without padding. Everything else,
and every refusal, is the scanner's own code.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from hostmesh.protocol.h2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    RST_STREAM,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    Frame,
    Scanner,
)

if TYPE_CHECKING:
    from hostmesh.protocol.h2.budgets import Meter
    from hostmesh.protocol.h2.settings import H2Settings

# Length and type in one number: three octets and one.
_header: Final = Struct(">LBL")
_unpack: Final = _header.unpack_from
HEADER: Final = 9
_PRIORITY_OCTETS: Final = 5
_MASK: Final = 0x7FFFFFFF
# How every RST_STREAM begins: four octets of payload. Other octets may look so, too.
_RESET: Final = bytes((0, 0, 4, RST_STREAM))


class FrameSink:
    """Who takes the frames, in order. Each call may raise ConnectionFault, which ends the connection.

    A class and not a protocol: compiled code calls its methods directly.
    """

    __slots__ = ()

    def take_headers(self, stream: int, block: bytes, end: bool) -> None:
        """A whole header block."""
        raise NotImplementedError

    def take_data(self, stream: int, data: bytes, end: bool, size: int) -> None:
        """DATA without its padding; ``size`` octets count for flow control."""
        raise NotImplementedError

    def take_window(self, stream: int, increment: int) -> None:
        """WINDOW_UPDATE; the increment may be 0."""
        raise NotImplementedError

    def take_rare(self, each: Frame) -> None:
        """Any other frame."""
        raise NotImplementedError

    def note_resets(self, streams: frozenset[int]) -> None:
        """The streams that the frames to come reset, before the first of these; the empty set after the last."""
        raise NotImplementedError


class LaneScanner(Scanner):
    """A scanner that hands frames to a sink one by one."""

    __slots__ = ("_longest",)

    def __init__(self, settings: H2Settings, meter: Meter) -> None:
        super().__init__(settings, meter)
        # A header block that needs no look at the limits.
        self._longest = min(settings.max_frame, settings.budgets.max_block)

    def feed(self, data: bytes, now: float, sink: FrameSink) -> None:
        """Give ``sink`` every frame that ``data`` completes. Raises ConnectionFault; nothing may be fed after that."""
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._need:
                return
            data = bytes(self._buffer)
            self._buffer.clear()
        # The second search is slow for long data, and most have no such octet.
        if (
            self._preface
            or (RST_STREAM in data and _RESET in data)
            or not self._meter.suffices(len(data) // HEADER)
        ):
            # Whether a request is reset at once, or a flood follows it, must be known before it is reported (H1, H6).
            self._feed_all(data, now, sink)
            return
        self._need = HEADER
        at = 0
        end = len(data)
        longest = self._longest
        # Declared, or compiled code would calculate with objects.
        word: int
        flags: int
        stream: int
        ordinary = self._started and not self._block_stream
        try:
            while end - at >= HEADER:
                word, flags, stream = _unpack(data, at)
                size = word >> 8
                kind = word & 0xFF
                body = at + HEADER
                stop = body + size
                if ordinary and size <= longest and stop <= end:
                    if kind == HEADERS:
                        if flags & (END_HEADERS | PADDED) == END_HEADERS and 0 < stream <= _MASK:
                            if flags & WITH_PRIORITY:
                                body += _PRIORITY_OCTETS
                            if body <= stop:
                                at = stop
                                self.headers_since = None
                                sink.take_headers(stream, data[body:stop], flags & END_STREAM != 0)
                                continue
                    elif kind == DATA:
                        if not flags & PADDED and 0 < stream <= _MASK and (size or flags & END_STREAM):
                            at = stop
                            sink.take_data(stream, data[body:stop], flags & END_STREAM != 0, size)
                            continue
                    elif kind == WINDOW_UPDATE and size == 4 and stream <= _MASK:
                        at = stop
                        sink.take_window(stream, int.from_bytes(data[body:stop], "big") & _MASK)
                        continue
                stream &= _MASK
                self._check_header(kind, flags, stream, size)
                if stop > end:
                    if kind == HEADERS and self.headers_since is None:
                        self.headers_since = now
                    self._need = HEADER + size
                    break
                found: list[Frame] = []
                at = stop
                self._take(found, kind, flags, stream, data[stop - size : stop], now)
                ordinary = self._started and not self._block_stream
                for frame in found:
                    _give(frame, sink)
        finally:
            # Also when a listener failed: the frame that it failed on is not read again.
            if at < end:
                self._buffer += data[at:]

    def _feed_all(self, data: bytes, now: float, sink: FrameSink) -> None:
        found, fault = self.scan(data, now)
        resets = frozenset([frame.stream for frame in found if frame.kind == RST_STREAM])
        sink.note_resets(resets)
        for frame in found:
            _give(frame, sink)
        if fault is not None:
            raise fault
        sink.note_resets(frozenset())


def _give(frame: Frame, sink: FrameSink) -> None:
    kind, flags, stream, payload, size = frame
    if kind == HEADERS:
        sink.take_headers(stream, payload, flags & END_STREAM != 0)
    elif kind == DATA:
        sink.take_data(stream, payload, flags & END_STREAM != 0, size)
    elif kind == WINDOW_UPDATE:
        sink.take_window(stream, int.from_bytes(payload, "big") & _MASK)
    else:
        sink.take_rare(frame)
