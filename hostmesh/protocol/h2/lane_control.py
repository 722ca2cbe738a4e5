"""Frames that carry nothing of a message, as the lane engine takes them, and how it refuses things."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hostmesh.base.errors import MeshError
from hostmesh.base.reasons import Reason
from hostmesh.protocol.h2.engine import (
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    MAX_STREAM,
    MAX_WINDOW,
    PROTOCOL_ERROR,
    ConnectionFault,
    code_name,
)
from hostmesh.protocol.h2.fields import Malformed, malformed, malformed_response
from hostmesh.protocol.h2.frames import (
    ACK,
    GOAWAY,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    frame,
)
from hostmesh.protocol.h2.lane_decode import HeaderDecoder
from hostmesh.protocol.h2.lane_sending import LaneSending
from hostmesh.protocol.h2.lane_stream import (
    ENABLE_CONNECT_PROTOCOL,
    ENABLE_PUSH,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    RESET_BY_PEER,
    RESET_BY_US,
    UNLIMITED_STREAMS,
    LaneStream,
)

if TYPE_CHECKING:
    from hostmesh.protocol.h2.frames import Frame
    from hostmesh.protocol.h2.listening import AnyListener
    from hostmesh.protocol.h2.settings import H2Settings

_KNOWN_SETTINGS: Final = frozenset(
    {
        HEADER_TABLE_SIZE,
        ENABLE_PUSH,
        MAX_CONCURRENT_STREAMS,
        INITIAL_WINDOW_SIZE,
        MAX_FRAME_SIZE,
        MAX_HEADER_LIST_SIZE,
        ENABLE_CONNECT_PROTOCOL,
    }
)
_LEAST_FRAME: Final = 2**14
_LARGEST_FRAME: Final = 2**24 - 1
_PRIORITY_OCTETS: Final = 5
_ACKNOWLEDGEMENT: Final = frame(SETTINGS, ACK, 0)
DEBUG_OCTETS: Final = 128
"""Of a fault's message in its GOAWAY."""


