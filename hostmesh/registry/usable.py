"""Which addresses from a registry may become endpoints: a registry is other people's content."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from math import isfinite

from hostmesh.naming.addr import Endpoint

MAX_WEIGHT = 65535.0
"""As SRV records have it; what is above is taken for this."""

_METADATA = frozenset({"100.100.100.200", "192.0.0.192", "fd00:ec2::254"})
"""Addresses of clouds' metadata services that are not link-local: Alibaba, Oracle, AWS over IPv6."""


def endpoint_of(
    host: str, port: object, weight: object = 1.0, meta: tuple[tuple[str, str], ...] = ()
) -> Endpoint | None:
    """The endpoint, or None when this cannot be one, or must not.

    ``host`` is a numeric address; refused are those that no service has: unspecified, multicast, broadcast, and
    link-local with the clouds' metadata services, which a registry must not make us talk to. An IPv4 address inside
    of IPv6 is itself.
    """
    address = _address(host)
    if address is None or isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
        return None
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not isfinite(weight) or weight < 0:
        return None
    return Endpoint(address, port, min(float(weight), MAX_WEIGHT), meta)


# The same hosts come again with every answer.
@lru_cache(maxsize=65536)
def _address(host: str) -> str | None:
    try:
        address: IPv4Address | IPv6Address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.scope_id:
            return None
        address = address.ipv4_mapped or address
    refused = address.is_unspecified or address.is_multicast or address.is_link_local
    if refused or str(address) in _METADATA or str(address) == "255.255.255.255":
        return None
    return str(address)
