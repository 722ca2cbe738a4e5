"""Peak EWMA."""

from __future__ import annotations

from math import exp
from random import Random

import pytest
from routing_stand_ins import ScriptedRandom, make_node, make_nodes, pair

from hostmesh.routing.balancers import EwmaConfig
from hostmesh.routing.balancers.ewma import UNKNOWN_PENALTY, Ewma
from hostmesh.routing.node import Node


def one() -> tuple[Ewma, Node]:
    balancer, node = Ewma(Random(1)), make_node(1)
    balancer.update([node], 0.0)
    return balancer, node


def send(balancer: Ewma, node: Node, at: float, rtt: float, *, failed: bool = False) -> None:
    balancer.started(node, at)
    balancer.finished(node, at + rtt, rtt, failed)


def test_unknown_idle_node_has_no_load() -> None:
    """A node that was never used is free."""
    balancer, node = one()

    assert balancer.load(node, 0.0) == 0.0


@pytest.mark.parametrize(("pending", "nanoseconds"), [(1, 140737488355328), (2, 140737488355329)])
def test_unknown_busy_node_is_penalised(pending: int, nanoseconds: int) -> None:
    """Before its first answer a node in use costs more than anything measured."""
    balancer, node = one()
    node.pending = pending

    # The penalty is Finagle's; beyond it each outstanding request counts one, there a nanosecond, here a
    # second.
    assert pytest.approx(140737488355327e-9) == UNKNOWN_PENALTY
    assert balancer.load(node, 0.0) == pytest.approx((nanoseconds - pending) * 1e-9 + pending)


def test_first_sample_is_the_average() -> None:
    """100 ms with one still pending: average 100 ms, load 200 ms."""
    balancer, node = one()
    balancer.started(node, 0.0)
    balancer.started(node, 0.0)

    balancer.finished(node, 0.1, 0.1, failed=False)

    assert (node.cost, balancer.load(node, 0.1)) == (0.1, pytest.approx(0.2))


def peaked() -> tuple[Ewma, Node]:
    balancer, node = one()
    balancer.started(node, 0.0)
    balancer.started(node, 0.0)
    balancer.finished(node, 0.1, 0.1, failed=False)
    balancer.finished(node, 0.12, 0.12, failed=False)
    return balancer, node


def test_higher_sample_replaces_the_average() -> None:
    """The peak rule: 120 ms after 100 ms is 120 ms."""
    balancer, node = peaked()

    assert (node.cost, balancer.load(node, 0.12)) == (0.12, pytest.approx(0.12))


def test_average_decays_with_time() -> None:
    """Ten silent seconds divide the load by e."""
    balancer, node = peaked()

    assert balancer.load(node, 10.12) == pytest.approx(0.04414553294, rel=1e-9)


def test_lower_sample_is_mixed_in() -> None:
    """A request of 10 ms after the silence weighs for the 10 ms that it ran."""
    balancer, node = peaked()
    balancer.started(node, 10.12)
    assert balancer.load(node, 10.12) == pytest.approx(0.08829106588, rel=1e-9)

    balancer.finished(node, 10.13, 0.01, failed=False)

    assert balancer.load(node, 10.13) == pytest.approx(0.04411140447, rel=1e-9)


def test_reading_does_not_matter() -> None:
    """Reads at +5 s and +10 s give what one read at +10 s gives."""
    balancer, node = one()
    send(balancer, node, -0.1, 0.1)
    balancer.load(node, 5.0)

    assert balancer.load(node, 10.0) == pytest.approx(0.036787944117, rel=1e-9)


def test_decays_before_it_compares() -> None:
    """After ten seconds of silence 50 ms is above what is left of 100 ms, and replaces it."""
    balancer, node = one()
    send(balancer, node, -0.1, 0.1)

    send(balancer, node, 9.95, 0.05)

    assert node.cost == 0.05


def test_time_that_runs_backwards_is_harmless() -> None:
    """A sample older than the newest neither decays nor raises."""
    balancer, node = one()
    send(balancer, node, 5.0, 0.1)

    balancer.started(node, 1.0)
    balancer.finished(node, 2.0, 0.05, failed=False)

    assert (node.cost, node.stamp) == (0.1, 5.1)


def test_ignorable_outcome_only_gives_the_slot_back() -> None:
    """No latency means no sample."""
    balancer, node = one()
    balancer.started(node, 0.0)

    balancer.finished(node, 1.0, None, failed=True)

    assert (node.pending, node.cost) == (0, 0.0)


@pytest.mark.parametrize(("first", "winner"), [(0, 1), (1, 1)])
def test_compares_decayed_loads(first: int, winner: int) -> None:
    """A high but old average loses against a lower new one only if it is still higher now."""
    old, new = make_nodes(2)
    balancer = Ewma(ScriptedRandom(pair(2, first, 0)))
    balancer.update([old, new], 0.0)
    old.cost, old.stamp = 1.0, 0.0
    new.cost, new.stamp = 0.1, 10.0
    assert balancer.pick(10.0) is (old, new)[winner]

    new.cost = 1.0 * exp(-1.0) + 0.001
    assert balancer.pick(10.0) is (old, new)[1 - winner]


