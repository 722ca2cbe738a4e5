"""A tunnel between plain sockets: ``splice(2)`` moves their bytes through a pipe, and they never enter this process.

Each direction is a :class:`Flow`. It reads only when it holds nothing, so at most one pipe's worth waits for a slow
reader, and it is finished only when its pipe is empty. Small reads are copied, which is cheaper for them than two
system calls on a pipe; a read that fills its buffer turns a flow to splicing. Where ``splice`` does not work, or no
pipe can be had, everything is copied.

Epoll is level-triggered (docs/architecture.md): a flow that holds something takes its source out of EPOLLIN; FIN is
found by reading, never by RDHUP; a hang-up that cannot be consumed takes the descriptor out of the set until the flow
reads again.
"""

from __future__ import annotations

import errno
import os
import socket
from select import EPOLLIN, EPOLLOUT
from typing import TYPE_CHECKING

from hostmesh.pump.marks import READ_SMALL, WRITE_STALL
from hostmesh.pump.pipes import Pipe
from hostmesh.pump.splice_leg import Leg
from hostmesh.pump.tunnel import OnEnd, Side

if TYPE_CHECKING:
    from hostmesh.pump.loop import TimerHandle
    from hostmesh.pump.pump import Pump
    from hostmesh.pump.transport import SocketTransport

FLAGS = 0x01 | 0x02
"""SPLICE_F_MOVE and SPLICE_F_NONBLOCK; the sockets are non-blocking too."""

SMALL_SPLICES = 8
"""Splices in a row that would have fitted into a read, after which a flow copies again."""

can_splice = hasattr(os, "splice")


class Flow:
    """One direction. It holds nothing, bytes in a pipe, or bytes that were copied: never both."""

    __slots__ = ("bulk", "done", "dst", "held", "moved", "pipe", "rest", "small", "src", "tunnel")

    def __init__(self, tunnel: SpliceTunnel, src: Leg, dst: Leg) -> None:
        self.tunnel = tunnel
        self.src = src
        self.dst = dst
        self.pipe: Pipe | None = None
        self.held = 0
        """Bytes in the pipe."""
        self.rest: memoryview | None = None
        self.moved = 0
        self.bulk = False
        self.small = 0
        self.done = False
        """Its source will not be read any more, and it holds nothing."""

    @property
    def holds(self) -> bool:
        return self.pipe is not None or self.rest is not None

    def _judge(self) -> None:
        """Whether the source's leg may do without us; after whatever may have changed that."""
        self.src.quick = self.rest is None and self.pipe is None and not (self.bulk or self.done)

    def pull(self) -> None:
        """Read once and hand on what came."""
        if self.done or self.holds:
            return
        self._pull()
        if not self.done:
            self._judge()

    def _pull(self) -> None:
        pool = self.tunnel.pump.pipes
        pipe = pool.take() if self.bulk else None
        if pipe is None:
            self._copy()
            return
        try:
            size = os.splice(self.src.fd, pipe.write_fd, pipe.size, flags=FLAGS)
        except BlockingIOError:
            pool.give(pipe)
        except OSError as error:
            pool.give(pipe)
            if error.errno in (errno.EINVAL, errno.ENOSYS):
                self.bulk = False
                self.tunnel.spliceable = False
                self._copy()
            else:
                self.tunnel.lost(self.src, error)
        else:
            if size == 0:
                pool.give(pipe)
                self._source_ended()
                return
            if size <= READ_SMALL:
                self.small += 1
                if self.small >= SMALL_SPLICES:
                    self.bulk = False
            else:
                self.small = 0
            self.pipe = pipe
            self.held = size
            self.push()

    def _copy(self) -> None:
        try:
            data = self.src.recv(READ_SMALL)
        except OSError as error:
            self.read_failed(error)
        else:
            self.took(data)

    def read_failed(self, error: OSError) -> None:
        """There was nothing to read, or there never will be again."""
        if not isinstance(error, BlockingIOError):
            self.tunnel.lost(self.src, error)

    def took(self, data: bytes) -> None:
        """What was read goes on, or was the end."""
        if not data:
            self._source_ended()
            return
        if len(data) == READ_SMALL and self.tunnel.spliceable:
            self.bulk = True
            self.src.quick = False
            self.small = 0
        self.rest = memoryview(data)
        self.push()

    def push(self) -> None:
        """Hand on what is held, as much as the destination takes."""
        dst = self.dst
        try:
            if self.rest is not None:
                sent = dst.sock.send(self.rest)
                self.moved += sent
                self.rest = self.rest[sent:] if sent < len(self.rest) else None
            elif self.pipe is not None:
                sent = os.splice(self.pipe.read_fd, dst.fd, self.held, flags=FLAGS)
                self.moved += sent
                self.held -= sent
                if not self.held:
                    self.tunnel.pump.pipes.give(self.pipe)
                    self.pipe = None
        except BlockingIOError:
            pass
        except OSError as error:
            self.tunnel.write_failed(dst, error)
            return
        if self.holds:
            self.src.quick = False
            self.src.arm(self.src.mask & ~EPOLLIN)
            dst.arm(dst.mask | EPOLLOUT)
        elif dst.mask & EPOLLOUT:
            self._emptied()

    def _emptied(self) -> None:
        """The destination has everything at last: read on."""
        dst = self.dst
        if not self.done and not self.src.hung:
            # There is more, as a rule; going round by epoll would change four times what it watches.
            self.pull()
            if self.holds or dst.closed:
                return
        dst.arm(dst.mask & ~EPOLLOUT)
        if not self.done:
            self._judge()
            self.src.arm(self.src.mask | EPOLLIN)

    def _source_ended(self) -> None:
        """FIN. Nothing is held, or nothing would have been read."""
        if self.src.write_error is not None:
            # It takes nothing and says nothing: what was meant for it is lost, so this is no orderly end.
            self.tunnel.lost(self.src, self.src.write_error)
            return
        self.done = True
        self.src.quick = False
        self.src.arm(self.src.mask & ~EPOLLIN)
        try:
            self.dst.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                self.tunnel.lost(self.dst, error)
                return
            # It has been reset, which epoll is about to say.
        self.tunnel.settle()

    def drop(self) -> None:
        """Nobody takes it any more: read nothing, forget what is held."""
        self.done = True
        self.src.quick = False
        self.rest = None
        if self.pipe is not None:
            self.tunnel.pump.pipes.discard(self.pipe)
            self.pipe = None
            self.held = 0
        self.src.arm(self.src.mask & ~EPOLLIN)
        self.dst.arm(self.dst.mask & ~EPOLLOUT)


