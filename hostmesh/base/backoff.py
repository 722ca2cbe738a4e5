"""Sequences of delays: how long to wait before the next attempt or the next probe.

A backoff is a description; ``delays(rng)`` starts a fresh, endless iterator over seconds. The rules are Finagle's,
which differ from the article that they cite (M. Brooker, Exponential Backoff and Jitter, 2015): *jittered* never
shrinks, *exponential jittered* multiplies its own random values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from attrs import frozen

from hostmesh.base.plugin import PluginConfig

if TYPE_CHECKING:
    from random import Random


class Backoff(Protocol):
    """A sequence of delays that never ends."""

    def delays(self, rng: Random) -> Iterator[float]:
        """A fresh sequence of seconds; one draw from ``rng`` per random element."""
        ...


@frozen
class Constant:
    """Always ``delay`` seconds."""

    delay: float

    def delays(self, rng: Random) -> Iterator[float]:
        while True:
            yield self.delay


@frozen
class Decorrelated:
    """First ``start``, then uniform in [previous, 3 * previous], at most ``limit`` (seconds)."""

    start: float
    limit: float

    def delays(self, rng: Random) -> Iterator[float]:
        delay = self.start
        while True:
            yield delay
            delay += rng.random() * (min(self.limit, 3 * delay) - delay)


@frozen
class EqualJittered:
    """First ``start``, then half fixed and half random of a doubling value, until ``limit`` for ever (seconds)."""

    start: float
    limit: float

    def delays(self, rng: Random) -> Iterator[float]:
        yield self.start
        half = self.start
        while half < self.limit:
            delay = half + rng.random() * half
            if delay >= self.limit:
                break
            yield delay
            half *= 2
        while True:
            yield self.limit


@frozen
class ExponentialJittered:
    """First ``start``, then uniform in [0, previous * 2**k] for k = 1, 2, ...; ``limit`` for ever once that bound
    reaches it (seconds)."""

    start: float
    limit: float

    def delays(self, rng: Random) -> Iterator[float]:
        delay = self.start
        yield delay
        factor = 2.0
        # The bound on the factor ends the sequence of a random value that happens to be 0.
        while delay * factor < self.limit and factor < 2.0**64:
            delay = rng.random() * delay * factor
            factor *= 2
            yield delay
        while True:
            yield self.limit


@frozen(kw_only=True)
class BackoffConfig(PluginConfig):
    """What ``backoff`` blocks have in common."""

    def mk(self) -> Backoff:
        """The backoff that the block describes."""
        raise NotImplementedError


@frozen(kw_only=True)
class ConstantBackoffConfig(BackoffConfig):
    """The same delay each time."""

    ms: int = 0
    """Milliseconds, at least 0. Default 0: repeat at once, the budget bounds how often."""

    def check(self) -> list[str]:
        return [] if self.ms >= 0 else [f"ms: found {self.ms}, expected at least 0"]

    def mk(self) -> Backoff:
        return Constant(self.ms / 1000)


@frozen(kw_only=True)
class JitteredBackoffConfig(BackoffConfig):
    """Random delays that grow: each is between the last and three times the last."""

    min_ms: int
    """Milliseconds of the first delay, at least 1. Required."""

    max_ms: int
    """Milliseconds that no delay exceeds, at least ``minMs``. Required."""

    def check(self) -> list[str]:
        found = []
        if self.min_ms < 1:
            found.append(f"minMs: found {self.min_ms}, expected at least 1")
        if self.max_ms < self.min_ms:
            found.append(f"maxMs: found {self.max_ms}, expected at least minMs, which is {self.min_ms}")
        return found

    def mk(self) -> Backoff:
        return Decorrelated(self.min_ms / 1000, self.max_ms / 1000)
