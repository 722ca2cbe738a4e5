"""Under which names the services of a router are shown in the metrics.

A service has its own name from the moment when it is first bound to something. Those that never were share one: hosts
are made up by callers, and must fill neither the memory nor what people look at (hardening P6).
"""

from __future__ import annotations

from collections.abc import Callable

from hostmesh.naming.path import Path
from hostmesh.proxy.stats import ScopeStats
from hostmesh.telemetry.metrics import Scope

UNKNOWN = "unknown"
"""The name of all that have never been bound to anything."""


class ServiceNames:
    """``service/*`` of a router; ``pending()`` is how many requests of strangers are in flight."""

    def __init__(self, scope: Scope, pending: Callable[[], int]) -> None:
        self._scope = scope
        self._pending = pending
        self._strangers: dict[str, Scope] = {}
        """What strangers have counted, by their names; nobody sees it, and each has a path stack."""
        self._unknown: ScopeStats | None = None

    def scope_of(self, path: Path) -> Scope:
        """Where the service of ``path`` counts."""
        name = path.show()[1:]
        known = self._scope.children.get(name)
        if known is None:
            known = self._strangers.get(name)
            if known is None:
                known = self._strangers[name] = Scope()
        return known

    def show_strangers(self) -> ScopeStats:
        """What strangers count together, in the tree from the first one on."""
        if self._unknown is None:
            scope = self._scope.scope(UNKNOWN)
            self._unknown = ScopeStats(scope, statuses=False)
            scope.gauge("pending", lambda: float(self._pending()))
        return self._unknown

    def known(self, path: Path) -> None:
        """``path`` has been bound to something: it is no stranger any more, and brings along what it has counted."""
        name = path.show()[1:]
        scope = self._strangers.pop(name, None)
        if scope is not None:
            self._scope.adopt(name, scope)

    def forget(self, path: Path) -> None:
        """Nobody asks for it any more."""
        name = path.show()[1:]
        self._scope.prune(name)
        scope = self._strangers.pop(name, None)
        if scope is not None:
            scope.take_apart()

    def take_over(self, old: ServiceNames) -> None:
        """Go on with the strangers of the router that this one replaces."""
        self._strangers = old._strangers
