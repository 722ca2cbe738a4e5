"""Listening sockets: they belong to the daemon, outlive reloads, and are handed over, never closed and reopened."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
from collections.abc import Callable

from attrs import frozen

from hostmesh.base.errors import ConfigError
from hostmesh.pump.loop import Address, Session, TimerHandle
from hostmesh.pump.pump import Pump
from hostmesh.pump.transport import SocketTransport

ACCEPT_BURST = 16
"""Connections accepted per readiness: enough for a burst, little enough for the connections already open."""

REARM_AFTER = 0.1
"""Seconds for which a listener is out of the set after EMFILE, ENFILE or the connection cap (hardening R3)."""

EVERYWHERE = ("0.0.0.0", "::")
"""What a listener of all addresses is bound to."""

OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


@frozen(kw_only=True)
class ListenOptions:
    """Socket options of a listener and of what it accepts (``socketOptions``)."""

    no_delay: bool = True
    reuse_addr: bool = True
    reuse_port: bool = False
    keep_alive: bool | None = None
    backlog: int | None = None


def open_listener(ip: str, port: int, options: ListenOptions) -> socket.socket:
    """A bound, listening, non-blocking socket. Raises ConfigError naming the address and the reason."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if options.reuse_addr:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if options.reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((ip, port))
        sock.listen(options.backlog or socket.SOMAXCONN)
    except OSError as error:
        sock.close()
        hints = {
            errno.EADDRINUSE: "another process listens there; stop it or choose another port",
            errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE",
            errno.EADDRNOTAVAIL: "no interface of this machine has that address",
        }
        hint = hints.get(error.errno or 0, "")
        raise ConfigError(
            f"cannot listen on {ip}:{port}: {os.strerror(error.errno or 0)}" + (f" ({hint})" if hint else "")
        ) from error
    return sock


class Listener:
    """Accepts connections and gives each a session.

    ``make_session(transport)`` is called for each; it may raise, then the connection is closed and the error reported.
    ``capacity`` answers how many more connections may be accepted now.
    """

    def __init__(
        self,
        pump: Pump,
        sock: socket.socket,
        options: ListenOptions,
        make_session: Callable[[SocketTransport], Session],
        capacity: Callable[[], int] = lambda: ACCEPT_BURST,
    ) -> None:
        self._pump = pump
        self.sock = sock
        self.options = options
        self.make_session = make_session
        self._capacity = capacity
        self._armed = False
        self._rearm: TimerHandle | None = None
        self.accepted = 0
        self.refused = 0
        self._family = sock.family
        name = sock.getsockname()
        self.address: Address = (name[0], name[1])
        self._everywhere = name[0] in EVERYWHERE

    def start(self) -> None:
        if not self._armed:
            self._armed = True
            self._pump.add(self.sock.fileno(), select.EPOLLIN, self._on_event)

    def stop(self) -> None:
        """Accept no more; the socket stays open (its queue is served again after ``start``)."""
        if self._rearm is not None:
            self._rearm.cancel()
            self._rearm = None
        if self._armed:
            self._armed = False
            self._pump.remove(self.sock.fileno())

    def close(self) -> None:
        self.stop()
        self._pump.close_later(self.sock)

    def finish(self) -> None:
        """Accept who has connected already, whose requests may be here, and refuse everybody else from now on."""
        self.stop()
        self._accept(self._capacity())
        if self._rearm is not None:
            self._rearm.cancel()
            self._rearm = None
        # Closing waits for the end of the batch; connections that came until then would be reset.
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self._pump.close_later(self.sock)

    def _on_event(self, _mask: int) -> None:
        self._accept(min(ACCEPT_BURST, self._capacity()))

    def _accept(self, room: int) -> None:
        if room <= 0:
            self.refused += 1
            self._wait()
            return
        for _ in range(room):
            try:
                # socket.accept() is made of it, and costs more than the call itself: enums of numbers, to make
                # numbers of them again.
                fd, peer = self.sock._accept()  # type: ignore[attr-defined]  # not documented
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in OUT_OF_DESCRIPTORS:
                    self.refused += 1
                    self._wait()
                    return
                if error.errno in (
                    errno.ECONNABORTED,
                    errno.EPROTO,
                    errno.EPERM,
                    errno.ENETDOWN,
                    errno.EHOSTUNREACH,
                ):
                    continue
                raise
            self.accepted += 1
            self._adopt(socket.socket(self._family, socket.SOCK_STREAM, 0, fd), peer)

    def _adopt(self, sock: socket.socket, peer: tuple[str, int]) -> None:
        try:
            sock.setblocking(False)
            if self.options.no_delay:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.options.keep_alive:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            local = self.address
            if self._everywhere:
                # Only then the connection's own address is another than the listener's.
                name = sock.getsockname()
                local = (name[0], name[1])
        except OSError:
            # The peer reset the connection between the kernel's accept and ours: nobody is there to be told.
            sock.close()
            return
        transport = SocketTransport(self._pump, sock, (peer[0], peer[1]), local)
        transport.open()
        try:
            transport.session = self.make_session(transport)
        except Exception:
            transport.abort()
            raise

    def _wait(self) -> None:
        # Never spin on a condition that only time can change.
        self.stop()
        self._rearm = self._pump.call_at(self._pump.now() + REARM_AFTER, self.start)
