"""What was expected, in words."""

from __future__ import annotations

import types
import typing
from collections.abc import Collection, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Annotated, Any, Literal

from hostmesh.config.shape import Bounds, Field


def expected(field: Field) -> str:
    """What the key of this field takes."""
    if field.slot is not None:
        return f"a list of {field.slot}s" if field.many else f"a {field.slot}"
    if field.read is not None:
        return str(field.metadata.get("expected", "a value"))
    return noun(field.type)


def noun(tp: Any) -> str:
    """What a value of this type is written as."""
    origin = typing.get_origin(tp)
    if origin is Annotated:
        inner, *checks = typing.get_args(tp)
        bounds = next((check for check in checks if isinstance(check, Bounds)), None)
        return bounds.expected(whole=inner is int) if bounds else noun(inner)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(noun(argument) for argument in typing.get_args(tp) if argument is not type(None))
    if origin is Literal:
        return "one of: " + ", ".join(map(str, typing.get_args(tp)))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a mapping"
    if isinstance(origin, type) and issubclass(origin, Collection):
        return "a list"
    nouns = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    if tp in nouns:
        return nouns[tp]
    if isinstance(tp, type) and issubclass(tp, Enum):
        return "one of: " + ", ".join(str(member.value) for member in tp)
    if isinstance(tp, type) and issubclass(tp, PurePath):
        return "a file path"
    name = getattr(tp, "__name__", "a value")
    return {"Path": "a path that starts with '/'", "Dtab": "a dtab"}.get(name, "a mapping")
