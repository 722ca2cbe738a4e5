"""Paths: what names are made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Self, cast

from hostmesh.naming.syntax import PLAIN_PATH, Scanner, canonical_segment, segment_text


class Path(tuple[str, ...]):
    """An immutable sequence of non-empty segments; the empty path is falsy and shows as ``/``.

    A tuple, so that hashing and comparing, done for each request, run at the speed of C; how it shows is kept
    after the first time. ``Path(segments)`` does not check its segments; :meth:`of` and :meth:`read` do.
    Indexing with a slice gives a plain tuple: use :meth:`take` and :meth:`drop`.
    """

    EMPTY: ClassVar[Path]
    _shown: str | None = None

    @classmethod
    def of(cls, *segments: str) -> Self:
        """A path of these segments; ValueError if one is empty. Any text is a segment, ``/`` included."""
        return cls(map(canonical_segment, segments))

    @classmethod
    def read(cls, text: str) -> Self:
        """The path written as ``text``; DtabError, a ValueError with line and column, if it is not one."""
        if PLAIN_PATH.fullmatch(text):
            path = cls(text[1:].split("/"))
            path._shown = text
            return path
        scanner = Scanner(text)
        scanner.blank()
        segments = scanner.segments()
        scanner.blank()
        scanner.end("a path")
        return cls(cast("list[str]", segments))

    def show(self) -> str:
        """The path as text; :meth:`read` gives it back."""
        shown = self._shown
        if shown is None:
            shown = self._shown = "/" + "/".join(map(segment_text, self))
        return shown

    def startswith(self, prefix: Iterable[str]) -> bool:
        """Whether ``prefix`` is a prefix of this, by segment and never by character."""
        start = prefix if isinstance(prefix, tuple) else tuple(prefix)
        return self[: len(start)] == start

    def take(self, n: int) -> Self:
        """The first ``n`` segments, or all if there are fewer."""
        return self if n >= len(self) else type(self)(self[: max(n, 0)])

    def drop(self, n: int) -> Self:
        """All but the first ``n`` segments."""
        return self if n <= 0 else type(self)(self[n:])

    def __add__(self, other: tuple[str, ...]) -> Self:  # type: ignore[override]  # paths stay paths
        if not other:
            return self
        return type(self)(tuple.__add__(self, other))

    def __str__(self) -> str:
        return self.show()

    def __repr__(self) -> str:
        return f"Path({self.show()})"


Path.EMPTY = Path()
