"""Which of our servers are announced where: from ``announcers`` of a router and ``announce`` of its servers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Any

from hostmesh.daemon.build import AnyRouter
from hostmesh.daemon.shared import Shared, local_ips
from hostmesh.naming.path import Path
from hostmesh.registry.announcer import Announcement, AnnouncerConfig, AnnouncerDeps

ANNOUNCED = Path.of("#")
"""What the names in ``announce`` start with, before the announcer's prefix."""


class Announcers:
    """The running announcers. A reload keeps those that announce the same as before."""

    def __init__(self, shared: Shared, local: Callable[[], Iterable[str]] = local_ips) -> None:
        self._shared = shared
        self._local = local
        self.running: dict[str, Any] = {}

    def apply(self, routers: Iterable[AnyRouter], address_of: Callable[[str, int], tuple[str, int]]) -> None:
        """Announce the servers of ``routers``, and no others.

        ``address_of(ip, port)`` is where the server so configured really listens: port 0 lets the system choose.
        """
        before, self.running = self.running, {}
        for router in routers:
            for place, config in enumerate(router.announcers):
                announcements = self._announcements(router, config, address_of)
                key = repr((router.name, place, config, announcements))
                announcer = before.pop(key, None)
                if announcer is None:
                    announcer = config.mk(
                        AnnouncerDeps(
                            env=self._shared.env,
                            metrics=self._shared.metrics.scope(
                                "rt", router.name, "announcer", "#" + config.prefix_in_force.show()
                            ),
                            report=self._shared.report,
                            shared=self._shared.registry,
                            announcements=announcements,
                        )
                    )
                    self._shared.start(announcer)
                self.running[key] = announcer
        # After the new ones have begun: a server that stays announced is not away in between.
        for announcer in before.values():
            self._shared.stop(announcer)

    def _announcements(
        self,
        router: AnyRouter,
        config: AnnouncerConfig,
        address_of: Callable[[str, int], tuple[str, int]],
    ) -> tuple[Announcement, ...]:
        prefix = ANNOUNCED + config.prefix_in_force
        return tuple(
            Announcement(name.drop(len(prefix)), self._reachable(*address_of(server.ip, server.port)))
            for server in router.servers
            for name in server.announce
            if name.startswith(prefix) and len(name) > len(prefix)
        )

    def _reachable(self, ip: str, port: int) -> tuple[tuple[str, int], ...]:
        """The addresses that others can dial: for a wildcard those of all interfaces but loopback."""
        if not ip_address(ip).is_unspecified:
            return ((ip, port),)
        found = []
        for each in sorted(self._local()):
            address = ip_address(each)
            if (
                address.version == ip_address(ip).version
                and not address.is_loopback
                and not address.is_link_local
            ):
                found.append((each, port))
        if not found:
            self._shared.report(
                "announcement.impossible", {"ip": ip, "cause": "no interface but loopback is up"}
            )
        return tuple(found)

    async def withdraw(self) -> None:
        """Stop all announcers and wait until they have taken back what they announced."""
        stopped, self.running = list(self.running.values()), {}
        for announcer in stopped:
            self._shared.stop(announcer)
        for announcer in stopped:
            await self._shared.wait_stopped(announcer)
