"""Alarms for control work: holds, re-resolving, polling. One heap and one trio task for the whole daemon.

The data path has its own timer wheel; alarms are for things that happen a few times per second at most, and
they are allowed to be some milliseconds late.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from hostmesh.base.env import Env


class Alarm:
    """One call in the future; :meth:`cancel` may be called at any time, also after it has rung."""

    __slots__ = ("_alarms", "fn", "when")

    def __init__(self, alarms: Alarms, when: float, fn: Callable[[], None]) -> None:
        self._alarms = alarms
        self.when = when
        self.fn: Callable[[], None] | None = fn

    def cancel(self) -> None:
        if self.fn is not None:
            self.fn = None
            self._alarms.cancelled()

    @property
    def is_set(self) -> bool:
        return self.fn is not None


class Alarms:
    """Calls functions of the owning thread at times on ``env.now()``.

    Works without its task, too: :meth:`ring` calls whatever is due. A function that raises is given to
    ``on_error`` and the others still run.
    """

    def __init__(self, env: Env, on_error: Callable[[BaseException], None] | None = None) -> None:
        self.env = env
        self.on_error = on_error
        self._heap: list[tuple[float, int, Alarm]] = []
        self._count = 0
        self._dead = 0
        self._sleeping_until = -inf
        self._wake = trio.Event()
        self.is_running = False
        """Whether alarms ring by themselves."""

    def __len__(self) -> int:
        """How many alarms are set."""
        return len(self._heap) - self._dead

    def at(self, when: float, fn: Callable[[], None]) -> Alarm:
        """Call ``fn()`` when ``env.now()`` has reached ``when`` (seconds)."""
        alarm = Alarm(self, when, fn)
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, alarm))
        if when < self._sleeping_until:
            self._sleeping_until = -inf
            self._wake.set()
        return alarm

    def after(self, delay: float, fn: Callable[[], None]) -> Alarm:
        """Call ``fn()`` in ``delay`` seconds."""
        return self.at(self.env.now() + delay, fn)

    def cancelled(self) -> None:
        """Cancelled alarms stay in the heap until their time, unless they become the greater part of it."""
        self._dead += 1
        if self._dead > 64 and self._dead * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].is_set]
            heapq.heapify(self._heap)
            self._dead = 0

    def ring(self, limit: int = 256) -> float:
        """Call what is due, at most ``limit`` of it; return when the next alarm is due (inf: never).

        The limit lets the task give way to the data path between portions of a burst.
        """
        now = self.env.now()
        while self._heap and self._heap[0][0] <= now and limit > 0:
            _when, _count, alarm = heapq.heappop(self._heap)
            fn, alarm.fn = alarm.fn, None
            if fn is None:
                self._dead -= 1
                continue
            limit -= 1
            try:
                fn()
            except Exception as error:
                if self.on_error is None:
                    raise
                self.on_error(error)
        return self._heap[0][0] if self._heap else inf

    async def run(self) -> None:
        """Ring alarms until cancelled."""
        self.is_running = True
        try:
            while True:
                when = self.ring()
                delay = when - self.env.now()
                if delay <= 0:
                    await trio.lowlevel.checkpoint()
                    continue
                self._wake = trio.Event()
                self._sleeping_until = when
                with trio.move_on_after(delay):
                    await self._wake.wait()
                self._sleeping_until = -inf
        finally:
            self.is_running = False
