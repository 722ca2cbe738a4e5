"""From Kubernetes objects to endpoints. Pure: EndpointSlices, Endpoints and Services as the API sends them.

What is in them is somebody else's content. What cannot be an endpoint is left out and counted; nothing here raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any, NamedTuple

from hostmesh.plugin import Endpoint
from hostmesh.registry.k8s_objects import items, mapping, text
from hostmesh.registry.usable import endpoint_of

MAX_ADDRESSES = 10_000
"""Addresses taken of one object. The API server refuses slices of more than 1,000, and truncates Endpoints there."""

MAX_PORTS = 256
"""Ports taken of one object; the API server takes 100 in a slice."""


class Place(NamedTuple):
    """An address in canonical form, and the node of its pod or an empty string."""

    ip: str
    node: str


class Group(NamedTuple):
    """Addresses that share ports: a slice, or one subset of an Endpoints object."""

    is_v6: bool
    ports: tuple[tuple[str, int], ...]
    """Name and number of TCP ports."""
    ready: tuple[Place, ...]
    draining: tuple[Place, ...] = ()
    """Terminating, and still serving."""
    skipped: int = 0
    """Addresses that are none, or that nobody may be sent to."""


class ServicePort(NamedTuple):
    name: str
    number: int


class ServiceFacts(NamedTuple):
    """What is wanted of a Service."""

    ports: tuple[ServicePort, ...]
    """TCP only."""
    ingress: tuple[str, ...]
    """Addresses and host names of its load balancer."""


def usable_ip(value: object) -> str | None:
    """The canonical form of an address that traffic may go to, or None.

    Besides those that no registry may name also not loopback: the API server refuses it, so who says so is no cluster,
    and whoever may write endpoints must not reach into the node.
    """
    endpoint = endpoint_of(text(value)[:64], 1)
    if endpoint is None or ip_address(endpoint.host).is_loopback:
        return None
    return endpoint.host


def _ports(value: object, number_key: str) -> tuple[tuple[str, int], ...]:
    found: list[tuple[str, int]] = []
    for each in items(value):
        number = each.get(number_key)
        if len(found) >= MAX_PORTS:
            break
        if each.get("protocol", "TCP") in ("TCP", None) and is_port(number):
            assert isinstance(number, int)
            found.append((text(each.get("name")), number))
    return tuple(found)


def is_port(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535


def slice_groups(found: Mapping[str, Any]) -> tuple[Group, ...]:
    """What an EndpointSlice (discovery.k8s.io/v1) says.

    Ready is who has the condition, or no word about it. Terminating endpoints that still serve are told apart:
    they are of use when nobody is ready.
    """
    ready: list[Place] = []
    draining: list[Place] = []
    skipped = 0
    # FQDN slices are deprecated, and nobody makes them.
    is_v6 = found.get("addressType") == "IPv6"
    for each in items(found.get("endpoints")):
        conditions = mapping(each.get("conditions"))
        if conditions.get("ready") is not False:
            places = ready
        elif conditions.get("serving") is True and conditions.get("terminating") is True:
            places = draining
        else:
            continue
        addresses = each.get("addresses")
        # Those of one entry are interchangeable, and only the first counts.
        ip = usable_ip(addresses[0]) if isinstance(addresses, list) and addresses else None
        if ip is None or (":" in ip) != is_v6 or len(ready) + len(draining) >= MAX_ADDRESSES:
            skipped += 1
            continue
        places.append(Place(ip, text(each.get("nodeName"))[:253]))
    return (Group(is_v6, _ports(found.get("ports"), "port"), tuple(ready), tuple(draining), skipped),)


def endpoints_groups(found: Mapping[str, Any]) -> tuple[Group, ...]:
    """What an Endpoints object (v1) says: the ready addresses of each subset."""
    groups = []
    left = MAX_ADDRESSES
    for subset in items(found.get("subsets")):
        ports = _ports(subset.get("ports"), "port")
        by_family: dict[bool, list[Place]] = {}
        skipped = 0
        for each in items(subset.get("addresses")):
            ip = usable_ip(each.get("ip"))
            if ip is None or left <= 0:
                skipped += 1
                continue
            left -= 1
            by_family.setdefault(":" in ip, []).append(Place(ip, text(each.get("nodeName"))[:253]))
        for is_v6, places in sorted(by_family.items()) or [(False, [])]:
            groups.append(Group(is_v6, ports, tuple(places), (), skipped))
            skipped = 0
    return tuple(groups)


def service_facts(found: Mapping[str, Any]) -> ServiceFacts:
    """What a Service (v1) says of its ports and of its load balancer."""
    ingress: list[str] = []
    for each in items(mapping(mapping(found.get("status")).get("loadBalancer")).get("ingress")):
        # As Linkerd: the host name, if there is one.
        host = text(each.get("hostname")) or text(each.get("ip"))
        if host and len(host) <= 253 and len(ingress) < MAX_PORTS:
            ingress.append(host)
    ports = _ports(mapping(found.get("spec")).get("ports"), "port")
    return ServiceFacts(tuple(ServicePort(name, number) for name, number in ports), tuple(ingress))


def port_name(facts: Iterable[ServiceFacts], number: int) -> str | None:
    """The name of the service port with this number; None if there is none. The only port may have an empty one.

    Endpoints carry the names of the Service's ports, so the name finds the target port, named or numbered.
    """
    for service in facts:
        for port in service.ports:
            if port.number == number:
                return port.name
    return None


def endpoints_of(groups: Iterable[Group], port: str) -> tuple[Endpoint, ...]:
    """The endpoints with this port, merged from all groups: ready ones, or if there are none those that drain.

    Of a service with addresses of both families the IPv4 ones count: the others are the same pods once more.
    """
    chosen: dict[tuple[bool, bool], dict[tuple[str, int], str]] = {}
    for group in groups:
        for name, number in group.ports:
            if name.lower() != port:
                continue
            for is_draining, places in ((False, group.ready), (True, group.draining)):
                found = chosen.setdefault((is_draining, group.is_v6), {})
                for place in places:
                    # While a slice is split an endpoint is in two of them; the one that knows the node counts.
                    if not found.get((place.ip, number)):
                        found[place.ip, number] = place.node
    for key in ((False, False), (False, True), (True, False), (True, True)):
        if chosen.get(key):
            return tuple(
                Endpoint(ip, number, 1.0, (("nodeName", node),) if node else ())
                for (ip, number), node in chosen[key].items()
            )
    return ()
