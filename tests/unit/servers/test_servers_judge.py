"""The judge of registry scenarios: a judge that never convicts proves nothing."""

from __future__ import annotations

import pytest

from tests.servers.judge import Answer, EventLog, journal_faults, judge

A, B = "10.0.0.1:80", "10.0.0.2:80"


@pytest.fixture
def log() -> EventLog:
    """A from 0 s on, B from 10 s on; A is removed at 20 s."""
    log = EventLog()
    log.added(A, 0.0)
    log.added(B, 10.0)
    log.removed(A, 20.0)
    return log


def answered(endpoint: str, *times: float) -> list[Answer]:
    return [Answer(at, at + 0.001, endpoint) for at in times]


def failed(*times: float) -> list[Answer]:
    return [Answer(at, at + 0.001, None, "status 502") for at in times]


def test_answers_within_the_bound_are_clean(log: EventLog) -> None:
    """Up to hold + grace after its removal an endpoint may answer; the latest is told."""
    verdict = judge([*answered(A, 5, 15, 23.5), *answered(B, 30)], log)

    assert verdict.is_clean
    assert verdict.latest_s == 3.5
    assert verdict.per_endpoint == {A: 3, B: 1}


def test_an_answer_after_the_bound_is_stale(log: EventLog) -> None:
    """Later is a violation, and checking raises."""
    verdict = judge(answered(A, 5, 24.5), log)

    assert len(verdict.stale) == 1
    with pytest.raises(AssertionError, match=r"gone and readable since 4\.500 s, bound 4 s"):
        verdict.check()


def test_time_counts_from_the_first_read(log: EventLog) -> None:
    """What happens while nobody can read the registry is not judged; from its return on the bound counts."""
    log.unreadable(19.0)
    log.readable(60.0)

    verdict = judge(answered(A, 50, 63.9, 64.1), log)

    assert (len(verdict.stale), verdict.unjudged) == (1, 1)


def test_an_unknown_endpoint_is_stale(log: EventLog) -> None:
    """Nobody may be routed to who was never registered."""
    assert judge(answered("10.9.9.9:1", 5), log).stale == ["at 0.000 s: 10.9.9.9:1 was never registered"]


def test_a_failure_while_an_endpoint_lives_is_a_violation(log: EventLog) -> None:
    """Unless it is too new to be known."""
    verdict = judge(failed(1.0, 5.0, 30.0), log)

    assert (verdict.excused, len(verdict.failed)) == (1, 2)
    assert f"status 502, while {A} lived" in verdict.failed[0]


def test_a_failure_within_the_hold_is_a_violation() -> None:
    """An emptied name is served until the hold is over; later failures are right, later answers are not."""
    log = EventLog()
    log.added(A, 0.0)
    log.removed(A, 20.0)

    verdict = judge([*failed(21.0, 22.5), *answered(A, 22.9, 23.1)], log)

    assert (len(verdict.failed), verdict.excused, len(verdict.stale)) == (1, 1, 1)


def test_dead_endpoints_oblige_nobody(log: EventLog) -> None:
    """A failure is excused while all endpoints are dead."""
    log.died(A, 5.0)
    log.revived(A, 8.0)

    verdict = judge(failed(6.0, 9.0), log)

    assert (verdict.excused, len(verdict.failed)) == (1, 1)


def test_a_started_hostmesh_has_to_learn_first(log: EventLog) -> None:
    """Failures in the grace after its start are excused."""
    log.mesh_started(15.0)

    verdict = judge(failed(16.0, 18.0), log)

    assert (verdict.excused, len(verdict.failed)) == (1, 1)


def entries(*actions: tuple[str, str]) -> list[dict[str, object]]:
    return [{"action": action, "what": what} for action, what in actions]


def test_a_journal_that_tells_the_same_has_no_fault(log: EventLog) -> None:
    """Other actions than add and remove do not matter."""
    told = entries(("add", A), ("error", "x"), ("add", B), ("remove", A))

    assert journal_faults(told, log) == []


def test_journal_faults_are_told(log: EventLog) -> None:
    """A missing remove and an endpoint from nowhere."""
    assert journal_faults(entries(("add", A), ("add", B), ("add", "x:1")), log) == [
        "x:1: in the journal, not in the log",
        f"{A}: expected ('add', 'remove'), found ['add']",
    ]


@pytest.mark.parametrize(
    ("back", "histories"),
    [
        (21.0, [["add"]]),
        (22.5, [["add"], ["add", "remove", "add"]]),
        (30.0, [["add", "remove", "add"]]),
    ],
    ids=["within the hold", "soon after", "long after"],
)
def test_a_removal_taken_back(back: float, histories: list[list[str]]) -> None:
    """Within the hold it never was; soon after it, it may have been."""
    log = EventLog()
    log.added(A, 0.0)
    log.removed(A, 20.0)
    log.added(A, back)
    all_histories = [["add"], ["add", "remove", "add"], ["add", "remove"], []]

    allowed = [h for h in all_histories if not journal_faults(entries(*((a, A) for a in h)), log)]

    assert allowed == histories


def test_an_outage_hides_what_is_undone_before_its_end() -> None:
    """Removed and added again unseen is nothing; removed, seen and added again long after is both."""
    log = EventLog()
    log.added(A, 0.0)
    log.unreadable(10.0)
    log.removed(A, 20.0)
    log.added(A, 30.0)
    log.readable(40.0)

    assert journal_faults(entries(("add", A)), log) == []


def test_an_outage_within_the_hold_begins_it_anew() -> None:
    """A removal that an outage interrupts may be taken back until the hold after the outage is over."""
    log = EventLog()
    log.added(A, 0.0)
    log.removed(A, 9.5)
    log.unreadable(10.0)
    log.readable(40.0)
    log.added(A, 41.0)

    assert journal_faults(entries(("add", A)), log) == []


def test_events_are_in_order(log: EventLog) -> None:
    """Going back in time is a mistake of the scenario."""
    with pytest.raises(ValueError, match=r"event at 5\.0 after one at 20\.0"):
        log.added(A, 5.0)


def test_an_answer_before_the_acknowledgement_is_no_fault(log: EventLog) -> None:
    """Up to a second early; before that the endpoint was not registered yet."""
    assert judge(answered(B, 9.5), log).is_clean
    assert judge(answered(B, 5.0), log).stale == [f"at 0.000 s: {B} was not registered yet"]
