"""One endpoint of a bound name: its accrual, its pool and its connects.

Requests that find no idle session wait in ``waiters`` and take whichever comes first: a session that another request
gives back, or a new connection. So a burst of requests opens at most :data:`MAX_CONNECTING` connections at once and a
slow connect does not delay a request for which a session has become free meanwhile.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Any

from hostmesh.base.errors import MeshError, Sent, Side
from hostmesh.base.reasons import Reason
from hostmesh.naming.addr import Endpoint
from hostmesh.protocol.tls.failures import TlsConnectionError, as_mesh_error
from hostmesh.proxy.client_session import ClientSession
from hostmesh.proxy.named_session import NamedSession, authority_of
from hostmesh.routing.classifiers import FAILURE, SUCCESS, Verdict
from hostmesh.routing.failfast import FailFast
from hostmesh.routing.node import Node

if TYPE_CHECKING:
    from hostmesh.proxy.client_stack import ClientStack
    from hostmesh.proxy.exchange import Exchange
    from hostmesh.proxy.halves import Unused
    from hostmesh.pump.loop import Connecting, Session, TimerHandle, Transport

MAX_CONNECTING = 32
"""Connects in progress per endpoint: more would only queue in the endpoint's backlog (design.md section 4)."""

OURS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL))
"""Connect errors that say something about this host and nothing about the endpoint."""


