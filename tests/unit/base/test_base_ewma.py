"""The exponential moving average."""

from __future__ import annotations

import pytest

from hostmesh.base.ewma import Ema


def test_irregular_samples() -> None:
    """Samples weigh by the time since the last one; those without time between them are ignored."""
    ema = Ema(5.0)

    values = [ema.update(now, sample) for now, sample in [(0, 1), (0, 2), (0, 3), (1, 4), (2, 3), (7, 0)]]

    assert values == pytest.approx([1, 1, 1, 1.543808, 1.807771, 0.665042], abs=1e-6)


def test_time_that_runs_backwards_is_ignored() -> None:
    """An older sample has no weight."""
    ema = Ema(5.0)
    ema.update(10, 1)

    assert ema.update(5, 100) == 1


def test_reset_forgets() -> None:
    """After a reset the next sample is taken as it is."""
    ema = Ema(5.0)
    assert ema.is_empty
    ema.update(0, 1)
    ema.reset()

    assert ema.is_empty
    assert ema.update(1, 7) == 7


def test_window_must_be_positive() -> None:
    """A window of no time has no average."""
    with pytest.raises(ValueError, match="window"):
        Ema(0)
