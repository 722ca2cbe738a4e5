"""``io.l5d.consul``: services in Consul's health API or catalog, ``/<dc>/[<tag>/]<service>``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import trio
from attrs import field, frozen

from hostmesh.plugin import (
    NAMER_ROOT,
    NEG,
    PENDING,
    Activity,
    BoundName,
    Bounds,
    ClientTlsConfig,
    Computed,
    Count,
    Failed,
    Leaf,
    LookupTree,
    Millis,
    NamerConfig,
    NamerDeps,
    Ok,
    Path,
    Pending,
    Port,
    Positive,
    Read,
    State,
    Turn,
)
from hostmesh.registry.journal import Journal
from namer.consul_format import Reading

if TYPE_CHECKING:
    from hostmesh.registry.rotation import Rotation
    from hostmesh.registry.shared import Shared
    from namer.consul_service import Service

DOMAIN = "consul"
"""Consul's DNS domain, where the agent does not tell its own."""


def is_name(segment: str) -> bool:
    """Whether a segment may stand in the agent's URL: not a way to another of its endpoints."""
    return segment not in (".", "..") and "/" not in segment and segment.isprintable()


class Lookup(Computed[State[LookupTree]]):
    """The name tree of one path."""

    def __init__(self, namer: ConsulNamer, path: Path) -> None:
        super().__init__(namer.turn, PENDING, self._tree)
        self._namer = namer
        self._path = path

    def _activate(self) -> None:
        self._namer.lookups.setdefault(self._path, self)
        super()._activate()

    def _deactivate(self) -> None:
        if self._namer.lookups.get(self._path) is self:
            del self._namer.lookups[self._path]
        super()._deactivate()
        # Its bound name holds an address that is no longer followed: whoever comes back starts anew.
        self._value = PENDING

    def _tree(self, read: Read) -> State[LookupTree]:
        from namer.consul_known import Exists

        length = self._namer.length
        names = self._path.take(length)
        if len(names) < length or not all(map(is_name, names)):
            return Ok(NEG)
        service = self._namer.service(names)
        match read(service.kind):
            case Exists():
                return Ok(Leaf(BoundName(service.id, service.addr, self._path.drop(length))))
            case Pending() | Failed() as unknown:
                return unknown
        return Ok(NEG)


