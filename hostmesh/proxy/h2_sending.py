"""What one HTTP/2 connection still has to send: DATA in turns, within windows, marks and times.

The engine frames what it is given; who may send next, how much may wait and for how long is decided here, the same for
connections of callers and of endpoints. While nobody waits a piece goes straight to the engine. What the windows or
the socket do not take waits, stream by stream, and leaves round-robin: one frame per stream per turn, so a large
body never stands in front of a small one.

Backpressure comes first: ``blocked`` turns True for a stream with much waiting, or on a connection with much waiting
in all, and whoever feeds the stream stops until ``stream_writable`` (halves.py). What is already on its way here
(windows, a read) still comes, so the sum is capped as well. A stream must move: one that has not for a while is given
up, and on a connection over its cap after a much shorter while (hardening H5, H7).
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final

from hostmesh.base.errors import MeshError
from hostmesh.base.reasons import Reason
from hostmesh.proxy.h2_waiting import Waiting
from hostmesh.pump.marks import HIGH_MARK, LOW_MARK

if TYPE_CHECKING:
    from hostmesh.protocol.h2.engine import Pairs
    from hostmesh.protocol.h2.engines import AnyEngine
    from hostmesh.proxy.halves import SendingOwner
    from hostmesh.pump.loop import AnyLoop, AnyTransport, TimerHandle

FRAME: Final = 16_384
"""Bytes of one stream's turn: the largest frame that every peer takes (RFC 9113 section 4.2)."""

CROWDED: Final = 256 * 1024
"""Bytes waiting on a connection from which on every stream that has to wait is ``blocked``, however little it holds:
four full streams, and far below the cap, since windows already granted still fill it."""

CAP: Final = 1024 * 1024
"""Bytes that may wait on one connection; above it streams that stand still are given up, the largest first."""

HARD_CAP: Final = 16 * CAP
"""Bytes above which the largest stream is given up even if it moves. A hundred streams that hold a full window (64 KiB)
each, which nobody could keep from coming, stay far below it."""

STALL: Final = 30.0
"""Seconds without any progress after which a stream that waits is given up."""

STALL_OVER_CAP: Final = 5.0
"""The same on a connection over its cap: slow readers keep their streams, those who only pin memory do not."""

MAX_STALLS: Final = 100
"""Streams given up on one connection after which it is closed: its peer grants windows to nobody (H5)."""

CONTROL_MARK: Final = HIGH_MARK
"""Bytes of frames other than DATA written while the socket takes nothing; above it the peer, who provokes them (PING,
SETTINGS, requests to be refused) and does not read the answers, is not read any more."""


