"""Bound names, and the trees of them that binding a path yields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from attrs import field, frozen

from hostmesh.base.var import Var
from hostmesh.naming.addr import Addr
from hostmesh.naming.nametree import EMPTY, FAIL, NEG, Empty, Fail, Neg
from hostmesh.naming.path import Path

__all__ = [
    "EMPTY",
    "FAIL",
    "NEG",
    "BoundLeaf",
    "BoundName",
    "BoundTree",
    "BoundUnion",
    "BoundWeighted",
    "bound_names",
    "shares",
]


@frozen
class BoundName:
    """A concrete name: what a client, with its balancer and pools, is built for.

    Two are equal when their id and residual are: the address Var takes no part, so that a tree re-evaluated
    to the same names is not a change. Hence whoever makes bound names must give the same Var for the same id
    as long as anybody observes it.
    """

    id: Path
    """What the namer consumed, e.g. ``/#/io.l5d.fs/web``; the id alone identifies a client."""
    addr: Var[Addr] = field(eq=False, repr=False)
    """The replica set. It is watched only while observed."""
    residual: Path = Path.EMPTY
    """What was left of the path."""
    status_code: int | None = None
    """Not None for ``/$/io.buoyant.http.status/<code>``: answer with this status and dial nobody."""


@frozen
class BoundLeaf:
    name: BoundName


@frozen
class BoundWeighted:
    weight: float
    tree: BoundTree


@frozen
class BoundUnion:
    """Each request draws a branch in proportion to its weight; a branch that is Empty keeps its share, and
    those requests fail.
    """

    branches: tuple[BoundWeighted, ...]


BoundTree: TypeAlias = BoundLeaf | BoundUnion | Neg | Fail | Empty
"""Never an Alt: fallback is decided while binding, on names alone."""


def bound_names(tree: BoundTree) -> Iterator[BoundName]:
    """The names of all leaves, left to right, with repetitions."""
    if isinstance(tree, BoundLeaf):
        yield tree.name
    elif isinstance(tree, BoundUnion):
        for branch in tree.branches:
            yield from bound_names(branch.tree)


def shares(tree: BoundTree) -> tuple[tuple[float, BoundName | None], ...]:
    """The tree as one draw: (share, name) with shares that sum to 1; the name is None where requests fail.

    A union whose weights are all zero is split evenly.
    """
    if not isinstance(tree, BoundUnion):
        return ((1.0, tree.name if isinstance(tree, BoundLeaf) else None),)
    total = sum(branch.weight for branch in tree.branches)
    flat: list[tuple[float, BoundName | None]] = []
    for branch in tree.branches:
        part = branch.weight / total if total > 0 else 1 / len(tree.branches)
        flat.extend((part * share, name) for share, name in shares(branch.tree))
    return tuple(flat)
