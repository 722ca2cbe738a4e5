"""How much of the traffic a slow or a failing endpoint takes down, by balancer."""

from __future__ import annotations

import pytest

from tests.flow.balancing import experiment, failing_fast


@pytest.mark.slow
@pytest.mark.parametrize(
    ("balancer", "least", "most"),
    [("roundRobin", 0.945, 0.96), ("p2c", 0.99, 0.998), ("ewma", 0.9985, 1.0)],
)
def test_one_slow_endpoint_costs_what_the_linkerd_authors_published(
    balancer: str, least: float, most: float
) -> None:
    """A minute at 1,000/s with one endpoint of eleven at 2 s for half of it: 95 %, 99 % and 99.9 % succeed."""
    outcome = experiment(balancer, seed=1)

    assert outcome.requests == 60_000
    assert least <= outcome.rate <= most


@pytest.mark.parametrize(("balancer", "least"), [("roundRobin", 0.94), ("p2c", 0.985), ("ewma", 0.99)])
def test_a_slow_endpoint_is_avoided_within_seconds(balancer: str, least: float) -> None:
    """The same in four seconds instead of sixty: the balancers keep their order."""
    outcome = experiment(balancer, seed=2, seconds=4)

    assert outcome.rate >= least
    assert outcome.slow_share <= {"roundRobin": 0.1, "p2c": 0.025, "ewma": 0.015}[balancer]


@pytest.mark.parametrize("balancer", ["p2c", "ewma", "heap"])
@pytest.mark.parametrize("accrual", ["none", "io.l5d.consecutiveFailures"])
def test_an_endpoint_that_fails_fast_attracts_no_traffic(balancer: str, accrual: str) -> None:
    """Answering 503 in 1 ms beside healthy ones at 20 ms: under 2 % after its first 10 requests."""
    assert failing_fast(balancer, seed=1, accrual=accrual, seconds=2) < 0.02
