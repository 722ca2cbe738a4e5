"""The engine on the h2 library: slow, thorough, and the measure of the lane.

What h2 does: stream states, both sides' flow-control windows, settings, PING answers, frames and HPACK on the way
out. What it would do differently from what a proxy needs is done before it sees a byte:

- Frames are cut, checked and metered by :class:`frames.Scanner`; h2 gets one whole frame at a time.
- Header blocks are decoded here, by hpack, so that a list over a limit, a malformed head or a wrong content-length
  ends one stream (h2 ends the connection), and a stream over our MAX_CONCURRENT_STREAMS gets REFUSED_STREAM (same).
  For h2 the block is replaced by a constant one of the same sense.
- GOAWAY is read and written here: to h2 it is the end of the connection, to us the beginning of its end.
- Frames for closed streams are told apart here, with a bounded memory (h2 remembers 65,536 streams, H9).
- Of SETTINGS only entries that mean something are passed on: h2 would keep each of the 65,536 others.
"""

from __future__ import annotations

from h2.events import PingAckReceived, RemoteSettingsChanged, SettingsAcknowledged, StreamReset, WindowUpdated
from h2.settings import SettingCodes

from hostmesh.base.reasons import Reason
from hostmesh.protocol.h2 import frames
from hostmesh.protocol.h2.engine import (
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    MAX_STREAM,
    PROTOCOL_ERROR,
    STREAM_CLOSED,
    ConnectionFault,
)
from hostmesh.protocol.h2.fields import Malformed
from hostmesh.protocol.h2.frames import END_STREAM, Frame
from hostmesh.protocol.h2.library_heads import LibraryHeads
from hostmesh.protocol.h2.library_stream import ENDED, RESET_BY_PEER, RESET_BY_US, Stream


