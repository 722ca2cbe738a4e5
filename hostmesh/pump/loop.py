"""What the proxy asks of the thing that drives it, so that real sockets and a virtual world are interchangeable.

``Pump`` implements :class:`Loop` over epoll, ``MemoryLoop`` over a heap of virtual events. The proxy is written against
these names only; it never sees a socket.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

from hostmesh.base.turn import Turn
from hostmesh.naming.addr import Endpoint

if TYPE_CHECKING:
    from hostmesh.protocol.tls.identity import PeerIdentity
    from hostmesh.pump.pump import Pump
    from hostmesh.pump.secure import SecureTransport
    from hostmesh.pump.transport import SocketTransport
    from hostmesh.pump.tunnel import OnEnd, Tunnel

    # Compiled code calls the classes directly, and whatever else is one through the interpreter.
    AnyTransport: TypeAlias = "SocketTransport | SecureTransport | Transport"
    AnyLoop: TypeAlias = "Pump | Loop"

Address = tuple[str, int]
"""(numeric IP, port)."""


class TimerHandle(Protocol):
    def cancel(self) -> None: ...


class Session(Protocol):
    """One side's protocol on one connection; called by its transport, never re-entrantly.

    After ``connection_lost`` nothing is called any more.
    """

    def data_received(self, data: bytes) -> None:
        """Some bytes arrived (never empty)."""
        ...

    def eof_received(self) -> None:
        """The peer will send no more; the transport stays open for writing until it is closed."""
        ...

    def connection_lost(self, error: OSError | None) -> None:
        """The connection is gone: ``error`` tells why, None means that we closed it."""
        ...

    def writable(self) -> None:
        """The write buffer has drained below its low mark after ``transport.blocked`` was seen True."""
        ...


class Transport(Protocol):
    """One connection's bytes.

    ``write`` never blocks: what the kernel refuses is buffered, and ``blocked`` turns True above the high mark; a
    writer that ignores it is the one way to make memory grow, so both halves of an exchange look at it.
    """

    session: Session | None
    """Who is told. Another takes over when the connection changes its protocol; None once it is closed."""
    patient: bool
    """Whether a reset is reported only after the bytes that came before it, which may have to wait for ``resume``. True
    at first; False for who has no use for them once the peer is gone."""
    write_stall: float
    """Seconds without any progress in writing after which the connection is cut."""
    peer: Address
    local: Address

    @property
    def identity(self) -> PeerIdentity | None:
        """Whom the peer has proved to be, over TLS; None where nothing was asked or shown."""
        ...

    @property
    def bytes_in(self) -> int:
        """Bytes received so far."""
        ...

    @property
    def bytes_out(self) -> int:
        """Bytes the kernel has taken so far."""
        ...

    @property
    def blocked(self) -> bool:
        """Whether what is buffered for writing has reached the high mark, and has not sunk to the low one since."""
        ...

    def write(self, data: bytes) -> None: ...

    def pause(self) -> None:
        """Deliver no more data until ``resume``."""
        ...

    def resume(self) -> None: ...

    def acknowledge(self) -> None:
        """Acknowledge at once what has been received: the peer may hold back the rest of a message until then."""
        ...

    def shutdown_write(self) -> None:
        """Send FIN after what is buffered; reading goes on."""
        ...

    def close(self, *, wait: bool = True) -> None:
        """Send what is buffered, then close; no more data is delivered.

        ``wait`` False: the peer has said that it sends no more, in its own protocol, so its FIN is not waited for.
        """
        ...

    def abort(self) -> None:
        """Close now; buffered bytes are lost and the peer sees a reset where the protocol allows."""
        ...

    def reset(self) -> None:
        """As ``abort``, with a reset for sure: a message that is cut must not look complete."""
        ...

    @property
    def closed(self) -> bool: ...

    @property
    def ended(self) -> bool:
        """Whether the peer has said that it sends no more, and the session has been told."""
        ...

    @property
    def unsent(self) -> bool:
        """Whether bytes that were written still wait for the kernel."""
        ...

    @property
    def unread(self) -> int:
        """Not 0 if bytes have arrived that the session has not been given yet. It may cost a system call."""
        ...


class Connecting(Protocol):
    """A connection attempt in progress."""

    def cancel(self) -> None: ...


class Loop(Protocol):
    """Time, timers, turns and connections."""

    turn: Turn
    now: Callable[[], float]

    def call_at(self, when: float, fn: Callable[..., object], *args: object) -> TimerHandle: ...

    def connect(
        self,
        endpoint: Endpoint,
        timeout: float,
        on_connected: Callable[[Transport], Session],
        on_failed: Callable[[OSError], None],
        *,
        no_delay: bool = True,
        keep_alive: bool | None = None,
    ) -> Connecting:
        """Dial ``endpoint``; exactly one of the callbacks runs, later, unless the attempt is cancelled.

        ``on_connected`` returns the session that will receive the transport's events. ``timeout`` is seconds;
        exceeding it is a ``TimeoutError``.
        """
        ...

    def tunnel(self, near: Transport, far: Transport, first: bytes, on_end: OnEnd) -> Tunnel:
        """Connect two open transports, which belong to the tunnel from now on; ``first`` goes to ``far`` before all.

        ``near`` is the one that was accepted. See :mod:`hostmesh.pump.tunnel`.
        """
        ...
