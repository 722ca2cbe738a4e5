"""l5d-ctx-deadline."""

from __future__ import annotations

import pytest

from hostmesh.routing.deadline import Deadline, DeadlineAdmission, parse_deadline, parse_deadlines


def test_round_trip() -> None:
    """Two decimal numbers of nanoseconds, separated by one space."""
    deadline = parse_deadline(b"1700000000000000000 1700000001000000000")

    assert deadline == Deadline(1700000000000000000, 1700000001000000000)
    assert deadline is not None
    assert deadline.show() == b"1700000000000000000 1700000001000000000"


@pytest.mark.parametrize(
    "value",
    [b"", b"1", b"1 2 3", b"1  2", b"-1 2", b"1 x", b"1.5 2", b"1 99999999999999999999", b"\xff 1", b"1,2"],
)
def test_malformed_is_ignored(value: bytes) -> None:
    """A value that is not two numbers is as if it were not there."""
    assert parse_deadline(value) is None
    assert parse_deadlines([value, b"1 5"]) == Deadline(1, 5)


def test_several_headers_combine_to_the_strictest() -> None:
    """The newest timestamp with the earliest deadline, in whatever order."""
    values = [b"100 500", b"120 450"]

    assert parse_deadlines(values) == parse_deadlines(values[::-1]) == Deadline(120, 450)
    assert parse_deadlines([]) is None


def test_combine_is_associative_and_idempotent() -> None:
    """Hops may combine in any grouping."""
    a, b, c = Deadline(1, 9), Deadline(5, 7), Deadline(3, 8)

    assert a.combine(b).combine(c) == a.combine(b.combine(c))
    assert a.combine(a) == a


@pytest.mark.parametrize(("now", "expired"), [(499, False), (500, False), (501, True)])
def test_expiry(now: int, expired: bool) -> None:
    """Time is over after the deadline, not at it."""
    assert Deadline(100, 500).is_expired(now) is expired


def test_few_expired_requests_are_refused() -> None:
    """One expired request is refused per five served; the next is served, as the clock may be wrong."""
    admission = DeadlineAdmission()
    assert all(admission.admits(expired=False, now=0.0) for _ in range(5))

    assert not admission.admits(expired=True, now=0.0)
    assert admission.admits(expired=True, now=0.0)


def test_wrong_clock_refuses_at_most_a_fifth() -> None:
    """When every request looks expired at most one of six is refused."""
    admission = DeadlineAdmission()

    served = sum(admission.admits(expired=True, now=step / 100) for step in range(6000))

    assert served >= 5000
