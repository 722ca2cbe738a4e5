"""The power of two choices."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from routing_stand_ins import ScriptedRandom, make_node, make_nodes, pair

from hostmesh.routing.balancers.base import pick_untried
from hostmesh.routing.balancers.held import FAILURE_HOLD, HELD_MAX
from hostmesh.routing.balancers.p2c import P2c


def p2c(*values: float, **options: object) -> P2c:
    return P2c(ScriptedRandom(*values), **options)


@pytest.mark.parametrize(
    ("n", "first", "second", "a", "b"),
    [(5, 2, 0, 2, 0), (5, 2, 2, 2, 3), (5, 2, 3, 2, 4), (2, 0, 0, 0, 1), (2, 1, 0, 1, 0), (5, 0, 0, 0, 1)],
)
def test_draws_two_distinct_nodes(n: int, first: int, second: int, a: int, b: int) -> None:
    """Two draws name two different nodes, without a rejection loop."""
    nodes = make_nodes(n)
    balancer = p2c(pair(n, first, second))
    balancer.update(nodes, 0.0)

    assert balancer.pick(0.0) is nodes[a]
    nodes[a].pending = 1
    assert balancer.pick(0.0) is nodes[b]


def test_first_draw_wins_a_tie() -> None:
    """Of two nodes with equal load the first drawn is used."""
    nodes = [make_node(1, pending=3), make_node(2, pending=3)]
    balancer = p2c(pair(2, 1, 0))
    balancer.update(nodes, 0.0)

    assert balancer.pick(0.0) is nodes[1]


@pytest.mark.parametrize("first", [0, 1])
def test_open_node_beats_a_blocked_one(first: int) -> None:
    """An open node wins over an idle blocked one, however loaded it is."""
    blocked, opened = make_node(1, blocked_until=9.0), make_node(2, pending=99)
    balancer = p2c(pair(2, first, 0))
    balancer.update([blocked, opened], 0.0)

    assert balancer.pick(0.0) is opened


def test_node_is_open_again_when_its_time_has_come() -> None:
    """A dead node takes part again from its revive time on, without a timer."""
    dead, busy = make_node(1, blocked_until=9.0), make_node(2, pending=1)
    balancer = p2c(pair(2, 0, 0))
    balancer.update([dead, busy], 0.0)

    assert balancer.pick(8.9) is busy
    assert balancer.pick(9.0) is dead


def test_redraws_blocked_nodes_within_its_effort() -> None:
    """Draws that meet only blocked nodes are repeated, and that is not yet exhaustion."""
    a, b, c = make_node(1), make_node(2, blocked_until=9.0), make_node(3, blocked_until=9.0)
    balancer = p2c(pair(3, 1, 1), pair(3, 2, 1), pair(3, 0, 0))
    balancer.update([a, b, c], 0.0)

    assert balancer.pick(0.0) is a
    assert balancer.max_effort_exhausted == 0


def test_all_blocked_still_serves() -> None:
    """With every node blocked the sixth draw is used, and counted as the last resort."""
    rng = ScriptedRandom(pair(2, 0, 0))
    balancer = P2c(rng)
    nodes = [make_node(1, blocked_until=9.0), make_node(2, blocked_until=9.0)]
    balancer.update(nodes, 0.0)

    assert balancer.pick(0.0) is nodes[0]
    # Six draws, and one for where to look for an open node.
    assert rng.draws == 6 + 1
    assert (balancer.max_effort_exhausted, balancer.last_resort) == (1, 1)


def test_one_open_node_among_many_is_found() -> None:
    """When the draws have failed, an open node is looked for, so a lone survivor gets all the traffic."""
    nodes = [make_node(index, blocked_until=9.0) for index in range(20)]
    nodes[7].blocked_until = 0.0
    balancer = P2c(Random(1))
    balancer.update(nodes, 0.0)

    picked = {balancer.pick(0.0) for _ in range(200)}

    assert picked == {nodes[7]}
    assert balancer.last_resort == 0


def test_single_node() -> None:
    """One node is used without a draw; blocked, it is the last resort."""
    node = make_node(1)
    balancer = p2c(0.5)
    balancer.update([node], 0.0)
    assert balancer.pick(0.0) is node
    assert balancer.last_resort == 0

    node.blocked_until = 9.0
    assert balancer.pick(0.0) is node
    assert (balancer.max_effort_exhausted, balancer.last_resort) == (1, 1)


def test_no_node() -> None:
    """Only an empty set has no node to offer."""
    assert p2c(0.5).pick(0.0) is None


def test_load_counts_outstanding_requests() -> None:
    """Three acquired, one of them failed, one closed: load 1, once the failure's hold is over."""
    node = make_node(1)
    balancer = p2c(0.5)
    balancer.update([node], 0.0)
    for _ in range(3):
        balancer.started(node, 0.0)
    balancer.finished(node, 0.0, 0.001, failed=True)
    balancer.finished(node, 0.0, 0.020, failed=False)
    assert node.pending == 2

    balancer.pick(FAILURE_HOLD)

    assert node.pending == 1


