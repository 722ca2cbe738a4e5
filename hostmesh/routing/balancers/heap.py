"""Least loaded of all nodes, exactly: Linkerd's ``heap``.

Not a heap: load moves by one at a time, so nodes lie in one list per number of outstanding requests, and the lowest
list that is not empty has them all. A pick costs the same for 10 nodes and for 10,000, ties are drawn uniformly,
and no node has to know its place in a tree.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hostmesh.routing.balancers.base import SCAN_MAX, BalancerBase

if TYPE_CHECKING:
    from random import Random

    from hostmesh.routing.node import Node


class LeastLoaded:
    """``_levels[k]`` lists the nodes with k outstanding requests; blocked nodes are in ``_down`` once a pick met
    them.

    ``_down`` is looked through at each pick, at most SCAN_MAX nodes in turn, for nodes that are open again.
    """

    def __init__(self, owner: BalancerBase, rng: Random) -> None:
        self._owner = owner
        self._random = rng.random
        self._levels: list[list[Node]] = [[]]
        self._place: dict[Node, int] = {}
        self._load: dict[Node, int] = {}
        self._down: deque[Node] = deque()
        self._lowest = 0

    def arrange(self, nodes: Sequence[Node], now: float) -> None:
        self._levels = [[]]
        self._place = {}
        self._load = {node: node.pending for node in nodes}
        self._down = deque()
        for node in nodes:
            self._insert(node)
        self._lowest = 0

    def pick(self, now: float) -> Node | None:
        down = self._down
        for _ in range(min(len(down), SCAN_MAX)):
            node = down.popleft()
            if node.blocked_until <= now:
                self._insert(node)
            else:
                down.append(node)
        levels = self._levels
        while True:
            while self._lowest < len(levels) and not levels[self._lowest]:
                self._lowest += 1
            if self._lowest == len(levels):
                return self._last_resort()
            level = levels[self._lowest]
            node = level[int(self._random() * len(level))]
            if node.blocked_until <= now:
                return node
            self._remove(node)
            down.append(node)

    def started(self, node: Node, now: float) -> None:
        self._move(node, 1)

    def released(self, node: Node, now: float) -> None:
        self._move(node, -1)

    def _last_resort(self) -> Node | None:
        """Everything is down: the least loaded of those that come first."""
        if not self._down:
            return None
        self._owner.last_resort += 1
        candidates = [self._down[index] for index in range(min(len(self._down), SCAN_MAX))]
        return min(candidates, key=self._load.__getitem__)

    def _move(self, node: Node, step: int) -> None:
        if node in self._place:
            self._remove(node)
            self._load[node] += step
            self._insert(node)
        else:
            self._load[node] += step

    def _insert(self, node: Node) -> None:
        load = self._load[node]
        levels = self._levels
        while len(levels) <= load:
            levels.append([])
        level = levels[load]
        self._place[node] = len(level)
        level.append(node)
        self._lowest = min(self._lowest, load)

    def _remove(self, node: Node) -> None:
        level = self._levels[self._load[node]]
        place = self._place.pop(node)
        last = level.pop()
        if last is not node:
            level[place] = last
            self._place[last] = place
