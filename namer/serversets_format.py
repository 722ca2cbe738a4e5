"""Serversets as ZooKeeper holds them: the JSON of ``member_...`` and ``vector_...`` nodes. Pure.

The layout is that of Twitter's serversets, which finagle, Aurora and Linkerd read and write.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any, NamedTuple

from hostmesh.registry.hostnames import Named
from hostmesh.registry.resolver import literal

MEMBER = "member_"
VECTOR = "vector_"

MAX_NODE_BYTES = 64 * 1024
"""A member is a few hundred bytes. A larger one is somebody's mistake or malice, and is not parsed."""

MAX_HOST = 253
"""The longest host name of the DNS."""


class Member(NamedTuple):
    """One member, as far as it concerns one endpoint name."""

    host: str
    port: int
    shard: int | None


class Selector(NamedTuple):
    """One line of a vector: a weight for those it selects."""

    key: str
    """``inet``, ``member`` or ``shard``."""
    value: str
    weight: float


def parse_member(data: bytes, endpoint: str | None) -> Member | None:
    """The member's address for ``endpoint`` (None: its service endpoint).

    None when it is not alive or has no endpoint of that name. ValueError says what is malformed.
    """
    node = _object(data)
    if node.get("status") != "ALIVE":
        return None
    if endpoint is None:
        address = node.get("serviceEndpoint")
    else:
        additional = node.get("additionalEndpoints") or {}
        if not isinstance(additional, dict):
            raise ValueError("additionalEndpoints: expected an object")
        address = additional.get(endpoint)
    if address is None:
        return None
    if not isinstance(address, dict):
        raise ValueError("expected an endpoint {host, port}")
    shard = node.get("shard")
    return Member(
        checked_host(address.get("host")),
        checked_port(address.get("port")),
        shard if isinstance(shard, int) and not isinstance(shard, bool) else None,
    )


def parse_vector(data: bytes) -> tuple[Selector, ...]:
    """The weights of a vector node; ValueError says what is malformed."""
    lines = _object(data).get("vector")
    if not isinstance(lines, list):
        raise ValueError("vector: expected a list")
    found = []
    for line in lines:
        select = line.get("select") if isinstance(line, dict) else None
        if not isinstance(select, str):
            raise ValueError("select: expected text")
        key, equals, value = select.partition("=")
        weight = line.get("weight", 1.0)
        if key not in ("inet", "member", "shard") or not equals:
            raise ValueError(f"select: expected inet=, member= or shard=, found {select[:80]!r}")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < 1e9:
            raise ValueError(f"weight: expected a number of at least 0, found {str(weight)[:80]}")
        found.append(Selector(key, value, float(weight)))
    return tuple(found)


def weigh(members: Mapping[str, Member], vectors: Iterable[tuple[Selector, ...]]) -> list[Named]:
    """The members with their weights, those of all matching selectors multiplied. Keys are node names."""
    by_inet: dict[str, float] = {}
    by_member: dict[str, float] = {}
    by_shard: dict[str, float] = {}
    tables = {"inet": by_inet, "member": by_member, "shard": by_shard}
    for vector in vectors:
        for selector in vector:
            table = tables[selector.key]
            table[selector.value] = min(table.get(selector.value, 1.0) * selector.weight, 1e9)
    found = []
    for node, member in members.items():
        weight = math.prod(
            (
                by_inet.get(f"{member.host}:{member.port}", 1.0),
                by_member.get(node, 1.0),
                by_shard.get(str(member.shard), 1.0),
            )
        )
        found.append(Named(member.host, member.port, min(weight, 1e9)))
    return found


def show_member(host: str, port: int, shard: int = 0) -> bytes:
    """A living member, as announcers write it."""
    return json.dumps(
        {
            "serviceEndpoint": {"host": host, "port": port},
            "additionalEndpoints": {},
            "status": "ALIVE",
            "shard": shard,
        }
    ).encode()


def parse_leader(data: bytes) -> list[Named]:
    """``host:port[,host:port...]``, as the leader of an election writes itself; ValueError says what is wrong."""
    if len(data) > MAX_NODE_BYTES:
        raise ValueError(f"expected at most {MAX_NODE_BYTES} bytes, found {len(data)}")
    found = []
    for each in data.decode("utf-8").strip().split(","):
        host, colon, port = each.strip().rpartition(":")
        if not colon or not (port.isascii() and port.isdigit() and len(port) <= 5):
            raise ValueError(f"expected host:port, found {each[:80]!r}")
        found.append(Named(checked_host(host), checked_port(int(port))))
    return found


def _object(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_NODE_BYTES:
        raise ValueError(f"expected at most {MAX_NODE_BYTES} bytes, found {len(data)}")
    try:
        node = json.loads(data)
    except RecursionError:
        raise ValueError("expected JSON that is not nested so deeply") from None
    if not isinstance(node, dict):
        raise ValueError("expected a JSON object")
    return node


def checked_port(port: object) -> int:
    """A port that can be connected to, or ValueError."""
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
        raise ValueError(f"expected a port between 1 and 65535, found {str(port)[:80]}")
    return port


def checked_host(host: object) -> str:
    """A host name or an address that can be an endpoint's, or ValueError.

    Link-local addresses are refused, for the metadata services of clouds live there; so are wildcard, multicast and
    reserved ones, which are nobody's.
    """
    if not isinstance(host, str) or not 0 < len(host) <= MAX_HOST or not host.isascii():
        raise ValueError(f"expected a host name or an address, found {str(host)[:80]!r}")
    address = literal(host)
    if address is None:
        if not all(char.isalnum() or char in "-_." for char in host):
            raise ValueError(f"expected a host name or an address, found {host[:80]!r}")
        return host.lower()
    ip = ip_address(address)
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or (ip.is_reserved and not ip.is_loopback):
        raise ValueError(f"expected the address of a host, found {address}")
    return address
