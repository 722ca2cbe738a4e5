"""``io.l5d.dnssrv``: endpoints from DNS SRV records, ``/<record>``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from attrs import frozen

from hostmesh.plugin import Endpoint, NamerDeps, Path
from hostmesh.registry.dns import DnsError, Found
from hostmesh.registry.dns_wire import AAAA, SRV, A, Srv
from hostmesh.registry.dns_wire import Record as DnsRecord
from hostmesh.registry.polled import RETRY_MAX_S, PolledName
from hostmesh.registry.usable import endpoint_of
from namer.dnsnames import DnsNamer, DnsNamerConfig, canonical_or_none

SMALL_CHANCE = 0.01
"""The share of a record of weight 0 beside records with one, as part of the smallest of those: RFC 2782 wants it to
have "a very small chance of being selected"."""

MAX_TARGETS = 4_000
"""SRV records of one name that are used; more do not fit into a DNS message in any case."""


def by_priority(records: Iterable[Srv]) -> list[list[Srv]]:
    """The records in groups, the preferred one first; the target ``.`` ("no such service here") is in none."""
    groups: dict[int, list[Srv]] = {}
    for record in list(records)[:MAX_TARGETS]:
        if record.target:
            groups.setdefault(record.priority, []).append(record)
    return [groups[priority] for priority in sorted(groups)]


def weighted(group: Sequence[Srv]) -> list[tuple[Srv, float]]:
    """The weights of one priority's records as balancers take them; all equal is 1."""
    weights = {record.weight for record in group}
    if len(weights) == 1:
        return [(record, 1.0) for record in group]
    small = min(weight for weight in weights if weight) * SMALL_CHANCE
    return [(record, float(record.weight) or small) for record in group]


def addresses_in(records: Iterable[DnsRecord]) -> dict[str, tuple[list[str], float]]:
    """Addresses and TTL by owner, of an answer's additional section."""
    found: dict[str, tuple[list[str], float]] = {}
    for record in records:
        if record.type in (A, AAAA):
            addresses, ttl = found.get(record.name, ([], float(record.ttl)))
            addresses.append(str(record.data))
            found[record.name] = (addresses, min(ttl, record.ttl))
    return found


class DnsSrvNamer(DnsNamer):
    """Of the records, those of the lowest priority that has an address are the endpoints."""

    async def look(self, name: PolledName) -> float:
        record = canonical_or_none(name.path[0])
        if record is None:
            name.absent()
            return self.refresh_s
        # The last answer and its pause.
        memo: tuple[bytes, float] | None = name.memo
        answer = await self.client.ask_again(record, SRV, None if memo is None else memo[0])
        if answer is None:
            assert memo is not None
            name.confirm()
            return memo[1]
        name.memo = None
        if not isinstance(answer, Found):
            name.absent()
            return self.pause(answer.ttl)
        given = addresses_in(answer.additional)
        endpoints: list[Endpoint | None] = []
        ttl = answer.ttl
        unknown: DnsError | None = None
        is_all = True
        for group in by_priority(r.data for r in answer.records if isinstance(r.data, Srv)):
            for srv, weight in weighted(group):
                is_all = is_all and srv.target in given
                try:
                    addresses, holds = given.get(srv.target) or await self._addresses(srv.target)
                except DnsError as error:
                    # One target that cannot be resolved must not keep back what is known of the others.
                    unknown = error
                    continue
                ttl = min(ttl, max(holds, 1.0))
                # What a target gets is for all of its addresses together.
                part = weight / len(addresses) if addresses else 0.0
                endpoints += [endpoint_of(address, srv.port, part) for address in addresses]
            if unknown is not None or any(endpoints):
                # Whether the preferred ones are really gone is not known while one of them cannot be resolved.
                break
        if unknown is not None and not any(endpoints):
            raise unknown
        name.found(endpoints, complete=unknown is None)
        if unknown is not None:
            return RETRY_MAX_S
        if is_all and answer.raw is not None:
            name.memo = (answer.raw, self.pause(ttl))
        return self.pause(ttl)

    async def _addresses(self, target: str) -> tuple[Sequence[str], float]:
        return await self.client.kept_addresses(target, v6=self.wants_v6)

    def source_of(self, path: Path) -> str:
        return f"SRV {path[0]}"


@frozen(kw_only=True)
class DnsSrvNamerConfig(DnsNamerConfig):
    """DNS SRV records: ``/<record>``."""

    needs_experimental: ClassVar[bool] = True

    def mk(self, deps: NamerDeps) -> DnsSrvNamer:
        return DnsSrvNamer(self, deps)
