"""A TCP connection in the pump: read on readiness, write at once, buffer only what the kernel refuses."""

from __future__ import annotations

import errno
import os
import socket
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from typing import TYPE_CHECKING, Final

from hostmesh.pump.loop import Address
from hostmesh.pump.marks import (
    LINGER_READ,
    LINGER_TIME,
    READ_LARGE,
    READ_SMALL,
)
from hostmesh.pump.output import SocketOutput

if TYPE_CHECKING:
    from hostmesh.pump.pump import Pump

# Copies: compiled code looks up what comes from another module, and not its own constants.
_IN: Final = EPOLLIN
_OUT: Final = EPOLLOUT
_HUP: Final = EPOLLHUP
_ERR: Final = EPOLLERR


class SocketTransport(SocketOutput):
    """One connected, non-blocking socket, owned: it is closed here and nowhere else."""

    identity: None = None
    """Nobody proves anything in plain text."""

    __slots__ = ("_lingering", "_paused", "_read_size", "bytes_in", "local", "patient", "peer")

    def __init__(self, pump: Pump, sock: socket.socket, peer: Address, local: Address) -> None:
        super().__init__(pump, sock)
        self.peer = peer
        self.local = local
        self.bytes_in = 0
        self.patient = True
        self._paused = False
        self._read_size = READ_SMALL
        self._lingering = 0

    def open(self) -> None:
        """Enter the epoll set. ``session`` must be set before the current batch ends."""
        self._armed = _IN
        self._pump.add(self._fd, _IN, self.on_event)

    @property
    def closed(self) -> bool:
        return self._state != 0

    @property
    def ended(self) -> bool:
        return self._eof

    @property
    def unread(self) -> int:
        try:
            return len(self._sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return 0

    def on_event(self, mask: int) -> None:
        """Readiness, from the pump. One read per readiness: fairness between connections is the kernel's order."""
        if mask & _IN and not self._paused:
            try:
                data = self._sock.recv(self._read_size)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._lost(self._broken or error)
                return
            if data:
                size = len(data)
                self.bytes_in += size
                if size == self._read_size:
                    self._read_size = READ_LARGE
                if self._state:
                    self._linger(size)
                else:
                    self.session.data_received(data)  # type: ignore[union-attr]  # set before the batch in which it was opened ended
            else:
                self._on_eof()
        elif mask & (_HUP | _ERR):
            self._on_hang_up()
            return
        if mask & _OUT and self._state != 2 and self._broken is None:
            self._flush()

    def _on_eof(self) -> None:
        self._eof = True
        self._arm(self._armed & ~_IN)
        if self._broken is not None:
            # Not an end that the peer chose: a body that lasts until the connection ends is cut, not complete.
            self._lost(self._broken)
        elif self._state:
            if not self._out:
                self._finish_close()
        else:
            self.session.eof_received()  # type: ignore[union-attr]  # set before the batch in which it was opened ended

    def _on_hang_up(self) -> None:
        # Level-triggered epoll reports HUP and ERR whatever is armed. While reading is paused we cannot consume the
        # condition, so the descriptor leaves the set until resume() (else the loop spins).
        if self._paused and self.patient and not self._eof and self._state == 0 and not self._out:
            self._hung = True
            self._pump.remove(self._fd)
            self._armed = 0
            return
        error = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if self._broken is not None:
            self._lost(self._broken)
        elif error:
            self._lost(OSError(error, os.strerror(error)))
        else:
            self._lost(ConnectionResetError(errno.ECONNRESET, "hung up"))

    def pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._arm(self._armed & ~_IN)

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            if self._state:
                return
            if self._hung:
                self._hung = False
                self._armed = _IN | (_OUT if self._out else 0)
                self._pump.add(self._fd, self._armed, self.on_event)
            elif not self._eof:
                self._arm(self._armed | _IN)

    def acknowledge(self) -> None:
        # A peer with Nagle's algorithm that writes head and body apart waits for our delayed ACK, 40 ms. Asked for
        # only when a message is known to be incomplete, so whole messages pay nothing.
        try:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        except OSError as error:
            self._fail_later(error)

    def close(self, *, wait: bool = True) -> None:
        if self._state == 0:
            self._send_held()
            self._state = 1
            if not wait:
                self._eof = True
            if not self._out:
                self._half_close()
            else:
                # What the peer still sends is not for us; reading it away waits until our last byte has left, or a
                # large upload would use up the lingering while the answer is still on its way.
                self._arm(self._armed & ~_IN)

    def _half_close(self) -> None:
        # Closing with unread input makes the kernel send a reset, which can destroy the answer on its way to the
        # peer (RFC 9112 section 9.6). So: FIN first, read and drop for a moment, then close.
        if self._eof:
            self._finish_close()
            return
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._finish_close()
            return
        if self._stall is not None:
            self._stall.cancel()
        self._stall = self._pump.call_at(self._pump.now() + LINGER_TIME, self._finish_close)
        if self._hung:
            self._finish_close()
            return
        self._paused = False
        self._arm(_IN)
        self._read_size = READ_LARGE

    def _linger(self, size: int) -> None:
        self._lingering += size
        if self._lingering > LINGER_READ:
            # Enough read away. Closing now, with more unread, would reset what is still on its way to the peer, so the
            # upload is left to stand until the time is over.
            self._arm(0)

    def _finish_close(self) -> None:
        if self._state != 2:
            self._release()
            session, self.session = self.session, None
            if session is not None:
                self._pump.turn.call_soon(session.connection_lost, None)

    def detach(self) -> tuple[socket.socket, bytes]:
        """Give the socket away, with what was written and has not left; the transport is closed, its session is not
        told. The new owner closes the socket, after the batch."""
        self._send_held()
        unsent = b"".join(self._out)
        sock = self._sock
        self.session = None
        self._release(keep=True)
        return sock, unsent

    def abort(self) -> None:
        if self._state != 2:
            self._release()
            session, self.session = self.session, None
            if session is not None:
                self._pump.turn.call_soon(session.connection_lost, None)

    def reset(self) -> None:
        """As :meth:`abort`, and the peer sees RST instead of FIN: the cut of a message that must not look complete."""
        if self._state != 2:
            try:
                self._sock.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
                )
            except OSError as error:
                self._pump.report(error)
            self.abort()
