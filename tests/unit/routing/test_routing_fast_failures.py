"""Endpoints that fail fast must not attract traffic: a discrete-event run of one client, failure accrual
off."""

from __future__ import annotations

from heapq import heappop, heappush
from random import Random

import pytest
from routing_stand_ins import make_nodes

from hostmesh.routing.balancers import Balancer
from hostmesh.routing.balancers.ewma import Ewma
from hostmesh.routing.balancers.p2c import P2c

SEEDS = [1, 2, 3]


def share_of_failing(
    balancer: Balancer, *, endpoints: int, rate: float, latency: float, seconds: float, seed: int
) -> float:
    """Send Poisson traffic to ``endpoints`` nodes of which the first answers 503 after 1 ms, the others
    succeed after ``latency`` (10 % spread); return the share of the first, not counting its first 10
    requests."""
    rng = Random(seed)
    nodes = make_nodes(endpoints)
    balancer.update(nodes, 0.0)
    events: list[tuple[float, int, int | None, float]] = [(0.0, 0, None, 0.0)]
    counts = [0] * endpoints
    serial = 0
    while events:
        now, _, index, took = heappop(events)
        serial += 1
        if index is not None:
            balancer.finished(nodes[index], now, took, failed=index == 0)
            continue
        node = balancer.pick(now)
        assert node is not None
        balancer.started(node, now)
        picked = nodes.index(node)
        counts[picked] += 1
        took = 0.001 if picked == 0 else latency * rng.uniform(0.9, 1.1)
        heappush(events, (now + took, serial, picked, took))
        if now < seconds:
            heappush(events, (now + rng.expovariate(rate), -serial, None, 0.0))
    assert all(node.pending >= 0 for node in nodes)
    return max(0, counts[0] - 10) / (sum(counts) - 10)


LOADS = {
    "quiet": {"endpoints": 3, "rate": 5.0, "latency": 0.020, "seconds": 300.0},
    "steady": {"endpoints": 3, "rate": 200.0, "latency": 0.020, "seconds": 30.0},
    "busy": {"endpoints": 11, "rate": 1000.0, "latency": 0.167, "seconds": 20.0},
    "deep queues": {"endpoints": 3, "rate": 2000.0, "latency": 0.100, "seconds": 10.0},
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS.keys())
def test_ewma_avoids_an_endpoint_that_fails_fast(load: dict[str, float], seed: int) -> None:
    """Peak EWMA gives less than 2 % to the failing endpoint after its first 10 requests."""
    share = share_of_failing(Ewma(Random(seed)), seed=seed, **load)

    assert share < 0.02


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("load", "limit"),
    [("quiet", 0.10), ("steady", 0.015), ("busy", 0.015), ("deep queues", 0.03)],
)
def test_least_loaded_does_not_favour_an_endpoint_that_fails_fast(load: str, limit: float, seed: int) -> None:
    """Least loaded, which knows no latency, gives it less than a fair share thanks to the held slots."""
    share = share_of_failing(P2c(Random(seed)), seed=seed, **LOADS[load])

    assert share < limit