class ConsulNamer:
    """Services are watched with blocking queries while in use."""

    def __init__(self, config: ConsulConfig, deps: NamerDeps) -> None:
        # Here and not above: python-consul brings 20 MB with it, which a check of a config file does not need.
        from hostmesh.registry.consul_agent import Agent, AgentAddress

        shared: Shared = deps.shared
        self.prefix = deps.prefix
        self.root_id = NAMER_ROOT + deps.prefix
        self.length = 3 if config.include_tag else 2
        self.hold_s = config.hold_ms / 1000
        self.wait_s = config.wait_ms / 1000
        self.set_host = config.set_host
        self.max_watches = config.max_watches
        self.only_passing = config.use_health_check and set(config.health_statuses) == {"passing"}
        self.reading = Reading(
            use_health=config.use_health_check,
            statuses=frozenset(config.health_statuses),
            prefer_service_address=config.prefer_service_address,
            weights=config.weight_by_tag(),
            with_metadata=config.transfer_metadata,
        )
        self.env = deps.env
        self.rng = deps.env.rng(f"consul/{deps.prefix.show()}")
        self.turn: Turn = deps.turn
        self.shared = shared
        self.report = deps.report
        tls = config.tls if config.tls is not None and config.tls.enabled else None
        self.agent = Agent(
            AgentAddress(
                host=config.host,
                port=config.port,
                tls=tls,
                server_name=None if tls is None else tls.common_name or config.host,
                token=config.token,
                consistency=config.consistency_mode,
            ),
            shared.resolver,
            self.rng,
            deps.report,
        )
        self.rotation: Rotation = self._shared_rotation()
        self.journal = Journal(deps.env)
        self.lookups: dict[Path, Lookup] = {}
        self._services: dict[Path, Service] = {}
        self._domain: str | None = None
        self._local_dc: str | None = None
        self._ages = deps.metrics.scope("age_ms")
        services = deps.metrics.scope("service")
        self.asked = deps.metrics.counter("lookups")
        self.opens = services.counter("opens")
        self.closes = services.counter("closes")
        self.errors = services.counter("errors")
        self.updates = services.counter("updates")
        services.gauge("cached", lambda: len(self._services))
        self.malformed = deps.metrics.counter("malformed")
        self.resets = deps.metrics.counter("index_resets")
        self.crowded = deps.metrics.counter("refused_watches")
        deps.metrics.gauge("connected", lambda: float(self.agent.is_up))
        deps.metrics.gauge("waiting", lambda: self.rotation.waiting)
        deps.metrics.gauge("rotation_period_ms", lambda: self.rotation.period_s(self.wait_s) * 1000)
        deps.metrics.gauge("max_age_ms", self._max_age_ms)

    def _shared_rotation(self) -> Rotation:
        """One limit for all namers that use the same agent, the lowest of theirs."""
        from hostmesh.registry.rotation import Rotation

        key = ("consul", self.agent.address.host, self.agent.address.port)
        rotation: Rotation | None = self.shared.clients.get(key)
        if rotation is None:
            rotation = self.shared.clients[key] = Rotation(self.max_watches, self.shared.alarms)
            rotation.begin_after_another(self.env.now() + self.wait_s * 17 / 16)
        rotation.limit = min(rotation.limit, self.max_watches)
        return rotation

    def __len__(self) -> int:
        """How many names are in use."""
        return len(self._services)

    async def run(self) -> None:
        """Keep an eye on the agent until cancelled. Names are followed by tasks of their own."""
        await self.agent.run()

    def lookup(self, path: Path) -> Activity[LookupTree]:
        """The first two segments, or three with a tag, are the name; what follows is the residual."""
        self.asked.value += 1
        return self.lookups.get(path) or Lookup(self, path)

    def service(self, names: Path) -> Service:
        from namer.consul_service import Service

        return self._services.get(names) or Service(self, names)

    def keep(self, service: Service) -> None:
        """The service is observed."""
        self.opens.value += 1
        if self._services.setdefault(service.names, service) is service:
            self._ages.gauge(service.id.show(), lambda: (service.age() or 0.0) * 1000)

    def drop(self, service: Service) -> None:
        """The service is not observed any more."""
        self.closes.value += 1
        if self._services.get(service.names) is service:
            del self._services[service.names]
            self._ages.prune(service.id.show())

    def _max_age_ms(self) -> float:
        return max((service.age() or 0.0 for service in self._services.values()), default=0.0) * 1000

    async def authority(self, dc: str | None, tag: str | None, service: str) -> str | None:
        """With ``setHost``, the service's name in Consul's DNS; the agent is asked once for its domain."""
        if not self.set_host:
            await trio.lowlevel.checkpoint()
            return None
        if self._domain is None:
            await self._ask_domain()
        labels = (tag, service, "service", dc or self._local_dc, self._domain)
        return ".".join(label for label in labels if label)

    async def _ask_domain(self) -> None:
        import consul

        try:
            about = await self.agent.client.agent.self()
        except (consul.ACLPermissionDenied, consul.ACLDisabled):
            about = {}  # the token may read services and not agents; the defaults are good names, too
        if not isinstance(about, dict):
            about = {}
        config, debug = about.get("Config"), about.get("DebugConfig")
        dc = config.get("Datacenter") if isinstance(config, dict) else None
        domain = debug.get("DNSDomain") if isinstance(debug, dict) else None
        self._local_dc = dc if isinstance(dc, str) else None
        self._domain = domain.strip(".") if isinstance(domain, str) and domain.strip(".") else DOMAIN

    def bound_names(self) -> list[Path]:
        """The names in use."""
        return [service.id for service in self._services.values()]

    def state(self) -> dict[str, object]:
        """The names in use, and the agent."""
        return {
            "running": True,
            "agent": self.agent.address.authority,
            "connected": self.agent.is_up,
            "cause": self.agent.cause,
            "outages": self.agent.outages,
            "prefix": self.prefix.show(),
            "watches": self.rotation.held,
            "waiting": self.rotation.waiting,
            "givenUp": self.rotation.given_up,
            "lookEveryMs": round(self.rotation.gap_s() * 1000) if self.rotation.waiting else None,
            "rotationPeriodMs": round(self.rotation.period_s(self.wait_s) * 1000),
            "state": {names.show(): self._services[names].state() for names in sorted(self._services)},
        }


