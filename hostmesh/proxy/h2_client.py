"""One HTTP/2 connection to an endpoint, carrying the streams of many exchanges at a time.

It opens streams while it may and hands what comes on them to their halves. When and how it ends is in
h2_client_life.py; who asks next then gets another connection (h2_pool.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError, Sent, Side
from hostmesh.base.reasons import Reason
from hostmesh.protocol.h1_message import excerpt
from hostmesh.protocol.h2.connect import connect_pairs
from hostmesh.protocol.h2.engine import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    INTERNAL_ERROR,
    ConnectionFault,
    code_name,
)
from hostmesh.protocol.h2.engines import make_engine
from hostmesh.protocol.h2.heads import line_pairs, request_pairs, trailer_pairs
from hostmesh.proxy.branch import client_cert_line
from hostmesh.proxy.h2_client_life import H2ClientLife
from hostmesh.proxy.h2_client_stream import H2EndpointStream
from hostmesh.proxy.h2_sending import Sending
from hostmesh.proxy.tunnel_h2 import H2EndpointTunnel

if TYPE_CHECKING:
    from hostmesh.protocol.h2.engine import Pairs
    from hostmesh.proxy.exchange import Exchange
    from hostmesh.proxy.h2_pool import H2EndpointStack
    from hostmesh.pump.loop import Transport

FIRST_STREAMS = 100
"""Streams opened before the peer's SETTINGS have arrived: what RFC 9113 section 6.5.2 recommends as a peer's least."""

LAST_REQUEST = 2**30 - 1
"""Requests after which a connection is retired: the ids of its streams are used up (RFC 9113 section 5.1.1)."""


class H2ClientSession(H2ClientLife):
    """A pump session that owns its transport and an engine. ``endpoint`` hears of streams that end and of the end."""

    __slots__ = ("_fresh", "_greeted", "_ungreeted", "name", "requests")

    def __init__(
        self, endpoint: H2EndpointStack, transport: Transport, now: float, name: bytes | None
    ) -> None:
        super().__init__(endpoint, transport, now)
        client = endpoint.client
        self.name = name
        """The endpoint's own name, by which it is called; see named_session.py."""
        self.engine = make_engine(client.settings.h2_engine, client.settings.h2, self)
        self.sending = Sending(self.engine, transport, self, client.loop)
        self.requests = 0
        self._greeted = False
        """The peer's SETTINGS have arrived."""
        self._ungreeted: dict[Exchange, bytes] = {}
        """Requests for tunnels that wait for the peer's SETTINGS, and what they ask for."""
        self._fresh: list[H2EndpointStream] = []
        """Streams whose response head came with this read."""
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

    def _changed(self) -> None:
        self.endpoint.stream_ended(self)

    def _over(self) -> None:
        self.endpoint.session_over(self)

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
        if branch.certifies:
            pairs += line_pairs(client_cert_line(ex))
        pairs += ex.trace_pairs or line_pairs(ex.trace)
        rested = not self.streams
        nothing = done and not body and not trailers
        # A gRPC request ends with a DATA frame, empty if need be: an end on the head grpc-go's servers never notice.
        id = self.engine.open(pairs, nothing and not ex.is_grpc)
        stream = H2EndpointStream(self, id, ex, reused=self.requests > 0, mark=self._transport.bytes_out)
        self.streams[id] = stream
        if rested:
            # After the head: of a PING while no stream is open gRPC's servers allow one in two hours.
            now = self._loop.now()
            if self._liveness.doubtful(now):
                self._ping(now)
        self.requests += 1
        if self.requests >= LAST_REQUEST:
            self.retire()
        if body and done:
            stream.send_whole(body, trailers)
        elif body:
            self.sending.write(id, body, False)
        elif trailers:
            self.sending.trailers(id, trailer_pairs(trailers))
        elif nothing and ex.is_grpc:
            self.sending.write(id, b"", True)
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
        pairs += ex.trace_pairs or ()
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

    def _shut(self) -> None:
        super()._shut()
        if self._ungreeted:
            # Never from within the call that ends the connection: they go elsewhere at once.
            self._loop.turn.call_soon(self._fail_ungreeted)

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
            # Its traceback knows every frame, and one of them knows it: a cycle that would hold this connection.
            fault.__traceback__ = fault.__cause__ = fault.__context__ = None
            return
        except Exception as error:
            self.engine_failed(error)
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

    def engine_failed(self, error: Exception) -> None:
        """Blame: our engine has failed. What it holds is lost, but the endpoint has not failed and is not ejected."""
        self._fresh.clear()
        report = self.endpoint.client.report
        report(error)
        if self.closed:
            return
        try:
            self.engine.goaway(INTERNAL_ERROR)
            self.sending.flush()
        except Exception as second:
            report(second)
        self.sending.close()
        self._shut()
        self._transport.close()
        streams, self.streams = self.streams, {}
        self._over()
        for half in streams.values():
            half.lost(half.bug())

    def on_head(self, stream: int, pairs: Pairs, end: bool) -> None:
        half = self.streams.get(stream)
        if half is not None and (ex := half.ex) is not None:
            self._liveness.answered = True
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
            self._liveness.answered = True
            try:
                half.data(ex, data, end)
            except Exception as error:
                ex.bug(error)

    def on_trailers(self, stream: int, pairs: Pairs) -> None:
        half = self.streams.get(stream)
        if half is not None and (ex := half.ex) is not None:
            self._liveness.answered = True
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
            half.failed(half.error(f"broke HTTP/2: {error.message}", reason=error.reason))

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
            half.refused(overloaded=False)
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
            half.failed(half.error(error.message, reason=error.reason))

    def connection_overdue(self, error: MeshError) -> None:
        self.engine.goaway(ENHANCE_YOUR_CALM)
        self._end(error.reason, error.message)


def _tell(ex: Exchange, error: MeshError) -> None:
    ex.connect_failed(error, blame=True)
