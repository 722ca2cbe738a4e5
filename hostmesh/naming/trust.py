"""Where a request's own dtab may not lead.

A dtab in a request can name any address: without this, whoever may send a header could have the router dial
the cloud's metadata service, its own admin port, or what listens on this host's loopback for good reasons.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

from hostmesh.naming.addr import AddrBound, Endpoint
from hostmesh.naming.bound import BoundLeaf, BoundName, BoundTree, BoundUnion, bound_names
from hostmesh.naming.nametree import Empty, Fail, Neg

__all__ = ["introduced", "refusal"]

_METADATA: Final = frozenset({"fd00:ec2::254"})
"""Metadata services that have an address outside of the link-local ranges."""

_ANY: Final = frozenset({"0.0.0.0", "::"})

_NAT64: Final = IPv6Network("64:ff9b::/96")


def refusal(
    what: BoundTree | Iterable[Endpoint],
    caller_is_loopback: bool,
    forbidden: Collection[tuple[str, int]],
) -> str | None:
    """Why a request with its own dtab may not go there, or None if it may.

    ``what`` is a bound tree, of which the addresses known now are looked at, or the endpoints themselves: as
    addresses arrive later and change, the endpoint that was picked has to be looked at before it is dialled.
    ``forbidden`` are (numeric address, port) pairs, such as the admin server's; with the address ``0.0.0.0``
    or ``::`` the port is forbidden on every address.
    """
    if isinstance(what, (BoundLeaf, BoundUnion, Neg, Fail, Empty)):
        what = _known_endpoints(what)
    for endpoint in what:
        kind = _kind(endpoint.host)
        if kind == "link-local":
            return f"{endpoint.host}:{endpoint.port} is link-local: a request's own dtab may not name it"
        host, port = _plain(endpoint.host), endpoint.port
        if any(port == each[1] and _same_host(host, _plain(each[0])) for each in forbidden):
            return f"{endpoint.host}:{port} is the router's own: a request's own dtab may not name it"
        if kind == "loopback" and not caller_is_loopback:
            return (
                f"{endpoint.host}:{port} is on the loopback interface: "
                "the dtab of a request from another host may not name it"
            )
    return None


def introduced(tree: BoundTree, base: BoundTree) -> list[BoundName]:
    """The names of ``tree`` that are not in ``base``: what a request's own dtab has added to the binding
    without it.

    Only these are the request's doing. A router whose base dtab leads to loopback serves callers with dtabs,
    too.
    """
    ours = {name.id for name in bound_names(base)}
    return [name for name in bound_names(tree) if name.id not in ours]


def _known_endpoints(tree: BoundTree) -> Iterable[Endpoint]:
    for name in bound_names(tree):
        addr = name.addr.value
        if isinstance(addr, AddrBound):
            yield from addr.endpoints


def _same_host(host: str, own: str) -> bool:
    # Listening on every address, or dialling whichever: Linux connects 0.0.0.0 and :: to the host itself.
    return host == own or own in _ANY or (host in _ANY and _kind(own) == "loopback")


# A replica set has few hosts and requests with dtabs come in runs.
@lru_cache(maxsize=4096)
def _plain(host: str) -> str:
    """The address in canonical form; an IPv4 address that IPv6 wraps is itself."""
    return str(_unwrapped(host))


@lru_cache(maxsize=4096)
def _kind(host: str) -> str:
    address = _unwrapped(host)
    if address.is_link_local or str(address) in _METADATA:
        return "link-local"
    # Linux connects 0.0.0.0 and :: to the host itself.
    return "loopback" if address.is_loopback or address.is_unspecified else ""


def _unwrapped(host: str) -> IPv4Address | IPv6Address:
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
        if address.sixtofour is not None:
            return address.sixtofour
    return address
