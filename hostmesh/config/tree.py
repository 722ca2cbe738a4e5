"""The nodes of a read document: plain values that know the line they stand on."""

from __future__ import annotations

from typing import Any, TypeAlias

from attrs import frozen

from hostmesh.config.report import KeyPath, quote


@frozen
class Scalar:
    """A single value. ``value`` is its YAML 1.2 meaning, ``text`` what is written, without quotes."""

    line: int
    size: int
    value: bool | int | float | str | None
    text: str
    quoted: bool
    """Quoted or a block: always text, never a number."""
    text_line: int
    """Line of the first line of ``text``: a block scalar starts one line below its indicator."""


@frozen
class Items:
    """A list."""

    line: int
    size: int
    items: tuple[Node, ...]


@frozen
class Entry:
    """One key of a mapping, with the line of the key."""

    line: int
    node: Node


@frozen
class Table:
    """A mapping."""

    line: int
    size: int
    entries: dict[str, Entry]

    def get(self, key: str) -> Node | None:
        entry = self.entries.get(key)
        return None if entry is None else entry.node


Node: TypeAlias = Scalar | Items | Table


def node_of(value: object) -> Node:
    """Plain data (defaults written in code) as a tree without lines."""
    if isinstance(value, dict):
        return Table(0, 1, {str(key): Entry(0, node_of(item)) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return Items(0, 1, tuple(map(node_of, value)))
    assert value is None or isinstance(value, bool | int | float | str), f"{value!r} has no YAML form"
    return Scalar(0, 1, value, str(value), quoted=isinstance(value, str), text_line=0)


def absent(line: int) -> Scalar:
    """What stands for a key that is not there."""
    return Scalar(line, 1, None, "", quoted=False, text_line=line)


def is_null(node: Node | None) -> bool:
    """Absent and ``null`` mean the same: unset."""
    return node is None or (isinstance(node, Scalar) and node.value is None)


def found(node: Node) -> str:
    """The ``found ...`` half of a message."""
    if isinstance(node, Table):
        keys = ", ".join(list(node.entries)[:3])
        return f"found a mapping ({keys})" if keys else "found an empty mapping"
    if isinstance(node, Items):
        return f"found a list of {len(node.items)}"
    if node.value is None:
        return "found nothing"
    if isinstance(node.value, str):
        return f"found {quote(node.text)}"
    return f"found {node.text}"


def line_at(root: Node | None, path: KeyPath) -> int:
    """The line of the value at ``path``, or of the nearest thing around it that exists; keys rather than values."""
    line = root.line if root is not None else 0
    node = root
    for part in path:
        if isinstance(node, Table) and isinstance(part, str) and part in node.entries:
            line, node = node.entries[part].line, node.entries[part].node
        elif isinstance(node, Items) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
            line = node.line
        else:
            break
    return line


def plain(node: Node) -> Any:
    """The value of a node as plain Python data."""
    if isinstance(node, Table):
        return {key: plain(entry.node) for key, entry in node.entries.items()}
    if isinstance(node, Items):
        return [plain(item) for item in node.items]
    return node.value


def is_off(node: Node) -> bool:
    """Null, or a mapping with ``enabled: false``: not in use, so nothing is missing."""
    if isinstance(node, Table):
        enabled = node.get("enabled")
        return isinstance(enabled, Scalar) and enabled.value is False
    return is_null(node) or (isinstance(node, Items) and not node.items)
