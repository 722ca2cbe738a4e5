"""Kinds that parse and are checked like any other, and cannot run yet: what the entry points name.

Each moves to its own module when it comes; ``hostmesh check`` accepts the same files before and after.
"""

from __future__ import annotations

from hostmesh.config.later_control import (
    ConsulInterpreterConfig,
    MeshInterpreterConfig,
    NamerdHttpInterpreterConfig,
    NamerdInterpreterConfig,
    TracelogConfig,
    ZipkinConfig,
)
from hostmesh.config.later_namers import (
    CuratorNamerConfig,
)
from hostmesh.config.later_thrift import (
    ThriftMuxRouterConfig,
    ThriftRouterConfig,
)

__all__ = [
    "ConsulInterpreterConfig",
    "CuratorNamerConfig",
    "MeshInterpreterConfig",
    "NamerdHttpInterpreterConfig",
    "NamerdInterpreterConfig",
    "ThriftMuxRouterConfig",
    "ThriftRouterConfig",
    "TracelogConfig",
    "ZipkinConfig",
]
