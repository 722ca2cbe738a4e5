"""Why a kind cannot run yet, as ``run`` says it, and what several such kinds share."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from hostmesh.config.types import Port

REGISTRY: Final = "it arrives with its registry in a later version"
CONTROL: Final = "it arrives with the control plane in a later version"
TRACING: Final = "it arrives with tracing in a later version"
NEVER: Final = "it is outside of what hostmesh carries"


@frozen(kw_only=True)
class ZkAddr:
    """A ZooKeeper server."""

    host: str
    """Name or address."""
    port: Port = 2181
    """Client port."""
