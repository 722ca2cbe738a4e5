"""JSON with lines: a strict RFC 8259 reader, because the standard one drops positions and keeps duplicate keys."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from typing import Final

from attrs import field, frozen, mutable

from hostmesh.config.report import KeyPath, Report, holds_secret, quote
from hostmesh.config.tree import Entry, Items, Node, Scalar, Table

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_STRING: Final = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(\.[0-9]+)?([eE][-+]?[0-9]+)?(?![0-9.eE])")
_KEY_BEFORE: Final = re.compile(r'"([^"]*)"\s*:?\s*\Z')
_WORDS: Final = {"true": True, "false": False, "null": None}

MAX_KEY: Final = 200
"""Characters before a mistake in which the key is looked for to which it belongs."""


@frozen
class JsonError(Exception):
    """Not JSON, at this line."""

    line: int
    message: str


@mutable
class _Reader:
    text: str
    report: Report
    max_depth: int
    max_nodes: int
    at: int = 0
    nodes: int = 0
    line_ends: list[int] = field(factory=list)

    def line(self, at: int | None = None) -> int:
        return bisect_right(self.line_ends, (self.at if at is None else at) - 1) + 1

    def fail(self, expected: str) -> JsonError:
        rest = self.text[self.at : self.at + 12].split("\n")[0]
        shown = quote(rest) if rest else "the end"
        key = _KEY_BEFORE.search(self.text, max(0, self.at - MAX_KEY), self.at)
        if key is not None and holds_secret(key[1]):
            shown = "something that is not shown here"
        return JsonError(self.line(), f"not JSON: found {shown}, expected {expected}")

    def skip(self) -> None:
        match = _SPACE.match(self.text, self.at)
        assert match is not None, "the pattern matches the empty string"
        self.at = match.end()

    def take(self, char: str) -> bool:
        self.skip()
        if self.text.startswith(char, self.at):
            self.at += 1
            return True
        return False

    def string(self) -> str:
        self.skip()
        match = _STRING.match(self.text, self.at)
        if match is None:
            raise self.fail("a string")
        try:
            value: str = json.loads(match.group())
        except ValueError:
            raise self.fail("a string with valid escapes") from None
        self.at = match.end()
        return value

    def value(self, path: KeyPath, depth: int) -> Node:
        self.skip()
        self.nodes += 1
        line = self.line()
        if depth > self.max_depth or self.nodes > self.max_nodes:
            raise JsonError(line, f"found more than {self.max_depth} levels or {self.max_nodes} values")
        if self.take("{"):
            return self.table(line, path, depth)
        if self.take("["):
            return self.items(line, path, depth)
        if self.text.startswith('"', self.at):
            text = self.string()
            return Scalar(line, 1, text, text, quoted=True, text_line=line)
        for word, meaning in _WORDS.items():
            if self.text.startswith(word, self.at):
                self.at += len(word)
                return Scalar(line, 1, meaning, word, quoted=False, text_line=line)
        match = _NUMBER.match(self.text, self.at)
        if match is None:
            raise self.fail("a value")
        self.at = match.end()
        number = float(match.group()) if match.group(1) or match.group(2) else int(match.group())
        return Scalar(line, 1, number, match.group(), quoted=False, text_line=line)

    def table(self, line: int, path: KeyPath, depth: int) -> Table:
        entries: dict[str, Entry] = {}
        if self.take("}"):
            return Table(line, 1, entries)
        while True:
            self.skip()
            key_line = self.line()
            key = self.string()
            if not self.take(":"):
                raise self.fail("':'")
            node = self.value((*path, key), depth + 1)
            if key in entries:
                self.report.mistake(
                    key_line,
                    (*path, key),
                    f"found the key {quote(key)} a second time (first on line {entries[key].line}), expected it once",
                )
            else:
                entries[key] = Entry(key_line, node)
            if self.take("}"):
                return Table(line, 1 + sum(entry.node.size for entry in entries.values()), entries)
            if not self.take(","):
                raise self.fail("',' or '}'")

    def items(self, line: int, path: KeyPath, depth: int) -> Items:
        items: list[Node] = []
        if self.take("]"):
            return Items(line, 1, ())
        while True:
            items.append(self.value((*path, len(items)), depth + 1))
            if self.take("]"):
                return Items(line, 1 + sum(item.size for item in items), tuple(items))
            if not self.take(","):
                raise self.fail("',' or ']'")


def read_json(text: str, report: Report, *, max_depth: int, max_nodes: int) -> Node:
    """Parse one JSON document; raises :class:`JsonError`. Duplicate keys are reported, the first is kept."""
    ends = [match.start() for match in re.finditer("\n", text)]
    reader = _Reader(text, report, max_depth, max_nodes, line_ends=ends)
    node = reader.value((), 0)
    reader.skip()
    if reader.at < len(text):
        raise reader.fail("the end of the document")
    return node
