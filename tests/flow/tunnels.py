"""Both ends of an upgraded connection as scripts on the memory loop: they keep every byte and decide when to read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hostmesh.naming.addr import Endpoint
from hostmesh.pump.listen import ListenOptions
from hostmesh.pump.memory import MemoryLoop
from tests.flow.world import World

ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The answer to :data:`KEY` (RFC 6455 1.3)."""

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="

SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n\r\n"
)


def handshake(
    *lines: bytes, method: bytes = b"GET", upgrade: bytes = b"websocket", host: bytes = b"web"
) -> bytes:
    """A caller's request for an upgrade."""
    fields = [
        b"Host: " + host,
        b"Connection: keep-alive, Upgrade",
        b"Upgrade: " + upgrade,
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: " + KEY,
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        *lines,
    ]
    return method + b" /chat HTTP/1.1\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


class Peer:
    """One end of a connection. ``head`` is what came up to the first empty line, ``data`` all behind it."""

    def __init__(self, loop: MemoryLoop) -> None:
        self.loop = loop
        self.transport: Any = None
        self.raw = bytearray()
        self.events: list[str] = []
        self.error: OSError | None = None
        self.on_head: Callable[[Peer], object] | None = None
        self._early: list[bytes] = []
        self._read = 0
        self.switched = False
        """What comes is no HTTP any more."""

    def send(self, data: bytes) -> None:
        if self.transport is None:
            self._early.append(data)
        else:
            self.transport.write(data)

    def connected(self, transport: Any) -> Peer:
        self.transport = transport
        for data in self._early:
            transport.write(data)
        return self

    def data_received(self, data: bytes) -> None:
        self.raw += data
        while not self.switched and self.on_head is not None:
            end = self.raw.find(b"\r\n\r\n", self._read)
            if end < 0:
                break
            self._read = end + 4
            self.on_head(self)

    def eof_received(self) -> None:
        self.events.append("eof")

    def connection_lost(self, error: OSError | None) -> None:
        # Both directions have ended, and this end has not closed the connection: no reset.
        over = error is None or error.strerror == "hung up"
        self.events.append("lost" if over else "reset")
        self.error = error

    def writable(self) -> None:
        self.events.append("writable")

    @property
    def head(self) -> bytes:
        return bytes(self.raw.partition(b"\r\n\r\n")[0]) + b"\r\n\r\n"

    @property
    def lines(self) -> list[bytes]:
        return self.head.split(b"\r\n")[1:-2]

    @property
    def data(self) -> bytes:
        return bytes(self.raw.partition(b"\r\n\r\n")[2])

    @property
    def status(self) -> int:
        return int(self.raw.split(b" ", 2)[1]) if self.raw else 0


class Switching:
    """An endpoint that answers every head with ``answer``, None for not at all. ``peers`` are its connections."""

    def __init__(self, world: World, answer: bytes | None = SWITCH, *, name: str = "web") -> None:
        self.world = world
        self.loop = world.loop
        self.answer = answer
        self.answer_with: Callable[[Peer], object] | None = None
        """Instead: what answers a head."""
        self.peers: list[Peer] = []
        self.ip = f"10.1.0.{len(world.namer.addrs) + 1}"
        listener = self.loop.open_listener(self.ip, 80, ListenOptions()).serve(self._accept)
        listener.start()
        world.name(name, f"{self.ip}:80")

    def _accept(self, transport: Any) -> Peer:
        peer = Peer(self.loop).connected(transport)
        peer.on_head = self._answer
        self.peers.append(peer)
        return peer

    def _answer(self, peer: Peer) -> None:
        if self.answer_with is not None:
            self.answer_with(peer)
        elif self.answer is not None:
            peer.switched = b" 101 " in self.answer
            peer.send(self.answer)


def dial(world: World, data: bytes = b"", *, source: str = "10.9.9.9") -> Peer:
    """A caller that sends ``data`` when it is connected."""
    peer = Peer(world.loop)
    peer.send(data)
    world.loop.connect(Endpoint("127.0.0.1", 4140), 5.0, peer.connected, peer.connection_lost, source=source)
    return peer


def tunnel(world: World, switching: Switching, *lines: bytes) -> tuple[Peer, Peer]:
    """Caller and endpoint of an established tunnel."""
    caller = dial(world, handshake(*lines))
    world.run(0.01)
    assert caller.status == 101
    return caller, switching.peers[-1]
