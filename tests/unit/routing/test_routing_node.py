"""Nodes over address updates."""

from __future__ import annotations

from hostmesh.naming.addr import Endpoint
from hostmesh.routing.node import Node, NodeKey, reconcile


def test_nodes_survive_an_update() -> None:
    """What stays is the same object, in the order of the new list; what is new is made."""
    known: dict[NodeKey, Node] = {}
    a, b = reconcile(known, [Endpoint("10.0.0.1", 80), Endpoint("10.0.0.2", 80)], Node)
    a.cost = 0.5

    after = reconcile(known, [Endpoint("10.0.0.3", 80), Endpoint("10.0.0.1", 80)], Node)

    assert after[1] is a
    assert after[0].key == ("10.0.0.3", 80)
    assert known[b.key] is b


def test_weight_is_written_into_the_node() -> None:
    """A new weight or other metadata keeps the node and its history."""
    known: dict[NodeKey, Node] = {}
    (node,) = reconcile(known, [Endpoint("10.0.0.1", 80)], Node)
    node.cost = 0.5
    heavier = Endpoint("10.0.0.1", 80, weight=2.0, meta=(("zone", "a"),))

    (after,) = reconcile(known, [heavier], Node)

    assert after is node
    assert (node.weight, node.endpoint, node.cost) == (2.0, heavier, 0.5)


def test_same_address_twice_is_one_node() -> None:
    """Two entries of one (host, port) are one node, the first's."""
    twice = [Endpoint("10.0.0.1", 80, weight=1.0), Endpoint("10.0.0.1", 80, weight=3.0)]

    (node,) = reconcile({}, twice, Node)

    assert node.weight == 1.0


def test_shows_what_matters() -> None:
    """The repr names the endpoint and its load, for tests and logs."""
    assert repr(Node(Endpoint("10.0.0.1", 80))) == "Node(10.0.0.1:80, pending=0, cost=0.000000)"
