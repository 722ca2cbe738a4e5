"""One HTTP/1.1 connection from a caller: requests in order, one exchange at a time."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError
from hostmesh.protocol.h1_body import Body, request_body
from hostmesh.protocol.h1_head import CHUNKED, parse_request, without_context
from hostmesh.protocol.h1_message import TUNNEL
from hostmesh.protocol.h1_write import CONTINUE
from hostmesh.protocol.h2.connect import switch_lines
from hostmesh.proxy import refusals
from hostmesh.proxy.caller_answers import RESPONSE_LINES, SUCCESS_LINES, CallerAnswers
from hostmesh.proxy.exchange import Exchange
from hostmesh.proxy.tcp_connect import ConnectCaller, connect
from hostmesh.proxy.tunnel import Handover

if TYPE_CHECKING:
    from hostmesh.protocol.h1_message import RequestHead, ResponseHead
    from hostmesh.proxy.server import Server
    from hostmesh.proxy.tunnel import Tunnel
    from hostmesh.pump.loop import TimerHandle, Transport

KNOWN_MAX = 1024
"""Bytes of the longest head that a connection remembers: the usual ones, and 5,000 idle connections stay small."""


class CallerSession(CallerAnswers):
    """The caller's half of exchanges. Owns its transport."""

    __slots__ = (
        "_body",
        "_buf",
        "_ex",
        "_half_closed",
        "_held",
        "_known",
        "_known_head",
        "_searched",
        "_timer",
        "_unused",
        "head_since",
        "idle_since",
        "opened",
    )

    def __init__(self, server: Server, transport: Transport, now: float) -> None:
        super().__init__(server, transport)
        # A caller that reset its connection wants no answer, whatever it had sent before.
        transport.patient = False
        self._ex: Exchange | None = None
        self._buf = b""
        self._known = b""
        """The bytes of the last head, if short; callers repeat themselves, and comparing is cheaper than parsing."""
        self._known_head: RequestHead
        self._searched = 0
        self._body: Body | None = None
        self._held: list[bytes] | None = None
        """Pieces of a body that is read whole before it is forwarded."""
        self._half_closed = False
        """The caller has said that it sends no more; what it has sent is still answered."""
        self._unused = True
        """No request has arrived yet."""
        self.opened = now
        self.idle_since = now
        self.head_since = now
        first = min(server.first_head_time, server.settings.idle_time, server.settings.life_time or inf)
        self._timer: TimerHandle | None = server.loop.call_at(now + first, self._check_time)

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
        if not ex.committed and ex.head.version == 11:
            # A FIN says that the caller sends no more, not that it is gone, and TCP tells the two apart only when it
            # is sent something. An interim response is something that every HTTP/1.1 caller must accept (RFC 9110
            # section 15.2): one that listens skips it, one that is gone answers with a reset, which cancels the work.
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

    def _abandon(self, ex: Exchange, error: MeshError) -> None:
        self._ex = None
        self._body = None
        self._held = None
        try:
            ex.request_aborted(error)
        except Exception as bug:
            self._server.router.report(bug)
        self._transport.abort()
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def leave(self) -> None:
        """The connection is another session's: the caller speaks HTTP/2."""
        self._stop_timer()

    def _end(self) -> None:
        """Close once what was written has left. The server counts the connection until it has gone."""
        self._stop_timer()
        self._transport.close()
        if not self._transport.unsent:
            self._server.gone(self, self._transport)

    # -- refusals -------------------------------------------------------------------------------------------------

    def _refuse(self, error: MeshError) -> None:
        """A message that may not be parsed any further: answer if nothing was answered, and end the connection."""
        ex = self._ex
        self._buf = b""
        self._body = None
        self._held = None
        server = self._server
        if ex is None:
            server.refused(self, error, server.loop.now())
            self._write_error(error, b"")
        elif ex.finished:
            self._ex = None
        else:
            self._ex = None
            if ex.committed:
                ex.request_aborted(error)
                # As for a response that breaks off: it must not look complete.
                self._transport.reset()
            else:
                ex.status = error.status
                ex.request_aborted(error)
                self._write_error(error, ex.reqid)
        self._end()

    def _bug(self, error: Exception) -> None:
        ex = self._ex
        if ex is not None:
            ex.bug(error)
        else:
            self._server.router.report(error)
            self._transport.abort()
            self._stop_timer()

    def cut(self) -> None:
        """The response stays incomplete: a reset, and on chunked bodies no last chunk, tell the caller so."""
        self._ex = None
        self._transport.reset()
        self._stop_timer()

    def writable(self) -> None:
        if self._ex is not None:
            self._ex.caller_writable()
        else:
            self._go_on()

    def switch(self, ex: Exchange, head: ResponseHead, protocol: bytes, tunnel: Tunnel) -> Handover:
        """HTTP ends here: the 101 goes out, and the connection is the tunnel's."""
        server, transport = self._server, self._transport
        self._ex = None
        self._stop_timer()
        self._paused = False
        early, self._buf = self._buf, b""
        clear = server.clear_context
        data = switch_lines(ex.head, head, protocol, RESPONSE_LINES if clear else SUCCESS_LINES, clear=clear)
        server.became(self, tunnel)
        read = transport.bytes_in - len(early)
        written = transport.bytes_out + len(data)

        def over(came: int, went: int) -> None:
            # Of TLS the transport knows better: records are longer than what they carry.
            server.left(tunnel, max(read + came, transport.bytes_in), max(written + went, transport.bytes_out))

        return Handover(transport, early, data, over)

    def give_up(self) -> bytes:
        """A CONNECT is carried out: the connection is a tunnel's. What had been read of it behind the head."""
        self._stop_timer()
        self._paused = False
        early, self._buf = self._buf, b""
        return early

    def given_up(self, received: int, sent: int) -> None:
        """That tunnel has ended; the connection carried so many bytes."""
        self._ex = None
        self._server.left(self, received, sent)

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

    # -- time -----------------------------------------------------------------------------------------------------

    def _head_due(self) -> float:
        """When the head that has begun must be complete; the first one on a connection also counts from the accept."""
        due = self.head_since + self._server.head_time
        return min(due, self.opened + self._server.first_head_time) if self._unused else due

    def _check_time(self) -> None:
        """One timer per connection, re-armed when it fires and not at every request."""
        self._timer = None
        server = self._server
        now = server.loop.now()
        if self._searched:
            due = self._head_due()
            if now >= due:
                self._refuse(refusals.late_head(due - self.head_since))
                return
        elif self._body is not None and not self._paused:
            due = now + server.body_idle
            read = self._transport.bytes_in
            if read == self._seen_bytes:
                self._refuse(refusals.late_body(server.body_idle))
                return
            self._seen_bytes = read
        elif self._ex is None:
            life = server.settings.life_time
            due = self.idle_since + (server.first_head_time if self._unused else server.settings.idle_time)
            if server.draining:
                due = self.idle_since + server.drain_quiet
            elif life is not None:
                due = min(due, self.opened + life)
            if now >= due:
                if not server.draining or not self._transport.unread:
                    self._end()
                    return
                # A request came while this batch was worked off: it is answered next.
                due = now + server.drain_quiet
        else:
            due = now + (server.settings.idle_time if self._body is None else server.body_idle)
            life = server.settings.life_time
            if life is not None:
                if now >= self.opened + life:
                    self._close = True
                else:
                    due = min(due, self.opened + life)
        self._timer = server.loop.call_at(due, self._check_time)

    def drain(self) -> None:
        """End with the next answer, which says so, or when nothing has been asked for a while; never by surprise."""
        if self._ex is None and not self._searched and not self._buf:
            server = self._server
            if self._timer is not None:
                self._timer.cancel()
            # By a timer even when it is due: what has arrived by now is read first.
            when = max(server.loop.now(), self.idle_since + server.drain_quiet)
            self._timer = server.loop.call_at(when, self._check_time)

    def abort(self) -> None:
        ex = self._ex
        if ex is not None:
            error = refusals.end_of_drain()
            if ex.committed:
                self._abandon(ex, error)
            else:
                self._refuse(error)
        else:
            self._transport.abort()
            self._stop_timer()
