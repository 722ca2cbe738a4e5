"""A connection that only sends, between a stand-in for an engine and a transport on the memory loop."""

from __future__ import annotations

from hostmesh.base.errors import MeshError
from hostmesh.protocol.h2.engine import Pairs
from hostmesh.proxy.h2_sending import Sending
from hostmesh.pump.marks import HIGH_MARK
from hostmesh.pump.memory import MemoryLoop
from hostmesh.pump.memory_transport import MemoryTransport, pair


class Windows:
    """Stands for what sending needs of an engine: keeps what it is given, within the windows that a test sets."""

    def __init__(self) -> None:
        self.connection = 1 << 30
        self.streams: dict[int, int] = {}
        self.sent: list[tuple[int, int, bool]] = []
        self.ended: list[tuple[int, Pairs]] = []
        self.out = b""

    def window(self, stream: int) -> int:
        if stream == 0:
            return self.connection
        return min(self.connection, self.streams.setdefault(stream, 1 << 30))

    def send_data(self, stream: int, data: bytes, end: bool) -> None:
        assert not data or len(data) <= self.window(stream)
        self.streams[stream] = self.streams.get(stream, 1 << 30) - len(data)
        self.connection -= len(data)
        self.sent.append((stream, len(data), end))
        self.out += data

    def send_trailers(self, stream: int, pairs: Pairs) -> None:
        self.ended.append((stream, pairs))

    def take(self) -> bytes:
        out, self.out = self.out, b""
        return out


class Peer:
    """The other end of the connection. It reads while it is told to."""

    def __init__(self) -> None:
        self.size = 0

    def data_received(self, data: bytes) -> None:
        self.size += len(data)

    def eof_received(self) -> None: ...

    def connection_lost(self, error: OSError | None) -> None: ...

    def writable(self) -> None: ...


class Connection:
    """A connection that only sends; it is the owner of its :class:`Sending` and the session of its transport."""

    def __init__(self) -> None:
        self.loop = MemoryLoop()
        near, far = pair(self.loop, ("10.0.0.1", 1), ("10.0.0.2", 2), 0.0, 64 * 1024)
        self.transport: MemoryTransport = near
        self.far: MemoryTransport = far
        self.peer = Peer()
        near.session, far.session = self, self.peer
        near.open()
        far.open()
        self.engine = Windows()
        self.sending = Sending(self.engine, near, self, self.loop)
        self.writable_streams: list[int] = []
        self.overdue: list[tuple[int, MeshError]] = []
        self.over: MeshError | None = None
        self.received = 0

    def data_received(self, data: bytes) -> None:
        self.received += len(data)

    def eof_received(self) -> None: ...

    def connection_lost(self, error: OSError | None) -> None:
        self.sending.close()

    def writable(self) -> None:
        self.sending.writable()

    def stream_writable(self, stream: int) -> None:
        self.writable_streams.append(stream)

    def stream_overdue(self, stream: int, error: MeshError) -> None:
        self.overdue.append((stream, error))

    def connection_overdue(self, error: MeshError) -> None:
        self.over = error
        self.sending.close()

    def clog(self) -> None:
        """Make the socket take no more: its peer does not read, and it has all that it buffers."""
        self.far.pause()
        self.transport.write(b"x" * (64 * 1024 + HIGH_MARK))
        assert self.transport.blocked
