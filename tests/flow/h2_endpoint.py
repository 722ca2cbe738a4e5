"""An HTTP/2 endpoint on the memory loop, as a script on the h2 library: nothing of hostmesh's own protocol code."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.events
from h2.errors import ErrorCodes
from h2.exceptions import StreamClosedError
from h2.settings import SettingCodes, Settings

from hostmesh.pump.listen import ListenOptions

if TYPE_CHECKING:
    from hostmesh.pump.memory import MemoryListener, MemoryLoop
    from hostmesh.pump.memory_transport import MemoryTransport

Pairs = list[tuple[bytes, bytes]]
StreamHandler = Callable[["Stream"], object]

MAX_STREAM = 2**31 - 1


class Stream:
    """A request at an endpoint, and the means to answer it."""

    def __init__(self, session: H2Session, id: int, pairs: Pairs, at: float) -> None:
        self.session = session
        self.id = id
        self.pairs = pairs
        self.at = at
        self.body = bytearray()
        self.trailers: Pairs | None = None
        self.done = False
        """The request is complete."""
        self.only_head = False
        """Its head said that nothing follows."""
        self.reset_code: int | None = None
        """What the proxy reset it with."""
        self._unsent = bytearray()
        self._end = False
        self._trailers: Pairs | None = None

    def get(self, name: str) -> str | None:
        for key, value in self.pairs:
            if key == name.encode():
                return value.decode()
        return None

    @property
    def target(self) -> str | None:
        return self.get(":path")

    @property
    def cut(self) -> bool:
        """Nobody wants its answer any more."""
        return self.reset_code is not None or self.session.gone

    def _later(self, after: float, fn: Callable[..., object], *args: object) -> None:
        loop = self.session.endpoint.loop
        loop.call_at(loop.now() + after, fn, *args)

    def head(self, status: int = 200, *fields: tuple[str, str], end: bool = False) -> None:
        pairs = [(":status", str(status)), *fields]
        if not self.cut:
            self.session.conn.send_headers(self.id, pairs, end_stream=end)
            self.session.flush()

    def data(self, data: bytes, *, end: bool = False, trailers: Pairs | None = None) -> None:
        """Body bytes, as the windows allow."""
        self._unsent += data
        self._end = end
        self._trailers = trailers
        self.pump()

    def pump(self) -> None:
        """Send what the windows allow now."""
        conn = self.session.conn
        try:
            while self._unsent and not self.cut:
                room = min(conn.local_flow_control_window(self.id), conn.max_outbound_frame_size)
                if room <= 0:
                    break
                conn.send_data(self.id, bytes(self._unsent[:room]))
                del self._unsent[:room]
        except StreamClosedError:
            # Reset in the same read; the event of that comes next.
            self._unsent.clear()
            return
        if not self._unsent and not self.cut:
            if self._trailers is not None:
                conn.send_headers(self.id, self._trailers, end_stream=True)
            elif self._end:
                conn.end_stream(self.id)
            self._trailers = None
            self._end = False
        self.session.flush()

    def answer(
        self,
        status: int = 200,
        body: bytes = b"ok",
        *,
        after: float = 0.0,
        fields: tuple[tuple[str, str], ...] = (),
        trailers: Pairs | None = None,
    ) -> None:
        """A whole response, ``after`` seconds from now."""
        if after:
            self._later(after, lambda: self.answer(status, body, fields=fields, trailers=trailers))
        elif not self.cut:
            self.head(status, *fields, end=not body and trailers is None)
            if body or trailers is not None:
                self.data(body, end=trailers is None, trailers=trailers)

    def reset(self, code: ErrorCodes, *, after: float = 0.0) -> None:
        if after:
            self._later(after, self.reset, code)
        elif not self.cut:
            self.session.conn.reset_stream(self.id, code)
            self.session.flush()


class H2Session:
    """One connection at an endpoint."""

    def __init__(self, endpoint: H2Endpoint, transport: MemoryTransport) -> None:
        self.endpoint = endpoint
        self.transport = transport
        self.gone = False
        self.error: OSError | None = None
        self.streams: dict[int, Stream] = {}
        self.goaway: int | None = None
        """The code of the proxy's GOAWAY."""
        self.pings = 0
        self.refused = 0
        """Streams above the limit."""
        self.settings: dict[int, int] = {}
        """What the proxy has announced."""
        self.raw = bytearray()
        self.conn = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding=None)
        )
        self.conn.local_settings = Settings(client=False, initial_values=endpoint.settings)
        self.conn.initiate_connection()
        self.allow(endpoint.max_streams)

    def allow(self, streams: int) -> None:
        """Announce another MAX_CONCURRENT_STREAMS."""
        # h2 ends a connection with too many streams, servers refuse the stream: so h2 is not told of the limit.
        self.max_streams = streams
        frame = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03" + streams.to_bytes(4, "big")
        self.transport.write(self.conn.data_to_send() + frame)

    def flush(self) -> None:
        data = self.conn.data_to_send()
        if data:
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        endpoint = self.endpoint
        self.raw += data
        if endpoint.deaf:
            return
        for event in self.conn.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                stream = Stream(self, event.stream_id, list(event.headers), endpoint.loop.now())
                self.streams[stream.id] = stream
                stream.only_head = event.stream_ended is not None
                if self.conn.open_inbound_streams > self.max_streams:
                    self.refused += 1
                    stream.reset(ErrorCodes.REFUSED_STREAM)
                    continue
                endpoint.requests.append(stream)
                if endpoint.on_head is not None:
                    endpoint.on_head(stream)
            elif isinstance(event, h2.events.DataReceived):
                self.streams[event.stream_id].body += event.data
                if endpoint.credits:
                    self.conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.TrailersReceived):
                self.streams[event.stream_id].trailers = list(event.headers)
            elif isinstance(event, h2.events.StreamEnded):
                stream = self.streams[event.stream_id]
                if stream not in endpoint.requests:
                    continue
                stream.done = True
                if endpoint.handler is not None:
                    endpoint.handler(stream)
            elif isinstance(event, h2.events.StreamReset):
                if event.remote_reset:
                    self.streams[event.stream_id].reset_code = int(event.error_code)
            elif isinstance(event, h2.events.WindowUpdated):
                for stream in list(self.streams.values()):
                    if event.stream_id in (0, stream.id):
                        stream.pump()
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.goaway = int(event.error_code)
            elif isinstance(event, h2.events.PingReceived):
                self.pings += 1
            elif isinstance(event, h2.events.RemoteSettingsChanged):
                for code, change in event.changed_settings.items():
                    self.settings[int(code)] = change.new_value
        self.flush()

    def say_goaway(self, last: int, code: int = 0) -> None:
        """A GOAWAY frame as it is; h2 would end the connection with it."""
        payload = last.to_bytes(4, "big") + code.to_bytes(4, "big")
        self.transport.write(len(payload).to_bytes(3, "big") + b"\x07\x00" + bytes(4) + payload)

    def eof_received(self) -> None:
        self.gone = True
        self.transport.abort()

    def connection_lost(self, error: OSError | None) -> None:
        self.gone = True
        self.error = error
        self.endpoint.sessions.pop(self, None)

    def writable(self) -> None: ...


