"""The life of a caller's HTTP/2 connection: what it counts, its time, and its end.

It ends in steps, so that no request is lost (RFC 9113 section 6.8): a first GOAWAY refuses nothing and is followed by
a PING; when that comes back, every stream that the caller had opened before it knew is here, and a second GOAWAY names
the last of them; when they have ended, the connection is closed.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError
from hostmesh.protocol.h2.engine import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    INTERNAL_ERROR,
    MAX_STREAM,
    NO_ERROR,
    ConnectionFault,
)
from hostmesh.protocol.h2.listening import SessionListener
from hostmesh.proxy import refusals
from hostmesh.proxy.caller_answers import CallerConnection
from hostmesh.proxy.h2_caller_stream import H2CallerStream
from hostmesh.proxy.h2_sending import Sending

if TYPE_CHECKING:
    from hostmesh.protocol.h2.engines import AnyEngine
    from hostmesh.proxy.server import Server
    from hostmesh.pump.loop import TimerHandle, Transport
    from hostmesh.telemetry.metrics import Scope

IDLE = 60.0
"""Seconds without a stream after which a connection is ended (hardening H11), if ``idleTimeMs`` is not less. Callers
reconnect without loss; those that vanished would hold tables of some tens of kilobytes each."""

EARLY_WAIT = 0.1
"""Seconds from an answer that came before the end of its request to the reset that stops the request (RFC 9113 section
8.1, which lets a server do that at once). Callers that have read an answer stop by themselves, and some that meet the
reset while they are writing, curl 7.88 among them, never look at the answer."""

NOTICE_TIME = 5.0
"""Seconds that a caller has for the PING behind the first GOAWAY. Every HTTP/2 peer answers it by itself; one that does
not is told the second GOAWAY then."""

NOTICE_PING = b"hm-drain"


class H2Stats:
    """What a server counts of HTTP/2 only (linkerd1.md 9.2)."""

    __slots__ = ("data_in", "data_out", "duration", "failures", "goaways", "open", "resets", "success")

    def __init__(self, scope: Scope) -> None:
        self.open = 0
        scope.gauge("open_streams", lambda: float(self.open))
        stream = scope.scope("stream")
        self.success = stream.counter("stream_success")
        self.failures = stream.counter("stream_failures")
        self.duration = stream.stat("stream_duration_ms", scale=1000)
        self.resets = stream.counter("resets")
        """Streams that callers have reset."""
        self.goaways = scope.counter("goaways")
        """Connections ended for what the caller did."""
        self.data_in = scope.scope("request").scope("stream").counter("data_bytes")
        self.data_out = scope.scope("response").scope("stream").counter("data_bytes")


class H2CallerLife(CallerConnection, SessionListener):
    """What :class:`hostmesh.proxy.h2_caller.H2CallerSession` is apart from what it reads."""

    __slots__ = (
        "_closing",
        "_early",
        "_fresh",
        "_idle_since",
        "_leaving",
        "_noticed",
        "_now",
        "_opened",
        "_stats",
        "_timer",
        "_timer_due",
        "engine",
        "sending",
        "server",
        "streams",
    )

    version = 20

    def __init__(self, server: Server, transport: Transport, opened: float) -> None:
        super().__init__(server, transport)
        transport.patient = False
        self.server = server
        self.engine: AnyEngine = self._make_engine()
        self.sending = Sending(self.engine, transport, self, server.loop)
        self.streams: dict[int, H2CallerStream] = {}
        """Streams whose response is not complete."""
        self._early: dict[int, float] = {}
        """Answered streams whose request is not complete, and when they are reset if their answer has left by then."""
        self._fresh: list[H2CallerStream] = []
        """Opened by the bytes that are being read."""
        self._stats = server.h2_stats
        self._opened = opened
        self._now = self._idle_since = server.loop.now()
        self._noticed: float | None = None
        """When the first GOAWAY went out."""
        self._leaving = False
        """No further stream will come: the last GOAWAY has gone out, or the caller has sent one."""
        self._closing = False
        self._timer: TimerHandle | None = None
        self._timer_due = inf

    def _make_engine(self) -> AnyEngine:
        """The engine, which tells this session."""
        raise NotImplementedError

    def _begun(self) -> None:
        self._watch(min(self._idle_since + self._idle_time(), self._life_due()))
        if self.server.draining:
            self.drain()

    # -- what the streams and the sending tell --------------------------------------------------------------------

    def answered(self, stream: H2CallerStream) -> None:
        """The response of ``stream`` has been handed over whole."""
        if not stream.ended:
            self._early[stream.id] = due = self.server.loop.now() + EARLY_WAIT
            self._watch(due)
        self.forget(stream, whole=True)

    def forget(self, stream: H2CallerStream, *, whole: bool = False) -> None:
        """``stream`` is over as far as exchanges are concerned; ``whole`` with a complete response."""
        if self.streams.pop(stream.id, None) is None:
            return
        stats = self._stats
        stats.open -= 1
        (stats.success if whole else stats.failures).value += 1
        now = self.server.loop.now()
        micros = int((now - stream.begun) * 1e6)
        stats.duration.add(micros)
        ex = stream.ex
        if ex is not None:
            stats.data_out.value += ex.response_bytes
            if ex.path is not None:
                ex.path.streams.ended(stream, ex, now, micros, whole)
            # The exchange still knows the stream. With both ways open each request would wait for the collector.
            stream.ex = None
        if not self.streams:
            self._idle_since = now
            if self._leaving:
                # Perhaps from within a call of the engine.
                self.server.loop.turn.call_soon(self._settle)

    def stream_writable(self, stream: int) -> None:
        half = self.streams.get(stream)
        if half is not None:
            half.writable()

    def stream_overdue(self, stream: int, error: MeshError) -> None:
        half = self.streams.get(stream)
        if half is not None:
            half.abort(error)
            half.reset(CANCEL)
        else:
            self._early.pop(stream, None)
            self.engine.reset(stream, CANCEL)
            self.sending.flush_soon()
        # It may have been the last one that a connection on its way out waited for.
        self.server.loop.turn.call_soon(self._settle)

    def connection_overdue(self, error: MeshError) -> None:
        self._fault(ENHANCE_YOUR_CALM, error)

    def _settle(self) -> None:
        """Reset what was answered before its end, and end the connection when its last stream has."""
        if self._closing:
            return
        early = self._early
        if early:
            pending = self.sending.pending
            now = self.server.loop.now()
            for id in [id for id, due in early.items() if now >= due and not pending(id)]:
                del early[id]
                self.engine.reset(id, NO_ERROR)
            self.sending.flush_soon()
        if self._leaving and not self.streams and not self.engine.open_streams:
            self.sending.flush()
            self._end()

    # -- the end --------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Tell the caller to go elsewhere with its next request; what it has asked is answered."""
        if self._noticed is None and not self._leaving and not self._closing:
            self._noticed = now = self.server.loop.now()
            self.engine.goaway(NO_ERROR, last=MAX_STREAM)
            self.engine.ping(NOTICE_PING)
            self.sending.flush_soon()
            self._watch(now + NOTICE_TIME)

    def _last_notice(self) -> None:
        if not self._leaving:
            self._leaving = True
            self.engine.goaway(NO_ERROR)
            self.sending.flush_soon()
            self.server.loop.turn.call_soon(self._settle)

    def abort(self) -> None:
        """The time for the drain is over: answer what has no answer yet, cut the others, close."""
        if self._closing:
            return
        error = refusals.end_of_drain()
        for stream in list(self.streams.values()):
            stream.refuse(error)
        self._last_notice()
        self.sending.flush()
        self._end()

    def _faulted(self, fault: ConnectionFault) -> None:
        """The engine has said GOAWAY."""
        self._stats.goaways.value += 1
        self._fresh.clear()
        if not fault.told:
            # Else a request was answered for it, and counted.
            self.server.faulted(self, fault, self._now)
        self._abandon(fault)
        self.sending.flush()
        self._end()

    def _fault(self, code: int, error: MeshError) -> None:
        """End the connection with GOAWAY ``code``; every exchange on it is cancelled."""
        self._stats.goaways.value += 1
        self._fresh.clear()
        self._abandon(error)
        self.engine.goaway(code, error.message.encode("utf-8", "replace")[:100])
        self.sending.flush()
        self._end()

    def engine_failed(self, error: Exception) -> None:
        """Blame: our engine has failed. The connection ends with all of its requests; nobody else is at fault."""
        report = self.server.router.report
        report(error)
        if self._closing:
            return
        self._fresh.clear()
        self._abandon(refusals.bug())
        try:
            self.engine.goaway(INTERNAL_ERROR)
            self.sending.flush()
        except Exception as second:
            report(second)
        self._end()

    def _abandon(self, error: MeshError) -> None:
        streams, self.streams = self.streams, {}
        self._early.clear()
        self._stats.open -= len(streams)
        self._stats.failures.value += len(streams)
        now = self.server.loop.now()
        for stream in streams.values():
            stream.abort(error)
            ex = stream.ex
            if ex is not None and ex.path is not None:
                ex.path.streams.ended(stream, ex, now, int((now - stream.begun) * 1e6), False)

    def _stop(self) -> None:
        self.sending.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        """Close once what was written has left. The server counts the connection until it has gone."""
        self._closing = True
        self._stop()
        self._transport.close()
        if not self._transport.unsent:
            self.server.gone(self, self._transport)

    # -- time -----------------------------------------------------------------------------------------------------

    def _watch(self, due: float) -> None:
        """Look again at ``due``, if not before."""
        if due < self._timer_due and not self._closing:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_due = due
            self._timer = self.server.loop.call_at(due, self._check_time)

    def _idle_time(self) -> float:
        return min(self.server.settings.idle_time, IDLE)

    def _head_time(self) -> float:
        """Seconds for one header block, as for a head of HTTP/1 (hardening H3, R1)."""
        return min(self.server.settings.h2.budgets.header_seconds, self.server.head_time)

    def _is_idle(self) -> bool:
        return not self.streams and not self.engine.open_streams

    def _life_due(self) -> float:
        life = self.server.settings.life_time
        return inf if life is None else self._opened + life

    def _check_time(self) -> None:
        """One timer per connection, re-armed when it fires and not at every frame."""
        self._timer = None
        self._timer_due = inf
        server = self.server
        now = server.loop.now()
        since = self.engine.headers_since
        due = inf
        if self._early:
            self._settle()
            due = min((when for when in self._early.values() if when > now), default=inf)
        if since is not None:
            seconds = self._head_time()
            if now >= since + seconds:
                late = refusals.late_head(seconds)
                server.faulted(self, late, now)
                self._fault(ENHANCE_YOUR_CALM, late)
                return
            due = min(due, since + seconds)
        for stream in [stream for stream in self.streams.values() if stream.waits]:
            patience = stream.patience
            if now >= stream.since + patience:
                stream.refuse(refusals.late_body(patience))
            else:
                due = min(due, stream.since + patience)
        if self._noticed is not None:
            if not self._leaving and now >= self._noticed + NOTICE_TIME:
                self._last_notice()
            elif not self._leaving:
                due = min(due, self._noticed + NOTICE_TIME)
        elif now >= self._life_due() or (self._is_idle() and now >= self._idle_since + self._idle_time()):
            self.drain()
            due = min(due, now + NOTICE_TIME)
        elif self._is_idle():
            due = min(due, self._life_due(), self._idle_since + self._idle_time())
        else:
            due = min(due, self._life_due(), now + self._idle_time())
        if self.streams:
            # One that does not wait for its caller now may do so by then.
            due = min(due, now + server.body_idle)
        if due < inf:
            self._watch(due)
