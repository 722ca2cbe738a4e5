"""docs/config.md, written from the config classes: ``python -m hostmesh.config.docs > docs/config.md``.

Every key's text is the docstring under its attribute, so page and code cannot drift apart; a test compares them.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from typing import Annotated, Any, Final, Literal, TypeAlias

import attrs

from hostmesh.base.plugin import SLOTS, PluginConfig
from hostmesh.config.model import LinkerConfig
from hostmesh.config.policies import Policy
from hostmesh.config.registry import Registry
from hostmesh.config.shape import Bounds, Field, fields_of
from hostmesh.naming.dtab import Dtab
from hostmesh.naming.path import Path

INTRO: Final = """\
# Configuration

<!-- Written by `python -m hostmesh.config.docs > docs/config.md` from the docstrings of the config classes. -->

`hostmesh run FILE` reads one file: JSON if its first character is `{`, else YAML. The keys, kinds and defaults are
those of Linkerd 1.7, whose files run unchanged; where a default differs its row says so, and docs/migration.md says
why. Keys marked *hostmesh* are ours.

- `hostmesh check FILE` reports every mistake at once, each as `file:line: key: what was found, what was expected`. Its
  exit code is 0 for a file without mistakes, 1 for one with, 2 if there is no such file.
- Scalars are those of YAML 1.2: `on` and `12:30` are text, `0777` is no number. A decimal number in quotes is accepted
  with a warning.
- Unknown keys, duplicate keys, tags and files above 1 MiB are mistakes.
- A kind that starts with `io.l5d.` may be written without that: `kind: fs`.
- A kind or key marked *later* is checked like any other; `hostmesh run` refuses it by name.
- `experimental: true` is accepted everywhere and needed where the kind says so.
- A time is in the unit that its key names. Paths start with `/`.
"""

SLOT_TITLES: Final = {
    "protocol": ("Routers", "An entry of `routers` is chosen by `protocol`."),
    "namer": ("Namers", "Entries of `namers`; each is reached at `/#` + its prefix."),
    "identifier": ("Identifiers", "`identifier` of a router: one, or a list tried in order."),
    "interpreter": ("Interpreters", "`interpreter` of a router."),
    "transformer": ("Transformers", "Entries of `transformers` of a namer or an interpreter."),
    "balancer": ("Load balancers", "`loadBalancer` of a client."),
    "accrual": ("Failure accrual", "`failureAccrual` of a client."),
    "backoff": ("Backoffs", "`backoff` of retries and of failure accrual."),
    "classifier": ("Response classifiers", "`responseClassifier` of a service."),
    "labeler": ("Labelers", "`by` and `for` of `addForwardedHeader`."),
    "telemeter": ("Telemeters", "Entries of `telemetry`."),
    "announcer": ("Announcers", "Entries of `announcers` of a router."),
}

EXTENSIONS: Final = frozenset({"holdMs"})
"""Keys of ours in plugins that do not mark them in their metadata."""


Links: TypeAlias = Mapping[type, str]
"""Where each class of objects has its section: the section's title."""


