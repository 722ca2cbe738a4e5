"""Callers of a tcp router that speak TLS to us: the handshake before the tunnel.

It begins behind the PROXY header, if there is one, and is counted and bounded as those of HTTP callers are
(secure_accept.py). What the tunnel carries then is the plaintext.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError, Side
from hostmesh.protocol.client_hello import host_name
from hostmesh.pump.secure import Handshake, SecureTransport

if TYPE_CHECKING:
    from hostmesh.protocol.tls.failures import TlsFailure
    from hostmesh.proxy.secure_accept import ServerTls
    from hostmesh.proxy.tcp_server import TcpServer
    from hostmesh.proxy.tcp_session import TcpSession
    from hostmesh.pump.loop import Session, Transport


class TcpHandshake:
    """One caller whose handshake is in progress."""

    __slots__ = ("_handshake", "_server", "_session", "_transport")

    def __init__(self, session: TcpSession, server: TcpServer, transport: Transport, tls: ServerTls) -> None:
        self._session = session
        self._server = server
        self._transport = transport
        server.tls_stats.begin(self, tls.max_handshakes)
        self._handshake = Handshake(
            server.loop,
            transport,
            tls.contexts.value.connection(),
            self._established,
            self._failed,
            timeout=tls.handshake_time,
            answer=_nothing,
        )

    def start(self, data: bytes) -> None:
        """Begin with what has been read already."""
        self._transport.session = self._handshake
        self._transport.resume()
        if data:
            self._handshake.data_received(data)

    def _established(self, transport: SecureTransport) -> Session:
        stats = self._server.tls_stats
        del stats.in_progress[self]
        stats.established(transport)
        asked = transport.server_name
        try:
            name = None if asked is None else host_name(asked)
        except MeshError as error:
            self._session.secured(transport, None, error)
        else:
            self._session.secured(transport, name, None)
        return self._session

    def _failed(self, failure: TlsFailure) -> None:
        del self._server.tls_stats.in_progress[self]
        self._session.insecure(MeshError(failure.reason, failure.message, status=400, side=Side.CALLER))

    def cancel(self) -> None:
        """Give up; the session knows."""
        if self._server.tls_stats.in_progress.pop(self, self) is None:
            self._handshake.cancel()

    def abort(self) -> None:
        """Make room for another."""
        self._session.abort()


def _nothing(_data: bytes) -> bytes:
    """Who does not speak TLS here may speak anything: there is no language to say so in."""
    return b""
