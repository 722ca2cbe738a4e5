"""One stream of a caller's HTTP/2 connection: the caller's half of one exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hostmesh.base.errors import MeshError
from hostmesh.base.reasons import Reason
from hostmesh.protocol.grpc import is_grpc
from hostmesh.protocol.h1_head import CHUNKED
from hostmesh.protocol.h2.engine import CANCEL, INTERNAL_ERROR, REFUSED_STREAM
from hostmesh.protocol.h2.heads import (
    VERSION,
    answer_pairs,
    line_pairs,
    response_pairs,
    trailer_lines,
    trailer_pairs,
)
from hostmesh.proxy import refusals
from hostmesh.proxy.compress import Compressor, compressor_for
from hostmesh.proxy.context import grpc_time_is_over
from hostmesh.proxy.exchange import Exchange
from hostmesh.proxy.respond import error_parts, grpc_error_lines
from hostmesh.routing.classifiers import SUCCESS

if TYPE_CHECKING:
    from random import Random

    from hostmesh.protocol.h1_message import RequestHead, ResponseHead
    from hostmesh.protocol.h2.engine import Pair, Pairs
    from hostmesh.protocol.tls.identity import PeerIdentity
    from hostmesh.proxy.forwarded import Party
    from hostmesh.proxy.h2_caller import H2CallerSession
    from hostmesh.proxy.tunnel import Handover, Tunnel

CONTINUE: Final = ((b":status", b"100"),)

# Received as HTTP/1.1 from the endpoint or as HTTP/2 (RFC 9110 section 7.6.3, names as Linkerd 1 writes them).
VIA_H1: Final = (b"via", b"1.1 hostmesh")
VIA_H2: Final = (b"via", b"h2 hostmesh")
SUCCESS_PAIR: Final = (b"l5d-success-class", b"1.0")
_FAILURE: Final = (b"l5d-success-class", b"0.0")


class H2CallerStream:
    """See the module's text. Made with the request's head; nothing is dispatched before the bytes that came with it
    have been read, so that a stream which is reset at once costs no endpoint anything (hardening H1)."""

    __slots__ = (
        "_compressor",
        "_owed",
        "_paused",
        "_pieces",
        "_session",
        "_size",
        "_trailers",
        "begun",
        "ended",
        "ex",
        "head",
        "id",
        "since",
    )

    def __init__(self, session: H2CallerSession, id: int, head: RequestHead, ended: bool, now: float) -> None:
        self._session = session
        self.id = id
        self.head = head
        self.ended = ended
        """The request is complete."""
        self.ex: Exchange | None = None
        self.begun = now
        self.since = now
        """When a byte of the request came last, or we began to listen again; of a gRPC call also of the response."""
        self._pieces: list[bytes] | None = None if ended else []
        """The body so far, while it is not an exchange's."""
        self._size = 0
        self._trailers = b""
        self._paused = False
        self._owed = 0
        """Body bytes for which the caller has not got its window back."""
        self._compressor: Compressor | None = None

    @property
    def peer(self) -> tuple[str, int]:
        return self._session.peer

    @property
    def identity(self) -> PeerIdentity | None:
        return self._session.identity

    def parties(self, router: str, rng: Random) -> tuple[Party, Party]:
        return self._session.parties(router, rng)

    # -- request half ---------------------------------------------------------------------------------------------

    def dispatch(self, now: float) -> None:
        """Make an exchange of what has arrived; on a router that reads bodies whole, once all of it has."""
        session = self._session
        server = session.server
        if server.aggregate and not self.ended:
            self._check_aggregate()
            if self.head.expect_continue and not self._size:
                session.engine.send_head(self.id, CONTINUE, False)
            return
        ex = self.ex = Exchange(self, server, self.head, now)
        server.stats.pending += 1
        pieces, self._pieces = self._pieces, None
        if pieces is not None:
            ex.simple = False
            ex.body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            ex.request_bytes = self._size
            ex.request_done = self.ended
            ex.request_trailers = self._trailers
            if not self.ended:
                # What asked for 100 Continue is asked for by the endpoint; all else is kept for another attempt, too,
                # as long as it is short.
                ex.streamed = self.head.expect_continue
                # Nobody knows yet where the body goes: no window is given back before there is somebody who takes it.
                self._paused = True
                self._owed = self._size
        if self.head.method == b"POST" and is_grpc(self.head.get(b"content-type")):
            ex.is_grpc = True
        ex.router.route(ex, now)

    def body(self, data: bytes, end: bool, now: float) -> None:
        """A piece of the request body."""
        self.since = now
        if end:
            self.ended = True
        ex = self.ex
        if ex is None:
            pieces = self._pieces
            assert pieces is not None
            pieces.append(data)
            self._size += len(data)
            if self._session.server.aggregate:
                self._session.engine.credit(self.id, len(data))
            return
        if ex.finished:
            # Answered before its end: what still comes is not wanted, and gets no window back.
            return
        self._owed += len(data)
        ex.request_data(data, end)
        if not self._paused and self._owed:
            # It is with the endpoint's connection, whose buffer has said when it had enough.
            self._give_back()

    def trailers(self, pairs: Pairs, now: float) -> None:
        """The request's trailers, its last part."""
        self.since = now
        self.ended = True
        lines = trailer_lines(pairs)
        if self.ex is None:
            self._trailers = lines
        elif not self.ex.finished:
            self.ex.request_data(b"", True, lines)

    def later(self, now: float) -> None:
        """More of a body that is read whole has come: dispatch once it is complete."""
        if self.ended:
            self.dispatch(now)
        else:
            self._check_aggregate()

    def _check_aggregate(self) -> None:
        maximum = self._session.server.max_aggregate
        if max(self._size, self.head.content_length) > maximum:
            self.refuse(refusals.long_body(maximum))

    def _give_back(self) -> None:
        owed, self._owed = self._owed, 0
        self._session.engine.credit(self.id, owed)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            # It was not the caller who was silent: its time begins anew.
            if not self.ended:
                self.since = self._session.server.loop.now()
            if self._owed:
                self._give_back()
                self._session.sending.flush_soon()

    def spoken_to(self, now: float) -> None:
        """A part of the answer is sent before the request has ended."""
        ex = self.ex
        if ex is not None and ex.is_grpc:
            self.since = now

    def writable(self) -> None:
        """:attr:`blocked` was True and is not any more."""
        if self.ex is not None:
            self.ex.caller_writable()

    @property
    def waits(self) -> bool:
        """Whether it is the caller's turn to say something: its request is not complete, and we listen."""
        return not self.ended and not self._paused

    @property
    def patience(self) -> float:
        """Seconds that it may take for its turn. A gRPC call is a conversation and not an upload: who watches something
        asks once and then listens, for as long as a tunnel may be silent."""
        server = self._session.server
        ex = self.ex
        return server.settings.tunnel_idle if ex is not None and ex.is_grpc else server.body_idle

    def abort(self, error: MeshError) -> None:
        """The request is over without an answer: reset, broken, or the connection is gone."""
        ex = self.ex
        if ex is None:
            self._session.server.refused(self._session, error, self._session.server.loop.now())
        else:
            try:
                ex.request_aborted(error)
            except Exception as bug:
                ex.router.report(bug)

    def refuse(self, error: MeshError) -> None:
        """Answer with ``error`` if nothing was answered, else cut; whatever runs for the request is cancelled."""
        ex = self.ex
        if ex is None:
            self._session.server.refused(self._session, error, self._session.server.loop.now())
            self._write_error(error, b"")
        elif ex.finished:
            return
        elif ex.committed:
            ex.request_aborted(error)
            self.cut()
        else:
            ex.status = error.status
            ex.request_aborted(error)
            self._write_error(error, ex.reqid)

    # -- response half --------------------------------------------------------------------------------------------

    @property
    def blocked(self) -> bool:
        """Whether the caller takes no more for now."""
        return self._session.sending.blocked(self.id)

    def send_informational(self, ex: Exchange, head: ResponseHead) -> None:
        session = self._session
        session.engine.send_head(self.id, response_pairs(head, clear=session.server.clear_context), False)
        session.sending.flush_soon()

    def send_head(self, ex: Exchange, head: ResponseHead, chunk: bytes, done: bool) -> None:
        session = self._session
        server = session.server
        clear = server.clear_context
        if server.compresses:
            pairs, chunk = self._compressed(ex, head, chunk, done)
        else:
            pairs = response_pairs(head, clear=clear)
        pairs.append(VIA_H2 if head.version == VERSION else VIA_H1)
        if not self.ended:
            self.spoken_to(server.loop.now())
        if not clear and not ex.unjudged:
            pairs.append(SUCCESS_PAIR if ex.verdict is SUCCESS else _FAILURE)
        if chunk:
            session.engine.send_head(self.id, pairs, False)
            session.sending.write(self.id, chunk, done)
        else:
            session.engine.send_head(self.id, pairs, done)
            session.sending.flush_soon()
        if done:
            session.answered(self)

    def _compressed(
        self, ex: Exchange, head: ResponseHead, chunk: bytes, done: bool
    ) -> tuple[list[Pair], bytes]:
        server = self._session.server
        compressor = compressor_for(ex.head, head, server.settings.compression_level)
        if compressor is None:
            return response_pairs(head, clear=server.clear_context), chunk
        chunk = compressor.feed(chunk, done)
        self._compressor = None if done else compressor
        framing = len(chunk) if done else CHUNKED
        return response_pairs(head, compressor.lines, framing=framing, clear=server.clear_context), chunk

    def send_data(self, chunk: bytes, done: bool, trailers: bytes) -> None:
        session = self._session
        if not self.ended:
            self.spoken_to(session.server.loop.now())
        if self._compressor is not None:
            chunk = self._compressor.feed(chunk, done)
        if done and trailers:
            if chunk:
                session.sending.write(self.id, chunk, False)
            session.sending.trailers(self.id, trailer_pairs(trailers))
        elif chunk or done:
            session.sending.write(self.id, chunk, done)
        if done:
            session.answered(self)

    def send_answer(self, ex: Exchange, status: int, body: bytes) -> None:
        pairs = answer_pairs(status, body)
        pairs.append(VIA_H2)
        self._send_whole(pairs, b"" if status in (204, 304) else body)

    def send_error(self, ex: Exchange, error: MeshError) -> None:
        if error.reason is Reason.OVERLOADED:
            # As Linkerd 1, and every HTTP/2 client knows what it means: not processed, safe to send again.
            self.reset(REFUSED_STREAM)
        else:
            self._write_error(error, ex.reqid)

    def _write_error(self, error: MeshError, reqid: bytes) -> None:
        server = self._session.server
        if is_grpc(self.head.get(b"content-type")):
            lines = grpc_error_lines(error, clear=server.clear_context, reqid=reqid)
            self._send_whole([(b":status", b"200"), *line_pairs(lines)], b"")
            return
        lines, body = error_parts(
            error, clear=server.clear_context, max_body=server.settings.max_error_body, reqid=reqid
        )
        self._send_whole(answer_pairs(error.status, body, lines), body)

    def _send_whole(self, pairs: Pairs, body: bytes) -> None:
        session = self._session
        if not body or self.head.method == b"HEAD":
            session.engine.send_head(self.id, pairs, True)
            session.sending.flush_soon()
        else:
            session.engine.send_head(self.id, pairs, False)
            session.sending.write(self.id, body, True)
        session.answered(self)

    def switch(self, ex: Exchange, head: ResponseHead, protocol: bytes, tunnel: Tunnel) -> Handover:
        # An upgrade goes on from extended CONNECT only (tunnel_h2.py).
        raise AssertionError("a tunnel for a stream that asked for none")

    def cut(self) -> None:
        ex = self.ex
        # After their deadline gRPC's callers take CANCEL for DEADLINE_EXCEEDED, and INTERNAL_ERROR for a bug.
        overdue = ex is not None and grpc_time_is_over(ex, self._session.server.loop.now())
        self.reset(CANCEL if overdue else INTERNAL_ERROR)

    def reset(self, code: int) -> None:
        """End the stream without the end of a response."""
        session = self._session
        session.sending.forget(self.id)
        session.engine.reset(self.id, code)
        session.sending.flush_soon()
        session.forget(self)
