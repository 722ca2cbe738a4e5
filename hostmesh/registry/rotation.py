"""A limit of concurrent watches that is shared fairly by more watches than it has room for.

Registries bound the connections of one client (a Consul agent closes what is above 200), and a watch takes one
connection. Up to the limit every name has its watch. Above it names without one are looked at instead, every other
second as long as that does not ask too much of the registry, and get the places of watches that end. Nothing is
interrupted for that: an agent goes on counting the connection of a query that was given up until the query would have
ended, so that to cancel watches is to use more connections than the limit. When it happens all the same, because a name
is no longer in use or the registry was away, the place stays taken until then.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from hostmesh.registry.alarms import Alarm, Alarms

GAP_S = 2.0
"""Seconds between two looks at a name without a watch, as long as that is not too often for the registry. What has
changed is then known about as soon as after a reconnect."""

MAX_RATE = 150.0
"""Looks per second at most, all names together: a seventh of a core, and little for an agent."""

LOOKS = 16
"""Looks at the same time. Each takes a connection beyond those of the watches."""

DWELL_S = 10.0
"""A place is held at least this long while others wait, lest a name that changes often never have one."""


FIRST_PART = 5
FIRST_MIN = 10
"""One place in so many is given out while the registry may still count the watches of the process before this one: with
those, and looks, that is just below what an agent takes of one client if the limit is three quarters of it."""


class Place:
    """The right to one watch: a turn in the queue, until it is granted."""

    def __init__(self, is_granted: bool) -> None:
        self._granted = trio.Event()
        self.busy_until: float | None = None
        """When the registry ends the query that is under way, on the alarms' clock; None while there is none."""
        if is_granted:
            self._granted.set()

    @property
    def is_granted(self) -> bool:
        return self._granted.is_set()

    def grant(self) -> None:
        self._granted.set()

    async def granted_within(self, seconds: float) -> bool:
        """Wait for it at most that long."""
        with trio.move_on_after(seconds):
            await self._granted.wait()
        return self.is_granted


class Rotation:
    """Places for watches, and looks for those that have none."""

    def __init__(self, limit: int, alarms: Alarms) -> None:
        if limit < 1:
            raise ValueError(f"expected a limit of at least 1, found {limit}")
        self.limit = limit
        self.look_every_s = GAP_S
        self._alarms = alarms
        self._held = 0
        self._given_up: dict[Alarm, None] = {}
        """For each query that was given up, the alarm at the end of which its place is free."""
        self._queue: OrderedDict[Place, None] = OrderedDict()
        self.looks = trio.Semaphore(LOOKS)
        """To be entered around a look."""

    @property
    def held(self) -> int:
        """Places taken now, by watches."""
        return self._held - len(self._given_up)

    @property
    def given_up(self) -> int:
        """Places taken by queries that were given up and that the registry may still be busy with."""
        return len(self._given_up)

    @property
    def waiting(self) -> int:
        """Names without a place."""
        return len(self._queue)

    def gap_s(self) -> float:
        """Seconds between two looks at a name that has no place."""
        return max(self.look_every_s, len(self._queue) / MAX_RATE)

    def period_s(self, hold_s: float) -> float:
        """Seconds from one turn of a name to its next, when each keeps its place for ``hold_s``; 0 while there is room
        for all."""
        return (self.held + len(self._queue)) / self.limit * hold_s if self._queue else 0.0

    def is_over(self, held_s: float) -> bool:
        """Whether a name that has had its place for so long should leave it to the next."""
        return bool(self._queue) and held_s >= DWELL_S

    @contextmanager
    def place(self) -> Iterator[Place]:
        """A place, or a turn in the queue for one: first come, first served."""
        place = Place(self._held < self.limit and not self._queue)
        if place.is_granted:
            self._held += 1
        else:
            self._queue[place] = None
        try:
            yield place
        finally:
            if not place.is_granted:
                del self._queue[place]
            elif place.busy_until is not None and place.busy_until > self._alarms.env.now():
                self._give_up(place.busy_until)
            else:
                self._held -= 1
                self._grant()

    def _give_up(self, until: float) -> None:
        def free() -> None:
            if self._given_up.pop(alarm, True) is None:
                self._held -= 1
                self._grant()

        alarm = self._alarms.at(until, free)
        self._given_up[alarm] = None

    def begin_after_another(self, until: float) -> None:
        """This process may follow one that had watches, which the registry is busy with until then."""
        for _ in range(self.limit - max(self.limit // FIRST_PART, FIRST_MIN)):
            self._held += 1
            self._give_up(until)

    def begin_anew(self) -> None:
        """The registry's process is another one: it knows nothing of queries that were given up."""
        given_up, self._given_up = self._given_up, {}
        for alarm in given_up:
            alarm.cancel()
        self._held -= len(given_up)
        self._grant()

    def _grant(self) -> None:
        while self._queue and self._held < self.limit:
            following, _ = self._queue.popitem(last=False)
            self._held += 1
            following.grant()
