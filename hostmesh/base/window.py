"""Sums over the last seconds, and the leaky bucket made of one."""

from __future__ import annotations


class WindowedAdder:
    """The sum of what was added within about the last ``window`` seconds, in ``slices`` slices.

    Slices are counted from ``origin`` (seconds), so an amount lives at least
    ``window * (slices - 1) / slices`` and at most ``window`` seconds, whatever the rhythm of calls. (Finagle aligns
    them to the calls, which stretches slices.) Time that runs backwards is taken for the newest time seen.
    """

    __slots__ = ("_closed", "_index", "_origin", "_rate", "_slot", "next_turn", "open")

    def __init__(self, window: float, slices: int, origin: float = 0.0) -> None:
        if window <= 0 or slices < 2:
            raise ValueError(
                f"found window {window} s in {slices} slices, expected more than 0 s in 2 or more"
            )
        self._rate = slices / window
        self._origin = origin
        self._closed = [0] * (slices - 1)
        self._index = 0
        self._slot = -1
        self.open = 0
        """What was added within the current slice. Hot paths add to it directly, after ``advance`` if ``now`` is at
        or past ``next_turn``."""
        self.next_turn = float("-inf")
        """When the current slice ends, seconds."""

    def advance(self, now: float) -> None:
        """Close the slices that have ended by ``now``."""
        slot = int((now - self._origin) * self._rate)
        passed = slot - self._slot
        if passed > 0:
            closed = self._closed
            n = len(closed)
            if passed > n:
                closed[:] = [0] * n
            else:
                index = self._index
                for amount in (self.open, *[0] * (passed - 1)):
                    closed[index] = amount
                    index = (index + 1) % n
                self._index = index
            self.open = 0
            self._slot = slot
            self.next_turn = self._origin + (slot + 1) / self._rate

    def add(self, amount: int, now: float) -> None:
        if now >= self.next_turn:
            self.advance(now)
        self.open += amount

    def sum(self, now: float) -> int:
        """What was added within the window that ends at ``now``."""
        if now >= self.next_turn:
            self.advance(now)
        return self.open + sum(self._closed)

    def reset(self) -> None:
        self._closed[:] = [0] * len(self._closed)
        self.open = 0


SLICES = 10
"""Slices of a leaky bucket: its balance moves in steps of a tenth."""


class LeakyBucket:
    """Tokens that leak away ``ttl`` seconds after they were put in, over a reserve that is always there.

    Withdrawals leak away too, so a reserve that was used up is back one ttl later. There is no upper bound.
    """

    __slots__ = ("adder", "reserve")

    def __init__(self, ttl: float, reserve: int = 0, origin: float = 0.0) -> None:
        self.adder = WindowedAdder(ttl, SLICES, origin)
        self.reserve = reserve

    def put(self, tokens: int, now: float) -> None:
        self.adder.add(tokens, now)

    def count(self, now: float) -> int:
        """Tokens that could be taken; below 0 when what paid for earlier withdrawals has leaked away."""
        return self.adder.sum(now) + self.reserve

    def try_get(self, tokens: int, now: float) -> bool:
        """Take ``tokens`` if there are as many."""
        if self.count(now) < tokens:
            return False
        self.adder.add(-tokens, now)
        return True
