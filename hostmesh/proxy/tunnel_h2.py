"""Tunnels over HTTP/2 (RFC 8441): streams that behave as connections.

A tunnel joins two transports (``pump/tunnel.py``); a stream of either side becomes one here. Its FIN is END_STREAM, its
reset RST_STREAM with CANCEL (RFC 8441 section 5), and pausing it withholds the window of what has come.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError
from hostmesh.protocol.h2.connect import switch_pairs
from hostmesh.protocol.h2.engine import CANCEL, NO_ERROR
from hostmesh.protocol.h2.heads import VERSION
from hostmesh.protocol.h2.message import H2ResponseHead
from hostmesh.protocol.upgrade import protocols, upgrade_to_forward
from hostmesh.proxy.exchange import Exchange
from hostmesh.proxy.h2_caller_stream import SUCCESS_PAIR, VIA_H1, VIA_H2, H2CallerStream
from hostmesh.proxy.h2_client_stream import H2EndpointStream
from hostmesh.proxy.tunnel import Handover, open_tunnel

if TYPE_CHECKING:
    from hostmesh.protocol.h1_message import RequestHead, ResponseHead
    from hostmesh.protocol.h2.engine import Engine, Pairs
    from hostmesh.proxy.h2_caller import H2CallerSession
    from hostmesh.proxy.h2_client import H2ClientSession
    from hostmesh.proxy.h2_sending import Sending
    from hostmesh.proxy.tunnel import Tunnel
    from hostmesh.pump.loop import Address, Loop, Session

CLOSE_LOOK = 0.1
"""Seconds between looks at a stream of which both directions have ended, and whose last bytes wait for a window."""


class StreamTransport:
    """One stream as a transport, see :class:`hostmesh.pump.loop.Transport`. The stream tells it what comes.

    ``reset_stream`` sends RST_STREAM, ``over`` lets go of a stream that has ended both ways.
    """

    identity: None = None
    """Of the connection that carries it: asked there."""

    __slots__ = (
        "_closed",
        "_engine",
        "_id",
        "_loop",
        "_over",
        "_owed",
        "_paused",
        "_reset_stream",
        "_sending",
        "_shut",
        "bytes_in",
        "bytes_out",
        "ended",
        "local",
        "patient",
        "peer",
        "session",
        "write_stall",
    )

    def __init__(
        self,
        id: int,
        engine: Engine,
        sending: Sending,
        loop: Loop,
        *,
        peer: Address,
        owed: int,
        ended: bool,
        reset_stream: Callable[[], object],
        over: Callable[[], object],
    ) -> None:
        self._id = id
        self._engine = engine
        self._sending = sending
        self._loop = loop
        self._reset_stream = reset_stream
        self._over = over
        self._owed = owed
        """Bytes received whose window is withheld."""
        self._paused = True
        self._shut = False
        self._closed = False
        self.session: Session | None = None
        self.peer = self.local = peer
        self.ended = ended
        self.patient = True
        self.bytes_in = 0
        self.bytes_out = 0
        self.write_stall = 0.0
        """Stalls are found by what sends for all streams (``h2_sending.py``)."""

    # -- what the stream tells ------------------------------------------------------------------------------------

    def data(self, data: bytes, end: bool) -> None:
        """A piece of the body, perhaps the last."""
        session = self.session
        if session is None:
            return
        try:
            if data:
                self.bytes_in += len(data)
                session.data_received(data)
                if self._paused:
                    self._owed += len(data)
                else:
                    self._engine.credit(self._id, len(data))
            if end and not self.ended:
                self.ended = True
                session.eof_received()
        except Exception:
            # Ours; whoever called reports it. The tunnel cannot go on.
            self.reset()
            raise

    def broke(self, error: MeshError) -> None:
        """The stream is gone, and whoever owns it knows."""
        if not self._closed:
            self._closed = True
            session, self.session = self.session, None
            if session is not None:
                session.connection_lost(ConnectionResetError(errno.ECONNRESET, error.message))

    def stop(self) -> None:
        """The stream takes no more, and is over: what is written from now on is dropped."""
        self._shut = True
        self._over = _done

    def stream_writable(self) -> None:
        """:attr:`blocked` was True and is not any more."""
        if self.session is not None:
            self.session.writable()

    # -- a transport ----------------------------------------------------------------------------------------------

    @property
    def blocked(self) -> bool:
        return self._sending.blocked(self._id)

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def unsent(self) -> bool:
        return self._sending.pending(self._id)

    @property
    def unread(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        if data and not self._shut and not self._closed:
            self.bytes_out += len(data)
            self._sending.write(self._id, data, False)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            if self._owed and not self._closed:
                owed, self._owed = self._owed, 0
                self._engine.credit(self._id, owed)
                self._sending.flush_soon()

    def acknowledge(self) -> None:
        """Windows are given back by :meth:`resume`."""

    def shutdown_write(self) -> None:
        if not self._shut and not self._closed:
            self._shut = True
            self._sending.write(self._id, b"", True)

    def close(self) -> None:
        """Called when the peer has ended, too: what is buffered leaves, then the stream is over."""
        self.shutdown_write()
        if self._closed:
            return
        if self.unsent:
            self._loop.call_at(self._loop.now() + CLOSE_LOOK, self.close)
            return
        self._end()
        self._over()

    def reset(self) -> None:
        if not self._closed:
            self._end()
            self._reset_stream()

    abort = reset

    def _end(self) -> None:
        self._closed = True
        session, self.session = self.session, None
        if session is not None:
            self._loop.turn.call_soon(session.connection_lost, None)


class H2CallerTunnel(H2CallerStream):
    """A stream with which a caller asks for a tunnel. Until the endpoint agrees it is as any other, with a request that
    is complete; what comes meanwhile stays here, within the stream's first window."""

    __slots__ = ("_transport", "_tunnel")

    def __init__(self, session: H2CallerSession, id: int, head: RequestHead, ended: bool, now: float) -> None:
        super().__init__(session, id, head, ended, now)
        self._transport: StreamTransport | None = None
        self._tunnel: Tunnel | None = None

    @property
    def waits(self) -> bool:
        return False

    def dispatch(self, now: float) -> None:
        server = self._session.server
        ex = self.ex = Exchange(self, server, self.head, now)
        server.stats.pending += 1
        ex.upgrade = upgrade_to_forward(self.head, server.settings.upgrades)
        ex.router.route(ex, now)

    def body(self, data: bytes, end: bool, now: float) -> None:
        if end:
            self.ended = True
        if self._transport is not None:
            self._transport.data(data, end)
        elif self._pieces is not None:
            self._pieces.append(data)
            self._size += len(data)

    def trailers(self, pairs: Pairs, now: float) -> None:
        # RFC 9113 section 8.5: no frames but DATA; here they are the end that they are, and say nothing.
        self.body(b"", True, now)

    def later(self, now: float) -> None:
        """Nothing waits for the rest of a tunnel."""

    def switch(self, ex: Exchange, head: ResponseHead, protocol: bytes, tunnel: Tunnel) -> Handover:
        session = self._session
        server = session.server
        clear = server.clear_context
        pairs = switch_pairs(ex.head, head, protocol, clear=clear)
        pairs.append(VIA_H2 if head.version == VERSION else VIA_H1)
        if not clear:
            pairs.append(SUCCESS_PAIR)
        session.engine.send_head(self.id, pairs, False)
        session.sending.flush_soon()
        pieces, self._pieces = self._pieces or [], None
        self._tunnel = tunnel
        self._transport = StreamTransport(
            self.id,
            session.engine,
            session.sending,
            server.loop,
            peer=session.peer,
            owed=self._size,
            ended=self.ended,
            reset_stream=lambda: self.reset(CANCEL),
            over=lambda: session.answered(self),
        )
        return Handover(self._transport, b"".join(pieces), b"", _nothing)

    def writable(self) -> None:
        if self._transport is not None:
            self._transport.stream_writable()

    def abort(self, error: MeshError) -> None:
        if self._transport is None:
            super().abort(error)
        else:
            self._transport.broke(error)

    def refuse(self, error: MeshError) -> None:
        if self._tunnel is None:
            super().refuse(error)
        else:
            self._tunnel.end_with(error)


