"""Delegation trees: why a path is bound to what it is, with every alternative that was or was not taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, TypeAlias, TypeVar

from attrs import evolve, field, frozen

from hostmesh.base.var import PENDING, Failed, Ok, Pending, Read, State, Var
from hostmesh.naming import nametree
from hostmesh.naming.addr import Addr, AddrBound, AddrFailed, AddrNeg, AddrPending
from hostmesh.naming.bind import (
    MAX_DEPTH,
    MAX_LEVELS,
    SYSTEM_ROOT,
    Budget,
    ExhaustedError,
    Mount,
    all_bound,
    bind,
    first_of,
    loop_text,
    split_of,
    transformed,
)
from hostmesh.naming.bound import BoundLeaf, BoundName, BoundTree, bound_names
from hostmesh.naming.delegate_text import render_lines
from hostmesh.naming.dtab import Dentry, Dtab
from hostmesh.naming.namer import NAMER_ROOT, LookupTree
from hostmesh.naming.nametree import EMPTY, FAIL, NEG, Alt, Leaf, NameTree, Union
from hostmesh.naming.path import Path
from hostmesh.naming.transformer import System, Transformer

U = TypeVar("U")

Kind: TypeAlias = Literal[
    "empty", "fail", "neg", "exception", "delegate", "leaf", "alt", "union", "transformation"
]


@frozen(kw_only=True)
class DelegateTree:
    """One step and what follows from it. ``json()`` is for the admin API, ``render()`` for people."""

    type: Kind
    path: Path
    """The path at this step."""
    state: State[BoundTree]
    """What this step binds to, by the rules of binding."""
    dentry: Dentry | None = None
    """The rule that led here, if one did."""
    delegate: DelegateTree | None = None
    """``delegate``: the next step. ``transformation``: what was transformed."""
    alternatives: tuple[DelegateTree, ...] = ()
    """``alt``: the children in order. ``union``: the branches."""
    weights: tuple[float, ...] = ()
    """``union``: one for each branch."""
    bound: BoundName | None = None
    """``leaf``, ``transformation``."""
    addr: Addr | None = field(default=None)
    """The address of ``bound`` when the tree was made."""
    message: str = ""
    """``exception``: what is wrong, or that an answer is not there yet."""
    name: str = ""
    """``transformation``: the transformer's prefix."""

    @property
    def pending(self) -> bool:
        """Whether some step or address is not known yet: asked later, the tree may be another."""
        return any(
            (each.type == "exception" and isinstance(each.state, Pending))
            or isinstance(each.addr, AddrPending)
            for each in self.walk()
        )

    def walk(self) -> Iterator[DelegateTree]:
        """This step and all below, parents first."""
        yield self
        if self.delegate is not None:
            yield from self.delegate.walk()
        for each in self.alternatives:
            yield from each.walk()

    def json(self) -> dict[str, Any]:
        """The node as Linkerd's ``/delegator.json`` has it; absent fields are left out."""
        node: dict[str, Any] = {"type": self.type, "path": "!" if self.type == "fail" else self.path.show()}
        if self.type == "neg" and not self.path:
            node["path"] = "~"
        if self.dentry is not None:
            node["dentry"] = {
                "prefix": self.dentry.prefix.show(),
                "dst": nametree.show(self.dentry.dst, Path.show),
            }
        if self.type == "delegate" and self.delegate is not None:
            node["delegate"] = self.delegate.json()
        if self.type == "alt":
            node["alt"] = [each.json() for each in self.alternatives]
        if self.type == "union":
            branches = zip(self.weights, self.alternatives, strict=True)
            node["union"] = [{"weight": weight, "tree": each.json()} for weight, each in branches]
        if self.type == "exception":
            node["message"] = self.message
        if self.bound is not None:
            node["bound"] = {
                "addr": addr_json(self.addr),
                "id": self.bound.id.show(),
                "path": self.bound.residual.show(),
            }
        if self.type == "transformation" and self.delegate is not None:
            node["name"] = self.name
            node["tree"] = self.delegate.json()
        return node

    def render(self) -> list[str]:
        """Lines for a terminal: one step a line, indented; ``*`` marks the steps that requests take."""
        return render_lines(self)


def addr_json(addr: Addr | None) -> dict[str, Any]:
    """An address as the admin API shows it."""
    match addr:
        case AddrBound(endpoints):
            shown = [
                {
                    "ip": each.host,
                    "port": each.port,
                    "meta": {"endpoint_addr_weight": each.weight, **dict(each.meta)},
                }
                for each in endpoints
            ]
            return {"type": "bound", "addrs": shown, "meta": {}}
        case AddrNeg():
            return {"type": "neg"}
        case AddrFailed(cause):
            return {"type": "failed", "cause": cause}
        case _:
            return {"type": "pending"}


