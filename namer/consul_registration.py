"""Registers our servers with a Consul agent, and keeps saying that they live."""

from __future__ import annotations

import consul
import trio

from hostmesh.registry.announcer import WITHDRAW_S, AnnouncerDeps
from hostmesh.registry.consul_agent import Agent, AgentAddress
from hostmesh.registry.consul_transport import Unreachable
from namer.consul_announcer import FORGET_AFTER, RETRIES, ConsulAnnouncerConfig, service_of


class Registration:
    """One address under one name.

    Its id tells what it is, so that a daemon that comes back takes over what it left when it was killed.
    """

    def __init__(
        self, announcer: ConsulAnnouncer, service: str, tags: tuple[str, ...], host: str, port: int
    ) -> None:
        self.service = service
        self.tags = tags
        self.host = host
        self.port = port
        self.id = "-".join(("hostmesh", *tags, service, host, str(port)))
        self.is_registered = False
        self._may_be_there = False
        """The agent was asked to register it; whether it has is not known."""
        self._announcer = announcer
        self._cause = ""

    async def keep(self) -> None:
        """Be registered and alive until cancelled, and then no longer."""
        agent = self._announcer.agent
        retries = RETRIES.delays(self._announcer.rng)
        try:
            with agent.used():
                while True:
                    await agent.wait_up()
                    try:
                        await self._confirm()
                    except consul.ConsulException as error:
                        agent.doubt()
                        self._failed(f"{type(error).__name__}: {error}")
                        pause = next(retries)
                    else:
                        retries = RETRIES.delays(self._announcer.rng)
                        pause = self._announcer.ttl_s / 3
                    # An agent that was away may have forgotten us: look as soon as it is back.
                    with agent.interruptible():
                        await trio.sleep(pause)
        finally:
            with trio.move_on_after(WITHDRAW_S, shield=True):
                await self._withdraw()

    async def _confirm(self) -> None:
        services = self._announcer.agent.client.agent
        if self.is_registered:
            try:
                if await services.check.ttl_pass(f"service:{self.id}"):
                    return
            except (consul.Timeout, Unreachable):
                raise
            except consul.ConsulException as error:
                # The agent has lost it, by a restart or by somebody's hand; or it cannot tell, as will be seen.
                self._failed(str(error))
            self.is_registered = False
        self._may_be_there = True
        await services.service.register(
            self.service,
            service_id=self.id,
            address=self.host,
            port=self.port,
            tags=list(self.tags),
            check={
                "TTL": f"{round(self._announcer.ttl_s * 1000)}ms",
                "Status": "passing",
                "DeregisterCriticalServiceAfter": FORGET_AFTER,
            },
        )
        self.is_registered = True
        self._cause = ""
        self._announcer.report("announced", self)

    async def _withdraw(self) -> None:
        if not self._may_be_there:
            return
        self.is_registered = False
        try:
            await self._announcer.agent.client.agent.service.deregister(self.id)
        except consul.ConsulException as error:
            # It ends with its check.
            self._announcer.report("not withdrawn", self, cause=str(error)[:300])
        else:
            self._announcer.report("withdrawn", self)

    def _failed(self, cause: str) -> None:
        if cause != self._cause:
            self._cause = cause
            self._announcer.report("announcement.failed", self, cause=cause[:300])


class ConsulAnnouncer:
    """Keeps all announcements of one announcer in Consul."""

    def __init__(self, config: ConsulAnnouncerConfig, deps: AnnouncerDeps) -> None:
        tls = config.tls if config.tls is not None and config.tls.enabled else None
        self.rng = deps.env.rng(f"consul announcer{config.prefix_in_force.show()}")
        self.ttl_s = config.ttl_ms / 1000
        self._deps = deps
        self.agent = Agent(
            AgentAddress(
                host=config.host,
                port=config.port,
                tls=tls,
                server_name=None if tls is None else tls.common_name or config.host,
                token=config.token,
            ),
            deps.shared.resolver,
            self.rng,
            deps.report,
        )
        self.registrations = [
            Registration(self, *service_of(announcement.name), host, port)
            for announcement in deps.announcements
            for host, port in announcement.addresses
        ]
        deps.metrics.gauge("wanted", lambda: len(self.registrations))
        deps.metrics.gauge("announced", lambda: sum(each.is_registered for each in self.registrations))

    async def run(self) -> None:
        """Announce until cancelled, then take back."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.agent.run)
            for registration in self.registrations:
                nursery.start_soon(registration.keep)

    def report(self, event: str, registration: Registration, **facts: str) -> None:
        address = f"{registration.host}:{registration.port}"
        self._deps.report(event, {"service": registration.service, "address": address, **facts})

    def state(self) -> dict[str, object]:
        """For the admin page."""
        return {
            "agent": self.agent.address.authority,
            "connected": self.agent.is_up,
            "cause": self.agent.cause,
            "services": [
                {
                    "id": each.id,
                    "service": each.service,
                    "tags": list(each.tags),
                    "registered": each.is_registered,
                }
                for each in self.registrations
            ],
        }
