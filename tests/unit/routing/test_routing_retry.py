"""May an attempt be repeated?"""

from __future__ import annotations

from math import inf

import pytest

from hostmesh.base.errors import Sent
from hostmesh.routing.retry import Refusal, may_retry, refusal

FINE = {
    "committed": False,
    "replayable": True,
    "sent": Sent.ALL,
    "reused_and_unread": False,
    "idempotent": False,
    "retryable": True,
    "time_left": inf,
    "delay": 0.0,
    "withdraw": lambda: True,
}


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({}, None),
        ({"committed": True}, Refusal.COMMITTED),
        ({"replayable": False}, Refusal.NOT_REPLAYABLE),
        ({"retryable": False}, Refusal.NOT_SAFE),
        ({"retryable": False, "sent": Sent.NOTHING}, None),
        ({"retryable": False, "sent": Sent.SOME}, Refusal.NOT_SAFE),
        ({"retryable": False, "reused_and_unread": True}, Refusal.NOT_SAFE),
        ({"retryable": False, "idempotent": True}, Refusal.NOT_SAFE),
        ({"retryable": False, "reused_and_unread": True, "idempotent": True}, None),
        ({"time_left": 0.0}, Refusal.NO_TIME),
        ({"time_left": 1.0, "delay": 1.0}, Refusal.NO_TIME),
        ({"time_left": 1.0, "delay": 0.5}, None),
        ({"withdraw": lambda: False}, Refusal.NO_BUDGET),
    ],
)
def test_refusal(facts: dict[str, object], why: Refusal | None) -> None:
    """Each missing condition is named, the first one that is missing."""
    assert refusal(**{**FINE, **facts}) is why
    assert may_retry(**{**FINE, **facts}) is (why is None)


@pytest.mark.parametrize(
    "facts", [{"committed": True}, {"replayable": False}, {"retryable": False}, {"time_left": 0.0}]
)
def test_budget_is_not_charged_for_what_cannot_be(facts: dict[str, object]) -> None:
    """The withdrawal is asked for only when nothing else stands in the way."""
    asked = []

    refusal(**{**FINE, **facts, "withdraw": lambda: not asked.append(True)})

    assert asked == []
