"""Tunnels over HTTP/2 (RFC 8441): streams that behave as connections.

A tunnel joins two transports (``pump/tunnel.py``); a stream of either side becomes one here.
"""

from __future__ import annotations

from functools import partial
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
from hostmesh.proxy.stream_transport import StreamTransport
from hostmesh.proxy.tunnel import Handover, open_tunnel

if TYPE_CHECKING:
    from hostmesh.protocol.h1_message import RequestHead, ResponseHead
    from hostmesh.protocol.h2.engine import Pairs
    from hostmesh.proxy.h2_caller import H2CallerSession
    from hostmesh.proxy.h2_client import H2ClientSession
    from hostmesh.proxy.tunnel import Tunnel


class H2CallerBytes(H2CallerStream):
    """A stream with which a caller asks for a tunnel. Until it has one it is as any other, with a request that is
    complete; what comes meanwhile stays here, within the stream's first window."""

    __slots__ = ("_transport",)

    reset_code = CANCEL
    """With which a tunnel that broke is reset."""

    def __init__(self, session: H2CallerSession, id: int, head: RequestHead, ended: bool, now: float) -> None:
        super().__init__(session, id, head, ended, now)
        self._transport: StreamTransport | None = None

    @property
    def waits(self) -> bool:
        return False

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

    def _become_transport(self) -> tuple[StreamTransport, bytes]:
        """The stream is a tunnel's from now on; with what has come of it already."""
        session = self._session
        pieces, self._pieces = self._pieces or [], None
        transport = self._transport = StreamTransport(
            self.id,
            session.engine,
            session.sending,
            session.server.loop,
            peer=session.peer,
            owed=self._size,
            ended=self.ended,
            reset_stream=self._broke_off,
            over=partial(session.answered, self),
        )
        return transport, b"".join(pieces)

    def _broke_off(self) -> None:
        self.reset(self.reset_code)

    def writable(self) -> None:
        if self._transport is not None:
            self._transport.stream_writable()

    def abort(self, error: MeshError) -> None:
        if self._transport is None:
            super().abort(error)
        else:
            self._transport.broke(error)


class H2CallerTunnel(H2CallerBytes):
    """The stream of an extended CONNECT: the endpoint's agreement makes a tunnel of it."""

    __slots__ = ("_tunnel",)

    def __init__(self, session: H2CallerSession, id: int, head: RequestHead, ended: bool, now: float) -> None:
        super().__init__(session, id, head, ended, now)
        self._tunnel: Tunnel | None = None

    def dispatch(self, now: float) -> None:
        server = self._session.server
        ex = self.ex = Exchange(self, server, self.head, now)
        server.stats.pending += 1
        ex.upgrade = upgrade_to_forward(self.head, server.settings.upgrades)
        ex.router.route(ex, now)

    def switch(self, ex: Exchange, head: ResponseHead, protocol: bytes, tunnel: Tunnel) -> Handover:
        session = self._session
        clear = session.server.clear_context
        pairs = switch_pairs(ex.head, head, protocol, clear=clear)
        pairs.append(VIA_H2 if head.version == VERSION else VIA_H1)
        if not clear:
            pairs.append(SUCCESS_PAIR)
        session.engine.send_head(self.id, pairs, False)
        session.sending.flush_soon()
        self._tunnel = tunnel
        transport, early = self._become_transport()
        return Handover(transport, early, b"", _nothing)

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
            reset_stream=partial(session.ended, self, reset=True),
            over=partial(session.ended, self, reset=False),
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


def _nothing(_came: int, _went: int) -> None:
    """Streams end by themselves."""
