"""One connection of a caller to a tcp router: a name, a connect to an endpoint of it, then a tunnel.

It is an :class:`Exchange` whose request is the connection itself, so binding, picking, requeues of failed connects,
timeouts and accounting are those of every request. It is *committed* when the endpoint is connected: from then on
nothing is dialled again, and what can still go wrong goes wrong on both connections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from hostmesh.base.errors import MeshError
from hostmesh.protocol.h1_message import RequestHead
from hostmesh.proxy import refusals
from hostmesh.proxy.exchange import Exchange
from hostmesh.proxy.tunnel import HALF_CLOSED_IDLE
from hostmesh.routing.classifiers import IGNORABLE, SUCCESS

if TYPE_CHECKING:
    from hostmesh.proxy.tcp_client import TcpClientStack, TcpEndpointSession
    from hostmesh.proxy.tcp_server import TcpServer
    from hostmesh.proxy.tcp_session import TcpSession
    from hostmesh.pump.loop import Address, TimerHandle
    from hostmesh.pump.tunnel import Side, Tunnel

LOOK_EVERY = 10.0
"""Seconds between two looks at what a connection has moved: as old as the byte counters of connections that are open
may be. Bytes cost no clock reading and no counter, so a silent connection lives for up to so much longer."""

IDLE_LOOKS = 4
"""Looks in an idle time that is shorter than that allows."""


class TcpHead(RequestHead):
    """What is known of a connection before it is routed, as a request head without fields."""

    def __init__(self, local: Address, end: int, is_tls: bool, server_name: str | None) -> None:
        """``end``: how many bytes were read to find this out."""
        ip = f"[{local[0]}]" if ":" in local[0] else local[0]
        target = f"{ip}:{local[1]}".encode("ascii")
        host = b"" if server_name is None else server_name.encode("ascii")
        super().__init__(b"TCP", target, host, 0, b"", (), end)
        self.local_port = local[1]
        self.is_tls = is_tls
        self.server_name = server_name


class TcpExchange(Exchange):
    """See the module's text."""

    streamed = True
    trace = b"-"
    """Nothing to be written: there is no place for it."""
    tunnel: Tunnel | None = None
    guarded = False
    """The caller chose the destination: some are refused whatever the dtab says."""
    idle_key = "serverSession.idleTimeMs"
    _connection: TcpEndpointSession | None = None
    _watching: TimerHandle | None = None
    _quiet_since = 0.0

    # Not declared anew: what two compiled classes declare the collector sees twice, and never frees.

    @property
    def tcp_caller(self) -> TcpSession:
        """``caller``: the one kind of caller that it has."""
        return cast("TcpSession", self.caller)

    @property
    def tcp_server(self) -> TcpServer:
        """``server``, as above."""
        return cast("TcpServer", self.server)

    def established(self, connection: TcpEndpointSession) -> None:
        """The picked endpoint is connected: join both connections."""
        loop = self.router.loop
        now = loop.now()
        assert self.endpoint is not None
        self.committed = True
        self.attempts += 1
        self.ttfb = now - self.attempt_start
        self._quiet_since = now
        if self.total_timer is not None:
            self.total_timer.cancel()
            self.total_timer = None
        self._connection = connection
        connection.endpoint.established(self, now)
        caller = self.tcp_caller
        first = connection.endpoint.preface(caller) + caller.hand_over()
        tunnel = loop.tunnel(caller.transport, connection.transport, first, self._tunnel_ended)
        if not self.finished:
            self.tunnel = tunnel
            self._watch(now)

    def count(self, received: int, sent: int) -> None:
        """Add bytes of the caller, and bytes to it, to what the listener shows."""
        server = self.tcp_server
        server.received_bytes.value += received
        server.sent_bytes.value += sent

    def _count(self) -> bool:
        """Add what has moved since the last time to the counters; whether anything has."""
        tunnel = self.tunnel
        if tunnel is None:
            return False
        received, sent = tunnel.sent_far - self.request_bytes, tunnel.sent_near - self.response_bytes
        if not received and not sent:
            return False
        self.request_bytes += received
        self.response_bytes += sent
        self.count(received, sent)
        client = cast("TcpClientStack", self.client)
        client.sent_bytes.value += received
        client.received_bytes.value += sent
        return True

    @property
    def idle_time(self) -> float:
        return self.tcp_server.settings.idle_time

    @property
    def life_time(self) -> float | None:
        return self.tcp_server.settings.life_time

    # -- time -----------------------------------------------------------------------------------------------------

    def _watch(self, now: float) -> None:
        due = now + min(LOOK_EVERY, self.idle_time / IDLE_LOOKS)
        life = self.life_time
        if life is not None:
            due = min(due, self.start + life)
        self._watching = self.router.loop.call_at(due, self._look)

    def _look(self) -> None:
        self._watching = None
        tunnel = self.tunnel
        assert tunnel is not None
        now = self.router.loop.now()
        life = self.life_time
        if life is not None and now >= self.start + life:
            self.abort(refusals.old_tunnel(life))
            return
        limit = self.idle_time
        if tunnel.half_closed:
            limit = min(limit, HALF_CLOSED_IDLE)
        if self._count():
            self._quiet_since = now
        elif now - self._quiet_since >= limit:
            self.abort(refusals.idle_tunnel(limit, self.idle_key))
            return
        self._watch(now)

    # -- ends -----------------------------------------------------------------------------------------------------

    def _tunnel_ended(self, side: Side | None, error: OSError | None) -> None:
        if side == "near":
            self.error = refusals.gone(f"caller's connection broke: {error}")
        elif side == "far":
            self.error = refusals.endpoint_gone(f"the endpoint broke its connection: {error}")
        self._over()

    def abort(self, error: MeshError) -> None:
        """End now, whatever the state: both connections are reset."""
        if self.finished:
            return
        self.error = error
        tunnel = self.tunnel
        if tunnel is not None:
            tunnel.abort()
            self._over()
        else:
            self.release_attempt(IGNORABLE)
            self.fail(error)

    def _over(self) -> None:
        if self.finished:
            return
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        self._count()
        connection, self._connection = self._connection, None
        now = self.router.loop.now()
        self.close_attempt(SUCCESS if self.error is None else IGNORABLE, now)
        self.finish(self.status, ok=self.error is None, now=now)
        if connection is not None:
            connection.ended()
        self.tcp_caller.over(self.request_bytes, self.response_bytes)
