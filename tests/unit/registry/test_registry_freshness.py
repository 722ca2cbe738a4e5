"""The freshness contract, as tables of what a source says and when."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.base.var import Turn, Var
from hostmesh.naming.addr import ADDR_NEG, ADDR_PENDING, Addr, AddrBound, AddrFailed, Endpoint
from hostmesh.registry import freshness
from hostmesh.registry.alarms import Alarms
from hostmesh.registry.freshness import Freshness, addr_json
from hostmesh.registry.journal import Journal
from tests.fs_world import SetEnv


class Name:
    """One name on a clock that is set by hand; ``says`` moves it to a time first."""

    def __init__(self, hold_s: float = 2.0) -> None:
        self.env = SetEnv(0.0)
        self.alarms = Alarms(self.env)
        self.journal = Journal(self.env)
        self.reports: list[str] = []
        self.addr: Var[Addr] = Var(Turn(), ADDR_PENDING)
        self.fresh = Freshness(
            "/#/web",
            self.addr,
            self.alarms,
            self.journal,
            hold_s=hold_s,
            source="test",
            report=lambda event, _facts: self.reports.append(event),
        )

    def at(self, time: float) -> Freshness:
        while self.alarms.ring() <= time:
            self.env.time = self.alarms._heap[0][0]
            self.alarms.ring()
        self.env.time = time
        return self.fresh

    def ports(self, time: float) -> list[int] | str:
        self.at(time)
        if isinstance(self.addr.value, AddrBound):
            return [endpoint.port for endpoint in self.addr.value.endpoints]
        return str(addr_json(self.addr.value)["type"])

    def actions(self) -> list[str]:
        return [entry.action for entry in self.journal.entries()]


def ends(*ports: int) -> list[Endpoint]:
    return [Endpoint("10.0.0.1", port) for port in ports]


def test_the_first_answer_is_believed_at_once() -> None:
    """Also when it is empty or says that there is no such name."""
    full, empty, absent = Name(), Name(), Name()

    full.fresh.found(ends(1, 2))
    empty.fresh.found([])
    absent.fresh.absent()

    assert full.ports(0) == [1, 2]
    assert empty.ports(0) == []
    assert absent.addr.value == ADDR_NEG


def test_additions_are_believed_at_once_and_removals_after_the_hold() -> None:
    """During the hold both old and new endpoints are there."""
    name = Name()
    name.fresh.found(ends(1, 2))

    name.at(10).found(ends(2, 3))

    assert name.ports(10) == [1, 2, 3]
    assert name.ports(11.99) == [1, 2, 3]
    assert name.ports(12) == [2, 3]
    assert name.actions() == ["add", "add", "add", "remove"]


def test_the_hold_runs_from_the_first_time_an_endpoint_was_missing() -> None:
    """Further answers without it do not prolong it."""
    name = Name()
    name.fresh.found(ends(1, 2))

    name.at(10).found(ends(2))
    name.at(11).found(ends(2))

    assert name.ports(12) == [2]


def test_a_removal_is_not_put_off_by_later_ones() -> None:
    """A record that names another endpoint every second: each is gone when its own hold is over."""
    name = Name()
    for second in range(6):
        name.at(second).found(ends(second))

    assert name.ports(5.5) == [3, 4, 5]
    assert name.ports(7.5) == [5]


def test_an_endpoint_that_returns_within_the_hold_never_left() -> None:
    """And its next absence begins a new hold."""
    name = Name()
    name.fresh.found(ends(1, 2))

    name.at(10).found(ends(2))
    name.at(11).found(ends(1, 2))
    name.at(11.5).found(ends(2))

    assert name.ports(13.4) == [1, 2]
    assert name.ports(13.5) == [2]


def test_a_hold_of_zero_believes_removals_at_once() -> None:
    """As Linkerd 1 does."""
    name = Name(hold_s=0.0)
    name.fresh.found(ends(1, 2))

    name.fresh.found(ends(2))
    assert name.ports(0) == [2]
    name.fresh.absent()
    assert name.ports(0) == "neg"


def test_emptying_is_believed_after_the_hold() -> None:
    """An empty answer of a healthy source is a removal of everything."""
    name = Name()
    name.fresh.found(ends(1))

    name.at(10).found([])

    assert name.ports(11.9) == [1]
    assert name.ports(12) == []


def test_absence_is_believed_after_the_hold_and_undone_by_an_answer() -> None:
    """A name that comes back in time was never gone."""
    name = Name()
    name.fresh.found(ends(1))

    name.at(10).absent()
    name.at(11).found(ends(1))
    assert name.ports(20) == [1]
    name.at(20).absent()
    name.at(21).absent()
    assert name.ports(21.9) == [1]
    assert name.ports(22) == "neg"
    assert name.actions() == ["add", "remove", "absent"]


def test_an_error_is_never_an_empty_answer() -> None:
    """The last good set stays, however long the error lasts."""
    name = Name()
    name.fresh.found(ends(1))

    name.at(10).failed("connection refused")

    assert name.ports(100_000) == [1]
    assert name.fresh.error == "connection refused"
    assert name.fresh.age() == 100_000.0


def test_an_error_without_a_last_good_set_is_failed() -> None:
    """And the next answer replaces it."""
    name = Name()

    name.fresh.failed("no")
    assert AddrFailed("no") == name.addr.value
    name.fresh.failed("still no")
    assert AddrFailed("still no") == name.addr.value
    name.fresh.found(ends(1))
    assert name.ports(0) == [1]


def test_a_failing_source_is_not_believed_about_what_it_said_just_before() -> None:
    """A registry that loses its data and then its connection has removed nothing."""
    name = Name()
    name.fresh.found(ends(1, 2))

    name.at(10).found(ends(2))
    name.at(11).failed("gone")
    assert name.ports(50) == [1, 2]
    name.at(50).absent()
    name.at(51).failed("gone")
    assert name.ports(90) == [1, 2]


def test_an_error_is_reported_once_per_cause_and_its_end_once() -> None:
    """A source that fails every second does not fill the log."""
    name = Name()

    for _ in range(5):
        name.fresh.failed("x")
    name.fresh.found([])
    name.fresh.confirm()

    assert name.reports == ["names.source_failed", "names.source_recovered"]
    assert name.actions() == ["error", "recovered"]


def test_an_incomplete_answer_adds_and_does_not_remove() -> None:
    """What it does not mention may still be there."""
    name = Name()
    name.fresh.found(ends(1))

    name.at(10).found(ends(2), complete=False)

    assert name.ports(100) == [1, 2]
    assert name.fresh.age() == 100.0


def test_a_changed_weight_is_a_change_of_the_same_endpoint() -> None:
    """It applies at once and nothing leaves."""
    name = Name()
    name.fresh.found(ends(1))

    name.fresh.found([Endpoint("10.0.0.1", 1, 3.0)])

    assert AddrBound((Endpoint("10.0.0.1", 1, 3.0),)) == name.addr.value
    assert name.actions() == ["add", "change"]


def test_more_endpoints_than_the_bound_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """X8: a registry gone wrong does not replace what worked."""
    monkeypatch.setattr(freshness, "MAX_ENDPOINTS", 2)
    name = Name()
    name.fresh.found(ends(1))

    name.fresh.found(ends(1, 2, 3))

    assert name.ports(0) == [1]
    assert name.fresh.error == "/#/web: expected at most 2 endpoints, found 3"


def test_forgetting_ends_everything() -> None:
    """No alarm is left, and the next answer is a first one."""
    name = Name()
    name.fresh.found(ends(1))
    name.fresh.found([])

    name.fresh.forget()

    assert len(name.alarms) == 0
    assert name.addr.value == ADDR_PENDING
    assert name.fresh.age() is None
    name.fresh.found([])
    assert name.ports(0) == []


def test_confirming_renews_the_age() -> None:
    """An unchanged answer is as good as a new one."""
    name = Name()
    name.fresh.found(ends(1))

    name.at(10).confirm()

    name.at(11)
    assert name.fresh.age() == 1.0


def test_the_state_shows_value_age_error_and_what_is_leaving() -> None:
    """JSON values only, times in milliseconds."""
    name = Name()
    name.fresh.found(ends(1, 2), index="7")
    name.at(10).found(ends(2), index="8")

    name.at(10.5)
    expected: dict[str, Any] = {
        "value": {
            "type": "bound",
            "addresses": [
                {"ip": "10.0.0.1", "port": 1, "weight": 1.0},
                {"ip": "10.0.0.1", "port": 2, "weight": 1.0},
            ],
        },
        "ageMs": 500,
        "source": "test",
        "index": "8",
        "error": None,
        "lastError": None,
        "lastErrorAt": None,
        "leaving": ["10.0.0.1:1"],
        "denied": 0,
    }
    assert expected == name.fresh.state()
    name.fresh.failed("x")
    assert tuple(name.fresh.state()[key] for key in ("error", "lastError", "lastErrorAt", "leaving")) == (
        "x",
        "x",
        10_500,
        [],
    )


@pytest.mark.parametrize(
    ("addr", "expected"),
    [
        (ADDR_PENDING, {"type": "pending"}),
        (ADDR_NEG, {"type": "neg"}),
        (AddrFailed("x"), {"type": "failed", "cause": "x"}),
    ],
    ids=["pending", "neg", "failed"],
)
def test_addresses_as_json(addr: Addr, expected: dict[str, Any]) -> None:
    """Each state has its type."""
    assert expected == addr_json(addr)


def test_the_journal_is_bounded_and_numbers_tell_what_was_dropped() -> None:
    """Readers ask for what is new to them."""
    journal = Journal(SetEnv(3.0), size=2)
    for port in ("1", "2", "3"):
        journal.write("/web", "add", port, "test", "9")
    journal.write("/api", "add", "4", "test")

    assert len(journal) == 2
    assert [entry.number for entry in journal.entries()] == [3, 4]
    assert [entry.what for entry in journal.entries(after=3)] == ["4"]
    assert [entry.json() for entry in journal.entries("/web")] == [
        {
            "number": 3,
            "at": 3000,
            "name": "/web",
            "action": "add",
            "what": "3",
            "source": "test",
            "index": "9",
        }
    ]


def test_a_change_larger_than_the_journal_leaves_its_end() -> None:
    """The numbers tell how many entries were not kept."""
    name = Name()
    name.journal = Journal(name.env, size=2)
    name.fresh._journal = name.journal

    name.fresh.found(ends(1, 2, 3, 4))

    assert [(entry.number, entry.what) for entry in name.journal.entries()] == [
        (3, "10.0.0.1:3"),
        (4, "10.0.0.1:4"),
    ]


WORDS = st.one_of(
    st.frozensets(st.integers(1, 5)),
    st.just("absent"),
    st.just("failed"),
)


@given(st.lists(st.tuples(st.floats(0.0, 3.0), WORDS), max_size=30))
def test_whatever_a_source_says_nothing_is_lost_early_or_kept_late(
    words: list[tuple[float, frozenset[int] | str]],
) -> None:
    """What a healthy source lists is there; what it has not listed for the hold is not; errors remove nothing."""
    name = Name()
    time = 0.0
    last: frozenset[int] | str | None = None
    healthy = True
    for delay, word in words:
        time += delay
        before = name.ports(time)
        if word == "failed":
            name.fresh.failed("x")
            healthy = False
            if last is not None:
                assert before == name.ports(time)
            continue
        healthy, last = True, word
        if word == "absent":
            name.fresh.absent()
            assert name.ports(time) == (before if isinstance(before, list) else "neg")
        else:
            name.fresh.found(ends(*word))
            now = name.ports(time)
            assert set(word) <= set(now)
            assert set(now) <= set(word) | (set(before) if isinstance(before, list) else set())

    if last is not None and healthy:
        assert name.ports(time + 2.0) == ("neg" if last == "absent" else sorted(last))
        assert len(name.alarms) == 0
