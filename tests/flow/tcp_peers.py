"""The two ends of a tcp connection on the memory loop: they say what they are told and write down what they hear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hostmesh.naming.addr import Endpoint
from hostmesh.pump.listen import ListenOptions
from hostmesh.pump.memory import MemoryListener, MemoryLoop
from tests.flow.world import World

ROUTER = """\
routers:
- protocol: tcp
  label: db
  dtab: /svc => /#/lit
  identifier: {identifier}
{router}
  service: {{{service}}}
  client: {{{client}}}
  servers:
  - {{port: 5432{server}}}
"""


def config(
    *,
    identifier: str = "{kind: io.l5d.tcp.static, path: /web}",
    service: str = "",
    client: str = "",
    server: str = "",
    router: str = "",
) -> str:
    """One tcp router on 5432 that leads to the name ``web``; ``server`` as a flow mapping's further keys."""
    return ROUTER.format(
        identifier=identifier,
        service=service,
        client=client,
        server=f", {server}" if server else "",
        router="\n".join(f"  {line}" for line in router.splitlines()),
    )


class Peer:
    """One end: a session that keeps everything."""

    def __init__(self, loop: MemoryLoop) -> None:
        self.loop = loop
        self.transport: Any = None
        self.data = bytearray()
        self.saw_eof = False
        self.gone = False
        self.error: OSError | None = None
        self.on_data: Callable[[Peer, bytes], object] | None = None
        self._early: list[bytes] = []

    @property
    def was_reset(self) -> bool:
        return self.error is not None and not self.saw_eof

    def send(self, data: bytes) -> None:
        if self.transport is None:
            self._early.append(data)
        else:
            self.transport.write(data)

    def begin(self, transport: Any) -> Peer:
        self.transport = transport
        early, self._early = self._early, []
        if early:
            transport.write(b"".join(early))
        return self

    def end(self) -> None:
        self.transport.shutdown_write()

    def close(self) -> None:
        self.transport.close()

    def reset(self) -> None:
        self.transport.reset()

    def data_received(self, data: bytes) -> None:
        self.data += data
        if self.on_data is not None:
            self.on_data(self, data)

    def eof_received(self) -> None:
        self.saw_eof = True

    def connection_lost(self, error: OSError | None) -> None:
        self.gone = True
        self.error = error

    def writable(self) -> None:
        """Tests write without looking."""


class TcpEndpoint:
    """Listens and keeps its connections, in order."""

    def __init__(self, loop: MemoryLoop, ip: str, port: int = 80) -> None:
        self.loop = loop
        self.ip = ip
        self.port = port
        self.peers: list[Peer] = []
        self.on_accept: Callable[[Peer], object] | None = None
        self.listener: MemoryListener = loop.open_listener(ip, port, ListenOptions()).serve(self._accept)
        self.listener.start()

    @property
    def text(self) -> str:
        return f"{self.ip}:{self.port}"

    @property
    def open(self) -> int:
        return sum(not peer.gone for peer in self.peers)

    def _accept(self, transport: Any) -> Peer:
        peer = Peer(self.loop).begin(transport)
        self.peers.append(peer)
        if self.on_accept is not None:
            self.loop.after(0.0, self.on_accept, peer)
        return peer


class TcpWorld(World):
    """A world of connections."""

    def __init__(self, text: str | None = None, **options: Any) -> None:
        super().__init__(config() if text is None else text, **options)
        self.served: list[TcpEndpoint] = []

    def tcp(self, count: int = 1, name: str = "web") -> list[TcpEndpoint]:
        """So many endpoints under a name."""
        made = [TcpEndpoint(self.loop, f"10.1.0.{len(self.served) + n + 1}") for n in range(count)]
        self.served += made
        self.name(name, *[each.text for each in made])
        return made

    def dial(self, port: int = 5432, *, say: bytes = b"", source: str = "10.9.9.9") -> Peer:
        """A caller that connects now."""
        peer = Peer(self.loop)
        peer.send(say)

        def failed(error: OSError) -> None:
            peer.gone, peer.error = True, error

        self.loop.connect(Endpoint("127.0.0.1", port), 5.0, peer.begin, failed, source=source)
        return peer

    def joined(self, endpoint: TcpEndpoint, **options: Any) -> tuple[Peer, Peer]:
        """A caller and the endpoint's end of its connection."""
        count = len(endpoint.peers)
        caller = self.dial(**options)
        self.loop.run_while(lambda: len(endpoint.peers) == count)
        self.run(0.01)
        return caller, endpoint.peers[-1]

    @property
    def reasons(self) -> list[str]:
        """Of all that has been recorded."""
        assert self.sink is not None
        return [record.reason for record in self.sink.records]

    def server(self, name: str, port: int = 5432) -> float:
        """A metric of the listener."""
        return self.metric(f"rt/db/server/127.0.0.1/{port}/{name}")

    def client_metric(self, name: str) -> float:
        return self.metric(f"rt/db/client/#/lit/web/{name}")
