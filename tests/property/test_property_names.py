"""Round trips of everything that is written, and the laws of name trees."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hostmesh.naming import nametree
from hostmesh.naming.dtab import Dentry, Dtab, DtabError, Prefix
from hostmesh.naming.nametree import EMPTY, FAIL, NEG, Alt, Leaf, NameTree, Union, Weighted, simplified
from hostmesh.naming.path import Path

plain = st.text("ab:.#$%-_0", min_size=1, max_size=4)
wild = st.binary(min_size=1, max_size=4).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
segments = plain | wild
paths = st.lists(segments, max_size=4).map(lambda each: Path.of(*each))
prefixes = st.lists(st.none() | segments, max_size=4).map(lambda each: Prefix(tuple(each)))
weights = st.floats(0, 1e9) | st.sampled_from([0.0, 0.1, 1.0, 9.0])
ends = st.sampled_from([NEG, FAIL, EMPTY])


def trees_of(leaf: st.SearchStrategy[NameTree[Path]], least: int) -> st.SearchStrategy[NameTree[Path]]:
    def grow(inner: st.SearchStrategy[NameTree[Path]]) -> st.SearchStrategy[NameTree[Path]]:
        branches = st.builds(Weighted, weights, inner)
        return st.lists(inner, min_size=least, max_size=3).map(lambda each: Alt(tuple(each))) | st.lists(
            branches, min_size=least, max_size=3
        ).map(lambda each: Union(tuple(each)))

    return st.recursive(leaf | ends, grow, max_leaves=12)


written = trees_of(paths.map(Leaf), 2)
"""Trees that text can say: no node has fewer than two children."""
any_tree = trees_of(paths.map(Leaf), 0)
dtabs = st.lists(st.builds(Dentry, prefixes, written), max_size=4).map(lambda each: Dtab(tuple(each)))


def outcome(tree: NameTree[Path]) -> NameTree[Path]:
    """What the tree binds to when every leaf is bound: the definition that simplified() must not change."""
    match tree:
        case Alt(trees):
            for each in trees:
                found = outcome(each)
                if found != NEG:
                    return found
            return NEG
        case Union(branches):
            left = [Weighted(each.weight, outcome(each.tree)) for each in branches]
            left = [each for each in left if each.tree not in (NEG, FAIL)]
            if len(left) > 1:
                return Union(tuple(left))
            return left[0].tree if left else NEG
        case _:
            return tree


@settings(deadline=None)
@given(paths)
def test_path_round_trip(path: Path) -> None:
    """A path reads as what was shown."""
    assert Path.read(path.show()) == path


@settings(deadline=None)
@given(prefixes)
def test_prefix_round_trip(prefix: Prefix) -> None:
    """A prefix reads as what was shown."""
    assert Prefix.read(prefix.show()) == prefix


@settings(deadline=None)
@given(written)
def test_tree_round_trip(tree: NameTree[Path]) -> None:
    """A tree reads as what was shown, weights to the last bit."""
    assert nametree.read(nametree.show(tree)) == tree


@settings(deadline=None)
@given(dtabs)
def test_dtab_round_trip(dtab: Dtab) -> None:
    """A dtab reads as what was shown."""
    assert Dtab.read(dtab.show()) == dtab


@settings(deadline=None)
@given(any_tree)
def test_simplify_is_a_fixpoint(tree: NameTree[Path]) -> None:
    """Simplifying twice is simplifying once, and binds to the same."""
    simple = simplified(tree)

    assert simplified(simple) == simple
    assert outcome(simple) == outcome(tree)


@settings(deadline=None)
@given(dtabs, paths)
def test_index_agrees_with_a_scan(dtab: Dtab, path: Path) -> None:
    """The index finds what scanning all dentries from the last to the first finds."""
    assert dtab.matches(path) == [each for each in reversed(dtab.dentries) if each.prefix.matches(path)]


@settings(deadline=None)
@given(st.text("/ab*#$~!|&()0.9;=> \n\\x", max_size=40))
def test_garbage_is_refused_or_read(text: str) -> None:
    """Reading either gives a dtab that round-trips or raises DtabError, nothing else."""
    try:
        dtab = Dtab.read(text)
    except DtabError:
        return
    assert Dtab.read(dtab.show()) == dtab
