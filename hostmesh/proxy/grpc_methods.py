"""What the calls of each gRPC method came to, per dst path: ``.../grpc/<package.Service/Method>/...``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hostmesh.protocol.grpc import Code, code_of_http, code_of_reason, method_of, parse_status, status_in
from hostmesh.proxy.stats import ScopeStats

if TYPE_CHECKING:
    from hostmesh.proxy.exchange import Exchange
    from hostmesh.telemetry.metrics import Counter, Scope

MAX_METHODS = 100
"""Methods counted by name under one dst path; further ones share :data:`OTHER`. Large services have some dozens, and
callers choose the names."""

OTHER = "other"
"""The name of all methods over the limit, and of targets that are no method's."""

MAX_CODE: Final = 16
"""The highest status that has a counter of its own; peers may make up others, which count as UNKNOWN (2)."""


_OK_TRAILER: Final = b"grpc-status: 0\r\n"
"""What the trailers of nearly every call begin with, as our own halves write them down."""


class MethodStats:
    """One method: requests, success, failures, request_latency_ms, and ``status/<code>``."""

    __slots__ = ("_codes", "_scope", "stats")

    def __init__(self, scope: Scope) -> None:
        self.stats = ScopeStats(scope, statuses=False)
        self._scope = scope.scope("status")
        self._codes: dict[int, Counter] = {}

    def done(self, code: int, micros: int, ok: bool) -> None:
        self.stats.done(0, micros, ok)
        counter = self._codes.get(code)
        if counter is None:
            known = code if code <= MAX_CODE else Code.UNKNOWN
            counter = self._codes[known] = self._scope.counter(str(int(known)))
        counter.value += 1


class GrpcMethods:
    """The methods of one dst path, known from their first call on."""

    __slots__ = ("_known", "_other", "_scope")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._known: dict[bytes, MethodStats] = {}
        """By target."""
        self._other: MethodStats | None = None

    def done(self, ex: Exchange, micros: int, ok: bool | None) -> None:
        """Account a finished call; ``ok`` is the verdict of a classifier that knows gRPC, or None."""
        code = code_of(ex)
        if ok is None:
            ok = code == 0
        stats = self._known.get(ex.head.target) or self._first(ex.head.target)
        stats.done(code, micros, ok)

    def _first(self, target: bytes) -> MethodStats:
        found = method_of(target)
        if found is not None and len(self._known) < MAX_METHODS:
            stats = self._known[target] = MethodStats(self._scope.scope("/".join(found)))
            return stats
        if self._other is None:
            self._other = MethodStats(self._scope.scope(OTHER))
        return self._other


def code_of(ex: Exchange) -> int:
    """The status that the caller of a finished exchange was told, or would have been if it had waited."""
    error = ex.error
    if error is not None:
        return code_of_reason(error.reason, error.status)
    trailers = ex.response_trailers
    if trailers.startswith(_OK_TRAILER):
        return 0
    code = status_in(trailers) if trailers else None
    response = ex.response
    if code is None and response is not None:
        code = parse_status(response.get(b"grpc-status"))
        if code is None:
            return code_of_http(response.status)
    return Code.UNKNOWN if code is None else code
