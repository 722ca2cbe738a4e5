"""Binding: following a path through dtab, namers and built-ins until only bound names are left.

Pure but for what it reads: run again whenever one of those Vars changes, it keeps a binding alive.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from attrs import frozen

from hostmesh.base.var import PENDING, Failed, Ok, Pending, Read, State, Var
from hostmesh.naming.bound import BoundLeaf, BoundName, BoundTree, BoundUnion, BoundWeighted
from hostmesh.naming.dtab import Dtab
from hostmesh.naming.namer import NAMER_ROOT, LookupTree, Namer
from hostmesh.naming.nametree import EMPTY, FAIL, NEG, Alt, Leaf, NameTree, Union, leaves
from hostmesh.naming.path import Path
from hostmesh.naming.transformer import System, Transformer

MAX_DEPTH: Final = 100
"""Delegations in a row, as in Linkerd. A dtab that people write needs five to ten."""

MAX_NODES: Final = 1000
"""Paths looked up for one binding: alternatives of alternatives multiply."""

MAX_WORK: Final = 20_000
"""Segments, dentries and tree nodes looked at for one binding. Paths may grow with each step and trees be
wide; this keeps the worst dtab that a request can carry to a few milliseconds.
"""

MAX_LEVELS: Final = 200
"""Path steps and parentheses together: the recursion here. A level takes three to seven frames, of the 1,000
that Python allows.
"""

SYSTEM_ROOT: Final = "$"

_OK_NEG: Final[State[BoundTree]] = Ok(NEG)
_OK_FAIL: Final[State[BoundTree]] = Ok(FAIL)
_OK_EMPTY: Final[State[BoundTree]] = Ok(EMPTY)


@frozen
class Mount:
    """A namer at its place."""

    prefix: Path
    """With the ``/#``."""
    namer: Namer
    transformers: tuple[Transformer, ...] = ()


def mount(namer: Namer, transformers: Iterable[Transformer] = ()) -> Mount:
    """The namer under ``/#``, with its own transformers in the order of its configuration."""
    return Mount(NAMER_ROOT + namer.prefix, namer, tuple(transformers))


class ExhaustedError(Exception):
    """A binding that needs more than MAX_NODES or MAX_WORK; the message says so for people."""


class Budget:
    """What one binding, or the explanation of one, may cost."""

    __slots__ = ("max_nodes", "nodes", "work")

    def __init__(self, max_nodes: int = MAX_NODES, max_work: int = MAX_WORK) -> None:
        self.max_nodes = max_nodes
        self.nodes = max_nodes
        self.work = max_work

    def spend(self, trail: Iterable[Path], path: Path) -> None:
        """Look ``path`` up; ExhaustedError if that is one too many, or if the work so far was too much."""
        self.nodes -= 1
        self.work -= len(path)
        if self.nodes < 0:
            raise ExhaustedError(f"more than {self.max_nodes} paths looked up: {loop_text(trail, path)}")
        if self.work < 0:
            raise ExhaustedError(f"paths too long or trees too wide: {loop_text(trail, path)}")


def bind(
    path: Path,
    dtab: Dtab,
    mounts: Sequence[Mount],
    system: System,
    read: Read,
    *,
    max_depth: int = MAX_DEPTH,
    max_nodes: int = MAX_NODES,
) -> State[BoundTree]:
    """What ``path`` is bound to now.

    ``mounts`` are in the order of the configuration: later ones are asked first. Failed if a namer is, and
    for loops and explosions, whose steps the cause shows.
    """
    binding = _Binding(dtab, mounts, system, read, max_depth, Budget(max_nodes))
    try:
        return binding.bind_path(path, 0)
    except ExhaustedError as error:
        return Failed(f"{path_text(path)}: {error}")


def first_of(states: Iterable[State[BoundTree]]) -> State[BoundTree]:
    """An Alt of these: the first that is not Neg, be it bound, Fail, Empty, pending or failed. Consumes no
    further.
    """
    for state in states:
        if not (isinstance(state, Ok) and state.value == NEG):
            return state
    return _OK_NEG


def split_of(weights: Sequence[float], states: Sequence[State[BoundTree]]) -> State[BoundTree]:
    """A Union of these.

    Neg and Fail are dropped, and pending and failed children are ignored as long as one child is ready, be it
    ready to say Neg: a split serves with the branches it knows.
    """
    bound: list[BoundWeighted] = []
    ready = False
    trouble: State[BoundTree] = PENDING
    for weight, state in zip(weights, states, strict=True):
        if isinstance(state, Ok):
            ready = True
            if state.value != NEG and state.value != FAIL:
                bound.append(BoundWeighted(weight, state.value))
        elif isinstance(state, Failed) and isinstance(trouble, Pending):
            trouble = state
    if states and not ready:
        return trouble
    if not bound:
        return _OK_NEG
    return Ok(bound[0].tree) if len(bound) == 1 else Ok(BoundUnion(tuple(bound)))


