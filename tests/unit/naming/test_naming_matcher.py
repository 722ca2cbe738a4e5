"""Prefix matchers with captures."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostmesh.naming.matcher import Matcher, substituted, variables_of
from hostmesh.naming.path import Path


@pytest.mark.parametrize(
    ("matcher", "path", "captures"),
    [
        ("/", "/", {}),
        ("/", "/a/b", {}),
        ("/svc", "/svc", {}),
        ("/svc", "/svc/web", {}),
        ("/svc/", "/svc/web", {}),
        ("/svc", "/svcs", None),
        ("/svc", "/SVC", None),
        ("/svc/web", "/svc", None),
        ("/*", "/a", {}),
        ("/*", "/", None),
        ("/svc/*", "/svc", None),
        ("/svc/*/x", "/svc/a/x/y", {}),
        ("/{a}", "/", None),
        ("/svc/{name}", "/svc/web/x", {"name": "web"}),
        ("/#/io.l5d.fs/{service}", "/#/io.l5d.fs/web", {"service": "web"}),
        ("/{a}/{b}", "/x/y", {"a": "x", "b": "y"}),
        ("/{foo}-{bar}", "/a-b-c", {"foo": "a-b", "bar": "c"}),
        ("/{foo}{bar}", "/abc", {"foo": "abc", "bar": ""}),
        ("/{foo}.com", "/a.com", {"foo": "a"}),
        ("/{foo}.com", "/axcom", None),
        ("/{foo}.com", "/a.com.au", {"foo": "a"}),
        ("/x{foo}", "/axb", {"foo": "b"}),
        ("/x{foo}x", "/x", None),
        ("/x{foo}x", "/xx", {"foo": ""}),
        ("/{a.b:c_D}", "/v", {"a.b:c_D": "v"}),
        ("/{a}/x/{a}", "/1/x/2", {"a": "2"}),
        ("/{foo}", "/\\x20", {"foo": "\\x20"}),
        ("/\\x20", "/\\x20", {}),
        ("/a$b", "/a$b", {}),
        ("/%/io.l5d.port/4141/#/io.l5d.fs/{s}", "/%/io.l5d.port/4141/#/io.l5d.fs/web", {"s": "web"}),
    ],
)
def test_match(matcher: str, path: str, captures: dict[str, str] | None) -> None:
    """Literals, ``*`` and captures; what follows in the path does not matter."""
    assert Matcher.read(matcher).match(Path.read(path)) == captures


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "starts with '/'"),
        ("svc", "starts with '/'"),
        ("/a//b", "a segment is missing"),
        ("//", "a segment is missing"),
        ("/{foo-bar}", "a variable is {name}"),
        ("/{foo", "a variable is {name}"),
        ("/{}", "a variable is {name}"),
    ],
)
def test_read_refuses(text: str, message: str) -> None:
    """A matcher that can never match is a mistake."""
    with pytest.raises(ValueError, match=re.escape(message)):
        Matcher.read(text)


def test_variables() -> None:
    """A matcher and a template know their variables."""
    assert Matcher.read("/{a}-{b}/*/{c}").variables == frozenset({"a", "b", "c"})
    assert variables_of("/x/{a}/y") == frozenset({"a"})
    assert len(Matcher.read("/{a}-{b}/*/{c}")) == 3


def test_substituted() -> None:
    """Each captured variable is replaced wherever it stands; others stay."""
    assert substituted("/x/{a}-{b}/{a}/{c}", {"a": "1", "b": "2"}) == "/x/1-2/1/{c}"


pieces = st.lists(st.sampled_from(["{a}", "{b}", "{c}", "-", "x", ".", "xx"]), min_size=1, max_size=6)


@settings(deadline=None)
@given(pieces, st.text("-x.y", min_size=1, max_size=8))
def test_captures_are_those_of_the_expression(parts: list[str], segment: str) -> None:
    """A segment matches as the greedy, unanchored regular expression does."""
    text = "".join(parts)
    names: list[str] = []

    def group(found: re.Match[str]) -> str:
        names.append(found[0][1:-1])
        return "(.*)"

    expression = re.sub(r"\{.\}", group, text.replace(".", r"\."))
    if not names:
        expected = {} if text == segment else None
    elif matched := re.search(expression, segment):
        expected = dict(zip(names, matched.groups(), strict=True))
    else:
        expected = None

    found = Matcher.read(f"/{text}").match(Path.of(segment))

    assert found == expected
