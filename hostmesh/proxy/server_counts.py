"""What a listening server counts of the requests that came to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.proxy.stats import Ledger, ScopeStats

if TYPE_CHECKING:
    from hostmesh.protocol.h1_message import ResponseHead
    from hostmesh.proxy.exchange import Exchange
    from hostmesh.telemetry.metrics import Scope


class ServerCounts:
    """One per server, and apart from it because it runs for every request: this can be compiled."""

    __slots__ = ("stats",)

    def __init__(self, scope: Scope) -> None:
        self.stats = ScopeStats(scope, statuses=True)

    def done(self, ex: Exchange, status: int, micros: int, ok: bool, now: float) -> None:
        """The end of every exchange: the caller's view of it."""
        stats = self.stats
        stats.pending -= 1
        response = ex.response
        if response is not None and not response.plain:
            served = self._served(ex, response, ok)
        else:
            served = 0 < status < 500
        path = ex.path
        if path is not None and served == ok:
            ledger = path.ledgers.get(stats)
            if ledger is None:
                ledger = path.ledgers[stats] = Ledger(stats, path.stats)
            ledger.add(status if ok else ~status, micros)
        else:
            if path is not None:
                if not path.judged_from:
                    # HTTP says 200 whatever a gRPC call came to: the verdict of its classifier counts here, too.
                    served = ok
                path.stats.done(status, micros, ok)
            stats.done(status, micros, served)
        error = ex.error
        if error is not None:
            stats.failed(error.reason)
        recorder = ex.router.recorder
        if recorder is not None:
            recorder.exchange_done(ex, micros, ok, now)

    def _served(self, ex: Exchange, response: ResponseHead, ok: bool) -> bool:
        path = ex.path
        if path is not None and not path.judged_from:
            return ok
        # The next hop's own verdict, where it is a linkerd or a hostmesh, else the status alone (reference 9.2).
        for name, value in response.special:
            if name == b"l5d-success-class":
                return value[:1] != b"0"
        return 0 < ex.status < 500
