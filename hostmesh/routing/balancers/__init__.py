"""Balancers by kind, with their config classes."""

from __future__ import annotations

from hostmesh.routing.balancers.base import Balancer, pick_untried
from hostmesh.routing.balancers.configs import (
    ApertureConfig,
    BalancerConfig,
    EwmaConfig,
    HeapConfig,
    P2cConfig,
    RoundRobinConfig,
)

__all__ = [
    "ApertureConfig",
    "Balancer",
    "BalancerConfig",
    "EwmaConfig",
    "HeapConfig",
    "P2cConfig",
    "RoundRobinConfig",
    "pick_untried",
]
