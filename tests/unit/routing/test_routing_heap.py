"""Least loaded of all nodes."""

from __future__ import annotations

from collections import Counter
from random import Random

from routing_stand_ins import make_nodes

from hostmesh.routing.balancers import HeapConfig
from hostmesh.routing.balancers.by_weight import ByWeight
from hostmesh.routing.balancers.held import FAILURE_HOLD
from hostmesh.routing.node import Node


def heap(nodes: list[Node], seed: int = 1) -> ByWeight:
    balancer = HeapConfig().mk(Random(seed))
    assert isinstance(balancer, ByWeight)
    balancer.update(nodes, 0.0)
    return balancer


def start(balancer: ByWeight, now: float = 0.0) -> Node:
    node = balancer.pick(now)
    assert node is not None
    balancer.started(node, now)
    return node


def test_spreads_before_it_repeats() -> None:
    """Three requests at once go to three nodes."""
    nodes = make_nodes(3)
    balancer = heap(nodes)

    assert {start(balancer) for _ in range(3)} == set(nodes)


def test_down_node_is_left_out_and_comes_back_first() -> None:
    """While A is down the others share; when it is open again the next request goes to it."""
    a, b, c = make_nodes(3)
    a.blocked_until = 9.0
    balancer = heap([a, b, c])

    assert Counter(start(balancer) for _ in range(4)) == {b: 2, c: 2}
    assert start(balancer, 9.0) is a


def test_always_the_least_loaded() -> None:
    """Every pick has the least outstanding requests of all, through starts, ends and updates."""
    rng = Random(3)
    nodes = make_nodes(8)
    balancer = heap(nodes)
    running: list[Node] = []
    for step in range(2000):
        if step % 100 == 50:
            nodes[:] = rng.sample(nodes, len(nodes))
            extra = make_nodes(9)[8]
            balancer.update([*nodes[:6], extra], 0.0)
            nodes[6:] = [extra]
        if running and rng.random() < 0.49:
            balancer.finished(running.pop(rng.randrange(len(running))), 0.0, 0.01, failed=False)
            continue
        node = balancer.pick(0.0)
        assert node is not None
        assert node.pending == min(other.pending for other in balancer.nodes)
        balancer.started(node, 0.0)
        running.append(node)


def test_ties_are_drawn() -> None:
    """Idle nodes do not form a fixed order."""
    nodes = make_nodes(4)
    balancer = heap(nodes)

    picks = Counter(balancer.pick(0.0) for _ in range(400))

    assert min(picks[node] for node in nodes) > 60


def test_all_down_still_serves_the_least_loaded() -> None:
    """With every node blocked the least loaded is used, and counted as the last resort."""
    a, b = make_nodes(2)
    balancer = heap([a, b])
    balancer.started(a, 0.0)
    a.blocked_until = b.blocked_until = 9.0

    assert start(balancer, 1.0) is b
    assert balancer.last_resort == 1


def test_failure_keeps_its_slot() -> None:
    """A node that failed is not the least loaded at once."""
    a, b = make_nodes(2)
    balancer = heap([a, b])
    balancer.started(a, 0.0)
    balancer.finished(a, 0.0, 0.001, failed=True)

    assert {balancer.pick(0.1) for _ in range(20)} == {b}
    assert {balancer.pick(FAILURE_HOLD) for _ in range(50)} == {a, b}
    assert a.pending == 0


def test_no_node() -> None:
    """An empty set has no node to offer, also after it had some."""
    balancer = heap(make_nodes(2))
    balancer.update([], 0.0)

    assert balancer.pick(0.0) is None


def test_weight_change_moves_a_node_with_its_load() -> None:
    """A node that changes its class takes its outstanding requests along, and gives them back there."""
    a, b = make_nodes(2)
    balancer = heap([a, b])
    balancer.started(a, 0.0)
    a.weight = 3.0
    balancer.update([a, b], 0.0)

    balancer.finished(a, 0.0, 0.01, failed=False)

    picks = Counter(balancer.pick(0.0) for _ in range(2000))
    assert 1350 < picks[a] < 1650
    assert a.pending == 0
