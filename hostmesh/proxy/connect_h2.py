"""CONNECT over HTTP/2 (RFC 9113 section 8.5): a stream that becomes a connection, as tcp_connect.py has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError
from hostmesh.protocol.h2.engine import CONNECT_ERROR
from hostmesh.proxy.exchange import Exchange
from hostmesh.proxy.tcp_connect import connect
from hostmesh.proxy.tunnel_h2 import H2CallerBytes

if TYPE_CHECKING:
    from hostmesh.proxy.stream_transport import StreamTransport
    from hostmesh.pump.loop import Address

ESTABLISHED = ((b":status", b"200"), (b"via", b"h2 hostmesh"))
"""The answer, after which the stream is a tunnel."""


class H2Connect(H2CallerBytes):
    """A stream that asks for a connection, and its end of the tunnel."""

    __slots__ = ()

    reset_code = CONNECT_ERROR
    version = 20

    @property
    def local(self) -> Address:
        """Where the caller's connection came in."""
        return self._session.local

    @property
    def transport(self) -> StreamTransport:
        """The tunnel's, once it stands."""
        assert self._transport is not None
        return self._transport

    def dispatch(self, now: float) -> None:
        server = self._session.server
        server.stats.pending += 1
        try:
            ex = self.ex = connect(self, server, self.head, now)
        except MeshError as error:
            self.ex = Exchange(self, server, self.head, now)
            self.ex.fail(error)
        else:
            ex.router.route(ex, now)

    def hand_over(self) -> bytes:
        """Say that the tunnel stands; the stream is the tunnel's from now on. What has come of it already."""
        session = self._session
        session.engine.send_head(self.id, ESTABLISHED, False)
        session.sending.flush_soon()
        _, early = self._become_transport()
        return early

    def over(self, received: int, sent: int) -> None:
        """The stream has ended by itself."""

    def refuse(self, error: MeshError) -> None:
        if self._transport is None:
            super().refuse(error)
        elif self.ex is not None:
            self.ex.request_aborted(error)
