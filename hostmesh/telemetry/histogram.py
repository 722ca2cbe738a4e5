"""Log-linear buckets over whole numbers, and what can be said about a set of samples sorted into them.

Buckets are exact up to 63, then each octave has 32 of them, so a midpoint is at most 1.6 % off. The index is
integer arithmetic alone: no value falls on the wrong side of a power of two, and the same sample lands in the
same bucket on every machine, which is what lets workers' histograms be merged by adding counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import floor

from attrs import field, frozen

from hostmesh.telemetry.buckets import MAX_VALUE, bounds, index


@frozen
class Histogram:
    """A finished set of samples: bucket counts, and the exact count, sum, smallest and largest.

    ``minimum`` and ``maximum`` mean nothing while ``count`` is 0.
    """

    counts: Mapping[int, int] = field(factory=dict)
    """Samples per bucket; buckets without any are absent."""
    count: int = 0
    sum: int = 0
    minimum: int = 0
    maximum: int = 0

    @classmethod
    def of(cls, values: Iterable[int]) -> Histogram:
        """The histogram of some values, each clamped to 0..MAX_VALUE as ``Stat.add`` does."""
        counts: dict[int, int] = {}
        kept = [min(max(value, 0), MAX_VALUE) for value in values]
        for value in kept:
            bucket = index(value)
            counts[bucket] = counts.get(bucket, 0) + 1
        if not kept:
            return EMPTY
        return cls(counts, len(kept), sum(kept), min(kept), max(kept))

    def merge(self, other: Histogram) -> Histogram:
        """The histogram of both sets of samples, exactly."""
        if not self.count:
            return other
        if not other.count:
            return self
        counts = dict(self.counts)
        for bucket, n in other.counts.items():
            counts[bucket] = counts.get(bucket, 0) + n
        return Histogram(
            counts,
            self.count + other.count,
            self.sum + other.sum,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
        )

    def since(self, earlier: Histogram) -> Histogram:
        """The samples that came after ``earlier``, an older state of the same stat.

        Their smallest and largest are only known as well as the buckets are narrow.
        """
        if not earlier.count:
            return self
        counts = {b: n - earlier.counts.get(b, 0) for b, n in self.counts.items()}
        counts = {b: n for b, n in counts.items() if n}
        if not counts:
            return EMPTY
        return Histogram(
            counts,
            self.count - earlier.count,
            self.sum - earlier.sum,
            max(bounds(min(counts))[0], self.minimum),
            min(bounds(max(counts))[1] - 1, self.maximum),
        )

    @property
    def average(self) -> float:
        return self.sum / self.count if self.count else 0.0

    def percentiles(self, points: Iterable[float]) -> list[int]:
        """The values below which the given shares (ascending, 0 to 1) of the samples lie.

        The rank is Linkerd's, ``floor(p * n + 0.5)``, so that numbers line up; the answer is the midpoint of
        the bucket of that rank, kept within the exact smallest and largest. 0 and 1 are those two. All are 0
        when there are no samples.
        """
        answers: list[int] = []
        if not self.count:
            return [0 for _ in points]
        buckets = iter(sorted(self.counts))
        bucket = next(buckets)
        seen = self.counts[bucket]
        for point in points:
            if point <= 0:
                answers.append(self.minimum)
                continue
            if point >= 1:
                answers.append(self.maximum)
                continue
            rank = floor(point * self.count + 0.5)
            while seen < rank:
                bucket = next(buckets)
                seen += self.counts[bucket]
            low, high = bounds(bucket)
            answers.append(min(max((low + high) // 2, self.minimum), self.maximum))
        return answers

    def octaves(self) -> list[tuple[int, int]]:
        """(upper limit, how many samples are less than it) for each power of two up to the largest sample.

        What an exporter with few buckets needs. Limits fall between buckets, so the numbers are exact.
        """
        if not self.count:
            return []
        rows: list[tuple[int, int]] = []
        remaining = sorted(self.counts)
        below = 0
        at = 0
        for exponent in range(self.maximum.bit_length() + 1):
            limit = 1 << exponent
            while at < len(remaining) and bounds(remaining[at])[1] <= limit:
                below += self.counts[remaining[at]]
                at += 1
            rows.append((limit, below))
        return rows


EMPTY = Histogram()
