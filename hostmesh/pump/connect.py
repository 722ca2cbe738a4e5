"""Dialling endpoints without waiting."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from hostmesh.naming.addr import Endpoint
from hostmesh.pump.loop import Session, TimerHandle, Transport
from hostmesh.pump.transport import SocketTransport

if TYPE_CHECKING:
    from hostmesh.pump.pump import Pump

OURS = {
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOBUFS,
    errno.ENOMEM,
    errno.EADDRNOTAVAIL,
    errno.EACCES,
    errno.EPERM,
}
"""Connect errors that say something about this host, never about the endpoint: they must not eject it."""


class SocketConnecting:
    """One attempt. Calls back in a later turn, never inside ``connect``."""

    __slots__ = ("_endpoint", "_fd", "_on_connected", "_on_failed", "_pump", "_sock", "_timer")

    def __init__(
        self,
        pump: Pump,
        endpoint: Endpoint,
        timeout: float,
        on_connected: Callable[[Transport], Session],
        on_failed: Callable[[OSError], None],
        *,
        no_delay: bool = True,
        keep_alive: bool | None = None,
    ) -> None:
        self._pump = pump
        self._endpoint = endpoint
        self._on_connected = on_connected
        self._on_failed = on_failed
        self._sock: socket.socket | None = None
        self._fd = -1
        self._timer: TimerHandle | None = None
        host = endpoint.host
        try:
            sock = socket.socket(
                socket.AF_INET6 if ":" in host else socket.AF_INET,
                socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
            )
        except OSError as error:
            pump.turn.call_soon(self._fail, error)
            return
        self._sock = sock
        try:
            if no_delay:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if keep_alive:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            code = sock.connect_ex((host, endpoint.port))
        except OSError as error:
            pump.turn.call_soon(self._fail, error)
            return
        if code not in (0, errno.EINPROGRESS):
            pump.turn.call_soon(self._fail, OSError(code, os.strerror(code)))
            return
        self._fd = sock.fileno()
        pump.add(self._fd, select.EPOLLOUT, self._on_event)
        self._timer = pump.call_at(pump.now() + timeout, self._timed_out, timeout)

    def _on_event(self, _mask: int) -> None:
        sock = self._sock
        assert sock is not None
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._fail(OSError(code, os.strerror(code)))
            return
        self._detach()
        try:
            local = sock.getsockname()
        except OSError as error:
            self._fail(error)
            return
        self._sock = None
        transport = SocketTransport(
            self._pump, sock, (self._endpoint.host, self._endpoint.port), (local[0], local[1])
        )
        # Registered before the session exists: it may write its first request inside on_connected.
        transport.open()
        try:
            transport.session = self._on_connected(transport)
        except Exception:
            # Nobody would ever close it.
            transport.abort()
            raise

    def _timed_out(self, timeout: float) -> None:
        self._timer = None
        if self._is_connected():
            # The endpoint was in time and we were late: the event waits behind those of a full batch.
            self._on_event(0)
            return
        self._fail(TimeoutError(errno.ETIMEDOUT, f"no connection within {timeout * 1000:.0f} ms"))

    def _is_connected(self) -> bool:
        sock = self._sock
        if sock is None:
            return False
        try:
            sock.getpeername()
        except OSError:
            return False
        return True

    def _detach(self) -> None:
        if self._fd >= 0:
            self._pump.remove(self._fd)
            self._fd = -1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, error: OSError) -> None:
        self._detach()
        if self._sock is not None:
            self._pump.close_later(self._sock)
            self._sock = None
        self._on_failed(error)

    def cancel(self) -> None:
        """Give up; neither callback runs any more."""
        self._detach()
        if self._sock is not None:
            self._pump.close_later(self._sock)
            self._sock = None
        self._on_connected = _ignore_connected
        self._on_failed = _ignore_failed


def _ignore_connected(transport: Transport) -> Session:
    raise AssertionError("a cancelled attempt connected")


def _ignore_failed(error: OSError) -> None:
    """The attempt was cancelled: nobody waits for its outcome."""
