"""One HTTP/1.1 connection from a caller: requests in order, one exchange at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError
from hostmesh.protocol.h1_body import Body, request_body
from hostmesh.protocol.h1_head import CHUNKED, parse_request, without_context
from hostmesh.protocol.h1_message import TUNNEL
from hostmesh.protocol.h1_write import CONTINUE
from hostmesh.proxy import refusals
from hostmesh.proxy.caller_life import CallerLife
from hostmesh.proxy.exchange import Exchange
from hostmesh.proxy.tcp_connect import ConnectCaller, connect

if TYPE_CHECKING:
    from hostmesh.protocol.h1_message import RequestHead
    from hostmesh.proxy.server import Server
    from hostmesh.pump.loop import Transport

KNOWN_MAX = 1024
"""Bytes of the longest head that a connection remembers: the usual ones, and 5,000 idle connections stay small."""

ASK_AGAIN = 1.0
"""Seconds after which a caller that has closed its direction is asked once more whether it listens. With TLS that is
said before the socket is closed, and a caller that is leaving may still read then what would be refused later."""


class CallerSession(CallerLife):
    """The caller's half of exchanges. Owns its transport."""

    __slots__ = ("_half_closed", "_known", "_known_head")

    def __init__(self, server: Server, transport: Transport, now: float) -> None:
        super().__init__(server, transport, now)
        self._known = b""
        """The bytes of the last head, if short; callers repeat themselves, and comparing is cheaper than parsing."""
        self._known_head: RequestHead
        self._half_closed = False
        """The caller has said that it sends no more; what it has sent is still answered."""

    # -- bytes in -------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        body = self._body
        try:
            if body is not None:
                self._more(body, data, 0)
            elif self._ex is None:
                self._next(self._buf + data if self._buf else data)
            else:
                self._pipelined(data)
        except MeshError as error:
            self._refuse(error)
        except Exception as error:
            self._bug(error)

    def _pipelined(self, data: bytes) -> None:
        self._buf += data
        if len(self._buf) > self._server.max_pipelined:
            self.pause()

    def _next(self, buf: bytes) -> None:
        """The start of a request, perhaps only a part of its head."""
        server = self._server
        known = self._known
        if known and buf.startswith(known):
            # The very bytes of this connection's last head, up to its empty line: they mean what they meant.
            head = self._known_head
        else:
            parsed = parse_request(buf, server.limits, 0, self._searched)
            if parsed is None:
                self._unfinished(buf)
                return
            head = parsed
            if head.end <= KNOWN_MAX:
                self._known = buf if len(buf) == head.end else buf[: head.end]
                self._known_head = head
        self._searched = 0
        now = server.loop.now()
        if server.clear_context:
            # Before anything reads the head: identifiers see what a caller without context would have sent (T1, T6).
            head = without_context(head)
        ex = Exchange(self, server, head, now)
        self._ex = ex
        self._unused = False
        self._close = not head.keep_alive
        stats = server.stats
        stats.pending += 1
        end = head.end
        length = head.content_length
        if length == 0:
            self._buf = buf[end:] if len(buf) > end else b""
            ex.router.route(ex, now)
            return
        self._buf = b""
        if length == TUNNEL:
            self._connect(ex, head, buf[end:], now)
            return
        ex.simple = False
        ex.request_done = False
        body: Body = request_body(head, server.limits)
        self._body = body
        if 0 < length <= server.stream_after or (length == CHUNKED and server.aggregate):
            # Read whole before it is forwarded, and so replayable (streamAfterContentLengthKB).
            if server.aggregate:
                self._check_aggregate(length)
            self._held = []
            if head.expect_continue and len(buf) - end < length:
                self._transport.write(CONTINUE)
        else:
            ex.streamed = True
            if len(buf) == end:
                # Nobody knows yet where the body goes: do not read it before there is a connection to write it to.
                self.pause()
            ex.router.route(ex, now)
        if len(buf) > end and self._body is body:
            self._more(body, buf, end)
        if self._body is body:
            self._watch_body()

    def _connect(self, asked: Exchange, head: RequestHead, early: bytes, now: float) -> None:
        """CONNECT: not a request that goes on, but a connection that does."""
        self._close = True
        self._buf = early
        try:
            self._ex = ex = connect(ConnectCaller(self, self._transport), self._server, head, now)
        except MeshError as error:
            asked.fail(error)
            return
        ex.router.route(ex, now)

    def forget_heads(self) -> None:
        """Other limits hold from now on: what has passed the old ones is judged anew."""
        self._known = b""

    def _unfinished(self, buf: bytes) -> None:
        """Wait for the rest of a head, within its time."""
        if self._half_closed:
            raise refusals.cut_short()
        if not self._searched:
            self.head_since = self._server.loop.now()
            self._stop_timer()
            self._timer = self._server.loop.call_at(self._head_due(), self._check_time)
        self._buf = buf
        self._searched = len(buf)

    def _check_aggregate(self, size: int) -> None:
        maximum = self._server.max_aggregate
        if size > maximum:
            raise refusals.long_body(maximum)

    def _watch_body(self) -> None:
        self._seen_bytes = self._transport.bytes_in
        self._stop_timer()
        self._timer = self._server.loop.call_at(
            self._server.loop.now() + self._server.body_idle, self._check_time
        )

    def _more(self, body: Body, data: bytes, pos: int) -> None:
        """A piece of the request body, and what may follow it."""
        piece, used = body.feed(data, pos)
        ex = self._ex
        held = self._held
        done = body.done
        if done:
            self._body = None
            if used < len(data):
                self._buf = data[used:]
        if held is not None:
            held.append(piece)
            assert ex is not None
            ex.request_bytes += len(piece)
            if self._server.aggregate:
                self._check_aggregate(ex.request_bytes)
            if done:
                self._held = None
                ex.body = b"".join(held)
                ex.request_done = True
                ex.request_trailers = body.trailers
                ex.router.route(ex, self._server.loop.now())
        elif ex is not None:
            if piece or done:
                ex.request_data(piece, done, body.trailers)
        elif done:
            # The exchange was over before its request: the connection is closed by whoever ended it.
            self._after(self._server.loop.now())

    def eof_received(self) -> None:
        ex = self._ex
        if ex is None:
            if self._buf:
                self._refuse(refusals.cut_short())
            else:
                self._end()
            return
        if self._body is not None:
            self._abandon(
                ex,
                refusals.gone("caller closed the connection in the middle of its request body"),
            )
            return
        self._half_closed = True
        self._ask(ex)
        self._server.loop.call_at(self._server.loop.now() + ASK_AGAIN, self._ask, ex)

    def _ask(self, ex: Exchange) -> None:
        """A FIN says that the caller sends no more, not that it is gone, and TCP tells the two apart only when it is
        sent something. An interim response is something that every HTTP/1.1 caller must accept (RFC 9110 section 15.2):
        one that listens skips it, one that is gone answers with a reset, which cancels the work."""
        if self._ex is ex and not ex.committed and ex.head.version == 11 and not self._transport.closed:
            self._transport.write(CONTINUE)

    def connection_lost(self, error: OSError | None) -> None:
        ex = self._ex
        if ex is not None:
            self._abandon(
                ex,
                refusals.gone(
                    f"caller's connection broke: {error}" if error else "caller's connection was closed"
                ),
            )
        self._stop_timer()
        self._server.gone(self, self._transport)

    def _bug(self, error: Exception) -> None:
        ex = self._ex
        if ex is not None:
            ex.bug(error)
        else:
            self._server.router.report(error)
            self._transport.abort()
            self._stop_timer()

    def writable(self) -> None:
        if self._ex is not None:
            self._ex.caller_writable()
        else:
            self._go_on()

    # -- between exchanges ----------------------------------------------------------------------------------------

    def _after(self, now: float) -> None:
        """The response is out: close, go on with what is pipelined, or wait."""
        ex = self._ex
        self._ex = None
        self._chunked = False
        self._compressor = None
        if (
            self._close
            or (self._buf and ex is not None and ex.head.upgrade is not None)  # not HTTP, to the caller (F11)
            or self._body is not None
            or self._held is not None
            or (self._half_closed and not self._buf)
        ):
            self._body = None
            self._held = None
            self._end()
            return
        if self._transport.blocked:
            # Answers that the caller does not read must not pile up: its next request waits until this one has left.
            self.pause()
        elif self._buf or self._paused:
            self._go_on()
        self.idle_since = self._server.loop.now()
        if self._server.draining:
            # The head of this answer had left before anybody knew that the connection is to end.
            self.drain()

    def _go_on(self) -> None:
        if self._buf:
            # In a later turn: pipelined requests must not recurse, nor starve other connections.
            self._server.loop.turn.call_soon(self._continue)
        if self._paused:
            self.resume()

    def _continue(self) -> None:
        if self._ex is None and self._buf and not self._transport.closed:
            buf, self._buf = self._buf, b""
            self.data_received(buf)
