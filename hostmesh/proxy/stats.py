"""The counters of one scope (a server, a service, a client), resolved once when its stack is built."""

from __future__ import annotations

from typing import Final

from hostmesh.base.reasons import Reason
from hostmesh.telemetry.metrics import Counter, Scope
from hostmesh.telemetry.stat import Sorted


class ScopeStats:
    """requests, success, failures, request_latency_ms and status/* below one node of the metrics tree."""

    __slots__ = ("_latency", "_scope", "_tally", "pending", "reasons")

    def __init__(self, scope: Scope, *, statuses: bool) -> None:
        self._scope = scope
        self._tally = scope.tally()
        if statuses:
            self._tally.count_statuses(scope)
        self._latency = scope.stat("request_latency_ms", scale=1000)
        self._latency.before = self._tally.collect
        self.pending = 0
        scope.gauge("pending", lambda: float(self.pending))
        self.reasons: dict[str, Counter] = {}

    def done(self, status: int, micros: int, ok: bool) -> None:
        """Account one finished request: its status (0 if none reached the caller), latency in us, and verdict."""
        self._tally.add(status if ok else ~status, 1)
        self._latency.add(micros)

    def failed(self, reason: Reason) -> None:
        """Count a reason under ``failures/<reason>``; the request itself is counted by :meth:`done`."""
        counter = self.reasons.get(reason.value)
        if counter is None:
            counter = self._scope.scope("failures").counter(reason.value)
            self.reasons[reason.value] = counter
        counter.value += 1


LEDGER: Final = 64
"""Entries of one outcome that a ledger keeps before it settles: 2 KB, and settling more at once is hardly cheaper."""


class Ledger:
    """Finished requests that count alike in two scopes, kept until there are :data:`LEDGER` or somebody reads.

    A request is counted in four scopes: server and service, client and the service below the client. One by one that
    was a seventh of all the bytecode that a request ran.
    """

    __slots__ = ("_cells", "_first", "_second")

    def __init__(self, first: ScopeStats, second: ScopeStats) -> None:
        self._first = first
        self._second = second
        self._cells: dict[int, list[int]] = {}

    def add(self, outcome: int, micros: int) -> None:
        """A request ended: its status if it was a success, else ``~status``, and its latency in us."""
        cell = self._cells.get(outcome)
        if cell is None:
            cell = self._cells[outcome] = []
        cell.append(micros)
        size = len(cell)
        if size == 1:
            self._first._tally.ledgers[self] = None
            self._second._tally.ledgers[self] = None
        elif size == LEDGER:
            self.settle()

    def settle(self) -> None:
        """Count what is kept."""
        for outcome, cell in self._cells.items():
            if cell:
                samples = Sorted(cell)
                for stats in (self._first, self._second):
                    stats._tally.add(outcome, len(cell))
                    stats._latency.take(samples)
                cell.clear()
