"""The library engine's state, what it sends, and how it ends streams and connections; see :mod:`library`."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Final, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hpack import Decoder

from hostmesh.base.errors import MeshError
from hostmesh.base.reasons import Reason
from hostmesh.protocol.h2 import frames
from hostmesh.protocol.h2.budgets import Meter
from hostmesh.protocol.h2.engine import (
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    MAX_STREAM,
    PREFACE,
    PROTOCOL_ERROR,
    STREAM_CLOSED,
    ConnectionFault,
    Listener,
    Pairs,
    code_name,
)
from hostmesh.protocol.h2.fields import Malformed, malformed, malformed_response
from hostmesh.protocol.h2.frames import Scanner, frame
from hostmesh.protocol.h2.library_stream import ENDED, RESET_BY_US, Stream
from hostmesh.protocol.h2.settings import DEFAULT_WINDOW, H2Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

_CODES: Final = frozenset(int(code) for code in SettingCodes)
UNTOLD_STREAMS: Final = 100
"""Streams opened before the peer has said how many it takes: its SETTINGS come with its first octets, and RFC 9113
6.5.2 asks nobody to take fewer.
"""
_MANY: Final = 2**31 - 1
"""Streams that h2 may see open: the limit is kept here."""

# Resets of ours that say the peer was at fault, and so count (H2); what an endpoint or a timeout of ours made us
# reset is not the caller's doing.
_BLAMING: Final = frozenset(
    {
        PROTOCOL_ERROR,
        FLOW_CONTROL_ERROR,
        FRAME_SIZE_ERROR,
        STREAM_CLOSED,
        COMPRESSION_ERROR,
        ENHANCE_YOUR_CALM,
    }
)


class _Connection(H2Connection):
    """h2 with a short memory: frames for closed streams never reach it (H9)."""

    MAX_CLOSED_STREAMS = 64


class LibraryBase:
    """All of an :class:`engine.Engine` but ``receive``."""

    def __init__(self, settings: H2Settings, listener: Listener) -> None:
        self._settings = settings
        self._listener = listener
        client_side = self._client_side = settings.client_side
        self._meter = Meter(settings.budgets, client_side)
        self._scanner = Scanner(settings, self._meter)
        self._decoder = Decoder(max_header_list_size=settings.max_header_list)
        self._conn = _Connection(
            H2Configuration(
                client_side=client_side,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
            )
        )
        self._conn.max_inbound_frame_size = 2**24 - 1
        if not client_side:
            # The scanner takes the peer's.
            self._conn.receive_data(PREFACE)
        self._conn.local_settings = Settings(
            client=client_side, initial_values={SettingCodes.MAX_CONCURRENT_STREAMS: _MANY}
        )
        self._out = bytearray()
        self._streams: dict[int, Stream] = {}
        self._closed: dict[int, int] = {}
        self._last_peer = 0
        self._highest = 0
        """The highest stream id that the peer has used, also one that was refused."""
        self._last_kept = MAX_STREAM
        """Peers' streams above it are ignored: our GOAWAY said so."""
        self._next = 1 if client_side else 2
        self._leaving = False
        """A GOAWAY was sent or received: no new streams of ours."""
        self._peer_streams = UNTOLD_STREAMS
        """The peer's MAX_CONCURRENT_STREAMS."""
        self._acknowledged = False
        self._pending_credit = 0
        self._stream_threshold = settings.update_threshold(settings.initial_window)
        self._connection_threshold = settings.update_threshold(DEFAULT_WINDOW)
        self._now = 0.0
        self._failed = False

    # -- the state that sessions ask for --------------------------------------------------------------------------

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    @property
    def capacity(self) -> int:
        if not self._client_side or self._leaving or self._next > MAX_STREAM:
            return 0
        return max(0, self._peer_streams - len(self._streams))

    @property
    def last_peer_stream(self) -> int:
        return self._last_peer

    @property
    def exhausted(self) -> bool:
        return not self._client_side and self._meter.streams >= self._settings.budgets.max_streams

    @property
    def connect_protocol(self) -> bool:
        return bool(self._conn.remote_settings.enable_connect_protocol)

    @property
    def headers_since(self) -> float | None:
        return self._scanner.headers_since

    @property
    def blocked_output(self) -> int:
        self._flush()
        return len(self._out)

    # -- out ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        settings = self._settings
        announced = {
            SettingCodes.HEADER_TABLE_SIZE: settings.header_table,
            SettingCodes.ENABLE_PUSH: 0,
            SettingCodes.MAX_CONCURRENT_STREAMS: 0 if self._client_side else settings.max_concurrent_streams,
            SettingCodes.INITIAL_WINDOW_SIZE: settings.initial_window,
            SettingCodes.MAX_FRAME_SIZE: settings.max_frame,
            SettingCodes.MAX_HEADER_LIST_SIZE: settings.max_header_list,
        }
        if not self._client_side:
            del announced[SettingCodes.ENABLE_PUSH]
            if settings.enable_connect_protocol:
                announced[SettingCodes.ENABLE_CONNECT_PROTOCOL] = 1
        # h2 applies this when the peer acknowledges; until then the peer may keep to the defaults.
        self._conn.local_settings.update({SettingCodes.INITIAL_WINDOW_SIZE: settings.initial_window})
        payload = b"".join(
            [code.to_bytes(2, "big") + value.to_bytes(4, "big") for code, value in announced.items()]
        )
        if self._client_side:
            self._out += PREFACE
        self._raw(frames.SETTINGS, 0, 0, payload)

    def start_upgraded(self, settings: bytes) -> None:
        if len(settings) % 6:
            raise self._fail(self._fault(f"HTTP2-Settings of {len(settings)} octets", FRAME_SIZE_ERROR))
        self.start()
        try:
            self._conn.initiate_upgrade_connection(urlsafe_b64encode(self._known_settings(settings)))
        except ProtocolError as error:
            self._conn.clear_outbound_data_buffer()
            raise self._fail(self._fault(f"HTTP2-Settings: {error}", int(error.error_code))) from error
        # Its own SETTINGS: ours have been queued.
        self._conn.clear_outbound_data_buffer()
        self._peer_streams = self._conn.remote_settings.max_concurrent_streams
        stream = self._streams[1] = Stream(b"")
        stream.headed = stream.remote_end = True
        self._last_peer = self._highest = 1
        self._meter.streams += 1

    def take(self) -> bytes:
        self._flush()
        out, self._out = bytes(self._out), bytearray()
        return out

    def open(self, pairs: Pairs, end: bool) -> int:
        if not self.capacity:
            raise ValueError("no stream can be opened on this connection now")
        stream = self._next
        self._next += 2
        record = self._streams[stream] = Stream(method_of(pairs))
        self._meter.streams += 1
        record.answered = True
        self._send_headers(stream, pairs, end)
        self._meter.sent(1)
        if end:
            record.local_end = True
        return stream

    def send_head(self, stream: int, pairs: Pairs, end: bool) -> None:
        record = self._streams.get(stream)
        if record is None or record.local_end:
            return
        self._send_headers(stream, pairs, end)
        self._meter.sent(1)
        if pairs[0][1][:1] != b"1":
            record.answered = True
        if end:
            self._end_local(stream, record)

    def _send_headers(self, stream: int, pairs: Pairs, end: bool) -> None:
        # h2 wants to read that a pair is two.
        self._conn.send_headers(stream, cast("Sequence[tuple[bytes, bytes]]", pairs), end_stream=end)

    def send_data(self, stream: int, data: bytes, end: bool) -> None:
        record = self._streams.get(stream)
        if record is None or record.local_end:
            return
        conn = self._conn
        size = len(data)
        # An empty end needs no window, which may be negative.
        if size and size > conn.local_flow_control_window(stream):
            raise ValueError(f"{size} octets are more than the window of stream {stream}")
        limit = conn.max_outbound_frame_size
        at = 0
        while size - at > limit:
            conn.send_data(stream, data[at : at + limit])
            self._meter.sent(1)
            at += limit
        if at < size or end:
            conn.send_data(stream, data[at:] if at else data, end_stream=end)
            self._meter.sent(1)
        if end:
            self._end_local(stream, record)

    def send_trailers(self, stream: int, pairs: Pairs) -> None:
        if not pairs:
            self.send_data(stream, b"", True)
            return
        record = self._streams.get(stream)
        if record is None or record.local_end:
            return
        self._send_headers(stream, pairs, True)
        self._meter.sent(1)
        self._end_local(stream, record)

    def window(self, stream: int) -> int:
        if stream == 0:
            return max(0, self._conn.outbound_flow_control_window)
        record = self._streams.get(stream)
        if record is None or record.local_end:
            return 0
        return max(0, self._conn.local_flow_control_window(stream))

    def credit(self, stream: int, size: int) -> None:
        record = self._streams.get(stream)
        if record is None or record.remote_end:
            return
        record.uncredited += size
        if record.uncredited >= self._stream_threshold:
            self._conn.increment_flow_control_window(record.uncredited, stream)
            record.uncredited = 0

    def reset(self, stream: int, code: int) -> None:
        if stream in self._streams:
            if not self._client_side and code in _BLAMING:
                self._meter.reset(self._now)
            self._reset(stream, code)

    def goaway(self, code: int, debug: bytes = b"", last: int | None = None) -> None:
        if self._failed:
            return
        # It may never grow from one GOAWAY to the next (RFC 9113 6.8).
        last = min(self._last_kept, self._last_peer if last is None else last)
        self._last_kept = last
        self._leaving = True
        self._raw(frames.GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big") + debug)

    def ping(self, payload: bytes) -> None:
        self._raw(frames.PING, 0, 0, payload)

    def _raw(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Queue a frame that h2 does not know of, after what it has queued."""
        self._flush()
        self._out += frame(kind, flags, stream, payload)

    def _flush(self) -> None:
        self._out += self._conn.data_to_send()

    def _end_local(self, stream: int, record: Stream) -> None:
        record.local_end = True
        if record.remote_end:
            self._forget(stream, ENDED)

    def _forget(self, stream: int, how: int) -> None:
        del self._streams[stream]
        # h2 would keep it for a while, and with a new initial window find that of a closed stream too large.
        self._conn.streams.pop(stream, None)
        self._remember(stream, how)

    def _remember(self, stream: int, how: int) -> None:
        closed = self._closed
        closed[stream] = how
        if len(closed) > self._settings.budgets.max_known_resets:
            del closed[next(iter(closed))]

    def _reset(self, stream: int, code: int) -> None:
        """RST_STREAM on an open stream."""
        try:
            self._conn.reset_stream(stream, code)
        except ProtocolError:
            # To h2 both sides have ended, and the end itself was the error.
            self._raw(frames.RST_STREAM, 0, stream, code.to_bytes(4, "big"))
        self._forget(stream, RESET_BY_US)

    def _known_settings(self, payload: bytes) -> bytes:
        """The last value of each setting that h2 knows, our encoder's table bounded."""
        found: dict[int, int] = {}
        for at in range(0, len(payload), 6):
            code = int.from_bytes(payload[at : at + 2], "big")
            if code in _CODES:
                found[code] = int.from_bytes(payload[at + 2 : at + 6], "big")
        table = found.get(SettingCodes.HEADER_TABLE_SIZE)
        if table is not None:
            found[SettingCodes.HEADER_TABLE_SIZE] = min(table, self._settings.budgets.max_encoder_table)
        return b"".join([code.to_bytes(2, "big") + value.to_bytes(4, "big") for code, value in found.items()])

    # -- errors ---------------------------------------------------------------------------------------------------

    def _refuse(self, stream: int, error: MeshError, code: int) -> None:
        """A stream error (RFC 9113 5.4.2): reset, count, tell."""
        self._meter.reset(self._now)
        record = self._streams.get(stream)
        if record is not None:
            self._reset(stream, code)
        else:
            self._raw(frames.RST_STREAM, 0, stream, code.to_bytes(4, "big"))
            self._remember(stream, RESET_BY_US)
        if record is None or not record.silent:
            self._listener.on_stream_fault(stream, error, code)

    def _malformed(self, message: str, reason: Reason | None = None) -> Malformed:
        if self._client_side:
            return malformed_response(f"HTTP/2: {message}", reason or Reason.BAD_RESPONSE)
        return malformed(f"HTTP/2: {message}", reason or Reason.BAD_REQUEST)

    def _fault(self, message: str, code: int = PROTOCOL_ERROR) -> ConnectionFault:
        reason = Reason.BAD_RESPONSE if self._client_side else Reason.BAD_REQUEST
        text = f"HTTP/2: {message} ({code_name(code)})"
        return ConnectionFault(reason, text, code, client_side=self._client_side)

    def _fail(self, fault: ConnectionFault) -> ConnectionFault:
        """Queue the GOAWAY of a fault; nothing is taken after it."""
        self.goaway(fault.code, fault.message.encode("latin-1", "replace")[:128])
        self._failed = True
        return fault


def method_of(pairs: Pairs) -> bytes:
    for name, value in pairs:
        if name == b":method":
            return value
    return b""
