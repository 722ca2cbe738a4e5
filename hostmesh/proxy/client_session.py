"""One HTTP/1.1 connection to an endpoint, carrying one exchange at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError, Sent, Side
from hostmesh.base.reasons import Reason
from hostmesh.protocol.h1_body import Body, CloseBody, chunk, last_chunk, response_body
from hostmesh.protocol.h1_head import UNTIL_CLOSE, parse_response
from hostmesh.protocol.h1_write import request_head
from hostmesh.protocol.h2.connect import check_accept, key_lines
from hostmesh.protocol.tls.failures import lost_reason
from hostmesh.protocol.upgrade import SWITCHING, switched_to, upgrade_lines
from hostmesh.proxy.branch import client_cert_line
from hostmesh.proxy.tunnel import Handover, open_tunnel

if TYPE_CHECKING:
    from hostmesh.protocol.h1_message import ResponseHead
    from hostmesh.proxy.endpoint_stack import EndpointStack
    from hostmesh.proxy.exchange import Exchange
    from hostmesh.pump.loop import AnyTransport

ALL = Sent.ALL  # looking up a member of an enum costs as much as a call

MAX_INFORMATIONAL = 10
"""1xx responses accepted per exchange (hardening F14): 100 and 103 need two."""

KNOWN_MAX = 1024
"""Bytes of the longest head that a connection remembers."""

SMALL_READ = 1400
"""Body bytes with a head below which the rest may be held back by Nagle's algorithm at the endpoint: less than a
segment. Longer pieces are acknowledged by the kernel in time."""


class ClientSession:
    """The endpoint's half of exchanges. Its transport belongs to it; :meth:`close` and errors end both."""

    __slots__ = (
        "_body",
        "_buf",
        "_chunked",
        "_keep",
        "_known",
        "_known_head",
        "_mark",
        "_paused",
        "_searched",
        "_transport",
        "busy",
        "closed",
        "endpoint",
        "ex",
        "got_bytes",
        "idle_since",
        "opened",
        "requests",
        "reused",
    )

    def __init__(self, endpoint: EndpointStack, transport: AnyTransport, now: float) -> None:
        self.endpoint = endpoint
        self._transport = transport
        self.ex: Exchange | None = None
        self._buf = b""
        self._known = b""
        """The bytes of the last head, if short: the answers of an endpoint are often alike for a second."""
        self._known_head: ResponseHead
        self._body: Body | None = None
        self._chunked = False
        self._keep = False
        self._paused = False
        self._mark = 0
        """Bytes this connection had carried when the exchange began: none more means that nothing was sent."""
        self._searched = 0
        self.busy = False
        self.closed = False
        self.reused = False
        self.got_bytes = False
        self.requests = 0
        self.opened = now
        self.idle_since = now

    # -- request half ---------------------------------------------------------------------------------------------

    def start(self, ex: Exchange) -> None:
        """Write the head of ``ex`` and the body bytes it holds."""
        self.ex = ex
        self.busy = True
        self.got_bytes = False
        self.reused = self.requests > 0
        self.requests += 1
        self._mark = self._transport.bytes_out
        head = ex.head
        branch = ex.branch
        assert branch is not None
        if head.plain and ex.simple and not ex.drop and not branch.certifies:
            data = b"%b %b HTTP/1.1\r\n%b%b%b\r\n" % (
                head.method,
                ex.target or head.target,
                head.block,
                branch.lines,
                ex.trace,
            )
        else:
            data = self._head_and_body(ex, branch.lines + ex.trace)
        self._transport.write(data)
        if self.closed:
            return
        if ex.simple:
            ex.session = self
            ex.attempts += 1
            ex.sent = ALL
        else:
            ex.attached(self)

    def _head_and_body(self, ex: Exchange, lines: bytes, host: bytes | None = None) -> bytes:
        lines += client_cert_line(ex)
        if ex.upgrade is not None:
            ex.upgrade_key, missing = key_lines(ex.head, ex.upgrade, ex.router.trace_rng)
            lines += upgrade_lines(ex.upgrade) + missing
        # Expect travels only with a body that is still with the caller; otherwise we have answered it ourselves.
        data = request_head(
            ex.head,
            lines,
            target=ex.target,
            host=host,
            clear=ex.server.clear_context,
            expect=ex.streamed,
            drop=ex.drop,
        )
        body = ex.body
        self._chunked = ex.head.content_length == -1
        if self._chunked:
            if body:
                data += chunk(body)
            if ex.request_done:
                data += last_chunk(ex.request_trailers)
        else:
            data += body
        return data

    def send_data(self, piece: bytes, done: bool, trailers: bytes) -> None:
        if self._chunked:
            data = chunk(piece) if piece else b""
            if done:
                data += last_chunk(trailers)
        else:
            data = piece
        if data:
            self._transport.write(data)

    @property
    def blocked(self) -> bool:
        return self._transport.blocked

    def writable(self) -> None:
        if self.ex is not None:
            self.ex.endpoint_writable()

    # -- response half --------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        ex = self.ex
        if ex is None:
            # Bytes that nobody asked for: the next response could not be told from them (hardening F14).
            self.endpoint.client.surplus.value += 1
            self.close()
            return
        self.got_bytes = True
        try:
            body = self._body
            if body is None:
                self._head(ex, self._buf + data if self._buf else data)
            else:
                self._more(ex, body, data)
        except MeshError as error:
            error.side = Side.CALLEE
            error.sent = ex.sent
            self._break(ex, error)
        except Exception as error:
            ex.bug(error)
            self.close()

    def _head(self, ex: Exchange, buf: bytes) -> None:
        known = self._known
        if known and buf.startswith(known) and ex.head.method != b"HEAD":
            # The very bytes of this connection's last head, up to its empty line: they mean what they meant.
            head = self._known_head
            self._searched = 0
        else:
            while True:
                parsed = parse_response(
                    buf, self.endpoint.client.limits, ex.head.method, 0, self._searched, True
                )
                if parsed is None:
                    self._buf = buf
                    self._searched = len(buf)
                    self._transport.acknowledge()
                    return
                head = parsed
                self._searched = 0
                if not head.informational:
                    break
                if head.status == SWITCHING:
                    self._switch(ex, head, buf[head.end :])
                    return
                self._interim(ex, head)
                buf = buf[head.end :]
            if head.end <= KNOWN_MAX and ex.head.method != b"HEAD":
                self._known = buf[: head.end]
                self._known_head = head
        self._buf = b""
        self._keep = head.keep_alive
        end = head.end
        size = len(buf)
        length = head.content_length
        if not head.has_body or length == 0:
            if size > end:
                self._surplus()
            ex.on_response(head, b"", True)
        elif length > 0 and size - end >= length:
            if size - end > length:
                self._surplus()
                ex.on_response(head, buf[end : end + length], True)
            else:
                ex.on_response(head, buf[end:], True)
        else:
            body = response_body(head, self.endpoint.client.limits)
            if length == UNTIL_CLOSE:
                self._keep = False
            if size - end < SMALL_READ:
                self._transport.acknowledge()
            if size == end:
                self._body = body
                ex.on_response(head, b"", False)
                return
            piece, used = body.feed(buf, end)
            if not body.done:
                self._body = body
                ex.on_response(head, piece, False)
                return
            if used < size:
                self._surplus()
            if not body.trailers:
                ex.on_response(head, piece, True)
            else:
                ex.on_response(head, piece, False)
                if self.ex is ex:
                    ex.on_response_data(b"", True, body.trailers)

    def _switch(self, ex: Exchange, head: ResponseHead, early: bytes) -> None:
        """HTTP ends here, and the connection is a tunnel's until both end together."""
        if ex.upgrade is None:
            raise MeshError(
                Reason.BAD_RESPONSE,
                f"{self.endpoint.text} switched protocols (101) although no Upgrade was forwarded",
                status=502,
            )
        protocol = switched_to(head, ex.upgrade)
        if ex.upgrade_key:
            check_accept(head, ex.upgrade_key)
        self._buf = b""
        self.ex = None
        open_tunnel(ex, head, protocol, Handover(self._transport, early, b"", self._tunnel_over))

    def _tunnel_over(self, _came: int, _went: int) -> None:
        self._ended()
        self.endpoint.session_ended(self)

    def _interim(self, ex: Exchange, head: ResponseHead) -> None:
        if ex.informational >= MAX_INFORMATIONAL:
            raise MeshError(
                Reason.LIMIT_INFORMATIONAL,
                f"{self.endpoint.text} sent more than {MAX_INFORMATIONAL} informational responses",
                status=502,
            )
        ex.on_response(head, b"", False)

    def _more(self, ex: Exchange, body: Body, data: bytes) -> None:
        piece, used = body.feed(data)
        if body.done:
            self._body = None
            if used < len(data):
                self._surplus()
            ex.on_response_data(piece, True, body.trailers)
        elif piece:
            ex.on_response_data(piece, False)

    def _surplus(self) -> None:
        self._keep = False
        self.endpoint.client.surplus.value += 1

    def eof_received(self) -> None:
        ex = self.ex
        body = self._body
        if ex is None:
            self.close()
        elif isinstance(body, CloseBody):
            body.eof()
            self._body = None
            self._keep = False
            try:
                ex.on_response_data(b"", True)
            except Exception as error:
                ex.bug(error)
            self.close()
        else:
            self._break(ex, self._lost_error(ex, "closed the connection"))

    def connection_lost(self, error: OSError | None) -> None:
        ended = not self.closed
        self.closed = True
        ex = self.ex
        self.ex = None
        if ended:
            self.endpoint.session_ended(self)
        if ex is not None and ex.session is self:
            text = "closed the connection"
            if error is not None:
                text = f"broke the connection ({error.strerror or error})"
            self._guarded_lost(ex, self._lost_error(ex, text, error))

    def _lost_error(self, ex: Exchange, what: str, error: OSError | None = None) -> MeshError:
        if self._body is not None:
            when = "in the middle of its response body"
        elif self.got_bytes:
            when = "in the middle of its response head"
        else:
            when = "before its response"
        return MeshError(
            lost_reason(error),
            f"{self.endpoint.text} {what} {when}",
            status=502,
            side=Side.CALLEE,
            sent=Sent.NOTHING if self._transport.bytes_out == self._mark else ex.sent,
        )

    def _break(self, ex: Exchange, error: MeshError) -> None:
        self.ex = None
        self.close()
        self._guarded_lost(ex, error)

    def _guarded_lost(self, ex: Exchange, error: MeshError) -> None:
        try:
            ex.session = self
            ex.session_lost(error)
        except Exception as bug:
            ex.bug(bug)

    def pause(self) -> None:
        self._paused = True
        self._transport.pause()

    def resume(self) -> None:
        self._paused = False
        self._transport.resume()

    # -- the end of an exchange, the end of the session -----------------------------------------------------------

    def detach(self, now: float, *, reuse: bool) -> None:
        self.ex = None
        self.busy = False
        # Request bytes that have not left yet belong to this exchange: the endpoint answered without reading them, and
        # what it makes of the rest is its secret (hardening F12).
        if reuse and self._keep and not self.closed and self._body is None and not self._transport.unsent:
            life = self.endpoint.client.life_time
            if life is not None and now - self.opened >= life:
                self.close()
                return
            self.idle_since = now
            if self._paused:
                self.resume()
            self.endpoint.release(self)
        else:
            self.close()

    def cancel(self) -> None:
        """Break the exchange off: nobody wants its answer any more.

        With a reset, not a FIN: that would only say that no more is sent, and an endpoint that reads nothing for the
        moment would not even hear that much. Work behind us ends with the work here, over any number of hops.
        """
        if not self.closed:
            self._ended()
            self._transport.reset()
            self.endpoint.session_ended(self)

    def close(self) -> None:
        """Close the connection; no exchange is told."""
        if not self.closed:
            self._ended()
            self._transport.abort()
            self.endpoint.session_ended(self)

    def _ended(self) -> None:
        self.closed = True
        self.busy = False
        self.ex = None
