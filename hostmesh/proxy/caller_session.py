"""One HTTP/1.1 connection from a caller: requests in order, one exchange at a time."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError, Side
from hostmesh.base.reasons import Reason
from hostmesh.protocol.h1_body import Body, chunk, last_chunk, request_body
from hostmesh.protocol.h1_head import CHUNKED, UNTIL_CLOSE, parse_request, without_context
from hostmesh.protocol.h1_write import CONTINUE, response_head
from hostmesh.proxy.compress import Compressor, compressor_for
from hostmesh.proxy.exchange import Exchange
from hostmesh.proxy.forwarded import Party, random_label
from hostmesh.proxy.respond import error_answer
from hostmesh.routing.classifiers import SUCCESS

if TYPE_CHECKING:
    from random import Random

    from hostmesh.protocol.h1_message import ResponseHead
    from hostmesh.proxy.server import Server
    from hostmesh.pump.loop import TimerHandle, Transport

RESPONSE_LINES = b"Via: 1.1 hostmesh\r\n"
SUCCESS_LINES = b"Via: 1.1 hostmesh\r\nl5d-success-class: 1.0\r\n"
FAILURE_LINES = b"Via: 1.1 hostmesh\r\nl5d-success-class: 0.0\r\n"


def cut_short() -> MeshError:
    return MeshError(
        Reason.BAD_REQUEST,
        "caller closed the connection in the middle of a request head",
        status=400,
        side=Side.CALLER,
    )


class CallerSession:
    """The caller's half of exchanges. Owns its transport."""

    __slots__ = (
        "_body",
        "_buf",
        "_chunked",
        "_close",
        "_compressor",
        "_ex",
        "_half_closed",
        "_held",
        "_parties",
        "_paused",
        "_searched",
        "_seen_bytes",
        "_server",
        "_timer",
        "_transport",
        "_unused",
        "head_since",
        "idle_since",
        "opened",
    )

    def __init__(self, server: Server, transport: Transport, now: float) -> None:
        self._server = server
        self._transport = transport
        # A caller that reset its connection wants no answer, whatever it had sent before.
        transport.patient = False
        self._ex: Exchange | None = None
        self._buf = b""
        self._searched = 0
        self._body: Body | None = None
        self._held: list[bytes] | None = None
        """Pieces of a body that is read whole before it is forwarded."""
        self._chunked = False
        self._compressor: Compressor | None = None
        self._close = False
        """This exchange is the connection's last."""
        self._paused = False
        self._half_closed = False
        """The caller has said that it sends no more; what it has sent is still answered."""
        self._parties: tuple[Party, Party] | None = None
        self._seen_bytes = -1
        self._unused = True
        """No request has arrived yet."""
        self.opened = now
        self.idle_since = now
        self.head_since = now
        first = min(server.first_head_time, server.settings.idle_time, server.settings.life_time or inf)
        self._timer: TimerHandle | None = server.loop.call_at(now + first, self._check_time)

    @property
    def peer(self) -> tuple[str, int]:
        return self._transport.peer

    @property
    def local(self) -> tuple[str, int]:
        return self._transport.local

    def parties(self, router: str, rng: Random) -> tuple[Party, Party]:
        """Both ends of this connection for a ``Forwarded`` header; made once."""
        if self._parties is None:
            own, peer = self.local, self.peer
            self._parties = (
                Party(own[0], own[1], router, random_label(rng)),
                Party(peer[0], peer[1], router, random_label(rng)),
            )
        return self._parties

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
        head = parse_request(buf, server.limits, 0, self._searched)
        if head is None:
            if self._half_closed:
                raise cut_short()
            if not self._searched:
                self.head_since = now = server.loop.now()
                self._stop_timer()
                self._timer = server.loop.call_at(self._head_due(), self._check_time)
            self._buf = buf
            self._searched = len(buf)
            return
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
        ex.simple = False
        ex.request_done = False
        self._body = body = request_body(head, server.limits)
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

    def _check_aggregate(self, size: int) -> None:
        maximum = self._server.max_aggregate
        if size > maximum:
            raise MeshError(
                Reason.LIMIT_BODY_BYTES,
                f"a request body of more than {maximum} bytes on a router that reads bodies whole "
                "(streamingEnabled: false)",
                status=413,
                side=Side.CALLER,
            )

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
                self._refuse(cut_short())
            else:
                self._end()
            return
        if self._body is not None:
            self._abandon(
                ex,
                MeshError(
                    Reason.RESET_BY_CALLER,
                    "caller closed the connection in the middle of its request body",
                    status=499,
                    side=Side.CALLER,
                ),
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
                MeshError(
                    Reason.RESET_BY_CALLER,
                    f"caller's connection broke: {error}" if error else "caller's connection was closed",
                    status=499,
                    side=Side.CALLER,
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

    def _write_error(self, error: MeshError, reqid: bytes) -> None:
        server = self._server
        self._transport.write(
            error_answer(
                error,
                head_only=False,
                connection=b"close",
                clear=server.clear_context,
                max_body=server.settings.max_error_body,
                reqid=reqid,
            )
        )

    def _bug(self, error: Exception) -> None:
        ex = self._ex
        if ex is not None:
            ex.bug(error)
        else:
            self._server.router.report(error)
            self._transport.abort()
            self._stop_timer()

    # -- response half --------------------------------------------------------------------------------------------

    def send_informational(self, ex: Exchange, head: ResponseHead) -> None:
        if ex.head.version == 11:
            self._transport.write(response_head(head, b"", clear=self._server.clear_context))

    def send_head(self, ex: Exchange, head: ResponseHead, piece: bytes, done: bool) -> None:
        server = self._server
        lines = SUCCESS_LINES if ex.verdict is SUCCESS else FAILURE_LINES
        if server.draining or not ex.request_done:
            self._close = True
        if head.plain and not self._close and server.simple_responses and ex.head.version == 11:
            self._transport.write(
                b"HTTP/1.1 %d %b\r\n%b%b\r\n%b" % (head.status, head.reason, head.block, lines, piece)
            )
        else:
            self._transport.write(self._response(ex, head, lines, piece, done))
        if done:
            self._after(0.0)

    def _response(self, ex: Exchange, head: ResponseHead, lines: bytes, piece: bytes, done: bool) -> bytes:
        clear = self._server.clear_context
        if clear:
            lines = RESPONSE_LINES
        framing: int | None = None
        self._chunked = False
        compressor = compressor_for(ex.head, head, self._server.settings.compression_level)
        if compressor is not None:
            lines += compressor.lines
            piece = compressor.feed(piece, done)
            self._compressor = None if done else compressor
        if compressor is not None and done:
            framing = len(piece)
        elif compressor is not None or (head.has_body and head.content_length < 0):
            if ex.head.version == 11:
                framing = CHUNKED
                self._chunked = True
            else:
                framing = UNTIL_CLOSE
                self._close = True
        connection: bytes | None = None
        if self._close:
            connection = b"close"
        elif ex.head.version == 10:
            connection = b"keep-alive"
        data = response_head(head, lines, connection=connection, framing=framing, clear=clear)
        if self._chunked:
            data += chunk(piece)
            if done:
                data += last_chunk()
        else:
            data += piece
        return data

    def send_data(self, piece: bytes, done: bool, trailers: bytes) -> None:
        if self._compressor is not None:
            piece = self._compressor.feed(piece, done)
        if self._chunked:
            data = chunk(piece)
            if done:
                data += last_chunk(trailers)
        else:
            data = piece
        if data:
            self._transport.write(data)
        if done:
            self._after(0.0)

    def send_error(self, ex: Exchange, error: MeshError) -> None:
        server = self._server
        if server.draining or not ex.request_done:
            self._close = True
        connection: bytes | None = None
        if self._close:
            connection = b"close"
        elif ex.head.version == 10:
            connection = b"keep-alive"
        self._transport.write(
            error_answer(
                error,
                head_only=ex.head.method == b"HEAD",
                connection=connection,
                clear=server.clear_context,
                max_body=server.settings.max_error_body,
                reqid=ex.reqid,
            )
        )
        self._after(0.0)

    def send_whole(self, ex: Exchange, data: bytes) -> None:
        """A whole response made here (status service, diagnostics)."""
        self._transport.write(data)
        self._after(0.0)

    def cut(self) -> None:
        """The response stays incomplete: a reset, and on chunked bodies no last chunk, tell the caller so."""
        self._ex = None
        self._transport.reset()
        self._stop_timer()

    @property
    def blocked(self) -> bool:
        return self._transport.blocked

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
        else:
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

    def pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            # It was not the caller who was silent: its time begins anew.
            self._seen_bytes = -1
            self._transport.resume()

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
                self._refuse(
                    MeshError(
                        Reason.LIMIT_HEAD_TIME,
                        f"the request head was not complete within {due - self.head_since:.3g} s",
                        status=408,
                        side=Side.CALLER,
                    )
                )
                return
        elif self._body is not None and not self._paused:
            due = now + server.body_idle
            read = self._transport.bytes_in
            if read == self._seen_bytes:
                self._refuse(
                    MeshError(
                        Reason.LIMIT_BODY_TIME,
                        f"no byte of the request body arrived for {server.body_idle:g} s",
                        status=408,
                        side=Side.CALLER,
                    )
                )
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
            error = MeshError(
                Reason.DRAINING, "cut at the end of the drain (shutdownGraceMs)", status=503, side=Side.SELF
            )
            if ex.committed:
                self._abandon(ex, error)
            else:
                self._refuse(error)
        else:
            self._transport.abort()
            self._stop_timer()
