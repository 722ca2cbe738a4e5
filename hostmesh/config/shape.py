"""What a config class looks like in YAML: its keys, their types, defaults and documentation."""

from __future__ import annotations

import sys
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import attrs
from attrs import frozen

from hostmesh.base.plugin import SLOTS, PluginConfig

SECRETS = frozenset({"token", "password", "secret"})
"""Field names whose values never leave the process, besides those with ``metadata={"secret": True}``."""


def camel(name: str) -> str:
    """``total_timeout_ms`` as ``totalTimeoutMs``; a trailing underscore (``for_``) only keeps Python happy."""
    first, *rest = name.rstrip("_").split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


@frozen
class Bounds:
    """Limits of a number, for ``Annotated[int, Bounds(...)]``."""

    low: float | None = None
    high: float | None = None
    unit: str = ""
    """Said after "number" in messages: "of milliseconds"."""

    def holds(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def expected(self, whole: bool) -> str:
        noun = f"a {'whole ' if whole else ''}number" + (f" {self.unit}" if self.unit else "")
        if self.low is not None and self.high is not None:
            return f"{noun} from {self.low} to {self.high}"
        return noun if self.low is None else f"{noun}, at least {self.low}"


@frozen
class Text:
    """A check of a string, for ``Annotated[str, Text(...)]``: ``problem(text)`` is None, or what was expected."""

    problem: Callable[[str], str | None]


@frozen
class Field:
    """One key of a config class."""

    name: str
    """The attribute."""
    key: str
    """The YAML key."""
    type: Any
    """The evaluated annotation, or None where ``slot`` or ``read`` says how to convert."""
    many: bool
    """For ``slot``: several plugins."""
    as_list: bool
    """Several as a list, else as a tuple."""
    slot: str | None
    read: Any
    """A function (converter, node, path) -> value of a field with its own shape."""
    required: bool
    metadata: Mapping[str, Any]
    secret: bool


def slot_of(cls: object) -> str | None:
    """``BackoffConfig`` or a class with ``slot = "backoff"``: a plugin of that slot."""
    if not (isinstance(cls, type) and issubclass(cls, PluginConfig)):
        return None
    for base in cls.__mro__:
        declared = vars(base).get("slot")
        if isinstance(declared, str):
            return declared
        guess = base.__name__.removesuffix("Config").lower()
        if guess in SLOTS:
            return guess
    return None


def _evaluate(cls: type, attribute: attrs.Attribute[Any]) -> Any:
    """The annotation as a type. Raises NameError for names that exist only while type checking."""
    annotation: Any = (
        attribute.type
    )  # a string under `from __future__ import annotations`, whatever attrs declares
    if not isinstance(annotation, str):
        return annotation
    for base in cls.__mro__:
        if attribute.name in vars(base).get("__annotations__", {}):
            module = sys.modules[base.__module__]
            return eval(annotation, vars(module), vars(base))
    raise NameError(attribute.name)


def _plugin_slot(name: str, tp: Any) -> tuple[str | None, bool]:
    """The slot of an evaluated annotation, and whether it is a list of such plugins."""
    arguments = [arg for arg in typing.get_args(tp) if arg not in (type(None), Ellipsis)]
    origin = typing.get_origin(tp)
    if origin in (list, tuple) or (isinstance(origin, type) and issubclass(origin, typing.Sequence)):
        return (_plugin_slot(name, arguments[0])[0], True) if arguments else (None, False)
    if arguments:
        return next(
            (found for found in (_plugin_slot(name, arg) for arg in arguments) if found[0]), (None, False)
        )
    if isinstance(tp, type) and issubclass(tp, PluginConfig):
        slot = slot_of(tp)
        return (slot or name.rstrip("s"), False)
    return None, False


@cache
def fields_of(cls: type[Any]) -> tuple[Field, ...]:
    """The keys of an attrs class, in the order of its fields; those with ``metadata={"internal": True}`` left out.

    A field of plugins is recognised by ``metadata={"slot": ...}``, or by its type: a PluginConfig subclass named after
    its slot (``BackoffConfig``) or with a class attribute ``slot``.
    """
    shaped = []
    for attribute in attrs.fields(cls):
        metadata = attribute.metadata
        if metadata.get("internal"):
            continue
        slot, read = metadata.get("slot"), metadata.get("read")
        many = str(attribute.type).startswith(("tuple[", "list[", "Sequence["))
        tp = None
        if slot is None and read is None:
            try:
                tp = _evaluate(cls, attribute)
            except NameError:
                # Imported only for the type checker: the field's name has to say what it holds.
                slot = attribute.name.rstrip("s") if attribute.name.rstrip("s") in SLOTS else None
                if slot is None:
                    raise TypeError(
                        f"{cls.__name__}.{attribute.name}: cannot evaluate {attribute.type!r}"
                    ) from None
            else:
                slot, many = _plugin_slot(attribute.name, tp)
        shaped.append(
            Field(
                name=attribute.name,
                key=metadata.get("key", camel(attribute.name)),
                type=tp,
                many=many,
                as_list=str(attribute.type).startswith("list["),
                slot=slot,
                read=read,
                required=attribute.default is attrs.NOTHING,
                metadata=metadata,
                secret=bool(metadata.get("secret")) or attribute.name in SECRETS,
            )
        )
    return tuple(shaped)
