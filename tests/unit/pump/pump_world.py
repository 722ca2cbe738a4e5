"""A pump on the real clock with loopback sockets, and a session that writes down what it is told."""

from __future__ import annotations

import socket
from collections.abc import Callable

from hostmesh.pump.clock import SystemEnv
from hostmesh.pump.loop import Transport
from hostmesh.pump.pump import Pump
from hostmesh.pump.transport import SocketTransport


class Told:
    """A session: everything that its transport said, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.data = b""
        self.error: OSError | None = None
        self.on_data: Callable[[bytes], None] | None = None

    def data_received(self, data: bytes) -> None:
        self.data += data
        if not self.events or self.events[-1] != "data":
            self.events.append("data")
        if self.on_data is not None:
            self.on_data(data)

    def eof_received(self) -> None:
        self.events.append("eof")

    def connection_lost(self, error: OSError | None) -> None:
        self.events.append("lost")
        self.error = error

    def writable(self) -> None:
        self.events.append("writable")


class World:
    """Closes everything it made."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.pump = Pump(SystemEnv(1), self.errors.append)
        self._sockets: list[socket.socket] = []
        self.transports: list[Transport] = []

    def close(self) -> None:
        for transport in self.transports:
            transport.abort()
        self.pump.turn.run()
        for sock in self._sockets:
            sock.close()
        self.pump.close()

    def own(self, sock: socket.socket) -> socket.socket:
        self._sockets.append(sock)
        return sock

    def pair(self, *, buffer: int | None = None) -> tuple[SocketTransport, Told, socket.socket]:
        """A transport on one end of a loopback connection, its session, and the other end, which blocks for 5 s at
        most.
        """
        with socket.socket() as listener:
            if buffer:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            near = self.own(socket.socket())
            if buffer:
                near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
            near.connect(listener.getsockname())
            far, _ = listener.accept()
        far.settimeout(5)
        near.setblocking(False)
        transport = SocketTransport(self.pump, near, near.getpeername(), near.getsockname())
        session = Told()
        transport.session = session
        transport.open()
        self.transports.append(transport)
        return transport, session, self.own(far)

    def until(self, condition: Callable[[], bool], *, within: float = 5.0) -> None:
        """Step until the condition holds; AssertionError if it never does."""
        over: list[None] = []
        timer = self.pump.call_at(self.pump.now() + within, over.append, None)
        while not condition():
            assert not over, "never"
            self.pump.step()
        timer.cancel()

    def wake_ups(self, seconds: float = 0.1) -> int:
        """Batches that had events while nothing should happen for that time."""
        before = self.pump.events
        over: list[None] = []
        self.pump.call_at(self.pump.now() + seconds, over.append, None)
        while not over:
            self.pump.step()
        return self.pump.events - before