def test_ignorable_outcome_gives_the_slot_back_at_once() -> None:
    """An attempt that says nothing about the endpoint is not held against it."""
    node = make_node(1)
    balancer = p2c(0.5)
    balancer.update([node], 0.0)
    balancer.started(node, 0.0)

    balancer.finished(node, 0.0, None, failed=True)

    assert node.pending == 0


def test_abandoned_request_gives_its_slot_back() -> None:
    """A caller that left is no failure."""
    node = make_node(1)
    balancer = p2c(0.5)
    balancer.update([node], 0.0)
    balancer.started(node, 0.0)

    balancer.abandoned(node, 1.0, 1.0)

    assert node.pending == 0


def test_held_slots_are_bounded() -> None:
    """No more than HELD_MAX slots are held; what fails beyond that gives its slot back at once."""
    node = make_node(1)
    balancer = p2c(0.5)
    balancer.update([node], 0.0)
    for _ in range(HELD_MAX + 5):
        balancer.started(node, 0.0)
        balancer.finished(node, 0.0, 0.001, failed=True)
    assert node.pending == HELD_MAX

    balancer.pick(FAILURE_HOLD)
    assert node.pending == 0


def test_update_keeps_nodes_and_counts() -> None:
    """An update takes the order of the new list, keeps what stays and reports what left."""
    a, b, c, d = make_nodes(4)
    balancer = p2c(0.0)
    balancer.update([a, b, c], 0.0)
    assert (balancer.adds, balancer.removes, balancer.rebuilds) == (3, 0, 1)

    dropped = balancer.update([c, a, d], 0.0)

    assert dropped == (b,)
    assert list(balancer.nodes) == [c, a, d]
    assert (balancer.adds, balancer.removes, balancer.rebuilds) == (4, 1, 2)


def test_reordering_is_no_change() -> None:
    """The same endpoints in another order rebuild nothing."""
    a, b = make_nodes(2)
    balancer = p2c(0.0)
    balancer.update([a, b], 0.0)

    balancer.update([b, a], 0.0)

    assert (balancer.adds, balancer.removes, balancer.rebuilds) == (2, 0, 1)


def test_probation_keeps_a_removed_node_while_it_is_open() -> None:
    """A removal is advice: the node goes at the first update or sweep that finds it blocked."""
    a, b = make_nodes(2)
    balancer = p2c(0.0, enable_probation=True)
    balancer.update([a, b], 0.0)

    assert balancer.update([a], 1.0) == ()
    assert set(balancer.nodes) == {a, b}
    b.blocked_until = 9.0
    assert set(balancer.nodes) == {a, b}
    assert balancer.update([a], 2.0) == (b,)
    assert list(balancer.nodes) == [a]


