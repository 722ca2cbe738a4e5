from __future__ import annotations

import json

import pytest

from hostmesh.telemetry.metrics import MetricsTree
from hostmesh.telemetry.render_json import render
from hostmesh.telemetry.stat import Window


@pytest.fixture
def tree() -> MetricsTree:
    tree = MetricsTree()
    server = tree.scope("rt", "http", "server", "127.0.0.1/4140")
    server.counter("requests").value = 12
    server.counter("failures").value = 2
    server.counter("failures", "no-dentry").value = 2
    server.gauge("pending", lambda: 1)
    latency = server.stat("request_latency_ms", scale=1000)
    for value in (1000, 2000, 3000):
        latency.add(value)
    return tree


def test_flat_names_are_sorted_paths(tree: MetricsTree) -> None:
    """Without parameters each number has its path as key, keys sorted; a stat before its first minute only
    counts."""
    text = "".join(render(tree))
    base = "rt/http/server/127.0.0.1/4140"

    assert json.loads(text) == {
        f"{base}/failures": 2,
        f"{base}/failures/no-dentry": 2,
        f"{base}/pending": 1.0,
        f"{base}/request_latency_ms.count": 0,
        f"{base}/requests": 12,
    }
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert "\n" not in text.strip()


def test_a_stat_shows_the_last_finished_minute_in_its_unit(tree: MetricsTree) -> None:
    """After a tick a latency added in microseconds is summarised in milliseconds."""
    tree.tick_minute()
    shown = json.loads("".join(render(tree.scope("rt", "http", "server", "127.0.0.1/4140"))))

    assert {k: v for k, v in shown.items() if k.startswith("request_latency_ms.")} == {
        "request_latency_ms.count": 3,
        "request_latency_ms.sum": 6.0,
        "request_latency_ms.avg": 2.0,
        "request_latency_ms.min": 1.0,
        "request_latency_ms.max": 3.0,
        "request_latency_ms.p50": 2.0,
        "request_latency_ms.p90": 2.976,
        "request_latency_ms.p95": 2.976,
        "request_latency_ms.p99": 2.976,
        "request_latency_ms.p9990": 2.976,
        "request_latency_ms.p9999": 2.976,
    }


@pytest.mark.parametrize(("window", "count"), [("last", 1), ("current", 2), ("all", 3)])
def test_the_window_chooses_the_samples(window: Window, count: int) -> None:
    """The last minute, the running one or all samples, each whole numbers when the stat has no scale."""
    tree = MetricsTree()
    tree.stat("s").add(7)
    tree.tick_minute()
    tree.stat("s").add(8)
    tree.stat("s").add(9)

    shown = json.loads("".join(render(tree, window=window)))
    assert shown["s.count"] == count
    assert isinstance(shown["s.max"], int)


def test_the_tree_has_a_leaf_for_each_kind(tree: MetricsTree) -> None:
    """As a tree, numbers are called counter, gauge and stat, beside the children of their node."""
    server = json.loads("".join(render(tree, tree=True)))["rt"]["http"]["server"]["127.0.0.1/4140"]

    assert server == {
        "requests": {"counter": 12},
        "failures": {"counter": 2, "no-dentry": {"counter": 2}},
        "pending": {"gauge": 1.0},
        "request_latency_ms": {"stat.count": 0},
    }


@pytest.mark.parametrize("as_tree", [True, False])
def test_pretty_is_the_same_indented(tree: MetricsTree, as_tree: bool) -> None:
    """Pretty output has line breaks and says the same."""
    tree.tick_minute()
    pretty = "".join(render(tree, tree=as_tree, pretty=True))

    assert json.loads(pretty) == json.loads("".join(render(tree, tree=as_tree)))
    assert pretty == json.dumps(json.loads(pretty), indent=2) + "\n"


@pytest.mark.parametrize("as_tree", [True, False])
@pytest.mark.parametrize("pretty", [True, False])
def test_an_empty_tree_is_an_empty_object(as_tree: bool, pretty: bool) -> None:
    """Nothing to show is valid JSON."""
    assert "".join(render(MetricsTree(), tree=as_tree, pretty=pretty)).split() == ["{}"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_numbers_that_json_cannot_say_are_left_out(value: float | None) -> None:
    """A gauge that is broken or not finite does not spoil the document."""
    tree = MetricsTree()
    tree.gauge("g", lambda: value)  # type: ignore[arg-type, return-value]

    assert json.loads("".join(render(tree))) == {}


def test_a_big_tree_comes_in_many_parts() -> None:
    """Rendering yields often, whatever the size, and the parts are one document."""
    tree = MetricsTree()
    for number in range(1000):
        tree.counter("many", f'n"{number}').value = number

    parts = list(render(tree))
    assert len(parts) > 15
    assert len(json.loads("".join(parts))) == 1000


def test_a_query_for_one_metric_names_it_with_nothing() -> None:
    """The number of the node that was asked for has the empty name."""
    tree = MetricsTree()
    tree.counter("a").value = 3

    assert json.loads("".join(render(tree.scope("a")))) == {"": 3}
