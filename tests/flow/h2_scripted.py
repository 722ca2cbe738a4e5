"""A caller that speaks HTTP/2 on the memory loop, built on the h2 library: none of hostmesh's own protocol code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings

from hostmesh.naming.addr import Endpoint
from hostmesh.pump.memory import MemoryConnecting, MemoryLoop
from tests.flow.world import World, config

HEADERS = 1
GOAWAY = 7

Fields = tuple[tuple[str, str], ...]


SERVER = "rt/out/server/127.0.0.1/4140"
"""The metrics of the server in :func:`config`."""


ENGINE = "lane"
"""What serves HTTP/2 in :func:`h2_config` and :func:`http_config`; the fixture ``engine`` tries every one."""


def http_config(*, router: str = "", server: str = "", service: str = "", client: str = "") -> str:
    """An http router, of whose callers some speak HTTP/2; the arguments are those of :func:`world.config`."""
    return config(
        service, client, router="\n".join(filter(None, [router, f"h2Engine: {ENGINE}"])), server=server
    )


def h2_config(*, router: str = "", server: str = "", service: str = "", client: str = "") -> str:
    """An h2 router whose endpoints speak HTTP/1.1; the arguments are those of :func:`world.config`."""
    client = "protocol: http" + (f", {client}" if client else "")
    text = http_config(router=router, server=server, service=service, client=client)
    return text.replace("protocol: http\n  label", "protocol: h2\n  label", 1)


def finish(world: World, *calls: H2Call, limit: float = 300.0) -> None:
    """Run until every call has its end."""
    world.loop.run_while(lambda: any(call.ended is None for call in calls), limit)


def caller(world: World, **options: object) -> H2Caller:
    return H2Caller(world.loop, 4140, **options)  # type: ignore[arg-type]  # those of H2Caller


class H2Call:
    """One request and what became of it."""

    def __init__(self, stream: int, method: str, at: float) -> None:
        self.stream = stream
        self.method = method
        self.at = at
        self.head: list[tuple[str, str]] = []
        self.informational: list[list[tuple[str, str]]] = []
        self.body = bytearray()
        self.trailers: list[tuple[str, str]] = []
        self.reset: int | None = None
        """The code with which the other side reset the stream."""
        self.ended: float | None = None
        """When the response was complete, or the stream or its connection gone."""
        self.done = False
        """The response is complete."""
        self.on_end: Callable[[H2Call], object] | None = None
        self.uncredited = 0
        self.slow = False
        """Only the connection's window is given back as bytes arrive; the stream's by :meth:`H2Caller.take_slowly`."""

    @property
    def status(self) -> int:
        """0 until a head has come."""
        return int(self.head[0][1]) if self.head else 0

    def get(self, name: str) -> str | None:
        """The first response field of that name."""
        for key, value in self.head:
            if key == name:
                return value
        return None

    @property
    def reason(self) -> str:
        """The reason in ``l5d-err``, or nothing."""
        return (self.get("l5d-err") or "").partition(":")[0].partition("%3A")[0]

    @property
    def elapsed(self) -> float:
        assert self.ended is not None
        return self.ended - self.at

    def end(self, now: float) -> None:
        """Nothing more will come."""
        if self.ended is None:
            self.ended = now
            if self.on_end is not None:
                self.on_end(self)


class H2Caller:
    """One connection. Requests may be made before it is established.

    ``credits`` says whether windows are given back as bytes arrive; without it a body stops at the window.
    """

    def __init__(
        self,
        loop: MemoryLoop,
        port: int = 4142,
        *,
        ip: str = "127.0.0.1",
        source: str = "10.9.9.9",
        window: int | None = None,
        start: bool = True,
    ) -> None:
        self.loop = loop
        self.credits = True
        self.transport: Any = None
        self.lost: OSError | None = None
        self.closed = False
        self.goaways: list[tuple[int, int]] = []
        """(last stream, code) of each."""
        self.calls: dict[int, H2Call] = {}
        self.uploads: dict[H2Call, bytes] = {}
        """What waits for windows, see :meth:`upload`."""
        self.raw = bytearray()
        self.keeps_raw = True
        self._buf = b""
        self.before = b""
        """What has to be sent in front of the preface, or of what follows it."""
        self._early: list[bytes] = []
        self._cancelled: set[int] = set()
        config = h2.config.H2Configuration(
            client_side=True, header_encoding="latin-1", validate_outbound_headers=False
        )
        config.normalize_outbound_headers = False
        self.conn = h2.connection.H2Connection(config)
        if window is not None:
            self.conn.local_settings.initial_window_size = window
            self.conn.local_settings.acknowledge()
        if start:
            self.conn.initiate_connection()
            self.flush()
        self.connecting: MemoryConnecting = loop.connect(
            Endpoint(ip, port), 5.0, self._connected, self._failed, source=source
        )

    def _connected(self, transport: Any) -> H2Caller:
        self.transport = transport
        early, self._early = self._early, []
        if early:
            transport.write(b"".join(early))
        return self

    def _failed(self, error: OSError) -> None:
        self.lost = error
        self.closed = True

    # -- what it does ---------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Bytes as they are."""
        if self.transport is None:
            self._early.append(data)
        else:
            self.transport.write(data)

    def flush(self) -> None:
        data = self.conn.data_to_send()
        if data:
            self.send(data)

    def request(
        self,
        target: str = "/",
        *,
        method: str = "GET",
        host: str = "web",
        fields: Fields = (),
        body: bytes | None = None,
        end: bool = True,
        trailers: Fields | None = None,
    ) -> H2Call:
        """Send a head, and ``body`` if there is one; with ``end`` that is all of the request."""
        stream = self.conn.get_next_available_stream_id()
        call = self.calls[stream] = H2Call(stream, method, self.loop.now())
        head = [(":method", method), (":scheme", "http"), (":path", target), (":authority", host), *fields]
        self.conn.send_headers(stream, head, end_stream=end and body is None and trailers is None)
        if body is not None:
            self.data(call, body, end and trailers is None)
        if trailers is not None:
            self.conn.send_headers(stream, list(trailers), end_stream=True)
        self.flush()
        return call

    def connect(self, target: str) -> H2Call:
        """Ask for a connection (RFC 9113 section 8.5)."""
        stream = self.conn.get_next_available_stream_id()
        call = self.calls[stream] = H2Call(stream, "CONNECT", self.loop.now())
        self.conn.send_headers(stream, [(":method", "CONNECT"), (":authority", target)])
        self.flush()
        return call

    def data(self, call: H2Call, body: bytes, end: bool = False) -> None:
        """A piece of a body, within the window."""
        size = self.conn.max_outbound_frame_size
        pieces = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
        for piece in pieces[:-1]:
            self.conn.send_data(call.stream, piece)
        self.conn.send_data(call.stream, pieces[-1], end_stream=end)
        self.flush()

    def upload(self, call: H2Call, body: bytes) -> None:
        """Send a body and its end as windows allow."""
        self.uploads[call] = body
        self._more_uploads()
        self.flush()

    def _more_uploads(self) -> None:
        for call, body in list(self.uploads.items()):
            if call.ended is not None:
                del self.uploads[call]
                continue
            room = min(self.room(call), len(body))
            while room > 0:
                piece = body[: min(room, self.conn.max_outbound_frame_size)]
                body = body[len(piece) :]
                room -= len(piece)
                self.conn.send_data(call.stream, piece, end_stream=not body)
            self.uploads[call] = body
            if not body:
                del self.uploads[call]

    def finish(self, call: H2Call, trailers: Fields = ()) -> None:
        """End a request, with trailers if there are any."""
        if trailers:
            self.conn.send_headers(call.stream, list(trailers), end_stream=True)
        else:
            self.conn.end_stream(call.stream)
        self.flush()

    def room(self, call: H2Call) -> int:
        """Body bytes that may be sent now."""
        return self.conn.local_flow_control_window(call.stream)

    def cancel(self, call: H2Call, code: int = 8) -> None:
        self.conn.reset_stream(call.stream, code)
        self._cancelled.add(call.stream)
        call.end(self.loop.now())
        self.flush()

    def give_back(self, call: H2Call, size: int) -> None:
        """Windows for ``size`` bytes."""
        self.conn.increment_flow_control_window(size)
        self.conn.increment_flow_control_window(size, call.stream)
        self.flush()

    def take_slowly(self, call: H2Call, size: int) -> None:
        """The window of a slow stream."""
        self.conn.increment_flow_control_window(size, call.stream)
        self.flush()

    def close(self) -> None:
        self.transport.abort()

    def reset(self) -> None:
        self.transport.reset()

    # -- what it gets ---------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.keeps_raw:
            self.raw += data
        if self.before:
            data = self._upgrade(data)
            if not data:
                return
        self._buf += data
        while len(self._buf) >= 9:
            size = 9 + int.from_bytes(self._buf[:3], "big")
            if len(self._buf) < size:
                break
            frame, self._buf = self._buf[:size], self._buf[size:]
            if frame[3] == GOAWAY:
                # To the h2 library it is the end of the connection.
                self.goaways.append((int.from_bytes(frame[9:13], "big"), int.from_bytes(frame[13:17], "big")))
                continue
            if frame[3] == HEADERS and int.from_bytes(frame[5:9], "big") in self._cancelled:
                # To the h2 library a 1xx on such a stream is an error; its fields still count for HPACK.
                self.conn.decoder.decode(frame[9:], raw=True)
                continue
            for event in self.conn.receive_data(frame):
                self._on(event)
        if self.uploads:
            self._more_uploads()
        self.flush()

    def _upgrade(self, data: bytes) -> bytes:
        head, found, rest = bytes(self.raw).partition(b"\r\n\r\n")
        if not found or not head.startswith(b"HTTP/1.1 101"):
            return b""
        self.before = b""
        return rest

    def _on(self, event: h2.events.Event) -> None:
        now = self.loop.now()
        call = self.calls.get(getattr(event, "stream_id", 0) or 0)
        if call is None:
            return
        if isinstance(event, h2.events.InformationalResponseReceived):
            call.informational.append(event.headers)
        elif isinstance(event, h2.events.ResponseReceived):
            call.head = event.headers
        elif isinstance(event, h2.events.DataReceived):
            call.body += event.data
            size = event.flow_controlled_length or 0
            if call.slow and size:
                self.conn.increment_flow_control_window(size)
            elif self.credits and size:
                self.conn.acknowledge_received_data(size, call.stream)
            else:
                call.uncredited += size
        elif isinstance(event, h2.events.TrailersReceived):
            call.trailers = event.headers
        elif isinstance(event, h2.events.StreamEnded):
            call.done = True
            call.end(now)
        elif isinstance(event, h2.events.StreamReset):
            call.reset = int(event.error_code or 0)
            call.end(now)

    def eof_received(self) -> None:
        self.gone()
        self.transport.close()

    def connection_lost(self, error: OSError | None) -> None:
        self.lost = error
        self.gone()

    def gone(self) -> None:
        """The connection has ended, and with it every call."""
        self.closed = True
        for call in list(self.calls.values()):
            call.end(self.loop.now())

    def writable(self) -> None:
        pass
