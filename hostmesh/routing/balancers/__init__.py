"""Balancers by kind, with their config classes."""

from __future__ import annotations

from hostmesh.routing.balancers.base import Balancer, pick_untried
from hostmesh.routing.balancers.configs import BalancerConfig, EwmaConfig, P2cConfig
from hostmesh.routing.balancers.ewma import Ewma
from hostmesh.routing.balancers.p2c import P2c

__all__ = ["Balancer", "BalancerConfig", "Ewma", "EwmaConfig", "P2c", "P2cConfig", "pick_untried"]
