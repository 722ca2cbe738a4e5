"""Fail fast."""

from __future__ import annotations

from math import inf
from random import Random

import pytest
from routing_stand_ins import ScriptedRandom, make_node

from hostmesh.routing.accrual import Accrual, AccrualCounters, AccrualState, ConsecutiveFailuresConfig
from hostmesh.routing.failfast import FailFast, FailFastCounters


def fail_fast(u: float = 0.5) -> FailFast:
    return FailFast(make_node(1), ScriptedRandom(u), FailFastCounters())


def test_refuses_until_a_connect_succeeds() -> None:
    """A failed connect blocks the node; our own connects come later and later; the first that succeeds opens it."""
    machine = fail_fast()
    assert not machine.refuses

    times = [machine.on_connect_failed(10.0)]
    assert machine.refuses
    assert machine.node.blocked_until == inf
    times += [machine.on_retry_failed(20.0) for _ in range(5)]
    assert times == [11.0, 21.0, 22.0, 28.0, 52.0, 52.0]

    machine.on_connected(30.0)
    assert not machine.refuses
    assert machine.node.is_open(30.0)
    counters = machine.counters
    assert (counters.marked_dead, counters.marked_available) == (1, 1)
    assert (counters.unhealthy_num_tries, counters.unhealthy_for_ms) == (5, 20_000)


def test_further_failures_arrange_nothing_more() -> None:
    """Connects that were under way when the node was blocked do not start more of our own."""
    machine = fail_fast()
    machine.on_connect_failed(0.0)

    assert machine.on_connect_failed(0.1) is None
    assert machine.counters.marked_dead == 1


def test_straggler_that_connects_opens() -> None:
    """A connect that was under way and succeeds opens the node, and then our own has nothing left to arrange."""
    machine = fail_fast()
    machine.on_connect_failed(0.0)
    machine.on_connected(0.5)

    assert machine.node.is_open(0.5)
    assert machine.on_retry_failed(1.0) is None


def test_connect_to_an_available_node_changes_nothing() -> None:
    """Success is no news while all is well."""
    machine = fail_fast()
    machine.on_connected(1.0)

    assert machine.counters.marked_available == 0


@pytest.mark.parametrize("first", ["accrual", "fail-fast"])
def test_the_worse_of_accrual_and_fail_fast_counts(first: str) -> None:
    """A node is open when neither blocks it, whichever began and whichever ends first."""
    machine = fail_fast()
    node = machine.node
    accrual = Accrual(node, ConsecutiveFailuresConfig(failures=1).mk(Random(1)), AccrualCounters())
    if first == "accrual":
        accrual.on_failure(0.0)
        machine.on_connect_failed(0.0)
    else:
        machine.on_connect_failed(0.0)
        accrual.on_failure(0.0)
    assert not node.is_open(100.0)
    assert accrual.state(100.0) is AccrualState.PROBE_OPEN

    machine.on_connected(1.0)
    assert not node.is_open(1.0)
    assert node.is_open(5.0)
    accrual.on_dispatch(5.0)
    accrual.on_success(5.0)
    assert node.blocked_until == 0.0
