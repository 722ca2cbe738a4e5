"""The timer wheel, pure."""

from __future__ import annotations

import pytest

from hostmesh.pump.wheel import SLOT, Wheel


def test_never_early_and_at_most_a_slot_late() -> None:
    """A timer fires in the first slot that starts at or after its time."""
    wheel = Wheel()
    fired: list[float] = []
    for n in range(100):
        when = n * 0.0037
        wheel.set(when, fired.append, when)

    now = 0.0
    while len(fired) < 100:
        before = len(fired)
        wheel.run(now)
        for when in fired[before:]:
            assert when - 1e-9 <= now < when + SLOT + 0.002
        now += 0.001


def test_cancelled_timers_do_not_fire_and_are_let_go() -> None:
    """cancel takes a timer out at once, also from the slot that is running, and twice is no mistake."""
    wheel = Wheel()
    fired: list[str] = []
    second = None

    def first() -> None:
        fired.append("first")
        assert second is not None
        second.cancel()

    timer = wheel.set(0.0, first)
    second = wheel.set(0.0, fired.append, "second")
    third = wheel.set(1.0, fired.append, "third")
    third.cancel()
    third.cancel()

    assert wheel.run(2.0) == 1
    timer.cancel()
    assert (fired, len(wheel), wheel.next_due()) == (["first"], 0, None)


def test_next_due_forgets_empty_slots() -> None:
    """A wheel whose timers are all cancelled does not tick."""
    wheel = Wheel()
    timers = [wheel.set(n / 10, print) for n in range(50)]
    for timer in timers[:-1]:
        timer.cancel()

    assert wheel.next_due() == pytest.approx(4.9, abs=SLOT * 1.1)
    timers[-1].cancel()
    assert wheel.next_due() is None


def test_a_timer_set_for_the_past_fires_in_the_next_run() -> None:
    """A chain of zero delays cannot hold the loop in one run."""
    wheel = Wheel()
    fired: list[int] = []

    def again(n: int) -> None:
        fired.append(n)
        wheel.set(0.0, again, n + 1)

    wheel.set(0.0, again, 0)
    counts = [wheel.run(1.0) for _ in range(5)]

    assert (counts, fired) == ([1, 1, 1, 1, 1], [0, 1, 2, 3, 4])


def test_a_raising_timer_does_not_stop_the_others() -> None:
    """Exceptions go to on_error, or out when there is none."""
    wheel = Wheel()
    fired: list[str] = []
    errors: list[BaseException] = []
    wheel.set(0.0, [].pop)
    wheel.set(0.0, fired.append, "after")

    wheel.run(1.0, errors.append)

    assert ([type(error) for error in errors], fired) == ([IndexError], ["after"])
    wheel.set(0.0, [].pop)
    with pytest.raises(IndexError):
        wheel.run(2.0)


def test_all_slots_passed_are_run_in_order() -> None:
    """After a long pause every slot that was passed fires, the earliest first."""
    wheel = Wheel()
    fired: list[float] = []
    for when in (0.5, 0.1, 0.3, 9.9):
        wheel.set(when, fired.append, when)

    assert wheel.run(5.0) == 3
    assert fired == [0.1, 0.3, 0.5]
