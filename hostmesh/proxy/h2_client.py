"""One HTTP/2 connection to an endpoint, carrying the streams of many exchanges at a time.

It opens streams while it may, ends when its peer says GOAWAY, at its age or when it has been idle for long enough, and
then lets the streams it has come to their end: who asks next gets another connection (h2_pool.py). There is one timer
per connection, re-armed when it fires.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError, Sent, Side
from hostmesh.base.reasons import Reason
from hostmesh.protocol.h1_message import excerpt
from hostmesh.protocol.h2.connect import connect_pairs
from hostmesh.protocol.h2.engine import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    INTERNAL_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    ConnectionFault,
    code_name,
)
from hostmesh.protocol.h2.engines import make_engine
from hostmesh.protocol.h2.heads import line_pairs, request_pairs, trailer_pairs
from hostmesh.proxy.h2_client_stream import H2EndpointStream
from hostmesh.proxy.h2_liveness import PING_QUIET, PING_TIMEOUT, Liveness
from hostmesh.proxy.h2_sending import Sending
from hostmesh.proxy.tunnel_h2 import H2EndpointTunnel

if TYPE_CHECKING:
    from hostmesh.protocol.h2.engine import Pairs
    from hostmesh.proxy.exchange import Exchange
    from hostmesh.proxy.h2_pool import H2EndpointStack
    from hostmesh.pump.loop import TimerHandle, Transport

FIRST_STREAMS = 100
"""Streams opened before the peer's SETTINGS have arrived: what RFC 9113 section 6.5.2 recommends as a peer's least."""

LAST_REQUEST = 2**30 - 1
"""Requests after which a connection is retired: the ids of its streams are used up (RFC 9113 section 5.1.1)."""


class H2ClientSession:
    """A pump session that owns its transport and an engine. ``endpoint`` hears of streams that end and of the end."""

    __slots__ = (
        "_fresh",
        "_greeted",
        "_liveness",
        "_loop",
        "_step",
        "_timer",
        "_transport",
        "_ungreeted",
        "closed",
        "endpoint",
        "engine",
        "idle_since",
        "name",
        "opened",
        "requests",
        "retired",
        "sending",
        "streams",
    )

    def __init__(
        self, endpoint: H2EndpointStack, transport: Transport, now: float, name: bytes | None
    ) -> None:
        client = endpoint.client
        self.endpoint = endpoint
        self.name = name
        """The endpoint's own name, by which it is called; see named_session.py."""
        self._transport = transport
        self._loop = client.loop
        self.engine = make_engine(client.settings.h2_engine, client.settings.h2, self)
        self.sending = Sending(self.engine, transport, self, client.loop)
        self.streams: dict[int, H2EndpointStream] = {}
        self.closed = False
        self.retired = False
        """No new streams: it closes with its last one."""
        self.requests = 0
        self.opened = now
        self.idle_since = now
        self._greeted = False
        """The peer's SETTINGS have arrived."""
        self._liveness = Liveness(now)
        self._ungreeted: dict[Exchange, bytes] = {}
        """Requests for tunnels that wait for the peer's SETTINGS, and what they ask for."""
        self._fresh: list[H2EndpointStream] = []
        """Streams whose response head came with this read."""
        self._step = min(PING_QUIET, client.idle_time or inf)
        self._timer: TimerHandle | None = None
        self.engine.start()
        self.sending.flush_soon()
        self._watch(now)

    # -- requests -------------------------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        """Streams that may be opened now."""
        if self.retired or self.closed:
            return 0
        capacity = self.engine.capacity
        if self._greeted:
            return capacity
        return min(capacity, self.endpoint.first_streams - len(self.streams) - len(self._ungreeted))

    @property
    def carried(self) -> int:
        """Bytes that the kernel has taken."""
        return self._transport.bytes_out

    def start(self, ex: Exchange) -> None:
        """Open a stream for ``ex``: its head and the body bytes it holds. Only while :attr:`free`."""
        if ex.upgrade is not None:
            self._ask(ex, ex.upgrade)
            return
        branch = ex.branch
        assert branch is not None
        body = ex.body
        done = ex.request_done
        trailers = ex.request_trailers if done else b""
        pairs = request_pairs(
            ex.head,
            target=ex.target,
            host=self.name,
            clear=ex.server.clear_context,
            expect=ex.streamed,
            drop=ex.drop,
        )
        pairs += branch.pairs
        pairs += ex.trace_pairs or line_pairs(ex.trace)
        if not self.streams:
            now = self._loop.now()
            if self._liveness.doubtful(now, self.idle_since):
                self._ping(now)
        id = self.engine.open(pairs, done and not body and not trailers)
        stream = H2EndpointStream(self, id, ex, reused=self.requests > 0, mark=self._transport.bytes_out)
        self.streams[id] = stream
        self.requests += 1
        if self.requests >= LAST_REQUEST:
            self.retire()
        if body and done:
            stream.send_whole(body, trailers)
        elif body:
            self.sending.write(id, body, False)
        elif trailers:
            self.sending.trailers(id, trailer_pairs(trailers))
        self.sending.flush_soon()
        ex.attached(stream)

    def _ask(self, ex: Exchange, upgrade: bytes) -> None:
        """Open a stream for ``ex``, which is to become a tunnel (RFC 8441)."""
        if not self._greeted:
            # Whether the endpoint takes that is in its SETTINGS.
            self._ungreeted[ex] = upgrade
            return
        text = self.endpoint.text
        if not self.engine.connect_protocol:
            what = f"{text} does not take extended CONNECT (RFC 8441), which {excerpt(upgrade)} needs"
            error = MeshError(Reason.UNSUPPORTED, what, status=502, side=Side.CALLEE, sent=Sent.NOTHING)
            ex.connect_failed(error, blame=False)
            return
        branch = ex.branch
        assert branch is not None
        pairs = connect_pairs(
            ex.head,
            upgrade,
            branch.lines + ex.trace,
            target=ex.target,
            host=self.name,
            clear=ex.server.clear_context,
            drop=ex.drop,
        )
        id = self.engine.open(pairs, False)
        mark = self._transport.bytes_out
        stream = H2EndpointTunnel(self, id, ex, reused=self.requests > 0, mark=mark, asked=upgrade)
        self.streams[id] = stream
        self.requests += 1
        self.sending.flush_soon()
        ex.attached(stream)

    def give_up(self, ex: Exchange) -> None:
        """``ex`` does not wait for the SETTINGS any more."""
        self._ungreeted.pop(ex, None)

    def _greet(self) -> None:
        waiting, self._ungreeted = self._ungreeted, {}
        for ex in waiting:
            ex.router.guard(self.endpoint.dispatch, ex)

    def _fail_ungreeted(self) -> None:
        waiting, self._ungreeted = self._ungreeted, {}
        for ex in waiting:
            if ex.endpoint is not self.endpoint or ex.session is not None:
                # It has given up meanwhile.
                continue
            what = f"{self.endpoint.text} ended the connection before its SETTINGS"
            error = MeshError(Reason.RESET_BY_ENDPOINT, what, status=502, side=Side.CALLEE, sent=Sent.NOTHING)
            ex.router.guard(_tell, ex, error)

    def ended(self, stream: H2EndpointStream, *, reset: bool) -> None:
        """``stream`` is over, with CANCEL if it has not ended by itself."""
        if self.streams.pop(stream.id, None) is None or self.closed:
            return
        self.sending.forget(stream.id)
        if reset:
            self.engine.reset(stream.id, CANCEL)
            self.sending.flush_soon()
        if not self.streams:
            self.idle_since = self._loop.now()
            if self.retired:
                self._finish()
                return
        self.endpoint.stream_ended(self)

    # -- what comes in --------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        liveness = self._liveness
        liveness.heard = now = self._loop.now()
        liveness.awaiting = False
        try:
            self.engine.receive(data, now)
        except ConnectionFault as fault:
            self._fresh.clear()
            self._end(fault.reason, f"broke HTTP/2: {fault.message}")
            return
        except Exception as error:
            self._fresh.clear()
            self.endpoint.client.report(error)
            self.engine.goaway(INTERNAL_ERROR)
            self._end(Reason.BUG, "sent what hostmesh failed to read; the log has the traceback")
            return
        if self._fresh:
            fresh, self._fresh = self._fresh, []
            for stream in fresh:
                ex = stream.ex
                try:
                    stream.hand_on()
                except Exception as error:
                    assert ex is not None
                    ex.bug(error)
        if self.engine.headers_since is not None:
            self._watch(now)
        self.sending.flush_soon()

    def on_head(self, stream: int, pairs: Pairs, end: bool) -> None:
        half = self.streams.get(stream)
        if half is not None and (ex := half.ex) is not None:
            try:
                if half.head(ex, pairs, end):
                    self._fresh.append(half)
            except Exception as error:
                ex.bug(error)

    def on_informational(self, stream: int, pairs: Pairs) -> None:
        half = self.streams.get(stream)
        if half is not None and (ex := half.ex) is not None:
            try:
                half.informational(ex, pairs)
            except Exception as error:
                ex.bug(error)

    def on_data(self, stream: int, data: bytes, end: bool) -> None:
        half = self.streams.get(stream)
        if half is not None and (ex := half.ex) is not None:
            try:
                half.data(ex, data, end)
            except Exception as error:
                ex.bug(error)

    def on_trailers(self, stream: int, pairs: Pairs) -> None:
        half = self.streams.get(stream)
        if half is not None and (ex := half.ex) is not None:
            try:
                half.trailers(ex, pairs)
            except Exception as error:
                ex.bug(error)

    def on_reset(self, stream: int, code: int) -> None:
        half = self.streams.get(stream)
        if half is not None:
            half.was_reset(code)

    def on_stream_fault(self, stream: int, error: MeshError, code: int) -> None:
        half = self.streams.get(stream)
        if half is not None:
            half.lost(half.error(f"broke HTTP/2: {error.message}", reason=error.reason))

    def on_window(self, stream: int) -> None:
        self.sending.window_opened(stream)

    def on_settings(self) -> None:
        self._greeted = True
        self.endpoint.greeted(self)
        if self._ungreeted:
            self._greet()

    def on_pong(self, payload: bytes) -> None:
        self._liveness.ponged()

    def on_goaway(self, last: int, code: int, debug: bytes) -> None:
        self.retired = True
        # In the order of the requests; each may open a stream on another connection at once.
        for half in [half for id, half in self.streams.items() if id > last]:
            half.refused()
            half.lost(half.error(f"said GOAWAY ({code_name(code)}) before it took the request", Sent.NOTHING))
        self.retire()

    # -- what goes out --------------------------------------------------------------------------------------------

    def writable(self) -> None:
        self.sending.writable()

    def stream_writable(self, stream: int) -> None:
        half = self.streams.get(stream)
        if half is not None and (ex := half.ex) is not None:
            try:
                half.writable()
            except Exception as error:
                ex.bug(error)

    def stream_overdue(self, stream: int, error: MeshError) -> None:
        half = self.streams.get(stream)
        if half is not None:
            self.engine.reset(stream, CANCEL)
            self.sending.flush_soon()
            half.lost(half.error(error.message, reason=error.reason))

    def connection_overdue(self, error: MeshError) -> None:
        self.engine.goaway(ENHANCE_YOUR_CALM)
        self._end(error.reason, error.message)

    # -- time -----------------------------------------------------------------------------------------------------

    def _ping(self, now: float) -> None:
        self.engine.ping(self._liveness.ping(now))
        self.sending.flush_soon()
        self._watch(now)

    def _watch(self, now: float) -> None:
        """Set the timer to what is due next. It never waits for longer than the shortest of all times, so nothing has
        to set it anew that only moves a time further away, as every read and every stream does."""
        if self._timer is not None:
            self._timer.cancel()
        due = now + self._step
        since = self.engine.headers_since
        if since is not None:
            due = min(due, since + self.endpoint.client.settings.h2.budgets.header_seconds)
        due = min(due, self._liveness.due(bool(self.streams)), self._rest_until(), self._life_until())
        self._timer = self._loop.call_at(due, self._check)

    def _rest_until(self) -> float:
        idle_time = self.endpoint.client.idle_time
        return inf if self.streams or idle_time is None else self.idle_since + idle_time

    def _life_until(self) -> float:
        life_time = self.endpoint.client.life_time
        return inf if self.retired or life_time is None else self.opened + life_time

    def _check(self) -> None:
        self._timer = None
        now = self._loop.now()
        since = self.engine.headers_since
        if since is not None and now >= since + self.endpoint.client.settings.h2.budgets.header_seconds:
            self.engine.goaway(PROTOCOL_ERROR)
            self._end(Reason.BAD_RESPONSE, "did not complete a header block in time")
            return
        if self._liveness.dead(now):
            self._end(Reason.RESET_BY_ENDPOINT, f"did not answer a PING within {PING_TIMEOUT:g} s")
            return
        if now >= self._liveness.due(bool(self.streams)):
            self._ping(now)
            return
        if now >= self._rest_until():
            if self.endpoint.may_shrink():
                self._finish()
                return
            self.idle_since = now
        if now >= self._life_until():
            self.retire()
            if self.closed:
                return
        self._watch(now)

    # -- the end --------------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """Open no more streams; close with the last one, which may be now."""
        self.retired = True
        if not self.streams:
            self._finish()
        else:
            self.endpoint.stream_ended(self)

    def _finish(self) -> None:
        """Close: no stream is open."""
        if not self.closed:
            self.engine.goaway(NO_ERROR)
            self._shut()
            self._transport.close()
            self.endpoint.session_over(self)

    def _end(self, reason: Reason, what: str) -> None:
        """The endpoint did ``what``, which is the end of the connection and of every stream."""
        if not self.closed:
            self._shut()
            self._transport.close()
            self._lose(reason, what)

    def _shut(self) -> None:
        """Write what the engine still has to say, and nothing after it."""
        self.sending.flush()
        self.sending.close()
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ungreeted:
            # Never from within the call that ends the connection: they go elsewhere at once.
            self._loop.turn.call_soon(self._fail_ungreeted)

    def _lose(self, reason: Reason, what: str) -> None:
        streams, self.streams = self.streams, {}
        self.endpoint.session_over(self)
        for half in streams.values():
            half.lost(half.broke(what, reason))

    def eof_received(self) -> None:
        self._end(Reason.RESET_BY_ENDPOINT, "closed the connection")

    def connection_lost(self, error: OSError | None) -> None:
        if not self.closed:
            self._shut()
            what = "closed the connection"
            if error is not None:
                what = f"broke the connection ({error.strerror or error})"
            self._lose(Reason.RESET_BY_ENDPOINT, what)


def _tell(ex: Exchange, error: MeshError) -> None:
    ex.connect_failed(error, blame=True)
