"""An endpoint that is spoken to in HTTP/2: a few connections, each shared by many requests.

One connection serves them all while its peer takes another stream; connections are asked in the order of their making,
so a second one that a burst has needed grows idle and ends. When none has room, another is opened, up to a bound, and
requests wait, up to a bound, for whichever comes first: a stream that ends or a new connection.
"""

from __future__ import annotations

from collections import deque
from errno import ECONNRESET
from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError
from hostmesh.base.reasons import Reason
from hostmesh.naming.addr import Endpoint
from hostmesh.proxy.endpoint_stack import OURS, EndpointStack
from hostmesh.proxy.h2_client import FIRST_STREAMS, H2ClientSession
from hostmesh.proxy.named_session import authority_of

if TYPE_CHECKING:
    from hostmesh.proxy.client_stack import ClientStack
    from hostmesh.proxy.exchange import Exchange
    from hostmesh.pump.loop import Connecting, TimerHandle, Transport

MAX_CONNECTIONS = 32
"""Connections to one endpoint (``hostConnectionPool.maxSize`` may allow fewer): 3,200 streams of peers that take the
usual hundred, and still some parallelism with one that takes a single stream."""

MAX_WAITERS = 1000
"""Requests that wait for a stream (``hostConnectionPool.maxWaiters`` may allow fewer): as many as for a name."""

STREAM_WAIT = 10.0
"""Seconds that a request waits for a stream: as long as for a name. A peer may allow none for the moment (RFC 9113
section 6.5.2) and streams may last for ever, but another endpoint may have room, and a caller wants to know."""


