"""The budgets of one HTTP/2 peer, without an engine (H1, H2, H6)."""

from __future__ import annotations

import pytest

from hostmesh.base.errors import Side
from hostmesh.base.reasons import Reason
from hostmesh.protocol.h2.budgets import DEFAULT_BUDGETS, Budgets, Meter
from hostmesh.protocol.h2.engine import ENHANCE_YOUR_CALM, ConnectionFault


def meter(client_side: bool = False, **bounds: float) -> Meter:
    return Meter(Budgets(**bounds), client_side)  # type: ignore[arg-type]


def test_h1_the_101st_reset_within_ten_seconds_is_too_much() -> None:
    """H1: 100 resets within 10 s pass, one more ends the connection and says why."""
    meter = Meter(DEFAULT_BUDGETS, False)
    for number in range(100):
        meter.reset(number * 0.09)
        meter.check()
    meter.reset(9.5)

    with pytest.raises(ConnectionFault) as caught:
        meter.check()

    assert (caught.value.code, caught.value.reason, caught.value.side) == (
        ENHANCE_YOUR_CALM,
        Reason.LIMIT_RESETS,
        Side.CALLER,
    )
    assert "100 streams reset within 10 s" in caught.value.message


def test_h1_resets_are_forgotten_after_ten_seconds() -> None:
    """H1: ten resets a second go on for ever while more streams are answered."""
    meter = Meter(DEFAULT_BUDGETS, False)

    for number in range(10_000):
        meter.streams += 3
        meter.reset(number * 0.1001)
        meter.check()

    assert meter.resets == 10_000


def test_h1_a_tenth_of_many_streams_may_be_reset_at_any_rate() -> None:
    """H1: where many callers share a connection some always leave: 500 resets a second of 5,000 streams."""
    busy = Meter(DEFAULT_BUDGETS, False)
    for number in range(10_000):
        busy.streams += 10
        busy.reset(number * 0.002)
        busy.check()

    assert busy.resets == 10_000


def test_h1_more_than_a_tenth_of_many_streams_may_not() -> None:
    """H1: at the same rate, one of nine is too much."""
    busy = Meter(DEFAULT_BUDGETS, False)
    with pytest.raises(ConnectionFault, match="streams reset within"):  # noqa: PT012 - which one is too much is not the point
        for number in range(1000):
            busy.streams += 9
            busy.reset(number * 0.002)
            busy.check()


def test_h1_late_resets_do_not_count() -> None:
    """H1: a second after its request a reset is a deadline's: a silent endpoint must not cost all their connection."""
    late = Meter(DEFAULT_BUDGETS, False)
    for number in range(1000):
        late.streams += 1
        late.left(number * 0.01 + 1.001, number * 0.01)
        late.check()
    early = Meter(DEFAULT_BUDGETS, False)
    early.left(0.99, 0.0)

    assert (late.resets, early.resets) == (0, 1)


def test_h1_more_than_half_of_many_streams_reset_is_too_much() -> None:
    """H1: below the rate, half of 200 streams may be reset, and more than half of more than 200 may not."""
    meter = Meter(DEFAULT_BUDGETS, False)
    for number in range(200):
        meter.streams += 1
        meter.reset(number * 1.0)
        meter.check()
    meter.streams += 1

    with pytest.raises(ConnectionFault, match="200 of 201 streams"):
        meter.check()


def test_h1_half_of_many_streams_may_be_reset() -> None:
    """H1: exactly half is not more than half."""
    meter = Meter(DEFAULT_BUDGETS, False)
    for number in range(1000):
        meter.streams += 2
        meter.reset(number * 1.0)
        meter.check()

    assert (meter.resets, meter.streams) == (1000, 2000)


def test_h6_a_burst_of_control_frames_passes_and_one_more_does_not() -> None:
    """H6: 1,000 control frames at once are allowed, not 1,001."""
    meter = Meter(DEFAULT_BUDGETS, False)
    for _ in range(1000):
        meter.control(5.0)

    with pytest.raises(ConnectionFault) as caught:
        meter.control(5.0)

    assert (caught.value.code, caught.value.reason) == (ENHANCE_YOUR_CALM, Reason.LIMIT_CONTROL_FRAMES)


def test_h6_a_hundred_control_frames_a_second_go_on_for_ever() -> None:
    """H6: the bucket fills at 100 per second, and no further than its burst."""
    meter = Meter(DEFAULT_BUDGETS, False)
    for second in range(100):
        for _ in range(100):
            meter.control(float(second))
    for _ in range(1000):
        meter.control(10_000.0)

    with pytest.raises(ConnectionFault):
        meter.control(10_000.0)


def test_h6_frames_of_ours_allow_control_frames_in_return() -> None:
    """H6: who reads much updates windows often: each frame of ours allows four more, beyond the burst."""
    meter = Meter(DEFAULT_BUDGETS, False)
    meter.sent(500)
    for _ in range(3000):
        meter.control(0.0)

    with pytest.raises(ConnectionFault):
        meter.control(0.0)


def test_h6_a_frame_can_cost_more_than_one() -> None:
    """H6: a SETTINGS frame full of entries costs as many control frames as it takes work."""
    small = meter(control_burst=10)
    small.control(0.0, 10)

    with pytest.raises(ConnectionFault):
        small.control(0.0, 2)


def test_h10_an_endpoint_over_its_budget_is_the_endpoint_at_fault() -> None:
    """H10: the same budgets hold for endpoints, and blame them."""
    small = meter(client_side=True, control_burst=1)
    small.control(0.0)

    with pytest.raises(ConnectionFault) as caught:
        small.control(0.0)

    assert (caught.value.side, caught.value.status) == (Side.CALLEE, 502)


def test_h9_the_memory_of_resets_is_bounded() -> None:
    """H9: however many resets there were, the times of at most 101 are kept."""
    busy = Meter(DEFAULT_BUDGETS, False)
    for number in range(100_000):
        busy.reset(number * 1.0)

    assert len(busy._resets) == 101
