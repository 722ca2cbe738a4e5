"""The retry budget: how much extra traffic retries may make.

Every original request deposits, every repeat withdraws. In the long run repeats are at most ``percent`` of
the requests plus ``min_per_sec`` a second, so an endpoint set that is down is never hit by a storm.
"""

from __future__ import annotations

from hostmesh.base.window import LeakyBucket

SCALE = 1000
"""Tokens per deposit. Integers, so that balances are exact."""

TTL = 10
"""Seconds that a deposit lives; Linkerd's ``ttlSecs`` default."""

MIN_PER_SEC = 10
"""Repeats per second that need no deposits; Linkerd's ``minRetriesPerSec`` default. Keeps rare requests
retryable."""

PERCENT = 0.2
"""Repeats per request as a ratio; Linkerd's ``percentCanRetry`` default."""

REQUEUE_SHARE = 0.2
"""Part of the balance that one request may use for its requeues."""


class RetryBudget:
    """A leaky bucket over deposits, with a reserve of ``min_per_sec * ttl`` repeats.

    ``ttl`` is seconds, 1 to 60; ``min_per_sec`` at least 0; ``percent`` is a ratio, 0 to 1000 (0.2: one
    repeat per five requests). With both 0 nothing is ever granted. Times are seconds, monotonic; ``now`` is
    that of creation.
    """

    __slots__ = ("_adder", "_bucket", "_deposit", "_withdrawal", "exhausted")

    def __init__(
        self, ttl: float = TTL, min_per_sec: int = MIN_PER_SEC, percent: float = PERCENT, now: float = 0.0
    ) -> None:
        if not 1 <= ttl <= 60 or min_per_sec < 0 or not 0 <= percent <= 1000:
            raise ValueError(
                f"found ttl {ttl}, min {min_per_sec}, percent {percent};"
                " expected ttl from 1 to 60, min at least 0, percent from 0 to 1000"
            )
        self._deposit = SCALE if percent > 0 else 0
        self._withdrawal = max(1, int(SCALE / percent)) if percent > 0 else 1
        self._bucket = LeakyBucket(ttl, int(min_per_sec * ttl * self._withdrawal), now)
        self._adder = self._bucket.adder
        self.exhausted = 0
        """Withdrawals that were refused."""

    def deposit(self, now: float) -> None:
        """An original request. Called for each one, hence inline."""
        adder = self._adder
        if now >= adder.next_turn:
            adder.advance(now)
        adder.open += self._deposit

    def try_withdraw(self, now: float) -> bool:
        """Pay for one repeat, if there is enough."""
        if self._bucket.try_get(self._withdrawal, now):
            return True
        self.exhausted += 1
        return False

    def balance(self, now: float) -> int:
        """Repeats that could be paid for now."""
        return max(0, self._bucket.count(now) // self._withdrawal)

    def requeue_limit(self, now: float) -> int:
        """How often one request may be requeued: a fifth of the balance, rounded up."""
        return -(-self.balance(now) // int(1 / REQUEUE_SHARE))
