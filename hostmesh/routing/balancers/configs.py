"""The ``loadBalancer`` blocks of the config file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from hostmesh.base.plugin import PluginConfig
from hostmesh.routing.balancers.aperture import HIGH_LOAD, LOW_LOAD, MIN_APERTURE, SMOOTH, Aperture
from hostmesh.routing.balancers.base import MAX_EFFORT, Balancer, BalancerBase
from hostmesh.routing.balancers.by_weight import ByWeight
from hostmesh.routing.balancers.ewma import DECAY, Ewma
from hostmesh.routing.balancers.heap import LeastLoaded
from hostmesh.routing.balancers.p2c import P2c
from hostmesh.routing.balancers.round_robin import RoundRobin

if TYPE_CHECKING:
    from random import Random


@frozen(kw_only=True)
class BalancerConfig(PluginConfig):
    """What all balancers take."""

    enable_probation: bool = False
    """Whether an endpoint that vanished from discovery stays in rotation for as long as it serves well."""

    def mk(self, rng: Random) -> Balancer:
        """The balancer of one client; ``rng`` is its own generator."""
        raise NotImplementedError


@frozen(kw_only=True)
class EffortConfig(BalancerConfig):
    """What balancers take that draw at random or in turn."""

    max_effort: int = MAX_EFFORT
    """Draws that may land on ejected endpoints before one is used anyway, at least 1. Default 5: with half of
    the endpoints ejected, 0.1 % of the requests of ``p2c`` need the last resort."""

    def check(self) -> list[str]:
        if self.max_effort < 1:
            return [f"maxEffort: found {self.max_effort}, expected at least 1"]
        return []


@frozen(kw_only=True)
class P2cConfig(EffortConfig):
    """Least outstanding requests of two random endpoints."""

    def mk(self, rng: Random) -> Balancer:
        return P2c(rng, max_effort=self.max_effort, enable_probation=self.enable_probation)


@frozen(kw_only=True)
class EwmaConfig(EffortConfig):
    """Lowest latency average times outstanding requests, of two random endpoints."""

    decay_time_ms: int = int(DECAY * 1000)
    """Milliseconds in which a latency average sinks to 1/e when nothing faster is measured. Default 10 s:
    long enough to remember a slow endpoint, short enough to try it again within a minute."""

    def check(self) -> list[str]:
        found = super().check()
        if self.decay_time_ms < 1:
            found.append(f"decayTimeMs: found {self.decay_time_ms}, expected at least 1")
        return found

    def mk(self, rng: Random) -> Balancer:
        return Ewma(
            rng,
            decay=self.decay_time_ms / 1000,
            max_effort=self.max_effort,
            enable_probation=self.enable_probation,
        )


@frozen(kw_only=True)
class ApertureConfig(EffortConfig):
    """Two random endpoints of as few as the load needs; the others get no connections."""

    smooth_window_ms: int = int(SMOOTH * 1000)
    """Milliseconds over which the number of outstanding requests is averaged. Default 5 s."""

    low_load: float = LOW_LOAD
    """Outstanding requests per endpoint at or below which one endpoint fewer is used. Default 0.5."""

    high_load: float = HIGH_LOAD
    """Outstanding requests per endpoint at or above which one endpoint more is used, above ``lowLoad``. Default 2."""

    min_aperture: int = MIN_APERTURE
    """Endpoints that are always used, at least 1. Default 1."""

    def check(self) -> list[str]:
        found = super().check()
        if self.smooth_window_ms < 1:
            found.append(f"smoothWindowMs: found {self.smooth_window_ms}, expected at least 1")
        if self.low_load <= 0:
            found.append(f"lowLoad: found {self.low_load}, expected more than 0")
        if self.high_load <= self.low_load:
            found.append(
                f"highLoad: found {self.high_load}, expected more than lowLoad, which is {self.low_load}"
            )
        if self.min_aperture < 1:
            found.append(f"minAperture: found {self.min_aperture}, expected at least 1")
        return found

    def mk(self, rng: Random) -> Balancer:
        def make(owner: BalancerBase) -> Aperture:
            return Aperture(
                owner,
                rng,
                max_effort=self.max_effort,
                smooth=self.smooth_window_ms / 1000,
                low=self.low_load,
                high=self.high_load,
                min_aperture=self.min_aperture,
            )

        return ByWeight(rng, make, max_effort=self.max_effort, enable_probation=self.enable_probation)


@frozen(kw_only=True)
class HeapConfig(BalancerConfig):
    """Least outstanding requests of all endpoints."""

    def mk(self, rng: Random) -> Balancer:
        return ByWeight(rng, lambda owner: LeastLoaded(owner, rng), enable_probation=self.enable_probation)


@frozen(kw_only=True)
class RoundRobinConfig(EffortConfig):
    """One endpoint after the other."""

    def mk(self, rng: Random) -> Balancer:
        def make(owner: BalancerBase) -> RoundRobin:
            return RoundRobin(owner, rng, max_effort=self.max_effort)

        return ByWeight(rng, make, max_effort=self.max_effort, enable_probation=self.enable_probation)
