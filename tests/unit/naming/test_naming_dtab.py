"""Dtabs: reading, showing and looking up."""

from __future__ import annotations

import pytest

from hostmesh.naming import nametree
from hostmesh.naming.dtab import Dentry, Dtab, DtabError, Prefix
from hostmesh.naming.path import Path


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("  # nothing\n", ""),
        ("/a=>/b", "/a=>/b"),
        ("/svc => /#/io.l5d.fs ;", "/svc=>/#/io.l5d.fs"),
        ("/svc/* => /host", "/svc/*=>/host"),
        ("/a => 0.9 * /b & 0.1 * /c | /d", "/a=>0.90 * /b & 0.10 * /c | /d"),
        ("/x/foo => ! ;\n/y => ~ | /z;", "/x/foo=>!;/y=>~ | /z"),
        ("# all\n/a => /b ; # one\n # two\n /c => $", "/a=>/b;/c=>$"),
        ("/=>/a", "/=>/a"),
        ("/* => /a", "/*=>/a"),
        ("/\\x20=>/a", "/\\x20=>/a"),
    ],
)
def test_read_and_show(text: str, shown: str) -> None:
    """Dentries are separated by ``;``, a last one may follow, comments and blanks go."""
    dtab = Dtab.read(text)

    assert dtab.show() == shown
    assert str(dtab) == shown
    assert Dtab.read(shown) == dtab


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("/a", 1, 3, "expected '=>' after the prefix of a dentry, found the end"),
        ("/a => /b /c => /d", 1, 10, "expected ';' between two dentries, found '/'"),
        ("/a => /b ;\n/c = /d", 2, 4, "expected '=>'"),
        ("/a => /b ;\n\n  c => /d", 3, 3, "starts with '/', found 'c'"),
        ("/a => /b/*", 1, 10, "only in the prefix"),
        ("/a/*x => /b", 1, 5, "expected '=>'"),
        ("/a => ;", 1, 7, "found ';'"),
        (";", 1, 1, "found ';'"),
        ("/a/ => /b", 1, 4, "expected a path segment"),
    ],
)
def test_read_refuses(text: str, line: int, column: int, message: str) -> None:
    """A mistake is reported with line and column."""
    with pytest.raises(DtabError, match=message) as caught:
        Dtab.read(text)

    assert (caught.value.line, caught.value.column) == (line, column)


@pytest.mark.parametrize(
    ("dtab", "path", "tree"),
    [
        ("", "/a", "~"),
        ("/a => /b", "/c", "~"),
        ("/a => /b", "/a", "/b"),
        ("/a => /b", "/a/x/y", "/b/x/y"),
        ("/a => /b", "/ab", "~"),
        ("/a/b => /c", "/a", "~"),
        ("/a => /b ; /a => /c", "/a/x", "/c/x | /b/x"),
        ("/a/* => /b", "/a/x/y", "/b/y"),
        ("/a/* => /b", "/a", "~"),
        ("/* => /b ; /a => /c ; / => /d", "/a/x", "/d/a/x | /c/x | /b/x"),
        ("/* => /b ; /a => /c", "/z", "/b"),
        ("/ => /d", "/", "/d"),
        ("/*/x => /b", "/q/x/y", "/b/y"),
        ("/a => /b | 2 * /c & ! | $", "/a/x", "/b/x | 2 * /c/x & ! | $"),
        ("/a => ~ ", "/a", "~"),
    ],
)
def test_lookup(dtab: str, path: str, tree: str) -> None:
    """Entries are tried last to first; what a prefix leaves of the path is appended to each leaf."""
    assert Dtab.read(dtab).lookup(Path.read(path)) == nametree.read(tree)


def test_matches_are_in_order_of_preference() -> None:
    """The dentry that wins comes first."""
    dtab = Dtab.read("/a=>/1;/b=>/2;/*=>/3;/a=>/4")

    assert [str(each) for each in dtab.matches(Path.read("/a/x"))] == ["/a=>/4", "/*=>/3", "/a=>/1"]


def test_concatenation() -> None:
    """The right operand's dentries win."""
    base, local = Dtab.read("/a=>/b"), Dtab.read("/a=>/c")

    assert base + local == Dtab.read("/a=>/b;/a=>/c")
    assert base + Dtab.EMPTY is base
    assert Dtab.EMPTY + base is base
    assert len(base + local) == 2


def test_dtab_is_a_key() -> None:
    """Equal dtabs are one key, also after one of them has been looked up in."""
    used = Dtab.read("/a => /b")
    used.lookup(Path.read("/a"))

    assert {Dtab.read("/a=>/b"): 1} == {used: 1}


def test_prefix_and_dentry_read() -> None:
    """Prefixes and dentries can be read alone, and nothing may follow."""
    assert Prefix.read("/*/a").elements == (None, "a")
    assert str(Prefix.read("/*/a")) == "/*/a"
    assert len(Prefix.read("/*/a")) == 2
    assert Dentry.read("/a => /b") == Dentry(Prefix(("a",)), nametree.read("/b"))
    with pytest.raises(DtabError, match="after a prefix"):
        Prefix.read("/a =")
    with pytest.raises(DtabError, match="after a dentry"):
        Dentry.read("/a => /b ;")


@pytest.mark.parametrize(
    ("prefix", "path", "matches"),
    [
        ("/", "/", True),
        ("/a", "/", False),
        ("/a/*", "/a/b/c", True),
        ("/a/*", "/b/b", False),
        ("/*", "/a", True),
    ],
)
def test_prefix_matches(prefix: str, path: str, matches: bool) -> None:
    """A prefix matches by segment, ``*`` any one."""
    assert Prefix.read(prefix).matches(Path.read(path)) is matches