def delegate(
    path: Path,
    dtab: Dtab,
    mounts: Sequence[Mount],
    system: System,
    read: Read,
    transformers: Sequence[Transformer] = (),
) -> DelegateTree:
    """Every step from ``path``, whether binding takes it or not; ``transformers`` are the interpreter's.

    Bounded as binding is: what goes beyond is an exception node.
    """
    exploration = _Exploration(dtab, mounts, system, read)
    tree = exploration.at_path(path, None, 0)
    for transformer in transformers:
        tree = exploration.transformed(tree, transformer)
    if exploration.exhausted is not None:
        # The part that was explored does not tell: binding passes over what exploring went into, or gives up, too.
        tree = evolve(tree, state=transformed(bind(path, dtab, mounts, system, read), transformers, read))
    return tree


class _Exploration:
    """One exploration: the same recursion as binding, in which nothing is skipped."""

    __slots__ = ("budget", "dtab", "exhausted", "mounts", "read", "system", "trail")

    def __init__(self, dtab: Dtab, mounts: Sequence[Mount], system: System, read: Read) -> None:
        self.dtab = dtab
        self.mounts = mounts
        self.system = system
        self.read = read
        self.budget = Budget()
        self.exhausted: str | None = None
        """Why exploring has stopped; alternatives from here on are left out."""
        self.trail: dict[Path, None] = {}

    def at_path(self, path: Path, dentry: Dentry | None, level: int) -> DelegateTree:
        """The node of a path that came from ``dentry``."""
        trail = self.trail
        try:
            self.budget.spend(trail, path)
        except ExhaustedError as error:
            self.exhausted = str(error)
            return _exception(path, dentry, Failed(self.exhausted))
        if path in trail:
            return _exception(path, dentry, Failed(f"the dtab loops: {loop_text(trail, path)}"))
        if len(trail) > MAX_DEPTH:
            cause = f"Max recursion level: {MAX_DEPTH} reached in Namer lookup: {loop_text(trail, path)}"
            return _exception(path, dentry, Failed(cause))
        trail[path] = None
        child = self._looked_up(path, level + 1)
        del trail[path]
        if child.dentry is None and child.path == path and child.type not in ("alt", "union", "delegate"):
            return evolve(child, dentry=dentry)
        return DelegateTree(type="delegate", path=path, dentry=dentry, delegate=child, state=child.state)

    def _looked_up(self, path: Path, level: int) -> DelegateTree:
        found = self.dtab.matches(path)
        self.budget.work -= len(found)
        deeper = level + (len(found) > 1)
        ways = self._each(
            lambda each: self.tree(path, each.dst, each, path[len(each.prefix) :], deeper), found
        )
        if len(ways) > 1:
            return _alt(path, None, ways)
        if ways and found[0].dst != NEG:
            return ways[0]
        if path and path[0] == NAMER_ROOT[0]:
            asked = [each for each in reversed(self.mounts) if path.startswith(each.prefix)]
            answers = self._each(lambda each: self._named(each, path, level), asked)
            # A namer that says Neg was asked and declined; the last word is worth a node, the others are not.
            ways += [each for each in answers if each.type != "neg"] or answers[-1:]
        elif path and path[0] == SYSTEM_ROOT:
            answer = self.system.lookup(path)
            found_there = self.read(answer) if isinstance(answer, Var) else answer
            ways.append(self._state(path, found_there, level))
        if not ways:
            return _end("neg", path, None, NEG)
        return ways[-1] if len(ways) == 1 or ways[-1].type == "neg" else _alt(path, None, ways)

    def _each(self, explore: Callable[[U], DelegateTree], what: Sequence[U]) -> list[DelegateTree]:
        """The node of each, until exploring has to stop."""
        nodes: list[DelegateTree] = []
        for each in what:
            nodes.append(explore(each))
            if self.exhausted is not None:
                break
        return nodes

    def _named(self, place: Mount, path: Path, level: int) -> DelegateTree:
        found = self.read(place.namer.lookup(path.drop(len(place.prefix))))
        tree = self._state(path, found, level)
        if isinstance(found, Ok) and all_bound(found.value):
            for transformer in place.transformers:
                tree = self.transformed(tree, transformer)
        return tree

    def _state(self, path: Path, found: State[LookupTree], level: int) -> DelegateTree:
        if isinstance(found, Ok):
            return self.tree(path, found.value, None, (), level)
        return _exception(path, None, found)

    def tree(
        self,
        path: Path,
        tree: LookupTree | NameTree[Path],
        dentry: Dentry | None,
        rest: tuple[str, ...],
        level: int,
    ) -> DelegateTree:
        """The node of a name tree found at ``path``, to whose paths ``rest`` is to be appended."""
        if isinstance(tree, Leaf):
            if isinstance(tree.value, BoundName):
                return self.leaf(path, dentry, tree.value)
            return self.at_path(tree.value + rest, dentry, level)
        self.budget.work -= 1
        if level > MAX_LEVELS:
            return _exception(path, dentry, Failed(f"names nest deeper than {MAX_LEVELS} levels"))
        if isinstance(tree, Alt):
            ways = self._each(lambda each: self.tree(path, each, dentry, rest, level + 1), tree.trees)
            return _alt(path, dentry, ways)
        if isinstance(tree, Union):
            subtrees = [each.tree for each in tree.branches]
            branches = self._each(lambda each: self.tree(path, each, dentry, rest, level + 1), subtrees)
            return _union(path, dentry, [each.weight for each in tree.branches[: len(branches)]], branches)
        if tree == NEG:
            return _end("neg", path, dentry, NEG)
        return _end("fail", path, dentry, FAIL) if tree == FAIL else _end("empty", path, dentry, EMPTY)

    def leaf(self, path: Path, dentry: Dentry | None, name: BoundName) -> DelegateTree:
        state: State[BoundTree] = Ok(BoundLeaf(name))
        return DelegateTree(
            type="leaf", path=path, dentry=dentry, bound=name, addr=self.read(name.addr), state=state
        )

    def transformed(self, tree: DelegateTree, transformer: Transformer) -> DelegateTree:
        """The tree with the transformer at its leaves, or around the whole if it ignores its input."""
        if transformer.transform(NEG, self.read) != Ok(NEG):
            outcome = tree.state.value if isinstance(tree.state, Ok) else NEG
            return self._transformation(tree, transformer, transformer.transform(outcome, self.read))
        return _over_leaves(
            tree, lambda leaf: self._transformation(leaf, transformer, self._after(leaf, transformer))
        )

    def _after(self, leaf: DelegateTree, transformer: Transformer) -> State[BoundTree]:
        assert isinstance(leaf.state, Ok)
        return transformer.transform(leaf.state.value, self.read)

    def _transformation(
        self, tree: DelegateTree, transformer: Transformer, state: State[BoundTree]
    ) -> DelegateTree:
        name = transformer.prefix.show()
        names = list(bound_names(state.value)) if isinstance(state, Ok) else []
        if isinstance(state, Failed):
            return _exception(tree.path, tree.dentry, Failed(f"{name}: {state.cause}"))
        return DelegateTree(
            type="transformation",
            path=tree.path,
            dentry=tree.dentry,
            name=name,
            bound=names[0] if names else None,
            addr=self.read(names[0].addr) if names else None,
            delegate=tree,
            state=state,
        )


