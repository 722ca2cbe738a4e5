"""Name trees: what a path may stand for.

``Leaf`` a name; ``Alt`` (``|``) the first that is not Neg; ``Union`` (``&``) a weighted split; ``Neg``
(``~``) no such name, try the next; ``Fail`` (``!``) stop, no fallback; ``Empty`` (``$``) exists and is
uninhabited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Final, Generic, TypeAlias, TypeVar, cast

from attrs import frozen

from hostmesh.naming.path import Path
from hostmesh.naming.syntax import MAX_NESTING, Scanner

T = TypeVar("T")
U = TypeVar("U")

DEFAULT_WEIGHT: Final = 1.0


@frozen
class Leaf(Generic[T]):
    value: T


@frozen
class Neg:
    """No such name."""


@frozen
class Fail:
    """Stop: no fallback."""


@frozen
class Empty:
    """Bound, but to nothing."""


@frozen
class Weighted(Generic[T]):
    """A branch of a union: its share is its weight over the sum of the weights."""

    weight: float
    tree: NameTree[T]


@frozen
class Alt(Generic[T]):
    trees: tuple[NameTree[T], ...]


@frozen
class Union(Generic[T]):
    branches: tuple[Weighted[T], ...]


NameTree: TypeAlias = Leaf[T] | Alt[T] | Union[T] | Neg | Fail | Empty

NEG: Final = Neg()
FAIL: Final = Fail()
EMPTY: Final = Empty()


def mapped(tree: NameTree[T], change: Callable[[T], U]) -> NameTree[U]:
    """The tree with each leaf's value changed."""
    match tree:
        case Leaf(value):
            return Leaf(change(value))
        case Alt(trees):
            return Alt(tuple(mapped(each, change) for each in trees))
        case Union(branches):
            return Union(tuple(Weighted(each.weight, mapped(each.tree, change)) for each in branches))
        case _:
            return tree


def leaves(tree: NameTree[T]) -> Iterator[T]:
    """The values of all leaves, left to right."""
    match tree:
        case Leaf(value):
            yield value
        case Alt(trees):
            for each in trees:
                yield from leaves(each)
        case Union(branches):
            for branch in branches:
                yield from leaves(branch.tree)


def simplified(tree: NameTree[T]) -> NameTree[T]:
    """The smallest tree that binds to the same.

    Neg children of an Alt go, and what follows a Fail or Empty; Neg and Fail children of a Union go; a node
    with one child is that child. Simplifying twice changes nothing more.
    """
    match tree:
        case Alt(trees):
            kept: list[NameTree[T]] = []
            for each in trees:
                simple = simplified(each)
                if simple == NEG:
                    continue
                kept.append(simple)
                if simple in (FAIL, EMPTY):
                    break
            return _alone(kept) or Alt(tuple(kept))
        case Union(branches):
            pairs = [Weighted(each.weight, simplified(each.tree)) for each in branches]
            pairs = [each for each in pairs if each.tree not in (NEG, FAIL)]
            return _alone([each.tree for each in pairs]) or Union(tuple(pairs))
        case _:
            return tree


def _alone(trees: list[NameTree[T]]) -> NameTree[T] | None:
    if not trees:
        return NEG
    return trees[0] if len(trees) == 1 else None


def show(tree: NameTree[T], show_leaf: Callable[[T], str] = str) -> str:
    """The tree as text. An Alt or Union without children, which cannot be written, shows as ``~``: that is
    what it binds to.
    """
    match tree:
        case Leaf(value):
            return show_leaf(value)
        case Neg():
            return "~"
        case Fail():
            return "!"
        case Empty():
            return "$"
        case Alt(trees):
            return " | ".join(_inside(each, show_leaf, Alt) for each in trees) or "~"
        case Union(branches):
            parts = (
                f"{show_weight(each.weight)} * {_inside(each.tree, show_leaf, (Alt, Union))}"
                for each in branches
            )
            return " & ".join(parts) or "~"


def _inside(tree: NameTree[T], show_leaf: Callable[[T], str], bracketed: type | tuple[type, ...]) -> str:
    text = show(tree, show_leaf)
    return f"({text})" if isinstance(tree, bracketed) else text


def show_weight(weight: float) -> str:
    """With two decimals as Linkerd prints it, or with as many as it takes not to become another weight."""
    short = f"{weight:.2f}"
    return short if float(short) == weight else f"{Decimal(repr(weight)):f}"


def read(text: str) -> NameTree[Path]:
    """The tree written as ``text``; DtabError if it is not one."""
    scanner = Scanner(text)
    tree = scan_tree(scanner)
    scanner.end("a name tree")
    return tree


def scan_tree(scanner: Scanner, depth: int = 0) -> NameTree[Path]:
    """Read a tree and the white space around it."""
    if depth > MAX_NESTING:
        scanner.fail(f"more than {MAX_NESTING} parentheses inside each other")
    trees = [_scan_union(scanner, depth)]
    while scanner.take("|"):
        trees.append(_scan_union(scanner, depth))
    return trees[0] if len(trees) == 1 else Alt(tuple(trees))


def _scan_union(scanner: Scanner, depth: int) -> NameTree[Path]:
    branches = [_scan_weighted(scanner, depth)]
    while scanner.take("&"):
        branches.append(_scan_weighted(scanner, depth))
    # A lone item loses its weight, as in Linkerd: a share of one is the whole.
    return branches[0].tree if len(branches) == 1 else Union(tuple(branches))


def _scan_weighted(scanner: Scanner, depth: int) -> Weighted[Path]:
    scanner.blank()
    weight = scanner.number()
    if weight is not None:
        scanner.blank()
        scanner.expect("*", "between a weight and its name")
        scanner.blank()
    tree = _scan_simple(scanner, depth)
    scanner.blank()
    return Weighted(DEFAULT_WEIGHT if weight is None else weight, tree)


def _scan_simple(scanner: Scanner, depth: int) -> NameTree[Path]:
    if scanner.peek() == "/":
        return Leaf(Path(cast("list[str]", scanner.segments())))
    if scanner.take("("):
        tree = scan_tree(scanner, depth + 1)
        scanner.expect(")", "to close '('")
        return tree
    if scanner.take("~"):
        return NEG
    if scanner.take("!"):
        return FAIL
    if scanner.take("$"):
        return EMPTY
    return scanner.fail(f"expected a path, '(', '~', '!' or '$', found {scanner.found()}")
