"""``io.l5d.consul`` under ``announcers``: our servers as services of a Consul agent, kept alive by a TTL check."""

from __future__ import annotations

from attrs import field, frozen

from hostmesh.base.backoff import Decorrelated
from hostmesh.plugin import ClientTlsConfig, Path, Port, Positive
from hostmesh.registry.announcer import Announcer, AnnouncerConfig, AnnouncerDeps

RETRIES = Decorrelated(0.1, 1.0)
"""Seconds between attempts."""

FORGET_AFTER = "1m"
"""How long the agent keeps an instance whose check has failed. Consul takes no less than a minute."""


@frozen(kw_only=True)
class ConsulAnnouncerConfig(AnnouncerConfig):
    """*hostmesh* Registers servers with a Consul agent: ``/#/<prefix>/[<tag>/...]<service>``."""

    host: str = "localhost"
    """Agent. It should be this host's own: the instance is registered on the agent's node."""
    port: Port = 8500
    """Its HTTP port."""
    token: str | None = field(default=None, metadata={"secret": True})
    """ACL token, sent as ``X-Consul-Token``. Default: none."""
    tls: ClientTlsConfig | None = None
    """TLS to the agent. Default: plain text."""
    ttl_ms: Positive = 15_000
    """Milliseconds after which the instance of a daemon that was killed counts as critical; it is confirmed three times
    as often, and deregistered a minute later."""

    def check(self) -> list[str]:
        problems = super().check()
        if not self.host:
            problems.append("host: expected the name or address of the agent, found an empty one")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            problems.append("token: expected printable ASCII characters")
        if self.ttl_ms < 1000:
            problems.append(f"ttlMs: expected at least 1000, found {self.ttl_ms}")
        return problems

    def mk(self, deps: AnnouncerDeps) -> Announcer:
        # Here and not above: python-consul brings 20 MB with it, which a check of a config file does not need.
        from namer.consul_registration import ConsulAnnouncer

        return ConsulAnnouncer(self, deps)


def service_of(name: Path) -> tuple[str, tuple[str, ...]]:
    """Service and tags of an announced name: the last segment, and those before it."""
    return name[-1], tuple(name[:-1])
