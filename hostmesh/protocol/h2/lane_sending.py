"""The sending half of the lane engine: streams, windows, and the frames that wait to be written."""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import TYPE_CHECKING, Final

from hostmesh.protocol.h2.budgets import Meter
from hostmesh.protocol.h2.engine import MAX_STREAM, PREFACE
from hostmesh.protocol.h2.frames import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)
from hostmesh.protocol.h2.lane_encode import HeaderEncoder
from hostmesh.protocol.h2.lane_frames import FrameSink
from hostmesh.protocol.h2.lane_stream import (
    BLAMING,
    ENABLE_CONNECT_PROTOCOL,
    ENABLE_PUSH,
    ENDED,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    RESET_BY_PEER,
    RESET_BY_US,
    UNTOLD_STREAMS,
    LaneStream,
)
from hostmesh.protocol.h2.settings import DEFAULT_FRAME, DEFAULT_WINDOW

if TYPE_CHECKING:
    from hostmesh.protocol.h2.engine import Pairs
    from hostmesh.protocol.h2.listening import AnyListener
    from hostmesh.protocol.h2.settings import H2Settings

# A frame's header: length and type in one number, flags, stream.
_pack: Final = Struct(">LBL").pack


class LaneSending(FrameSink):
    """All of :class:`engine.Engine` but what takes the peer's bytes. Output is collected in pieces and joined once."""

    __slots__ = (
        "_acknowledged",
        "_client_side",
        "_closed",
        "_connect_protocol",
        "_connection_threshold",
        "_encoder",
        "_failed",
        "_highest",
        "_initial_room",
        "_initial_window",
        "_last_kept",
        "_last_peer",
        "_leaving",
        "_listener",
        "_longest",
        "_max_fields",
        "_max_list",
        "_max_open",
        "_max_streams",
        "_meter",
        "_next",
        "_now",
        "_out",
        "_peer_streams",
        "_pending",
        "_room",
        "_settings",
        "_stream_threshold",
        "_streams",
        "_window",
    )

    def __init__(self, settings: H2Settings, listener: AnyListener) -> None:
        self._settings = settings
        # Those that are asked for every stream: compiled code reads no attribute of another kind of class so fast.
        self._max_open = settings.max_concurrent_streams
        self._max_list = settings.max_header_list
        self._max_fields = settings.budgets.max_fields
        self._max_streams = settings.budgets.max_streams
        self._listener = listener
        self._client_side = settings.client_side
        self._meter = Meter(settings.budgets, settings.client_side)
        self._encoder = HeaderEncoder()
        self._out: list[bytes] = []
        self._streams: dict[int, LaneStream] = {}
        # The latest streams that have ended, and how, in one number each. Nearly nobody asks, so it is searched: a dict
        # that forgets its oldest key for each new one is mostly gaps, and cost a fifteenth of a request.
        self._closed: deque[int] = deque(maxlen=settings.budgets.max_known_resets)
        self._last_peer = 0
        # The highest stream id that the peer has used, also one that was refused.
        self._highest = 0
        # Peers' streams above it are ignored: our GOAWAY said so.
        self._last_kept = MAX_STREAM
        self._next = 1 if settings.client_side else 2
        # A GOAWAY was sent or received: no new streams of ours.
        self._leaving = False
        self._failed = False
        self._now = 0.0
        # What the peer announced.
        self._peer_streams = UNTOLD_STREAMS
        self._connect_protocol = False
        self._initial_window = DEFAULT_WINDOW
        self._longest = DEFAULT_FRAME
        self._window = DEFAULT_WINDOW
        # What we announced, in force once acknowledged.
        self._acknowledged = False
        self._initial_room = DEFAULT_WINDOW
        self._room = DEFAULT_WINDOW
        self._pending = 0
        self._stream_threshold = settings.update_threshold(settings.initial_window)
        self._connection_threshold = settings.update_threshold(DEFAULT_WINDOW)

    def __repr__(self) -> str:
        side = "client" if self._client_side else "server"
        return f"<{type(self).__name__} {side} streams={len(self._streams)} window={self._window} room={self._room}>"

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
        return not self._client_side and self._meter.streams >= self._max_streams

    @property
    def connect_protocol(self) -> bool:
        return self._connect_protocol

    @property
    def blocked_output(self) -> int:
        return sum([len(piece) for piece in self._out])

    # -- what the proxy does --------------------------------------------------------------------------------------

    def start(self) -> None:
        settings = self._settings
        client_side = self._client_side
        announced = [(HEADER_TABLE_SIZE, settings.header_table)]
        if client_side:
            announced.append((ENABLE_PUSH, 0))
        announced += [
            (MAX_CONCURRENT_STREAMS, 0 if client_side else settings.max_concurrent_streams),
            (INITIAL_WINDOW_SIZE, settings.initial_window),
            (MAX_FRAME_SIZE, settings.max_frame),
            (MAX_HEADER_LIST_SIZE, settings.max_header_list),
        ]
        if settings.enable_connect_protocol and not client_side:
            announced.append((ENABLE_CONNECT_PROTOCOL, 1))
        if client_side:
            self._out.append(PREFACE)
        payload = b"".join([code.to_bytes(2, "big") + value.to_bytes(4, "big") for code, value in announced])
        self._out.append(frame(SETTINGS, 0, 0, payload))

    def take(self) -> bytes:
        out = self._out
        if not out:
            return b""
        taken = b"".join(out)
        out.clear()
        return taken

    def open(self, pairs: Pairs, end: bool) -> int:
        if not self.capacity:
            raise ValueError("no stream can be opened on this connection now")
        stream = self._next
        self._next = stream + 2
        record = self._streams[stream] = LaneStream(
            method_of(pairs), self._initial_window, self._initial_room
        )
        self._meter.streams += 1
        record.answered = True
        self._send_block(stream, pairs, end)
        if end:
            record.sending = False
        return stream

    def send_head(self, stream: int, pairs: Pairs, end: bool) -> None:
        record = self._streams.get(stream)
        if record is None or not record.sending:
            return
        self._send_block(stream, pairs, end)
        if pairs[0][1][:1] != b"1":
            record.answered = True
        if end:
            self._end_sending(stream, record)

    def send_data(self, stream: int, data: bytes, end: bool) -> None:
        record = self._streams.get(stream)
        if record is None or not record.sending:
            return
        size = len(data)
        if size > self._window or size > record.window:
            # An empty end needs no window, so a negative one must not refuse it.
            if size:
                raise ValueError(f"{size} octets are more than the window of stream {stream}")
        else:
            self._window -= size
            record.window -= size
        out = self._out
        limit = self._longest
        at = 0
        count = 0
        while size - at > limit:
            out.append(_pack(limit << 8, 0, stream))
            out.append(data[at : at + limit])
            at += limit
            count += 1
        if at < size or end:
            out.append(_pack(size - at << 8, END_STREAM if end else 0, stream))
            out.append(data[at:] if at else data)
            count += 1
        self._meter.sent(count)
        if end:
            self._end_sending(stream, record)

    def send_trailers(self, stream: int, pairs: Pairs) -> None:
        if not pairs:
            self.send_data(stream, b"", True)
            return
        record = self._streams.get(stream)
        if record is None or not record.sending:
            return
        self._send_block(stream, pairs, True)
        self._end_sending(stream, record)

    def window(self, stream: int) -> int:
        if stream == 0:
            return max(0, self._window)
        record = self._streams.get(stream)
        if record is None or not record.sending:
            return 0
        return max(0, min(self._window, record.window))

    def credit(self, stream: int, size: int) -> None:
        record = self._streams.get(stream)
        if record is None or not record.receiving:
            return
        owed = record.owed + size
        if owed >= self._stream_threshold:
            record.room += owed
            self._number(WINDOW_UPDATE, stream, owed)
            owed = 0
        record.owed = owed

    def reset(self, stream: int, code: int) -> None:
        if stream in self._streams:
            if not self._client_side and code in BLAMING:
                self._meter.reset(self._now)
            self._reset(stream, code)

    def goaway(self, code: int, debug: bytes = b"", last: int | None = None) -> None:
        if self._failed:
            return
        # It may never grow from one GOAWAY to the next (RFC 9113 6.8).
        last = self._last_kept = min(self._last_kept, self._last_peer if last is None else last)
        self._leaving = True
        self._out.append(frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big") + debug))

    def ping(self, payload: bytes) -> None:
        self._out.append(frame(PING, 0, 0, payload))

    # -- parts ----------------------------------------------------------------------------------------------------

    def _send_block(self, stream: int, pairs: Pairs, end: bool) -> None:
        block = self._encoder.encode(pairs)
        size = len(block)
        limit = self._longest
        out = self._out
        flags = END_STREAM if end else 0
        if size <= limit:
            out.append(_pack(size << 8 | HEADERS, flags | END_HEADERS, stream))
            out.append(block)
        else:
            out.append(_pack(limit << 8 | HEADERS, flags, stream))
            out.append(block[:limit])
            for at in range(limit, size, limit):
                piece = block[at : at + limit]
                last = END_HEADERS if at + limit >= size else 0
                out.append(_pack(len(piece) << 8 | CONTINUATION, last, stream))
                out.append(piece)
        self._meter.sent(1)

    def _number(self, kind: int, stream: int, number: int) -> None:
        """A frame whose payload is one number: RST_STREAM, WINDOW_UPDATE."""
        self._out.append(_pack(4 << 8 | kind, 0, stream) + number.to_bytes(4, "big"))

    def _end_sending(self, stream: int, record: LaneStream) -> None:
        record.sending = False
        if not record.receiving:
            self._forget(stream, ENDED)

    def _end_receiving(self, stream: int, record: LaneStream) -> None:
        record.receiving = False
        if not record.sending:
            self._forget(stream, ENDED)

    def _forget(self, stream: int, how: int) -> None:
        del self._streams[stream]
        self._closed.append(stream * 4 + how)

    def _turned_away(self, stream: int) -> None:
        """As :meth:`_remember`, of a stream that is new, so that none is looked for: floods of them must stay cheap."""
        self._closed.append(stream * 4 + RESET_BY_US)

    def _remember(self, stream: int, how: int) -> None:
        """As :meth:`_forget`, of a stream that is not open and may be known as closed."""
        before = self._ending(stream)
        if before is None:
            self._closed.append(stream * 4 + how)
        else:
            self._closed[self._closed.index(stream * 4 + before)] = stream * 4 + how

    def _ending(self, stream: int) -> int | None:
        """How a stream has ended that is not open; None if it never was, or too long ago."""
        for how in (ENDED, RESET_BY_US, RESET_BY_PEER):
            if stream * 4 + how in self._closed:
                return how
        return None

    def _reset(self, stream: int, code: int) -> None:
        """RST_STREAM on an open stream."""
        self._number(RST_STREAM, stream, code)
        self._forget(stream, RESET_BY_US)


def method_of(pairs: Pairs) -> bytes:
    """The request method; b"" without one."""
    for name, value in pairs:
        if name == b":method":
            return value
    return b""
