"""A delegation tree as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from hostmesh.base.var import Ok
from hostmesh.naming import nametree
from hostmesh.naming.addr import Addr, AddrBound, AddrFailed, AddrNeg
from hostmesh.naming.nametree import FAIL, NEG
from hostmesh.naming.path import Path

if TYPE_CHECKING:
    from hostmesh.naming.delegate import DelegateTree

SHOWN_ENDPOINTS: Final = 5
"""More than this and the line stops being one; the admin API has them all."""

TAKEN: Final = "*"
PASSED_OVER: Final = "-"


def render_lines(tree: DelegateTree) -> list[str]:
    """One step a line, indented below the step it follows from, with the dentry that led there.

    ``*`` marks the steps that binding takes, ``-`` alternatives it passes over.
    """
    return list(_lines(tree, 0, taken=True, weight=None))


def _lines(tree: DelegateTree, depth: int, *, taken: bool, weight: float | None) -> Iterator[str]:
    share = "" if weight is None else f"{nametree.show_weight(weight)} * "
    line = f"{'  ' * depth}{TAKEN if taken else PASSED_OVER} {share}{_label(tree)}"
    if tree.dentry is not None:
        line = f"{line}  ({tree.dentry.prefix.show()} => {nametree.show(tree.dentry.dst, Path.show)})"
    yield line
    if tree.delegate is not None:
        yield from _lines(tree.delegate, depth + 1, taken=taken, weight=None)
    weights = tree.weights or (None,) * len(tree.alternatives)
    for each, its_weight, chosen in zip(tree.alternatives, weights, _chosen(tree), strict=True):
        yield from _lines(each, depth + 1, taken=taken and chosen, weight=its_weight)


def _chosen(tree: DelegateTree) -> list[bool]:
    """Which of the alternatives requests take."""
    states = [each.state for each in tree.alternatives]
    if tree.type == "union":
        return [not isinstance(state, Ok) or state.value not in (NEG, FAIL) for state in states]
    first = next((at for at, state in enumerate(states) if state != Ok(NEG)), None)
    return [at == first for at in range(len(states))]


def _label(tree: DelegateTree) -> str:
    path = tree.path.show()
    match tree.type:
        case "delegate":
            return path
        case "alt":
            return f"{path}, the first that exists of"
        case "union":
            return f"{path}, split over"
        case "neg":
            return f"{path}: ~ no such name"
        case "fail":
            return f"{path}: ! refused, no fallback"
        case "empty":
            return f"{path}: $ nobody there"
        case "exception":
            return f"{path}: {tree.message}"
        case "transformation" if tree.bound is None:
            return f"{path} through {tree.name}: no such name"
        case _:
            return f"{path}{_bound_text(tree)}"


def _bound_text(tree: DelegateTree) -> str:
    bound = tree.bound
    assert bound is not None
    text = (
        f": {addr_text(tree.addr)}" if bound.status_code is None else f": always answers {bound.status_code}"
    )
    if tree.type == "transformation":
        text = f" through {tree.name}{text}"
    elif bound.id != tree.path:
        text = f", bound {bound.id.show()}{text}"
    return f"{text}, residual {bound.residual.show()}" if bound.residual else text


def addr_text(addr: Addr | None) -> str:
    """An address in a few words."""
    match addr:
        case AddrBound(()):
            return "no endpoints"
        case AddrBound(endpoints):
            hosts = (f"[{each.host}]" if ":" in each.host else each.host for each in endpoints)
            each_text = [
                f"{host}:{each.port}"
                + ("" if each.weight == 1.0 else f" * {nametree.show_weight(each.weight)}")
                for host, each in zip(hosts, endpoints, strict=True)
            ]
            more = len(each_text) - SHOWN_ENDPOINTS
            shown = ", ".join(each_text[:SHOWN_ENDPOINTS])
            return f"{shown} and {more} more" if more > 0 else shown
        case AddrNeg():
            return "no replica set"
        case AddrFailed(cause):
            return f"address unknown: {cause}"
        case _:
            return "address not known yet"
