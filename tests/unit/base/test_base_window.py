"""Windowed sums and leaky buckets."""

from __future__ import annotations

import pytest

from hostmesh.base.window import LeakyBucket, WindowedAdder


@pytest.mark.parametrize(("later", "count"), [(9.999, 1), (10.0, 0), (1e6, 0)])
def test_amount_lives_for_the_window(later: float, count: int) -> None:
    """An amount added at 0 is gone at 10 s, and there just before."""
    adder = WindowedAdder(10.0, 10)
    adder.add(1, 0.0)

    assert adder.sum(later) == count


def test_lives_at_least_nine_tenths() -> None:
    """Added at 0.95 and polled each second it is there through 9.999 and gone at 10."""
    adder = WindowedAdder(10.0, 10)
    adder.add(1, 0.95)

    assert [adder.sum(0.95 + second) for second in range(1, 10)] == [1] * 9
    assert (adder.sum(9.999), adder.sum(10.0)) == (1, 0)


def test_irregular_polling_does_not_stretch_it() -> None:
    """Polling at odd times does not keep an amount beyond its window."""
    adder = WindowedAdder(10.0, 10)
    adder.add(1, 0.0)

    assert [adder.sum(now) for now in (1, 5, 8.999, 9, 9.5, 9.999, 10)] == [1, 1, 1, 1, 1, 1, 0]


def test_slices_are_counted_from_the_origin() -> None:
    """The window begins where it was told to."""
    adder = WindowedAdder(10.0, 10, origin=0.5)
    adder.add(1, 0.6)

    assert (adder.sum(10.4), adder.sum(10.5)) == (1, 0)


def test_time_that_runs_backwards_is_the_newest_seen() -> None:
    """An older time neither loses nor revives anything."""
    adder = WindowedAdder(10.0, 10)
    adder.add(1, 5.0)
    adder.add(1, 2.0)

    assert adder.sum(1.0) == 2


def test_sum_over_many_windows() -> None:
    """At a steady rate the sum is the rate times the window, within a slice."""
    adder = WindowedAdder(5.0, 5)
    for tenth in range(1000):
        adder.add(1, tenth / 10)
        if tenth > 60:
            assert 40 <= adder.sum(tenth / 10) <= 50


def test_reset_forgets() -> None:
    """After a reset nothing is counted."""
    adder = WindowedAdder(5.0, 5)
    adder.add(3, 0.0)
    adder.add(3, 1.0)
    adder.reset()

    assert adder.sum(1.0) == 0


@pytest.mark.parametrize(("window", "slices"), [(0.0, 5), (5.0, 1)])
def test_impossible_windows(window: float, slices: int) -> None:
    """A window needs time and at least two slices."""
    with pytest.raises(ValueError, match="window"):
        WindowedAdder(window, slices)


def test_reserve_comes_back_one_ttl_later() -> None:
    """The reserve and what was put in can be taken once per ttl."""
    bucket = LeakyBucket(3.0, reserve=100)
    assert [bucket.try_get(50, 0.0), bucket.try_get(50, 0.0), bucket.try_get(1, 0.0)] == [True, True, False]
    bucket.put(1, 0.0)
    assert bucket.try_get(1, 0.0)

    assert [bucket.try_get(1, now) for now in (1.0, 2.0, 3.0 - 1e-9)] == [False] * 3
    assert bucket.try_get(50, 4.0)
    assert bucket.try_get(100, 7.0)
    assert not bucket.try_get(1, 7.0)
