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

GAP_S = 8.0
"""Seconds that a watch waits for a place, as long as that does not ask too much of the registry."""

MAX_RATE = 200.0
"""Places that change hands per second at most. Each is two requests, and this many take a third of a core."""

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
        self.gap_s = GAP_S
        self._alarms = alarms
        self._held: OrderedDict[Place, None] = OrderedDict()
        """Oldest first."""
        self._waiting: OrderedDict[trio.Event, None] = OrderedDict()
        self._urgent: set[trio.Event] = set()
        self._leaving = 0
        """Held places that are asked back."""
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
        return min(len(self._waiting) / self.gap_s, MAX_RATE, self.limit / MIN_DWELL_S)

    def period(self) -> float:
        """Seconds from one turn of a watch to its next; 0 while there is room for all."""
        return (self.limit + len(self._waiting)) / self.rate() if self._waiting else 0.0

    @asynccontextmanager
    async def place(self, *, urgent: bool = False) -> AsyncIterator[Place]:
        """A place, first come, first served; may be cancelled at any time.

        ``urgent`` is for those that know nothing yet: they go before the others, and the place held longest is asked
        back for them at once.
        """
        if self._waiting or len(self._held) + self._granted >= self.limit:
            await self._wait(urgent)
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
        self._serve_urgent()
        try:
            yield place
        finally:
            del self._held[place]
            self._leaving -= place.is_asked_back
            self._grant()

    async def _wait(self, urgent: bool) -> None:
        mine = trio.Event()
        self._waiting[mine] = None
        if urgent:
            # Before all others, those too that are urgent: whatever the order, they are served one after the other.
            self._waiting.move_to_end(mine, last=False)
            self._urgent.add(mine)
            self._serve_urgent()
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
        finally:
            self._urgent.discard(mine)

    def _serve_urgent(self) -> None:
        self._ask_back(len(self._urgent) - self._leaving - self._granted)

    def _grant(self) -> None:
        while self._waiting and len(self._held) + self._granted < self.limit:
            event, _ = self._waiting.popitem(last=False)
            self._urgent.discard(event)
            self._granted += 1
            event.set()

    def _press(self) -> None:
        """See to it that places change hands while there are more watches than places."""
        if not self._waiting:
            return
        when = self._alarms.env.now() + max(1 / self.rate(), BATCH_S)
        if self._alarm is not None and self._alarm.is_set:
            if self._alarm.when <= when:
                return
            self._alarm.cancel()
        self._alarm = self._alarms.at(when, self._turn)

    def _turn(self) -> None:
        if not self._waiting:
            return
        self._debt += max(1.0, self.rate() * BATCH_S)
        whole = int(self._debt)
        self._debt -= whole
        self._ask_back(whole)
        self._press()

    def _ask_back(self, count: int) -> None:
        """The places held longest, of those that are not asked back yet."""
        if count <= 0 or self._leaving == len(self._held):
            return
        for place in self._held:
            if not place.is_asked_back:
                place.ask_back()
                self._leaving += 1
                count -= 1
                if count == 0:
                    return
