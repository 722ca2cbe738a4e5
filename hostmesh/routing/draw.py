"""Drawing an index with a probability in proportion to its weight: weight classes and dtab unions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate


class WeightedDraw:
    """Draws indices of ``weights`` (not negative, at least one); all zero means all equal.

    A cumulative list and one bisection: for the handful of branches that dtabs have it is as fast as alias
    tables and needs one random number.
    """

    __slots__ = ("_cumulative", "_total")

    def __init__(self, weights: Sequence[float]) -> None:
        if not weights:
            raise ValueError("weights: found none, expected at least one")
        if any(weight < 0 for weight in weights):
            raise ValueError(f"weights: found {list(weights)}, expected none below 0")
        if not any(weights):
            weights = [1.0] * len(weights)
        self._cumulative = list(accumulate(weights))
        self._total = self._cumulative[-1]
        # Trailing branches of weight zero must stay unreachable even if u * total rounds up to the total.
        last = max(index for index, weight in enumerate(weights) if weight > 0)
        del self._cumulative[last:]

    def draw(self, u: float) -> int:
        """The index for ``u``, a uniform draw from [0, 1)."""
        return bisect_right(self._cumulative, u * self._total)

    def probability(self, index: int) -> float:
        """How likely ``draw`` is to return ``index``."""
        bounds = [0.0, *self._cumulative, self._total]
        if index + 1 >= len(bounds):
            return 0.0
        return (bounds[index + 1] - bounds[index]) / self._total
