"""One name of the Kubernetes namers: the watches it needs, and what they make of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from hostmesh.plugin import ADDR_PENDING, Addr, AddrBound, AddrFailed, AddrPending, Endpoint, Path, Var
from hostmesh.registry.freshness import Freshness
from hostmesh.registry.k8s_client import Selection
from namer.k8s_format import (
    Group,
    ServiceFacts,
    endpoints_groups,
    endpoints_of,
    port_name,
    service_facts,
    slice_groups,
    usable_ip,
)

if TYPE_CHECKING:
    from namer.k8s import Wanted
    from namer.k8s_namer import K8sNamer

SLICES_REFUSED: Final = (403, 404)
"""Not allowed, as with the roles that were written for Linkerd; not served, as by servers before 1.21."""


def slices(wanted: Wanted) -> Selection:
    """The EndpointSlices of a service. They carry its labels."""
    selector = f"kubernetes.io/service-name={wanted.service}"
    if wanted.label is not None:
        selector += f",{wanted.label}"
    path = f"/apis/discovery.k8s.io/v1/namespaces/{wanted.namespace}/endpointslices"
    return Selection(path, (("labelSelector", selector),), slice_groups)


def core(wanted: Wanted, resource: str) -> Selection:
    """The one object of the core API with the service's name: ``endpoints`` or ``services``."""
    params: tuple[tuple[str, str], ...] = (("fieldSelector", f"metadata.name={wanted.service}"),)
    if wanted.label is not None:
        params = (*params, ("labelSelector", wanted.label))
    digest: Callable[[Any], Any] = endpoints_groups if resource == "endpoints" else service_facts
    return Selection(f"/api/v1/namespaces/{wanted.namespace}/{resource}", params, digest)


class Source:
    """One watch that a name depends on. It hears of the watch and tells the name."""

    def __init__(self, name: K8sName, selection: Selection) -> None:
        self.selection = selection
        self.values: tuple[Any, ...] | None = None
        self.version = ""
        self.cause: str | None = None
        self._name = name
        self.close = name.namer.client().watch(selection).follow(self)

    def known(self, values: tuple[Any, ...], version: str) -> None:
        self.values, self.version, self.cause = values, version, None
        self._name.changed(version)

    def confirmed(self) -> None:
        self._name.confirmed()

    def failed(self, cause: str, status: int | None) -> None:
        self.cause = cause
        self._name.failed(self, cause, status)