class H2EndpointStack(EndpointStack):
    """Accrual over multiplexed connections over connect, for one (ip, port) under one bound name."""

    def __init__(self, client: ClientStack, endpoint: Endpoint) -> None:
        super().__init__(client, endpoint)
        self.sessions: dict[H2ClientSession, None] = {}
        """Open connections, the oldest first; those that are retired, too."""
        self.first_streams = FIRST_STREAMS
        """Streams opened on a connection before its peer has said how many it takes: no more than it took last time."""
        self._patience: TimerHandle | None = None
        self._max_size = min(MAX_CONNECTIONS, client.pool_max)
        self._max_waiters = min(MAX_WAITERS, client.pool_waiters)

    # -- attempts -------------------------------------------------------------------------------------------------

    def dispatch(self, ex: Exchange) -> None:
        """Give ``ex`` a stream, now or when there is one."""
        if not self.waiters:
            for session in self.sessions:
                if session.free > 0:
                    session.start(ex)
                    return
        client = self.client
        # Whoever waits for a connection that is being opened does not count.
        waiting = len(self.waiters) - len(self.connecting) * self.first_streams
        if waiting >= self._max_waiters and not self._may_connect():
            client.too_many_waiters.value += 1
            ex.connect_failed(
                MeshError(
                    Reason.LIMIT_POOL_WAITERS,
                    f"{client.text}: {self.text} takes no more streams on {self.size} connections and "
                    f"{self._max_waiters} requests wait (hostConnectionPool.maxWaiters)",
                    status=503,
                ),
                blame=False,
            )
            return
        self.waiters.append(ex)
        self._connect_if_needed()
        self._watch_waiters()

    def _watch_waiters(self) -> None:
        if self.waiters and self._patience is None:
            due = self.waiters[0].attempt_start + STREAM_WAIT
            self._patience = self.client.loop.call_at(due, self._waited)

    def _waited(self) -> None:
        """Who has waited for too long goes elsewhere."""
        self._patience = None
        now = self.client.loop.now()
        while self.waiters and now >= self.waiters[0].attempt_start + STREAM_WAIT:
            ex = self.waiters.popleft()
            ex.router.guard(self._tell_late, ex)
        self._watch_waiters()

    def _tell_late(self, ex: Exchange) -> None:
        text = f"{self.client.text}: no stream to {self.text} became free within {STREAM_WAIT:g} s"
        ex.connect_failed(MeshError(Reason.LIMIT_POOL_WAITERS, text, status=503), blame=False)

    def _may_connect(self) -> bool:
        return self.size + len(self.connecting) < self._max_size

    def _connect_if_needed(self) -> None:
        # What is being opened will serve so many each; only who comes after them needs another.
        each = self.first_streams
        if not each:
            if self.sessions:
                # The peer allows none for now, and on another connection hardly more.
                return
            each = 1
        while len(self.connecting) * each < len(self.waiters) and self._may_connect():
            self.connecting[self.client.connect(self)] = None

    def connected(self, connecting: Connecting, transport: Transport) -> H2ClientSession:
        """A connect succeeded: those who wait get streams on it."""
        self.connecting.pop(connecting, None)
        client = self.client
        now = client.loop.now()
        session = H2ClientSession(self, transport, now, authority_of(self.endpoint.meta))
        self.sessions[session] = None
        self.size += 1
        client.connects.value += 1
        client.connections += 1
        if self.fail_fast is not None:
            self.fail_fast.on_connected(now)
        # In a later turn: the transport learns who its session is only when this returns.
        client.loop.turn.call_soon(self._serve_all)
        return session

    def _serve_all(self) -> None:
        """Give streams to those who wait, as far as there are any."""
        for session in list(self.sessions):
            while self.waiters and session.free > 0:
                ex = self.waiters.popleft()
                ex.router.guard(session.start, ex)
        if self.waiters:
            self._connect_if_needed()
        elif self.closed:
            self._retire_all()

    def connect_failed(self, connecting: Connecting, error: OSError) -> None:
        """A connect failed. While another is under way or open, those who wait go on waiting; else all are told."""
        self._count_failure(connecting, error)
        if not self._has_prospects():
            self._turn_away(error)

    def _has_prospects(self) -> bool:
        return bool(self.connecting) or any(not session.retired for session in self.sessions)

    def _turn_away(self, error: OSError) -> None:
        """Nobody can be served here: nothing was sent, so they go elsewhere."""
        waiters, self.waiters = self.waiters, deque()
        for ex in waiters:
            ex.router.guard(self._tell, ex, error)

    def _tell(self, ex: Exchange, error: OSError) -> None:
        ex.connect_failed(self._unreachable(error), blame=error.errno not in OURS)

    def give_up(self, ex: Exchange) -> None:
        """``ex`` no longer waits for a stream here."""
        if ex.upgrade is not None:
            for session in self.sessions:
                session.give_up(ex)
        super().give_up(ex)

    # -- sessions -------------------------------------------------------------------------------------------------

    def stream_ended(self, session: H2ClientSession) -> None:
        """``session`` may have room again, or none any more."""
        if self.waiters:
            self.client.loop.turn.call_soon(self._serve_all)
        elif self.closed and not session.retired:
            session.retire()

    def greeted(self, session: H2ClientSession) -> None:
        """The peer has said how many streams it takes."""
        self.first_streams = min(FIRST_STREAMS, session.free + len(session.streams))
        self.stream_ended(session)

    def refused(self, session: H2ClientSession) -> None:
        """The peer has refused one of the streams that it has: if it has no room, it takes no more than the others."""
        if not session.free:
            self.first_streams = min(self.first_streams, len(session.streams) - 1)

    def may_shrink(self) -> bool:
        """Whether a connection that has been idle for its time may be closed."""
        return self.size > self.client.pool_min or self.closed

    def session_over(self, session: H2ClientSession) -> None:
        """A connection is gone, for whatever reason."""
        del self.sessions[session]
        self.size -= 1
        self.client.connections -= 1
        self.client.closes.value += 1
        if self.waiters and not session.requests and not self._has_prospects():
            # A server that hangs up, or sends GOAWAY, before it has taken anything: as bad as one that refuses, and
            # to dial it again at once would go on as long as it does so.
            self._turn_away(ConnectionResetError(ECONNRESET, "it closed the connection before any request"))
        else:
            self._connect_if_needed()

    def _retire_all(self) -> None:
        for session in list(self.sessions):
            session.retire()

    def close(self) -> None:
        """The endpoint left the replica set for good: connections open no more streams and end with their last."""
        super().close()
        if not self.waiters:
            self._retire_all()
        if self._patience is not None and not self.waiters:
            self._patience.cancel()
            self._patience = None

    @property
    def streams(self) -> int:
        """Streams open on all connections."""
        return sum(len(session.streams) for session in self.sessions)

    @property
    def buffered(self) -> int:
        """Request bytes that wait for windows or sockets."""
        return sum(session.sending.size for session in self.sessions)

    def statistics(self) -> dict[str, object]:
        return super().statistics() | {"streams": self.streams, "buffered": self.buffered}
