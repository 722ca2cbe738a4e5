"""One HTTP/2 connection from a caller: what its engine tells becomes exchanges, one for each stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError
from hostmesh.protocol.h2.connect import as_connect, as_upgrade
from hostmesh.protocol.h2.engine import INTERNAL_ERROR, NO_ERROR, ConnectionFault, code_name
from hostmesh.protocol.h2.engines import make_engine
from hostmesh.protocol.h2.heads import H2RequestHead
from hostmesh.proxy import refusals
from hostmesh.proxy.connect_h2 import H2Connect
from hostmesh.proxy.h2_caller_life import NOTICE_PING, H2CallerLife
from hostmesh.proxy.h2_caller_stream import H2CallerStream
from hostmesh.proxy.tunnel_h2 import H2CallerTunnel

if TYPE_CHECKING:
    from hostmesh.protocol.h1_message import RequestHead
    from hostmesh.protocol.h2.engine import Pairs
    from hostmesh.protocol.h2.engines import AnyEngine

_NO_REQUEST = H2RequestHead(((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/")), False)
"""Stands for a head that was over a limit."""


class H2CallerSession(H2CallerLife):
    """The caller's half of exchanges, a stream for each. Owns its transport and its engine."""

    __slots__ = ()

    def _make_engine(self) -> AnyEngine:
        return make_engine(self.server.settings.h2_engine, self.server.settings.h2, self)

    def begin(self, data: bytes) -> None:
        """The connection's first bytes, from the preface on."""
        self.engine.start()
        self._begun()
        self.data_received(data)

    def begin_upgraded(self, settings: bytes) -> None:
        """As :meth:`begin`, for an HTTP/1.1 caller that asked for h2c with these HTTP2-Settings, decoded.

        Raises ConnectionFault for bad ones before anything is written; else :meth:`first_request` is to follow.
        """
        self.engine.start_upgraded(settings)
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        )
        self._begun()

    def first_request(self, head: RequestHead, data: bytes) -> None:
        """The request that came as HTTP/1.1, without a body, is stream 1; ``data`` came behind it."""
        self._fresh.append(self._open(1, head, True))
        if data:
            self.data_received(data)
        else:
            self._work()

    # -- bytes in -------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._now = now = self.server.loop.now()
        engine = self.engine
        try:
            engine.receive(data, now)
        except ConnectionFault as fault:
            self._faulted(fault)
            return
        except Exception as bug:
            self.engine_failed(bug)
            return
        self._work()
        if engine.headers_since is not None:
            self._watch(engine.headers_since + self._head_time())

    def _work(self) -> None:
        """Dispatch what has come whole; then let go of what has ended."""
        if self._fresh:
            fresh, self._fresh = self._fresh, []
            for stream in fresh:
                if stream.id in self.streams:
                    self._guard(stream)
            if self.engine.exhausted:
                # Ids and tables end some day (hardening H8).
                self.drain()
        self.sending.flush_soon()
        self._settle()

    def _guard(self, stream: H2CallerStream) -> None:
        try:
            stream.dispatch(self._now)
        except Exception as bug:
            self._bug(stream, bug)

    def _bug(self, stream: H2CallerStream, bug: Exception) -> None:
        if stream.ex is not None:
            stream.ex.bug(bug)
        else:
            self.server.router.report(bug)
            if stream.id in self.streams:
                stream.reset(INTERNAL_ERROR)

    def eof_received(self) -> None:
        # Without its direction a caller can neither give windows nor acknowledge anything: it has gone.
        self._abandon(refusals.gone("caller closed the connection"))
        self._end()

    def connection_lost(self, error: OSError | None) -> None:
        self._closing = True
        why = f"caller's connection broke: {error}" if error else "caller's connection was closed"
        self._abandon(refusals.gone(why))
        self._stop()
        self.server.gone(self, self._transport)

    def writable(self) -> None:
        self.sending.writable()
        self._settle()

    # -- what the engine tells ------------------------------------------------------------------------------------

    def on_head(self, stream: int, pairs: Pairs, end: bool) -> None:
        head = H2RequestHead(pairs, end)
        if self.server.clear_context:
            # Before anything reads the head (T1, T6).
            head = head.without_context()
        if head.method == b"CONNECT":
            self._connect(stream, head, end)
        elif not head.clean and (error := refusals.expectation(head.get(b"expect"))) is not None:
            self._open(stream, head, end).refuse(error)
        else:
            self._fresh.append(self._open(stream, head, end))

    def _connect(self, id: int, head: H2RequestHead, end: bool) -> None:
        """A request for a tunnel: to a place (RFC 9113 section 8.5), or with a protocol (RFC 8441) that is allowed."""
        protocol = head.protocol
        if protocol is None and self.server.allow_connect is not None:
            self._fresh.append(self._open(id, as_connect(head), end, H2Connect))
        elif protocol is not None and protocol.lower() in self.server.settings.upgrades:
            self._fresh.append(self._open(id, as_upgrade(head), end, H2CallerTunnel))
        else:
            error = refusals.connect() if protocol is None else refusals.connect_to(protocol)
            self._open(id, head, end).refuse(error)

    def _open(
        self, id: int, head: RequestHead, end: bool, kind: type[H2CallerStream] = H2CallerStream
    ) -> H2CallerStream:
        stream = self.streams[id] = kind(self, id, head, end, self._now)
        self._stats.open += 1
        if not end:
            self._watch(self._now + self.server.body_idle)
        return stream

    def on_data(self, stream: int, data: bytes, end: bool) -> None:
        self._stats.data_in.value += len(data)
        open_stream = self.streams.get(stream)
        if open_stream is None:
            if end:
                self._early.pop(stream, None)
            return
        try:
            open_stream.body(data, end, self._now)
            if open_stream.ex is None and open_stream not in self._fresh:
                open_stream.later(self._now)
        except Exception as bug:
            self._bug(open_stream, bug)

    def on_trailers(self, stream: int, pairs: Pairs) -> None:
        open_stream = self.streams.get(stream)
        if open_stream is None:
            self._early.pop(stream, None)
            return
        try:
            open_stream.trailers(pairs, self._now)
            if open_stream.ex is None and open_stream not in self._fresh:
                open_stream.later(self._now)
        except Exception as bug:
            self._bug(open_stream, bug)

    def on_reset(self, stream: int, code: int) -> None:
        self._stats.resets.value += 1
        self._lost(stream, refusals.gone(f"caller reset the stream ({code_name(code)})"))

    def on_stream_fault(self, stream: int, error: MeshError, code: int) -> None:
        if code != NO_ERROR:
            if stream in self.streams:
                self._lost(stream, error)
            else:
                self.server.refused(self, error, self._now)
            return
        # A head that is over a limit, read to its end and not kept.
        self._open(stream, _NO_REQUEST, False).refuse(error)

    def _lost(self, id: int, error: MeshError) -> None:
        self.sending.forget(id)
        self._early.pop(id, None)
        stream = self.streams.get(id)
        if stream is not None:
            stream.abort(error)
            self.forget(stream)

    def on_window(self, stream: int) -> None:
        self.sending.window_opened(stream)

    def on_goaway(self, last: int, code: int, debug: bytes) -> None:
        # The caller opens no more streams.
        self._last_notice()

    def on_settings(self) -> None:
        """Nothing to do: windows that a new initial size opens come as :meth:`on_window`."""

    def on_informational(self, stream: int, pairs: Pairs) -> None:
        """Never called: callers send no responses."""

    def on_pong(self, payload: bytes) -> None:
        if payload == NOTICE_PING:
            self._last_notice()