class SpliceTunnel:
    """See the module's text. Takes the sockets out of both transports, which must be open.

    ``first`` is sent to the far one before anything else.
    """

    def __init__(
        self, pump: Pump, near: SocketTransport, far: SocketTransport, first: bytes, on_end: OnEnd
    ) -> None:
        self.pump = pump
        self.spliceable = can_splice
        self._on_end: OnEnd | None = on_end
        self._broken: tuple[Side, OSError] | None = None
        self._watching: TimerHandle | None = None
        self._over = False
        near_sock, near_unsent = near.detach()
        far_sock, far_unsent = far.detach()
        self._near = Leg(self, "near", near_sock)
        self._far = Leg(self, "far", far_sock)
        out = Flow(self, self._near, self._far)
        back = Flow(self, self._far, self._near)
        self._near.out = self._far.into = out
        self._far.out = self._near.into = back
        self._flows = (out, back)
        self._near.peer_send, self._far.peer_send = far_sock.send, near_sock.send
        for leg in (self._near, self._far):
            # An end that a transport has met already is met again.
            leg.mask = EPOLLIN
            pump.add(leg.fd, EPOLLIN, leg.on_event)
        for flow, data in ((out, far_unsent + first), (back, near_unsent)):
            if data and not flow.done:
                flow.rest = memoryview(data)
                flow.push()

    @property
    def sent_far(self) -> int:
        return self._flows[0].moved + self._near.moved

    @property
    def sent_near(self) -> int:
        return self._flows[1].moved + self._far.moved

    @property
    def half_closed(self) -> bool:
        return self._flows[0].done or self._flows[1].done

    @property
    def held_far(self) -> bool:
        return self._flows[0].holds

    @property
    def held_near(self) -> bool:
        return self._flows[1].holds

    def write_failed(self, leg: Leg, error: OSError) -> None:
        """``leg`` takes no more. What it said before it broke is still to be read: an answer may lie there."""
        leg.into.drop()
        if leg.out.done or leg.hung:
            self.lost(leg, error)
        else:
            leg.write_error = error

    def watch(self, leg: Leg) -> None:
        """``leg`` is broken and cannot be read: what is held of it may be taken for as long as some of it is."""
        self._stop_watching()
        self._watching = self.pump.call_at(self.pump.now() + WRITE_STALL, self._look, leg, leg.out.moved)

    def _look(self, leg: Leg, moved: int) -> None:
        self._watching = None
        if leg.hung and leg.out.moved == moved:
            leg.out.drop()
            self.lost(leg, TimeoutError(errno.ETIMEDOUT, "broken, and nobody took what it had sent"))
        elif leg.hung:
            self.watch(leg)

    def _stop_watching(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    def lost(self, leg: Leg, error: OSError) -> None:
        """``leg`` is broken in both directions, and what it sent has been handed on: the other one is reset."""
        if leg.closed:
            return
        if self._broken is None:
            # Without the frames that it was raised in, which hold all of this.
            self._broken = (leg.side, error.with_traceback(None))
        other = leg.out.dst
        for each in (leg, other):
            each.out.drop()
        leg.close(hard=False)
        other.close(hard=True)
        self.settle()

    def settle(self) -> None:
        """Close what is finished in both directions: a socket with FIN both ways reports HUP for ever."""
        for leg in (self._near, self._far):
            if leg.out.done and leg.into.done:
                leg.close(hard=False)
        if self._near.closed and self._far.closed:
            on_end, self._on_end = self._on_end, None
            self._let_go()
            if on_end is not None:
                on_end(*(self._broken or (None, None)))

    def _let_go(self) -> None:
        self._stop_watching()
        if not self._over:
            self._over = True
            # Cycles that the collector need not find.
            for leg in (self._near, self._far):
                del leg.tunnel
            for flow in self._flows:
                del flow.tunnel, flow.src, flow.dst

    def abort(self) -> None:
        """Reset both now."""
        if self._over:
            return
        self._on_end = None
        for leg in (self._near, self._far):
            leg.into.drop()
            leg.close(hard=True)
        self._let_go()
