"""The text of a config file as a tree that remembers its lines.

YAML with the scalars of YAML 1.2 (``0777``, ``on`` and ``12:30`` are strings), or JSON if the first non-blank character
is ``{``, as Linkerd decides it. Duplicate keys, tags and oversized documents are mistakes. The tree is built from
parser events and not by PyYAML's composer, because that recurses (a megabyte of ``[`` ends the process) and expands
aliases without a limit.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import Any, Final, TypeAlias

import yaml
from attrs import field, frozen, mutable
from yaml import events

from hostmesh.config.json_source import JsonError, read_json
from hostmesh.config.report import KeyPath, Report, quote
from hostmesh.config.tree import Entry, Items, Node, Scalar, Table, absent

MAX_BYTES: Final = 1 << 20
"""Largest file: real ones have tens of kilobytes; a wrong path given to ``check`` must not eat the machine."""

MAX_NODES: Final = 100_000
"""Most values after aliases are expanded: ten levels of ten aliases each (an "alias bomb") would be 10^10."""

MAX_DEPTH: Final = 64
"""Deepest nesting: the model needs about ten."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,15}|0o[0-7]{1,20}")
_FLOAT = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}

Plain: TypeAlias = bool | int | float | str | None


def plain_value(text: str) -> Plain:
    """What an unquoted scalar means in YAML 1.2, core schema; a number with a leading zero stays text.

    ``0777`` is 511 to YAML 1.1, 777 to 1.2: whoever wrote it should say which, so it is no number here.
    """
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _HEX.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text) and not text.lstrip("+-").isdigit() and isfinite(float(text)):
        return float(
            text
        )  # a whole number of 20 digits or 1e999 is no setting: left as text, it is reported as such
    return text


@mutable
class _Open:
    """A collection that is still being filled."""

    path: KeyPath
    line: int
    anchor: str | None
    table: bool
    entries: dict[str, Entry] = field(factory=dict)
    items: list[Node] = field(factory=list)
    key: Scalar | None = None
    size: int = 1

    def next_path(self) -> KeyPath:
        if not self.table:
            return (*self.path, len(self.items))
        return self.path if self.key is None else (*self.path, self.key.text)

    def close(self) -> Node:
        if self.table:
            return Table(self.line, self.size, self.entries)
        return Items(self.line, self.size, tuple(self.items))


class _Stop(Exception):  # noqa: N818 -- not an error of ours: the document's, already reported
    """The document cannot be read further."""


@frozen
class _Builder:
    """Events to tree. Mistakes go to the report; :class:`_Stop` ends a document that cannot be followed."""

    report: Report
    open: list[_Open] = field(factory=list)
    anchors: dict[str, Node | None] = field(factory=dict)
    """None while the anchored collection is still open: an alias to it would be a loop."""
    roots: list[Node] = field(factory=list)

    def _path(self) -> KeyPath:
        return self.open[-1].next_path() if self.open else ()

    def _stop(self, line: int, message: str) -> _Stop:
        self.report.mistake(line, self._path(), message)
        return _Stop()

    def add(self, node: Node, anchor: str | None = None) -> None:
        """Put a finished node where the parser stands."""
        if anchor is not None:
            self.anchors[anchor] = node
        if not self.open:
            self.roots.append(node)
            return
        top = self.open[-1]
        top.size += node.size
        if top.size > MAX_NODES:
            raise self._stop(
                node.line, f"found more than {MAX_NODES} values (aliases expanded), expected fewer"
            )
        if not top.table:
            top.items.append(node)
        elif top.key is None:
            if not isinstance(node, Scalar):
                raise self._stop(node.line, "found a list or mapping as a key, expected a name")
            top.key = node
        else:
            key, top.key = top.key, None
            first = top.entries.get(key.text)
            if first is None:
                top.entries[key.text] = Entry(key.line, node)
            else:
                self.report.mistake(
                    key.line,
                    (*top.path, key.text),
                    f"found the key {quote(key.text)} a second time (first on line {first.line}), expected it once",
                )

    def on(self, event: Any) -> None:
        """Take one parser event."""
        line = event.start_mark.line + 1
        if isinstance(event, events.ScalarEvent):
            self._check_tag(event.tag, line)
            self.add(self._scalar(event, line), event.anchor)
        elif isinstance(event, events.MappingStartEvent | events.SequenceStartEvent):
            self._check_tag(event.tag, line)
            if len(self.open) >= MAX_DEPTH:
                raise self._stop(line, f"found more than {MAX_DEPTH} levels of nesting, expected fewer")
            self.open.append(
                _Open(self._path(), line, event.anchor, isinstance(event, events.MappingStartEvent))
            )
            if event.anchor is not None:
                self.anchors[event.anchor] = None
        elif isinstance(event, events.MappingEndEvent | events.SequenceEndEvent):
            closed = self.open.pop()
            self.add(closed.close(), closed.anchor)
        elif isinstance(event, events.AliasEvent):
            node = self.anchors.get(event.anchor or "")
            if node is None:
                raise self._stop(
                    line, f"found the alias *{event.anchor}, expected an anchor finished before it"
                )
            self.add(node)
        elif isinstance(event, events.DocumentStartEvent) and self.roots:
            raise self._stop(line, "found a second document, expected one")

    def _check_tag(self, tag: str | None, line: int) -> None:
        if tag is not None and tag != "!" and tag not in _TAGS:
            raise self._stop(line, f"found the tag {quote(tag)}, expected a plain value")

    @staticmethod
    def _scalar(event: Any, line: int) -> Scalar:
        text: str = event.value
        if event.style in ("|", ">"):
            return Scalar(
                line, 1, text, text, quoted=True, text_line=line + 1 if event.style == "|" else line
            )
        if not event.style and not (event.tag or "").endswith(":str"):
            return Scalar(line, 1, plain_value(text), text, quoted=False, text_line=line)
        return Scalar(line, 1, text, text, quoted=True, text_line=line)


def read_source(data: bytes, report: Report) -> Node | None:
    """Parse a file's bytes; None when there is nothing to go on with, and then the report says why.

    Duplicate keys are reported and reading goes on with the first, so that one run shows everything.
    """
    if len(data) > MAX_BYTES:
        report.mistake(0, (), f"found {len(data)} bytes, expected at most {MAX_BYTES}")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        report.mistake(line, (), f"found byte 0x{data[error.start]:02x}, expected UTF-8")
        return None
    if text.lstrip().startswith("{"):
        try:
            return read_json(text, report, max_depth=MAX_DEPTH, max_nodes=MAX_NODES)
        except JsonError as error:
            report.mistake(error.line, (), error.message)
            return None
    return _read_yaml(text, report)


def _read_yaml(text: str, report: Report) -> Node | None:
    builder = _Builder(report)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.on(event)
    except _Stop:
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        context = f" ({error.context})" if error.context else ""
        report.mistake(mark.line + 1 if mark else 0, (), f"not YAML: {error.problem}{context}")
        return None
    except yaml.reader.ReaderError as error:
        place = error.position if isinstance(error.position, int) else 0
        report.mistake(text.count("\n", 0, place) + 1, (), f"not YAML: {error.reason}")
        return None
    return builder.roots[0] if builder.roots else absent(1)
