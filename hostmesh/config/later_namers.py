"""Namers that parse and cannot run yet (linkerd1.md 4)."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from hostmesh.config import later_reasons as later
from hostmesh.naming.namer import NamerConfig
from hostmesh.naming.path import Path


@frozen(kw_only=True)
class CuratorNamerConfig(NamerConfig):
    """Curator service discovery: ``/<service>``."""

    needs_experimental: ClassVar[bool] = True
    unavailable: ClassVar[str | None] = later.NEVER

    zk_addrs: tuple[later.ZkAddr, ...]
    """The ensemble."""
    base_path: Path = Path.EMPTY
    """Where it lives in ZooKeeper."""
