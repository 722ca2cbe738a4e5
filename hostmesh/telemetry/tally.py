"""Requests counted by what became of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from hostmesh.telemetry.metrics import Scope


class Settles(Protocol):
    """What keeps requests for a tally."""

    def settle(self) -> None:
        """Count them."""
        ...


class Tally:
    """Requests by what became of them, and the counters that follow from that.

    ``counts`` has one entry per outcome: the status (0 if none reached the caller) of a success, and the complement
    ``~status`` of a failure. ``requests``, ``success``, ``failures`` and ``status/*`` are sums over it when somebody
    reads, so that a request pays for one addition and not for five. Before that, ``ledgers`` that keep requests for
    this tally settle.
    """

    __slots__ = ("_counts", "_statuses", "ledgers")

    def __init__(self, scope: Scope) -> None:
        self._counts: dict[int, int] = {}
        self._statuses: Scope | None = None
        self.ledgers: dict[Settles, None] = {}
        scope.counter_of("requests", lambda: self._sum(lambda outcome: True))
        scope.counter_of("success", lambda: self._sum(lambda outcome: outcome >= 0))
        scope.counter_of("failures", lambda: self._sum(lambda outcome: outcome < 0))

    def add(self, outcome: int, n: int) -> None:
        """Count ``n`` requests of an outcome."""
        counts = self._counts
        if outcome in counts:
            counts[outcome] += n
        else:
            counts[outcome] = n
            self._show(outcome)

    def collect(self) -> None:
        """Count what ledgers have kept until now."""
        while self.ledgers:
            self.ledgers.popitem()[0].settle()

    def _sum(self, holds: Callable[[int], bool]) -> int:
        self.collect()
        return sum(n for outcome, n in self._counts.items() if holds(outcome))

    def count_statuses(self, scope: Scope) -> None:
        """Also make ``status/*`` below ``scope``, for the statuses that occur."""
        if self._statuses is None:
            self._statuses = scope.scope("status")
            for outcome in self._counts:
                self._show(outcome)

    def _show(self, outcome: int) -> None:
        node = self._statuses
        if node is None:
            return
        status = _status(outcome)
        if 100 <= status <= 599:
            hundred = status // 100
            node.counter_of(str(status), lambda: self._sum(lambda o: _status(o) == status))
            node.counter_of(f"{hundred}XX", lambda: self._sum(lambda o: _status(o) // 100 == hundred))
        else:
            for name in ("error", "none"):
                node.counter_of(name, lambda: self._sum(lambda o: not 100 <= _status(o) <= 599))


def _status(outcome: int) -> int:
    return outcome if outcome >= 0 else ~outcome
