"""Namers that parse and cannot run yet (linkerd1.md 4)."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from hostmesh.config import later_reasons as later
from hostmesh.config.tls import ClientTlsConfig
from hostmesh.config.types import Millis, Port
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


@frozen(kw_only=True)
class MarathonNamerConfig(NamerConfig):
    """Marathon applications: ``/<app id>``."""

    unavailable: ClassVar[str | None] = later.NEVER

    host: str = "marathon.mesos"
    """Marathon master."""
    port: Port = 80
    """Its port."""
    dst: Path | None = None
    """A path to the master instead of host and port."""
    uri_prefix: str = ""
    """In front of the API's paths."""
    ttl_ms: Millis = 5000
    """Milliseconds between polls."""
    jitter_ms: Millis = 50
    """Milliseconds added at random."""
    use_health_check: bool = False
    """Only tasks that pass their checks."""
    tls: ClientTlsConfig | None = None
    """TLS to the master."""
