"""One end of a connection inside the process: what a socket and the kernel would do, as events of a virtual clock.

It follows :class:`hostmesh.pump.transport.SocketTransport` rule by rule, marks and lingering included, so that what a
test sees of the proxy is what a socket would have seen. Latency and window belong to the connection; a reset arrives
after the bytes that left before it, as Linux delivers it.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING

from hostmesh.pump.loop import Address, Session, TimerHandle
from hostmesh.pump.marks import (
    HIGH_MARK,
    LINGER_READ,
    LINGER_TIME,
    LOW_MARK,
    READ_LARGE,
    READ_SMALL,
    WRITE_STALL,
)

if TYPE_CHECKING:
    from hostmesh.pump.memory import MemoryLoop

WINDOW = 64 * 1024
"""Bytes on their way or unread by the other end before the "kernel" takes no more: both socket buffers in one."""


class MemoryTransport:
    """See the module's text. Made in pairs by :func:`pair`; ``open`` after its session is known."""

    identity: None = None
    """Nobody proves anything in plain text."""

    __slots__ = (
        "_eof",
        "_fin",
        "_inbox",
        "_inbox_bytes",
        "_latency",
        "_lingering",
        "_loop",
        "_opened",
        "_out",
        "_out_bytes",
        "_paused",
        "_peer",
        "_read_size",
        "_reading",
        "_reset",
        "_shut",
        "_stall",
        "_state",
        "_window",
        "blocked",
        "bytes_in",
        "bytes_out",
        "local",
        "patient",
        "peer",
        "session",
        "write_stall",
    )

    _peer: MemoryTransport

    def __init__(
        self, loop: MemoryLoop, peer: Address, local: Address, latency: float, window: int = WINDOW
    ) -> None:
        self._loop = loop
        self.peer = peer
        self.local = local
        self.session: Session | None = None
        self.patient = True
        self.blocked = False
        self.bytes_in = 0
        self.bytes_out = 0
        self.write_stall = WRITE_STALL
        self._latency = latency
        self._window = window
        """Bytes that may still be handed over before the other end reads some."""
        self._inbox: deque[bytes] = deque()
        self._inbox_bytes = 0
        self._out: deque[bytes] = deque()
        self._out_bytes = 0
        self._opened = False
        self._paused = False
        self._reading = False
        """A read is scheduled."""
        self._fin = False
        self._eof = False
        """The session, or the linger, has been told of the FIN."""
        self._reset: OSError | None = None
        self._shut = False
        self._state = 0  # 0 open, 1 closing (flushing, then lingering), 2 closed
        self._read_size = READ_SMALL
        self._lingering = 0
        self._stall: TimerHandle | None = None

    def open(self) -> None:
        """Begin to deliver; ``session`` is set or will be before the next event."""
        self._opened = True
        self._schedule_read()

    @property
    def closed(self) -> bool:
        return self._state != 0

    @property
    def ended(self) -> bool:
        return self._eof

    @property
    def unsent(self) -> bool:
        return self._out_bytes > 0

    # -- bytes in -------------------------------------------------------------------------------------------------

    def _arrive(self, data: bytes) -> None:
        if self._state == 2:
            # Nobody is there any more: the "kernel" answers with a reset.
            self._loop.after(self._latency, self._peer._arrive_reset, None)
            return
        limit = self._loop.read_size
        if self._opened and not (self._inbox or self._paused or self._state or limit):
            size = len(data)
            if size <= self._read_size:
                self._taken(size)
                self.session.data_received(data)  # type: ignore[union-attr]  # opened, so it has one
                return
        self._inbox.append(data)
        self._inbox_bytes += len(data)
        self._schedule_read()

    def _arrive_fin(self) -> None:
        self._fin = True
        self._schedule_read()

    def _arrive_reset(self, error: OSError | None) -> None:
        if self._state != 2 and self._reset is None:
            if error is None and self._fin:
                # Linux's word for a reset of a connection whose other direction had ended.
                error = BrokenPipeError(errno.EPIPE, "Broken pipe")
            self._reset = error or ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
            if self._eof or (self._paused and (self._out or not self.patient)):
                # Reading is over, or nobody wants what lies in front: the condition itself is reported.
                self._loop.after(0.0, self._lost, self._reset)
            else:
                self._schedule_read()

    def _schedule_read(self) -> None:
        # While a close flushes, nothing is read away: the lingering begins when our last byte has left.
        flushing = self._state == 1 and self._out_bytes > 0
        if self._opened and not (self._reading or self._paused or self._state == 2 or flushing):
            self._reading = True
            self._loop.after(0.0, self._read)

    def _read(self) -> None:
        self._reading = False
        if self._paused or self._state == 2 or (self._state == 1 and self._out):
            return
        if self._inbox:
            data = self._take()
            if self._state:
                self._linger(len(data))
            else:
                self.session.data_received(data)  # type: ignore[union-attr]  # opened, so it has one
            if self._inbox or self._fin or self._reset:
                self._schedule_read()
        elif self._reset is not None:
            self._lost(self._reset)
        elif self._fin and not self._eof:
            self._eof = True
            if self._state:
                self._finish_close()
            else:
                self.session.eof_received()  # type: ignore[union-attr]  # opened, so it has one
                self._hung_up()

    def _take(self) -> bytes:
        limit = self._loop.read_size or self._read_size
        parts: list[bytes] = []
        size = 0
        while self._inbox and size < limit:
            piece = self._inbox.popleft()
            if size + len(piece) > limit:
                keep = limit - size
                self._inbox.appendleft(piece[keep:])
                piece = piece[:keep]
            parts.append(piece)
            size += len(piece)
        self._inbox_bytes -= size
        if size == self._read_size:
            self._read_size = READ_LARGE
        self._taken(size)
        return b"".join(parts)

    def _taken(self, size: int) -> None:
        self.bytes_in += size
        sender = self._peer
        sender._window += size
        if sender._out:
            self._loop.after(self._latency, sender._flush)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            if self._state == 0 and (self._inbox or self._reset or (self._fin and not self._eof)):
                self._schedule_read()

    # -- bytes out ------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._state or self._shut:
            return
        if self._reset is not None:
            # Reading goes on to what lies in front of the reset, and then finds it.
            return
        if not self._out:
            rest = self._hand_over(data)
            if not rest:
                return
            self._out.append(rest)
            self._out_bytes = len(rest)
            self._watch_stall()
        else:
            self._out.append(data)
            self._out_bytes += len(data)
        if self._out_bytes >= HIGH_MARK:
            self.blocked = True

    def _hand_over(self, data: bytes) -> bytes:
        # What the window takes is on its way; the rest comes back.
        size = min(len(data), self._window)
        rest = b""
        if size < len(data):
            data, rest = data[:size], data[size:]
        if size:
            self._window -= size
            self.bytes_out += size
            self._loop.after(self._latency, self._peer._arrive, data)
        return rest

    def _flush(self) -> None:
        out = self._out
        if self._state == 2 or not out:
            return
        while out and self._window:
            piece = out.popleft()
            rest = self._hand_over(piece)
            self._out_bytes -= len(piece) - len(rest)
            if rest:
                out.appendleft(rest)
        if not out:
            self._stop_stall()
            if self._shut:
                self._send_fin()
            if self._state == 1:
                self._half_close()
                return
        if self.blocked and self._out_bytes <= LOW_MARK:
            self.blocked = False
            if self._state == 0 and self.session is not None:
                self.session.writable()

    def _watch_stall(self) -> None:
        loop = self._loop
        self._stall = loop.call_at(loop.now() + self.write_stall, self._stalled, self.bytes_out)

    def _stalled(self, bytes_out: int) -> None:
        if self.bytes_out == bytes_out:
            self._lost(TimeoutError(errno.ETIMEDOUT, f"no progress in writing for {self.write_stall:g} s"))
        else:
            self._watch_stall()

    def _stop_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    # -- ends -----------------------------------------------------------------------------------------------------

    def acknowledge(self) -> None:
        """Nothing is delayed here."""

    def shutdown_write(self) -> None:
        if not self._shut and self._state == 0:
            self._shut = True
            if not self._out:
                self._send_fin()

    def _send_fin(self) -> None:
        self._loop.after(self._latency, self._peer._arrive_fin)
        self._hung_up()

    def _hung_up(self) -> None:
        # Both directions have ended while we hold the connection open: epoll reports HUP whatever is armed.
        if self._eof and self._shut and self._state == 0:
            self._loop.after(0.0, self._lost, ConnectionResetError(errno.ECONNRESET, "hung up"))

    def close(self, *, wait: bool = True) -> None:
        if self._state == 0:
            self._state = 1
            if not wait:
                self._eof = True
            if not self._out:
                self._half_close()

    def _half_close(self) -> None:
        if self._eof:
            self._finish_close()
            return
        if not self._shut:
            self._shut = True
            self._loop.after(self._latency, self._peer._arrive_fin)
        self._stop_stall()
        self._stall = self._loop.call_at(self._loop.now() + LINGER_TIME, self._finish_close)
        self._paused = False
        self._read_size = READ_LARGE
        self._schedule_read()

    def _linger(self, size: int) -> None:
        self._lingering += size
        if self._lingering > LINGER_READ:
            self._paused = True

    def _finish_close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if self._state != 2:
            self._end(hard=bool(self._inbox))

    def reset(self) -> None:
        if self._state != 2:
            self._end(hard=True)

    def _end(self, *, hard: bool) -> None:
        peer = self._peer
        if hard:
            self._loop.after(self._latency, peer._arrive_reset, None)
        elif not self._shut:
            self._loop.after(self._latency, peer._arrive_fin)
        self._release()
        session, self.session = self.session, None
        if session is not None:
            self._loop.turn.call_soon(session.connection_lost, None)

    def _lost(self, error: OSError) -> None:
        if self._state == 2:
            return
        if self._reset is None:
            self._loop.after(self._latency, self._peer._arrive_reset, None)
        self._release()
        session, self.session = self.session, None
        if session is not None:
            session.connection_lost(error)

    def _release(self) -> None:
        self._state = 2
        self._out.clear()
        self._out_bytes = 0
        self._inbox.clear()
        self._inbox_bytes = 0
        self._stop_stall()
        self._loop.open_transports.discard(self)

    @property
    def unread(self) -> int:
        """Bytes that have arrived and wait for their turn or for ``resume``."""
        return self._inbox_bytes

    def __repr__(self) -> str:
        state = ("open", "closing", "closed")[self._state]
        return f"<MemoryTransport {self.local} to {self.peer}, {state}, unread={self._inbox_bytes}>"


def pair(
    loop: MemoryLoop, caller: Address, callee: Address, latency: float, window: int
) -> tuple[MemoryTransport, MemoryTransport]:
    """Both ends of a new connection: the one that dialled and the one that was dialled."""
    near = MemoryTransport(loop, callee, caller, latency, window)
    far = MemoryTransport(loop, caller, callee, latency, window)
    near._peer, far._peer = far, near
    loop.open_transports.update((near, far))
    return near, far
