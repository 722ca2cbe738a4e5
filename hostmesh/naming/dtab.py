"""Delegation tables: ordered rules ``prefix => name tree``, of which later ones win."""

from __future__ import annotations

from typing import ClassVar

from attrs import field, frozen

from hostmesh.naming import nametree
from hostmesh.naming.nametree import NEG, Alt, NameTree, mapped
from hostmesh.naming.path import Path
from hostmesh.naming.syntax import DtabError, Scanner, segment_text

__all__ = ["Dentry", "Dtab", "DtabError", "Prefix"]


@frozen
class Prefix:
    """What a dentry matches: segments, of which None stands for any one segment and is written ``*``."""

    elements: tuple[str | None, ...]

    @classmethod
    def read(cls, text: str) -> Prefix:
        """The prefix written as ``text``; DtabError if it is not one."""
        scanner = Scanner(text)
        prefix = _scan_prefix(scanner)
        scanner.end("a prefix")
        return prefix

    def show(self) -> str:
        return "/" + "/".join("*" if each is None else segment_text(each) for each in self.elements)

    def matches(self, path: Path) -> bool:
        """Whether this is a prefix of ``path``."""
        elements = self.elements
        if len(elements) > len(path):
            return False
        for element, segment in zip(elements, path, strict=False):
            if element != segment and element is not None:
                return False
        return True

    def __len__(self) -> int:
        return len(self.elements)

    def __str__(self) -> str:
        return self.show()


@frozen
class Dentry:
    """One rule."""

    prefix: Prefix
    dst: NameTree[Path]

    @classmethod
    def read(cls, text: str) -> Dentry:
        """The dentry written as ``text``, without ``;``; DtabError if it is not one."""
        scanner = Scanner(text)
        dentry = _scan_dentry(scanner)
        scanner.end("a dentry")
        return dentry

    def show(self) -> str:
        return f"{self.prefix.show()}=>{nametree.show(self.dst, Path.show)}"

    def follow(self, path: Path) -> NameTree[Path]:
        """Where this rule sends ``path``, which its prefix matches: what the prefix leaves is appended to
        each leaf.
        """
        rest = path[len(self.prefix.elements) :]
        if not rest:
            return self.dst
        return mapped(self.dst, lambda leaf: leaf + rest)

    def __str__(self) -> str:
        return self.show()


@frozen(cache_hash=True)
class Dtab:
    """Dentries in order. Hashable: a request's own dtab is part of a cache key."""

    dentries: tuple[Dentry, ...] = ()
    _index: list[_Level] = field(factory=list, init=False, eq=False, repr=False)

    EMPTY: ClassVar[Dtab]

    @classmethod
    def read(cls, text: str) -> Dtab:
        """The dtab written as ``text``; DtabError with line and column if it is not one."""
        scanner = Scanner(text)
        dentries = []
        scanner.blank()
        while scanner.peek():
            dentries.append(_scan_dentry(scanner))
            if scanner.peek():
                scanner.expect(";", "between two dentries")
                scanner.blank()
        return cls(tuple(dentries))

    def show(self) -> str:
        """On one line, as headers carry it."""
        return ";".join(each.show() for each in self.dentries)

    def matches(self, path: Path) -> list[Dentry]:
        """The dentries whose prefix ``path`` has, the one that wins first.

        Takes time in the length of the path and not of the dtab, but for the first time.
        """
        if not self._index:
            self._index.append(_indexed(self.dentries))
        levels = [self._index[0]]
        found = list(self._index[0].ending)
        for segment in path:
            below = []
            for level in levels:
                for each in (level.below.get(segment), level.any_below):
                    if each is not None:
                        below.append(each)
                        found += each.ending
            if not below:
                break
            levels = below
        if len(found) > 1:
            found.sort(reverse=True)
        return [self.dentries[at] for at in found]

    def lookup(self, path: Path) -> NameTree[Path]:
        """Where the dtab sends ``path``: Neg without a match, the tree of the only match, or the Alt of all,
        later first.
        """
        found = self.matches(path)
        if not found:
            return NEG
        if len(found) == 1:
            return found[0].follow(path)
        return Alt(tuple(each.follow(path) for each in found))

    def __add__(self, other: Dtab) -> Dtab:
        """This dtab with the dentries of ``other`` after, that is before, its own."""
        if not other.dentries:
            return self
        if not self.dentries:
            return other
        return Dtab(self.dentries + other.dentries)

    def __len__(self) -> int:
        return len(self.dentries)

    def __str__(self) -> str:
        return self.show()


Dtab.EMPTY = Dtab()


class _Level:
    """One element of the prefixes that begin alike."""

    __slots__ = ("any_below", "below", "ending")

    def __init__(self) -> None:
        self.below: dict[str, _Level] = {}
        self.any_below: _Level | None = None
        self.ending: list[int] = []
        """The places of the dentries whose prefix ends here."""


def _indexed(dentries: tuple[Dentry, ...]) -> _Level:
    root = _Level()
    for at, dentry in enumerate(dentries):
        level = root
        for element in dentry.prefix.elements:
            if element is not None:
                level = level.below.setdefault(element, _Level())
            else:
                if level.any_below is None:
                    level.any_below = _Level()
                level = level.any_below
        level.ending.append(at)
    return root


def _scan_prefix(scanner: Scanner) -> Prefix:
    scanner.blank()
    prefix = Prefix(tuple(scanner.segments(wildcards=True)))
    scanner.blank()
    return prefix


def _scan_dentry(scanner: Scanner) -> Dentry:
    prefix = _scan_prefix(scanner)
    scanner.expect("=>", "after the prefix of a dentry")
    return Dentry(prefix, nametree.scan_tree(scanner))
