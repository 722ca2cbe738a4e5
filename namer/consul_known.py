"""What is believed of one service in Consul: its instances, the endpoints that they are, and whether it exists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import frozen

from hostmesh.plugin import (
    ADDR_PENDING,
    PENDING,
    Addr,
    AddrBound,
    AddrFailed,
    AddrNeg,
    AddrPending,
    Endpoint,
    Failed,
    Path,
    Pending,
    Var,
)
from hostmesh.registry.freshness import Freshness
from hostmesh.registry.hostnames import HostNames, Named
from hostmesh.registry.usable import endpoint_of
from namer.consul_format import MAX_HOSTNAMES, HostInstance, Instance

if TYPE_CHECKING:
    from namer.consul import ConsulNamer


@frozen
class Exists:
    """There is such a service."""


@frozen
class Missing:
    """No such service, or it has no instance that counts."""


Kind: TypeAlias = Pending | Failed | Exists | Missing


class KnownService:
    """What :class:`namer.consul_service.Service` is apart from its queries."""

    def __init__(self, namer: ConsulNamer, names: Path) -> None:
        self.names = names
        self.id = namer.root_id + names
        self._namer = namer
        self.kind: Var[Kind] = Var(namer.turn, PENDING, on_active=self._retain, on_idle=self._release)
        self.addr: Var[Addr] = Var(namer.turn, ADDR_PENDING, on_active=self._retain, on_idle=self._release)
        self.fresh = Freshness(
            self.id.show(),
            self.addr,
            namer.shared.alarms,
            namer.journal,
            hold_s=namer.hold_s,
            source=namer.agent.address.authority,
            report=self._report,
            on_believed=self._classify,
            warm=namer.shared.warm,
            guard=namer.shared.guard,
        )
        self._has_complained = False
        self.started = 0.0
        self.updated: float | None = None
        """``env.wall()`` of the last change."""
        self.index = 0
        self._instances: frozenset[Instance] | None = None
        self._is_complete = False
        self._names = HostNames(namer.shared.resolver, self._name_changed)
        self._hosts: dict[HostInstance, Named] = {}
        self._retained = 0

    def _retain(self) -> None:
        """Somebody observes it."""
        raise NotImplementedError

    def _release(self) -> None:
        """One of those who observed it does not any more."""
        raise NotImplementedError

    def _report(self, event: str, facts: Any) -> None:
        # An agent that is away is one line in the log, not one for each name; nor is its return.
        if event == "names.source_recovered" and not self._has_complained:
            return
        if self._namer.agent.is_up:
            self._has_complained = event == "names.source_failed"
            self._namer.report(event, facts)

    # Endpoints.

    def _use(self, instances: frozenset[Instance], said: str, complete: bool) -> None:
        self._instances, self._is_complete = instances, complete
        hosts = [instance for instance in instances if isinstance(instance, HostInstance)]
        # Which of too many are followed must not change with every answer.
        self._hosts = {
            instance: Named(instance.host, instance.port, instance.weight)
            for instance in sorted(hosts)[:MAX_HOSTNAMES]
        }
        self._names.follow(self._hosts.values())
        if instances:
            self._combine(said)
        elif complete:
            self.fresh.absent(index=said)
        else:
            self.fresh.failed(
                "the agent's servers have no leader, and the one that answered knows no instance"
            )

    def _name_changed(self) -> None:
        if self._retained and self._instances:
            self._combine(str(self.index))

    def _combine(self, said: str) -> None:
        """The endpoints of all instances. While a host name is being resolved nothing is removed; one that cannot be
        resolved counts as none, unless nothing else is left: that is an error and not an empty set."""
        endpoints: list[Endpoint] = []
        pending = False
        cause: str | None = None
        for instance in self._instances or ():
            if isinstance(instance, Endpoint):
                endpoints.append(instance)
                continue
            named = self._hosts.get(instance)
            if named is None:
                cause = cause or f"expected at most {MAX_HOSTNAMES} host names, found more"
                continue
            resolved = self._names.resolved((named,))
            pending = pending or resolved.is_pending
            cause = cause or resolved.cause
            for endpoint in resolved.endpoints:
                usable = endpoint_of(endpoint.host, endpoint.port, endpoint.weight, instance.meta)
                if usable is None:
                    cause = cause or f"{named.host}: expected the address of a host, found {endpoint.host}"
                else:
                    endpoints.append(usable)
        if endpoints:
            self.fresh.found(endpoints, index=said, complete=self._is_complete and not pending)
        elif not pending:
            self.fresh.failed(cause or "no host name of its instances is known")

    def _classify(self) -> None:
        """Derive ``kind`` from what is believed."""
        match self.addr.value:
            case AddrNeg():
                self.kind.set(Missing())
            case AddrPending():
                self.kind.set(PENDING)
            case AddrFailed(cause):
                self.kind.set(Failed(cause))
            case AddrBound():
                self.kind.set(Exists())

    def age(self) -> float | None:
        """Seconds since the agent last confirmed what is believed."""
        return self.fresh.age()

    def state(self) -> dict[str, object]:
        """For the admin page."""
        return {
            "running": True,
            "lastStartedAt": round(self.started * 1000),
            "lastUpdatedAt": None if self.updated is None else round(self.updated * 1000),
            **self.fresh.state(),
            "watch": "blocking query",
            "hostNames": len(self._hosts),
        }
