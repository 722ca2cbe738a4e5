"""What a Kubernetes API server sends: lists and watch events, read from bytes. Pure.

An answer is somebody else's content: whatever it holds, reading it ends in what is described here or in
:class:`BadAnswerError`, never in another exception.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")

MAX_LINE = 8 << 20
"""Bytes of one watch event. etcd refuses objects over 1.5 MB by default; in JSON they may grow some."""

MAX_ANSWER = 64 << 20
"""Bytes of one page of a list: 100 objects of 640 KB, far beyond the 1,000 endpoints of the largest slice."""

GONE = 410

_BOM = b"\xef\xbb\xbf"


class BadAnswerError(Exception):
    """The server has sent what no API server sends."""


class RefusedError(Exception):
    """The server answers, and refuses; ``status`` is the HTTP status code."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}".rstrip())
        self.status = status


class Lines:
    """Cuts a stream into lines at ``\\n`` only (what is a line end in Unicode occurs inside JSON strings).

    A line may come in any number of pieces; each byte is looked at once.
    """

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._is_first = True

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are complete now, without empty ones. Raises BadAnswerError for one that is too long."""
        pieces = data.split(b"\n")
        self._parts.append(pieces[0])
        self._size += len(pieces[0])
        if self._size > self._limit:
            raise BadAnswerError(f"expected events of at most {self._limit} bytes, found a longer one")
        if len(pieces) == 1:
            return []
        lines = [b"".join(self._parts), *pieces[1:-1]]
        self._parts = [pieces[-1]]
        self._size = len(pieces[-1])
        if self._is_first:
            self._is_first = False
            lines[0] = lines[0].removeprefix(_BOM)
        return [line for line in lines if line.strip()]


def parsed(data: bytes) -> dict[str, Any]:
    """The JSON object in ``data``."""
    try:
        value = json.loads(data.removeprefix(_BOM))
    except (ValueError, RecursionError) as error:
        raise BadAnswerError(f"expected JSON, found {data[:60]!r}: {type(error).__name__}") from error
    if not isinstance(value, dict):
        raise BadAnswerError(f"expected a JSON object, found {type(value).__name__}")
    return value


def mapping(value: object) -> Mapping[str, Any]:
    """``value`` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> Iterator[Mapping[str, Any]]:
    """The objects in ``value``, if it is a list."""
    if isinstance(value, list):
        for each in value:
            if isinstance(each, dict):
                yield each


def text(value: object) -> str:
    """``value`` if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def version_of(value: object) -> int:
    """A resourceVersion as a number that grows; 0 for what is none. They are etcd revisions everywhere."""
    digits = text(value)
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else 0


def newest(pages: list[dict[str, Any]]) -> int:
    """The version of a list."""
    return version_of(mapping(pages[-1].get("metadata")).get("resourceVersion")) if pages else 0


class Held(NamedTuple, Generic[T]):
    """One object as it is known."""

    version: int
    value: T


class Listing(Generic[T]):
    """The objects of one list and what its watch has said since.

    ``digest`` takes of an object what is wanted of it; the rest is not kept.
    """

    def __init__(self, digest: Callable[[Mapping[str, Any]], T]) -> None:
        self._digest = digest
        self._held: dict[str, Held[T]] = {}
        self.version = ""
        """Where a watch goes on; empty before a list is complete."""
        self.newest = 0
        """The version of the last list and of what its watch has said since, also when a watch cannot go on there."""
        self.skipped = 0
        """Objects without a name, events of unknown type, events older than what is known."""

    @property
    def values(self) -> tuple[T, ...]:
        """In the order of their names."""
        return tuple(self._held[key].value for key in sorted(self._held))

    def replace(self, pages: list[dict[str, Any]]) -> None:
        """Take a complete list, of one or more pages, instead of everything before."""
        held: dict[str, Held[T]] = {}
        for page in pages:
            for each in items(page.get("items")):
                key, one = self._read(each)
                if key:
                    held[key] = one
        version = text(mapping(pages[-1].get("metadata")).get("resourceVersion"))
        if not version:
            raise BadAnswerError("expected a list with a resourceVersion, found none")
        self._held = held
        self.version = version
        self.newest = newest(pages)

    def event(self, line: bytes) -> bool:
        """Take one watch event; returns whether the objects may have changed.

        Raises RefusedError for an ERROR event: 410 says that the version is too old to go on from.
        """
        event = parsed(line)
        kind = event.get("type")
        found = mapping(event.get("object"))
        if kind == "ERROR":
            status = found.get("code")
            raise RefusedError(status if isinstance(status, int) else 500, text(found.get("message"))[:300])
        version = text(mapping(found.get("metadata")).get("resourceVersion"))
        if kind == "BOOKMARK":
            self._at(version)
            return False
        key, one = self._read(found)
        if kind not in ("ADDED", "MODIFIED", "DELETED") or not key:
            self.skipped += 1
            return False
        known = self._held.get(key)
        if known is not None and one.version < known.version:
            self.skipped += 1
            return False
        self._at(version)
        if kind == "DELETED":
            return self._held.pop(key, None) is not None
        self._held[key] = one
        return known is None or known.value != one.value

    def _at(self, version: str) -> None:
        self.version = version or self.version
        self.newest = max(self.newest, version_of(version))

    def forget(self) -> None:
        """A watch cannot go on from here; the objects stay what they are until the next list."""
        self.version = ""

    def _read(self, found: Mapping[str, Any]) -> tuple[str, Held[T]]:
        metadata = mapping(found.get("metadata"))
        name = text(metadata.get("name"))
        if not name:
            self.skipped += 1
        key = f"{text(metadata.get('namespace'))}/{name}" if name else ""
        return key, Held(version_of(metadata.get("resourceVersion")), self._digest(found))