class K8sName:
    """Endpoints of one service and port, or addresses of its load balancer. It follows while observed."""

    def __init__(self, namer: K8sNamer, path: Path, wanted: Wanted) -> None:
        self.namer = namer
        self.path = path
        self.id = namer.root_id + path
        self.wanted = wanted
        self.addr: Var[Addr] = Var(namer.turn, ADDR_PENDING, on_active=self._start, on_idle=self._stop)
        self.fresh = Freshness(
            self.id.show(),
            self.addr,
            namer.shared.alarms,
            namer.journal,
            hold_s=namer.hold_s,
            report=namer.report,
            warm=namer.shared.warm,
            guard=namer.shared.guard,
        )
        self._places: Source | None = None
        self._service: Source | None = None
        self._resolved: dict[tuple[str, int], Var[Addr]] = {}
        self._closers: dict[tuple[str, int], Callable[[], None]] = {}
        self._is_starting = False
        self.started = 0.0
        self.skipped = 0
        """Addresses that cannot be endpoints, as of now."""

    # Observed or not.

    def _start(self) -> None:
        self.namer.keep(self)
        self.started = self.namer.env.wall()
        # A watch that is known already speaks at once, before the second one is there.
        self._is_starting = True
        wanted = self.wanted
        if self.namer.is_external:
            self._service = Source(self, core(wanted, "services"))
        else:
            if wanted.number is not None:
                self._service = Source(self, core(wanted._replace(label=None), "services"))
            use_core = self.namer.endpoints == "endpoints"
            self._places = Source(self, core(wanted, "endpoints") if use_core else slices(wanted))
        source = self._places or self._service
        assert source is not None
        self.fresh.source = f"{self.namer.client().name}{source.selection.show()}"
        self._is_starting = False
        self._evaluate(source.version)

    def _stop(self) -> None:
        for source in (self._places, self._service):
            if source is not None:
                source.close()
        self._places = self._service = None
        self._follow_names({})
        self.skipped = 0
        self.fresh.forget()
        self.namer.drop(self)

    # What the watches say.

    def changed(self, version: str) -> None:
        """A watch knows something new, or again."""
        if not self._is_starting:
            self._evaluate(version)

    def confirmed(self) -> None:
        """A watch says that nothing has changed."""
        if self._cause() is None and self._is_complete():
            self.fresh.confirm()

    def failed(self, source: Source, cause: str, status: int | None) -> None:
        """A watch cannot tell. Of slices that may not be read nothing will ever come: use Endpoints."""
        may_fall_back = self.namer.endpoints == "auto" and source.selection.path.startswith("/apis/")
        if source is self._places and status in SLICES_REFUSED and may_fall_back:
            self.namer.report("k8s.no_endpoint_slices", {"name": self.id.show(), "cause": cause})
            self._use_endpoints(source)
            return
        self.namer.errors.value += 1
        self.fresh.failed(cause)

    def _use_endpoints(self, refused: Source) -> None:
        selection = core(self.wanted, "endpoints")
        # A watch that is known already speaks at once, before it is the one that counts.
        self._is_starting = True
        self._places = Source(self, selection)
        self._is_starting = False
        refused.close()
        self.fresh.source = f"{self.namer.client().name}{selection.show()}"
        self._evaluate(self._places.version)

    def _sources(self) -> list[Source]:
        return [source for source in (self._places, self._service) if source is not None]

    def _cause(self) -> str | None:
        return next((source.cause for source in self._sources() if source.cause is not None), None)

    def _is_complete(self) -> bool:
        return all(source.values is not None for source in self._sources())

    # What follows from it.

    def _evaluate(self, version: str) -> None:
        cause = self._cause()
        if not self._is_complete():
            if cause is not None:
                self.fresh.failed(cause)
            return
        if self.namer.is_external:
            self._load_balancer(version, is_sure=cause is None)
            return
        assert self._places is not None
        groups: list[Group] = [group for groups in self._places.values or () for group in groups]
        port = self._port()
        found = () if port is None else endpoints_of(groups, port)
        self.skipped = sum(group.skipped for group in groups)
        if self.skipped and not found:
            # Not an empty service: one whose addresses cannot be used.
            self.fresh.failed(f"expected addresses of pods, found {self.skipped} that are none")
            return
        self._say(found, version, is_sure=cause is None)

    def _port(self) -> str | None:
        """The name of the wanted port, in lower case; an empty one is the only port of a service."""
        if self.wanted.number is None:
            return self.wanted.port
        assert self._service is not None
        name = port_name(self._service.values or (), self.wanted.number)
        return None if name is None else name.lower()

    def _say(self, found: tuple[Endpoint, ...], version: str, *, is_sure: bool) -> None:
        """What is there now; unless sure, more may be."""
        if found:
            self.fresh.found(found, index=version, complete=is_sure)
        elif is_sure:
            # As Linkerd: no such port, or nobody ready, is no such name, and a dtab may fall back.
            self.fresh.absent(index=version)

    # Load balancers have host names.

    def _load_balancer(self, version: str, *, is_sure: bool) -> None:
        assert self._service is not None
        pairs: list[tuple[str, int]] = []
        services: tuple[ServiceFacts, ...] = self._service.values or ()
        for facts in services:
            for port in facts.ports:
                if self.wanted.number == port.number or self.wanted.port == port.name.lower():
                    pairs += [(host, port.number) for host in facts.ingress]
                    break
        literals = [(ip, port) for host, port in pairs if (ip := usable_ip(host)) is not None]
        resolve = self.namer.shared.resolver.resolve
        self._follow_names(
            {
                (host, port): self._resolved.get((host, port)) or resolve(host, port)
                for host, port in pairs
                if not _is_address(host)
            }
        )
        found = [Endpoint(ip, port) for ip, port in literals]
        for var in self._resolved.values():
            match var.value:
                case AddrBound(endpoints):
                    found += [each for each in endpoints if usable_ip(each.host) is not None]
                case AddrPending():
                    is_sure = False
                case AddrFailed(cause) if not found:
                    self.fresh.failed(cause)
                    is_sure = False
        self._say(tuple(found), version, is_sure=is_sure)

    def _follow_names(self, resolved: dict[tuple[str, int], Var[Addr]]) -> None:
        self._resolved = resolved
        for key, var in resolved.items():
            if key not in self._closers:
                self._closers[key] = var.observe(self._name_changed)
        for key in self._closers.keys() - resolved.keys():
            self._closers.pop(key)()

    def _name_changed(self, _addr: Addr) -> None:
        if self._service is not None and self._is_complete():
            self._load_balancer(self._service.version, is_sure=self._cause() is None)

    def state(self) -> dict[str, object]:
        """For the admin page."""
        return {
            "running": True,
            "lastStartedAt": round(self.started * 1000),
            **self.fresh.state(),
            "skipped": self.skipped,
            "watches": [
                {
                    "request": source.selection.show(),
                    "objects": len(source.values or ()),
                    "error": source.cause,
                }
                for source in self._sources()
            ],
        }


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()