class LibraryEngine(LibraryHeads):
    """One connection on :class:`h2.connection.H2Connection`. See :class:`engine.Engine`."""

    def receive(self, data: bytes, now: float) -> None:
        if self._failed:
            return
        self._now = now
        found, fault = self._scanner.scan(data, now)
        doomed = {each.stream for each in found if each.kind == frames.RST_STREAM}
        try:
            self._meter.check()
            for each in found:
                self._handle(each, doomed)
                self._meter.check()
            if fault is not None:
                raise fault
        except ConnectionFault as error:
            raise self._fail(error) from error.__cause__
        self._credit_connection()

    def _handle(self, each: Frame, doomed: set[int]) -> None:
        kind = each.kind
        if kind == frames.DATA:
            self._data(each)
        elif kind == frames.HEADERS:
            self._headers(each, each.stream in doomed)
        elif kind == frames.WINDOW_UPDATE:
            self._window_update(each)
        elif kind == frames.RST_STREAM:
            self._rst_stream(each)
        elif kind == frames.SETTINGS:
            self._settings_frame(each)
        elif kind == frames.PING:
            for event in self._feed(each):
                if isinstance(event, PingAckReceived):
                    self._listener.on_pong(event.ping_data)
        elif kind == frames.GOAWAY:
            self._goaway_frame(each)
        elif kind == frames.PRIORITY and len(each.payload) != 5:
            self._priority_size(each)
        # Everything else is ignored: PRIORITY has no meaning any more (RFC 9113 5.3), unknown types never had.

    def _is_idle(self, stream: int) -> bool:
        if stream % 2 == self._client_side:
            return stream >= self._next
        return stream > self._highest

    def _data(self, each: Frame) -> None:
        stream = each.stream
        record = self._streams.get(stream)
        if each.size > self._conn.inbound_flow_control_window:
            raise self._fault(
                f"DATA of {each.size} octets, more than the connection's window", FLOW_CONTROL_ERROR
            )
        if record is None or record.remote_end:
            self._late_data(each, record)
            return
        end = bool(each.flags & END_STREAM)
        if not record.headed:
            self._give_back(each.size, 0)
            self._refuse(stream, self._malformed("DATA before the head"), PROTOCOL_ERROR)
            return
        if each.size > self._conn.remote_flow_control_window(stream):
            raise self._fault(
                f"DATA of {each.size} octets, more than the stream's window", FLOW_CONTROL_ERROR
            )
        if not record.silent:
            record.received += len(each.payload)
            try:
                if 0 <= record.expected < record.received:
                    raise self._wrong_length(record)
                if end:
                    self._check_length(record)
            except Malformed as error:
                # Before h2 sees it, which would end the connection for a body after HEAD.
                self._give_back(each.size, 0)
                self._refuse(stream, error, PROTOCOL_ERROR)
                return
        self._feed(Frame(frames.DATA, each.flags & END_STREAM, stream, each.payload, 0))
        self._pending_credit += len(each.payload)
        padding = each.size - len(each.payload)
        if padding:
            # h2 has not seen it: taken from both windows and given back at once.
            self._give_back(padding, 0 if end else stream)
        if record.silent:
            self._silent_end(stream, record, end)
            return
        if end:
            self._end_remote(stream, record)
        if each.payload or end:
            self._listener.on_data(stream, each.payload, end)

    def _late_data(self, each: Frame, record: Stream | None) -> None:
        """DATA for a stream whose body is complete, or that is closed: it still counts for the connection."""
        stream = each.stream
        how = self._closed.get(stream)
        if record is None and how is None:
            if self._is_idle(stream):
                raise self._fault(f"DATA on idle stream {stream}")
            how = ENDED
        if record is None and how == ENDED:
            raise self._fault(f"DATA on stream {stream}, which has ended", STREAM_CLOSED)
        self._meter.control(self._now)
        self._give_back(each.size, 0)
        if record is not None or how == RESET_BY_PEER:
            self._refuse(stream, self._malformed("DATA after the end of the stream"), STREAM_CLOSED)

    def _give_back(self, size: int, stream: int) -> None:
        """Octets that h2 has not seen: back to the connection's window, and to the stream's unless that is 0."""
        if size:
            update = size.to_bytes(4, "big")
            self._raw(frames.WINDOW_UPDATE, 0, 0, update)
            if stream:
                self._raw(frames.WINDOW_UPDATE, 0, stream, update)

    def _credit_connection(self) -> None:
        if self._pending_credit >= self._connection_threshold:
            self._conn.increment_flow_control_window(self._pending_credit)
            self._pending_credit = 0

    def _window_update(self, each: Frame) -> None:
        stream = each.stream
        self._meter.control(self._now)
        increment = int.from_bytes(each.payload, "big") & MAX_STREAM
        if stream == 0:
            if increment == 0:
                raise self._fault("WINDOW_UPDATE of 0 for the connection")
            self._feed(Frame(frames.WINDOW_UPDATE, 0, 0, increment.to_bytes(4, "big"), 4))
            self._listener.on_window(0)
            return
        record = self._streams.get(stream)
        if record is None:
            if self._is_idle(stream):
                raise self._fault(f"WINDOW_UPDATE on idle stream {stream}")
            return
        if increment == 0:
            self._refuse(stream, self._malformed("WINDOW_UPDATE of 0"), PROTOCOL_ERROR)
            return
        # Without the reserved bit, which hyperframe does not ignore (RFC 9113 6.9).
        for event in self._feed(Frame(frames.WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"), 4)):
            if isinstance(event, WindowUpdated):
                if not record.silent:
                    self._listener.on_window(stream)
            elif isinstance(event, StreamReset):
                # h2 has reset it for a window beyond 2**31-1.
                self._meter.reset(self._now)
                self._forget(stream, RESET_BY_US)
                if not record.silent:
                    error = self._malformed("WINDOW_UPDATE beyond the largest window", Reason.BAD_FRAMING)
                    self._listener.on_stream_fault(stream, error, FLOW_CONTROL_ERROR)

    def _rst_stream(self, each: Frame) -> None:
        stream = each.stream
        record = self._streams.get(stream)
        if record is None:
            if self._is_idle(stream):
                raise self._fault(f"RST_STREAM on idle stream {stream}")
            self._meter.control(self._now)
            return
        if not self._client_side:
            self._meter.control(self._now)
            if not record.answered:
                self._meter.left(self._now, record.opened)
        self._feed(each)
        self._forget(stream, RESET_BY_PEER)
        if not record.silent:
            self._listener.on_reset(stream, int.from_bytes(each.payload, "big"))

    def _settings_frame(self, each: Frame) -> None:
        known = self._known_settings(each.payload)
        for event in self._feed(Frame(frames.SETTINGS, each.flags, 0, known, 0)):
            if isinstance(event, SettingsAcknowledged):
                self._acknowledged = True
                self._decoder.max_allowed_table_size = self._settings.header_table
            elif isinstance(event, RemoteSettingsChanged):
                self._peer_streams = self._conn.remote_settings.max_concurrent_streams
                self._listener.on_settings()
                if SettingCodes.INITIAL_WINDOW_SIZE in event.changed_settings:
                    self._listener.on_window(0)

    def _goaway_frame(self, each: Frame) -> None:
        payload = each.payload
        last = int.from_bytes(payload[:4], "big") & MAX_STREAM
        self._leaving = True
        self._listener.on_goaway(last, int.from_bytes(payload[4:8], "big"), payload[8:])
        if self._client_side:
            for stream in [stream for stream in self._streams if stream > last]:
                self._forget(stream, RESET_BY_US)

    def _priority_size(self, each: Frame) -> None:
        message = f"a PRIORITY frame of {len(each.payload)} octets"
        if each.stream not in self._streams:
            raise self._fault(message, FRAME_SIZE_ERROR)
        self._refuse(each.stream, self._malformed(message), FRAME_SIZE_ERROR)
