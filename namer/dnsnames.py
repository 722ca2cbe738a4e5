"""What the two DNS namers share: whom they ask, and how often."""

from __future__ import annotations

import trio
from attrs import field, frozen

from hostmesh.plugin import Failed, Millis, NamerConfig, NamerDeps, Ok, Port, Seconds, State
from hostmesh.registry.dns import DnsClient, has_ipv6, servers_of
from hostmesh.registry.dns_wire import DnsFormatError, canonical
from hostmesh.registry.polled import PolledNamer
from hostmesh.registry.resolver import literal

RESOLV_CONF = "/etc/resolv.conf"
IF_INET6 = "/proc/net/if_inet6"

DNS_TIMEOUT_S = 30.0
"""For one look: an SRV record and its targets, from several servers. Single questions have their own, shorter ones."""


def canonical_or_none(name: str) -> str | None:
    """The name in its one spelling; None when it is no name, of which no server need be asked."""
    try:
        return canonical(name)
    except DnsFormatError:
        return None


@frozen(kw_only=True)
class DnsNamerConfig(NamerConfig):
    """The keys of both."""

    refresh_interval_seconds: Seconds = 5
    """Seconds after which a name is looked up again at the latest; sooner when its TTL is shorter."""

    dns_hosts: tuple[str, ...] = ()
    """Addresses of name servers, each an IP. Default: those of /etc/resolv.conf, which is followed."""

    port: Port = 53
    """*hostmesh* Port of the ``dnsHosts``."""

    hold_ms: Millis = field(default=2000)
    """*hostmesh* Milliseconds for which a removed endpoint or name goes on being believed. 0 believes at once."""

    def check(self) -> list[str]:
        problems = super().check()
        for host in self.dns_hosts:
            if literal(host) is None:
                problems.append(f"dnsHosts: expected IP addresses, found {host!r}")
        if self.port != 53 and not self.dns_hosts:
            problems.append("port: found without dnsHosts, expected dnsHosts beside it")
        return problems


class DnsNamer(PolledNamer):
    """A namer with a DNS client."""

    def __init__(self, config: DnsNamerConfig, deps: NamerDeps) -> None:
        super().__init__(deps, hold_s=config.hold_ms / 1000, timeout_s=DNS_TIMEOUT_S)
        self.refresh_s = float(config.refresh_interval_seconds)
        self.client = DnsClient(deps.env, [(literal(host) or host, config.port) for host in config.dns_hosts])
        self._follows_system = not config.dns_hosts
        self.wants_v6 = _has_ipv6()
        deps.metrics.gauge("questions", lambda: self.client.questions)
        deps.metrics.gauge("over_tcp", lambda: self.client.over_tcp)
        deps.metrics.gauge("strangers", lambda: self.client.strangers)

    async def run(self) -> None:
        """Follow resolv.conf, unless the configuration names the servers."""
        if not self._follows_system:
            return
        close = self.shared.files.text(RESOLV_CONF).observe(self._system_changed, initial=True)
        try:
            await trio.sleep_forever()
        finally:
            close()

    def _system_changed(self, state: State[str]) -> None:
        match state:
            case Ok(text):
                self.client.servers = servers_of(text)
            case Failed():
                self.client.servers = servers_of("")
            case _:
                pass

    def pause(self, ttl: float) -> float:
        """Seconds until the next look-up: an answer is never used for longer than its TTL without asking again."""
        return min(ttl, self.refresh_s)


def _has_ipv6() -> bool:
    try:
        with open(IF_INET6, encoding="ascii") as table:
            return has_ipv6(table.read())
    except OSError:
        return False
