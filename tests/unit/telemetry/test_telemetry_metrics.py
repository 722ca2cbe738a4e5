from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.telemetry import metrics
from hostmesh.telemetry.buckets import MAX_VALUE
from hostmesh.telemetry.histogram import EMPTY, Histogram
from hostmesh.telemetry.metrics import OVERFLOW, MetricsTree, Scope
from hostmesh.telemetry.stat import Sorted, Stat


@given(st.lists(st.integers(-10, 200) | st.integers(MAX_VALUE - 5, MAX_VALUE + 5) | st.integers(0, 10**7)))
def test_a_stat_is_the_histogram_of_its_samples(values: list[int]) -> None:
    """Adding samples one by one gives the histogram of all, clamped values included."""
    stat = Stat()
    for value in values:
        stat.add(value)

    assert Histogram.of(values) == stat.current == stat.cumulative


@given(
    st.lists(st.integers(-10, 10**5) | st.integers(MAX_VALUE - 5, MAX_VALUE + 5), min_size=1),
    st.integers(0, MAX_VALUE),
    st.integers(1, 100),
)
def test_samples_may_come_sorted_or_repeated(values: list[int], value: int, n: int) -> None:
    """What several stats take is sorted once, and what is all the same is counted at once."""
    stats = Stat(), Stat()
    samples = Sorted(values)
    for stat in stats:
        stat.take(samples)
        stat.repeat(value, n)

    assert [Histogram.of(values + [value] * n)] * 2 == [stat.current for stat in stats]


def test_the_tick_moves_the_current_minute_to_the_last() -> None:
    """After a tick the samples are the last minute's, the current is empty and the sum of all stays."""
    stat = Stat()
    stat.add(5)
    assert stat.last == EMPTY

    stat.tick()
    stat.add(7)

    assert (Histogram.of([5]), Histogram.of([7]), Histogram.of([5, 7])) == (
        stat.last,
        stat.current,
        stat.cumulative,
    )


def test_a_quiet_minute_empties_the_last() -> None:
    """A minute without samples has no summary, and forgets nothing of the total."""
    stat = Stat()
    stat.add(5)
    stat.tick()
    stat.tick()

    assert (EMPTY, Histogram.of([5])) == (stat.last, stat.cumulative)


def test_the_same_name_is_the_same_metric() -> None:
    """Counters and stats are made once per name, so that a rebuilt stack goes on counting."""
    tree = MetricsTree()

    assert tree.scope("rt", "http").counter("failures", "no-dentry") is tree.counter(
        "rt", "http", "failures", "no-dentry"
    )
    assert tree.stat("latency", scale=1000) is tree.stat("latency")
    assert tree.stat("latency").scale == 1000


def test_a_node_may_have_a_slash_in_its_name() -> None:
    """``svc/web`` is one node, not two."""
    tree = MetricsTree()
    tree.counter("service", "svc/web", "requests")

    assert list(tree.scope("service").children) == ["svc/web"]


def test_the_last_gauge_wins() -> None:
    """A gauge registered again asks the new function."""
    tree = MetricsTree()
    gauge = tree.gauge("pending", lambda: 1)
    tree.gauge("pending", lambda: 2)

    assert gauge.read() == 2.0


def test_a_broken_gauge_reads_as_nothing() -> None:
    """A gauge whose function fails has no value, and fails nobody."""
    gauge = MetricsTree().gauge("broken", lambda: 1 / 0)

    assert None is gauge.read()
    assert repr(gauge) == "Gauge(None)"


def test_another_kind_under_a_taken_name_is_refused() -> None:
    """Asking for a stat where a counter is says so."""
    tree = MetricsTree()
    tree.counter("a")
    tree.stat("b")

    with pytest.raises(TypeError, match="a is a Counter, not a Stat"):
        tree.stat("a")
    with pytest.raises(TypeError, match="b is a Stat, not a Counter"):
        tree.counter("b")
    with pytest.raises(TypeError, match="a is a Counter, not a Gauge"):
        tree.gauge("a", lambda: 0)


def test_p6_names_over_the_bound_share_one_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up names cannot fill the memory: from the bound on they count together."""
    monkeypatch.setattr(metrics, "MAX_CHILDREN", 2)
    tree = MetricsTree()
    for name in ("a", "b", "c", "d"):
        tree.counter(name).value += 1

    assert list(tree.children) == ["a", "b", OVERFLOW]
    assert tree.counter("e").value == 2


def test_pruning_forgets_a_subtree_and_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pruned child is gone with all below it, and its place is free."""
    monkeypatch.setattr(metrics, "MAX_CHILDREN", 1)
    tree = MetricsTree()
    tree.counter("a", "requests")
    tree.prune("a")
    tree.prune("never-there")
    tree.counter("b")

    assert list(tree.children) == ["b"]


def test_the_walk_is_sorted_and_survives_pruning() -> None:
    """The walk goes by name, parents first, while others change the tree."""
    tree = MetricsTree()
    for name in ("b", "a", "c"):
        tree.counter(name, "x")

    seen = []
    for path, _node in tree.walk():
        seen.append("/".join(path))
        if path == ("a",):
            tree.prune("b")

    assert seen == ["", "a", "a/x", "c", "c/x"]


def test_the_minute_tick_reaches_every_stat_in_bounded_steps() -> None:
    """The tick pauses after each batch of nodes, so that ten thousand stats do not stop the loop."""
    tree = MetricsTree()
    for number in range(10):
        tree.stat(str(number)).add(number)

    assert sum(1 for _ in tree.tick_steps(batch=3)) == 3
    assert [tree.stat(str(number)).last.count for number in range(10)] == [1] * 10

    tree.tick_minute()
    assert tree.stat("1").last.count == 0


@pytest.mark.parametrize(
    ("query", "found"),
    [("a/b", True), ("a", True), ("/a/b/", True), ("", True), ("a/c", False), ("x/y/z", False)],
)
def test_find_splits_at_slashes(query: str, found: bool) -> None:
    """A query walks node by node; what is not there is None."""
    tree = MetricsTree()
    tree.counter("a", "b")

    assert found == isinstance(tree.find(query), Scope)


def test_reprs_tell_what_a_metric_holds() -> None:
    """The repr shows the numbers."""
    tree = MetricsTree()
    tree.counter("n").value += 3
    tree.stat("s", scale=1000).add(4)

    assert repr(tree.counter("n")) == "Counter(3)"
    assert repr(tree.stat("s")) == "Stat(count=1, sum=4, scale=1000)"
    assert repr(tree) == "Scope(None, children=2)"


def test_a_window_is_chosen_by_name() -> None:
    """The last minute, the running one, and all samples; the count is of all."""
    stat = Stat()
    stat.add(1)
    stat.tick()
    stat.add(2)
    stat.add(3)

    assert [stat.window(w).count for w in ("last", "current", "all")] == [1, 2, 3]
    assert stat.count == 3


def test_a_counter_may_be_kept_by_somebody_else() -> None:
    """A counter read through a function is a counter: live, whole, of the last function, and it never
    falls."""
    tree = MetricsTree()
    kept = [3]
    counter = tree.counter_of("rebuilds", lambda: kept[0])
    kept[0] = 4
    assert (counter.value, tree.counter("rebuilds").value, repr(counter)) == (4, 4, "Counter(4)")

    tree.counter_of("rebuilds", lambda: kept[5])
    assert counter.value == 4

    tree.counter("plain")
    with pytest.raises(TypeError, match="plain is a Counter, not a CounterOf"):
        tree.counter_of("plain", lambda: 0)
