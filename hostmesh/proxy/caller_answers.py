"""How a caller's session writes answers: heads, framing, compression, errors of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError
from hostmesh.protocol.h1_body import chunk, last_chunk
from hostmesh.protocol.h1_head import CHUNKED, UNTIL_CLOSE
from hostmesh.protocol.h1_write import answer, response_head
from hostmesh.proxy.compress import Compressor, compressor_for
from hostmesh.proxy.forwarded import Party, random_label
from hostmesh.proxy.respond import error_answer
from hostmesh.routing.classifiers import SUCCESS

if TYPE_CHECKING:
    from random import Random

    from hostmesh.protocol.h1_message import ResponseHead
    from hostmesh.protocol.tls.identity import PeerIdentity
    from hostmesh.proxy.exchange import Exchange
    from hostmesh.proxy.server import Server
    from hostmesh.pump.loop import AnyTransport, Transport

RESPONSE_LINES = b"Via: 1.1 hostmesh\r\n"
SUCCESS_LINES = b"Via: 1.1 hostmesh\r\nl5d-success-class: 1.0\r\n"
FAILURE_LINES = b"Via: 1.1 hostmesh\r\nl5d-success-class: 0.0\r\n"


def verdict_lines(ex: Exchange) -> bytes:
    """Our lines of a response that is no known success: the next hop is told a verdict only where there is one."""
    return RESPONSE_LINES if ex.unjudged else FAILURE_LINES


class CallerConnection:
    """Who is at the other end, and whether we listen."""

    __slots__ = ("_parties", "_paused", "_seen_bytes", "_server", "_transport")

    version = 11
    """Of HTTP, for records of requests that could not be read."""

    def __init__(self, server: Server, transport: AnyTransport) -> None:
        self._server = server
        self._transport = transport
        self._paused = False
        self._seen_bytes = -1
        """Bytes received when the timer last looked, -1 for "begin anew"."""
        self._parties: tuple[Party, Party] | None = None

    @property
    def peer(self) -> tuple[str, int]:
        return self._transport.peer

    @property
    def identity(self) -> PeerIdentity | None:
        """Whom the caller has proved to be, over TLS."""
        return self._transport.identity

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

    @property
    def blocked(self) -> bool:
        """Whether the caller takes no more for now."""
        return self._transport.blocked

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


class CallerAnswers(CallerConnection):
    """The response half of a caller's session; what comes after an answer is the session's business."""

    __slots__ = ("_chunked", "_close", "_compressor")

    def __init__(self, server: Server, transport: Transport) -> None:
        super().__init__(server, transport)
        self._chunked = False
        self._compressor: Compressor | None = None
        self._close = False
        """This exchange is the connection's last."""

    def _after(self, now: float) -> None:
        """The answer is out."""
        raise NotImplementedError

    def send_informational(self, ex: Exchange, head: ResponseHead) -> None:
        if ex.head.version == 11:
            self._transport.write(response_head(head, b"", clear=self._server.clear_context))

    def send_head(self, ex: Exchange, head: ResponseHead, piece: bytes, done: bool) -> None:
        server = self._server
        lines = SUCCESS_LINES if ex.verdict is SUCCESS else verdict_lines(ex)
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

    def send_answer(self, ex: Exchange, status: int, body: bytes) -> None:
        self._transport.write(answer(status, body, RESPONSE_LINES))
        self._after(0.0)

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
