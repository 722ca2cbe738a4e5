"""What has come into and gone out of the replica sets, and who said so."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from hostmesh.base.env import Env

JOURNAL_SIZE = 4096
"""Entries kept per journal: a deployment of 1,000 endpoints with its surge, and an afternoon around it. About
1 MB."""


class Entry(NamedTuple):
    """One thing that was believed about one name."""

    number: int
    """Counts up without gaps from 1, so that a reader sees what the bound has thrown away."""
    at: float
    """Seconds since the epoch."""
    name: str
    action: str
    """``add``, ``change``, ``remove`` (an endpoint), ``absent`` (the name is gone), ``error``,
    ``recovered``, ``restore`` (from before the start), ``guard`` (a mass removal is put off)."""
    what: str
    """The endpoint as ``ip:port``, or the cause."""
    source: str
    version: str
    """Which state of the source: its index, session or time of change."""

    def json(self) -> dict[str, object]:
        """Under the names that the admin API uses."""
        return {
            "number": self.number,
            "at": round(self.at * 1000),
            "name": self.name,
            "action": self.action,
            "what": self.what,
            "source": self.source,
            "index": self.version,
        }


class Journal:
    """A bounded list of entries, oldest first. One per namer, so that a busy registry leaves the others
    theirs."""

    def __init__(self, env: Env, size: int = JOURNAL_SIZE) -> None:
        self._env = env
        self.size = size
        self._entries: deque[Entry] = deque(maxlen=size)
        self._count = 0

    def __len__(self) -> int:
        return len(self._entries)

    def write(self, name: str, action: str, what: str, source: str, index: str = "") -> None:
        self._count += 1
        self._entries.append(Entry(self._count, self._env.wall(), name, action, what, source, index))

    def skip(self, count: int) -> None:
        """Number as many entries as thrown away: a change of more endpoints than the journal holds writes the last."""
        self._count += count

    def entries(self, name: str | None = None, after: int = 0) -> list[Entry]:
        """Those of one name, or all; only those with a number above ``after``."""
        return [
            entry for entry in self._entries if entry.number > after and (name is None or entry.name == name)
        ]
