"""The client side of a tcp router: the stacks of HTTP with connections that carry one exchange each.

Nothing is kept for the next exchange, so nothing waits for a connection but its own. Load is open connections; the
latency that balancers learn is the time of a connect, told when it is over and not when the connection ends, hours
later; success and failure are those of connects.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, cast

from attrs import frozen

from hostmesh.base.errors import MeshError, Side
from hostmesh.base.reasons import Reason
from hostmesh.protocol.proxy_protocol import header_v1, header_v2
from hostmesh.proxy.client_stack import ClientStack
from hostmesh.proxy.endpoint_stack import OURS, EndpointStack
from hostmesh.proxy.settings import ClientSettings
from hostmesh.proxy.tcp_exchange import TcpExchange

if TYPE_CHECKING:
    from hostmesh.naming.addr import Endpoint
    from hostmesh.proxy.exchange import Exchange
    from hostmesh.proxy.halves import Unused
    from hostmesh.proxy.tcp_session import TcpSession
    from hostmesh.pump.loop import Connecting, Session, Transport
    from hostmesh.routing.classifiers import Verdict
    from hostmesh.telemetry.metrics import Scope


@frozen(kw_only=True)
class TcpClientSettings(ClientSettings):
    """What the configuration says about one bound id, resolved."""

    connect_timeout: float = 1.0
    """Seconds."""
    proxy_protocol: str | None = None
    """``v1`` or ``v2``: what connections begin with."""


class TcpClientStack(ClientStack):
    """Everything for one bound id: balancer and endpoints."""

    def _begin(self, scope: Scope, settings: ClientSettings) -> None:
        assert isinstance(settings, TcpClientSettings)
        self.connect_timeout = settings.connect_timeout
        self.write_header = {None: None, "v1": header_v1, "v2": header_v2}[settings.proxy_protocol]
        self.received_bytes = scope.counter("received_bytes")
        self.sent_bytes = scope.counter("sent_bytes")
        self.connect_latency = scope.stat("connect_latency_ms", scale=1000)

    @property
    def alpn(self) -> tuple[bytes, ...]:
        """Nothing is known of what the bytes are."""
        return ()

    def _make_endpoint(self, endpoint: Endpoint) -> EndpointStack:
        return TcpEndpointStack(self, endpoint)


class TcpEndpointStack(EndpointStack):
    """Accrual over connect."""

    def __init__(self, client: TcpClientStack, endpoint: Endpoint) -> None:
        super().__init__(client, endpoint)
        self._promised: dict[Connecting, Exchange] = {}
        """Connections whose PROXY header has left, in front of their handshake, and for whom they are."""

    @property
    def tcp(self) -> TcpClientStack:
        """``client``, which is one of tcp."""
        return cast(TcpClientStack, self.client)

    def dispatch(self, ex: Exchange) -> None:
        assert isinstance(ex, TcpExchange)
        if ex.guarded and (why := ex.router.refused_by_policy(ex, self.endpoint)) is not None:
            ex.connect_failed(
                MeshError(Reason.POLICY_CONNECT, why, status=403, side=Side.CALLER), blame=False
            )
            return
        super().dispatch(ex)

    def greeting(self, connecting: Connecting) -> bytes:
        write = self.tcp.write_header
        if write is None:
            return b""
        if not self.waiters:
            # A probe is nobody's, which is what a header between two families says.
            return write(("::", 0), ("0.0.0.0", 0))
        del self.connecting[connecting]
        ex = self._promised[connecting] = self.waiters.popleft()
        return write(ex.caller.peer, ex.caller.local)  # type: ignore[union-attr]  # those of tcp have both

    def connected(self, connecting: Connecting, transport: Transport) -> Session:
        self.connecting.pop(connecting, None)
        client = self.client
        session = TcpEndpointSession(self, transport)
        self.size += 1
        client.connects.value += 1
        client.connections += 1
        if self.fail_fast is not None:
            self.fail_fast.on_connected(client.loop.now())
        # In a later turn: the transport learns who its session is only when this returns.
        promised = self._promised.pop(connecting, None)
        if promised is None:
            client.loop.turn.call_soon(self._serve, session)
        else:
            client.loop.turn.call_soon(self._serve_promised, session, promised)
        return session

    def _serve_promised(self, session: TcpEndpointSession, ex: Exchange) -> None:
        if self.waiters:
            self._connect_if_needed()
        if ex.endpoint is not self or ex.session is not None or ex.finished:
            # It has given up meanwhile, and the header named nobody else.
            session.close()
        elif session.closed:
            error = ConnectionResetError(errno.ECONNRESET, "closed the connection behind its handshake")
            ex.router.guard(self._tell, ex, error)
        else:
            ex.router.guard(session.start, ex)

    def _tell(self, ex: Exchange, error: OSError) -> None:
        ex.connect_failed(self._unreachable(error), blame=error.errno not in OURS)

    def connect_failed(self, connecting: Connecting, error: OSError) -> None:
        promised = self._promised.pop(connecting, None)
        if promised is None:
            super().connect_failed(connecting, error)
        else:
            self._count_failure(connecting, error)
            self._tell(promised, error)

    def _rest(self, session: Unused) -> None:
        # It was a probe, or the caller has left meanwhile.
        session.close()

    def give_up(self, ex: Exchange) -> None:
        for connecting, promised in self._promised.items():
            if promised is ex:
                del self._promised[connecting]
                connecting.cancel()
                return
        waiting = len(self.waiters)
        super().give_up(ex)
        if len(self.waiters) < waiting and len(self.connecting) > len(self.waiters):
            # The youngest has waited least for its answer.
            connecting, _ = self.connecting.popitem()
            connecting.cancel()

    def preface(self, caller: TcpSession) -> bytes:
        """What the bytes to this endpoint begin with; of TLS it has left before (:meth:`greeting`)."""
        write = self.tcp.write_header
        if write is None or self.client.settings.tls is not None:
            return b""
        return write(caller.peer, caller.local)

    def established(self, ex: TcpExchange, now: float) -> None:
        """A connect was good: what is learnt of it is learnt now; the slot stays taken."""
        client = self.client
        assert ex.ttfb is not None
        client.balancer.finished(self, now, ex.ttfb, False)
        client.balancer.started(self, now)
        if self.accrual is not None:
            self.accrual.on_success(now)
        self.tcp.connect_latency.add(int(ex.ttfb * 1e6))

    def attempt_done(self, ex: Exchange, verdict: Verdict, now: float) -> None:
        if not ex.committed:
            super().attempt_done(ex, verdict, now)
            return
        client = self.client
        client.balancer.finished(self, now, None, False)
        client.attempt_done(ex, ex.error is None, now)


class TcpEndpointSession:
    """A connection to an endpoint, from its connect until a tunnel takes it over."""

    __slots__ = ("closed", "endpoint", "transport")

    def __init__(self, endpoint: TcpEndpointStack, transport: Transport) -> None:
        self.endpoint = endpoint
        self.transport = transport
        self.closed = False
        # What an endpoint says first is for the tunnel.
        transport.pause()

    def start(self, ex: Exchange) -> None:
        """Carry ``ex``."""
        assert isinstance(ex, TcpExchange)
        ex.established(self)

    def ended(self) -> None:
        """The connection is gone."""
        if not self.closed:
            self.closed = True
            self.endpoint.connection_ended()

    def close(self) -> None:
        """Nobody needs it."""
        self.transport.abort()
        self.ended()

    def data_received(self, data: bytes) -> None:
        raise AssertionError("a paused transport delivered something")

    def eof_received(self) -> None:
        raise AssertionError("a paused transport delivered an end")

    def connection_lost(self, error: OSError | None) -> None:
        self.ended()

    def writable(self) -> None:
        """Nothing was written yet."""
