"""A listening socket of a tcp router: admission, the callers' counters, and which router serves it now."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import frozen

from hostmesh.base.errors import MeshError, Side
from hostmesh.base.reasons import Reason
from hostmesh.proxy.announced import Announcers
from hostmesh.proxy.stats import ScopeStats
from hostmesh.proxy.tcp_session import TcpSession

if TYPE_CHECKING:
    from hostmesh.proxy.exchange import Exchange
    from hostmesh.proxy.secure_accept import ServerTls, TlsStats
    from hostmesh.proxy.tcp_router import TcpRouter
    from hostmesh.pump.loop import Loop, Transport
    from hostmesh.telemetry.metrics import Scope

PREFACE_TIME = 10.0
"""Seconds from the accept to the end of what has to be read before a connection can be routed: as for a request head
(hardening R1)."""


@frozen(kw_only=True)
class TcpServerSettings:
    """What the configuration says about one listener, resolved. Times are seconds."""

    name: str
    """``ip/port`` as in the metrics."""
    max_connections: int | None = None
    idle_time: float = 3600.0
    life_time: float | None = None
    preface_time: float = PREFACE_TIME
    announcers: Announcers | None = None
    """Who says in PROXY headers who calls; None where callers connect themselves."""
    tls: ServerTls | None = None
    """How callers are met; None for bytes as they are, TLS included."""
    clear_context: bool = True
    """There is no context in bytes."""


class TcpServer:
    """One per listening address; outlives reloads, as its socket does."""

    def __init__(self, loop: Loop, router: TcpRouter, settings: TcpServerSettings, scope: Scope) -> None:
        self.loop = loop
        self.router = router
        self.settings = settings
        self.draining = False
        self.on_empty: Callable[[], object] | None = None
        """Called when the last connection has gone."""
        self.sessions: dict[TcpSession, None] = {}
        self._scope = scope
        self._tls_stats: TlsStats | None = None
        self.stats = ScopeStats(scope, statuses=False)
        self.connects = scope.counter("connects")
        self.closes = scope.counter("closes")
        self.received_bytes = scope.counter("received_bytes")
        self.sent_bytes = scope.counter("sent_bytes")
        scope.gauge("connections", lambda: float(len(self.sessions)))

    def configure(self, settings: TcpServerSettings) -> None:
        """Take new settings; they hold for connections that are open, too."""
        self.settings = settings

    def accept(self, transport: Transport) -> TcpSession:
        """A session for a connection just accepted."""
        session = TcpSession(self, transport, self.loop.now())
        self.sessions[session] = None
        self.connects.value += 1
        return session

    @property
    def tls_stats(self) -> TlsStats:
        """The counters of handshakes, which are there from the first one on."""
        if self._tls_stats is None:
            from hostmesh.proxy.secure_accept import TlsStats

            self._tls_stats = TlsStats(self._scope.scope("tls"))
        return self._tls_stats

    def check_room(self) -> None:
        """Raise MeshError (overloaded) when there are more connections than allowed."""
        maximum = self.settings.max_connections
        if maximum is not None and len(self.sessions) > maximum:
            raise MeshError(
                Reason.OVERLOADED,
                f"{maximum} connections are open (maxConnections)",
                status=503,
                side=Side.SELF,
            )

    def gone(self, session: TcpSession) -> None:
        """A session's connection has ended; told more than once it counts once."""
        if session in self.sessions:
            del self.sessions[session]
            self.closes.value += 1
            if not self.sessions and self.on_empty is not None:
                self.on_empty()

    def done(self, ex: Exchange, status: int, micros: int, ok: bool, now: float) -> None:
        """The end of every exchange: the caller's view of it."""
        stats = self.stats
        stats.pending -= 1
        stats.done(status, micros, ok)
        if ex.path is not None:
            ex.path.stats.done(status, micros, ok)
        if ex.error is not None:
            stats.failed(ex.error.reason)
        recorder = ex.router.recorder
        if recorder is not None:
            recorder.exchange_done(ex, micros, ok, now)

    def refused(self, session: TcpSession, error: MeshError) -> None:
        """Account a connection that did not get as far as an exchange."""
        stats = self.stats
        stats.done(error.status, 0, False)
        stats.failed(error.reason)
        recorder = self.router.recorder
        if recorder is not None:
            recorder.refused(self, session, error, self.loop.now())

    # -- drain ----------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Let go of connections that have said nothing yet; the others have until :meth:`cut`."""
        self.draining = True
        for session in list(self.sessions):
            session.drain()

    def cut(self) -> None:
        """The drain's deadline: reset what is left."""
        for session in list(self.sessions):
            session.abort()
