"""A stream of HTTP/2 as a transport: what a tunnel joins to another one.

Its FIN is END_STREAM, its reset RST_STREAM, and pausing it withholds the window of what has come.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError

if TYPE_CHECKING:
    from hostmesh.protocol.h2.engines import AnyEngine
    from hostmesh.proxy.h2_sending import Sending
    from hostmesh.pump.loop import Address, Loop, Session

CLOSE_LOOK = 0.1
"""Seconds between looks at a stream of which both directions have ended, and whose last bytes wait for a window."""


class StreamTransport:
    """One stream as a transport, see :class:`hostmesh.pump.loop.Transport`. The stream tells it what comes.

    ``reset_stream`` sends RST_STREAM, ``over`` lets go of a stream that has ended both ways.
    """

    identity: None = None
    """Of the connection that carries it: asked there."""

    __slots__ = (
        "_closed",
        "_engine",
        "_id",
        "_loop",
        "_over",
        "_owed",
        "_paused",
        "_reset_stream",
        "_sending",
        "_shut",
        "bytes_in",
        "bytes_out",
        "ended",
        "local",
        "patient",
        "peer",
        "session",
        "write_stall",
    )

    def __init__(
        self,
        id: int,
        engine: AnyEngine,
        sending: Sending,
        loop: Loop,
        *,
        peer: Address,
        owed: int,
        ended: bool,
        reset_stream: Callable[[], object],
        over: Callable[[], object],
    ) -> None:
        self._id = id
        self._engine = engine
        self._sending = sending
        self._loop = loop
        self._reset_stream = reset_stream
        self._over = over
        self._owed = owed
        """Bytes received whose window is withheld."""
        self._paused = True
        self._shut = False
        self._closed = False
        self.session: Session | None = None
        self.peer = self.local = peer
        self.ended = ended
        self.patient = True
        self.bytes_in = 0
        self.bytes_out = 0
        self.write_stall = 0.0
        """Stalls are found by what sends for all streams (``h2_sending.py``)."""

    # -- what the stream tells ------------------------------------------------------------------------------------

    def data(self, data: bytes, end: bool) -> None:
        """A piece of the body, perhaps the last."""
        session = self.session
        if session is None:
            return
        try:
            if data:
                self.bytes_in += len(data)
                session.data_received(data)
                if self._paused:
                    self._owed += len(data)
                else:
                    self._engine.credit(self._id, len(data))
            if end and not self.ended:
                self.ended = True
                session.eof_received()
        except Exception:
            # Ours; whoever called reports it. The tunnel cannot go on.
            self.reset()
            raise

    def broke(self, error: MeshError) -> None:
        """The stream is gone, and whoever owns it knows."""
        if not self._closed:
            self._closed = True
            session, self.session = self.session, None
            if session is not None:
                session.connection_lost(ConnectionResetError(errno.ECONNRESET, error.message))

    def stop(self) -> None:
        """The stream takes no more, and is over: what is written from now on is dropped."""
        self._shut = True
        self._over = _done

    def stream_writable(self) -> None:
        """:attr:`blocked` was True and is not any more."""
        if self.session is not None:
            self.session.writable()

    # -- a transport ----------------------------------------------------------------------------------------------

    @property
    def blocked(self) -> bool:
        return self._sending.blocked(self._id)

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def unsent(self) -> bool:
        return self._sending.pending(self._id)

    @property
    def unread(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        if data and not self._shut and not self._closed:
            self.bytes_out += len(data)
            self._sending.write(self._id, data, False)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            if self._owed and not self._closed:
                owed, self._owed = self._owed, 0
                self._engine.credit(self._id, owed)
                self._sending.flush_soon()

    def acknowledge(self) -> None:
        """Windows are given back by :meth:`resume`."""

    def shutdown_write(self) -> None:
        if not self._shut and not self._closed:
            self._shut = True
            self._sending.write(self._id, b"", True)

    def close(self, *, wait: bool = True) -> None:
        """Called when the peer has ended, too: what is buffered leaves, then the stream is over."""
        self.shutdown_write()
        if self._closed:
            return
        if self.unsent:
            self._loop.call_at(self._loop.now() + CLOSE_LOOK, self.close)
            return
        self._end()
        self._over()

    def reset(self) -> None:
        if not self._closed:
            self._end()
            self._reset_stream()

    def abort(self) -> None:
        self.reset()

    def _end(self) -> None:
        self._closed = True
        session, self.session = self.session, None
        if session is not None:
            self._loop.turn.call_soon(session.connection_lost, None)


def _done() -> None:
    """There is nothing to let go of."""