def test_probation_sweep_drops_blocked_leavers() -> None:
    """Without another update the sweep lets go of a removed node once it is blocked, and of no other."""
    a, b, c = make_nodes(3)
    balancer = p2c(0.0, enable_probation=True)
    balancer.update([a, b, c], 0.0)
    balancer.update([a], 0.0)
    a.blocked_until = b.blocked_until = 9.0

    assert balancer.sweep(1.0) == (b,)
    assert set(balancer.nodes) == {a, c}
    assert balancer.sweep(1.0) == ()


def test_probation_ends_when_the_node_is_listed_again() -> None:
    """A node that comes back into the list is no longer on probation."""
    a, b = make_nodes(2)
    balancer = p2c(0.0, enable_probation=True)
    balancer.update([a, b], 0.0)
    balancer.update([a], 0.0)
    balancer.update([a, b], 0.0)
    b.blocked_until = 9.0

    assert balancer.sweep(1.0) == ()
    assert balancer.adds == 2


def test_available_counts_open_nodes() -> None:
    """``available`` is how many nodes are open now, ``size`` how many there are."""
    balancer = p2c(0.0)
    balancer.update([make_node(1), make_node(2, blocked_until=5.0)], 0.0)

    assert (balancer.size, balancer.available(0.0), balancer.available(5.0)) == (2, 1, 2)


def test_weight_classes_share_by_weight_times_size() -> None:
    """Two endpoints of weight 1 and one of weight 4 get 1/6, 1/6 and 4/6 of the picks."""
    nodes = [make_node(1), make_node(2), make_node(3, weight=4.0)]
    balancer = P2c(Random(7))
    balancer.update(nodes, 0.0)

    picks = Counter(balancer.pick(0.0) for _ in range(6000))

    assert [round(picks[node] / 6000, 1) for node in nodes] == [0.2, 0.2, 0.7]


def test_blocked_weight_class_is_replaced() -> None:
    """When the drawn class has no open node the next class upwards that has one is used, and counted."""
    light, heavy = make_node(1), make_node(2, weight=4.0, blocked_until=9.0)
    balancer = p2c(0.99)
    balancer.update([light, heavy], 0.0)

    assert balancer.pick(0.0) is light
    assert balancer.busy_weight_classes == 1


def test_weight_zero_never_stands_in() -> None:
    """Weight 0 means no traffic, even when everything else is blocked."""
    drained, heavy = make_node(1, weight=0.0), make_node(2, weight=4.0, blocked_until=9.0)
    balancer = p2c(0.5)
    balancer.update([drained, heavy], 0.0)

    assert balancer.pick(0.0) is heavy
    assert balancer.last_resort == 1


def test_weight_change_in_place_regroups() -> None:
    """A new weight written into the same nodes is noticed at the next update, and keeps their load."""
    nodes = [make_node(1, pending=2), make_node(2)]
    balancer = P2c(Random(7))
    balancer.update(nodes, 0.0)
    nodes[1].weight = 0.0

    balancer.update(nodes, 0.0)

    assert {balancer.pick(0.0) for _ in range(50)} == {nodes[0]}
    assert nodes[0].pending == 2
    assert (balancer.adds, balancer.removes, balancer.rebuilds) == (2, 0, 2)


def test_retry_avoids_what_was_tried() -> None:
    """Draws are repeated while they name a tried node: a, a, b with three attempts gives b."""
    a, b = make_nodes(2)
    balancer = p2c(pair(2, 0, 0), pair(2, 0, 0), pair(2, 1, 0))
    balancer.update([a, b], 0.0)

    assert pick_untried(balancer, 0.0, {a}, attempts=3) is b


def test_retry_settles_for_what_was_tried() -> None:
    """The last draw wins when the attempts are used up."""
    a, b = make_nodes(2)
    balancer = p2c(pair(2, 0, 0))
    balancer.update([a, b], 0.0)

    assert pick_untried(balancer, 0.0, {a}, attempts=1) is a
    assert pick_untried(p2c(0.5), 0.0, {a}) is None
