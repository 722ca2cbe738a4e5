"""Round robin."""

from __future__ import annotations

import pytest
from routing_stand_ins import ScriptedRandom, make_node, make_nodes

from hostmesh.routing.balancers import RoundRobinConfig
from hostmesh.routing.balancers.base import Balancer
from hostmesh.routing.node import Node


def round_robin(nodes: list[Node], start: float = 0.0) -> Balancer:
    balancer = RoundRobinConfig().mk(ScriptedRandom(start))
    balancer.update(nodes, 0.0)
    return balancer


def picks(balancer: Balancer, count: int, now: float = 0.0) -> list[Node | None]:
    return [balancer.pick(now) for _ in range(count)]


def test_takes_turns() -> None:
    """a, b, c, a, b."""
    a, b, c = make_nodes(3)

    assert picks(round_robin([a, b, c]), 5) == [a, b, c, a, b]


def test_starts_anywhere() -> None:
    """The first node is drawn, so that many hosts do not begin with the same."""
    a, b, c = make_nodes(3)

    assert picks(round_robin([a, b, c], start=0.5), 2) == [b, c]


def test_blocked_node_is_passed_over() -> None:
    """A blocked node's turn goes by; no other gets a double share for it."""
    a, b, c = make_nodes(3)
    b.blocked_until = 9.0
    balancer = round_robin([a, b, c])

    assert picks(balancer, 4) == [a, c, a, c]
    assert picks(balancer, 3, now=9.0) == [a, b, c]


@pytest.mark.parametrize("count", [1, 2, 5, 6, 7, 128, 129])
def test_all_blocked_still_takes_turns(count: int) -> None:
    """With every node blocked each is used in turn, and counted as the last resort."""
    nodes = [make_node(index % 250, blocked_until=9.0) for index in range(count)]
    balancer = round_robin(nodes)

    assert picks(balancer, count + 1) == [*nodes, nodes[0]]
    assert balancer.last_resort == count + 1


def test_turn_outlives_a_change_of_the_list() -> None:
    """An update does not begin again with the first node."""
    a, b, c, d = make_nodes(4)
    balancer = round_robin([a, b, c])
    assert picks(balancer, 2) == [a, b]

    balancer.update([a, b, c, d], 0.0)

    assert picks(balancer, 3) == [c, d, a]


def test_shorter_list() -> None:
    """A turn beyond the end of a shorter list wraps."""
    a, b, c = make_nodes(3)
    balancer = round_robin([a, b, c])
    assert picks(balancer, 2) == [a, b]

    balancer.update([a, b], 0.0)

    assert picks(balancer, 2) == [a, b]


def test_no_node() -> None:
    """An empty set has no node to offer, before and after it had some."""
    balancer = round_robin([])
    assert balancer.pick(0.0) is None
    a, b = make_nodes(2)
    balancer.update([a, b], 0.0)
    assert balancer.pick(0.0) in (a, b)

    balancer.update([], 0.0)
    assert balancer.pick(0.0) is None


def test_lone_open_node_far_ahead_counts_as_effort() -> None:
    """An open node that is more than maxEffort turns away is found, and counted as exhausted effort."""
    nodes = [make_node(index, blocked_until=9.0) for index in range(10)]
    nodes[8].blocked_until = 0.0
    balancer = round_robin(nodes)

    assert picks(balancer, 2) == [nodes[8], nodes[8]]
    assert (balancer.max_effort_exhausted, balancer.last_resort) == (2, 0)
