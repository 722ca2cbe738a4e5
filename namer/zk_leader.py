"""``io.l5d.zkLeader``: the leader of an election in ZooKeeper, which is the candidate with the lowest number."""

from __future__ import annotations

import re
from collections.abc import Mapping

from attrs import frozen

from hostmesh.plugin import NamerDeps
from hostmesh.registry.hostnames import Named
from namer.serversets_format import parse_leader
from namer.zk import ZkNamer
from namer.zk_config import ZkNamerConfig

_SEQUENCE = re.compile(r"[0-9]{1,10}\Z", re.ASCII)
"""ZooKeeper's sequence numbers have ten digits, from 0."""


class LeaderFormat:
    """One candidate per child; what it says of itself is ``host:port[,host:port...]``."""

    has_endpoints = False
    replaces = True

    def wanted(self, children: list[str]) -> list[str]:
        candidates = [
            (int(found[0]), child) for child in children if (found := _SEQUENCE.search(child)) is not None
        ]
        return [min(candidates)[1]] if candidates else []

    def parse(self, _child: str, data: bytes, _endpoint: str | None) -> list[Named]:
        return parse_leader(data)

    def combine(self, parsed: Mapping[str, list[Named]]) -> list[Named]:
        return [named for said in parsed.values() for named in said]


@frozen(kw_only=True)
class ZkLeaderConfig(ZkNamerConfig):
    """The leader of a ZooKeeper election: ``/<zk path>``. The longest path that has a leader is the name."""

    def mk(self, deps: NamerDeps) -> ZkNamer:
        return ZkNamer(self, deps, LeaderFormat())
