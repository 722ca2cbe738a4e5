"""The writing half of a TCP connection in the pump.

Bytes leave at once, or in one piece with the rest of their batch; what the kernel refuses is held and watched.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from select import EPOLLOUT
from typing import TYPE_CHECKING, Final

from hostmesh.pump.loop import Session, TimerHandle
from hostmesh.pump.marks import HELD_MAX, HIGH_MARK, LOW_MARK, PEER_GONE, WRITE_STALL

if TYPE_CHECKING:
    from hostmesh.pump.pump import Pump

# Copies: compiled code looks up what comes from another module, and not its own constants.
_OUT: Final = EPOLLOUT


class SocketOutput:
    """What :class:`hostmesh.pump.transport.SocketTransport` is apart from what it reads, and how it closes."""

    __slots__ = (
        "_armed",
        "_broken",
        "_eof",
        "_fd",
        "_held",
        "_hung",
        "_out",
        "_out_bytes",
        "_pump",
        "_send",
        "_shut",
        "_sock",
        "_stall",
        "_state",
        "blocked",
        "bytes_out",
        "session",
        "write_stall",
    )

    # _state: 0 open, 1 closing (flushing), 2 closed
    def __init__(self, pump: Pump, sock: socket.socket) -> None:
        self._pump = pump
        self._sock = sock
        self._send = sock.send
        self._fd = sock.fileno()
        self.session: Session | None = None
        self.blocked = False
        self.bytes_out = 0
        self.write_stall = WRITE_STALL
        self._out: deque[memoryview] = deque()
        self._out_bytes = 0
        self._hung = False
        """Out of the epoll set, because its peer has hung up on who does not read."""
        self._held: bytes | None = None
        """A small write of this batch."""
        self._eof = False
        self._broken: OSError | None = None
        """What a write failed with; reading goes on until the end is found there."""
        self._shut = False
        self._state = 0
        self._stall: TimerHandle | None = None
        self._armed = 0

    def _half_close(self) -> None:
        """All that was written before :meth:`close` has left."""
        raise NotImplementedError

    @property
    def unsent(self) -> bool:
        return self._out_bytes > 0 or self._held is not None

    def _arm(self, mask: int) -> None:
        if mask != self._armed and self._state != 2 and not self._hung:
            self._armed = mask
            self._pump.modify(self._fd, mask)

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
        self._arm(self._armed | _OUT)
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
            self._arm(self._armed & ~_OUT)
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
        self._arm(self._armed & ~_OUT)
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
