"""One socket of a tunnel: its place in the epoll set, and what its events mean for the two flows it belongs to."""

from __future__ import annotations

import errno
import os
import socket
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from typing import TYPE_CHECKING

from hostmesh.pump.marks import READ_SMALL

if TYPE_CHECKING:
    from collections.abc import Callable

    from hostmesh.pump.splice import Flow, SpliceTunnel
    from hostmesh.pump.tunnel import Side

RESET_LINGER = b"\x01\x00\x00\x00\x00\x00\x00\x00"
"""SO_LINGER, on, 0 seconds: close(2) sends RST."""


class Leg:
    """One socket, its place in the epoll set, and the two flows that it belongs to."""

    __slots__ = (
        "closed",
        "fd",
        "hung",
        "into",
        "mask",
        "moved",
        "out",
        "peer_send",
        "quick",
        "recv",
        "side",
        "sock",
        "tunnel",
        "write_error",
    )

    out: Flow
    """What it sends."""
    into: Flow
    """What it is sent."""

    def __init__(self, tunnel: SpliceTunnel, side: Side, sock: socket.socket) -> None:
        self.tunnel = tunnel
        self.side = side
        self.sock = sock
        self.recv = sock.recv
        self.peer_send: Callable[[bytes], int]
        """Of the other socket."""
        self.quick = False
        """The flow out of here holds nothing, has not ended and copies: what comes may be sent at once."""
        self.moved = 0
        """Bytes that were."""
        self.fd = sock.fileno()
        self.mask = 0
        self.hung = False
        """Out of the epoll set, because of a condition that nobody can consume yet."""
        self.closed = False
        self.write_error: OSError | None = None
        """It takes no more; what it still has to say is read."""

    def on_event(self, mask: int) -> None:
        if self.quick and mask == EPOLLIN:
            # A message, most often: read, sent, nothing left over. What pull() does without its calls, and touching
            # few objects, because with hundreds of tunnels none of them is in the cache.
            try:
                data = self.recv(READ_SMALL)
            except OSError as error:
                self.out.read_failed(error)
                return
            size = len(data)
            if 0 < size < READ_SMALL:
                try:
                    sent = self.peer_send(data)
                except OSError:
                    # Whatever it was, push() meets it again.
                    sent = 0
                self.moved += sent
                if sent < size:
                    self.out.rest = memoryview(data)[sent:]
                    self.out.push()
            else:
                self.out.took(data)
            return
        if mask & self.mask & EPOLLIN:
            self.out.pull()
        elif mask & (EPOLLHUP | EPOLLERR):
            self._hang_up(mask)
            return
        if mask & EPOLLOUT and not self.closed:
            self.into.push()

    def _hang_up(self, mask: int) -> None:
        if self.out.done:
            code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or errno.ECONNRESET
            self.tunnel.lost(self, self.write_error or OSError(code, os.strerror(code)))
        elif self.out.holds:
            # What lies in front of it cannot be read before the reader has taken what there is.
            self.tunnel.pump.remove(self.fd)
            self.hung = True
            self.mask = 0
            self.into.drop()
            if mask & EPOLLERR:
                # Broken, and not ended both ways: its reader may be slow, but not for as long as it likes.
                self.tunnel.watch(self)
        else:
            self.out.pull()

    def arm(self, mask: int) -> None:
        if self.closed:
            return
        if self.hung:
            if mask & EPOLLIN:
                self.hung = False
                self.mask = mask
                self.tunnel.pump.add(self.fd, mask, self.on_event)
        elif mask != self.mask:
            self.mask = mask
            self.tunnel.pump.modify(self.fd, mask)

    def close(self, *, hard: bool) -> None:
        if self.closed:
            return
        self.closed = True
        pump = self.tunnel.pump
        if not self.hung:
            pump.remove(self.fd)
        if hard:
            try:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_LINGER)
            except OSError as error:
                pump.report(error)
        pump.close_later(self.sock)
