"""The aperture: few endpoints for little load."""

from __future__ import annotations

from random import Random

import pytest
from routing_stand_ins import make_node, make_nodes

from hostmesh.routing.balancers import ApertureConfig
from hostmesh.routing.balancers.aperture import Aperture
from hostmesh.routing.balancers.by_weight import ByWeight
from hostmesh.routing.node import Node


def aperture(nodes: list[Node], seed: int = 1, **options: object) -> tuple[ByWeight, Aperture]:
    balancer = ApertureConfig(**options).mk(Random(seed))
    assert isinstance(balancer, ByWeight)
    balancer.update(nodes, 0.0)
    strategy = balancer.strategies[0]
    assert isinstance(strategy, Aperture)
    return balancer, strategy


def start(balancer: ByWeight, now: float) -> Node:
    node = balancer.pick(now)
    assert node is not None
    balancer.started(node, now)
    return node


def test_one_node_carries_little_load() -> None:
    """One request at a time uses one node for ever."""
    balancer, strategy = aperture(make_nodes(10))
    used = set()
    for step in range(100):
        node = start(balancer, step * 0.1)
        used.add(node)
        balancer.finished(node, step * 0.1 + 0.01, 0.01, failed=False)

    assert len(used) == 1
    assert strategy.logical == 1


def test_widens_and_narrows_with_the_smoothed_load() -> None:
    """The aperture widens at 2 outstanding per node and narrows at 0.5."""
    balancer, strategy = aperture(make_nodes(3), smooth_window_ms=1)
    running = [start(balancer, 0.0)]
    running.append(start(balancer, 1.0))
    assert strategy.logical == 2

    running.append(start(balancer, 2.0))
    assert strategy.logical == 2

    balancer.finished(running.pop(), 3.0, 1.0, failed=False)
    assert strategy.logical == 2
    balancer.finished(running.pop(), 4.0, 1.0, failed=False)
    assert strategy.logical == 1


def test_burst_within_no_time_does_not_widen() -> None:
    """Samples without time between them have no weight: three starts at once leave one node."""
    balancer, strategy = aperture(make_nodes(3))
    for _ in range(3):
        start(balancer, 0.0)

    assert strategy.logical == 1


def test_never_wider_than_the_set_nor_narrower_than_its_minimum() -> None:
    """The aperture stays between minAperture and the number of nodes."""
    balancer, strategy = aperture(make_nodes(3), smooth_window_ms=1, min_aperture=2)
    running = [start(balancer, float(step)) for step in range(40)]
    assert strategy.logical == 3

    for step, node in enumerate(running):
        balancer.finished(node, 100.0 + step, 1.0, failed=False)
    assert strategy.logical == 2


def test_size_outlives_a_change_of_the_list() -> None:
    """An endpoint update does not begin again with one node."""
    nodes = make_nodes(6)
    balancer, strategy = aperture(nodes[:5], smooth_window_ms=1)
    for step in range(40):
        start(balancer, float(step))
    before = strategy.logical

    balancer.update(nodes, 40.0)

    assert before > 1
    assert balancer.strategies[0] is strategy
    assert strategy.logical == before


def test_blocked_node_is_replaced_and_comes_back() -> None:
    """A blocked node of the aperture gives way to an open one, and returns when it is open again."""
    balancer, _ = aperture(make_nodes(3))
    first = balancer.pick(0.0)
    assert first is not None
    first.blocked_until = 9.0

    second = balancer.pick(1.0)

    assert second is not first
    assert balancer.max_effort_exhausted == 1
    assert balancer.pick(2.0) is second
    assert balancer.pick(9.0) is first


def test_all_blocked_still_serves() -> None:
    """With every node blocked one is used, and counted as the last resort."""
    balancer, _ = aperture([make_node(1, blocked_until=9.0), make_node(2, blocked_until=9.0)])

    assert balancer.pick(0.0) is not None
    assert balancer.last_resort == 1


def test_no_node() -> None:
    """An empty set has no node to offer."""
    balancer, _ = aperture(make_nodes(2))
    balancer.update([], 0.0)

    assert balancer.pick(0.0) is None


def test_open_node_beats_a_blocked_one_inside() -> None:
    """Inside the aperture, too, an open node wins over a blocked one, however loaded it is."""
    nodes = make_nodes(2)
    balancer, _ = aperture(nodes, min_aperture=2)
    nodes[0].blocked_until = 9.0
    nodes[1].pending = 50

    assert {balancer.pick(0.0) for _ in range(20)} == {nodes[1]}
    assert balancer.last_resort == 0


def test_requests_on_removed_nodes_are_forgotten() -> None:
    """What runs on a node that left no longer counts as load, nor when it ends."""
    nodes = make_nodes(2)
    balancer, strategy = aperture(nodes, smooth_window_ms=1)
    gone = start(balancer, 0.0)
    stays = nodes[1] if gone is nodes[0] else nodes[0]

    balancer.update([stays], 1.0)
    balancer.finished(gone, 2.0, 1.0, failed=False)

    assert gone.pending == 0
    assert strategy.logical == 1
    assert balancer.pick(3.0) is stays


def test_hosts_choose_different_nodes() -> None:
    """The order is random for each host, so that hosts do not all use the same endpoint."""
    nodes = make_nodes(10)

    first = {aperture(nodes, seed)[0].pick(0.0) for seed in range(30)}

    assert len(first) > 5


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"smooth_window_ms": 0}, "smoothWindowMs"),
        ({"low_load": 0.0}, "lowLoad"),
        ({"low_load": 2.0}, "highLoad"),
        ({"min_aperture": 0}, "minAperture"),
        ({"max_effort": 0}, "maxEffort"),
    ],
)
def test_config_ranges(options: dict[str, float], key: str) -> None:
    """Each value out of range is reported by its key."""
    (found,) = ApertureConfig(**options).check()

    assert found.startswith(f"{key}: found ")
