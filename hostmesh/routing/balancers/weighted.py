"""Weighted endpoints: nodes of one weight form a class, and a class is drawn before a node is picked in
it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hostmesh.routing.draw import WeightedDraw

if TYPE_CHECKING:
    from hostmesh.routing.node import Node


class WeightClasses:
    """Classes by ascending weight, drawn with a probability in proportion to weight times size.

    Splitting by class keeps load comparable inside a class: a node of weight 4 should carry four times the
    load, so comparing its load with that of a node of weight 1 would undo the weight.
    """

    __slots__ = ("_draw", "groups", "weights")

    def __init__(self, nodes: Sequence[Node]) -> None:
        by_weight: dict[float, list[Node]] = {}
        for node in nodes:
            by_weight.setdefault(node.weight, []).append(node)
        self.weights = sorted(by_weight)
        self.groups = [by_weight[weight] for weight in self.weights]
        self._draw = WeightedDraw(
            [w * len(group) for w, group in zip(self.weights, self.groups, strict=True)]
        )

    def draw(self, u: float, now: float) -> tuple[int, bool]:
        """(index of a class, whether it stands in for one without an open node); ``u`` is uniform in [0, 1).

        The stand-in is the first open class upwards from the drawn one, cyclically. Weight 0 never stands in:
        it means "no traffic".
        """
        drawn = self._draw.draw(u)
        if is_any_open(self.groups[drawn], now):
            return drawn, False
        n = len(self.groups)
        for offset in range(1, n):
            index = (drawn + offset) % n
            if self.weights[index] > 0 and is_any_open(self.groups[index], now):
                return index, True
        return drawn, False


def is_any_open(nodes: Sequence[Node], now: float) -> bool:
    """Whether some node is open; ends at the first."""
    # A loop, not any(): this runs for every request of a weighted set, and the first node is nearly always
    # open.
    for node in nodes:  # noqa: SIM110
        if node.blocked_until <= now:
            return True
    return False
