"""The balancer seam, and the shell that all balancers share: the roster of nodes, probation, last resort,
counters."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from random import Random

    from hostmesh.routing.balancers.p2c import P2c
    from hostmesh.routing.node import Node

    AnyBalancer: TypeAlias = "P2c | Balancer"
    """A balancer. Compiled code calls the default directly, and the others through the interpreter."""

MAX_EFFORT = 5
"""Picks that may land on blocked nodes before the last resort; Linkerd's default. With an unhealthy fraction
f, two choices fail m times in a row with probability f^(2m): 0.1 % for f = 0.5 and m = 5."""

SCAN_MAX = 128
"""Nodes looked at, from a random place, once the effort is exhausted. Bounds a pick to some 5 microseconds
when nearly all of 40,000 nodes are ejected; below that size a single healthy node is always found."""


class Balancer(Protocol):
    """Picks a node for each attempt and is told how the attempt went.

    It never refuses: when every node is blocked it picks one anyway and counts ``last_resort``. It owns no
    socket: nodes that ``update`` and ``sweep`` return are out of rotation for good, and the caller closes
    them. Times are seconds on one monotonic clock. Counters are plain ints for the metrics tree to read.
    """

    max_effort_exhausted: int
    """Picks that met only blocked nodes in ``max_effort`` draws."""
    last_resort: int
    """Picks that returned a blocked node because there was no other."""
    rebuilds: int
    adds: int
    removes: int
    busy_weight_classes: int
    """Draws of a weight class that had no open node and were moved to another class."""

    def update(self, nodes: Sequence[Node], now: float) -> tuple[Node, ...]:
        """Take a new list of nodes (the same object for the same endpoint); return those out of use since."""
        ...

    def sweep(self, now: float) -> tuple[Node, ...]:
        """Once a second, if ``enableProbation``: let go of removed nodes that are no longer open; return
        them."""
        ...

    def pick(self, now: float) -> Node | None:
        """The node for one attempt, or None when there is no node at all. Call ``started`` when it is
        used."""
        ...

    def started(self, node: Node, now: float) -> None:
        """An attempt begins: before connecting."""
        ...

    def finished(self, node: Node, now: float, latency: float | None, failed: bool) -> None:
        """The attempt is over: exactly once per ``started``.

        ``latency`` is seconds from dispatch to the response head, or to the failure; None when the attempt
        says nothing about the endpoint (the caller left): then only the slot is given back.
        """
        ...

    def abandoned(self, node: Node, now: float, elapsed: float) -> None:
        """The attempt was given up after ``elapsed`` seconds, not for the node's fault: instead of ``finished``.

        Nobody knows how long it would have taken, only that it took longer than that.
        """
        ...

    @property
    def nodes(self) -> Sequence[Node]:
        """The nodes in rotation, those on probation included."""
        ...

    @property
    def size(self) -> int: ...

    def available(self, now: float) -> int:
        """How many nodes are open."""
        ...


class BalancerBase:
    """Keeps the roster. A kind adds ``pick``, ``started``, ``finished`` and ``_arrange``."""

    def __init__(self, rng: Random, *, max_effort: int = MAX_EFFORT, enable_probation: bool = False) -> None:
        self._random = rng.random
        self._max_effort = max_effort
        self._enable_probation = enable_probation
        self._nodes: list[Node] = []
        self._weights: list[float] = []
        self._leaving: set[Node] = set()
        self.max_effort_exhausted = 0
        self.last_resort = 0
        self.rebuilds = 0
        self.adds = 0
        self.removes = 0
        self.busy_weight_classes = 0

    @property
    def nodes(self) -> Sequence[Node]:
        return self._nodes

    @property
    def size(self) -> int:
        return len(self._nodes)

    def available(self, now: float) -> int:
        return sum(node.blocked_until <= now for node in self._nodes)

    def update(self, nodes: Sequence[Node], now: float) -> tuple[Node, ...]:
        listed = set(nodes)
        gone = [node for node in self._nodes if node not in listed]
        kept: list[Node] = []
        if self._enable_probation:
            # A removal is advice: an endpoint that still serves well outlives a registry that lost it.
            kept = [node for node in gone if node.blocked_until <= now]
        self._leaving = set(kept)
        added = len(nodes) + len(gone) - len(self._nodes)
        dropped = tuple(node for node in gone if node not in self._leaving)
        self.adds += added
        self._change([*nodes, *kept], added > 0, dropped, now)
        return dropped

    def sweep(self, now: float) -> tuple[Node, ...]:
        dropped = tuple(node for node in self._leaving if node.blocked_until > now)
        if dropped:
            self._leaving.difference_update(dropped)
            self._change([node for node in self._nodes if node not in dropped], False, dropped, now)
        return dropped

    def _change(self, nodes: list[Node], grown: bool, dropped: tuple[Node, ...], now: float) -> None:
        self.removes += len(dropped)
        # The same nodes in another order are no change: a registry may list them as it likes. Weights are
        # written into the nodes, so they are compared with those that the last arrangement saw.
        if grown or dropped or self._weights != [node.weight for node in self._nodes]:
            self._nodes = nodes
            self._weights = [node.weight for node in nodes]
            self.rebuilds += 1
            self._arrange(now)

    def _arrange(self, now: float) -> None:
        """Build what picking needs from ``_nodes``; load and sizes of nodes that stay are kept."""

    def _find_open(self, nodes: Sequence[Node], now: float) -> Node | None:
        """An open node among at most SCAN_MAX from a random place, or None."""
        n = len(nodes)
        start = int(self._random() * n)
        for offset in range(min(n, SCAN_MAX)):
            node = nodes[(start + offset) % n]
            if node.blocked_until <= now:
                return node
        return None


def pick_untried(
    balancer: Balancer, now: float, tried: Container[Node], attempts: int = MAX_EFFORT
) -> Node | None:
    """A node for a retry: draws up to ``attempts`` times (at least once) for one that is not in ``tried``;
    the last draw wins. With one endpoint left a retry goes there again."""
    node = balancer.pick(now)
    for _ in range(attempts - 1):
        if node is None or node not in tried:
            break
        node = balancer.pick(now)
    return node
