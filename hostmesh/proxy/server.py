"""A listening server: admission, the caller's counters, and which router its requests go to now.

The server outlives reloads, as its socket does: a reload assigns ``router`` and every later request of every open
connection asks the new one, while an exchange keeps the router it began with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from attrs import frozen

from hostmesh.base.errors import MeshError
from hostmesh.protocol.connect import AllowList
from hostmesh.protocol.h2.engines import DEFAULT_ENGINE
from hostmesh.protocol.h2.settings import H2Settings
from hostmesh.protocol.limits import Limits
from hostmesh.protocol.upgrade import WEBSOCKET
from hostmesh.proxy.announced import HEADER_TIME, AnnouncedAccept, Announcers
from hostmesh.proxy.caller_session import CallerSession
from hostmesh.proxy.h2_caller_life import H2CallerLife, H2Stats
from hostmesh.proxy.sniff import Sniff
from hostmesh.proxy.stats import Ledger, ScopeStats
from hostmesh.proxy.tunnel import TUNNEL_IDLE, Tunnel, TunnelStats

if TYPE_CHECKING:
    from hostmesh.protocol.h1_message import ResponseHead
    from hostmesh.proxy.caller_life import CallerLife
    from hostmesh.proxy.exchange import Exchange
    from hostmesh.proxy.recorder import Counterpart
    from hostmesh.proxy.router import Router
    from hostmesh.proxy.secure_accept import SecureAccept, ServerTls, TlsStats
    from hostmesh.pump.loop import AnyLoop, Session, Transport
    from hostmesh.telemetry.metrics import Scope

HEAD_TIME = 10.0
"""Seconds from the first byte of a head to its end (hardening R1)."""

FIRST_HEAD_TIME = 30.0
"""Seconds from the accept to the end of the first head (hardening R1)."""

BODY_IDLE = 60.0
"""Seconds without a byte of a request body that we are willing to read (hardening R2)."""

MAX_PIPELINED = 64 * 1024
"""Bytes of further requests held while one is in flight; above it the connection is not read."""

DRAIN_QUIET = 0.5
"""Seconds without a request after which a connection that is to end is closed. A request may be on its way to one that
is at rest: whoever asks now and then is told with the next answer instead, and loses nothing."""

MAX_AGGREGATE = 5 * 1024 * 1024
"""Bytes of a request body on a router with ``streamingEnabled: false``, which holds all of it: finagle's default."""

H2_DEFAULTS = H2Settings(client_side=False)

CallerConnections: TypeAlias = "AnnouncedAccept | SecureAccept | CallerLife | H2CallerLife | Tunnel"
"""What may be at the other end of a caller's connection, in the order in which it may become so."""

ForwardedLine: TypeAlias = "Callable[[Exchange], bytes]"
"""The ``Forwarded`` line of a request, CRLF included."""


@frozen(kw_only=True)
class ServerSettings:
    """What the configuration says about one server, resolved."""

    name: str
    """``ip/port`` as in the metrics."""
    limits: Limits
    clear_context: bool = False
    max_concurrent: int | None = None
    max_call_depth: int = 1000
    timeout_ms: int | None = None
    idle_time: float = 600.0
    life_time: float | None = None
    forwarded: ForwardedLine | None = None
    timestamp_header: bytes | None = None
    stream_after: int = 5 * 1024
    streaming: bool = True
    max_error_body: int = 5120 * 1024
    compression_level: int = -1
    read_timeout: float | None = None
    write_timeout: float | None = None
    upgrades: frozenset[bytes] = frozenset((WEBSOCKET,))
    """Lower-case tokens of ``Upgrade`` that go on to the endpoint."""
    tunnel_idle: float = TUNNEL_IDLE
    allow_connect: AllowList | None = None
    """Where CONNECT may lead; None for nowhere."""
    h2: H2Settings = H2_DEFAULTS
    """What our side of an HTTP/2 connection announces and keeps to."""
    h2_engine: str = DEFAULT_ENGINE
    announcers: Announcers | None = None
    """Who says in PROXY headers who calls; None where callers connect themselves."""
    tls: ServerTls | None = None
    """How callers are met; None for plain text."""


