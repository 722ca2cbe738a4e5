"""What a Consul agent says of a service, as endpoints. Pure.

Nothing in it is trusted: an entry that is not what the API promises is skipped and counted, never the whole answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from attrs import frozen

from hostmesh.plugin import Endpoint
from hostmesh.registry.resolver import literal
from hostmesh.registry.usable import endpoint_of

STATUSES = ("passing", "warning", "critical", "maintenance")
"""From best to worst: an instance is as healthy as its worst check."""

MAX_META = 64
"""Pairs of metadata kept per endpoint; Consul itself allows as many."""

MAX_META_TEXT = 512
"""Characters of a key or value of metadata; Consul itself allows as many in a value."""

MAX_HOSTNAMES = 100
"""Host names among the addresses of one service: each is looked up again and again. Addresses have no such bound."""

_HOSTNAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?")


class HostInstance(NamedTuple):
    """An instance registered with a host name, which is still to be resolved."""

    host: str
    port: int
    weight: float
    meta: tuple[tuple[str, str], ...]


Instance: TypeAlias = Endpoint | HostInstance


@frozen(kw_only=True)
class Reading:
    """How the entries of one namer are read."""

    use_health: bool = False
    """The entries are those of ``/v1/health/service``, not of ``/v1/catalog/service``."""
    statuses: frozenset[str] = frozenset(["passing"])
    """What counts as healthy."""
    prefer_service_address: bool = True
    weights: Mapping[str, float] = {}
    """By tag."""
    with_metadata: bool = False


def instance_of(entry: Any, reading: Reading, authority: str | None = None) -> Instance | None:
    """One entry of an answer; None if it is not healthy, ValueError if it is not what the API promises."""
    if not isinstance(entry, dict):
        raise ValueError(f"expected an object, found {type(entry).__name__}")
    if reading.use_health:
        node, service = _object(entry, "Node"), _object(entry, "Service")
        if status_of(entry.get("Checks")) not in reading.statuses:
            return None
        own, port, tags = service.get("Address"), service.get("Port"), service.get("Tags")
        metas = (node.get("Meta"), service.get("Meta"))
        of_node = node.get("Address")
    else:
        own, port, tags = entry.get("ServiceAddress"), entry.get("ServicePort"), entry.get("ServiceTags")
        metas = (entry.get("NodeMeta"), entry.get("ServiceMeta"))
        of_node = entry.get("Address")
    host = own if own and reading.prefer_service_address else of_node
    if not isinstance(host, str):
        raise ValueError(f"expected an address, found {host!r:.80}")
    if type(port) is not int or not 0 < port < 65536:
        raise ValueError(f"expected a port between 1 and 65535, found {port!r:.80}")
    weight = _weight(tags, reading.weights)
    meta = _meta(metas) if reading.with_metadata else {}
    # Ours to say: it becomes the Host of requests.
    meta.pop("authority", None)
    if authority is not None:
        meta["authority"] = authority
    pairs = tuple(sorted(meta.items()))
    address = literal(host)
    if address is None:
        if not _HOSTNAME.fullmatch(host):
            raise ValueError(f"expected an address or a host name, found {host!r:.80}")
        return HostInstance(host.lower(), port, weight, pairs)
    endpoint = endpoint_of(address, port, weight, pairs)
    if endpoint is None:
        raise ValueError(f"expected the address of a host, found {address}")
    return endpoint


def status_of(checks: Any) -> str:
    """The worst status among an instance's checks; without checks it is ``passing``, an unknown one is critical."""
    worst = 0
    if checks is None:
        return STATUSES[0]
    if not isinstance(checks, list):
        raise ValueError("Checks: expected a list")
    for check in checks:
        if not isinstance(check, dict):
            raise ValueError("Checks: expected objects")
        name, status = check.get("CheckID"), check.get("Status")
        if name == "_node_maintenance" or (
            isinstance(name, str) and name.startswith("_service_maintenance:")
        ):
            status = "maintenance"
        worst = max(worst, STATUSES.index(status) if status in STATUSES else STATUSES.index("critical"))
    return STATUSES[worst]


def _weight(tags: Any, weights: Mapping[str, float]) -> float:
    if not weights or not isinstance(tags, list):
        return 1.0
    return max((weights[tag] for tag in tags if isinstance(tag, str) and tag in weights), default=1.0)


def _meta(metas: tuple[Any, Any]) -> dict[str, str]:
    """Both, the service's over its node's."""
    found: dict[str, str] = {}
    for meta in metas:
        if not isinstance(meta, dict):
            continue
        for key, value in meta.items():
            fits = isinstance(value, str) and max(len(key), len(value)) <= MAX_META_TEXT
            if fits and (len(found) < MAX_META or key in found):
                found[key] = value
    return found


def _object(entry: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = entry.get(key)
    if not isinstance(value, dict):
        raise ValueError(f"{key}: expected an object, found {type(value).__name__}")
    return value


def next_index(last: int, said: str) -> tuple[int, bool]:
    """The index of an answer, and whether the agent's state has been replaced since the one before (0: none).

    An index that goes backwards belongs to another state (a restored or restarted server): to wait for the old one
    would be to wait for ever. One that is missing or below 1 is a bug of the agent's or of something between; as 1 it
    at least makes the next query block.
    """
    index = int(said) if said.isascii() and said.isdigit() and len(said) < 20 else 0
    return (index, index < last) if index else (1, False)
