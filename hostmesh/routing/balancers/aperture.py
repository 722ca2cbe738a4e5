"""Aperture: two choices among the few endpoints that the load needs, so that the others get no connections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hostmesh.base.ewma import Ema
from hostmesh.routing.balancers.base import BalancerBase

if TYPE_CHECKING:
    from random import Random

    from hostmesh.routing.node import Node

SMOOTH = 5.0
"""Seconds over which the load is averaged; Linkerd's ``smoothWindowMs`` default."""

LOW_LOAD = 0.5
"""Outstanding requests per endpoint at or below which the aperture narrows; Linkerd's default."""

HIGH_LOAD = 2.0
"""Outstanding requests per endpoint at or above which it widens; Linkerd's default."""

MIN_APERTURE = 1
"""Endpoints that are always used; Linkerd's default."""

PEEK = 16
"""Blocked nodes looked at per pick, in turn, for one that is open again and so changes the order."""


class Aperture:
    """P2C over the first ``logical`` nodes in an order that is random for each host.

    Every node has a random token for life; open nodes come before blocked ones, and by token. At each start and end
    of a request the smoothed number of outstanding requests per node of the aperture is compared with the band, and
    the aperture changes by at most one. It outlives changes of the list. (Linkerd begins again with one node.)
    """

    def __init__(
        self,
        owner: BalancerBase,
        rng: Random,
        *,
        max_effort: int,
        smooth: float = SMOOTH,
        low: float = LOW_LOAD,
        high: float = HIGH_LOAD,
        min_aperture: int = MIN_APERTURE,
    ) -> None:
        self._owner = owner
        self._random = rng.random
        self._max_effort = max_effort
        self._low = low
        self._high = high
        self._min = min_aperture
        self._ema = Ema(smooth)
        self._total = 0
        self._tokens: dict[Node, float] = {}
        self._order: list[Node] = []
        self._blocked: list[Node] = []
        self._peeked = 0
        self.logical = min_aperture
        """Nodes in use."""

    def arrange(self, nodes: Sequence[Node], now: float) -> None:
        old = self._tokens
        self._tokens = {node: old[node] if node in old else self._random() for node in nodes}
        self._total = sum(node.pending for node in nodes)
        self._sort(now)

    def pick(self, now: float) -> Node | None:
        if self._blocked and self._is_revived(now):
            self._resort(now)
        if not self._order:
            return None
        for _ in range(self._max_effort):
            node = self._draw(now)
            if node.blocked_until <= now:
                return node
        self._owner.max_effort_exhausted += 1
        self._resort(now)
        node = self._draw(now)
        if node.blocked_until > now:
            self._owner.last_resort += 1
        return node

    def started(self, node: Node, now: float) -> None:
        self._total += 1
        self._adjust(now)

    def released(self, node: Node, now: float) -> None:
        self._total -= 1
        self._adjust(now)

    def _adjust(self, now: float) -> None:
        average = self._ema.update(now, self._total) / self.logical
        if average >= self._high:
            if self.logical < len(self._order):
                self.logical += 1
        elif average <= self._low and self.logical > self._min:
            self.logical -= 1

    def _sort(self, now: float) -> None:
        by_token = sorted(self._tokens, key=self._tokens.__getitem__)
        self._blocked = [node for node in by_token if node.blocked_until > now]
        self._order = [node for node in by_token if node.blocked_until <= now] + self._blocked
        self.logical = min(max(self.logical, self._min), max(1, len(self._order)))

    def _is_revived(self, now: float) -> bool:
        blocked = self._blocked
        n = len(blocked)
        for _ in range(min(n, PEEK)):
            self._peeked = (self._peeked + 1) % n
            if blocked[self._peeked].blocked_until <= now:
                return True
        return False

    def _resort(self, now: float) -> None:
        self._owner.rebuilds += 1
        self._sort(now)

    def _draw(self, now: float) -> Node:
        order = self._order
        n = self.logical
        if n < 2:
            return order[0]
        x = self._random() * n
        i = int(x)
        j = int((x - i) * (n - 1))
        if j >= i:
            j += 1
        a = order[i]
        b = order[j]
        if (a.blocked_until <= now) != (b.blocked_until <= now):
            return a if a.blocked_until <= now else b
        return a if a.pending <= b.pending else b