def transformed(state: State[BoundTree], transformers: Iterable[Transformer], read: Read) -> State[BoundTree]:
    """The state after each transformer in turn; one that is pending or failed ends it."""
    for transformer in transformers:
        if not isinstance(state, Ok):
            return state
        state = transformer.transform(state.value, read)
    return state


def all_bound(tree: LookupTree) -> bool:
    """Whether every leaf is a bound name: only then do a namer's own transformers run."""
    return all(isinstance(leaf, BoundName) for leaf in leaves(tree))


def loop_text(trail: Iterable[Path], path: Path) -> str:
    """The steps that led from ``path`` back to itself, or the last few of a trail that only grows."""
    steps = [*trail, path]
    start = steps.index(path)
    shown = steps[start:] if start < len(steps) - 1 else steps[-_SHOWN_STEPS:]
    return " -> ".join(map(path_text, shown))


def path_text(path: Path) -> str:
    """The path for a message: whole, unless it has grown beyond what anybody would read."""
    return (
        path.show()
        if len(path) <= _SHOWN_SEGMENTS
        else f"{path.take(_SHOWN_SEGMENTS).show()}/... ({len(path)} segments)"
    )


_SHOWN_STEPS: Final = 5
_SHOWN_SEGMENTS: Final = 12


class _Binding:
    """One evaluation: what it reads from, and how far it has gone."""

    __slots__ = ("budget", "dtab", "max_depth", "mounts", "read", "system", "trail")

    def __init__(
        self,
        dtab: Dtab,
        mounts: Sequence[Mount],
        system: System,
        read: Read,
        max_depth: int,
        budget: Budget,
    ) -> None:
        self.dtab = dtab
        self.mounts = mounts
        self.system = system
        self.read = read
        self.max_depth = max_depth
        self.budget = budget
        self.trail: dict[Path, None] = {}

    def bind_path(self, path: Path, level: int) -> State[BoundTree]:
        """A path leaf: dtab, then namers, then built-ins.

        Whether the next is asked depends on the tree as looked up, not on what it binds to.
        """
        trail = self.trail
        self.budget.spend(trail, path)
        if path in trail:
            # A path that leads to itself can end in nothing but the depth limit; say so at once.
            return Failed(f"the dtab loops: {loop_text(trail, path)}")
        if len(trail) > self.max_depth:
            return Failed(
                f"Max recursion level: {self.max_depth} reached in Namer lookup: {loop_text(trail, path)}"
            )
        trail[path] = None
        state = self._looked_up(path, level + 1)
        del trail[path]
        return state

    def _looked_up(self, path: Path, level: int) -> State[BoundTree]:
        found = self.dtab.matches(path)
        if found:
            self.budget.work -= len(found)
            # As Dtab.lookup says it, but what no prefix takes of the path is appended only where binding
            # comes by.
            if len(found) > 1:
                return first_of(
                    self.bind_tree(each.dst, path[len(each.prefix.elements) :], level + 1) for each in found
                )
            only = found[0]
            if only.dst != NEG:
                return self.bind_tree(only.dst, path[len(only.prefix.elements) :], level)
        if path and path[0] == NAMER_ROOT[0]:
            for place in reversed(self.mounts):
                if path.startswith(place.prefix):
                    state = self._named(place, path, level)
                    if state is not None:
                        return state
        elif path and path[0] == SYSTEM_ROOT:
            answer = self.system.lookup(path)
            if isinstance(answer, Var):
                answer = self.read(answer)
            return self.bind_tree(answer.value, (), level) if isinstance(answer, Ok) else answer
        return _OK_NEG

    def _named(self, place: Mount, path: Path, level: int) -> State[BoundTree] | None:
        """What the namer says, or None if that is Neg and the next is to be asked."""
        found = self.read(place.namer.lookup(path.drop(len(place.prefix))))
        if not isinstance(found, Ok):
            return found
        tree = found.value
        if place.transformers and all_bound(tree):
            state = transformed(self.bind_tree(tree, (), level), place.transformers, self.read)
            return None if isinstance(state, Ok) and state.value == NEG else state
        return None if tree == NEG else self.bind_tree(tree, (), level)

    def bind_tree(
        self, tree: LookupTree | NameTree[Path], rest: tuple[str, ...], level: int
    ) -> State[BoundTree]:
        """A tree to whose paths ``rest`` is to be appended."""
        if isinstance(tree, Leaf):
            value = tree.value
            if isinstance(value, BoundName):
                return Ok(BoundLeaf(value))
            return self.bind_path(value + rest, level)
        self.budget.work -= 1
        if level > MAX_LEVELS:
            return Failed(
                f"names nest deeper than {MAX_LEVELS} levels: {loop_text((), next(reversed(self.trail)))}"
            )
        if isinstance(tree, Alt):
            return first_of(self.bind_tree(each, rest, level + 1) for each in tree.trees)
        if isinstance(tree, Union):
            states = [self.bind_tree(each.tree, rest, level + 1) for each in tree.branches]
            return split_of([each.weight for each in tree.branches], states)
        if tree == NEG:
            return _OK_NEG
        return _OK_FAIL if tree == FAIL else _OK_EMPTY