class EndpointStack(Node):
    """Accrual over pool over connect, for one (ip, port) under one bound name."""

    def __init__(self, client: ClientStack, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self.client = client
        self.idle: list[ClientSession] = []
        self.size = 0
        """Sessions in use or idle."""
        self.waiters: deque[Exchange] = deque()
        self.connecting: dict[Connecting, None] = {}
        self.closed = False
        self.fail_fast: FailFast | None = None
        self.remembers: tuple[object, Any] | None = None
        """A TLS session to be resumed, and the context that it belongs to."""
        self._probe: TimerHandle | None = None
        self._sweep: TimerHandle | None = None

    def remembered(self, context: object) -> Any:
        """What the next connection under this TLS context may resume, or None."""
        if self.remembers is None or self.remembers[0] is not context:
            return None
        return self.remembers[1]

    # -- attempts -------------------------------------------------------------------------------------------------

    def dispatch(self, ex: Exchange) -> None:
        """Give ``ex`` a session, now or when there is one."""
        idle = self.idle
        if idle:
            idle.pop().start(ex)
            return
        client = self.client
        connecting = len(self.connecting)
        # Whoever waits for a connect of its own does not count.
        if (
            self.size + connecting >= client.pool_max
            and len(self.waiters) - connecting >= client.pool_waiters
        ):
            client.too_many_waiters.value += 1
            ex.connect_failed(
                MeshError(
                    Reason.LIMIT_POOL_WAITERS,
                    f"{client.text}: all {client.pool_max} connections to {self.text} are in use and "
                    f"{client.pool_waiters} requests wait (hostConnectionPool.maxSize, maxWaiters)",
                    status=503,
                ),
                blame=False,
            )
            return
        self.waiters.append(ex)
        self._connect_if_needed()

    def _connect_if_needed(self) -> None:
        client = self.client
        wanted = min(len(self.waiters), MAX_CONNECTING)
        while len(self.connecting) < wanted and self.size + len(self.connecting) < client.pool_max:
            connecting = client.connect(self)
            self.connecting[connecting] = None

    def greeting(self, connecting: Connecting) -> bytes:
        """What a connection that is to carry TLS begins with, in front of its handshake."""
        return b""

    def connected(self, connecting: Connecting, transport: Transport) -> Session:
        """A connect succeeded: the first waiter gets the session."""
        self.connecting.pop(connecting, None)
        client = self.client
        name = authority_of(self.endpoint.meta)
        if name is None:
            session = ClientSession(self, transport, client.loop.now())
        else:
            session = NamedSession(self, transport, client.loop.now(), name)
        self.size += 1
        client.connects.value += 1
        if self.fail_fast is not None:
            self.fail_fast.on_connected(client.loop.now())
        client.connections += 1
        if self.waiters:
            # In a later turn: the transport learns who its session is only when this returns.
            client.loop.turn.call_soon(self._serve, session)
        else:
            self._rest(session)
        return session

    def _serve(self, session: Unused) -> None:
        if session.closed:
            return
        if self.waiters:
            ex = self.waiters.popleft()
            if self.waiters:
                # More wait than may connect at once: this connect is over, so another may begin.
                self._connect_if_needed()
            ex.router.guard(session.start, ex)
        else:
            self._rest(session)

    def connect_failed(self, connecting: Connecting, error: OSError) -> None:
        """A connect failed: the first waiter is told and goes elsewhere; the others get connects of their own."""
        self._count_failure(connecting, error)
        if self.waiters:
            ex = self.waiters.popleft()
            ex.connect_failed(self._unreachable(error), blame=error.errno not in OURS)
        self._connect_if_needed()

    def _count_failure(self, connecting: Connecting, error: OSError) -> None:
        self.connecting.pop(connecting, None)
        client = self.client
        client.connect_failures.value += 1
        if self.fail_fast is not None and error.errno not in OURS and not self.closed:
            now = client.loop.now()
            if client.size > 1:
                # With a single endpoint refusing helps nobody, so finagle switches fail-fast off then.
                self._probe_at(self.fail_fast.on_connect_failed(now))
            if not self.waiters:
                self._probe_at(self.fail_fast.on_retry_failed(now))

    def _unreachable(self, error: OSError) -> MeshError:
        if isinstance(error, TlsConnectionError):
            return as_mesh_error(error.failure, self.text)
        timeout = isinstance(error, TimeoutError)
        return MeshError(
            Reason.CONNECT_TIMEOUT if timeout else Reason.CONNECT_REFUSED,
            f"Unable to establish connection to {self.text}: {error.strerror or error}",
            status=502,
            side=Side.SELF if error.errno in OURS else Side.CALLEE,
            sent=Sent.NOTHING,
        )

    def _probe_at(self, when: float | None) -> None:
        if when is not None and self._probe is None:
            self._probe = self.client.loop.call_at(when, self._connect_probe)

    def _connect_probe(self) -> None:
        """Connect without a request: it is how a refused endpoint becomes available again."""
        self._probe = None
        if not self.closed:
            self.connecting[self.client.connect(self)] = None

    def give_up(self, ex: Exchange) -> None:
        """``ex`` no longer waits for a session here."""
        try:
            self.waiters.remove(ex)
        except ValueError:
            return
        if not self.waiters:
            # The connects go on: an established connection is worth having, and cancelling would punish the endpoint.
            return

    def attempt_done(self, ex: Exchange, verdict: Verdict, now: float) -> None:
        """Account an attempt that was dispatched here: balancer, accrual, client counters."""
        client = self.client
        if verdict is SUCCESS:
            client.balancer.finished(self, now, ex.ttfb, False)
            if self.accrual is not None:
                self.accrual.on_success(now)
            ok = True
        elif verdict >= FAILURE:
            client.balancer.finished(self, now, now - ex.attempt_start, True)
            if self.accrual is not None:
                self.accrual.on_failure(now)
            ok = False
        else:
            if ex.nacked:
                # Not the endpoint's failure, and no reason to send it more: a nack costs it nothing and us a round.
                client.balancer.finished(self, now, now - ex.attempt_start, True)
            else:
                # Nobody waited for the end: the average learns that it took at least this long.
                client.balancer.abandoned(self, now, now - ex.attempt_start)
            if self.accrual is not None:
                self.accrual.on_ignorable(now)
            ok = False
        client.attempt_done(ex, ok, now)

    def probed(self, now: float) -> None:
        """An endpoint that was not trusted has given a good response head."""
        if self.accrual is not None:
            self.accrual.on_success(now)

    # -- sessions -------------------------------------------------------------------------------------------------

    def release(self, session: ClientSession) -> None:
        """A session is free: the longest waiter gets it, or it rests."""
        if self.closed:
            session.close()
        elif self.waiters:
            self.client.loop.turn.call_soon(self._serve, session)
        elif self._sweep is not None:
            # Last in, first out: the warmest connection works and the coldest grow old enough to be closed.
            self.idle.append(session)
        else:
            self._rest(session)

    def _rest(self, session: Unused) -> None:
        assert isinstance(session, ClientSession)
        if self.closed:
            self.client.loop.turn.call_soon(session.close)
            return
        # Last in, first out: the warmest connection works and the coldest grow old enough to be closed.
        self.idle.append(session)
        if self._sweep is None and self.client.idle_time is not None:
            self._sweep = self.client.loop.call_at(session.idle_since + self.client.idle_time, self._expire)

    def _expire(self) -> None:
        self._sweep = None
        client = self.client
        now = client.loop.now()
        assert client.idle_time is not None
        idle = self.idle
        # The list is ordered by idle_since: the oldest are in front.
        old = 0
        limit = now - client.idle_time
        while old < len(idle) and idle[old].idle_since <= limit and self.size - old > client.pool_min:
            old += 1
        if old:
            doomed = idle[:old]
            del idle[:old]
            for session in doomed:
                session.close()
        if idle:
            wait = max(idle[0].idle_since + client.idle_time, now + 1.0)
            self._sweep = client.loop.call_at(wait, self._expire)

    def session_ended(self, session: ClientSession) -> None:
        """A session's connection is gone, for whatever reason."""
        if session in self.idle:
            self.idle.remove(session)
        self.connection_ended()

    def connection_ended(self) -> None:
        """One connection less, which was not idle."""
        self.size -= 1
        self.client.connections -= 1
        self.client.closes.value += 1
        self._connect_if_needed()

    def close(self) -> None:
        """The endpoint left the replica set for good: idle sessions close now, busy ones after their exchange."""
        self.closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None
        idle, self.idle = self.idle, []
        for session in idle:
            session.close()
        if self.client.closed:
            # Nobody else can serve them: the connects under way go on, and what they serve is the last.
            return
        for connecting in list(self.connecting):
            connecting.cancel()
        self.connecting.clear()
        waiters, self.waiters = self.waiters, deque()
        for ex in waiters:
            ex.connect_failed(
                MeshError(
                    Reason.CONNECT_REFUSED,
                    f"{self.text} was removed from {self.client.text} while a request waited for it",
                    status=502,
                ),
                blame=False,
            )

    @property
    def streams(self) -> int:
        """Requests that share connections: none in HTTP/1.1."""
        return 0

    @property
    def buffered(self) -> int:
        """Request bytes held for shared connections."""
        return 0

    @property
    def text(self) -> str:
        host = self.endpoint.host
        return f"[{host}]:{self.endpoint.port}" if ":" in host else f"{host}:{self.endpoint.port}"

    def statistics(self) -> dict[str, object]:
        return {
            "endpoint": self.text,
            "pending": self.pending,
            "cost_ms": self.cost * 1000,
            "idle": len(self.idle),
            "size": self.size,
            "waiters": len(self.waiters),
            "connecting": len(self.connecting),
        }
