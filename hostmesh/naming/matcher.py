"""Prefix matchers with captures: ``/#/io.l5d.fs/{service}``. They select per-prefix policies and drive the
rewrite namer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from attrs import frozen

from hostmesh.naming.path import Path
from hostmesh.naming.syntax import segment_text

_VARIABLE: Final = re.compile(r"\{([A-Za-z0-9.:-_]+)\}")
"""The expression of Linkerd, whose ``:-_`` is a range: no hyphens, but capitals and a few signs twice."""

_NO_CAPTURES: Final[Mapping[str, str]] = {}


@frozen
class _Captures:
    """A segment with variables: the literal texts around and between them."""

    literals: tuple[str, ...]
    names: tuple[str, ...]

    def match(self, segment: str) -> dict[str, str] | None:
        # As the regular expression lit0(.*)lit1(.*)…, greedy and searched rather than anchored, would match:
        # the first literal as far left as it occurs, each other as far right as leaves room for those after
        # it. Done by hand because the expression backtracks: many variables against a hostile segment would
        # stop the loop.
        start = segment.find(self.literals[0])
        if start < 0:
            return None
        start += len(self.literals[0])
        places: list[int] = []
        end = len(segment)
        for literal in reversed(self.literals[1:]):
            end = segment.rfind(literal, start, end)
            if end < 0:
                return None
            places.append(end)
        values: dict[str, str] = {}
        for name, literal, place in zip(self.names, self.literals[1:], reversed(places), strict=True):
            values[name] = segment[start:place]
            start = place + len(literal)
        return values


@frozen
class Matcher:
    """Matches paths by prefix: literal segments, ``*`` for any one, ``{name}`` inside a segment for a part of
    it.

    Captures are of the segment as it is shown. What follows the prefix in the path does not matter.
    """

    text: str
    elements: tuple[str | _Captures | None, ...]

    @classmethod
    def read(cls, text: str) -> Matcher:
        """The matcher written as ``text``; ValueError, saying what is wrong, if it is none."""
        if not text.startswith("/"):
            raise ValueError(f"{text!r}: a prefix starts with '/'")
        # A slash at the end means nothing, as in Linkerd.
        parts = text[1:].removesuffix("/").split("/")
        if text == "/":
            return cls(text, ())
        if "" in parts:
            raise ValueError(f"{text!r}: a segment is missing between two '/'")
        return cls(text, tuple(_element(part) for part in parts))

    @property
    def variables(self) -> frozenset[str]:
        """The names of all captures."""
        return frozenset(name for each in self.elements if isinstance(each, _Captures) for name in each.names)

    def match(self, path: Path) -> Mapping[str, str] | None:
        """The captures if the path has this prefix, or None. A path that is too short does not match."""
        if len(path) < len(self.elements):
            return None
        captures: dict[str, str] | None = None
        for element, segment in zip(self.elements, path, strict=False):
            if element is None:
                continue
            shown = segment_text(segment)
            if isinstance(element, str):
                if element != shown:
                    return None
                continue
            found = element.match(shown)
            if found is None:
                return None
            captures = found if captures is None else captures | found
        return _NO_CAPTURES if captures is None else captures

    def __len__(self) -> int:
        return len(self.elements)


def variables_of(template: str) -> frozenset[str]:
    """The variables that a template refers to."""
    return frozenset(_VARIABLE.findall(template))


def substituted(template: str, captures: Mapping[str, str]) -> str:
    """The template with each ``{name}`` that was captured replaced; others stay as they are."""
    return _VARIABLE.sub(lambda found: captures.get(found[1], found[0]), template)


def _element(part: str) -> str | _Captures | None:
    if part == "*":
        return None
    pieces = _VARIABLE.split(part)
    if any("{" in literal or "}" in literal for literal in pieces[::2]):
        # No segment shows a brace, so as a literal it could never match: a misspelt variable.
        raise ValueError(f"{part!r}: a variable is {{name}}, a name has letters, digits, '.', ':' and '_'")
    if len(pieces) == 1:
        return part
    return _Captures(tuple(pieces[::2]), tuple(pieces[1::2]))