class H2EndpointTunnel(H2EndpointStream):
    """A stream that asks an endpoint for a tunnel. Its answer decides whether it becomes one."""

    __slots__ = ("_asked", "_transport")

    def __init__(
        self, session: H2ClientSession, id: int, ex: Exchange, *, reused: bool, mark: int, asked: bytes
    ) -> None:
        super().__init__(session, id, ex, reused=reused, mark=mark)
        self._asked = asked
        self._transport: StreamTransport | None = None

    def head(self, ex: Exchange, pairs: Pairs, end: bool) -> bool:
        head = H2ResponseHead(pairs, end, b"CONNECT")
        if not 200 <= head.status < 300:
            return super().head(ex, pairs, end)
        self.got_bytes = True
        session = self._session
        self._transport = StreamTransport(
            self.id,
            session.engine,
            session.sending,
            ex.router.loop,
            peer=(session.endpoint.endpoint.host, session.endpoint.endpoint.port),
            owed=0,
            ended=end,
            reset_stream=lambda: session.ended(self, reset=True),
            over=lambda: session.ended(self, reset=False),
        )
        open_tunnel(ex, head, protocols(self._asked)[0], Handover(self._transport, b"", b"", _nothing))
        return False

    def data(self, ex: Exchange, data: bytes, end: bool) -> None:
        if self._transport is None:
            super().data(ex, data, end)
        else:
            self._transport.data(data, end)

    def trailers(self, ex: Exchange, pairs: Pairs) -> None:
        if self._transport is None:
            super().trailers(ex, pairs)
        else:
            self._transport.data(b"", True)

    def writable(self) -> None:
        if self._transport is not None:
            self._transport.stream_writable()

    def was_reset(self, code: int) -> None:
        transport = self._transport
        if transport is not None and transport.ended and code == NO_ERROR:
            # It has said all and reads no more (RFC 9113 section 8.1): what the caller still says has no reader.
            self._session.ended(self, reset=False)
            transport.stop()
        else:
            super().was_reset(code)

    def lost(self, error: MeshError) -> None:
        if self._transport is None:
            super().lost(error)
        else:
            self.ex = None
            self._session.ended(self, reset=False)
            self._transport.broke(error)


def _done() -> None:
    """There is nothing to let go of."""


def _nothing(_came: int, _went: int) -> None:
    """Streams end by themselves."""
