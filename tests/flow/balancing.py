"""The balancing experiment of *Beyond Round Robin* (Linkerd, 2016), through the stacks that ``hostmesh run`` builds.

``python -m tests.flow.balancing`` runs five seeds and prints a table; one seed is a test (test_flow_balancing.py).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from random import Random

from attrs import frozen

from tests.flow.scripted import Call, Caller, Received
from tests.flow.world import World, answering, config

BALANCERS = ("roundRobin", "p2c", "ewma")

RATE = 1000
"""Requests per second, one each millisecond."""

SECONDS = 60
"""Of the run. The slow endpoint is slow in the middle half of it."""

MEMBERS = 11

MEDIAN, SPREAD = 0.167, 0.005
"""Seconds that an endpoint takes, and their standard deviation."""

SLOW = 2.0
"""Seconds that the slow endpoint takes while it is slow."""

LIMIT = 1.0
"""Seconds within which an answer counts as a success."""


@frozen
class Outcome:
    """What one run showed."""

    requests: int
    successes: int
    slow_share: float
    """The part of the requests of its slow time that the slow endpoint got."""

    @property
    def rate(self) -> float:
        return self.successes / self.requests


class Load:
    """Requests at a fixed rate, whatever becomes of them, on as many connections as are busy at once."""

    def __init__(self, world: World, rate: float) -> None:
        self.world = world
        self.interval = 1 / rate
        self.idle: list[Caller] = []
        self.calls: list[Call] = []
        self.open = 0

    def run(self, seconds: float) -> None:
        """Send for ``seconds`` and wait for every answer."""
        loop = self.world.loop
        start = loop.now()
        count = round(seconds / self.interval)
        for number in range(count):
            loop.call_at(start + number * self.interval, self.send)
        loop.run_until(start + seconds)
        loop.run_while(lambda: self.open > 0)

    def send(self) -> None:
        if self.idle:
            caller = self.idle.pop()
        else:
            caller = self.world.caller()
            caller.keeps_raw = False
        call = caller.request()
        self.open += 1
        call.on_end = self._give_back(caller)
        caller.calls.clear()
        self.calls.append(call)

    def _give_back(self, caller: Caller) -> Callable[[Call], None]:
        def ended(_call: Call) -> None:
            self.open -= 1
            self.idle.append(caller)

        return ended


def experiment(balancer: str, seed: int, *, seconds: float = SECONDS, accrual: str = "") -> Outcome:
    """One client at 1,000 requests/s, 11 endpoints, one of them slow in the middle half of the run."""
    text = f"loadBalancer: {{kind: {balancer}}}" + (
        f", failureAccrual: {{kind: {accrual}}}" if accrual else ""
    )
    world = World(config(client=text), seed=seed, records=False)
    rng = Random(f"{seed}/latency")
    loop = world.loop
    start = loop.now()
    slow_from, slow_until = start + seconds / 4, start + seconds * 3 / 4
    slow_count = 0

    def ordinary(received: Received) -> None:
        received.answer(after=max(0.0, rng.gauss(MEDIAN, SPREAD)))

    def slow(received: Received) -> None:
        nonlocal slow_count
        if slow_from <= loop.now() < slow_until:
            slow_count += 1
            received.answer(after=SLOW)
        else:
            ordinary(received)

    for member in world.serving(slow, *[ordinary] * (MEMBERS - 1)):
        member.keeps_raw = False
    load = Load(world, RATE)
    load.run(seconds)
    world.check()
    good = sum(call.status == 200 and call.elapsed <= LIMIT for call in load.calls)
    return Outcome(len(load.calls), good, slow_count / (RATE * seconds / 2))


FAST_FAILURE, HEALTHY = 0.001, 0.020
"""Seconds: a 503 of the failing endpoint, an answer of the others."""


def failing_fast(balancer: str, seed: int, *, accrual: str, seconds: float = 10, members: int = 3) -> float:
    """The share of the traffic that an endpoint gets that fails fast, after its first 10 requests."""
    world = World(
        config(client=f"loadBalancer: {{kind: {balancer}}}, failureAccrual: {{kind: {accrual}}}"),
        seed=seed,
        records=False,
    )
    failing, *healthy = world.serving(
        answering(503, after=FAST_FAILURE), *[answering(after=HEALTHY)] * (members - 1)
    )
    for member in (failing, *healthy):
        member.keeps_raw = False
    Load(world, RATE).run(seconds)
    world.check()
    assert len(failing) > 0
    if len(failing) <= 10:
        return 0.0
    tenth = failing.requests[9].at
    after = sum(request.at > tenth for member in healthy for request in member.requests)
    return (len(failing) - 10) / (len(failing) - 10 + after)


def main() -> None:
    """Print both tables."""
    seeds = range(1, 6)
    say = sys.stdout.write
    say(
        f"success rate: {RATE}/s, {MEMBERS} endpoints at {MEDIAN * 1000:.0f} ms, one at {SLOW:g} s for half\n"
    )
    for balancer in BALANCERS:
        began = time.perf_counter()
        found = [experiment(balancer, seed) for seed in seeds]
        took = (time.perf_counter() - began) / len(found)
        rates = " ".join(f"{outcome.rate:8.3%}" for outcome in found)
        shares = " ".join(f"{outcome.slow_share:6.2%}" for outcome in found)
        say(f"{balancer:12} {rates}   share of the slow one {shares}   {took:.1f} s a run\n")
    say("share of an endpoint that fails in 1 ms beside two at 20 ms, after its first 10 requests\n")
    for accrual in ("none", "io.l5d.consecutiveFailures"):
        for balancer in ("p2c", "ewma"):
            found_shares = [failing_fast(balancer, seed, accrual=accrual) for seed in seeds]
            say(f"{accrual:28} {balancer:6} " + " ".join(f"{share:7.3%}" for share in found_shares) + "\n")


if __name__ == "__main__":
    main()