@cache
def attribute_docs(cls: type) -> Mapping[str, str]:
    """The docstrings under the attributes of a class and its bases, by attribute name, on one line each."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not attrs.has(base):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef), "getsource of a class is a class"
        for statement, following in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(statement, ast.AnnAssign) and isinstance(following, ast.Expr):
                name, value = statement.target, following.value
                if (
                    isinstance(name, ast.Name)
                    and isinstance(value, ast.Constant)
                    and isinstance(value.value, str)
                ):
                    docs[name.id] = " ".join(value.value.split())
    return docs


def type_name(tp: Any, links: Links) -> str:
    """A type as the table has it; objects link to their own table."""
    origin = typing.get_origin(tp)
    arguments = typing.get_args(tp)
    if origin is Annotated:
        bounds = next((each for each in arguments[1:] if isinstance(each, Bounds)), None)
        unit = bounds.unit.removeprefix("of ") if bounds is not None else ""
        return unit or type_name(arguments[0], links)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(type_name(each, links) for each in arguments if each is not type(None))
    if origin is Literal:
        return ", ".join(f"`{each}`" for each in arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "mapping"
    if isinstance(origin, type):
        return f"list of {type_name(arguments[0], links)}"
    if tp in links:
        return f"[object](#{anchor(links[tp])})"
    plain = {bool: "boolean", int: "integer", float: "number", str: "text", Path: "path", Dtab: "dtab"}
    return plain.get(tp, "text")


def anchor(title: str) -> str:
    """The fragment that Markdown renderers give a heading."""
    return re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-")


def default_name(field: Field, default: Any) -> str:
    """A default as the table has it; objects and None say theirs in the text."""
    if field.metadata.get("default_kind"):
        return f"`{field.metadata['default_kind']}`"
    if field.required:
        return "required"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, Enum):
        return f"`{default.value}`"
    if isinstance(default, Path):
        return f"`{default.show()}`"
    if isinstance(default, str):
        return f"`{default}`" if default else '`""`'
    if isinstance(default, int | float):
        return f"`{default}`"
    if isinstance(default, tuple | list) and default:
        return "`[" + ", ".join(map(str, default)) + "]`"
    return ""


def rows(cls: type, links: Links) -> Iterator[str]:
    """The table of a class."""
    docs = attribute_docs(cls)
    defaults = {attribute.name: attribute.default for attribute in attrs.fields(cls)}
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for field in fields_of(cls):
        if field.name in ("kind", "experimental") and issubclass(cls, PluginConfig):
            continue
        type_ = _field_type(field, links)
        marks = "*hostmesh* " if field.metadata.get("extension") or field.key in EXTENSIONS else ""
        marks += "*later* " if field.metadata.get("unavailable") else ""
        text = docs.get(field.name, "").replace("|", "\\|").replace("``", "`")
        if marks:
            text = text.removeprefix("*hostmesh* ")  # some say it themselves
        yield f"| `{field.key}` | {type_} | {default_name(field, defaults[field.name])} | {marks}{text} |"


def _field_type(field: Field, links: Links) -> str:
    if field.slot is not None:
        title = SLOT_TITLES[field.slot][0]
        link = f"[{field.slot}](#{anchor(title)})"
        return f"list of {link}" if field.many else link
    if field.name == "identifier":
        return "[identifier](#identifiers)"
    if field.read is not None:
        params = field.metadata.get("params")
        return f"[object](#{anchor(links[params])})" if params is not None and params in links else "object"
    return type_name(field.type, links)


def nested(cls: type, path: str) -> Iterator[tuple[str, type]]:
    """The config classes inside a class, with the key path where each is met first."""
    for field in fields_of(cls):
        here = f"{path}.{field.key}" if path else field.key
        params = field.metadata.get("params")
        if params is not None:
            yield here, params
            yield from nested(params, here)
        elif field.slot is None and field.read is None:
            for inner, suffix in _classes(field.type):
                yield here + suffix, inner
                yield from nested(inner, here + suffix)


def _classes(tp: Any) -> Iterator[tuple[type, str]]:
    if isinstance(tp, type) and attrs.has(tp) and tp not in (Path, Dtab, Policy):
        yield tp, ""
    for argument in typing.get_args(tp):
        if argument not in (type(None), Ellipsis):
            many = typing.get_origin(tp) in (tuple, list)
            for inner, suffix in _classes(argument):
                yield inner, ("[]" if many else "") + suffix


def section(title: str, cls: type, level: int, links: Links) -> Iterator[str]:
    """One class: heading, text, what holds for all of it, table."""
    yield f"{'#' * level} `{title}`"
    yield ""
    yield inspect.cleandoc(cls.__doc__ or "").replace("``", "`")
    notes = []
    if issubclass(cls, PluginConfig) and cls.unavailable is not None:
        notes.append(f"*later*: {cls.unavailable}.")
    if issubclass(cls, PluginConfig) and cls.needs_experimental:
        notes.append("Needs `experimental: true`.")
    if notes:
        yield ""
        yield " ".join(notes)
    yield ""
    table = list(rows(cls, links))
    if len(table) > 2:
        yield from table
    else:
        yield "No keys."
    yield ""


def page(registry: Registry) -> str:
    """The whole page."""
    links: dict[type, str] = {}

    def inner(cls: type, prefix: str) -> list[tuple[str, type]]:
        """The sections below a class: each class of objects once, under the path where it is met first."""
        fresh = []
        for where, found in nested(cls, ""):
            if found not in links:
                links[found] = prefix + where
                fresh.append((prefix + where, found))
        return fresh

    # First where everything stands, then the text, so that links can point forward.
    file = inner(LinkerConfig, "")
    chapters = {
        slot: [
            (kind, cls, inner(cls, f"{kind} "))
            for kind in sorted(registry.kinds(slot), key=lambda kind: (kind != "http", kind))
            for cls in [registry.load(slot, kind)]
        ]
        for slot in SLOT_TITLES
    }
    lines = [INTRO, "## The file", "", *rows(LinkerConfig, links), ""]
    for where, cls in file:
        lines += section(where, cls, 3, links)
    for slot, (title, text) in SLOT_TITLES.items():
        lines += [f"## {title}", "", text, ""]
        for kind, plugin, below in chapters[slot]:
            lines += section(kind, plugin, 3, links)
            for where, cls in below:
                lines += section(where, cls, 4, links)
    return "\n".join(lines).rstrip() + "\n"


assert set(SLOT_TITLES) == set(SLOTS), "each slot has a chapter"


if __name__ == "__main__":
    sys.stdout.write(page(Registry.installed()))