class Server:
    """One per listening address."""

    def __init__(self, loop: AnyLoop, router: Router, settings: ServerSettings, scope: Scope) -> None:
        self.loop = loop
        self.router = router
        self.draining = False
        self.on_empty: Callable[[], object] | None = None
        """Called when the last connection has gone."""
        self.sessions: dict[CallerConnections, None] = {}
        self._scope = scope
        self._tunnels: TunnelStats | None = None
        self._h2_stats: H2Stats | None = None
        self._tls_stats: TlsStats | None = None
        self.stats = ScopeStats(scope, statuses=True)
        self.nacks = scope.counter("nacks")
        self.connects = scope.counter("connects")
        self.closes = scope.counter("closes")
        self.received_bytes = scope.counter("received_bytes")
        self.sent_bytes = scope.counter("sent_bytes")
        scope.gauge("connections", lambda: float(len(self.sessions)))
        self.first_head_time = FIRST_HEAD_TIME
        self.drain_quiet = DRAIN_QUIET
        self.max_pipelined = MAX_PIPELINED
        self.max_aggregate = MAX_AGGREGATE
        self.settings = settings
        self.configure(settings)

    def configure(self, settings: ServerSettings) -> None:
        """Take new settings; they hold from the next request of every connection."""
        if self.sessions and settings.limits != self.settings.limits:
            for session in self.sessions:
                if isinstance(session, CallerSession):
                    session.forget_heads()
        self.settings = settings
        self.limits = settings.limits
        self.clear_context = settings.clear_context
        self.allow_connect = settings.allow_connect
        self.tls = settings.tls
        self.max_concurrent = settings.max_concurrent
        self.max_call_depth = settings.max_call_depth
        read_timeout = settings.read_timeout or BODY_IDLE
        self.head_time = min(HEAD_TIME, read_timeout)
        self.announced_time = min(HEADER_TIME, read_timeout)
        self.body_idle = min(BODY_IDLE, read_timeout)
        self.stream_after = settings.stream_after if settings.streaming else 2**62
        self.aggregate = not settings.streaming
        self.compresses = settings.compression_level >= 1
        self.simple_responses = not settings.clear_context and settings.compression_level < 1
        """Response heads need nothing but our lines appended."""
        self.plain_lines = (
            settings.forwarded is None
            and settings.timestamp_header is None
            and settings.timeout_ms is None
            and not settings.clear_context
        )
        """No per-request line of its own: the common case skips them all at once."""

    def accept(self, transport: Transport) -> Session:
        """A session for a connection just accepted, which finds out what it carries."""
        if self.settings.write_timeout is not None:
            transport.write_stall = min(transport.write_stall, self.settings.write_timeout)
        self.connects.value += 1
        announcers = self.settings.announcers
        if announcers is not None:
            announced = AnnouncedAccept(self, transport, announcers, self.announced_time)
            self.sessions[announced] = None
            return announced
        return self.meet(transport)

    def meet(self, transport: Transport) -> Session:
        """A session for a connection of which it is known who called."""
        if self.tls is not None:
            secure = self.tls.accept(self, transport)
            self.sessions[secure] = None
            return secure.session
        session = CallerSession(self, transport, self.loop.now())
        self.sessions[session] = None
        if self.draining:
            session.drain()
        return Sniff(self, transport, session)

    @property
    def tunnels(self) -> TunnelStats:
        """The counters of tunnels, which are there from the first one on."""
        if self._tunnels is None:
            self._tunnels = TunnelStats(self._scope.scope("tunnels"))
        return self._tunnels

    @property
    def tls_stats(self) -> TlsStats:
        """The counters of TLS, which are there from the first connection on."""
        if self._tls_stats is None:
            # Only here: what does not speak TLS does not load it.
            from hostmesh.proxy.secure_accept import TlsStats

            self._tls_stats = TlsStats(self._scope.scope("tls"))
        return self._tls_stats

    @property
    def h2_stats(self) -> H2Stats:
        """The counters of HTTP/2, which are there from the first connection on."""
        if self._h2_stats is None:
            self._h2_stats = H2Stats(self._scope)
            self._scope.gauge("buffered_bytes", lambda: float(self.buffered))
        return self._h2_stats

    @property
    def buffered(self) -> int:
        """Response bytes that wait for the windows or sockets of HTTP/2 callers (H12)."""
        return sum(each.sending.size for each in self.sessions if isinstance(each, H2CallerLife))

    def became(self, session: SecureAccept | CallerLife, other: CallerConnections) -> None:
        """The connection of ``session`` is another's from now on; it is still one of a caller."""
        del self.sessions[session]
        self.sessions[other] = None

    def gone(self, session: CallerConnections, transport: Transport) -> None:
        """A session's connection has ended; told more than once it counts once."""
        self.left(session, transport.bytes_in, transport.bytes_out)

    def left(self, session: CallerConnections, received: int, sent: int) -> None:
        """As :meth:`gone`, with the bytes that its connection has carried."""
        if session in self.sessions:
            del self.sessions[session]
            self.closes.value += 1
            self.received_bytes.value += received
            self.sent_bytes.value += sent
            if not self.sessions and self.on_empty is not None:
                self.on_empty()

    def done(self, ex: Exchange, status: int, micros: int, ok: bool, now: float) -> None:
        """The end of every exchange: the caller's view of it."""
        stats = self.stats
        stats.pending -= 1
        response = ex.response
        if response is not None and not response.plain:
            served = self._served(ex, response, ok)
        else:
            served = 0 < status < 500
        path = ex.path
        if path is not None and served == ok:
            ledger = path.ledgers.get(stats)
            if ledger is None:
                ledger = path.ledgers[stats] = Ledger(stats, path.stats)
            ledger.add(status if ok else ~status, micros)
        else:
            if path is not None:
                if not path.judged_from:
                    # HTTP says 200 whatever a gRPC call came to: the verdict of its classifier counts here, too.
                    served = ok
                path.stats.done(status, micros, ok)
            stats.done(status, micros, served)
        error = ex.error
        if error is not None:
            stats.failed(error.reason)
        recorder = ex.router.recorder
        if recorder is not None:
            recorder.exchange_done(ex, micros, ok, now)

    def _served(self, ex: Exchange, response: ResponseHead, ok: bool) -> bool:
        path = ex.path
        if path is not None and not path.judged_from:
            return ok
        # The next hop's own verdict, where it is a linkerd or a hostmesh, else the status alone (reference 9.2).
        for name, value in response.special:
            if name == b"l5d-success-class":
                return value[:1] != b"0"
        return 0 < ex.status < 500

    def refused(self, session: Counterpart, error: MeshError, now: float) -> None:
        """Account a request that did not get as far as an exchange: its head or its framing was refused."""
        stats = self.stats
        stats.done(error.status, 0, False)
        stats.failed(error.reason)
        recorder = self.router.recorder
        if recorder is not None:
            recorder.refused(self, session, error, now)

    def faulted(self, session: Counterpart, error: MeshError, now: float) -> None:
        """Account what a caller did to its connection as a whole: no request, but a failure with a reason."""
        self.stats.failed(error.reason)
        recorder = self.router.recorder
        if recorder is not None:
            recorder.refused(self, session, error, now)

    # -- drain ----------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Ask every connection to end: with its next answer, or when it has been quiet for a while."""
        self.draining = True
        for session in list(self.sessions):
            session.drain()

    def cut(self) -> None:
        """The drain's deadline: close what is left."""
        for session in list(self.sessions):
            session.abort()
