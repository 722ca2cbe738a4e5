"""One stream to an endpoint: the endpoint's half of one attempt on a multiplexed connection.

A stream has no socket to pause: it withholds the window that its body uses up, and gives it back when the exchange may
go on. It ends exactly once, by the end of its response, by a reset of either side or with its connection, and the
connection forgets it then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError, Sent, Side
from hostmesh.base.reasons import Reason
from hostmesh.protocol.h2.engine import NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM, code_name
from hostmesh.protocol.h2.heads import H2ResponseHead, trailer_lines, trailer_pairs
from hostmesh.proxy.client_session import MAX_INFORMATIONAL
from hostmesh.proxy.named_session import told_pairs
from hostmesh.pump.marks import HIGH_MARK

if TYPE_CHECKING:
    from hostmesh.protocol.h2.engine import Pairs
    from hostmesh.proxy.exchange import Exchange
    from hostmesh.proxy.h2_client import H2ClientSession


class H2EndpointStream:
    """See the module's text. Made by :meth:`H2ClientSession.start`."""

    __slots__ = (
        "_ended",
        "_head",
        "_last",
        "_mark",
        "_owed",
        "_paused",
        "_rest",
        "_sent",
        "_session",
        "ex",
        "got_bytes",
        "id",
        "reused",
    )

    def __init__(self, session: H2ClientSession, id: int, ex: Exchange, *, reused: bool, mark: int) -> None:
        self._session = session
        self.id = id
        self.ex: Exchange | None = ex
        self.reused = reused
        """The connection has served before: it may have been closing while this request was on its way."""
        self.got_bytes = False
        self._mark = mark
        """Bytes its connection had carried when it was opened: none more means that nothing of it has left."""
        self._head: H2ResponseHead | None = None
        """A response head that waits for the rest of what was read with it."""
        self._paused = False
        self._owed = 0
        """Body bytes whose window is withheld."""
        self._ended = False
        """The response is complete."""
        self._rest = b""
        """A whole request body of which only :attr:`_sent` bytes have been given to the connection."""

    # -- request half ---------------------------------------------------------------------------------------------

    def send_data(self, chunk: bytes, done: bool, trailers: bytes) -> None:
        sending = self._session.sending
        if done and trailers:
            if chunk:
                sending.write(self.id, chunk, False)
            sending.trailers(self.id, trailer_pairs(trailers))
        else:
            sending.write(self.id, chunk, done)

    def send_whole(self, body: bytes, trailers: bytes) -> None:
        """Send a body that is complete: the exchange holds it anyway, so it leaves from there piece by piece, and what
        waits in the connection stays within its marks."""
        self._rest, self._sent, self._last = body, 0, trailers
        self._feed()

    def _feed(self) -> None:
        body = self._rest
        while body:
            at = self._sent
            piece = body if len(body) <= HIGH_MARK else body[at : at + HIGH_MARK]
            self._sent = at + len(piece)
            if self._sent >= len(body):
                self._rest = b""
                self.send_data(piece, True, self._last)
                return
            self.send_data(piece, False, b"")
            if self.blocked:
                return

    @property
    def blocked(self) -> bool:
        return self._session.sending.blocked(self.id)

    def writable(self) -> None:
        """:attr:`blocked` was True and is not any more."""
        if self._rest:
            self._feed()
        elif self.ex is not None:
            self.ex.endpoint_writable()

    # -- response half --------------------------------------------------------------------------------------------

    def informational(self, ex: Exchange, pairs: Pairs) -> None:
        """A 1xx head."""
        self.got_bytes = True
        head = H2ResponseHead(pairs, False, ex.head.method)
        if ex.informational >= MAX_INFORMATIONAL:
            what = f"sent more than {MAX_INFORMATIONAL} informational responses"
            self.fault(self.error(what, reason=Reason.LIMIT_INFORMATIONAL))
        elif head.status == 101:
            what = "switched protocols (101), which HTTP/2 cannot (RFC 9113 section 8.6)"
            self.fault(self.error(what, reason=Reason.BAD_RESPONSE))
        else:
            ex.on_response(head, b"", False)

    def head(self, ex: Exchange, pairs: Pairs, end: bool) -> bool:
        """The response head. True if it waits for the rest of the read, to be handed on with the first bytes."""
        self.got_bytes = True
        name = self._session.name
        if name is not None:
            pairs = told_pairs(pairs, name, ex.head.host)
        head = H2ResponseHead(pairs, end, ex.head.method)
        if not end:
            self._head = head
            return True
        self._ended = True
        ex.on_response(head, b"", True)
        return False

    def hand_on(self) -> None:
        """Nothing more came with the head: the exchange gets it as it is."""
        head, ex = self._head, self.ex
        if head is not None and ex is not None:
            self._head = None
            ex.on_response(head, b"", False)

    def data(self, ex: Exchange, data: bytes, end: bool) -> None:
        """A piece of the response body."""
        if end:
            self._ended = True
        head = self._head
        if head is not None:
            self._head = None
            ex.on_response(head, data, end)
        elif data or end:
            ex.on_response_data(data, end)
        if not end and self.ex is not None:
            # Given back once it has left us; a paused stream is one whose bytes have not.
            if self._paused:
                self._owed += len(data)
            else:
                self._session.engine.credit(self.id, len(data))

    def trailers(self, ex: Exchange, pairs: Pairs) -> None:
        """The trailers, which end the response."""
        self.hand_on()
        if self.ex is ex:
            self._ended = True
            ex.on_response_data(b"", True, trailer_lines(pairs))

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        if self._owed:
            owed, self._owed = self._owed, 0
            self._session.engine.credit(self.id, owed)
            self._session.sending.flush_soon()

    # -- ends -----------------------------------------------------------------------------------------------------

    def detach(self, now: float, *, reuse: bool) -> None:
        """The exchange is done with this stream: it has ended by itself, or is reset now."""
        if self.ex is not None:
            session = self._session
            self.ex = None
            # Request bytes that are still here or still to come have nobody who reads them (RFC 9113 section 8.1).
            whole = self._ended and not self._rest and not session.sending.pending(self.id)
            session.ended(self, reset=not (reuse and whole))

    def cancel(self) -> None:
        """Break the attempt off: nobody wants its answer any more."""
        if self.ex is not None:
            self.ex = None
            self._session.ended(self, reset=True)

    def fault(self, error: MeshError) -> None:
        """The endpoint has broken a rule on this stream: reset it and tell the exchange."""
        self._session.engine.reset(self.id, PROTOCOL_ERROR)
        self.failed(error)

    def was_reset(self, code: int) -> None:
        """The endpoint has reset this stream."""
        if code == REFUSED_STREAM:
            # Not processed (RFC 9113 section 8.7): any request may be repeated, and better somewhere else.
            error = self.error(f"refused the stream ({code_name(code)})", Sent.NOTHING)
            self.refused(overloaded=True)
            self._session.endpoint.refused(self._session)
            self.lost(error)
        elif code == NO_ERROR:
            self.failed(self.error(f"reset the stream ({code_name(code)}) without a complete response"))
        else:
            self.failed(self.error(f"reset the stream ({code_name(code)}) {self._when()}"))

    def failed(self, error: MeshError) -> None:
        """This stream has failed, its connection has not: no request that met a closing connection, but a failure."""
        self.reused = False
        self.lost(error)

    def refused(self, *, overloaded: bool) -> None:
        """It was not processed, so others are asked first; who is ``overloaded`` is also sent less for a while."""
        ex = self.ex
        if ex is not None and ex.endpoint is not None:
            ex.nacked = overloaded
            if ex.tried is None:
                ex.tried = set()
            ex.tried.add(ex.endpoint)

    def error(
        self, what: str, sent: Sent | None = None, reason: Reason = Reason.RESET_BY_ENDPOINT
    ) -> MeshError:
        """That the endpoint did ``what``; ``sent`` if it is known better than by what has left."""
        ex = self.ex
        if sent is None:
            sent = Sent.NOTHING if ex is None or self._session.carried == self._mark else ex.sent
        text = f"{self._session.endpoint.text} {what}"
        return MeshError(reason, text, status=502, side=Side.CALLEE, sent=sent)

    def broke(self, what: str, reason: Reason) -> MeshError:
        """The connection ended, by ``what``, under this stream."""
        return self.error(f"{what} {self._when()}", reason=reason)

    def bug(self) -> MeshError:
        """That we have failed to read what came on its connection."""
        text = f"hostmesh failed to read what {self._session.endpoint.text} sent; the log has the traceback"
        sent = Sent.ALL if self.ex is None else self.ex.sent
        return MeshError(Reason.BUG, text, status=500, side=Side.SELF, sent=sent)

    def _when(self) -> str:
        ex = self.ex
        if ex is not None and ex.committed:
            return "in the middle of its response body"
        return "after its response head" if self.got_bytes else "before its response"

    def lost(self, error: MeshError) -> None:
        """The stream is gone: the exchange is told, which may send the request again at once."""
        ex = self.ex
        if ex is None:
            return
        self.ex = None
        self._head = None
        self._session.ended(self, reset=False)
        try:
            ex.session = self
            ex.session_lost(error)
        except Exception as bug:
            ex.bug(bug)
