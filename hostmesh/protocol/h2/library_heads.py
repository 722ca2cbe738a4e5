"""Header blocks in the library engine: decoded, bounded and proved here, replaced for h2; see :mod:`library`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from h2.exceptions import FlowControlError, ProtocolError
from hpack import HPACKError, OversizedHeaderListError

from hostmesh.base.errors import Side
from hostmesh.base.reasons import Reason
from hostmesh.protocol.h1_message import BadMessage
from hostmesh.protocol.h2 import frames
from hostmesh.protocol.h2.engine import (
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    ConnectionFault,
    Pairs,
)
from hostmesh.protocol.h2.fields import Malformed, prove_request, prove_response, prove_trailers
from hostmesh.protocol.h2.frames import END_HEADERS, END_STREAM, Frame, frame
from hostmesh.protocol.h2.library_base import LibraryBase, method_of
from hostmesh.protocol.h2.library_stream import ENDED, NO_LENGTH, RESET_BY_PEER, RESET_BY_US, Stream

if TYPE_CHECKING:
    from collections.abc import Iterable

    from h2.events import Event

# What h2 gets for each kind of header block; static-table entries only, so that its own HPACK state never moves.
_REQUEST_BLOCK: Final = b"\x82\x84\x86"
_RESPONSE_BLOCK: Final = b"\x88"
_INFORMATIONAL_BLOCK: Final = b"\x08\x03103"
_TRAILERS_BLOCK: Final = b"\x0f\x10\x00"


class LibraryHeads(LibraryBase):
    """What HEADERS do to a connection."""

    def _headers(self, each: Frame, doomed: bool) -> None:
        stream = each.stream
        record = self._streams.get(stream)
        how = self._closed.get(stream)
        if record is None and how is None:
            if self._client_side or stream % 2 == 0:
                raise self._fault(f"HEADERS on stream {stream}, which the peer may not open")
            if stream <= self._highest:
                raise self._fault(f"HEADERS on stream {stream} after stream {self._highest}")
            self._highest = stream
        elif record is None and how == ENDED:
            # A new request on an old id, or trailers after the end.
            raise self._fault(f"HEADERS on stream {stream}, which has ended", STREAM_CLOSED)
        try:
            pairs = cast("Pairs", self._decoder.decode(each.payload, raw=True))
        except OversizedHeaderListError:
            self._oversized(each, record, how)
            return
        except HPACKError as error:
            raise self._fault(f"HPACK: {error}", COMPRESSION_ERROR) from error
        end = bool(each.flags & END_STREAM)
        if record is not None:
            if record.silent:
                self._silent_end(stream, record, end)
            elif record.remote_end:
                self._refuse(stream, self._malformed("HEADERS after the end of the stream"), STREAM_CLOSED)
            elif record.headed:
                self._trailers(each, record, pairs, end)
            else:
                self._response(each, record, pairs, end)
        elif how == RESET_BY_PEER:
            self._refuse(stream, self._malformed("HEADERS on a stream that was reset"), STREAM_CLOSED)
        elif how is None:
            self._request(each, pairs, end, doomed)

    def _request(self, each: Frame, pairs: Pairs, end: bool, doomed: bool) -> None:
        stream = each.stream
        self._meter.streams += 1
        if stream > self._last_kept:
            # After our GOAWAY: the caller knows that nobody looks at it (RFC 9113 6.8).
            self._remember(stream, RESET_BY_US)
            return
        if len(self._streams) >= self._settings.max_concurrent_streams:
            if self._acknowledged:
                self._meter.reset(self._now)
            self._raw(frames.RST_STREAM, 0, stream, REFUSED_STREAM.to_bytes(4, "big"))
            self._remember(stream, RESET_BY_US)
            return
        try:
            self._check_count(pairs)
            expected = prove_request(pairs, end, self._settings.enable_connect_protocol)
        except Malformed as error:
            self._refuse(stream, error, PROTOCOL_ERROR)
            return
        except BadMessage as error:
            self._answerable(stream, error, end, doomed)
            return
        record = self._open_by_peer(stream, method_of(pairs), end)
        record.expected = expected
        record.silent = doomed
        if not doomed:
            self._listener.on_head(stream, pairs, end)

    def _open_by_peer(self, stream: int, method: bytes, end: bool) -> Stream:
        flags = END_HEADERS | END_STREAM if end else END_HEADERS
        self._feed(Frame(frames.HEADERS, flags, stream, _REQUEST_BLOCK, 0))
        record = self._streams[stream] = Stream(method)
        record.headed = True
        record.opened = self._now
        record.remote_end = end
        self._last_peer = stream
        return record

    def _answerable(self, stream: int, error: BadMessage, end: bool, doomed: bool = False) -> None:
        """A request that is answered with the error: the listener's only word on it."""
        record = self._open_by_peer(stream, b"", end)
        record.silent = True
        self._meter.reset(self._now)
        if not doomed:
            self._listener.on_stream_fault(stream, error, NO_ERROR)

    def _oversized(self, each: Frame, record: Stream | None, how: int | None) -> None:
        """A header list over the limit. Its rest was not decoded, so the connection ends, too; but the answer first
        (H4).
        """
        limit = self._settings.max_header_list
        message = f"a header list of more than {limit} octets"
        stream = each.stream
        told = False
        if self._client_side:
            if record is not None:
                told = True
                self._refuse(stream, _limit_response(message), ENHANCE_YOUR_CALM)
        elif record is None and how is None and stream <= self._last_kept:
            told = True
            self._meter.streams += 1
            error = BadMessage(Reason.LIMIT_HEADER_BYTES, message, status=431, side=Side.CALLER)
            self._answerable(stream, error, bool(each.flags & END_STREAM))
        raise ConnectionFault(
            Reason.LIMIT_HEADER_BYTES,
            f"HTTP/2: {message}",
            ENHANCE_YOUR_CALM,
            client_side=self._client_side,
            told=told,
        )

    def _check_count(self, pairs: Pairs) -> None:
        limit = self._settings.budgets.max_fields
        if len(pairs) <= limit:
            return
        message = f"{len(pairs)} fields, more than the {limit} allowed"
        if self._client_side:
            raise _limit_response(message, Reason.LIMIT_HEADER_COUNT)
        raise BadMessage(Reason.LIMIT_HEADER_COUNT, message, status=431, side=Side.CALLER)

    def _response(self, each: Frame, record: Stream, pairs: Pairs, end: bool) -> None:
        stream = each.stream
        try:
            self._check_count(pairs)
            status, expected = prove_response(pairs, end, record.method)
        except Malformed as error:
            self._refuse(stream, error, PROTOCOL_ERROR)
            return
        except BadMessage as error:
            self._refuse(stream, error, ENHANCE_YOUR_CALM)
            return
        if status < 200:
            self._feed(Frame(frames.HEADERS, END_HEADERS, stream, _INFORMATIONAL_BLOCK, 0))
            self._listener.on_informational(stream, pairs)
            return
        self._feed(Frame(frames.HEADERS, each.flags & (END_HEADERS | END_STREAM), stream, _RESPONSE_BLOCK, 0))
        record.headed = True
        record.expected = expected
        if end:
            self._end_remote(stream, record)
        self._listener.on_head(stream, pairs, end)

    def _trailers(self, each: Frame, record: Stream, pairs: Pairs, end: bool) -> None:
        stream = each.stream
        try:
            self._check_count(pairs)
            prove_trailers(pairs, not self._client_side)
            if not end:
                raise self._malformed("a second header block that does not end the stream")
            self._check_length(record)
        except Malformed as error:
            self._refuse(stream, error, PROTOCOL_ERROR)
            return
        except BadMessage as error:
            self._refuse(stream, error, ENHANCE_YOUR_CALM)
            return
        self._feed(Frame(frames.HEADERS, END_HEADERS | END_STREAM, stream, _TRAILERS_BLOCK, 0))
        self._end_remote(stream, record)
        self._listener.on_trailers(stream, pairs)

    def _feed(self, each: Frame) -> Iterable[Event]:
        """Give h2 one frame. What it refuses ends the connection."""
        # What was queued before stays, whatever becomes of this frame.
        self._flush()
        try:
            return self._conn.receive_data(frame(each.kind, each.flags, each.stream, each.payload))
        except FlowControlError as error:
            raise self._refused(error, FLOW_CONTROL_ERROR) from error
        except ProtocolError as error:
            raise self._refused(error, int(error.error_code)) from error

    def _refused(self, error: ProtocolError, code: int) -> ConnectionFault:
        # Its GOAWAY has no debug data and may name a stream that we have not seen: ours is sent instead.
        self._conn.clear_outbound_data_buffer()
        return self._fault(str(error), code)

    def _check_length(self, record: Stream) -> None:
        if record.expected not in (NO_LENGTH, record.received):
            raise self._wrong_length(record)

    def _wrong_length(self, record: Stream) -> Malformed:
        return self._malformed(
            f"{record.received} body octets, and the head declared {record.expected}", Reason.BAD_FRAMING
        )

    def _end_remote(self, stream: int, record: Stream) -> None:
        record.remote_end = True
        if record.local_end:
            self._forget(stream, ENDED)

    def _silent_end(self, stream: int, record: Stream, end: bool) -> None:
        """What comes on a silent stream is thrown away; its end, h2 needs not know of, but we do."""
        if end and not record.remote_end:
            record.remote_end = True
            if record.local_end:
                self._forget(stream, ENDED)


def _limit_response(message: str, reason: Reason = Reason.LIMIT_HEADER_BYTES) -> BadMessage:
    return BadMessage(reason, f"the endpoint sent {message}", status=502, side=Side.CALLEE)
