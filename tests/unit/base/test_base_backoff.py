"""Backoffs."""

from __future__ import annotations

from itertools import islice
from random import Random

import pytest

from hostmesh.base.backoff import (
    Backoff,
    ConstantBackoffConfig,
    Decorrelated,
    EqualJittered,
    ExponentialJittered,
    JitteredBackoffConfig,
)

ALMOST_ONE = 1 - 2**-53


class Fixed(Random):
    """Draws the same number each time."""

    def __init__(self, u: float) -> None:
        super().__init__(0)
        self.u = u

    def random(self) -> float:
        return self.u


@pytest.mark.parametrize(
    ("backoff", "u", "delays"),
    [
        (ConstantBackoffConfig().mk(), 0.5, [0, 0, 0]),
        (ConstantBackoffConfig(ms=250).mk(), 0.5, [0.25, 0.25, 0.25]),
        (Decorrelated(0.01, 10), 0.0, [0.01, 0.01, 0.01]),
        (Decorrelated(0.01, 10), 0.5, [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28]),
        (Decorrelated(0.01, 1), ALMOST_ONE, [0.01, 0.03, 0.09, 0.27, 0.81, 1, 1]),
        (EqualJittered(5, 300), 0.0, [5, 5, 10, 20, 40, 80, 160, 300, 300]),
        (EqualJittered(5, 300), 0.5, [5, 7.5, 15, 30, 60, 120, 240, 300, 300]),
        (EqualJittered(5, 300), ALMOST_ONE, [5, 10, 20, 40, 80, 160, 300, 300]),
        (EqualJittered(7, 7), 0.5, [7, 7, 7]),
        (ExponentialJittered(1, 32), 0.5, [1, 1, 2, 8, 32, 32]),
        (ExponentialJittered(1, 32), 0.25, [1, 0.5, 0.5, 1, 4, 32, 32]),
        (ExponentialJittered(1, 32), 0.9, [1, 1.8, 6.48, 32, 32]),
        (JitteredBackoffConfig(min_ms=10, max_ms=10_000).mk(), 0.5, [0.01, 0.02, 0.04]),
    ],
)
def test_sequence(backoff: Backoff, u: float, delays: list[float]) -> None:
    """The delays follow from the draws."""
    assert list(islice(backoff.delays(Fixed(u)), len(delays))) == pytest.approx(delays)


def test_full_jitter_ends_even_if_it_draws_nothing() -> None:
    """Draws of 0 for ever still reach the limit, so that a connect is never tried in a tight loop."""
    assert 32 in list(islice(ExponentialJittered(1, 32).delays(Fixed(0.0)), 80))


def test_each_sequence_is_fresh() -> None:
    """Two sequences of one backoff do not share their place."""
    backoff = EqualJittered(5, 300)
    list(islice(backoff.delays(Random(1)), 5))

    assert next(backoff.delays(Random(1))) == 5


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        (ConstantBackoffConfig(ms=-1), ["ms"]),
        (JitteredBackoffConfig(min_ms=0, max_ms=1), ["minMs"]),
        (JitteredBackoffConfig(min_ms=10, max_ms=9), ["maxMs"]),
        (JitteredBackoffConfig(min_ms=10, max_ms=10), []),
    ],
)
def test_config_ranges(config: ConstantBackoffConfig | JitteredBackoffConfig, keys: list[str]) -> None:
    """Each value out of range is reported by its key."""
    assert [found.split(":")[0] for found in config.check()] == keys