def test_long_silence_does_not_overflow() -> None:
    """Stamps a day apart compare without an arithmetic error, both ways round."""
    old, new = make_nodes(2)
    for first in (0, 1):
        balancer = Ewma(ScriptedRandom(pair(2, first, 0)))
        balancer.update([old, new], 0.0)
        old.cost, old.stamp = 5.0, 0.0
        new.cost, new.stamp = 0.1, 86_400.0

        assert balancer.pick(86_400.0) is old


def test_open_beats_cheap() -> None:
    """A blocked node is not used for being cheap, whichever was drawn first."""
    cheap, dear = make_node(1, blocked_until=99.0), make_node(2, pending=9)
    cheap.cost, dear.cost = 0.001, 5.0
    for first in (0, 1):
        balancer = Ewma(ScriptedRandom(pair(2, first, 0)))
        balancer.update([cheap, dear], 0.0)

        assert balancer.pick(0.0) is dear


def test_all_blocked_still_serves() -> None:
    """The last resort takes the better of two blocked nodes, and is counted."""
    cheap, dear = make_node(1, blocked_until=99.0), make_node(2, blocked_until=99.0)
    cheap.cost, dear.cost = 0.001, 5.0
    balancer = Ewma(ScriptedRandom(pair(2, 1, 0)))
    balancer.update([cheap, dear], 0.0)

    assert balancer.pick(0.0) is cheap
    assert balancer.last_resort == 1


def test_new_node_gets_one_request() -> None:
    """An unused node is tried first, and left alone until it has answered."""
    known, fresh = make_nodes(2)
    known.cost = 0.02
    balancer = Ewma(ScriptedRandom(pair(2, 0, 0)))
    balancer.update([known, fresh], 0.0)
    assert balancer.pick(0.0) is fresh

    balancer.started(fresh, 0.0)

    assert balancer.pick(0.0) is known


@pytest.mark.parametrize(
    ("took", "others", "cost"),
    [(0.001, 0.02, 1.0), (0.001, 3.0, 6.0), (9.0, 3.0, 9.0)],
    ids=["floor", "twice the largest", "its own time"],
)
def test_failure_counts_as_slow(took: float, others: float, cost: float) -> None:
    """A failure is folded as max(its time, twice the largest average, 1 s)."""
    failing, slow, quick = make_nodes(3)
    slow.cost, quick.cost = others, 0.01
    balancer = Ewma(Random(1))
    balancer.update([failing, slow, quick], 0.0)
    slow.stamp = quick.stamp = took

    send(balancer, failing, 0.0, took, failed=True)

    assert failing.cost == pytest.approx(cost)


def test_failure_counts_queues_too() -> None:
    """Where others have requests waiting, a failure costs twice the largest load."""
    failing, busy = make_nodes(2)
    busy.cost, busy.stamp, busy.pending = 0.167, 0.001, 14
    balancer = Ewma(Random(1))
    balancer.update([failing, busy], 0.0)

    send(balancer, failing, 0.0, 0.001, failed=True)

    assert failing.cost == pytest.approx(2 * 0.167 * 15)


def test_failures_do_not_push_each_other_up() -> None:
    """When everything fails for long, averages stay at a second: a failed average is no measure for the
    next."""
    nodes = make_nodes(3)
    balancer = Ewma(Random(1))
    balancer.update(nodes, 0.0)
    for step in range(300):
        send(balancer, nodes[step % 3], step * 0.01, 0.001, failed=True)

    assert max(node.cost for node in nodes) <= 1.0


def test_success_above_the_average_ends_the_penalty() -> None:
    """A node whose penalty has decayed below a real answer is measured again."""
    failing, healthy = make_nodes(2)
    balancer = Ewma(Random(1))
    balancer.update([failing, healthy], 0.0)
    send(balancer, failing, 0.0, 0.001, failed=True)
    send(balancer, failing, 1.0, 0.02)
    assert failing.penalised

    send(balancer, failing, 60.0, 0.02)

    assert (failing.penalised, failing.cost) == (False, 0.02)


def test_abandoned_request_is_a_lower_bound() -> None:
    """A caller that left after 1 s proves that the endpoint takes at least as long; one that left early proves
    nothing."""
    balancer, node = one()
    send(balancer, node, 0.0, 0.1)
    balancer.started(node, 0.1)
    balancer.started(node, 0.1)

    balancer.abandoned(node, 0.11, 0.01)
    assert node.cost == 0.1
    balancer.abandoned(node, 1.1, 1.0)

    assert (node.pending, node.cost, node.stamp) == (0, 1.0, 1.1)


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        (EwmaConfig(), []),
        (EwmaConfig(decay_time_ms=0), ["decayTimeMs"]),
        (EwmaConfig(decay_time_ms=-1, max_effort=0), ["maxEffort", "decayTimeMs"]),
    ],
)
def test_config_ranges(config: EwmaConfig, keys: list[str]) -> None:
    """Each value out of range is reported by its key."""
    assert [found.split(":")[0] for found in config.check()] == keys


def test_config_sets_the_decay() -> None:
    """``decayTimeMs`` is the time in which an average sinks to 1/e."""
    balancer = EwmaConfig(decay_time_ms=500).mk(Random(1))
    assert isinstance(balancer, Ewma)
    node = make_node(1)
    node.cost = 1.0

    assert balancer.load(node, 0.5) == pytest.approx(exp(-1))
