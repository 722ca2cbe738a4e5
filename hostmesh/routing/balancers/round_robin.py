"""Round robin: the next open node in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hostmesh.routing.balancers.base import SCAN_MAX, BalancerBase

if TYPE_CHECKING:
    from random import Random

    from hostmesh.routing.node import Node


class RoundRobin:
    """Starts at a random place, so that many hosts do not begin with the same node, and goes on from where it was
    when the list changes. (Linkerd begins at the first node after every change, which favours it under churn.)"""

    def __init__(self, owner: BalancerBase, rng: Random, *, max_effort: int) -> None:
        self._owner = owner
        self._random = rng.random
        self._max_effort = max_effort
        self._nodes: Sequence[Node] = ()
        self._next: int | None = None

    def arrange(self, nodes: Sequence[Node], now: float) -> None:
        self._nodes = nodes
        if self._next is None:
            self._next = int(self._random() * len(nodes))

    def pick(self, now: float) -> Node | None:
        nodes = self._nodes
        n = len(nodes)
        if not n or self._next is None:
            return None
        start = self._next
        for offset in range(min(n, SCAN_MAX)):
            node = nodes[(start + offset) % n]
            if node.blocked_until <= now:
                self._next = (start + offset + 1) % n
                if offset >= self._max_effort:
                    self._owner.max_effort_exhausted += 1
                return node
        # Only by one: skipping all that were looked at would use the same few nodes whenever n divides their number.
        self._next = (start + 1) % n
        self._owner.max_effort_exhausted += 1
        self._owner.last_resort += 1
        return nodes[start % n]

    def started(self, node: Node, now: float) -> None:
        pass

    def released(self, node: Node, now: float) -> None:
        pass
