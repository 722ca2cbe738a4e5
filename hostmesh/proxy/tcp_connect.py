"""CONNECT on an http port: a request that becomes a connection, named by the http router's identifiers.

Until the tunnel stands, this is HTTP: what goes wrong is answered with a status and ``l5d-err``. The exchange is that
of a tcp router that stands beside the http router and shares its interpreter; its stacks keep no connections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError, Side
from hostmesh.base.reasons import Reason
from hostmesh.protocol.connect import ESTABLISHED, read_destination
from hostmesh.protocol.h1_message import excerpt
from hostmesh.proxy.tcp_exchange import TcpExchange

if TYPE_CHECKING:
    from hostmesh.protocol.h1_message import RequestHead
    from hostmesh.proxy.caller_session import CallerSession
    from hostmesh.proxy.connect_h2 import H2Connect
    from hostmesh.proxy.exchange import Exchange
    from hostmesh.proxy.server import Server
    from hostmesh.proxy.tcp_client import TcpEndpointSession
    from hostmesh.proxy.tcp_router import TcpRouter
    from hostmesh.pump.loop import Address, Transport


class ConnectCaller:
    """The caller of a CONNECT: its session for as long as this is HTTP, then its connection."""

    blocked = False
    version = 11

    def __init__(self, session: CallerSession, transport: Transport) -> None:
        self._session = session
        self.transport = transport
        self.peer: Address = transport.peer
        self.local: Address = transport.local
        self.identity = transport.identity
        self._read = self._written = 0
        """Bytes before the tunnel."""

    def hand_over(self) -> bytes:
        """Say that the tunnel stands; the connection is the tunnel's from now on. What was read of it already."""
        transport = self.transport
        early = self._session.give_up()
        self._read = transport.bytes_in - len(early)
        self._written = transport.bytes_out + len(ESTABLISHED)
        transport.write(ESTABLISHED)
        return early

    def over(self, received: int, sent: int) -> None:
        """Both connections are closed; the tunnel carried so many bytes of the caller, and so many to it."""
        transport = self.transport
        # Of TLS the transport knows better: records are longer than what they carry.
        self._session.given_up(
            max(self._read + received, transport.bytes_in), max(self._written + sent, transport.bytes_out)
        )

    def send_error(self, ex: Exchange, error: MeshError) -> None:
        self._session.send_error(ex, error)

    def cut(self) -> None:
        self._session.cut()

    def pause(self) -> None:
        """What comes early is held by the session, within its bound."""

    def resume(self) -> None:
        """As :meth:`pause`."""


class ConnectExchange(TcpExchange):
    """A tunnel that was asked for in HTTP: its listener counts it among those of upgrades."""

    guarded = True
    idle_key = "tunnelIdleTimeMs"

    def __init__(
        self,
        caller: ConnectCaller | H2Connect,
        server: Server,
        router: TcpRouter,
        head: RequestHead,
        now: float,
    ) -> None:
        super().__init__(caller, server, head, now)  # type: ignore[arg-type]  # http's, and as far as needed alike
        self.router = router
        self._tunnels = server.tunnels
        self._idle = server.settings.tunnel_idle
        self._stands_since: float | None = None

    def established(self, connection: TcpEndpointSession) -> None:
        self.status = 200
        self._stands_since = self.router.loop.now()
        self._tunnels.open += 1
        self._tunnels.opened.value += 1
        super().established(connection)

    @property
    def idle_time(self) -> float:
        return self._idle

    @property
    def life_time(self) -> float | None:
        return None

    def count(self, received: int, sent: int) -> None:
        self._tunnels.received_bytes.value += received
        self._tunnels.sent_bytes.value += sent

    def request_aborted(self, error: MeshError) -> None:
        """The session is told to end, or has lost its connection."""
        if self.tunnel is not None:
            self.abort(error)
        else:
            super().request_aborted(error)

    def finish(self, status: int, *, ok: bool, now: float | None = None) -> None:
        if self._stands_since is not None:
            self._tunnels.open -= 1
            self._tunnels.duration.add(int((self.router.loop.now() - self._stands_since) * 1e6))
        super().finish(status, ok=ok, now=now)


def connect(
    caller: ConnectCaller | H2Connect, server: Server, head: RequestHead, now: float
) -> ConnectExchange:
    """The exchange of a CONNECT. Raises MeshError (400, 403, 503) when the listener does not let it there."""
    wanted = read_destination(head.target)
    allow, router = server.allow_connect, server.router.connect
    if allow is None or router is None or not allow.allows(wanted):
        raise MeshError(
            Reason.POLICY_CONNECT,
            f"CONNECT to {excerpt(head.target)} is not allowed here (allowConnect)",
            status=403,
            side=Side.CALLER,
        )
    maximum = server.max_concurrent
    if maximum is not None and server.stats.pending > maximum:
        raise MeshError(
            Reason.OVERLOADED,
            f"{maximum} requests and tunnels are in progress (maxConcurrentRequests)",
            status=503,
        )
    return ConnectExchange(caller, server, router, head, now)
