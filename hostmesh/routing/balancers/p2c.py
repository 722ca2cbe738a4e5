"""Power of two choices over the number of outstanding requests: Linkerd's ``p2c``, the default balancer.

M. Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, IEEE TPDS 12(10), 2001.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hostmesh.routing.balancers.base import MAX_EFFORT
from hostmesh.routing.balancers.held import HeldSlots
from hostmesh.routing.balancers.weighted import WeightClasses

if TYPE_CHECKING:
    from random import Random

    from hostmesh.routing.node import Node


class P2c(HeldSlots):
    """Draws two distinct nodes; an open one beats a blocked one, then fewer outstanding requests, then the
    first.

    One random number makes both draws: the integer part of ``random() * n`` is the first index, and its
    fraction, uniform and independent, gives the second. (n up to 2**20 leaves it 32 bits.)
    """

    def __init__(self, rng: Random, *, max_effort: int = MAX_EFFORT, enable_probation: bool = False) -> None:
        super().__init__(rng, max_effort=max_effort, enable_probation=enable_probation)
        self._classes: WeightClasses | None = None

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
        if a.blocked_until <= now:
            if a.pending <= b.pending or b.blocked_until > now:
                return a
            return b
        if b.blocked_until <= now:
            return b
        return self._insist(nodes, now)

    def started(self, node: Node, now: float) -> None:
        node.pending += 1

    def finished(self, node: Node, now: float, latency: float | None, failed: bool) -> None:
        if failed:
            super().finished(node, now, latency, failed)
        else:
            node.pending -= 1

    def _arrange(self, now: float) -> None:
        # The load of a node is in the node, so a class is nothing but a list to draw from.
        self._classes = WeightClasses(self._nodes) if len(set(self._weights)) > 1 else None
        self._special = bool(self._held) or self._classes is not None

    def _candidates(self, now: float) -> Sequence[Node]:
        """The nodes to pick from when slots are held or weights differ."""
        self._release_held(now)
        if self._classes is None:
            return self._nodes
        self._special = True
        index, moved = self._classes.draw(self._random(), now)
        self.busy_weight_classes += moved
        return self._classes.groups[index]

    def _insist(self, nodes: Sequence[Node], now: float) -> Node | None:
        """What follows a first draw that met only blocked nodes."""
        n = len(nodes)
        if n < 2:
            if not n:
                return None
            if nodes[0].blocked_until > now:
                self.max_effort_exhausted += 1
                self.last_resort += 1
            return nodes[0]
        for _ in range(self._max_effort - 1):
            node = self._draw(nodes, now)
            if node.blocked_until <= now:
                return node
        self.max_effort_exhausted += 1
        found = self._find_open(nodes, now)
        if found is not None:
            return found
        self.last_resort += 1
        return self._draw(nodes, now)

    def _draw(self, nodes: Sequence[Node], now: float) -> Node:
        """One P2C draw, as ``pick`` has it inline."""
        n = len(nodes)
        x = self._random() * n
        i = int(x)
        j = int((x - i) * (n - 1))
        if j >= i:
            j += 1
        a = nodes[i]
        b = nodes[j]
        if (a.blocked_until <= now) != (b.blocked_until <= now):
            return a if a.blocked_until <= now else b
        return a if self._is_better(a, b, now) else b

    def _is_better(self, a: Node, b: Node, now: float) -> bool:
        return a.pending <= b.pending
