"""Power of two choices over Peak EWMA: a latency average that jumps up and sinks slowly, times outstanding
requests.

S. Jenson, Beyond Round Robin: Load Balancing for Latency, Linkerd blog, 2016. The irregular-interval average
is A. Eckner's (Algorithms for Unevenly Spaced Time Series, 2012).
"""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING

from hostmesh.routing.balancers.base import MAX_EFFORT
from hostmesh.routing.balancers.p2c import P2c

if TYPE_CHECKING:
    from random import Random

    from hostmesh.routing.node import Node

DECAY = 10.0
"""Seconds in which an average sinks to 1/e; Linkerd's ``decayTimeMs`` default."""

UNKNOWN_PENALTY = ((1 << 63) - 1 >> 16) / 1e9
"""Load of a node whose first answers are still out, in seconds (Finagle's number of nanoseconds): a new node
gets one request, and no second one before the first has answered, unless everything else is worse."""

FAILURE_FLOOR = 1.0
"""Least latency in seconds that a failure counts for."""

WORST_REUSE = 2e-6
"""Seconds per node for which the largest load is reused. Finding it costs about 0.1 us per node, so a storm
of failures spends at most a twentieth of a core on it, with any number of nodes."""


class Ewma(P2c):
    """``load = average * (pending + 1)``, compared between two random nodes.

    Averages are stored as of their stamp and decayed when compared, so reading writes nothing. A sample above
    the decayed average replaces it (peak rule); one below is mixed in, weighted by the time it speaks for:
    since the last sample, or since its request began.

    A failure counts as max(its time, twice the largest load in the set, 1 s). Linkerd folds its real time, so
    that an endpoint failing in 1 ms attracts traffic until failure accrual trips. Load, not average, because
    what a failing and therefore idle node competes with is average times queue: with 15 requests outstanding
    everywhere, 1 s would beat healthy nodes at 167 ms. Averages that contain failures do not count as
    largest, or failures of several nodes would push each other up without limit.
    """

    def __init__(
        self,
        rng: Random,
        *,
        decay: float = DECAY,
        max_effort: int = MAX_EFFORT,
        enable_probation: bool = False,
    ) -> None:
        super().__init__(rng, max_effort=max_effort, enable_probation=enable_probation)
        self._rate = 1.0 / decay
        self._worst = 0.0
        self._worst_until = -1.0

    def pick(self, now: float) -> Node | None:
        nodes = self._candidates(now) if self._special else self._nodes
        n = len(nodes)
        if n < 2:
            return self._insist(nodes, now)
        x = self._random() * n
        i = int(x)
        j = int((x - i) * (n - 1))
        if j >= i:
            j += 1
        a = nodes[i]
        b = nodes[j]
        if a.blocked_until > now:
            if b.blocked_until > now:
                return self._insist(nodes, now)
            return b
        if b.blocked_until > now:
            return a
        load_a = a.cost * (a.pending + 1)
        load_b = b.cost * (b.pending + 1)
        if not load_a or not load_b:
            return a if self.load(a, now) <= self.load(b, now) else b
        # Both decay at one rate, so only the difference of their stamps matters: one exponential, never above
        # 1.
        age = (a.stamp - b.stamp) * self._rate
        if age > 0.0:
            return a if load_a <= load_b * exp(-age) else b
        return a if load_a * exp(age) <= load_b else b

    def finished(self, node: Node, now: float, latency: float | None, failed: bool) -> None:
        node.pending -= 1
        if latency is None:
            return
        if failed:
            latency = max(latency, 2.0 * self._largest_load(now), FAILURE_FLOOR)
        elapsed = now - node.stamp
        if elapsed > 0.0:
            node.stamp = now
        else:
            elapsed = 0.0
        kept = exp(-elapsed * self._rate)
        average = node.cost * kept
        if latency > average:
            node.cost = latency
            node.penalised = failed
        else:
            if elapsed > latency:
                kept = exp(-latency * self._rate)
            node.cost = average + latency * (1.0 - kept)
            if failed:
                node.penalised = True

    def abandoned(self, node: Node, now: float, elapsed: float) -> None:
        node.pending -= 1
        # A lower bound of a latency: it may raise the average, never lower it.
        if elapsed > node.cost * exp(min(0.0, node.stamp - now) * self._rate):
            node.cost = elapsed
            node.stamp = max(node.stamp, now)

    def load(self, node: Node, now: float) -> float:
        """What two nodes are compared by, in seconds: average as of now times (pending + 1)."""
        if node.cost:
            return node.cost * exp(min(0.0, node.stamp - now) * self._rate) * (node.pending + 1)
        return UNKNOWN_PENALTY + node.pending if node.pending else 0.0

    def _is_better(self, a: Node, b: Node, now: float) -> bool:
        return self.load(a, now) <= self.load(b, now)

    def _largest_load(self, now: float) -> float:
        if now >= self._worst_until:
            load = self.load
            self._worst = max(
                (load(node, now) for node in self._nodes if node.cost and not node.penalised), default=0.0
            )
            self._worst_until = now + WORST_REUSE * len(self._nodes)
        return self._worst
