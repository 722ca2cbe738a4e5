"""Failure accrual: a node whose requests fail is marked dead for a while, then probed with one request.

| from        | event                        | to          | action |
|-------------|------------------------------|-------------|--------|
| Alive       | failure, policy gives d      | Dead        | blocked until now + d; removals + 1 |
| Alive       | failure, policy gives none   | Alive       | |
| Alive       | success                      | Alive       | policy.success |
| Dead        | d has passed                 | ProbeOpen   | seen lazily, there is no timer |
| Dead        | failure                      | Dead        | policy is not told |
| Dead        | success of a straggler       | Dead        | policy is not told |
| ProbeOpen   | dispatch                     | ProbeClosed | blocked for ever; probes + 1 |
| ProbeOpen   | success (of an older request)| ProbeOpen   | policy.success |
| ProbeOpen   | failure (of an older request)| ProbeOpen   | policy is not told |
| ProbeClosed | success                      | Alive       | revivals + 1; policy.revived, policy.success |
| ProbeClosed | failure, policy gives d      | Dead        | blocked until now + d |
| ProbeClosed | failure, policy gives none   | ProbeOpen   | probed again by the next request |
| ProbeClosed | ignorable                    | ProbeOpen   | the probe said nothing |

A dead node is avoided, never refused: if all are dead the balancer still picks one.
"""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import TYPE_CHECKING

from hostmesh.routing.accrual_policies import (
    AccrualConfig,
    AccrualPolicy,
    ConsecutiveFailuresConfig,
    NoAccrualConfig,
    SuccessRateConfig,
    SuccessRateWindowedConfig,
)

if TYPE_CHECKING:
    from hostmesh.routing.node import Node

__all__ = [
    "Accrual",
    "AccrualConfig",
    "AccrualCounters",
    "AccrualPolicy",
    "AccrualState",
    "ConsecutiveFailuresConfig",
    "NoAccrualConfig",
    "SuccessRateConfig",
    "SuccessRateWindowedConfig",
]

SOONEST = 1e-9
"""Least ``blocked_until`` of a node that is not Alive, so that 0.0 means Alive even at time 0 of a virtual
clock."""


class AccrualState(Enum):
    """The states of Finagle's failure accrual. Never "open" and "closed": those words have two meanings."""

    ALIVE = "Alive"
    DEAD = "Dead"
    PROBE_OPEN = "ProbeOpen"
    PROBE_CLOSED = "ProbeClosed"


class AccrualCounters:
    """What happened to the nodes of one client; plain ints for the metrics tree."""

    __slots__ = ("probes", "removals", "removed_for_ms", "revivals")

    def __init__(self) -> None:
        self.removals = 0
        self.probes = 0
        self.revivals = 0
        self.removed_for_ms = 0


class Accrual:
    """The state machine of one node. It writes ``node.blocked_until``; balancers read nothing else of it.

    ``blocked_until`` is 0.0 only if the node is Alive, so the data path may skip ``on_dispatch`` then.
    Of each attempt exactly one of ``on_success``, ``on_failure``, ``on_ignorable`` is told, at its response
    head or at its failure. Times are seconds, monotonic.
    """

    __slots__ = ("_is_alive", "_is_probing", "_revive_at", "counters", "node", "policy")

    def __init__(self, node: Node, policy: AccrualPolicy, counters: AccrualCounters) -> None:
        self.node = node
        self.policy = policy
        self.counters = counters
        self._is_alive = True
        self._is_probing = False
        self._revive_at = 0.0

    def state(self, now: float) -> AccrualState:
        if self._is_alive:
            return AccrualState.ALIVE
        if self._is_probing:
            return AccrualState.PROBE_CLOSED
        return AccrualState.PROBE_OPEN if self._revive_at <= now else AccrualState.DEAD

    def on_dispatch(self, now: float) -> None:
        """An attempt is sent to the node; in ProbeOpen it is the probe."""
        if not self._is_alive and not self._is_probing and self._revive_at <= now:
            self._is_probing = True
            self.counters.probes += 1
            self.node.block_until(inf)

    def on_success(self, now: float) -> None:
        if self._is_alive:
            self.policy.success(now)
        elif self._is_probing:
            self._is_alive = True
            self._is_probing = False
            self.node.block_until(0.0)
            self.counters.revivals += 1
            self.policy.revived(now)
            self.policy.success(now)
        # A straggler's success while Dead or ProbeOpen proves nothing about now. Finagle tells its policy,
        # which resets the count of consecutive failures, and then a failed probe is repeated without a delay.

    def on_failure(self, now: float) -> None:
        if self._is_alive:
            delay = self.policy.failure(now)
            if delay is not None:
                self._is_alive = False
                self.counters.removals += 1
                self._kill(now, delay)
        elif self._is_probing:
            self._is_probing = False
            delay = self.policy.failure(now)
            if delay is None:
                self.node.block_until(self._revive_at)
            else:
                self._kill(now, delay)

    def on_ignorable(self, now: float) -> None:
        """The attempt said nothing about the endpoint: its caller went away, or the fault was ours."""
        if self._is_probing:
            self._is_probing = False
            self.node.block_until(self._revive_at)

    def _kill(self, now: float, delay: float) -> None:
        self._revive_at = max(now + delay, SOONEST)
        self.node.block_until(self._revive_at)
        self.counters.removed_for_ms += int(delay * 1000)