@frozen(kw_only=True)
class ConsulWeight:
    """A weight for the instances with a tag."""

    tag: str
    """The tag."""
    weight: Annotated[float, Bounds(0)]
    """Its weight; of several matching tags the largest counts."""


Status = Literal["passing", "warning", "critical", "maintenance"]


@frozen(kw_only=True)
class ConsulConfig(NamerConfig):
    """Endpoints from a Consul agent: ``/<dc>/[<tag>/]<service>``; the data centre ``.local`` is the agent's own."""

    host: str = "localhost"
    """Agent."""
    port: Port = 8500
    """Its HTTP port."""
    include_tag: bool = False
    """A tag segment stands between data centre and service."""
    use_health_check: bool = False
    """Take only instances whose checks have one of ``healthStatuses``."""
    health_statuses: tuple[Status, ...] = ("passing",)
    """What counts as healthy: an instance is as healthy as its worst check, and ``passing`` without any."""
    token: str | None = field(default=None, metadata={"secret": True})
    """ACL token, sent as ``X-Consul-Token``. Default: none."""
    set_host: bool = False
    """Rewrite ``Host`` to the service's Consul name."""
    consistency_mode: Literal["default", "stale", "consistent"] = "default"
    """How fresh answers must be. A stale answer of a server that knows no leader adds endpoints and removes none."""
    fail_fast: bool = False
    """Accepted. An agent that does not answer is always set aside: it is probed once per second at most."""
    prefer_service_address: bool = True
    """Take the service's own address rather than its node's, where it has one."""
    weights: tuple[ConsulWeight, ...] = ()
    """Weights by tag."""
    fixed_length_streamed_after_kb: Count = field(
        default=5120, metadata={"key": "fixedLengthStreamedAfterKB"}
    )
    """Accepted. Answers of up to 64 MB are taken, and decoded in steps."""
    tls: ClientTlsConfig | None = None
    """TLS to the agent. Default: plain text."""
    transfer_metadata: bool = False
    """Keep the metadata of services and nodes with their addresses."""
    hold_ms: Millis = 2000
    """Milliseconds for which a removed endpoint or service goes on being believed, so that a restart or a
    deployment causes no gap. 0 believes at once, as Linkerd does."""
    wait_ms: Positive = field(default=30_000, metadata={"extension": True})
    """Milliseconds for which a query blocks, and so how often each name is confirmed, up to 600000."""
    max_watches: Positive = field(default=150, metadata={"extension": True})
    """Names watched at the same time. Agents close what is above 200 connections of one client
    (``limits.http_max_conns_per_client``), all programs of a host together; names beyond are looked at every other
    second and take turns at watching."""

    def check(self) -> list[str]:
        problems = super().check()
        if self.health_statuses != ("passing",) and not self.use_health_check:
            problems.append(
                "healthStatuses: found without useHealthCheck, expected useHealthCheck: true beside it"
            )
        if not self.host:
            problems.append("host: expected the name or address of the agent, found an empty one")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            problems.append("token: expected printable ASCII characters")
        if self.wait_ms > 600_000:
            problems.append(f"waitMs: expected at most 600000, found {self.wait_ms}")
        return problems

    def weight_by_tag(self) -> dict[str, float]:
        """Of several weights of the same tag the largest counts."""
        found: dict[str, float] = {}
        for entry in self.weights:
            found[entry.tag] = max(entry.weight, found.get(entry.tag, 0.0))
        return found

    def mk(self, deps: NamerDeps) -> ConsulNamer:
        return ConsulNamer(self, deps)
