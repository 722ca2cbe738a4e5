"""``io.l5d.dns``, hostmesh's own: endpoints from A and AAAA records, ``/<host name>/<port>``."""

from __future__ import annotations

from attrs import frozen

from hostmesh.plugin import NamerDeps, Ok, Path, Read, State
from hostmesh.registry.dns import Found
from hostmesh.registry.polled import PolledName
from hostmesh.registry.usable import endpoint_of
from namer.dnsnames import DnsNamer, DnsNamerConfig, canonical_or_none


class DnsAddressNamer(DnsNamer):
    """Like ``/$/inet``, but with the record's own TTL, chosen name servers, and a journal."""

    segments = 2

    def name_in(self, read: Read, path: Path) -> State[Path | None]:
        if len(path) < 2 or not path[1].isdecimal() or not path[1].isascii():
            return Ok(None)
        return Ok(path.take(2) if len(path[1]) <= 5 and 0 < int(path[1]) < 65536 else None)

    async def look(self, name: PolledName) -> float:
        host, port = canonical_or_none(name.path[0]), int(name.path[1])
        if host is None:
            name.absent()
            return self.refresh_s
        answer = await self.client.addresses(host, v6=self.wants_v6)
        if not isinstance(answer, Found):
            name.absent()
            return self.pause(answer.ttl)
        name.found(endpoint_of(str(record.data), port) for record in answer.records)
        return self.pause(answer.ttl)

    def source_of(self, path: Path) -> str:
        return f"A {path[0]}"


@frozen(kw_only=True)
class DnsConfig(DnsNamerConfig):
    """*hostmesh* DNS host names: ``/<host name>/<port>``."""

    def mk(self, deps: NamerDeps) -> DnsAddressNamer:
        return DnsAddressNamer(self, deps)
