"""A tunnel: two connections that hand each other their bytes, which nobody looks at.

A direction is finished when its source has ended (FIN) and everything before that has been handed over; then, and not
before, the other connection is told that no more will come, and its own direction goes on: half-closed connections are
ordinary. When a connection breaks, what it had sent is still handed over as far as it was read, and then the other one
is reset: a stream that was cut must not look complete.

:class:`CopyTunnel` works on any two transports. ``hostmesh/pump/splice.py`` has the one for plain sockets, in which
the bytes never enter this process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias

from hostmesh.pump.loop import Transport

Side: TypeAlias = Literal["near", "far"]
"""``near`` is the connection that was accepted, ``far`` the one that was dialled for it."""

OnEnd: TypeAlias = Callable[[Side | None, OSError | None], object]
"""Called once, when both connections are closed: which of them broke and how, or None for an end by FIN both ways."""


class Tunnel(Protocol):
    """Owns both connections from its start to its end and closes them."""

    @property
    def sent_far(self) -> int:
        """Bytes of the near connection that the far one's kernel has taken."""
        ...

    @property
    def sent_near(self) -> int:
        """Bytes of the far connection that the near one's kernel has taken."""
        ...

    @property
    def half_closed(self) -> bool:
        """One of them has sent its FIN, and the other goes on."""
        ...

    @property
    def held_far(self) -> bool:
        """Bytes wait because the far one takes none now."""
        ...

    @property
    def held_near(self) -> bool:
        """Bytes wait because the near one takes none now."""
        ...

    def abort(self) -> None:
        """Reset both connections now; ``on_end`` is not called any more."""
        ...


class _Leg:
    """One of the two connections: the session of its transport."""

    __slots__ = ("eof", "given", "lost", "other", "side", "transport", "tunnel", "wrote")

    other: _Leg

    def __init__(self, tunnel: CopyTunnel, side: Side, transport: Transport) -> None:
        self.tunnel = tunnel
        self.side = side
        self.transport = transport
        self.eof = False
        self.lost = False
        self.wrote = transport.bytes_out
        """Bytes out before the tunnel began."""
        self.given = 0
        """Bytes of the other connection that were written to this one."""

    def data_received(self, data: bytes) -> None:
        other = self.other
        far = other.transport
        other.given += len(data)
        far.write(data)
        if far.blocked:
            self.transport.pause()

    def writable(self) -> None:
        self.other.transport.resume()

    def eof_received(self) -> None:
        self.eof = True
        self.other.transport.shutdown_write()
        if self.other.eof:
            # Nothing more can come from either: both close when what they hold has left.
            self.transport.close()
            self.other.transport.close()

    @property
    def taken(self) -> int:
        """Bytes of the tunnel that the kernel has taken: of a transport that encrypts, some more leave, so that what
        still waits may be counted as taken, by the overhead of its records."""
        return min(self.given, self.transport.bytes_out - self.wrote)

    def connection_lost(self, error: OSError | None) -> None:
        self.tunnel.leg_lost(self, error)


class CopyTunnel:
    """Bytes are read and written; what the writer's kernel refuses is held, up to the marks of its transport.

    Takes over both transports, which must be open; ``first`` is sent to the far one before anything else.
    """

    def __init__(self, near: Transport, far: Transport, first: bytes, on_end: OnEnd) -> None:
        self._on_end: OnEnd | None = on_end
        self._broken: tuple[Side, OSError] | None = None
        self._near = _Leg(self, "near", near)
        self._far = _Leg(self, "far", far)
        self._near.other, self._far.other = self._far, self._near
        near.session = self._near
        far.session = self._far
        near.patient = far.patient = True
        if first:
            self._far.given = len(first)
            far.write(first)
        if far.blocked:
            near.pause()
        else:
            near.resume()
        if near.blocked:
            far.pause()
        else:
            far.resume()
        for leg in (self._near, self._far):
            if leg.transport.ended:
                leg.eof_received()

    @property
    def sent_far(self) -> int:
        return self._far.taken

    @property
    def sent_near(self) -> int:
        return self._near.taken

    @property
    def half_closed(self) -> bool:
        return self._near.eof or self._far.eof

    @property
    def held_far(self) -> bool:
        return self._far.transport.unsent

    @property
    def held_near(self) -> bool:
        return self._near.transport.unsent

    def leg_lost(self, leg: _Leg, error: OSError | None) -> None:
        """A connection is gone: with an error it takes the other one with it."""
        leg.lost = True
        if error is not None and self._broken is None:
            # Without the frames that it was raised in, which hold all of this.
            self._broken = (leg.side, error.with_traceback(None))
        if not leg.other.lost:
            if error is not None:
                leg.other.transport.reset()
            return
        on_end, self._on_end = self._on_end, None
        # Rings that the collector need not find.
        for each in (self._near, self._far):
            del each.other, each.tunnel
        if on_end is not None:
            on_end(*(self._broken or (None, None)))

    def abort(self) -> None:
        self._on_end = None
        for leg in (self._near, self._far):
            leg.transport.reset()
