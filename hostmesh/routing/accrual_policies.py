"""When is a node failing? The policies behind failure accrual, with their config classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from attrs import frozen

from hostmesh.base.backoff import Backoff, BackoffConfig, EqualJittered
from hostmesh.base.ewma import Ema
from hostmesh.base.plugin import PluginConfig
from hostmesh.base.window import WindowedAdder

if TYPE_CHECKING:
    from random import Random

DEFAULT_BACKOFF = EqualJittered(5.0, 300.0)
"""Time dead, when the config names none: 5 s, growing to 5 min. Linkerd's default."""

DEFAULT_FAILURES = 5
"""Consecutive failures that kill a node, when the config says nothing at all. Linkerd's default."""

MIN_WINDOW_REQUESTS = 5
"""Requests within the window below which ``successRateWindowed`` does not judge. Finagle's default."""

WINDOW_SLICES = 5
"""Slices in which those requests are counted, as in Finagle."""


class AccrualPolicy(Protocol):
    """Judges one node. Times are seconds, monotonic."""

    def success(self, now: float) -> None: ...

    def failure(self, now: float) -> float | None:
        """Seconds for which the node is dead from now on, or None if it may go on."""
        ...

    def revived(self, now: float) -> None:
        """A probe has succeeded: judge afresh, and begin the backoff anew."""
        ...


class Delays:
    """The backoff of one node: one element per death, from the start again after a revival."""

    __slots__ = ("_backoff", "_delays", "_rng")

    def __init__(self, backoff: Backoff, rng: Random) -> None:
        self._backoff = backoff
        self._rng = rng
        self._delays: Iterator[float] | None = None

    def next(self) -> float:
        if self._delays is None:
            self._delays = self._backoff.delays(self._rng)
        return next(self._delays)

    def restart(self) -> None:
        self._delays = None


class ConsecutiveFailures:
    """Kills at ``failures`` in a row. Death does not reset the count, so one failed probe kills again."""

    __slots__ = ("_count", "_delays", "_failures")

    def __init__(self, failures: int, delays: Delays) -> None:
        self._failures = failures
        self._delays = delays
        self._count = 0

    def success(self, now: float) -> None:
        self._count = 0

    def failure(self, now: float) -> float | None:
        self._count += 1
        return self._delays.next() if self._count >= self._failures else None

    def revived(self, now: float) -> None:
        self._count = 0
        self._delays.restart()


class SuccessRate:
    """Kills when the success rate, averaged over about ``requests`` requests, is below ``required``.

    It judges from the ``requests``-th request on, and only at failures.
    """

    __slots__ = ("_count", "_delays", "_ema", "_requests", "_required")

    def __init__(self, required: float, requests: int, delays: Delays) -> None:
        self._required = required
        self._requests = requests
        self._delays = delays
        self._ema = Ema(requests)
        self._count = 0

    def success(self, now: float) -> None:
        self._count += 1
        self._ema.update(self._count, 1.0)

    def failure(self, now: float) -> float | None:
        self._count += 1
        rate = self._ema.update(self._count, 0.0)
        return self._delays.next() if self._count >= self._requests and rate < self._required else None

    def revived(self, now: float) -> None:
        self._count = 0
        self._ema.reset()
        self._delays.restart()


class SuccessRateWindowed:
    """Kills when the success rate, averaged over about ``window`` seconds, is below ``required``.

    It judges once ``window`` seconds have passed since its first request, or since the last revival, only at
    failures, and only with at least MIN_WINDOW_REQUESTS requests in the window.
    """

    __slots__ = ("_delays", "_ema", "_requests", "_required", "_since", "_window")

    def __init__(self, required: float, window: float, delays: Delays) -> None:
        self._required = required
        self._window = window
        self._delays = delays
        self._ema = Ema(window)
        self._requests = WindowedAdder(window, WINDOW_SLICES)
        self._since: float | None = None

    def success(self, now: float) -> None:
        self._record(now, 1.0)

    def failure(self, now: float) -> float | None:
        since = self._record(now, 0.0)
        if (
            now - since >= self._window
            and self._ema.value < self._required
            and self._requests.sum(now) >= MIN_WINDOW_REQUESTS
        ):
            return self._delays.next()
        return None

    def revived(self, now: float) -> None:
        self._since = now
        self._ema.reset()
        self._requests.reset()
        self._delays.restart()

    def _record(self, now: float, sample: float) -> float:
        if self._since is None:
            self._since = now
        self._requests.add(1, now)
        self._ema.update(now, sample)
        return self._since


class NoAccrual:
    """Never kills."""

    __slots__ = ()

    def success(self, now: float) -> None:
        pass

    def failure(self, now: float) -> float | None:
        return None

    def revived(self, now: float) -> None:
        pass


@frozen(kw_only=True)
class AccrualConfig(PluginConfig):
    """What ``failureAccrual`` blocks have in common."""

    backoff: BackoffConfig | None = None
    """How long an endpoint is left alone after each death. Default: 5 s growing to 5 min, half of it random,
    so that the probes of many hosts do not arrive together."""

    def mk(self, rng: Random) -> AccrualPolicy:
        """The policy of one node; ``rng`` may be shared by the nodes of a client."""
        raise NotImplementedError

    def _delays(self, rng: Random) -> Delays:
        return Delays(DEFAULT_BACKOFF if self.backoff is None else self.backoff.mk(), rng)


def _check_rate(rate: float) -> list[str]:
    return [] if 0.0 <= rate <= 1.0 else [f"successRate: found {rate}, expected a ratio from 0 to 1"]


@frozen(kw_only=True)
class ConsecutiveFailuresConfig(AccrualConfig):
    """An endpoint is dead after so many failures in a row. The default policy."""

    failures: int = DEFAULT_FAILURES
    """Failures in a row, at least 1. Default 5."""

    def check(self) -> list[str]:
        return [] if self.failures >= 1 else [f"failures: found {self.failures}, expected at least 1"]

    def mk(self, rng: Random) -> AccrualPolicy:
        return ConsecutiveFailures(self.failures, self._delays(rng))


@frozen(kw_only=True)
class SuccessRateConfig(AccrualConfig):
    """An endpoint is dead when too few of its last requests succeeded."""

    success_rate: float
    """Ratio of successes below which it is dead, 0 to 1. Required."""

    requests: int
    """Requests over which the ratio is averaged, at least 1. Required."""

    def check(self) -> list[str]:
        found = _check_rate(self.success_rate)
        if self.requests < 1:
            found.append(f"requests: found {self.requests}, expected at least 1")
        return found

    def mk(self, rng: Random) -> AccrualPolicy:
        return SuccessRate(self.success_rate, self.requests, self._delays(rng))


@frozen(kw_only=True)
class SuccessRateWindowedConfig(AccrualConfig):
    """An endpoint is dead when too few of its requests within the last seconds succeeded."""

    success_rate: float
    """Ratio of successes below which it is dead, 0 to 1. Required."""

    window: int
    """Seconds over which the ratio is averaged, at least 1. Required. Below 5 requests there is no
    judgement."""

    def check(self) -> list[str]:
        found = _check_rate(self.success_rate)
        if self.window < 1:
            found.append(f"window: found {self.window}, expected at least 1 (seconds)")
        return found

    def mk(self, rng: Random) -> AccrualPolicy:
        return SuccessRateWindowed(self.success_rate, self.window, self._delays(rng))


@frozen(kw_only=True)
class NoAccrualConfig(AccrualConfig):
    """No endpoint is ever dead for its failures."""

    def mk(self, rng: Random) -> AccrualPolicy:
        return NoAccrual()
