"""Callers that a proxy in front of us announces, with a PROXY protocol header before anything else.

Until the header is there the connection is counted as one of its server and belongs to nobody else; from then on the
caller is the announced one, for records, ``Forwarded`` fields and rules, and what follows is read as if it had come
from there: HTTP or TLS.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING

from attrs import frozen

from hostmesh.base.errors import MeshError, Side
from hostmesh.base.reasons import Reason
from hostmesh.protocol.proxy_protocol import bad as bad_header
from hostmesh.protocol.proxy_protocol import read_header

if TYPE_CHECKING:
    from hostmesh.proxy.server import Server
    from hostmesh.pump.loop import Address, TimerHandle, Transport

HEADER_TIME = 10.0
"""Seconds from the accept to the end of the header: as for a request head (hardening R1)."""


@frozen
class Announcers:
    """Who may say who calls; no networks stand for everybody who can connect."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    def check(self, ip: str) -> None:
        """Raise MeshError (bad-proxy-header) when that address may not speak for others."""
        if self.networks and not any(ip_address(ip) in network for network in self.networks):
            raise bad_header(f"{ip} may not send one (proxyProtocolFrom)")


class AnnouncedAccept:
    """One connection whose header is not complete. The session of its transport, which is its server's afterwards."""

    __slots__ = ("_buf", "_server", "_timer", "_transport")

    version = 11
    """Of HTTP, for records."""

    def __init__(self, server: Server, transport: Transport, announcers: Announcers, seconds: float) -> None:
        self._server = server
        self._transport = transport
        self._buf = b""
        now = server.loop.now()
        try:
            announcers.check(transport.peer[0])
        except MeshError as error:
            # In a later turn: the transport learns who its session is only when this returns.
            self._timer: TimerHandle | None = None
            server.loop.turn.call_soon(self._refuse, error)
        else:
            self._timer = server.loop.call_at(now + seconds, self._late, seconds)

    @property
    def peer(self) -> Address:
        return self._transport.peer

    def data_received(self, data: bytes) -> None:
        self._buf += data
        try:
            header = read_header(self._buf)
        except MeshError as error:
            self._refuse(error)
            return
        if header is None:
            return
        server, transport = self._server, self._transport
        caller = header.caller
        if caller is not None and not self._is_of_another_host(caller[0]):
            transport.peer = caller
        self._stop_timer()
        rest, self._buf = self._buf[header.end :], b""
        del server.sessions[self]
        session = transport.session = server.meet(transport)
        if rest:
            session.data_received(rest)

    def _is_of_another_host(self, ip: str) -> bool:
        """Whether it is a loopback address elsewhere: it says nothing here, and must not be taken for one of ours."""
        return ip_address(ip).is_loopback and not ip_address(self._transport.peer[0]).is_loopback

    def eof_received(self) -> None:
        if self._buf:
            self._refuse(bad_header("the connection ended within it"))
        else:
            # A look whether somebody listens.
            self.abort()

    def connection_lost(self, error: OSError | None) -> None:
        self._stop_timer()
        self._server.gone(self, self._transport)

    def writable(self) -> None:
        """Nothing is written here."""

    def _late(self, seconds: float) -> None:
        self._timer = None
        what = f"the PROXY header was not complete within {seconds:g} s"
        self._refuse(MeshError(Reason.LIMIT_HEAD_TIME, what, status=408, side=Side.CALLER))

    def _refuse(self, error: MeshError) -> None:
        server = self._server
        if self in server.sessions:
            server.faulted(self, error, server.loop.now())
            self.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def drain(self) -> None:
        """The caller's request is on its way: it is answered, and told to come no more."""

    def abort(self) -> None:
        """End it now."""
        self._stop_timer()
        self._transport.reset()
        self._server.gone(self, self._transport)
