"""Failure accrual."""

from __future__ import annotations

from math import exp, inf
from random import Random

import pytest
from routing_stand_ins import make_node

from hostmesh.base.backoff import BackoffConfig, ConstantBackoffConfig
from hostmesh.routing.accrual import (
    Accrual,
    AccrualConfig,
    AccrualCounters,
    AccrualState,
    ConsecutiveFailuresConfig,
    NoAccrualConfig,
    SuccessRateConfig,
    SuccessRateWindowedConfig,
)

ALIVE, DEAD, PROBE_OPEN, PROBE_CLOSED = AccrualState


class Listed(BackoffConfig):
    """A backoff of given delays, the last for ever."""

    def __init__(self, *delays: float) -> None:
        super().__init__()
        object.__setattr__(self, "listed", delays)

    def mk(self):  # type: ignore[no-untyped-def]
        return self

    def delays(self, rng: Random):  # type: ignore[no-untyped-def]
        yield from self.listed
        while True:
            yield self.listed[-1]


def accrual(config: AccrualConfig) -> Accrual:
    return Accrual(make_node(1), config.mk(Random(1)), AccrualCounters())


def consecutive(failures: int, *delays: float) -> Accrual:
    return accrual(ConsecutiveFailuresConfig(failures=failures, backoff=Listed(*delays)))


def kill(machine: Accrual, now: float = 0.0) -> None:
    for _ in range(3):
        machine.on_failure(now)
    assert machine.state(now) is DEAD


def test_life_of_a_node() -> None:
    """Three failures kill for 5 s, a failed probe for 5 more, a good one revives."""
    machine = consecutive(3, 5, 5, 10)
    kill(machine)
    assert machine.node.blocked_until == 5.0
    machine.on_failure(1.0)
    assert machine.node.blocked_until == 5.0

    assert machine.state(5.0) is PROBE_OPEN
    machine.on_dispatch(5.0)
    assert machine.state(5.0) is PROBE_CLOSED
    assert not machine.node.is_open(5.0)
    machine.on_failure(6.0)
    assert machine.state(6.0) is DEAD
    assert machine.node.blocked_until == 11.0

    machine.on_dispatch(11.0)
    machine.on_success(11.5)
    assert machine.state(11.5) is ALIVE
    assert machine.node.blocked_until == 0.0
    counters = machine.counters
    assert (counters.removals, counters.probes, counters.revivals, counters.removed_for_ms) == (
        1,
        2,
        1,
        10000,
    )


def test_success_forgives() -> None:
    """Failures count only in a row."""
    machine = consecutive(3, 5)
    for _ in range(10):
        machine.on_failure(0.0)
        machine.on_failure(0.0)
        machine.on_success(0.0)

    assert machine.state(0.0) is ALIVE


def test_revival_begins_the_backoff_anew() -> None:
    """After a revival the first delay comes first again."""
    machine = consecutive(3, 5, 50)
    kill(machine)
    machine.on_dispatch(5.0)
    machine.on_success(5.0)

    kill(machine, 6.0)

    assert machine.node.blocked_until == 11.0


def test_straggler_does_not_soften_a_probe() -> None:
    """A success that was under way when the node died leaves the count: a failed probe kills again with a delay."""
    machine = consecutive(3, 5, 7)
    kill(machine)
    machine.on_success(1.0)
    assert machine.state(1.0) is DEAD
    machine.on_dispatch(5.0)

    machine.on_failure(6.0)

    assert machine.state(6.0) is DEAD
    assert machine.node.blocked_until == 13.0


def test_dispatch_while_dead_is_no_probe() -> None:
    """The last resort may use a dead node; that is not its probe."""
    machine = consecutive(3, 5)
    kill(machine)

    machine.on_dispatch(1.0)

    assert machine.state(1.0) is DEAD
    assert machine.counters.probes == 0


def test_ignorable_probe_lets_the_next_request_probe() -> None:
    """A probe whose caller went away does not leave the node blocked for ever."""
    machine = consecutive(3, 5)
    kill(machine)
    machine.on_dispatch(5.0)

    machine.on_ignorable(5.5)

    assert machine.state(5.5) is PROBE_OPEN
    machine.on_dispatch(6.0)
    assert (machine.state(6.0), machine.counters.probes) == (PROBE_CLOSED, 2)


@pytest.mark.parametrize("state", [ALIVE, DEAD, PROBE_OPEN])
def test_ignorable_changes_nothing_else(state: AccrualState) -> None:
    """An outcome that says nothing leaves every other state as it is."""
    machine = consecutive(3, 5)
    now = 0.0
    if state is not ALIVE:
        kill(machine)
        now = 5.0 if state is PROBE_OPEN else 1.0

    machine.on_ignorable(now)

    assert machine.state(now) is state


def test_several_probes_first_to_finish_decides() -> None:
    """Requests that were picked before the probe closed the node are ignored once it is dead again."""
    machine = consecutive(3, 5, 9)
    kill(machine)
    machine.on_dispatch(5.0)
    machine.on_dispatch(5.0)
    machine.on_failure(5.1)
    until = machine.node.blocked_until

    machine.on_success(5.2)

    assert (machine.state(5.2), machine.node.blocked_until) == (DEAD, until)
    assert machine.counters.probes == 1


