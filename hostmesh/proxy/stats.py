"""The counters of one scope (a server, a service, a client), resolved once when its stack is built."""

from __future__ import annotations

from hostmesh.base.reasons import Reason
from hostmesh.telemetry.metrics import Counter, Scope


class ScopeStats:
    """requests, success, failures, request_latency_ms, status/* and time/* below one node of the metrics tree.

    ``done`` is on the path of every request: it touches attributes only, and a status code costs one dict look-up
    after its first appearance.
    """

    __slots__ = (
        "_by_status",
        "_scope",
        "failures",
        "latency",
        "pending",
        "reasons",
        "requests",
        "success",
    )

    def __init__(self, scope: Scope, *, statuses: bool) -> None:
        self._scope = scope
        self.requests = scope.counter("requests")
        self.success = scope.counter("success")
        self.failures = scope.counter("failures")
        self.latency = scope.stat("request_latency_ms", scale=1000)
        self.pending = 0
        scope.gauge("pending", lambda: float(self.pending))
        self.reasons: dict[str, Counter] = {}
        self._by_status: dict[int, tuple[Counter, Counter]] | None = {} if statuses else None

    def done(self, status: int, micros: int, ok: bool) -> None:
        """Account one finished request: its status (0 if none reached the caller), latency in us, and verdict."""
        self.requests.value += 1
        if ok:
            self.success.value += 1
        else:
            self.failures.value += 1
        self.latency.add(micros)
        statuses = self._by_status
        if statuses is not None:
            pair = statuses.get(status)
            if pair is None:
                pair = self._status(status)
            pair[0].value += 1
            pair[1].value += 1

    def _status(self, status: int) -> tuple[Counter, Counter]:
        assert self._by_status is not None
        node = self._scope.scope("status")
        if 100 <= status <= 599:
            pair = (node.counter(str(status)), node.counter(f"{status // 100}XX"))
        else:
            pair = (node.counter("error"), node.counter("none"))
        self._by_status[status] = pair
        return pair

    def failed(self, reason: Reason) -> None:
        """Count a reason under ``failures/<reason>``; the request itself is counted by :meth:`done`."""
        counter = self.reasons.get(reason.value)
        if counter is None:
            counter = self._scope.scope("failures").counter(reason.value)
            self.reasons[reason.value] = counter
        counter.value += 1
