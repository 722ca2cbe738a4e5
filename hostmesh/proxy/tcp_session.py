"""One connection from a caller to a tcp router: what has to be read of it before it can be routed, then its exchange.

PROXY protocol header, where the listener expects one; a TLS handshake, where it speaks TLS, else the ClientHello, where
the name is in it; then nothing is read until an endpoint is connected. All are bounded in bytes and in time. What was
read goes to the endpoint first, without the PROXY header.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError, Side
from hostmesh.base.reasons import Reason
from hostmesh.protocol.client_hello import read_hello, starts_tls
from hostmesh.protocol.proxy_protocol import read_header
from hostmesh.proxy import refusals
from hostmesh.proxy.tcp_exchange import TcpExchange, TcpHead

if TYPE_CHECKING:
    from hostmesh.protocol.tls.identity import PeerIdentity
    from hostmesh.proxy.exchange import Exchange
    from hostmesh.proxy.secure_accept import ServerTls
    from hostmesh.proxy.tcp_secure import TcpHandshake
    from hostmesh.proxy.tcp_server import TcpServer
    from hostmesh.pump.loop import TimerHandle, Transport


class TcpSession:
    """The caller's half of a :class:`TcpExchange`. Owns its transport until a tunnel does."""

    blocked = False
    version = 0
    """Of HTTP, in records."""

    @property
    def identity(self) -> PeerIdentity | None:
        """Whom the caller has proved to be, over TLS."""
        return self.transport.identity

    def __init__(self, server: TcpServer, transport: Transport, now: float) -> None:
        self._server = server
        self.transport = transport
        self.peer = transport.peer
        """The caller: who connected, or who a trusted PROXY header says it was."""
        self.local = transport.local
        self.opened = now
        self.ex: TcpExchange | None = None
        self._buf = b""
        self._hello = b""
        """What was read and belongs to the endpoint."""
        self._timer: TimerHandle | None = None
        # A caller that reset its connection wants nothing, whatever it had sent before.
        transport.patient = False
        transport.write_stall = server.settings.idle_time
        self._announcers = server.settings.announcers
        """Set while a PROXY header is awaited."""
        self._tls = tls = server.settings.tls
        """Set where a handshake is to come."""
        self._handshake: TcpHandshake | None = None
        if self._announcers is not None or (server.router.reads_hello and tls is None):
            self._timer = server.loop.call_at(now + server.settings.preface_time, self._late)
        else:
            transport.pause()
        # In a later turn: the transport learns who its session is only when this returns.
        server.loop.turn.call_soon(self._admit)

    def _admit(self) -> None:
        server = self._server
        if self.transport.closed:
            return
        try:
            server.check_room()
            if self._announcers is not None:
                self._announcers.check(self.peer[0])
            elif self._tls is not None:
                self._secure(self._tls)
            elif not server.router.reads_hello:
                self._route(TcpHead(self.local, 0, False, None))
        except MeshError as error:
            self._refuse(error)

    # -- what is read before the tunnel ---------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._buf += data
        try:
            self._read()
        except MeshError as error:
            self._refuse(error)
        except Exception as error:
            self._server.router.report(error)
            self._end()

    def _read(self) -> None:
        if self._announcers is not None:
            header = read_header(self._buf)
            if header is None:
                return
            if header.caller is not None:
                self.peer = header.caller
            if header.target is not None:
                # Where the caller went, before a proxy sent it here: endpoints are told that. Listeners are ours.
                self.local = (header.target[0], header.target[1])
            self._buf = self._buf[header.end :]
            self._announcers = None
        if self._tls is not None:
            self._secure(self._tls)
            return
        own = self.transport.local
        if not self._server.router.reads_hello:
            self._route(TcpHead(own, 0, False, None))
        elif self._buf:
            if not starts_tls(self._buf):
                self._route(TcpHead(own, len(self._buf), False, None))
                return
            hello = read_hello(self._buf)
            if hello is not None:
                self._route(TcpHead(own, len(self._buf), True, hello.server_name))

    # -- TLS ------------------------------------------------------------------------------------------------------

    def _secure(self, tls: ServerTls) -> None:
        # Only here: what does not speak TLS does not load it.
        from hostmesh.proxy.tcp_secure import TcpHandshake

        self._stop_timer()
        self._handshake = TcpHandshake(self, self._server, self.transport, tls)
        data, self._buf = self._buf, b""
        self._handshake.start(data)

    def secured(self, transport: Transport, server_name: str | None, error: MeshError | None) -> None:
        """The handshake is done: ``transport`` carries plaintext. ``error``: what is wrong with the name asked for."""
        self._handshake = None
        self.transport = transport
        transport.pause()
        # In a later turn: the transport learns who its session is only when this returns.
        self._server.loop.turn.call_soon(self._go_on, server_name, error)

    def _go_on(self, server_name: str | None, error: MeshError | None) -> None:
        if self.transport.closed:
            return
        if error is not None:
            self._refuse(error)
        else:
            self._route(TcpHead(self.transport.local, 0, True, server_name))

    def insecure(self, error: MeshError) -> None:
        """The handshake has failed, and its alert is on its way."""
        self._handshake = None
        self._server.gone(self)
        self._server.refused(self, error)

    # -- its exchange ---------------------------------------------------------------------------------------------

    def _route(self, head: TcpHead) -> None:
        self._stop_timer()
        self.transport.pause()
        self._hello, self._buf = self._buf, b""
        server = self._server
        self.ex = ex = TcpExchange(self, server, head, server.loop.now())  # type: ignore[arg-type]  # both are of our kind
        server.stats.pending += 1
        server.router.guard(server.router.route, ex, ex.start)

    def hand_over(self) -> bytes:
        """The transport is the tunnel's from now on; what was read of it before."""
        hello, self._hello = self._hello, b""
        return hello

    def _late(self) -> None:
        self._timer = None
        self._refuse(
            MeshError(
                Reason.LIMIT_HEAD_TIME,
                "the PROXY header or ClientHello was not complete within "
                f"{self._server.settings.preface_time:g} s",
                status=408,
                side=Side.CALLER,
            )
        )

    def eof_received(self) -> None:
        if self._buf:
            self._refuse(refusals.cut_short())
        else:
            # A look whether somebody listens.
            self._end()

    def connection_lost(self, error: OSError | None) -> None:
        ex = self.ex
        self.ex = None
        self._stop_timer()
        if ex is not None and not ex.finished:
            ex.router.guard(ex.request_aborted, refusals.gone(f"caller's connection broke: {error}"))
        self._server.gone(self)

    def writable(self) -> None:
        """Nothing is written here."""

    # -- ends -----------------------------------------------------------------------------------------------------

    def _refuse(self, error: MeshError) -> None:
        self._end()
        self._server.refused(self, error)

    def _end(self) -> None:
        # Session and exchange hold each other: what is over lets go.
        self.ex = None
        self._stop_timer()
        if self._handshake is not None:
            self._handshake.cancel()
            self._handshake = None
        self.transport.reset()
        self._server.gone(self)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def over(self, received: int, sent: int) -> None:
        """The tunnel has ended, and with it both connections."""
        self.ex = None
        self._server.gone(self)

    def drain(self) -> None:
        """Of a tunnel nobody but its ends knows when it is complete: it has until the end of the drain."""
        if self.ex is None and not self._buf:
            self._end()

    def abort(self) -> None:
        """The end of the drain."""
        if self.ex is None:
            self._end()
        else:
            self.ex.abort(refusals.end_of_drain())

    # -- as an exchange's caller ----------------------------------------------------------------------------------

    def send_error(self, ex: Exchange, error: MeshError) -> None:
        """No endpoint: a reset says that this is not a connection that was served and closed."""
        self._end()

    def cut(self) -> None:
        self._end()

    def pause(self) -> None:
        """Nothing is read between route and tunnel."""

    def resume(self) -> None:
        """As :meth:`pause`."""
