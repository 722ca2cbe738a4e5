"""The metrics tree: counters, gauges and stats under names, always on.

The data path resolves what it counts once, when a stack is built, and from then on touches plain attributes:
``requests.value += 1``, ``latency.add(us)``. Everything that costs time (windows, percentiles, text) happens
at the minute tick or when somebody reads. One thread owns the tree.

A name is a tuple of nodes, and a node's own name may contain ``/`` (``svc/web``, ``127.0.0.1/4140``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final, TypeAlias

from hostmesh.telemetry.stat import Stat
from hostmesh.telemetry.tally import Tally

MAX_CHILDREN: Final = 2000
"""Names under one node. Twice the default of ``bindingCache``, because evicted names are pruned: whoever gets
here makes up names faster than they expire, and all further ones share :data:`OVERFLOW` instead of the
memory."""

OVERFLOW: Final = "overflow"
"""The node that stands for every name over :data:`MAX_CHILDREN`."""


class Counter:
    """A number that only grows: ``counter.value += 1``."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def __repr__(self) -> str:
        return f"Counter({self.value})"


class CounterOf(Counter):
    """A counter that somebody else keeps: read through a function, exported as any counter."""

    __slots__ = ("_last", "fn")

    def __init__(self, fn: Callable[[], int]) -> None:
        self.fn = fn
        self._last = 0

    @property
    def value(self) -> int:  # type: ignore[override]
        """The number now; the last known one when the function fails, since a counter must not fall."""
        with suppress(Exception):
            self._last = int(self.fn())
        return self._last


class Gauge:
    """A number that is asked for when somebody reads it."""

    __slots__ = ("fn",)

    def __init__(self, fn: Callable[[], float]) -> None:
        self.fn = fn

    def read(self) -> float | None:
        """The number now; None when the function fails, since one broken gauge must not cost the whole
        answer."""
        try:
            return float(self.fn())
        except Exception:  # noqa: BLE001 - the function is anybody's
            return None

    def __repr__(self) -> str:
        return f"Gauge({self.read()})"


Metric: TypeAlias = Counter | Gauge | Stat


class Scope:
    """A node of the tree: perhaps a metric of its own, and named children.

    Asking twice for a metric gives the same object; asking for another kind under a name that is taken is a
    mistake of the program and raises TypeError.
    """

    __slots__ = ("_tally", "children", "metric")

    def __init__(self) -> None:
        self.metric: Metric | None = None
        self.children: dict[str, Scope] = {}
        self._tally: Tally | None = None

    def scope(self, *names: str) -> Scope:
        """The node below, made if need be; each argument is one node, whatever characters it has."""
        node = self
        for name in names:
            child = node.children.get(name)
            if child is None:
                if len(node.children) >= MAX_CHILDREN:
                    name = OVERFLOW
                child = node.children.setdefault(name, Scope())
            node = child
        return node

    def counter(self, *names: str) -> Counter:
        """The counter of that name below this node."""
        node = self.scope(*names)
        if node.metric is None:
            node.metric = Counter()
        if not isinstance(node.metric, Counter):
            raise TypeError(f"{'/'.join(names)} is a {type(node.metric).__name__}, not a Counter")
        return node.metric

    def stat(self, *names: str, scale: int = 1) -> Stat:
        """The stat of that name below this node; ``scale`` counts when it is new."""
        node = self.scope(*names)
        if node.metric is None:
            node.metric = Stat(scale)
        if not isinstance(node.metric, Stat):
            raise TypeError(f"{'/'.join(names)} is a {type(node.metric).__name__}, not a Stat")
        return node.metric

    def tally(self) -> Tally:
        """What counts the requests of this node."""
        if self._tally is None:
            self._tally = Tally(self)
        return self._tally

    def gauge(self, name: str, fn: Callable[[], float]) -> Gauge:
        """The gauge of that name below this node, asking ``fn`` from now on.

        The last one wins: after a reload the gauge belongs to the stack that serves.
        """
        node = self.scope(name)
        if node.metric is None:
            node.metric = Gauge(fn)
        if not isinstance(node.metric, Gauge):
            raise TypeError(f"{name} is a {type(node.metric).__name__}, not a Gauge")
        node.metric.fn = fn
        return node.metric

    def counter_of(self, name: str, fn: Callable[[], int]) -> CounterOf:
        """The counter of that name below this node, whose value ``fn`` knows; the last function wins, as for
        gauges.

        For numbers that pure code keeps as plain attributes (a balancer's rebuilds): a gauge would show the
        same value, but exporters treat counters differently, and ``rate()`` only makes sense of those.
        """
        node = self.scope(name)
        if node.metric is None:
            node.metric = CounterOf(fn)
        if not isinstance(node.metric, CounterOf):
            raise TypeError(f"{name} is a {type(node.metric).__name__}, not a CounterOf")
        node.metric.fn = fn
        return node.metric

    def adopt(self, name: str, node: Scope) -> None:
        """Show ``node``, which was made apart from the tree, under ``name``; one that is there is taken apart.

        There is no bound: whoever makes such nodes has one.
        """
        self.prune(name)
        self.children[name] = node

    def prune(self, name: str) -> None:
        """Forget the child and all below it; no such child is no mistake.

        Whoever still holds one of its counters counts into the void, so prune when the stack is closed. The nodes
        are taken apart: the functions of gauges refer to the stack and the stack to its nodes, and a flood of made-up
        names would leave such rings by the thousand for the collector.
        """
        gone = self.children.pop(name, None)
        if gone is not None:
            gone.take_apart()

    def take_apart(self) -> None:
        """Let go of all that is in it, see :meth:`prune`."""
        children, self.children = self.children, {}
        self.metric = None
        self._tally = None
        for child in children.values():
            child.take_apart()

    def walk(self, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Scope]]:
        """This node and all below it, parents first, children by name, with their paths.

        The tree may change between two steps: a node that is added or pruned meanwhile may or may not be
        seen.
        """
        yield path, self
        for name in sorted(self.children):
            child = self.children.get(name)
            if child is not None:
                yield from child.walk((*path, name))

    def __repr__(self) -> str:
        return f"Scope({self.metric!r}, children={len(self.children)})"


class MetricsTree(Scope):
    """The root. The daemon calls the tick once a minute."""

    __slots__ = ()

    def tick_steps(self, batch: int = 100) -> Iterator[None]:
        """End the minute for every stat, pausing after each ``batch`` nodes so that the caller can let others
        run."""
        for done, (_path, node) in enumerate(self.walk(), 1):
            if isinstance(node.metric, Stat):
                node.metric.tick()
            if done % batch == 0:
                yield

    def tick_minute(self) -> None:
        """End the minute for every stat at once."""
        for _pause in self.tick_steps():
            pass

    def find(self, query: str) -> Scope | None:
        """The node at ``a/b/c``, split at every slash: nodes whose own name has one cannot be reached, as in
        Linkerd."""
        node: Scope | None = self
        for name in query.split("/"):
            if node is None:
                return None
            if name:
                node = node.children.get(name)
        return node
