"""From tree to attrs classes: every mistake reported, none raised.

Written by hand rather than with cattrs, which would be left with choosing a function per type: keys, lines, warnings,
nearest names, default kinds and going on after a mistake are the whole of it, and all need the node, not its value.
"""

from __future__ import annotations

import re
import types
from collections.abc import Collection, Mapping
from typing import Any, Literal

import attrs
from attrs import frozen

from hostmesh.base.errors import ConfigError
from hostmesh.base.plugin import PluginConfig
from hostmesh.config.nouns import expected
from hostmesh.config.registry import Registry, UnknownKindError
from hostmesh.config.removed import removed_key, removed_kind
from hostmesh.config.report import KeyPath, Report, nearest, one_of, quote
from hostmesh.config.shape import Field, fields_of
from hostmesh.config.tree import Items, Node, Scalar, Table, absent, found, is_null, is_off
from hostmesh.config.values import BAD, Bad, ValueConverter

__all__ = ["BAD", "Bad", "Converter", "Made"]

_LEADING_KEY = re.compile(r"([A-Za-z][A-Za-z0-9]*)(?=[\s.:\[])")


@frozen
class Made:
    """A config object and where it came from; the cross checks look at these, also when other keys were wrong."""

    path: KeyPath
    line: int
    value: Any


class Converter(ValueConverter):
    """Converts one document. ``made`` collects every object that could be built."""

    def __init__(self, report: Report, registry: Registry) -> None:
        super().__init__(report)
        self.registry = registry
        self.made: list[Made] = []

    def trial(self, report: Report) -> Converter:
        """See :class:`ValueConverter`. What it makes, it makes for nobody to check."""
        return Converter(report, self.registry)

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
            # attrs' validators begin with the quoted name of the attribute.
            text = str(error.args[0] if error.args else error)
            key = next((field.key for field in fields_of(cls) if text.startswith(f"'{field.name}' ")), None)
            entry = node.entries.get(key) if key is not None else None
            if key is None or entry is None:
                self.report.mistake(node.line, path, f"refused: {text}")
            else:
                self.report.mistake(entry.line, (*path, key), f"{found(entry.node)}, refused: {text}")
            return BAD
        self.made.append(Made(path, node.line, value))
        check = getattr(value, "check", None)
        if callable(check):
            self._checked(check, {field.key for field in fields_of(cls)}, node, path)
        return value

    def _checked(self, check: Any, keys: Collection[str], node: Table, path: KeyPath) -> None:
        try:
            messages = check()
        except Exception as error:  # noqa: BLE001 -- a plugin's own code; its bug is a line in the report
            messages = [f"this plugin's check failed: {type(error).__name__}: {error}"]
        for message in messages:
            leading = _LEADING_KEY.match(message)
            if leading is None or leading.group(1) not in keys:
                self.report.mistake(node.line, path, message)
                continue
            key, rest = leading.group(1), message[leading.end() :]
            entry = node.entries.get(key)
            line = node.line if entry is None else entry.line
            # "key: found x, expected y" is complete; "key must be y" gets what was found put in front.
            if not rest.startswith(":"):
                rest = f":{'found nothing' if entry is None else found(entry.node)}; {message}"
            self.report.mistake(line, (*path, key), rest[1:].strip())

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
                return self._no_kind(slot, key, node, path)
            kind = default_kind
        elif isinstance(chosen, Scalar) and isinstance(chosen.value, str):
            kind = chosen.value
        else:
            assert chosen is not None, "absent is null"
            return self.bad(chosen, (*path, key), f"the name of a {key}")
        line = node.entries[key].line if key in node.entries else node.line
        known = self._class(slot, kind, line, (*path, key))
        if known is None:
            return BAD
        cls, full = known
        value = self.table(cls, node, path, given={"kind": full}, skip=(key,))
        self._rules(cls, slot, full, node, path, line)
        return value if self.registry.full_kind(slot, kind) == full else BAD

    def _no_kind(self, slot: str, key: str, node: Table, path: KeyPath) -> Literal[Bad.BAD]:
        near = nearest(key, node.entries)
        if near is not None and key not in node.entries:
            message = f"found the unknown key {quote(near)}, expected {key!r}"
            self.report.mistake(node.entries[near].line, (*path, near), message)
        else:
            known = self.registry.expected(slot, "")
            self.report.mistake(node.line, (*path, key), f"found no {key}, {known}")
        return BAD

    def _class(self, slot: str, kind: str, line: int, path: KeyPath) -> tuple[type[PluginConfig], str] | None:
        """The class and the full kind; of what was probably meant, after reporting, if the kind is unknown."""
        try:
            return self.registry.load(slot, kind), self.registry.full_kind(slot, kind) or kind
        except UnknownKindError as error:
            replacement = removed_kind(slot, kind)
            if replacement is not None:
                self.report.mistake(line, path, f"found the {slot} {quote(kind)}: {replacement}")
                return None
            self.report.mistake(line, path, f"found the unknown {slot} {quote(kind)}, {error}")
            return None if error.meant is None else self._class(slot, error.meant, line, path)
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