class H2Endpoint:
    """Listens; ``handler(stream)`` runs when a request is complete, ``on_head`` when its head is."""

    def __init__(
        self,
        loop: MemoryLoop,
        ip: str,
        port: int,
        handler: StreamHandler | None,
        *,
        max_streams: int = 100,
        settings: dict[SettingCodes | int, int] | None = None,
    ) -> None:
        self.loop = loop
        self.ip = ip
        self.port = port
        self.handler = handler
        self.on_head: StreamHandler | None = None
        self.max_streams = max_streams
        self.settings = settings or {}
        self.credits = True
        """Give back windows as the body arrives."""
        self.deaf = False
        """Take bytes and do nothing about them, PING included."""
        self.requests: list[Stream] = []
        self.sessions: dict[H2Session, None] = {}
        self.accepted = 0
        self.listener: MemoryListener | None = None
        self.start()

    @property
    def text(self) -> str:
        return f"{self.ip}:{self.port}"

    @property
    def session(self) -> H2Session:
        """The newest connection."""
        return list(self.sessions)[-1]

    def start(self) -> None:
        self.listener = self.loop.open_listener(self.ip, self.port, ListenOptions()).serve(self._accept)
        self.listener.start()

    def _accept(self, transport: MemoryTransport) -> H2Session:
        self.accepted += 1
        session = H2Session(self, transport)
        self.sessions[session] = None
        return session

    def stop(self) -> None:
        """Nobody listens any more; connections stay."""
        assert self.listener is not None
        self.listener.close()

    def kill(self) -> None:
        """As SIGKILL: nobody listens, and every connection is reset."""
        self.stop()
        for session in list(self.sessions):
            session.transport.reset()

    def __len__(self) -> int:
        return len(self.requests)


def answering_h2(
    status: int = 200,
    body: bytes = b"ok",
    *,
    after: float = 0.0,
    fields: tuple[tuple[str, str], ...] = (),
    trailers: Pairs | None = None,
) -> StreamHandler:
    """A handler that always answers so."""

    def handler(stream: Stream) -> None:
        stream.answer(status, body, after=after, fields=fields, trailers=trailers)

    return handler
