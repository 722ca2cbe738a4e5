"""From tree to attrs classes: every mistake reported, none raised.

Written by hand rather than with cattrs, which would be left with choosing a function per type: keys, lines, warnings,
nearest names, default kinds and going on after a mistake are the whole of it, and all need the node, not its value.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Collection, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Annotated, Any, Final, Literal

import attrs
from attrs import frozen

from hostmesh.base.errors import ConfigError
from hostmesh.base.plugin import PluginConfig
from hostmesh.config.nouns import expected, noun
from hostmesh.config.registry import Registry, UnknownKindError
from hostmesh.config.removed import removed_key, removed_kind
from hostmesh.config.report import KeyPath, Report, nearest, one_of, quote
from hostmesh.config.shape import Bounds, Field, Text, fields_of
from hostmesh.config.tree import Items, Node, Scalar, Table, absent, found, is_null, is_off, plain


class Bad(Enum):
    """The mark for a value that was reported and cannot be used."""

    BAD = "bad"


BAD: Final = Bad.BAD

_DECIMAL_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]+)?")
_LEADING_KEY = re.compile(r"([A-Za-z][A-Za-z0-9]*)(?=[\s.:\[])")


@frozen
class Made:
    """A config object and where it came from; the cross checks look at these, also when other keys were wrong."""

    path: KeyPath
    line: int
    value: Any


class Converter:
    """Converts one document. ``made`` collects every object that could be built."""

    def __init__(self, report: Report, registry: Registry) -> None:
        self.report = report
        self.registry = registry
        self.made: list[Made] = []

    def bad(self, node: Node, path: KeyPath, expected: str) -> Literal[Bad.BAD]:
        """Report "found ..., expected ..." for a value."""
        self.report.mistake(node.line, path, f"{found(node)}, expected {expected}")
        return BAD

    # -- values ----------------------------------------------------------------------------------------------------

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
            line = (
                node.text_line + max(getattr(error, "line", 1) - 1, 0)
                if "\n" in node.text
                else node.text_line
            )
            lines = text.splitlines()
            shown = (
                lines[error_line - 1] if 0 < (error_line := getattr(error, "line", 1)) <= len(lines) else text
            )
            self.report.mistake(line, path, f"found {quote(shown.strip())}, expected {noun}: {message}")
            return BAD

    def _annotated(self, arguments: tuple[Any, ...], node: Node, path: KeyPath) -> Any:
        inner, *checks = arguments
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
            trial = Converter(Report(self.report.file), self.registry)
            value = trial.value(argument, node, path)
            if trial.report.ok:
                self.report.warnings.extend(trial.report.warnings)
                self.made.extend(trial.made)
                return value
        return self.bad(node, path, " or ".join(noun(argument) for argument in wanted))

    def _word(self, words: Mapping[str, Any], node: Node, path: KeyPath) -> Any:
        if isinstance(node, Scalar) and node.text in words:
            return words[node.text]
        near = nearest(node.text, words) if isinstance(node, Scalar) else None
        return self.bad(node, path, one_of(words, near)[len("expected ") :])

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

    # -- objects ---------------------------------------------------------------------------------------------------

    def table(
        self,
        cls: type,
        node: Node,
        path: KeyPath,
        *,
        given: Mapping[str, Any] = types.MappingProxyType({}),
        skip: Collection[str] = (),
    ) -> Any:
        """An attrs object from a mapping. ``given`` are values by attribute name; ``skip`` are keys read elsewhere."""
        if is_null(node):
            node = Table(node.line, 1, {})
        if not isinstance(node, Table):
            return self.bad(node, path, "a mapping")
        known = [field for field in fields_of(cls) if field.name not in given]
        self._unknown_keys(cls, {field.key for field in known}, node, path, skip)
        values: dict[str, Any] = dict(given)
        complete = True
        for field in known:
            value = self._field(field, node, path)
            if value is not BAD:
                values[field.name] = value
            elif field.required:
                complete = False
        return self._construct(cls, values, node, path) if complete else BAD

    def _unknown_keys(
        self, cls: type, known: set[str], node: Table, path: KeyPath, skip: Collection[str]
    ) -> None:
        place = getattr(cls, "place", None)
        for key, entry in node.entries.items():
            if key in known or key in skip:
                continue
            replacement = removed_key(place, key)
            if replacement is not None:
                message = f"found the key {quote(key)}: {replacement}"
            else:
                keys = known | set(skip)
                message = f"found the unknown key {quote(key)}, {one_of(keys, nearest(key, keys))}"
            self.report.mistake(entry.line, (*path, key), message)

    def _field(self, field: Field, table: Table, path: KeyPath) -> Any:
        """The value of one key; BAD also stands for "absent, take the default"."""
        node = table.get(field.key)
        here = (*path, field.key)
        default_kind = field.metadata.get("default_kind")
        if node is None or (is_null(node) and not field.required):
            if default_kind is not None:
                node = absent(table.line)
            elif field.required:
                self.report.mistake(table.line, here, f"found nothing, expected {expected(field)}")
                return BAD
            else:
                return BAD
        reason = field.metadata.get("unavailable")
        if reason and not is_off(node):
            self.report.cannot_run(table.entries[field.key].line, here, reason)
        if field.read is not None:
            return field.read(self, node, here)
        if field.slot is None:
            return self.value(field.type, node, here)
        if field.many:
            plugins = self.plugins(field.slot, node, here)
            return list(plugins) if field.as_list and plugins is not BAD else plugins
        return self.plugin(field.slot, node, here, default_kind=default_kind)

    def _construct(self, cls: type, values: Mapping[str, Any], node: Table, path: KeyPath) -> Any:
        try:
            value = cls(
                **{field.alias: values[field.name] for field in attrs.fields(cls) if field.name in values}
            )
        except (ValueError, TypeError) as error:
            self.report.mistake(node.line, path, f"found {quote(str(values))}, refused: {error}")
            return BAD
        self.made.append(Made(path, node.line, value))
        check = getattr(value, "check", None)
        if callable(check):
            self._checked(check, node, path)
        return value

    def _checked(self, check: Any, node: Table, path: KeyPath) -> None:
        try:
            messages = check()
        except Exception as error:  # noqa: BLE001 -- a plugin's own code; its bug is a line in the report
            messages = [f"this plugin's check failed: {type(error).__name__}: {error}"]
        for message in messages:
            leading = _LEADING_KEY.match(message)
            entry = node.entries.get(leading.group(1)) if leading else None
            if leading is None or entry is None:
                self.report.mistake(node.line, path, message)
            else:
                # "key: found x, expected y" is complete; "key must be y" gets what was found put in front.
                rest = message[leading.end() :]
                said = (
                    rest.removeprefix(":").strip()
                    if rest.startswith(":")
                    else f"{found(entry.node)}; {message}"
                )
                self.report.mistake(entry.line, (*path, leading.group(1)), said)

    # -- plugins ---------------------------------------------------------------------------------------------------

    def plugins(self, slot: str, node: Node, path: KeyPath) -> Any:
        """A list of plugins of one slot, without those that cannot be used."""
        if not isinstance(node, Items):
            return self.bad(node, path, "a list")
        values = [self.plugin(slot, item, (*path, index)) for index, item in enumerate(node.items)]
        return tuple(value for value in values if value is not BAD)

    def plugin(self, slot: str, node: Node, path: KeyPath, *, default_kind: str | None = None) -> Any:
        """One plugin, its class chosen by ``kind`` (``protocol`` for routers)."""
        key = "protocol" if slot == "protocol" else "kind"
        if is_null(node) and default_kind is not None:
            node = Table(node.line, 1, {})
        if not isinstance(node, Table):
            return self.bad(node, path, f"a mapping with the key {key!r}")
        chosen = node.get(key)
        if is_null(chosen):
            if default_kind is None:
                known = self.registry.expected(slot, "")
                self.report.mistake(node.line, (*path, key), f"found no {key}, {known}")
                return BAD
            kind = default_kind
        elif isinstance(chosen, Scalar) and isinstance(chosen.value, str):
            kind = chosen.value
        else:
            assert chosen is not None, "absent is null"
            return self.bad(chosen, (*path, key), f"the name of a {key}")
        line = node.entries[key].line if key in node.entries else node.line
        cls = self._class(slot, kind, line, (*path, key))
        if cls is None:
            return BAD
        full = self.registry.full_kind(slot, kind) or kind
        value = self.table(cls, node, path, given={"kind": full}, skip=(key,))
        self._rules(cls, slot, full, node, path, line)
        return value

    def _class(self, slot: str, kind: str, line: int, path: KeyPath) -> type[PluginConfig] | None:
        try:
            return self.registry.load(slot, kind)
        except UnknownKindError as error:
            replacement = removed_kind(slot, kind)
            if replacement is not None:
                self.report.mistake(line, path, f"found the {slot} {quote(kind)}: {replacement}")
            else:
                self.report.mistake(line, path, f"found the unknown {slot} {quote(kind)}, {error}")
        except ConfigError as error:
            self.report.mistake(line, path, str(error))
        return None

    def _rules(
        self, cls: type[PluginConfig], slot: str, kind: str, node: Table, path: KeyPath, line: int
    ) -> None:
        experimental = node.get("experimental")
        on = isinstance(experimental, Scalar) and experimental.value is True
        if cls.needs_experimental and not on:
            what = "found nothing" if experimental is None else found(experimental)
            self.report.mistake(
                line,
                (*path, "experimental"),
                f"{what}, expected true: the {slot} {kind} is experimental and must be explicitly enabled by setting "
                "the `experimental' parameter to `true'",
            )
        if cls.unavailable is not None:
            self.report.cannot_run(line, path, f"the {slot} {kind} cannot run yet: {cls.unavailable}")