def test_outcomes_of_older_requests_leave_probe_open() -> None:
    """In ProbeOpen only the probe itself moves the machine."""
    machine = consecutive(3, 5)
    kill(machine)

    machine.on_success(5.0)
    machine.on_failure(5.0)

    assert machine.state(5.0) is PROBE_OPEN


def test_policy_without_verdict_probes_again_at_once() -> None:
    """A failed probe that the policy forgives opens the next one without a delay."""
    machine = accrual(SuccessRateConfig(success_rate=0.5, requests=2, backoff=ConstantBackoffConfig(ms=1000)))
    machine.on_failure(0.0)
    machine.on_failure(0.0)
    machine.policy.revived(0.0)
    machine.on_dispatch(1.0)

    machine.on_failure(1.0)

    assert machine.state(1.0) is PROBE_OPEN


def test_delay_of_zero_is_not_alive() -> None:
    """With a backoff of 0 ms at time 0 the node is probed, not alive: 0.0 means Alive and nothing else."""
    machine = accrual(ConsecutiveFailuresConfig(failures=1, backoff=ConstantBackoffConfig(ms=0)))

    machine.on_failure(0.0)

    assert machine.node.blocked_until > 0.0
    assert machine.state(0.001) is PROBE_OPEN


def test_blocked_for_ever_only_while_a_probe_runs() -> None:
    """Infinity in ``blocked_until`` is ProbeClosed."""
    machine = consecutive(3, 5)
    kill(machine)
    machine.on_dispatch(5.0)

    assert machine.node.blocked_until == inf


def test_default_is_five_in_a_row_for_five_seconds() -> None:
    """Without settings: five failures, dead for 5 s, then twice between 5 and 10 s."""
    machine = accrual(ConsecutiveFailuresConfig())
    for _ in range(4):
        machine.on_failure(0.0)
    assert machine.state(0.0) is ALIVE

    machine.on_failure(0.0)
    assert machine.node.blocked_until == 5.0
    machine.on_dispatch(5.0)
    machine.on_failure(5.0)
    assert 10.0 <= machine.node.blocked_until <= 15.0


def dies_at(outcomes: str, **options: float) -> int | None:
    policy = SuccessRateConfig(**options).mk(Random(1))
    for count, outcome in enumerate(outcomes, 1):
        if outcome == "S":
            policy.success(0.0)
        elif policy.failure(0.0) is not None:
            return count
    return None


@pytest.mark.parametrize(
    ("outcomes", "count"),
    [("SSSSSF", None), ("SSSSSFF", 7), ("FFFF", None), ("FFFFF", 5), ("FSSSSSF", 7), ("FSSSSS", None)],
)
def test_success_rate(outcomes: str, count: int | None) -> None:
    """Over 5 requests at 0.8: dead at the failure that brings the average below, not before the 5th request."""
    assert dies_at(outcomes, success_rate=0.8, requests=5) == count


def test_success_rate_over_many() -> None:
    """From all good, the 23rd failure in a row is the first below 0.8 over 100."""
    assert dies_at("S" * 100 + "F" * 50, success_rate=0.8, requests=100) == 123


def test_success_rate_windowed() -> None:
    """Over 30 s at 0.8: good for 30 s, then failing each second, dead at the seventh."""
    policy = SuccessRateWindowedConfig(success_rate=0.8, window=30).mk(Random(1))
    for second in range(31):
        policy.success(float(second))

    verdicts = [policy.failure(float(second)) is not None for second in range(31, 38)]

    assert verdicts == [False] * 6 + [True]
    assert exp(-7 / 30) == pytest.approx(0.791890, abs=1e-6)


def test_success_rate_windowed_waits_for_its_window() -> None:
    """Before the window has passed there is no judgement, nor again after a revival."""
    policy = SuccessRateWindowedConfig(success_rate=0.8, window=30).mk(Random(1))
    assert [policy.failure(float(second)) for second in range(30)] == [None] * 30
    assert policy.failure(30.0) is not None

    policy.revived(31.0)

    assert [policy.failure(float(second)) for second in range(31, 61)] == [None] * 30
    assert policy.failure(61.0) is not None


def test_success_rate_windowed_needs_five_requests() -> None:
    """Four requests within the window are too few to judge by."""
    policy = SuccessRateWindowedConfig(success_rate=0.8, window=30).mk(Random(1))
    policy.success(0.0)

    assert [policy.failure(100.0 + second) for second in range(4)] == [None] * 4
    assert policy.failure(104.0) is not None


def test_none_never_kills() -> None:
    """The kind ``none`` lets everything pass."""
    machine = accrual(NoAccrualConfig())
    for _ in range(1000):
        machine.on_failure(0.0)
        machine.on_success(0.0)
    machine.policy.revived(0.0)

    assert machine.state(0.0) is ALIVE


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        (ConsecutiveFailuresConfig(failures=0), ["failures"]),
        (ConsecutiveFailuresConfig(failures=1), []),
        (SuccessRateConfig(success_rate=1.5, requests=0), ["successRate", "requests"]),
        (SuccessRateConfig(success_rate=1.0, requests=1), []),
        (SuccessRateWindowedConfig(success_rate=-0.1, window=0), ["successRate", "window"]),
        (SuccessRateWindowedConfig(success_rate=0.0, window=1), []),
    ],
)
def test_config_ranges(config: AccrualConfig, keys: list[str]) -> None:
    """Each value out of range is reported by its key."""
    assert [found.split(":")[0] for found in config.check()] == keys
