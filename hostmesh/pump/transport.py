"""A TCP connection in the pump: read on readiness, write at once, buffer only what the kernel refuses."""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from typing import TYPE_CHECKING

from hostmesh.pump.loop import Address, Session, TimerHandle
from hostmesh.pump.marks import (
    HELD_MAX,
    HIGH_MARK,
    LINGER_READ,
    LINGER_TIME,
    LOW_MARK,
    PEER_GONE,
    READ_LARGE,
    READ_SMALL,
    WRITE_STALL,
)

if TYPE_CHECKING:
    from hostmesh.pump.pump import Pump


class SocketTransport:
    """One connected, non-blocking socket, owned: it is closed here and nowhere else."""

    identity: None = None
    """Nobody proves anything in plain text."""

    __slots__ = (
        "_armed",
        "_broken",
        "_eof",
        "_fd",
        "_held",
        "_hung",
        "_lingering",
        "_out",
        "_out_bytes",
        "_paused",
        "_pump",
        "_read_size",
        "_send",
        "_shut",
        "_sock",
        "_stall",
        "_state",
        "blocked",
        "bytes_in",
        "bytes_out",
        "local",
        "patient",
        "peer",
        "session",
        "write_stall",
    )

    # _state: 0 open, 1 closing (flushing), 2 closed
    def __init__(self, pump: Pump, sock: socket.socket, peer: Address, local: Address) -> None:
        self._pump = pump
        self._sock = sock
        self._send = sock.send
        self._fd = sock.fileno()
        self.peer = peer
        self.local = local
        self.session: Session | None = None
        self.blocked = False
        self.bytes_in = 0
        self.bytes_out = 0
        self.write_stall = WRITE_STALL
        self.patient = True
        self._out: deque[memoryview] = deque()
        self._out_bytes = 0
        self._paused = False
        self._hung = False
        self._held: bytes | None = None
        """A small write of this batch."""
        self._eof = False
        self._broken: OSError | None = None
        """What a write failed with; reading goes on until the end is found there."""
        self._shut = False
        self._state = 0
        self._read_size = READ_SMALL
        self._lingering = 0
        self._stall: TimerHandle | None = None
        self._armed = 0

    def open(self) -> None:
        """Enter the epoll set. ``session`` must be set before the current batch ends."""
        self._armed = EPOLLIN
        self._pump.add(self._fd, EPOLLIN, self.on_event)

    @property
    def closed(self) -> bool:
        return self._state != 0

    @property
    def ended(self) -> bool:
        return self._eof

    @property
    def unsent(self) -> bool:
        return self._out_bytes > 0 or self._held is not None

    @property
    def unread(self) -> int:
        try:
            return len(self._sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return 0

    def on_event(self, mask: int) -> None:
        """Readiness, from the pump. One read per readiness: fairness between connections is the kernel's order."""
        if mask & EPOLLIN and not self._paused:
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
        elif mask & (EPOLLHUP | EPOLLERR):
            self._on_hang_up()
            return
        if mask & EPOLLOUT and self._state != 2 and self._broken is None:
            self._flush()

    def _on_eof(self) -> None:
        self._eof = True
        self._arm(self._armed & ~EPOLLIN)
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

    def _arm(self, mask: int) -> None:
        if mask != self._armed and self._state != 2 and not self._hung:
            self._armed = mask
            self._pump.modify(self._fd, mask)

    def pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._arm(self._armed & ~EPOLLIN)

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            if self._state:
                return
            if self._hung:
                self._hung = False
                self._armed = EPOLLIN | (EPOLLOUT if self._out else 0)
                self._pump.add(self._fd, self._armed, self.on_event)
            elif not self._eof:
                self._arm(self._armed | EPOLLIN)

    def write(self, data: bytes) -> None:
        if self._state or self._shut:
            return
        held = self._held
        if held is not None:
            data = held + data
            if len(data) < HELD_MAX:
                self._held = data
                return
            self._held = None
        elif len(data) < HELD_MAX and not self._out and not self._pump.lone:
            # Sent with all other small writes of the batch: peers that are woken by the first are still awake for
            # the next, and waking is what a send costs most (docs/architecture.md).
            self._held = data
            self._pump.held.append(self._send_held)
            return
        self._write(data)

    def _send_held(self) -> None:
        data = self._held
        if data is not None:
            self._held = None
            try:
                sent = self._send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._write_failed(error)
                return
            if sent == len(data):
                self.bytes_out += sent
            else:
                self._sent_some(data, sent)

    def _write(self, data: bytes) -> None:
        if not self._out:
            try:
                sent = self._send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._write_failed(error)
                return
            self._sent_some(data, sent)
        else:
            self._out.append(memoryview(data))
            self._out_bytes += len(data)
            if self._out_bytes >= HIGH_MARK:
                self.blocked = True

    def _sent_some(self, data: bytes, sent: int) -> None:
        """The kernel took ``sent`` bytes of ``data``, perhaps not all; the rest waits for it."""
        self.bytes_out += sent
        if sent == len(data):
            return
        self._out.append(memoryview(data)[sent:])
        self._out_bytes = len(data) - sent
        self._arm(self._armed | EPOLLOUT)
        self._stall = self._pump.call_at(self._pump.now() + self.write_stall, self._stalled, self.bytes_out)
        if self._out_bytes >= HIGH_MARK:
            self.blocked = True

    def _flush(self) -> None:
        out = self._out
        try:
            while out:
                piece = out[0]
                sent = self._send(piece)
                self.bytes_out += sent
                self._out_bytes -= sent
                if sent < len(piece):
                    out[0] = piece[sent:]
                    break
                out.popleft()
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            if self._state:
                self._lost(error)
            else:
                self._write_failed(error)
            return
        if not out:
            self._arm(self._armed & ~EPOLLOUT)
            if self._stall is not None:
                self._stall.cancel()
                self._stall = None
            if self._shut:
                self._shutdown_socket()
            if self._state == 1:
                self._half_close()
                return
        if self.blocked and self._out_bytes <= LOW_MARK:
            self.blocked = False
            if self._state == 0 and self.session is not None:
                self.session.writable()

    def _stalled(self, bytes_out: int) -> None:
        if self.bytes_out == bytes_out:
            self._lost(TimeoutError(errno.ETIMEDOUT, f"no progress in writing for {self.write_stall:g} s"))
        else:
            self._stall = self._pump.call_at(
                self._pump.now() + self.write_stall, self._stalled, self.bytes_out
            )

    def acknowledge(self) -> None:
        # A peer with Nagle's algorithm that writes head and body apart waits for our delayed ACK, 40 ms. Asked for
        # only when a message is known to be incomplete, so whole messages pay nothing.
        try:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        except OSError as error:
            self._fail_later(error)

    def shutdown_write(self) -> None:
        if not self._shut and self._state == 0:
            self._send_held()
            self._shut = True
            if not self._out:
                self._shutdown_socket()

    def _shutdown_socket(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                self._fail_later(error)

    def close(self) -> None:
        if self._state == 0:
            self._send_held()
            self._state = 1
            if not self._out:
                self._half_close()
            else:
                # What the peer still sends is not for us; reading it away waits until our last byte has left, or a
                # large upload would use up the lingering while the answer is still on its way.
                self._arm(self._armed & ~EPOLLIN)

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
        self._arm(EPOLLIN)
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

    def _write_failed(self, error: OSError) -> None:
        """Nothing can be written any more; what the peer said before it broke the connection is still to be read.

        An endpoint that answers early and closes resets the upload: its answer lies in front of the reset.
        """
        if error.errno not in PEER_GONE:
            self._fail_later(error)
            return
        self._broken = error
        self._shut = True
        self._out.clear()
        self._out_bytes = 0
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        if self._eof:
            self._fail_later(error)
            return
        self._arm(self._armed & ~EPOLLOUT)
        if self.blocked:
            self.blocked = False
            if self.session is not None:
                self._pump.turn.call_soon(self._tell_writable)

    def _tell_writable(self) -> None:
        if self._state == 0 and self.session is not None:
            self.session.writable()

    def _fail_later(self, error: OSError) -> None:
        # write() runs inside a session's own method; telling it now would re-enter it.
        self._pump.turn.call_soon(self._lost, error)

    def _lost(self, error: OSError) -> None:
        if self._state == 2:
            return
        self._release()
        session, self.session = self.session, None
        if session is not None:
            session.connection_lost(error)

    def _release(self, *, keep: bool = False) -> None:
        self._state = 2
        self._held = None
        self._out.clear()
        self._out_bytes = 0
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        if not self._hung:
            self._pump.remove(self._fd)
        if not keep:
            self._pump.close_later(self._sock)
