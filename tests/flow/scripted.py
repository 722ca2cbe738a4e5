"""The two ends of a proxied connection, as scripts on the memory loop: callers that send bytes, endpoints that answer.

They use no HTTP library and none of hostmesh's own parsers, so that a test sees what was really on the wire.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hostmesh.naming.addr import Endpoint
from hostmesh.pump.listen import ListenOptions
from hostmesh.pump.memory import MemoryConnecting, MemoryListener, MemoryLoop
from hostmesh.pump.memory_transport import MemoryTransport

Handler = Callable[["Received"], object]


class Message:
    """One request or response as it arrives."""

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.start, _, block = head.partition(b"\r\n")
        self.fields = [line.partition(b": ")[::2] for line in block.split(b"\r\n") if line]
        self.body = bytearray()
        self.trailers = b""
        self.done = False

    def get(self, name: str) -> str | None:
        """The first field of that name, in any case."""
        wanted = name.lower().encode()
        for key, value in self.fields:
            if key.lower() == wanted:
                return bytes(value).decode("latin-1")
        return None

    @property
    def status(self) -> int:
        return int(self.start.split(b" ")[1])

    @property
    def method(self) -> str:
        return self.start.split(b" ")[0].decode()

    @property
    def target(self) -> str:
        return self.start.split(b" ")[1].decode()


class Reader:
    """Cuts a stream of bytes into messages. ``bodiless(head)`` says which responses have no body whatever they say."""

    def __init__(self, on_head: Callable[[Message], object], on_done: Callable[[Message], object]) -> None:
        self.buf = b""
        self.message: Message | None = None
        self.left = 0
        """Bytes of body or chunk to come; -1: a chunk's size line comes; -2: until the end; -3: trailers."""
        self.chunked = False
        self.on_head = on_head
        self.on_done = on_done
        self.bodiless: Callable[[Message], bool] = lambda _message: False
        self.is_response = False

    def feed(self, data: bytes) -> None:
        self.buf += data
        while self.buf and self._step():
            pass

    def _step(self) -> bool:
        message = self.message
        if message is None:
            head, found, rest = self.buf.partition(b"\r\n\r\n")
            if not found:
                return False
            self.buf = rest
            message = self.message = Message(head)
            self._framing(message)
            self.on_head(message)
            if self.left == 0 and not self.chunked:
                self._end()
            return True
        if self.left > 0 or self.left == -2:
            piece = self.buf if self.left == -2 else self.buf[: self.left]
            message.body += piece
            self.buf = self.buf[len(piece) :]
            if self.left > 0:
                self.left -= len(piece)
                if self.left == 0 and not self.chunked:
                    self._end()
            return True
        line, found, rest = self.buf.partition(b"\r\n")
        if not found:
            return False
        self.buf = rest
        if self.left == -3:
            if line:
                message.trailers += line + b"\r\n"
            else:
                self._end()
        elif line:
            self.left = int(line, 16) or -3
        return True

    def _framing(self, message: Message) -> None:
        lower = b"\r\n" + message.head.lower() + b"\r\n"
        self.chunked = False
        self.left = 0
        if self.bodiless(message):
            return
        if b"\r\ntransfer-encoding: chunked\r\n" in lower:
            self.chunked = True
        elif b"\r\ncontent-length: " in lower:
            self.left = int(lower.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
        elif self.is_response:
            self.left = -2

    def _end(self) -> None:
        message, self.message = self.message, None
        self.chunked = False
        self.left = 0
        assert message is not None
        message.done = True
        self.on_done(message)

    def eof(self) -> None:
        if self.left == -2 and self.message is not None:
            self._end()


class Received:
    """A request at an endpoint, and the means to answer it."""

    def __init__(self, session: EndpointSession, message: Message, at: float) -> None:
        self.session = session
        self.message = message
        self.at = at
        self.answered = False

    @property
    def cut(self) -> bool:
        """Its connection is gone."""
        return self.session.gone

    @property
    def body(self) -> bytes:
        return bytes(self.message.body)

    def get(self, name: str) -> str | None:
        return self.message.get(name)

    def answer(
        self, status: int = 200, body: bytes = b"ok", *, after: float = 0.0, fields: tuple[str, ...] = ()
    ) -> None:
        """A whole response, ``after`` seconds from now."""
        lines = "".join(f"{field}\r\n" for field in fields).encode()
        self.send(
            b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%b\r\n%b" % (status, len(body), lines, body), after=after
        )

    def send(self, data: bytes, *, after: float = 0.0) -> None:
        """Exactly these bytes."""
        if after:
            loop = self.session.endpoint.loop
            loop.call_at(loop.now() + after, self.send, data)
        else:
            self.answered = True
            self.session.transport.write(data)

    def close(self, *, after: float = 0.0) -> None:
        loop = self.session.endpoint.loop
        loop.call_at(loop.now() + after, self.session.transport.abort)

    def reset(self, *, after: float = 0.0) -> None:
        loop = self.session.endpoint.loop
        loop.call_at(loop.now() + after, self.session.transport.reset)


class EndpointSession:
    """One connection at an endpoint."""

    def __init__(self, endpoint: ScriptedEndpoint, transport: MemoryTransport) -> None:
        self.endpoint = endpoint
        self.transport = transport
        self.gone = False
        self.saw_eof = False
        self.error: OSError | None = None
        self.received: list[Received] = []
        self.raw = bytearray()
        self.keeps_raw = endpoint.keeps_raw
        self.reader = Reader(self._on_head, self._on_done)

    def data_received(self, data: bytes) -> None:
        if self.keeps_raw:
            self.raw += data
        self.reader.feed(data)

    def _on_head(self, message: Message) -> None:
        endpoint = self.endpoint
        received = Received(self, message, endpoint.loop.now())
        self.received.append(received)
        endpoint.requests.append(received)
        if endpoint.on_head is not None:
            endpoint.on_head(received)

    def _on_done(self, _message: Message) -> None:
        received = self.received[-1]
        if self.endpoint.handler is not None:
            self.endpoint.handler(received)

    def eof_received(self) -> None:
        self.saw_eof = True
        self.gone = True
        self.transport.abort()

    def connection_lost(self, error: OSError | None) -> None:
        self.gone = True
        self.error = error
        self.endpoint.sessions.pop(self, None)

    def writable(self) -> None:
        if self.endpoint.on_writable is not None:
            self.endpoint.on_writable(self)


class ScriptedEndpoint:
    """Listens; ``handler(received)`` runs when a request is complete, ``on_head`` when its head is."""

    def __init__(self, loop: MemoryLoop, ip: str, port: int, handler: Handler | None) -> None:
        self.loop = loop
        self.ip = ip
        self.port = port
        self.handler = handler
        self.on_head: Handler | None = None
        self.on_writable: Callable[[EndpointSession], object] | None = None
        self.on_accept: Callable[[EndpointSession], object] | None = None
        self.keeps_raw = True
        self.requests: list[Received] = []
        self.sessions: dict[EndpointSession, None] = {}
        self.accepted = 0
        self.listener: MemoryListener | None = None
        self.start()

    @property
    def text(self) -> str:
        return f"{self.ip}:{self.port}"

    def start(self) -> None:
        self.listener = self.loop.open_listener(self.ip, self.port, ListenOptions()).serve(self._accept)
        self.listener.start()

    def _accept(self, transport: MemoryTransport) -> EndpointSession:
        self.accepted += 1
        session = EndpointSession(self, transport)
        self.sessions[session] = None
        if self.on_accept is not None:
            self.on_accept(session)
        return session

    def kill(self) -> None:
        """As SIGKILL: nobody listens, and every connection is reset."""
        assert self.listener is not None
        self.listener.close()
        self.listener = None
        for session in list(self.sessions):
            session.transport.reset()

    def __len__(self) -> int:
        return len(self.requests)


class Call:
    """One request of a caller and what became of it."""

    def __init__(self, method: str, at: float) -> None:
        self.method = method
        self.at = at
        self.response: Message | None = None
        self.informational: list[Message] = []
        self.ended: float | None = None
        self.on_end: Callable[[Call], object] | None = None

    @property
    def status(self) -> int:
        """0 until a head has come."""
        return 0 if self.response is None else self.response.status

    @property
    def body(self) -> bytes:
        return b"" if self.response is None else bytes(self.response.body)

    @property
    def reason(self) -> str:
        """The reason in ``l5d-err``, or nothing."""
        error = None if self.response is None else self.response.get("l5d-err")
        return "" if error is None else error.partition(":")[0].partition("%3A")[0]

    @property
    def done(self) -> bool:
        return self.response is not None and self.response.done

    @property
    def elapsed(self) -> float:
        assert self.ended is not None
        return self.ended - self.at


class Caller:
    """One connection of a caller. Requests may be sent before it is established."""

    def __init__(self, loop: MemoryLoop, ip: str, port: int, source: str) -> None:
        self.loop = loop
        self.transport: Any = None
        self.calls: list[Call] = []
        self.unanswered: list[Call] = []
        self.lost: OSError | None = None
        self.closed = False
        """The other side has ended the connection, or it is gone."""
        self.saw_eof = False
        self.raw = bytearray()
        self.keeps_raw = True
        self._early: list[bytes] = []
        self.reader = Reader(self._on_head, self._on_done)
        self.reader.is_response = True
        self.reader.bodiless = self._is_bodiless
        self.connecting: MemoryConnecting = loop.connect(
            Endpoint(ip, port), 5.0, self._connected, self._failed, source=source
        )

    def _connected(self, transport: Any) -> Caller:
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

    def expect(self, method: str = "GET") -> Call:
        """A response is to come for what was sent with :meth:`send`."""
        call = Call(method, self.loop.now())
        self.calls.append(call)
        self.unanswered.append(call)
        return call

    def request(
        self,
        target: str = "/",
        *,
        method: str = "GET",
        host: str = "web",
        body: bytes | None = None,
        fields: tuple[str, ...] = (),
    ) -> Call:
        """Send a whole request."""
        lines = "".join(f"{field}\r\n" for field in fields)
        if body is not None:
            lines += f"Content-Length: {len(body)}\r\n"
        self.send(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode() + (body or b""))
        return self.expect(method)

    def half_close(self) -> None:
        self.transport.shutdown_write()

    def close(self) -> None:
        """As close(2): a FIN, and a reset for whatever still comes."""
        self.transport.abort()

    def reset(self) -> None:
        self.transport.reset()

    # -- what it gets ---------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.keeps_raw:
            self.raw += data
        self.reader.feed(data)

    def _is_bodiless(self, message: Message) -> bool:
        status = message.status
        return (
            status < 200
            or status in (204, 304)
            or (bool(self.unanswered) and self.unanswered[0].method == "HEAD")
        )

    def _on_head(self, message: Message) -> None:
        if message.status >= 200 and self.unanswered:
            self.unanswered[0].response = message

    def _on_done(self, message: Message) -> None:
        if not self.unanswered:
            return
        if message.status < 200:
            self.unanswered[0].informational.append(message)
            return
        call = self.unanswered.pop(0)
        call.ended = self.loop.now()
        if call.on_end is not None:
            call.on_end(call)

    def eof_received(self) -> None:
        self.saw_eof = True
        self.closed = True
        self.reader.eof()
        self.transport.close()

    def connection_lost(self, error: OSError | None) -> None:
        self.closed = True
        self.lost = error

    def writable(self) -> None:
        pass
