"""An exponential moving average over samples at irregular times."""

from __future__ import annotations

from math import exp


class Ema:
    """``weight of the past = exp(-elapsed / window)``; the first sample is taken as it is.

    ``window`` and times share a unit: seconds, or a count of samples. A sample that comes with no time elapsed is
    ignored, as in Finagle: it would have no weight.
    """

    __slots__ = ("_rate", "_stamp", "value")

    def __init__(self, window: float) -> None:
        if window <= 0:
            raise ValueError(f"window: found {window}, expected more than 0")
        self._rate = 1.0 / window
        self._stamp: float | None = None
        self.value = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether no sample has come since the start or the last reset."""
        return self._stamp is None

    def update(self, now: float, sample: float) -> float:
        """Fold ``sample`` and return the average as of ``now``."""
        if self._stamp is None:
            self._stamp = now
            self.value = sample
        elif now > self._stamp:
            kept = exp((self._stamp - now) * self._rate)
            self.value = sample * (1.0 - kept) + self.value * kept
            self._stamp = now
        return self.value

    def reset(self) -> None:
        self._stamp = None
        self.value = 0.0
