"""Namers that parse and cannot run yet (linkerd1.md 4)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from attrs import field, frozen

from hostmesh.config import later_reasons as later
from hostmesh.config.shape import Bounds
from hostmesh.config.tls import ClientTlsConfig
from hostmesh.config.types import Count, Millis, Port, Seconds
from hostmesh.naming.namer import NamerConfig
from hostmesh.naming.path import Path


@frozen(kw_only=True)
class ConsulWeight:
    """A weight for the instances with a tag."""

    tag: str
    """The tag."""
    weight: Annotated[float, Bounds(0)]
    """Its weight; of several matching tags the largest counts."""


Consistency = Literal["default", "stale", "consistent"]


@frozen(kw_only=True)
class ConsulNamerConfig(NamerConfig):
    """Endpoints from a Consul agent: ``/<dc>/[<tag>/]<service>``."""

    unavailable: ClassVar[str | None] = later.REGISTRY

    host: str = "localhost"
    """Agent."""
    port: Port = 8500
    """Its HTTP port."""
    include_tag: bool = False
    """A tag segment stands between data centre and service."""
    use_health_check: bool = False
    """Take only instances whose checks have one of ``healthStatuses``."""
    health_statuses: tuple[Literal["passing", "warning", "critical", "maintenance"], ...] = ("passing",)
    """What counts as healthy."""
    token: str | None = field(default=None, metadata={"secret": True})
    """ACL token. Default: none."""
    set_host: bool = False
    """Rewrite ``Host`` to the service's Consul name."""
    consistency_mode: Consistency = "default"
    """How fresh answers must be."""
    fail_fast: bool = False
    """Set the agent aside when it does not answer."""
    prefer_service_address: bool = True
    """Take the service's own address rather than its node's, where it has one."""
    weights: tuple[ConsulWeight, ...] = ()
    """Weights by tag."""
    fixed_length_streamed_after_kb: Count = field(
        default=5120, metadata={"key": "fixedLengthStreamedAfterKB"}
    )
    """Kilobytes of an answer that are held at once."""
    tls: ClientTlsConfig | None = None
    """TLS to the agent. Default: plain text."""
    transfer_metadata: bool = False
    """Keep the metadata of services and nodes with their addresses."""

    def check(self) -> list[str]:
        if self.health_statuses != ("passing",) and not self.use_health_check:
            return ["healthStatuses: found without useHealthCheck, expected useHealthCheck: true beside it"]
        return []


@frozen(kw_only=True)
class K8sNamerConfig(NamerConfig):
    """Endpoints of a Kubernetes cluster: ``/<namespace>/<port>/<service>[/<label value>]``."""

    unavailable: ClassVar[str | None] = later.K8S

    host: str = "localhost"
    """API server, or ``kubectl proxy``."""
    port: Port = 8001
    """Its port."""
    label_selector: str | None = None
    """A label's key: a path segment holds the wanted value."""


@frozen(kw_only=True)
class K8sNsNamerConfig(K8sNamerConfig):
    """Endpoints of one namespace: ``/<port>/<service>[/<label value>]``."""

    env_var: str = "POD_NAMESPACE"
    """Environment variable with the namespace."""


@frozen(kw_only=True)
class K8sExternalNamerConfig(K8sNamerConfig):
    """Load balancer addresses of services: ``/<namespace>/<port>/<service>[/<label value>]``."""

    needs_experimental: ClassVar[bool] = True


@frozen(kw_only=True)
class ServersetsNamerConfig(NamerConfig):
    """ZooKeeper serversets: ``/<zk path>[:<endpoint>]``."""

    unavailable: ClassVar[str | None] = later.REGISTRY

    zk_addrs: tuple[later.ZkAddr, ...]
    """The ensemble."""

    def check(self) -> list[str]:
        return [] if self.zk_addrs else ["zkAddrs: found an empty list, expected at least one {host, port}"]


@frozen(kw_only=True)
class ZkLeaderNamerConfig(ServersetsNamerConfig):
    """The leader of a ZooKeeper election: ``/<zk path>``."""


@frozen(kw_only=True)
class CuratorNamerConfig(ServersetsNamerConfig):
    """Curator service discovery: ``/<service>``."""

    needs_experimental: ClassVar[bool] = True
    unavailable: ClassVar[str | None] = later.NEVER

    base_path: Path = Path.EMPTY
    """Where it lives in ZooKeeper."""


@frozen(kw_only=True)
class DnsSrvNamerConfig(NamerConfig):
    """DNS SRV records: ``/<record>``."""

    needs_experimental: ClassVar[bool] = True
    unavailable: ClassVar[str | None] = later.REGISTRY

    refresh_interval_seconds: Seconds = 5
    """Seconds between look-ups."""
    dns_hosts: tuple[str, ...] = ()
    """Name servers. Default: the system's."""


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
