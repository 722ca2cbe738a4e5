"""The engine of our own: RFC 9113 with nothing in the way of frames that come a hundred thousand times.

It decides as :mod:`library` does, which is its measure: the same frames give the same calls, codes and state (see
tests/fuzz/h2_lane_vs_library.py). Its parts are the frames (:mod:`lane_frames`), the header blocks (:mod:`lane_decode`,
:mod:`lane_encode`), what is sent (:mod:`lane_sending`), and here what is received. Proofs, budgets and the scanner are
shared with the library engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hostmesh.base.errors import Side
from hostmesh.base.reasons import Reason
from hostmesh.protocol.h1_message import BadMessage
from hostmesh.protocol.h2.engine import (
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    ConnectionFault,
    Pair,
    Pairs,
)
from hostmesh.protocol.h2.fields import Malformed, prove_request, prove_response, prove_trailers
from hostmesh.protocol.h2.frames import RST_STREAM, WINDOW_UPDATE
from hostmesh.protocol.h2.lane_control import LaneControl
from hostmesh.protocol.h2.lane_decode import HeaderBlockError, list_size
from hostmesh.protocol.h2.lane_frames import LaneScanner
from hostmesh.protocol.h2.lane_stream import ENDED, RESET_BY_PEER, LaneStream

if TYPE_CHECKING:
    from hostmesh.protocol.h2.listening import AnyListener
    from hostmesh.protocol.h2.settings import H2Settings

_NOBODY: Final[frozenset[int]] = frozenset()


class LaneEngine(LaneControl):
    """One connection. See :class:`engine.Engine`."""

    __slots__ = ("_doomed", "_proved", "_proved_response", "_scanner")

    def __init__(self, settings: H2Settings, listener: AnyListener) -> None:
        super().__init__(settings, listener)
        self._scanner = LaneScanner(settings, self._meter)
        # Streams that frames of this receive() will reset: their requests are not reported (H1).
        self._doomed = _NOBODY
        # The last head and what its proof said: blocks that repeat give the same object again.
        self._proved: tuple[tuple[Pair, ...] | None, bool, int] = None, False, -1
        self._proved_response: tuple[Pairs | None, bool, bytes, int, int] = None, False, b"", 0, -1

    @property
    def headers_since(self) -> float | None:
        return self._scanner.headers_since

    def start_upgraded(self, settings: bytes) -> None:
        if len(settings) % 6:
            raise self._fail(self._fault(f"HTTP2-Settings of {len(settings)} octets", FRAME_SIZE_ERROR))
        self.start()
        try:
            self._apply(settings)
        except ConnectionFault as fault:
            raise self._fail(self._fault(f"HTTP2-Settings: {fault.message}", fault.code)) from None
        stream = self._streams[1] = LaneStream(b"", self._initial_window, self._initial_room)
        stream.headed = True
        stream.receiving = False
        self._last_peer = self._highest = 1
        self._meter.streams += 1

    def receive(self, data: bytes, now: float) -> None:
        if self._failed:
            return
        self._now = now
        try:
            self._check()
            self._scanner.feed(data, now, self)
        except ConnectionFault as fault:
            raise self._fail(fault) from fault.__cause__
        if self._pending >= self._connection_threshold:
            self._room += self._pending
            self._number(WINDOW_UPDATE, 0, self._pending)
            self._pending = 0

    def note_resets(self, streams: frozenset[int]) -> None:
        self._doomed = streams

    # -- header blocks --------------------------------------------------------------------------------------------

    def take_headers(self, stream: int, block: bytes, end: bool) -> None:
        record = self._streams.get(stream)
        how = None
        if record is None:
            if stream <= self._highest or self._client_side or not stream & 1:
                how = self._how_closed(stream)
            else:
                self._highest = stream
        decoder = self._decoder
        limit = self._max_list
        try:
            pairs = decoder.decode(block)
        except HeaderBlockError as error:
            if list_size(error.pairs) > limit:
                self._oversized(stream, record, how, end)
            raise self._fault(f"HPACK: {error}", COMPRESSION_ERROR) from error
        if decoder.is_over(pairs, block, limit):
            self._oversized(stream, record, how, end)
        if record is None:
            if how is None:
                self._request(stream, pairs, end)
            elif how == RESET_BY_PEER:
                self._refuse(
                    stream, None, self._malformed("HEADERS on a stream that was reset"), STREAM_CLOSED
                )
        elif record.silent:
            if end and record.receiving:
                self._end_receiving(stream, record)
        elif not record.receiving:
            self._refuse(
                stream, record, self._malformed("HEADERS after the end of the stream"), STREAM_CLOSED
            )
        elif record.headed:
            self._trailers(stream, record, pairs, end)
        else:
            self._response(stream, record, pairs, end)
        if self._meter.resets:
            self._meter.check()

    def _how_closed(self, stream: int) -> int:
        """How a stream that HEADERS came for had ended by a reset. Raises if it may not get any."""
        how = self._ending(stream)
        if how is None:
            if self._client_side or not stream & 1:
                raise self._fault(f"HEADERS on stream {stream}, which the peer may not open")
            raise self._fault(f"HEADERS on stream {stream} after stream {self._highest}")
        if how == ENDED:
            raise self._fault(f"HEADERS on stream {stream}, which has ended", STREAM_CLOSED)
        return how

    def _request(self, stream: int, pairs: tuple[Pair, ...], end: bool) -> None:
        meter = self._meter
        meter.streams += 1
        if stream > self._last_kept:
            # After our GOAWAY: the caller knows that nobody looks at it (RFC 9113 6.8).
            self._turned_away(stream)
            return
        if len(self._streams) >= self._max_open:
            if self._acknowledged:
                meter.reset(self._now)
            self._number(RST_STREAM, stream, REFUSED_STREAM)
            self._turned_away(stream)
            return
        proved, proved_end, expected = self._proved
        if pairs is not proved or end is not proved_end:
            try:
                self._check_count(pairs)
                expected = prove_request(pairs, end, self._settings.enable_connect_protocol)
            except Malformed as malformed:
                self._refuse(stream, None, malformed, PROTOCOL_ERROR)
                return
            except BadMessage as error:
                self._answerable(stream, error, end, stream in self._doomed)
                return
            self._proved = pairs, end, expected
        self._last_peer = stream
        record = self._streams[stream] = LaneStream(b"", self._initial_window, self._initial_room)
        record.headed = True
        record.opened = self._now
        record.expected = expected
        if end:
            record.receiving = False
        if stream in self._doomed:
            record.silent = True
        else:
            self._listener.on_head(stream, pairs, end)

    def _answerable(self, stream: int, error: BadMessage, end: bool, doomed: bool = False) -> None:
        """A request that is answered with the error: the listener's only word on it."""
        self._last_peer = stream
        record = self._streams[stream] = LaneStream(b"", self._initial_window, self._initial_room)
        record.headed = record.silent = True
        record.opened = self._now
        record.receiving = not end
        self._meter.reset(self._now)
        if not doomed:
            self._listener.on_stream_fault(stream, error, NO_ERROR)

    def _oversized(self, stream: int, record: LaneStream | None, how: int | None, end: bool) -> None:
        """A header list over the limit: the connection ends, but the answer first (H4)."""
        message = f"a header list of more than {self._settings.max_header_list} octets"
        told = False
        if self._client_side:
            if record is not None:
                told = True
                self._refuse(stream, record, _limit_response(message), ENHANCE_YOUR_CALM)
        elif record is None and how is None and stream <= self._last_kept:
            told = True
            self._meter.streams += 1
            error = BadMessage(Reason.LIMIT_HEADER_BYTES, message, status=431, side=Side.CALLER)
            self._answerable(stream, error, end)
        raise ConnectionFault(
            Reason.LIMIT_HEADER_BYTES,
            f"HTTP/2: {message}",
            ENHANCE_YOUR_CALM,
            client_side=self._client_side,
            told=told,
        )

    def _check_count(self, pairs: Pairs) -> None:
        limit = self._max_fields
        if len(pairs) <= limit:
            return
        message = f"{len(pairs)} fields, more than the {limit} allowed"
        if self._client_side:
            raise _limit_response(message, Reason.LIMIT_HEADER_COUNT)
        raise BadMessage(Reason.LIMIT_HEADER_COUNT, message, status=431, side=Side.CALLER)

    def _response(self, stream: int, record: LaneStream, pairs: Pairs, end: bool) -> None:
        proved, proved_end, method, status, expected = self._proved_response
        if pairs is not proved or end is not proved_end or method != record.method:
            try:
                self._check_count(pairs)
                status, expected = prove_response(pairs, end, record.method)
            except BadMessage as error:
                self._refuse(stream, record, error, _code_of(error))
                return
            self._proved_response = pairs, end, record.method, status, expected
        if status < 200:
            self._listener.on_informational(stream, pairs)
            return
        record.headed = True
        record.expected = expected
        if end:
            self._end_receiving(stream, record)
        self._listener.on_head(stream, pairs, end)

    def _trailers(self, stream: int, record: LaneStream, pairs: Pairs, end: bool) -> None:
        try:
            self._check_count(pairs)
            prove_trailers(pairs, not self._client_side)
            if not end:
                raise self._malformed("a second header block that does not end the stream")
            if record.expected not in (-1, record.received):
                raise self._wrong_length(record)
        except BadMessage as error:
            self._refuse(stream, record, error, _code_of(error))
            return
        self._end_receiving(stream, record)
        self._listener.on_trailers(stream, pairs)

    # -- DATA and windows -----------------------------------------------------------------------------------------

    def take_data(self, stream: int, data: bytes, end: bool, size: int) -> None:
        room = self._room
        if size > room:
            raise self._fault(f"DATA of {size} octets, more than the connection's window", FLOW_CONTROL_ERROR)
        record = self._streams.get(stream)
        if record is None or not record.receiving or not record.headed:
            self._misplaced_data(stream, record, size)
            self._check()
            return
        if size > record.room:
            raise self._fault(f"DATA of {size} octets, more than the stream's window", FLOW_CONTROL_ERROR)
        length = len(data)
        if not record.silent:
            record.received += length
            expected = record.expected
            if expected >= 0 and (record.received > expected or (end and record.received != expected)):
                self._give_back(size)
                self._refuse(stream, record, self._wrong_length(record), PROTOCOL_ERROR)
                self._check()
                return
        record.room -= length
        self._room = room - length
        self._pending += length
        if size != length:
            # Padding is no body: given back at once.
            self._number(WINDOW_UPDATE, 0, size - length)
            if not end:
                self._number(WINDOW_UPDATE, stream, size - length)
        if end:
            self._end_receiving(stream, record)
        if not record.silent and (length or end):
            self._listener.on_data(stream, data, end)
        if self._meter.resets:
            self._meter.check()

    def _misplaced_data(self, stream: int, record: LaneStream | None, size: int) -> None:
        """DATA for a stream that may not get any (any more): it still counts for the connection."""
        if record is not None and record.receiving:
            self._give_back(size)
            self._refuse(stream, record, self._malformed("DATA before the head"), PROTOCOL_ERROR)
            return
        how = self._ending(stream)
        if record is None and how is None:
            if self._is_idle(stream):
                raise self._fault(f"DATA on idle stream {stream}")
            how = ENDED
        if record is None and how == ENDED:
            raise self._fault(f"DATA on stream {stream}, which has ended", STREAM_CLOSED)
        self._meter.control(self._now)
        self._give_back(size)
        if record is not None or how == RESET_BY_PEER:
            self._refuse(stream, record, self._malformed("DATA after the end of the stream"), STREAM_CLOSED)

    def _give_back(self, size: int) -> None:
        if size:
            self._number(WINDOW_UPDATE, 0, size)

    def _wrong_length(self, record: LaneStream) -> Malformed:
        return self._malformed(
            f"{record.received} body octets, and the head declared {record.expected}", Reason.BAD_FRAMING
        )


def _code_of(error: BadMessage) -> int:
    return PROTOCOL_ERROR if isinstance(error, Malformed) else ENHANCE_YOUR_CALM


def _limit_response(message: str, reason: Reason = Reason.LIMIT_HEADER_BYTES) -> BadMessage:
    return BadMessage(reason, f"the endpoint sent {message}", status=502, side=Side.CALLEE)