def _over_leaves(tree: DelegateTree, change: Callable[[DelegateTree], DelegateTree]) -> DelegateTree:
    if tree.type == "leaf" or (tree.type == "transformation" and tree.bound is not None):
        return change(tree)
    if tree.type == "delegate" and tree.delegate is not None:
        below = _over_leaves(tree.delegate, change)
        return evolve(tree, delegate=below, state=below.state)
    if tree.type == "alt":
        return _alt(tree.path, tree.dentry, [_over_leaves(each, change) for each in tree.alternatives])
    if tree.type == "union":
        branches = [_over_leaves(each, change) for each in tree.alternatives]
        return _union(tree.path, tree.dentry, tree.weights, branches)
    return tree


def _alt(path: Path, dentry: Dentry | None, ways: Sequence[DelegateTree]) -> DelegateTree:
    state = first_of(each.state for each in ways)
    return DelegateTree(type="alt", path=path, dentry=dentry, alternatives=tuple(ways), state=state)


def _union(
    path: Path, dentry: Dentry | None, weights: Sequence[float], branches: Sequence[DelegateTree]
) -> DelegateTree:
    return DelegateTree(
        type="union",
        path=path,
        dentry=dentry,
        alternatives=tuple(branches),
        weights=tuple(weights),
        state=split_of(weights, [each.state for each in branches]),
    )


def _end(
    kind: Literal["neg", "fail", "empty"], path: Path, dentry: Dentry | None, tree: BoundTree
) -> DelegateTree:
    return DelegateTree(type=kind, path=path, dentry=dentry, state=Ok(tree))


PENDING_TEXT: Final = "no answer yet"


def _exception(path: Path, dentry: Dentry | None, state: Pending | Failed) -> DelegateTree:
    message = state.cause if isinstance(state, Failed) else PENDING_TEXT
    return DelegateTree(
        type="exception",
        path=path,
        dentry=dentry,
        message=message,
        state=PENDING if isinstance(state, Pending) else state,
    )
