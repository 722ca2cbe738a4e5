from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.telemetry.buckets import BUCKETS, MAX_VALUE, bounds, index
from hostmesh.telemetry.histogram import EMPTY, Histogram

samples = st.lists(st.integers(0, MAX_VALUE) | st.integers(0, 200), max_size=60)


@pytest.mark.parametrize(
    ("value", "bucket", "limits"),
    [
        (0, 0, (0, 1)),
        (31, 31, (31, 32)),
        (63, 63, (63, 64)),
        (64, 64, (64, 66)),
        (65, 64, (64, 66)),
        (66, 65, (66, 68)),
        (127, 95, (126, 128)),
        (128, 96, (128, 132)),
        (1000, 190, (992, 1008)),
        (1024, 192, (1024, 1056)),
        (65535, 383, (64512, 65536)),
        (10**6, 509, (999424, 1015808)),
        (6 * 10**7, 697, bounds(697)),
        (2**31 - 1, 863, bounds(863)),
        (MAX_VALUE, BUCKETS - 1, (2**32 - 2**26, 2**32)),
    ],
)
def test_known_values_have_known_buckets(value: int, bucket: int, limits: tuple[int, int]) -> None:
    """The bucket of a value and its limits are the published vectors."""
    assert (bucket, limits) == (index(value), bounds(index(value)))


@given(st.integers(0, MAX_VALUE))
def test_a_bucket_holds_its_value_and_is_narrow(value: int) -> None:
    """Every value lies in its bucket, whose half width is at most 1.6 % of it."""
    low, high = bounds(index(value))

    assert low <= value < high
    assert high - low <= max(1, value / 32)


def test_buckets_cover_the_range_without_gaps() -> None:
    """Each bucket begins where the one before ends, from 0 to the largest value."""
    limits = [bounds(bucket) for bucket in range(BUCKETS)]

    assert [low for low, _ in limits] == [0, *(high for _, high in limits[:-1])]
    assert limits[-1][1] == MAX_VALUE + 1


@given(samples, samples)
def test_merging_is_the_same_as_taking_all_samples_together(left: list[int], right: list[int]) -> None:
    """The merge of two histograms is the histogram of all samples."""
    assert Histogram.of(left + right) == Histogram.of(left).merge(Histogram.of(right))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5], [5, 5, 5, 5, 5, 5]),
        (list(range(1, 1001)), [1, 500, 904, 952, 984, 1000]),
        ([10] * 99 + [1000], [10, 10, 10, 10, 10, 1000]),
        ([], [0, 0, 0, 0, 0, 0]),
    ],
    ids=["one", "thousand", "outlier", "none"],
)
def test_percentiles_follow_the_rank_rule_of_linkerd(values: list[int], expected: list[int]) -> None:
    """The rank is floor(p*n + 0.5) and the answer the midpoint of its bucket."""
    assert expected == Histogram.of(values).percentiles((0, 0.5, 0.9, 0.95, 0.99, 1))


@given(samples.filter(bool), st.floats(0, 1))
def test_a_percentile_is_within_the_extremes_and_near_the_exact_one(values: list[int], point: float) -> None:
    """An estimate stays between the smallest and largest sample, and in the bucket of the exact answer."""
    [answer] = Histogram.of(values).percentiles([point])

    assert min(values) <= answer <= max(values)
    rank = int(point * len(values) + 0.5)
    if 0 < point < 1:
        exact = sorted(values)[max(rank, 1) - 1]
        assert index(exact) == index(answer) or answer in (min(values), max(values))


@given(samples)
def test_octaves_count_exactly(values: list[int]) -> None:
    """Each octave row says how many samples are below its limit, and the last covers all."""
    rows = Histogram.of(values).octaves()

    assert [(limit, sum(v < limit for v in values)) for limit, _ in rows] == rows
    assert len(values) == (rows[-1][1] if rows else 0)


def test_samples_out_of_range_are_clamped() -> None:
    """Negative samples count as 0 and giants as the largest value."""
    histogram = Histogram.of([-5, MAX_VALUE + 10])

    assert (histogram.count, histogram.minimum, histogram.maximum) == (2, 0, MAX_VALUE)
    assert EMPTY.average == 0.0


@given(samples, samples)
def test_the_samples_since_an_earlier_state(earlier: list[int], later: list[int]) -> None:
    """Taking an earlier state away leaves the counts and sum of what came after, and extremes of its
    buckets."""
    rest = Histogram.of(earlier + later).since(Histogram.of(earlier))

    exact = Histogram.of(later)
    assert (rest.counts, rest.count, rest.sum) == (exact.counts, exact.count, exact.sum)
    if later:
        assert index(rest.minimum) == index(min(later))
        assert index(rest.maximum) == index(max(later))
        assert rest.minimum <= min(later) <= max(later) <= rest.maximum
