"""Balancers whose state is more than the load of single nodes: one strategy per weight class, under one roster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from hostmesh.routing.balancers.base import MAX_EFFORT, BalancerBase
from hostmesh.routing.balancers.held import HeldSlots
from hostmesh.routing.balancers.weighted import WeightClasses

if TYPE_CHECKING:
    from random import Random

    from hostmesh.routing.node import Node


class Strategy(Protocol):
    """Picks among the nodes of one weight. Counters are those of the balancer that owns it."""

    def arrange(self, nodes: Sequence[Node], now: float) -> None:
        """Take a new list of nodes; what is known of those that stay is kept."""
        ...

    def pick(self, now: float) -> Node | None: ...

    def started(self, node: Node, now: float) -> None:
        """``node.pending`` has gone up by one; the node is in the list."""
        ...

    def released(self, node: Node, now: float) -> None:
        """``node.pending`` has gone down by one; the node is in the list."""
        ...


class ByWeight(HeldSlots):
    """A strategy for each weight, made by ``make(balancer)``. With equal weights there is one."""

    def __init__(
        self,
        rng: Random,
        make: Callable[[BalancerBase], Strategy],
        *,
        max_effort: int = MAX_EFFORT,
        enable_probation: bool = False,
    ) -> None:
        super().__init__(rng, max_effort=max_effort, enable_probation=enable_probation)
        self._make = make
        self._classes: WeightClasses | None = None
        self._by_weight: dict[float, Strategy] = {}
        self._strategies: list[Strategy] = []
        self._of_node: dict[Node, Strategy] = {}

    @property
    def strategies(self) -> Sequence[Strategy]:
        """The strategies by ascending weight."""
        return self._strategies

    def pick(self, now: float) -> Node | None:
        if self._special:
            self._release_held(now)
        strategies = self._strategies
        if len(strategies) == 1:
            return strategies[0].pick(now)
        if self._classes is None:
            return None
        index, moved = self._classes.draw(self._random(), now)
        self.busy_weight_classes += moved
        return strategies[index].pick(now)

    def started(self, node: Node, now: float) -> None:
        node.pending += 1
        strategy = self._of_node.get(node)
        if strategy is not None:
            strategy.started(node, now)

    def _release(self, node: Node, now: float) -> None:
        node.pending -= 1
        strategy = self._of_node.get(node)
        # Without one it has left the roster since it was picked.
        if strategy is not None:
            strategy.released(node, now)

    def _arrange(self, now: float) -> None:
        if not self._nodes:
            self._classes = None
            self._by_weight, self._strategies, self._of_node = {}, [], {}
            return
        classes = self._classes = WeightClasses(self._nodes)
        if len(classes.weights) == 1 and len(self._by_weight) == 1:
            # One class before and after: its weight may have changed, what it has learnt has not.
            self._by_weight = {classes.weights[0]: next(iter(self._by_weight.values()))}
        else:
            self._by_weight = {
                weight: self._by_weight.get(weight) or self._make(self) for weight in classes.weights
            }
        self._strategies = list(self._by_weight.values())
        self._of_node = {}
        for strategy, group in zip(self._strategies, classes.groups, strict=True):
            strategy.arrange(group, now)
            self._of_node.update(dict.fromkeys(group, strategy))
