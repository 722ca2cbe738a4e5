"""The counters of one scope (a server, a service, a client), resolved once when its stack is built."""

from __future__ import annotations

from hostmesh.base.reasons import Reason
from hostmesh.telemetry.metrics import UNSORTED, Counter, Scope


class ScopeStats:
    """requests, success, failures, request_latency_ms and status/* below one node of the metrics tree.

    ``done`` is on the path of every request: one addition and one sample.
    """

    __slots__ = ("_counts", "_latency", "_samples", "_scope", "_tally", "pending", "reasons")

    def __init__(self, scope: Scope, *, statuses: bool) -> None:
        self._scope = scope
        self._tally = scope.tally()
        if statuses:
            self._tally.count_statuses(scope)
        self._counts = self._tally.counts
        self._latency = scope.stat("request_latency_ms", scale=1000)
        self._samples = self._latency.unsorted
        self.pending = 0
        scope.gauge("pending", lambda: float(self.pending))
        self.reasons: dict[str, Counter] = {}

    def done(self, status: int, micros: int, ok: bool) -> None:
        """Account one finished request: its status (0 if none reached the caller), latency in us, and verdict."""
        counts = self._counts
        outcome = status if ok else ~status
        if outcome in counts:
            counts[outcome] += 1
        else:
            self._tally.first(outcome)
        samples = self._samples
        samples.append(micros)
        if len(samples) >= UNSORTED:
            self._latency.sort()

    def failed(self, reason: Reason) -> None:
        """Count a reason under ``failures/<reason>``; the request itself is counted by :meth:`done`."""
        counter = self.reasons.get(reason.value)
        if counter is None:
            counter = self._scope.scope("failures").counter(reason.value)
            self.reasons[reason.value] = counter
        counter.value += 1