class LaneControl(LaneSending):
    """The engine without header blocks and DATA."""

    __slots__ = ("_decoder", "_told")

    def __init__(self, settings: H2Settings, listener: AnyListener) -> None:
        super().__init__(settings, listener)
        self._decoder = HeaderDecoder()
        # The peer has sent SETTINGS.
        self._told = False

    def take_window(self, stream: int, increment: int) -> None:
        meter = self._meter
        meter.control(self._now)
        if stream == 0:
            if increment == 0:
                raise self._fault("WINDOW_UPDATE of 0 for the connection")
            if self._window + increment > MAX_WINDOW:
                raise self._fault("WINDOW_UPDATE beyond the largest window", FLOW_CONTROL_ERROR)
            self._window += increment
            self._listener.on_window(0)
        else:
            record = self._streams.get(stream)
            if record is None:
                if self._is_idle(stream):
                    raise self._fault(f"WINDOW_UPDATE on idle stream {stream}")
            elif increment == 0:
                self._refuse(stream, record, self._malformed("WINDOW_UPDATE of 0"), PROTOCOL_ERROR)
            elif record.window + increment > MAX_WINDOW:
                error = self._malformed("WINDOW_UPDATE beyond the largest window", Reason.BAD_FRAMING)
                self._refuse(stream, record, error, FLOW_CONTROL_ERROR)
            else:
                record.window += increment
                if not record.silent:
                    self._listener.on_window(stream)
        if meter.resets:
            meter.check()

    # -- frames that are rare -------------------------------------------------------------------------------------

    def take_rare(self, each: Frame) -> None:
        kind = each.kind
        if kind == RST_STREAM:
            self._rst_stream(each)
        elif kind == SETTINGS:
            self._settings_frame(each)
        elif kind == PING:
            if each.flags & ACK:
                self._listener.on_pong(each.payload)
            else:
                self._out.append(frame(PING, ACK, 0, each.payload))
        elif kind == GOAWAY:
            self._goaway_frame(each)
        elif kind == PRIORITY and len(each.payload) != _PRIORITY_OCTETS:
            message = f"a PRIORITY frame of {len(each.payload)} octets"
            record = self._streams.get(each.stream)
            if record is None:
                raise self._fault(message, FRAME_SIZE_ERROR)
            self._refuse(each.stream, record, self._malformed(message), FRAME_SIZE_ERROR)
        # Everything else is ignored: PRIORITY has no meaning any more (RFC 9113 5.3), unknown types never had.
        self._check()

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
        self._forget(stream, RESET_BY_PEER)
        if not record.silent:
            self._listener.on_reset(stream, int.from_bytes(each.payload, "big"))

    def _settings_frame(self, each: Frame) -> None:
        if each.flags & ACK:
            if not self._acknowledged:
                self._acknowledged = True
                delta = self._settings.initial_window - self._initial_room
                self._initial_room = self._settings.initial_window
                for record in self._streams.values():
                    record.room += delta
                self._decoder.allowed = self._settings.header_table
            return
        changed = self._apply(each.payload)
        self._out.append(_ACKNOWLEDGEMENT)
        self._listener.on_settings()
        if INITIAL_WINDOW_SIZE in changed:
            self._listener.on_window(0)

    def _apply(self, payload: bytes) -> dict[int, int]:
        """Take the peer's settings, the last value of each. Raises ConnectionFault."""
        found: dict[int, int] = {}
        for at in range(0, len(payload), 6):
            code = int.from_bytes(payload[at : at + 2], "big")
            if code in _KNOWN_SETTINGS:
                found[code] = int.from_bytes(payload[at + 2 : at + 6], "big")
        for code, value in found.items():
            self._check_setting(code, value)
        window = found.get(INITIAL_WINDOW_SIZE)
        if window is not None:
            delta = window - self._initial_window
            self._initial_window = window
            for record in self._streams.values():
                if record.window + delta > MAX_WINDOW:
                    raise self._fault("INITIAL_WINDOW_SIZE makes a window too large", FLOW_CONTROL_ERROR)
                record.window += delta
        if MAX_CONCURRENT_STREAMS in found:
            self._peer_streams = found[MAX_CONCURRENT_STREAMS]
        elif not self._told:
            self._peer_streams = UNLIMITED_STREAMS
        self._told = True
        if ENABLE_CONNECT_PROTOCOL in found:
            self._connect_protocol = found[ENABLE_CONNECT_PROTOCOL] == 1
        self._longest = found.get(MAX_FRAME_SIZE, self._longest)
        if HEADER_TABLE_SIZE in found:
            self._encoder.offer(found[HEADER_TABLE_SIZE])
        return found

    def _check_setting(self, code: int, value: int) -> None:
        """RFC 9113 6.5.2, RFC 8441 section 3."""
        if code == INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise self._fault(f"INITIAL_WINDOW_SIZE of {value}", FLOW_CONTROL_ERROR)
            return
        if code == MAX_FRAME_SIZE:
            wrong = not _LEAST_FRAME <= value <= _LARGEST_FRAME
        elif code == ENABLE_PUSH:
            # A server may not offer what only it could do.
            wrong = value > (0 if self._client_side else 1)
        else:
            wrong = code == ENABLE_CONNECT_PROTOCOL and value > 1
        if wrong:
            raise self._fault(f"the setting {code} of {value}")

    def _goaway_frame(self, each: Frame) -> None:
        payload = each.payload
        last = int.from_bytes(payload[:4], "big") & MAX_STREAM
        self._leaving = True
        self._listener.on_goaway(last, int.from_bytes(payload[4:8], "big"), payload[8:])
        if self._client_side:
            for stream in [stream for stream in self._streams if stream > last]:
                self._forget(stream, RESET_BY_US)

    # -- errors ---------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._meter.resets:
            self._meter.check()

    def _is_idle(self, stream: int) -> bool:
        if stream % 2 == self._client_side:
            return stream >= self._next
        return stream > self._highest

    def _refuse(self, stream: int, record: LaneStream | None, error: MeshError, code: int) -> None:
        """A stream error (RFC 9113 5.4.2): reset, count, tell."""
        self._meter.reset(self._now)
        self._number(RST_STREAM, stream, code)
        if record is not None:
            self._forget(stream, RESET_BY_US)
        else:
            self._remember(stream, RESET_BY_US)
        if record is None or not record.silent:
            self._listener.on_stream_fault(stream, error, code)

    def _fail(self, fault: ConnectionFault) -> ConnectionFault:
        """Queue the GOAWAY of a fault; nothing is taken after it."""
        self.goaway(fault.code, fault.message.encode("latin-1", "replace")[:DEBUG_OCTETS])
        self._failed = True
        return fault

    def _malformed(self, message: str, reason: Reason | None = None) -> Malformed:
        if self._client_side:
            return malformed_response(f"HTTP/2: {message}", reason or Reason.BAD_RESPONSE)
        return malformed(f"HTTP/2: {message}", reason or Reason.BAD_REQUEST)

    def _fault(self, message: str, code: int = PROTOCOL_ERROR) -> ConnectionFault:
        reason = Reason.BAD_RESPONSE if self._client_side else Reason.BAD_REQUEST
        text = f"HTTP/2: {message} ({code_name(code)})"
        return ConnectionFault(reason, text, code, client_side=self._client_side)
