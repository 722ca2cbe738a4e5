"""A distribution of samples: the metric behind latencies and sizes."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, Literal, TypeAlias

from hostmesh.telemetry.histogram import EMPTY, MAX_VALUE, Histogram, index

UNSORTED: Final = 64
"""Samples that a stat keeps before it sorts them: 2 KB at most, where a thousand names have four stats each. With
more, sorting would hardly become cheaper."""

TABLED: Final = 16384
"""Samples below this have their bucket in a table: as microseconds what answers in less than 16 ms. Slower requests
are rarer, and can afford the arithmetic."""

_TABLE = array("H", map(index, range(TABLED)))

# Smaller than every sample that is allowed, and larger: the first sample becomes both.
_NO_MINIMUM: Final = MAX_VALUE + 1
_NO_MAXIMUM: Final = -1


Window: TypeAlias = Literal["last", "current", "all"]
"""Which samples of a stat: the last finished minute, the running one, or everything since it was made."""


class Stat:
    """A distribution of whole numbers, in log-linear buckets.

    ``scale`` divides what is shown: latencies are added in microseconds and shown as ``..._ms`` with scale
    1000, where Linkerd truncates to whole milliseconds. Samples are clamped to 0..:data:`MAX_VALUE`.

    Samples are kept as they come and sorted into their buckets :data:`UNSORTED` at a time, or when somebody
    asks: sorting one alone costs a microsecond, four of them a tenth of a request, and a list a tenth of that.
    """

    __slots__ = ("_counts", "_max", "_min", "_past", "_sum", "_unsorted", "before", "last", "scale")

    def __init__(self, scale: int = 1) -> None:
        self.scale = scale
        self.last: Histogram = EMPTY
        """The last finished minute; empty before the first."""
        self._past: Histogram = EMPTY
        self.before: Callable[[], object] | None = None
        """Called before anybody reads: samples may be kept elsewhere until then, and are added by it."""
        self._unsorted: list[int] = []
        # A dict, not a list of 896: a quiet stat costs nothing, and a tick costs what it has seen.
        self._counts: Counter[int] = Counter()
        self._sum = 0
        self._min = _NO_MINIMUM
        self._max = _NO_MAXIMUM

    def add(self, value: int) -> None:
        """Count one sample, a whole number."""
        unsorted = self._unsorted
        unsorted.append(value)
        if len(unsorted) >= UNSORTED:
            self._sort()

    def extend(self, values: Iterable[int]) -> None:
        """Count many samples."""
        self._unsorted.extend(values)
        if len(self._unsorted) >= UNSORTED:
            self._sort()

    def _sort(self) -> None:
        values = self._unsorted
        if not values:
            return
        low, high = min(values), max(values)
        if low < 0 or high >= TABLED:
            clamped = [min(max(value, 0), MAX_VALUE) for value in values]
            low, high = min(clamped), max(clamped)
            self._sum += sum(clamped)
            self._counts.update(map(index, clamped))
        else:
            self._sum += sum(values)
            self._counts.update(map(_TABLE.__getitem__, values))
        if low < self._min:
            self._min = low
        if high > self._max:
            self._max = high
        values.clear()

    @property
    def current(self) -> Histogram:
        """The samples since the last minute tick."""
        if self.before is not None:
            self.before()
        self._sort()
        if not self._counts:
            return EMPTY
        return Histogram(dict(self._counts), sum(self._counts.values()), self._sum, self._min, self._max)

    @property
    def count(self) -> int:
        """How many samples there were since the stat was made."""
        return self._past.count + self.current.count

    @property
    def cumulative(self) -> Histogram:
        """All samples since the stat was made."""
        return self._past.merge(self.current)

    def window(self, window: Window) -> Histogram:
        """The samples of one of the windows."""
        if window == "last":
            return self.last
        return self.current if window == "current" else self.cumulative

    def tick(self) -> None:
        """End the minute: what is current becomes ``last``."""
        self.last = self.current
        if self._counts:
            self._past = self._past.merge(self.last)
            self._counts = Counter()
            self._sum = 0
            self._min = _NO_MINIMUM
            self._max = _NO_MAXIMUM

    def __repr__(self) -> str:
        total = self.cumulative
        return f"Stat(count={total.count}, sum={total.sum}, scale={self.scale})"
