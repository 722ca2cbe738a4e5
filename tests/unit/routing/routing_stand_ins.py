"""What routing tests stand on: nodes without a pool, and a generator that says what it is told to."""

from __future__ import annotations

from random import Random

from hostmesh.naming.addr import Endpoint
from hostmesh.routing.node import Node


def make_node(name: int = 1, *, weight: float = 1.0, pending: int = 0, blocked_until: float = 0.0) -> Node:
    node = Node(Endpoint(f"10.0.0.{name}", 80, weight=weight))
    node.pending = pending
    node.blocked_until = blocked_until
    return node


def make_nodes(count: int, *, weight: float = 1.0) -> list[Node]:
    return [make_node(1 + index, weight=weight) for index in range(count)]


class ScriptedRandom(Random):
    """``random()`` returns the given values in order, then the last for ever."""

    def __init__(self, *values: float) -> None:
        super().__init__(0)
        self.values = list(values)
        self.draws = 0

    def random(self) -> float:
        self.draws += 1
        return self.values.pop(0) if len(self.values) > 1 else self.values[0]


def pair(n: int, first: int, second: int) -> float:
    """The ``random()`` value whose two draws among ``n`` nodes are randrange(n) = first, randrange(n-1) =
    second."""
    return (first + (second + 0.5) / (n - 1)) / n
