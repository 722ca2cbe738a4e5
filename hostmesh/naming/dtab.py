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
    _by_first: dict[str | None, tuple[Dentry, ...]] = field(factory=dict, init=False, eq=False, repr=False)

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
        """The dentries whose prefix ``path`` has, the one that wins first."""
        by_first = self._by_first
        if not by_first and self.dentries:
            self._index()
        # Indexed by first segment: a dtab of thousands of services costs a look-up what one of five does.
        first = path[0] if path else None
        candidates = by_first.get(first)
        if candidates is None:
            candidates = by_first.get(None, ())
        return [each for each in candidates if each.prefix.matches(path)]

    def _index(self) -> None:
        groups: dict[str | None, list[Dentry]] = {None: []}
        for dentry in self.dentries:
            groups.setdefault(dentry.prefix.elements[0] if dentry.prefix.elements else None, [])
        for dentry in reversed(self.dentries):
            first = dentry.prefix.elements[0] if dentry.prefix.elements else None
            # A rule for "/" or "/*" may match whatever comes first, so it is in every group, in its place.
            for key in (first,) if first is not None else groups:
                groups[key].append(dentry)
        self._by_first.update((key, tuple(group)) for key, group in groups.items())

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


def _scan_prefix(scanner: Scanner) -> Prefix:
    scanner.blank()
    prefix = Prefix(tuple(scanner.segments(wildcards=True)))
    scanner.blank()
    return prefix


def _scan_dentry(scanner: Scanner) -> Dentry:
    prefix = _scan_prefix(scanner)
    scanner.expect("=>", "after the prefix of a dentry")
    return Dentry(prefix, nametree.scan_tree(scanner))
