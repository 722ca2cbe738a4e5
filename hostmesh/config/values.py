"""From nodes to values: numbers, text, words, paths, lists. Every mistake reported, none raised."""

from __future__ import annotations

import re
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Annotated, Any, Final, Literal

import attrs

from hostmesh.config.nouns import noun
from hostmesh.config.report import KeyPath, Report, quote
from hostmesh.config.shape import Bounds, Text
from hostmesh.config.tree import Items, Node, Scalar, Table, found, is_null, plain


class Bad(Enum):
    """The mark for a value that was reported and cannot be used."""

    BAD = "bad"


BAD: Final = Bad.BAD

_DECIMAL_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]+)?")


class ValueConverter(ABC):
    """Converts nodes by type; objects are left to the subclass."""

    def __init__(self, report: Report) -> None:
        self.report = report

    @abstractmethod
    def table(self, cls: type, node: Node, path: KeyPath) -> Any:
        """An attrs object from a mapping, or BAD."""

    @abstractmethod
    def trial(self, report: Report) -> ValueConverter:
        """A converter like this one that reports elsewhere."""

    def bad(self, node: Node, path: KeyPath, expected: str) -> Literal[Bad.BAD]:
        """Report "found ..., expected ..." for a value."""
        self.report.mistake(node.line, path, f"{found(node)}, expected {expected}")
        return BAD

    def value(self, tp: Any, node: Node, path: KeyPath) -> Any:
        """One value of a type, or BAD. Optional types take ``null``; callers treat null as absent before."""
        origin = typing.get_origin(tp)
        if origin is Annotated:
            return self._annotated(typing.get_args(tp), node, path)
        if origin in (types.UnionType, typing.Union):
            return self._union(typing.get_args(tp), node, path)
        if origin is Literal:
            return self._word({str(word): word for word in typing.get_args(tp)}, node, path)
        if origin is not None and isinstance(origin, type):
            return self._collection(origin, typing.get_args(tp), node, path)
        if tp is Any:
            return plain(node)
        if tp is bool:
            if isinstance(node, Scalar) and isinstance(node.value, bool):
                return node.value
            return self.bad(node, path, "true or false")
        if tp is int or tp is float:
            return self._number(tp, node, path, "a whole number" if tp is int else "a number")
        if tp is str:
            return self._text(node, path, "text")
        if isinstance(tp, type):
            return self._of_class(tp, node, path)
        raise TypeError(f"a config class has a field of type {tp!r}, which has no YAML form")

    def _of_class(self, tp: type, node: Node, path: KeyPath) -> Any:
        if issubclass(tp, Enum):
            return self._word({str(member.value): member for member in tp}, node, path)
        if attrs.has(tp) and not hasattr(tp, "read"):
            return self.table(tp, node, path)
        if issubclass(tp, PurePath):
            text = self._text(node, path, "a file path")
            return text if text is BAD else tp(text)
        if hasattr(tp, "read"):
            return self._readable(tp, node, path)
        raise TypeError(f"a config class has a field of type {tp!r}, which has no YAML form")

    def _readable(self, tp: Any, node: Node, path: KeyPath) -> Any:
        """Path, Dtab and their like: written as text, read by the type itself."""
        noun = "a dtab" if tp.__name__ == "Dtab" else "a path that starts with '/'"
        if isinstance(node, Scalar) and node.value is None and tp.__name__ == "Dtab":
            return tp.read("")
        text = self._text(node, path, noun)
        if text is BAD:
            return BAD
        assert isinstance(node, Scalar), "only scalars are text"
        if tp.__name__ == "Path" and not text.startswith("/"):
            return self.bad(node, path, noun)
        try:
            return tp.read(text)
        except ValueError as error:
            message = str(getattr(error, "message", error))
            lines = text.rstrip().splitlines() or [text]
            # "Found the end" is on the last line that says something, not below it in somebody else's.
            at = min(getattr(error, "line", 1), len(lines)) - 1
            shown = quote(lines[at].strip())
            self.report.mistake(node.text_line + at, path, f"found {shown}, expected {noun}: {message}")
            return BAD

    def _annotated(self, arguments: tuple[Any, ...], node: Node, path: KeyPath) -> Any:
        inner, *checks = arguments
        bounds = next((check for check in checks if isinstance(check, Bounds)), None)
        if bounds is not None and inner in (int, float):
            value = self._number(inner, node, path, bounds.expected(whole=inner is int))
        else:
            value = self.value(inner, node, path)
        if value is BAD or value is None:
            return value
        for check in checks:
            if isinstance(check, Bounds) and not check.holds(value):
                return self.bad(node, path, check.expected(whole=inner is int))
            if isinstance(check, Text) and (expected := check.problem(value)) is not None:
                return self.bad(node, path, expected)
        return value

    def _union(self, arguments: tuple[Any, ...], node: Node, path: KeyPath) -> Any:
        wanted = [argument for argument in arguments if argument is not type(None)]
        if len(wanted) < len(arguments) and is_null(node):
            return None
        if len(wanted) == 1:
            return self.value(wanted[0], node, path)
        for argument in wanted:
            # Alternatives are tried on a report of their own: only when none fits does the last one's mistake count.
            trial = self.trial(Report(self.report.file))
            value = trial.value(argument, node, path)
            if trial.report.ok:
                self.report.warnings.extend(trial.report.warnings)
                return value
        return self.bad(node, path, " or ".join(noun(argument) for argument in wanted))

    def _word(self, words: Mapping[str, Any], node: Node, path: KeyPath) -> Any:
        if isinstance(node, Scalar) and node.text in words:
            return words[node.text]
        return self.bad(node, path, f"one of: {', '.join(words)}")

    def _number(self, tp: type, node: Node, path: KeyPath, expected: str) -> Any:
        if isinstance(node, Scalar) and not isinstance(node.value, bool):
            if isinstance(node.value, int):
                return tp(node.value)
            if tp is float and isinstance(node.value, float):
                return node.value
            pattern = _DECIMAL_INT if tp is int else _DECIMAL
            if node.quoted and pattern.fullmatch(node.text):
                # Jackson, behind Linkerd 1, takes it for a number, so files that do this exist and must keep working.
                self.report.warn(
                    node.line,
                    path,
                    f"found {quote(node.text)} in quotes, taken for the number; expected it without quotes",
                )
                return tp(node.text)
        return self.bad(node, path, expected)

    def _text(self, node: Node, path: KeyPath, expected: str) -> Any:
        if isinstance(node, Scalar):
            if isinstance(node.value, str):
                return node.value
            if isinstance(node.value, int | float) and not isinstance(node.value, bool):
                # `ip: 127.1` and `port: 4140` of a Kubernetes port name: text to Linkerd 1, and to us as written.
                self.report.warn(
                    node.line, path, f"found the number {node.text}, taken for text; expected it in quotes"
                )
                return node.text
        return self.bad(node, path, expected)

    def _collection(self, origin: type, arguments: tuple[Any, ...], node: Node, path: KeyPath) -> Any:
        if issubclass(origin, Mapping):
            if not isinstance(node, Table):
                return self.bad(node, path, "a mapping")
            pairs = {
                key: self.value(arguments[1], entry.node, (*path, key)) for key, entry in node.entries.items()
            }
            return {key: value for key, value in pairs.items() if value is not BAD}
        if issubclass(origin, Collection):
            if not isinstance(node, Items):
                return self.bad(node, path, "a list")
            values = [self.value(arguments[0], item, (*path, index)) for index, item in enumerate(node.items)]
            built = origin if issubclass(origin, list | tuple | set | frozenset) else tuple
            return built(value for value in values if value is not BAD)
        if attrs.has(origin):
            return self.table(origin, node, path)
        raise TypeError(f"a config class has a field of type {origin!r}, which has no YAML form")
