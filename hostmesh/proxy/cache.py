"""A cache of stacks with a limit and an idle time, as Linkerd's binding caches have them.

A full cache evicts the entry that has been idle longest; if all are in use, the new one is a *one-shot*: it serves
its request and is closed with it. Entries unused for the idle time are swept.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from hostmesh.telemetry.metrics import Scope


class Stack(Protocol):
    last_used: float

    @property
    def idle(self) -> bool: ...

    def close(self) -> None: ...


K = TypeVar("K", bound=Hashable)
S = TypeVar("S", bound=Stack)

SCAN = 64
"""Entries looked at to find the idlest when the cache is full: eviction under a flood of made-up names must not walk
a thousand entries per request. Entries are kept in order of their making, so the scan meets the old ones first."""


class StackCache(Generic[K, S]):
    """``discard(key, stack)`` runs for what leaves, before it is closed: it prunes metrics."""

    def __init__(self, size: int, idle_ttl: float, scope: Scope, discard: Callable[[K, S], None]) -> None:
        self.size = size
        self.idle_ttl = idle_ttl
        self.entries: dict[K, S] = {}
        self.oneshots_open: set[S] = set()
        self._discard = discard
        self.misses = scope.counter("misses")
        self.evicts = scope.counter("evicts")
        self.expires = scope.counter("expires")
        self.oneshots = scope.counter("oneshots")

    def get(self, key: K) -> S | None:
        return self.entries.get(key)

    def add(self, key: K, stack: S) -> bool:
        """Keep a new stack; False means that there was no room and that it is a one-shot."""
        self.misses.value += 1
        if len(self.entries) >= self.size and not self._evict():
            self.oneshots.value += 1
            self.oneshots_open.add(stack)
            return False
        self.entries[key] = stack
        return True

    def _evict(self) -> bool:
        idlest: K | None = None
        found: S | None = None
        for looked, (key, stack) in enumerate(self.entries.items(), 1):
            if stack.idle and (found is None or stack.last_used < found.last_used):
                idlest, found = key, stack
            if looked >= SCAN and found is not None:
                break
        if found is None:
            return False
        self.evicts.value += 1
        self._drop(idlest, found)  # type: ignore[arg-type]  # set together with found
        return True

    def _drop(self, key: K, stack: S) -> None:
        del self.entries[key]
        self._discard(key, stack)
        stack.close()

    def sweep(self, now: float) -> None:
        """Drop what has been idle for the idle time, and one-shots that are done; the last entry stays."""
        for stack in [stack for stack in self.oneshots_open if stack.idle]:
            self.oneshots_open.discard(stack)
            stack.close()
        old = [
            (key, stack)
            for key, stack in self.entries.items()
            if stack.idle and now - stack.last_used >= self.idle_ttl
        ]
        if len(old) == len(self.entries) and old:
            old.remove(max(old, key=lambda item: item[1].last_used))
        for key, stack in old:
            self.expires.value += 1
            self._drop(key, stack)

    def close(self) -> None:
        for key, stack in list(self.entries.items()):
            self._drop(key, stack)
        for stack in self.oneshots_open:
            stack.close()
        self.oneshots_open.clear()
