"""Name trees."""

from __future__ import annotations

import pytest

from hostmesh.naming.nametree import (
    EMPTY,
    FAIL,
    NEG,
    Alt,
    Leaf,
    NameTree,
    Union,
    Weighted,
    leaves,
    mapped,
    read,
    show,
    show_weight,
    simplified,
)
from hostmesh.naming.path import Path
from hostmesh.naming.syntax import MAX_NESTING, DtabError

A, B, C = (Leaf(Path.of(name)) for name in "abc")


def union(*branches: tuple[float, NameTree[Path]]) -> NameTree[Path]:
    return Union(tuple(Weighted(weight, tree) for weight, tree in branches))


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("/a", A),
        (" /a ", A),
        ("~", NEG),
        ("!", FAIL),
        ("$", EMPTY),
        ("/", Leaf(Path.EMPTY)),
        ("/a | /b", Alt((A, B))),
        ("/a|/b|~", Alt((A, B, NEG))),
        ("/a & /b", union((1, A), (1, B))),
        ("0.9 * /a & .1*/b", union((0.9, A), (0.1, B))),
        ("3. * /a & 1 * /b", union((3, A), (1, B))),
        ("0.5 * /a", A),
        ("/a & /b | /c", Alt((union((1, A), (1, B)), C))),
        ("/a | 2 * /b & /c", Alt((A, union((2, B), (1, C))))),
        ("/a & (/b | /c)", union((1, A), (1, Alt((B, C))))),
        ("0.5 * (/a | /b) & $", union((0.5, Alt((A, B))), (1, EMPTY))),
        ("(((/a)))", A),
        ("/a # first\n | # or\n /b", Alt((A, B))),
    ],
)
def test_read(text: str, tree: NameTree[Path]) -> None:
    """``|`` binds weaker than ``&``, a weight belongs to one item, a lone item has none."""
    assert read(text) == tree


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", 1, "expected a path, .* found the end"),
        ("/a |", 5, "found the end"),
        ("/a /b", 4, "unexpected '/' after a name tree"),
        ("(/a", 4, "to close"),
        ("0.9 /a", 5, "between a weight and its name"),
        ("-1 * /a", 1, "found '-'"),
        ("9" * 400 + " * /a", 1, "too large"),
        ("/a | | /b", 6, "found '|'"),
    ],
)
def test_read_refuses(text: str, column: int, message: str) -> None:
    """What is not a tree is refused at its place."""
    with pytest.raises(DtabError, match=message) as caught:
        read(text)

    assert caught.value.column == column


def test_nesting_is_bounded() -> None:
    """Parentheses nest up to a limit that no person reaches."""
    deep = "(" * MAX_NESTING + "/a" + ")" * MAX_NESTING

    assert read(deep) == A
    with pytest.raises(DtabError, match="more than 50 parentheses"):
        read(f"({deep})")


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (A, "/a"),
        (NEG, "~"),
        (FAIL, "!"),
        (EMPTY, "$"),
        (Alt((A, union((0.9, B), (0.1, C)))), "/a | 0.90 * /b & 0.10 * /c"),
        (
            union((1, Alt((A, B))), (2, union((1, B), (1, C)))),
            "1.00 * (/a | /b) & 2.00 * (1.00 * /b & 1.00 * /c)",
        ),
        (Alt((Alt((A, B)), C)), "(/a | /b) | /c"),
        (Alt(()), "~"),
        (Union(()), "~"),
    ],
)
def test_show(tree: NameTree[Path], text: str) -> None:
    """A tree shows with the fewest parentheses."""
    assert show(tree, Path.show) == text
    assert show(tree) == text


@pytest.mark.parametrize(
    ("weight", "text"),
    [(1.0, "1.00"), (0.9, "0.90"), (0.001, "0.001"), (1e-7, "0.0000001"), (0.125, "0.125")],
)
def test_show_weight(weight: float, text: str) -> None:
    """Two decimals, unless that would be another weight."""
    assert show_weight(weight) == text


@pytest.mark.parametrize(
    ("tree", "simple"),
    [
        (A, A),
        (Alt(()), NEG),
        (Alt((A,)), A),
        (Alt((NEG, A, NEG)), A),
        (Alt((NEG, NEG)), NEG),
        (Alt((A, FAIL, B)), Alt((A, FAIL))),
        (Alt((FAIL, B)), FAIL),
        (Alt((A, EMPTY, B)), Alt((A, EMPTY))),
        (Union(()), NEG),
        (union((1, A)), A),
        (union((1, A), (1, NEG), (1, FAIL)), A),
        (union((1, FAIL)), NEG),
        (union((1, A), (1, EMPTY)), union((1, A), (1, EMPTY))),
        (Alt((union((1, NEG), (2, B)), Alt((NEG, A)))), Alt((B, A))),
    ],
)
def test_simplified(tree: NameTree[Path], simple: NameTree[Path]) -> None:
    """What cannot matter goes."""
    assert simplified(tree) == simple


def test_leaves_and_mapped() -> None:
    """Every leaf is visited, left to right."""
    tree = Alt((A, union((2, B), (1, Alt((C, NEG)))), FAIL))

    assert list(leaves(tree)) == [Path.of("a"), Path.of("b"), Path.of("c")]
    assert mapped(tree, len) == Alt(
        (Leaf(1), Union((Weighted(2, Leaf(1)), Weighted(1, Alt((Leaf(1), NEG))))), FAIL)
    )
