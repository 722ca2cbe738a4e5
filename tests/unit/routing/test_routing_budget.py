"""The retry budget."""

from __future__ import annotations

import pytest

from hostmesh.routing.budget import RetryBudget


@pytest.mark.parametrize(
    ("ttl", "min_per_sec", "percent", "balance"),
    [(10, 10, 0.2, 100), (10, 5, 0.0, 50), (10, 20, 0.33, 200), (10, 0, 2.0, 0), (10, 0, 0.0, 0)],
)
def test_start_balance(ttl: int, min_per_sec: int, percent: float, balance: int) -> None:
    """A new budget has its reserve."""
    assert RetryBudget(ttl, min_per_sec, percent).balance(0.0) == balance


def test_deposit_may_buy_more_than_one() -> None:
    """At 200 % one deposit buys two repeats."""
    budget = RetryBudget(10, 0, 2.0)
    budget.deposit(0.0)

    assert budget.balance(0.0) == 2


def test_default_budget_spent() -> None:
    """Five deposits buy one repeat on top of the hundred of the reserve, and it all comes back after 10 s."""
    budget = RetryBudget()
    for _ in range(4):
        budget.deposit(0.0)
    assert budget.balance(0.0) == 100
    budget.deposit(0.0)
    assert budget.balance(0.0) == 101

    assert [budget.try_withdraw(0.0) for _ in range(102)] == [True] * 101 + [False]
    assert budget.exhausted == 1
    assert [budget.balance(second) for second in (0.0, 5.0, 9.999)] == [0, 0, 0]
    assert budget.balance(10.0) == 100


@pytest.mark.parametrize(("percent", "allowed"), [(0.1, [10, 20, 30]), (0.5, list(range(2, 31, 2)))])
def test_share_of_requests(percent: float, allowed: list[int]) -> None:
    """Without a reserve, every tenth or every second request may be repeated."""
    budget = RetryBudget(10, 0, percent)
    granted = []
    for request in range(1, 31):
        budget.deposit(0.0)
        if budget.try_withdraw(0.0):
            granted.append(request)

    assert granted == allowed


def test_nothing_for_nothing() -> None:
    """With no reserve and no share nothing is ever granted."""
    budget = RetryBudget(10, 0, 0.0)
    budget.deposit(0.0)

    assert not budget.try_withdraw(0.0)


def test_leaked_deposits_are_no_debt() -> None:
    """When what paid for a repeat has leaked away the balance is 0, not less."""
    budget = RetryBudget(10, 0, 1.0)
    budget.deposit(0.0)
    assert budget.try_withdraw(5.0)

    assert budget.balance(10.0) == 0


@pytest.mark.parametrize(("reserve", "limit"), [(10, 20), (0, 0)])
def test_requeue_limit(reserve: int, limit: int) -> None:
    """One request may be requeued a fifth of the balance, rounded up."""
    assert RetryBudget(10, reserve, 0.2).requeue_limit(0.0) == limit


def test_requeue_limit_rounds_up() -> None:
    """A balance of 3 allows one requeue."""
    budget = RetryBudget(10, 0, 1.0)
    for _ in range(3):
        budget.deposit(0.0)

    assert budget.requeue_limit(0.0) == 1


@pytest.mark.parametrize(
    ("ttl", "min_per_sec", "percent"), [(0, 1, 0.1), (61, 1, 0.1), (10, -1, 0.1), (10, 1, 1001)]
)
def test_impossible_budgets(ttl: int, min_per_sec: int, percent: float) -> None:
    """Values outside Linkerd's ranges are refused."""
    with pytest.raises(ValueError, match="expected ttl"):
        RetryBudget(ttl, min_per_sec, percent)
