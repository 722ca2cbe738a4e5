"""Paths."""

from __future__ import annotations

import pytest

from hostmesh.naming.path import Path
from hostmesh.naming.syntax import DtabError


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("/", ()),
        ("/svc", ("svc",)),
        ("/svc/web", ("svc", "web")),
        ("/#/io.l5d.fs/web", ("#", "io.l5d.fs", "web")),
        ("/$/inet/127.1/4140", ("$", "inet", "127.1", "4140")),
        ("/%/io.l5d.port/80", ("%", "io.l5d.port", "80")),
        ("/a_b:c-d", ("a_b:c-d",)),
        (" /a/b\n", ("a", "b")),
        ("/a # why", ("a",)),
        ("/a#b", ("a#b",)),
        ("/\\x2f", ("/",)),
        ("/\\xC3\\xa9", ("é",)),
        ("/caf\\xe9", ("caf\udce9",)),
        ("/.", (".",)),
        ("/..", ("..",)),
    ],
)
def test_read(text: str, segments: tuple[str, ...]) -> None:
    """A path is slashes and segments, with escapes for other bytes."""
    path = Path.read(text)

    assert tuple(path) == segments


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", 1, "starts with '/', found the end"),
        ("a", 1, "starts with '/', found 'a'"),
        ("//", 2, "expected a path segment after '/', found '/'"),
        ("/a/", 4, "expected a path segment after '/', found the end"),
        ("/a//b", 4, "expected a path segment"),
        ("/a b", 4, "unexpected 'b' after a path"),
        ("/a?b", 3, r"unexpected '\?' after a path"),
        ("/\\xg0", 2, "an escape of the form"),
        ("/a\\x1", 3, "an escape of the form"),
        ("/*", 2, "only in the prefix of a dentry"),
        ("/é", 2, "expected a path segment"),
    ],
)
def test_read_refuses(text: str, column: int, message: str) -> None:
    """What is not a path is refused with the column of the first bad character."""
    with pytest.raises(DtabError, match=message) as caught:
        Path.read(text)

    assert (caught.value.line, caught.value.column) == (1, column)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (Path.EMPTY, "/"),
        (Path.of("a", "b"), "/a/b"),
        (Path.of("a b"), "/\\x61\\x20\\x62"),
        (Path.of("é"), "/\\xc3\\xa9"),
        (Path.of("caf\udce9"), "/\\x63\\x61\\x66\\xe9"),
        (Path.of("*"), "/\\x2a"),
    ],
)
def test_show(path: Path, text: str) -> None:
    """A segment with a byte outside the grammar is shown wholly as escapes."""
    assert path.show() == text
    assert str(path) == text
    assert Path.read(text) == path


def test_show_is_kept() -> None:
    """The text is made once."""
    path = Path.of("a") + Path.of("b")

    assert path.show() is path.show()


def test_of_is_canonical() -> None:
    """The same bytes are the same segment, however their text was decoded."""
    assert Path.of("\udcc3\udca9") == Path.of("é")


@pytest.mark.parametrize("segment", ["", "\ud800"])
def test_of_refuses(segment: str) -> None:
    """A segment is not empty and stands for bytes."""
    with pytest.raises(ValueError):
        Path.of(segment)


def test_slicing() -> None:
    """take, drop, + and indexing do what they do for sequences, and stay paths."""
    path = Path.of("a", "b", "c")

    assert path.take(2) == Path.of("a", "b")
    assert path.take(3) is path
    assert path.take(0) == Path.EMPTY
    assert path.take(-1) == Path.EMPTY
    assert path.drop(2) == Path.of("c")
    assert path.drop(9) == Path.EMPTY
    assert path.drop(0) is path
    assert isinstance(path.drop(1) + path[:1], Path)
    assert path + Path.EMPTY is path
    assert path[1] == "b"
    assert list(path) == ["a", "b", "c"]
    assert repr(path) == "Path(/a/b/c)"


def test_startswith() -> None:
    """A prefix is made of segments, not of characters."""
    path = Path.of("svc", "web")

    assert path.startswith(Path.EMPTY)
    assert path.startswith(Path.of("svc"))
    assert path.startswith(["svc", "web"])
    assert not path.startswith(Path.of("sv"))
    assert not path.startswith(Path.of("svc", "web", "x"))


def test_hash() -> None:
    """Equal paths are one key."""
    assert {Path.of("a", "b"): 1} == {Path.read("/a/b"): 1}
