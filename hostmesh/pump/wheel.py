"""A timer wheel: O(1) to set and to cancel, which is what timeouts that almost never fire need.

Time is cut into slots of :data:`SLOT` seconds. A timer lands in the first slot that starts at or after its time, so
it never fires early and at most one slot (plus the length of a batch) late. The order of the slots in use is a heap of
slot numbers, touched once per slot and not once per timer: ten thousand requests that arm the same timeout within
10 ms cost one push.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

SLOT: Final = 0.01
"""Seconds per slot: timeouts are configured in milliseconds, and none of them means anything below ten."""


class Timer:
    """One armed callback. ``cancel`` may be called at any time, also after it fired."""

    __slots__ = ("_slot", "args", "fn")

    def __init__(self, slot: dict[Timer, None], fn: Callable[..., object], args: tuple[object, ...]) -> None:
        self._slot: dict[Timer, None] | None = slot
        self.fn = fn
        self.args = args

    def cancel(self) -> None:
        slot = self._slot
        if slot is not None:
            # Taken out at once: a cancelled ten-second timeout must not hold its request for ten seconds.
            slot.pop(self, None)
            self._slot = None

    @property
    def armed(self) -> bool:
        return self._slot is not None


class Wheel:
    """All timers of one loop."""

    __slots__ = ("_order", "_slots")

    def __init__(self) -> None:
        self._slots: dict[int, dict[Timer, None]] = {}
        self._order: list[int] = []

    def set(self, when: float, fn: Callable[..., object], *args: object) -> Timer:
        """Call ``fn(*args)`` at the first run at or after ``when`` (seconds of the loop's clock)."""
        number = -int(-when // SLOT)
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = {}
            heappush(self._order, number)
        timer = Timer(slot, fn, args)
        slot[timer] = None
        return timer

    def next_due(self) -> float | None:
        """When :meth:`run` next has something to do, or None. Empty slots are forgotten here."""
        order = self._order
        while order:
            number = order[0]
            if self._slots[number]:
                return number * SLOT
            heappop(order)
            del self._slots[number]
        return None

    def run(self, now: float, on_error: Callable[[BaseException], None] | None = None) -> int:
        """Fire what is due at ``now``; return how many fired.

        A timer set by a callback for a time already past fires in the next run, not in this one, so that a loop of
        zero delays cannot hold the data path.
        """
        order = self._order
        if not order or order[0] * SLOT > now:
            return 0
        fired = 0
        batch: list[dict[Timer, None]] = []
        while order and order[0] * SLOT <= now:
            batch.append(self._slots.pop(heappop(order)))
        for slot in batch:
            # A callback may cancel a later timer of the same slot: cancel() removes it from this very dict.
            while slot:
                timer = next(iter(slot))
                del slot[timer]
                timer._slot = None
                fired += 1
                try:
                    timer.fn(*timer.args)
                except Exception as error:
                    if on_error is None:
                        raise
                    on_error(error)
        return fired

    def __len__(self) -> int:
        return sum(len(slot) for slot in self._slots.values())