class Sending:
    """Output of one connection. Its owner calls :meth:`flush_soon` after anything that made the engine produce frames,
    :meth:`writable` when the transport says so, :meth:`window_opened` when the engine does, :meth:`close` at the end.
    """

    __slots__ = (
        "_check_at",
        "_checking",
        "_control",
        "_dirty",
        "_engine",
        "_held",
        "_loop",
        "_moved",
        "_out",
        "_owner",
        "_paused",
        "_ring",
        "_transport",
        "_turns",
        "_unflushed",
        "_waiting",
        "cap",
        "closed",
        "size",
        "stalls",
    )

    def __init__(
        self, engine: AnyEngine, transport: AnyTransport, owner: SendingOwner, loop: AnyLoop
    ) -> None:
        self._engine = engine
        self._transport = transport
        self._owner = owner
        self._loop = loop
        self._turns = loop.turn
        self._waiting: dict[int, Waiting] = {}
        self._ring: deque[Waiting] = deque()
        """Those who may send as far as is known, who is next in front."""
        self._held: dict[int, Waiting] = {}
        """Those who found a window closed, in the order in which their turns come."""
        self._dirty = False
        self._unflushed = 0
        """Body bytes that the engine has and the transport does not."""
        self._control = 0
        """Bytes written since the transport is blocked."""
        self._paused = False
        self._moved = loop.now()
        """When DATA was last moved while some waited."""
        self._out = 0
        """Bytes that the transport had taken when the timer was set."""
        self._checking: TimerHandle | None = None
        self._check_at = 0.0
        self.cap = CAP
        self.size = 0
        """Bytes waiting, all streams together."""
        self.stalls = 0
        self.closed = False

    # -- what streams send ----------------------------------------------------------------------------------------

    def write(self, stream: int, data: bytes, end: bool) -> None:
        """Send ``data`` on ``stream``, now or in turn; ``end`` with END_STREAM."""
        waiting = self._waiting.get(stream)
        if waiting is None:
            size = len(data)
            if not size:
                # An empty frame needs no window, and delays nobody.
                self._engine.send_data(stream, data, end)
                self.flush_soon()
                return
            if not self._ring and not self._transport.blocked:
                room = self._engine.window(stream)
                if room >= size:
                    self._engine.send_data(stream, data, end)
                    self._passed(size)
                    return
                if room > 0:
                    self._engine.send_data(stream, data[:room], False)
                    self._passed(room)
                    data = data[room:]
            waiting = self._waiting[stream] = Waiting(stream, self._loop.now())
            self._ring.append(waiting)
            # Its head may be in the engine still, and must not wait for a window.
            self.flush_soon()
        if data:
            waiting.pieces.append(data)
            waiting.size += len(data)
            self.size += len(data)
        waiting.end = end
        self.run()
        if waiting.size >= HIGH_MARK or (waiting.size and self.size >= CROWDED):
            waiting.blocked = True
        if self._waiting and not self._is_watched():
            self._watch(STALL)
        if self.size > self.cap:
            self._over_cap()

    def trailers(self, stream: int, pairs: Pairs) -> None:
        """End ``stream`` with trailers, after what waits."""
        waiting = self._waiting.get(stream)
        if waiting is None:
            self._engine.send_trailers(stream, pairs)
            self.flush_soon()
        else:
            waiting.trailers = pairs

    def blocked(self, stream: int) -> bool:
        """Whether whoever feeds ``stream`` should wait for ``stream_writable``."""
        waiting = self._waiting.get(stream)
        return waiting is not None and waiting.blocked

    def pending(self, stream: int) -> bool:
        """Whether anything of ``stream`` still waits."""
        return stream in self._waiting

    def forget(self, stream: int) -> None:
        """Drop what waits: the stream was reset, or its end no longer matters."""
        waiting = self._waiting.pop(stream, None) if self._waiting else None
        if waiting is not None:
            self.size -= waiting.size
            waiting.gone = True
            waiting.pieces.clear()
            self._held.pop(stream, None)

    # -- turns ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Send what may be sent now."""
        transport, engine, ring = self._transport, self._engine, self._ring
        writable: list[int] = []
        while ring and not transport.blocked:
            waiting = ring.popleft()
            if waiting.gone:
                continue
            room = engine.window(waiting.stream)
            if room <= 0:
                waiting.listed = False
                self._held[waiting.stream] = waiting
                continue
            self._turn(waiting, min(room, FRAME))
            if waiting.size:
                ring.append(waiting)
            else:
                del self._waiting[waiting.stream]
            if waiting.blocked and (not waiting.size or (waiting.size <= LOW_MARK and self.size < CROWDED)):
                waiting.blocked = False
                writable.append(waiting.stream)
        for stream in writable:
            self._owner.stream_writable(stream)

    def _turn(self, waiting: Waiting, room: int) -> None:
        """One frame of ``waiting``, of at most ``room`` bytes."""
        engine = self._engine
        at = waiting.at
        piece = waiting.pieces[0]
        if len(piece) - at > room:
            # By its place: what is left of a large piece is not copied at every turn.
            waiting.at = at + room
            piece = piece[at : at + room]
        else:
            waiting.at = 0
            waiting.pieces.popleft()
            if at:
                piece = piece[at:]
        size = len(piece)
        waiting.size -= size
        self.size -= size
        self._moved = waiting.since = self._loop.now()
        last = not waiting.size
        engine.send_data(waiting.stream, piece, last and waiting.end and waiting.trailers is None)
        if last and waiting.trailers is not None:
            engine.send_trailers(waiting.stream, waiting.trailers)
        self._passed(size)

    def window_opened(self, stream: int) -> None:
        """The window of ``stream``, or with 0 that of the connection, has grown."""
        held = self._held
        if not held:
            # Whoever else waits does so for the socket.
            return
        if stream:
            waiting = held.pop(stream, None)
            if waiting is None:
                return
            waiting.listed = True
            self._ring.append(waiting)
        else:
            for waiting in held.values():
                waiting.listed = True
            self._ring.extend(held.values())
            held.clear()
        self.run()

    # -- the socket -----------------------------------------------------------------------------------------------

    def _passed(self, size: int) -> None:
        self._unflushed += size
        if self._unflushed >= HIGH_MARK:
            # Only what has been written shows whether the socket takes more.
            self.flush()
        else:
            self.flush_soon()

    def flush_soon(self) -> None:
        """Write what the engine has produced before the loop waits again; once for all streams of a batch."""
        if not self._dirty:
            self._dirty = True
            self._turns.call_soon(_flush, self)

    def flush(self) -> None:
        """Write what the engine has produced."""
        self._dirty = False
        self._unflushed = 0
        if self.closed:
            return
        try:
            data = self._engine.take()
        except Exception as error:
            self.closed = True
            self._owner.engine_failed(error)
            return
        if not data:
            return
        transport = self._transport
        if transport.blocked:
            # DATA is not made while it is blocked: what comes now are answers to what the peer sends.
            self._control += len(data)
            if self._control >= CONTROL_MARK and not self._paused:
                self._paused = True
                transport.pause()
        transport.write(data)

    def writable(self) -> None:
        """The transport takes bytes again."""
        self._control = 0
        if self._paused:
            self._paused = False
            self._transport.resume()
        self.run()

    # -- time -----------------------------------------------------------------------------------------------------

    def _watch(self, seconds: float) -> None:
        self._out = self._transport.bytes_out
        self._check_at = self._loop.now() + seconds
        self._checking = self._loop.call_at(self._check_at, self._check)

    def _over_cap(self) -> None:
        if self.size > HARD_CAP:
            # Not from within a call of the stream that is given up.
            self._loop.turn.call_soon(self._shed)
        if self._checking is not None and self._check_at > self._loop.now() + STALL_OVER_CAP:
            self._checking.cancel()
            self._watch(STALL_OVER_CAP)

    def _shed(self) -> None:
        while self.size > HARD_CAP:
            largest = max(self._waiting.values(), key=_size_of)
            self._give_up(largest, Reason.LIMIT_BUFFERED, f"more than {HARD_CAP} wait on its connection")

    def _is_watched(self) -> bool:
        return self._checking is not None

    def _check(self) -> None:
        """Give up what stands still, and look again when the next one would be due."""
        self._checking = None
        if not self._waiting:
            return
        now = self._loop.now()
        if self._transport.blocked and self._transport.bytes_out != self._out:
            # The socket moves, however slowly, and whoever waits for it with it.
            self._moved = now
        exhausted = self._engine.window(0) <= 0
        due = inf
        for waiting in sorted(self._waiting.values(), key=_size_of, reverse=True):
            limit = STALL if self.size <= self.cap else STALL_OVER_CAP
            since = waiting.since
            if waiting.listed or exhausted:
                # It waits for its turn, and turns end at the socket or at the connection's window.
                since = max(since, self._moved)
            if now < since + limit:
                due = min(due, since + limit)
                continue
            if limit == STALL:
                self._give_up(waiting, Reason.LIMIT_STALLED, f"its peer took nothing for {limit:g} s")
            else:
                why = f"its peer took nothing for {limit:g} s and more than {self.cap} wait on its connection"
                self._give_up(waiting, Reason.LIMIT_BUFFERED, why)
            if self.closed:
                return
        if self._waiting and not self._is_watched():
            self._watch(min(due - now, STALL if self.size <= self.cap else STALL_OVER_CAP))

    def _give_up(self, waiting: Waiting, reason: Reason, why: str) -> None:
        size = waiting.size
        self.forget(waiting.stream)
        self.stalls += 1
        text = f"stream {waiting.stream} was given up with {size} bytes to send: {why}"
        error = MeshError(reason, text, status=503)
        if self.stalls >= MAX_STALLS:
            self._owner.connection_overdue(error)
        else:
            self._owner.stream_overdue(waiting.stream, error)

    def close(self) -> None:
        """The connection has ended: nothing is written or watched any more."""
        self.closed = True
        if self._checking is not None:
            self._checking.cancel()
            self._checking = None
        for waiting in self._waiting.values():
            waiting.gone = True
        self._waiting.clear()
        self._held.clear()
        self._ring.clear()
        self.size = 0


def _flush(sending: Sending) -> None:
    """As its method, which compiled code would have to look up and bind each time."""
    sending.flush()


def _size_of(waiting: Waiting) -> int:
    return waiting.size
