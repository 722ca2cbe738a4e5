"""Fail fast: after a failed connect an endpoint is refused at once, until a connect of our own succeeds.

Linkerd's ``failFast``, off by default. Unlike failure accrual it refuses: a request whose every endpoint is refused
is answered without an attempt. With a single endpoint Finagle switches it off, since refusing then helps nobody.

| from     | event             | to       | action |
|----------|-------------------|----------|--------|
| Ok       | connect failed    | Retrying | blocked; a connect without a request after 1 s |
| Retrying | connect failed    | Retrying | nothing: it was under way, or a last resort |
| Retrying | own connect failed| Retrying | the next one later, up to 32 s |
| Retrying | connected         | Ok       | open |
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hostmesh.base.backoff import ExponentialJittered

if TYPE_CHECKING:
    from random import Random

    from hostmesh.routing.node import Node

RECONNECT = ExponentialJittered(1.0, 32.0)
"""Seconds between our own connects to a dead endpoint; Finagle's."""


class FailFastCounters:
    """What happened to the nodes of one client; plain ints for the metrics tree."""

    __slots__ = ("marked_available", "marked_dead", "unhealthy_for_ms", "unhealthy_num_tries")

    def __init__(self) -> None:
        self.marked_dead = 0
        self.marked_available = 0
        self.unhealthy_for_ms = 0
        """Milliseconds that nodes which are available again had been dead."""
        self.unhealthy_num_tries = 0
        """Connects of our own."""


class FailFast:
    """The state of one node. Whoever owns sockets arms a timer for the times it returns and connects then.

    Times are seconds, monotonic.
    """

    __slots__ = ("_delays", "_rng", "_since", "counters", "node")

    def __init__(self, node: Node, rng: Random, counters: FailFastCounters) -> None:
        self.node = node
        self.counters = counters
        self._rng = rng
        self._since = 0.0
        self._delays: Iterator[float] | None = None

    @property
    def refuses(self) -> bool:
        """Whether requests must not be sent to the node, not even as a last resort."""
        return self._delays is not None

    def on_connect_failed(self, now: float) -> float | None:
        """A request's connect failed. Returns when to connect without one, or None if that is arranged."""
        if self._delays is not None:
            return None
        self._delays = RECONNECT.delays(self._rng)
        self._since = now
        self.counters.marked_dead += 1
        self.node.block_connects(True)
        return now + next(self._delays)

    def on_retry_failed(self, now: float) -> float | None:
        """Our own connect failed. Returns when to try again, or None if the node is available meanwhile."""
        if self._delays is None:
            return None
        self.counters.unhealthy_num_tries += 1
        return now + next(self._delays)

    def on_connected(self, now: float) -> None:
        """A connect succeeded, our own or one that was under way."""
        if self._delays is not None:
            self._delays = None
            self.counters.marked_available += 1
            self.counters.unhealthy_for_ms += int((now - self._since) * 1000)
            self.node.block_connects(False)
