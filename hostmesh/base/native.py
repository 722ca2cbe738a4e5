"""What mypyc has to be told of classes. Python runs without it: the package it comes from is one for development."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

_Class = TypeVar("_Class", bound=type)

if TYPE_CHECKING:
    from mypy_extensions import trait as trait
else:

    def trait(cls: _Class) -> _Class:
        """A compiled class that other compiled ones inherit from beside their base."""
        return cls
