"""The only door to time and chance. The daemon opens it on the real clock, tests on a virtual one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from random import Random


class Env(Protocol):
    """Monotonic time, wall time and named random generators."""

    def now(self) -> float:
        """Seconds on a monotonic clock; only differences mean anything."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch: for logs, headers and certificates, never for timers."""
        ...

    def rng(self, name: str) -> Random:
        """A generator seeded from (seed, name), so that a new consumer never shifts the draws of another."""
        ...
