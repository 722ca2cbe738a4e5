"""Alarms."""

from __future__ import annotations

from math import inf

import pytest
import trio
import trio.testing

from hostmesh.registry.alarms import Alarms
from tests.fs_world import RealEnv, SetEnv


def test_alarms_ring_in_order_of_time_and_then_of_setting() -> None:
    """Each once, when its time has come."""
    env = SetEnv(0.0)
    alarms = Alarms(env)
    rung: list[str] = []
    alarms.at(2.0, lambda: rung.append("b"))
    alarms.at(1.0, lambda: rung.append("a"))
    alarms.at(2.0, lambda: rung.append("c"))

    assert alarms.ring() == 1.0
    env.time = 1.0
    assert alarms.ring() == 2.0
    assert rung == ["a"]
    env.time = 5.0
    assert inf == alarms.ring()
    assert rung == ["a", "b", "c"]


def test_a_cancelled_alarm_is_silent_and_may_be_cancelled_again() -> None:
    """Cancelling is idempotent, also after the alarm has rung."""
    env = SetEnv(0.0)
    alarms = Alarms(env)
    rung: list[int] = []
    first = alarms.at(1.0, lambda: rung.append(1))
    second = alarms.at(1.0, lambda: rung.append(2))

    first.cancel()
    first.cancel()

    assert len(alarms) == 1
    env.time = 1.0
    alarms.ring()
    second.cancel()
    assert rung == [2]
    assert len(alarms) == 0


def test_cancelled_alarms_do_not_pile_up() -> None:
    """The heap is rebuilt when most of it is dead."""
    alarms = Alarms(SetEnv())
    for _ in range(10_000):
        alarms.after(1000.0, lambda: None).cancel()

    assert len(alarms) == 0
    assert len(alarms._heap) < 200


def test_a_failing_alarm_does_not_silence_the_others() -> None:
    """The error goes to on_error."""
    errors: list[BaseException] = []
    alarms = Alarms(SetEnv(), on_error=errors.append)
    rung: list[int] = []
    alarms.after(0.0, lambda: [].pop())
    alarms.after(0.0, lambda: rung.append(1))

    alarms.ring()

    assert [IndexError] == [type(error) for error in errors]
    assert rung == [1]


def test_without_on_error_a_failing_alarm_raises() -> None:
    """Tests see their mistakes."""
    alarms = Alarms(SetEnv())
    alarms.after(0.0, lambda: [].pop())

    with pytest.raises(IndexError):
        alarms.ring()


def test_a_burst_is_rung_in_portions() -> None:
    """The limit leaves the rest due."""
    alarms = Alarms(SetEnv(5.0))
    rung: list[int] = []
    for number in range(10):
        alarms.at(1.0, lambda number=number: rung.append(number))

    assert alarms.ring(limit=4) == 1.0
    assert rung == [0, 1, 2, 3]


def test_the_task_rings_an_earlier_alarm_set_while_it_sleeps() -> None:
    """Sleeping until one alarm does not miss one that is set meanwhile."""
    alarms = Alarms(RealEnv())

    async def main() -> None:
        alarms.after(60.0, lambda: None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alarms.run)
            await trio.testing.wait_all_tasks_blocked()
            rung = trio.Event()
            alarms.after(0.01, rung.set)
            with trio.fail_after(5):
                await rung.wait()
            nursery.cancel_scope.cancel()

    trio.run(main)
