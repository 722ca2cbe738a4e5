"""``io.l5d.serversets``: Twitter's serversets in ZooKeeper, as Aurora, finagle and Linkerd write them."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from hostmesh.plugin import NamerDeps
from hostmesh.registry.hostnames import Named
from namer.serversets_format import MEMBER, VECTOR, Member, Selector, parse_member, parse_vector, weigh
from namer.zk import ZkNamer
from namer.zk_config import ZkNamerConfig


class ServersetsFormat:
    """Members and vectors."""

    has_endpoints = True
    replaces = False

    def wanted(self, children: list[str]) -> list[str]:
        return [child for child in children if child.startswith((MEMBER, VECTOR))]

    def parse(self, child: str, data: bytes, endpoint: str | None) -> Member | tuple[Selector, ...] | None:
        return parse_member(data, endpoint) if child.startswith(MEMBER) else parse_vector(data)

    def combine(self, parsed: Mapping[str, Member | tuple[Selector, ...]]) -> list[Named]:
        members = {child: said for child, said in parsed.items() if isinstance(said, Member)}
        vectors = [said for said in parsed.values() if not isinstance(said, Member)]
        return weigh(members, vectors)


@frozen(kw_only=True)
class ServersetsConfig(ZkNamerConfig):
    """ZooKeeper serversets: ``/<zk path>[:<endpoint>]``. The longest path that is a serverset is the name, the rest the
    residual; ``:endpoint`` on its last segment chooses one of the members' additional endpoints."""

    def mk(self, deps: NamerDeps) -> ZkNamer:
        return ZkNamer(self, deps, ServersetsFormat())
