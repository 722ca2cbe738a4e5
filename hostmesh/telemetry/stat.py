"""A distribution of samples: the metric behind latencies and sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Literal, TypeAlias

from hostmesh.telemetry.buckets import BUCKETS, MAX_VALUE, index
from hostmesh.telemetry.histogram import EMPTY, Histogram

UNSORTED: Final = 64
"""Samples that a stat keeps before it sorts them: 2 KB at most, where a thousand names have four stats each. With
more, sorting would hardly become cheaper."""

TABLED: Final = 16384
"""Samples below this have their bucket in a table: as microseconds what answers in less than 16 ms. Slower requests
are rarer, and can afford the arithmetic."""

_BUCKETS: Final = list(range(BUCKETS))
# The same few hundred numbers again and again, not sixteen thousand equal ones.
_TABLE: Final = [_BUCKETS[index(value)] for value in range(TABLED)]

# Smaller than every sample that is allowed, and larger: the first sample becomes both.
_NO_MINIMUM: Final = MAX_VALUE + 1
_NO_MAXIMUM: Final = -1


Window: TypeAlias = Literal["last", "current", "all"]
"""Which samples of a stat: the last finished minute, the running one, or everything since it was made."""


class Sorted:
    """Samples in their buckets, for all stats that count them."""

    __slots__ = ("counts", "high", "low", "total")

    def __init__(self, values: list[int]) -> None:
        """Of some samples, at least one."""
        counts: dict[int, int] = {}
        table = _TABLE
        total = 0
        low = _NO_MINIMUM
        high = _NO_MAXIMUM
        # One loop: what the interpreter has in C is no faster for so few, and slower in compiled code.
        for value in values:
            if 0 <= value < TABLED:
                bucket = table[value]
            else:
                value = min(max(value, 0), MAX_VALUE)
                bucket = index(value)
            if bucket in counts:
                counts[bucket] += 1
            else:
                counts[bucket] = 1
            total += value
            if value < low:
                low = value
            if value > high:
                high = value
        self.counts = counts
        self.total = total
        self.low = low
        self.high = high


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
        self._counts: dict[int, int] = {}
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

    def take(self, samples: Sorted) -> None:
        """Count many samples that others count, too."""
        counts = self._counts
        for bucket, n in samples.counts.items():
            counts[bucket] = counts.get(bucket, 0) + n
        self._sum += samples.total
        if samples.low < self._min:
            self._min = samples.low
        if samples.high > self._max:
            self._max = samples.high

    def repeat(self, value: int, n: int) -> None:
        """Count ``n`` samples of one value, from 0 to :data:`MAX_VALUE`."""
        bucket = index(value)
        self._counts[bucket] = self._counts.get(bucket, 0) + n
        self._sum += value * n
        self._min = min(self._min, value)
        self._max = max(self._max, value)

    def _sort(self) -> None:
        values = self._unsorted
        if values:
            self.take(Sorted(values))
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
            self._counts = {}
            self._sum = 0
            self._min = _NO_MINIMUM
            self._max = _NO_MAXIMUM

    def __repr__(self) -> str:
        total = self.cumulative
        return f"Stat(count={total.count}, sum={total.sum}, scale={self.scale})"
