"""A limit of concurrent watches that is shared fairly by more watches than it has room for.

Registries bound the connections of one client (a Consul agent drops what is above 200), and a watch takes one
connection. Up to the limit every watch has its place for good. Above it they take turns: at a steady rate the place
held longest goes to the watch that has waited longest. A watch that comes back into a place asks for what has changed
since its last answer, so nothing is missed, only seen later.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from hostmesh.registry.alarms import Alarm, Alarms

GAP_S = 5.0
"""Seconds that a watch waits for a place, as long as that does not ask too much of the registry."""

MAX_RATE = 300.0
"""Places that change hands per second at most. Each is a request, and this many take a third of a core."""

MIN_DWELL_S = 0.1
"""A place is held at least this long, lest a watch leave before its answer has come."""

BATCH_S = 0.05
"""Places change hands in batches, so that a high rate needs no alarm for each."""


class Place:
    """The right to one connection."""

    def __init__(self) -> None:
        self._scope: trio.CancelScope | None = None
        self.is_asked_back = False
        """Finish what you are doing, without waiting for anything, and leave."""

    @contextmanager
    def waiting(self) -> Iterator[trio.CancelScope]:
        """To be around the waiting part of the watch: it is cancelled when the place is asked back."""
        with trio.CancelScope() as scope:
            self._scope = scope
            try:
                yield scope
            finally:
                self._scope = None

    def ask_back(self) -> None:
        self.is_asked_back = True
        if self._scope is not None:
            self._scope.cancel()


class Rotation:
    """Places for watches; :meth:`place` gives one for as long as the ``async with`` lasts."""

    def __init__(self, limit: int, alarms: Alarms) -> None:
        if limit < 1:
            raise ValueError(f"expected a limit of at least 1, found {limit}")
        self.limit = limit
        self._alarms = alarms
        self._held: OrderedDict[Place, None] = OrderedDict()
        """Oldest first."""
        self._waiting: OrderedDict[trio.Event, None] = OrderedDict()
        self._granted = 0
        """Places promised to those that were woken and have not run yet."""
        self._alarm: Alarm | None = None
        self._debt = 0.0
        """Places to be asked back; the fraction is for the next batch."""

    @property
    def held(self) -> int:
        """Places taken now."""
        return len(self._held)

    @property
    def waiting(self) -> int:
        """Watches without a place."""
        return len(self._waiting)

    def rate(self) -> float:
        """Places that change hands per second while others wait."""
        return min(len(self._waiting) / GAP_S, MAX_RATE, self.limit / MIN_DWELL_S)

    def period(self) -> float:
        """Seconds from one turn of a watch to its next; 0 while there is room for all."""
        return (self.limit + len(self._waiting)) / self.rate() if self._waiting else 0.0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Place]:
        """A place, first come, first served. May be cancelled at any time."""
        if self._waiting or len(self._held) + self._granted >= self.limit:
            await self._wait()
        else:
            self._granted += 1
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled:
                self._granted -= 1
                self._grant()
                raise
        self._granted -= 1
        place = Place()
        self._held[place] = None
        try:
            yield place
        finally:
            del self._held[place]
            self._grant()

    async def _wait(self) -> None:
        mine = trio.Event()
        self._waiting[mine] = None
        self._press()
        try:
            await mine.wait()
        except trio.Cancelled:
            if mine in self._waiting:
                del self._waiting[mine]
            else:
                self._granted -= 1
                self._grant()
            raise

    def _grant(self) -> None:
        while self._waiting and len(self._held) + self._granted < self.limit:
            event, _ = self._waiting.popitem(last=False)
            self._granted += 1
            event.set()

    def _press(self) -> None:
        """See to it that places change hands while there are more watches than places."""
        if self._waiting and (self._alarm is None or not self._alarm.is_set):
            self._alarm = self._alarms.after(max(1 / self.rate(), BATCH_S), self._turn)

    def _turn(self) -> None:
        if not self._waiting:
            return
        self._debt += max(1.0, self.rate() * BATCH_S)
        for place in self._held:
            if self._debt < 1:
                break
            if not place.is_asked_back:
                self._debt -= 1
                place.ask_back()
        self._debt = min(self._debt, 1.0)
        self._press()
