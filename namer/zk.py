"""What namers on ZooKeeper have in common: a path is a node, and the longest path that is a name wins."""

from __future__ import annotations

import trio

from hostmesh.plugin import (
    NAMER_ROOT,
    NEG,
    PENDING,
    Activity,
    BoundName,
    Computed,
    Failed,
    Leaf,
    LookupTree,
    NamerDeps,
    Ok,
    Path,
    Pending,
    Read,
    State,
)
from hostmesh.registry.journal import Journal
from hostmesh.registry.shared import Shared
from hostmesh.registry.zookeeper import ensemble_of
from namer.zk_config import ZkNamerConfig
from namer.zk_name import Format, IsBound, IsMissing, Name, gauge_age_ms

MAX_DEPTH = 16
"""Segments of a path that can be a name. A path that is none costs a watch for each of its prefixes, and paths come
from requests."""

MAX_SEGMENT = 255
"""Bytes of a segment that is looked up; nodes are called after hosts and services."""


def is_node(segment: str) -> bool:
    """Whether a segment can be a ZooKeeper node's name. Others are no names, and never asked for."""
    return (
        segment not in ("", ".", "..", "zookeeper")
        and len(segment.encode("utf-8", "replace")) <= MAX_SEGMENT
        and segment.isprintable()
        and "/" not in segment
    )


class Lookup(Computed[State[LookupTree]]):
    """The name tree of one path."""

    def __init__(self, namer: ZkNamer, path: Path) -> None:
        super().__init__(namer.turn, PENDING, self._tree)
        self._namer = namer
        self._path = path

    def _activate(self) -> None:
        self._namer.lookups.setdefault(self._path, self)
        super()._activate()

    def _deactivate(self) -> None:
        if self._namer.lookups.get(self._path) is self:
            del self._namer.lookups[self._path]
        super()._deactivate()
        # Its bound name holds an address that is no longer followed: whoever comes back starts anew.
        self._value = PENDING

    def _tree(self, read: Read) -> State[LookupTree]:
        for depth in range(min(len(self._path), MAX_DEPTH), 0, -1):
            names = self._path.take(depth)
            if not self._namer.is_name(names):
                continue
            name = self._namer.name(names)
            match read(name.kind):
                case IsBound():
                    return Ok(Leaf(BoundName(name.id, name.addr, self._path.drop(depth))))
                case IsMissing():
                    continue
                case Pending() | Failed() as unknown:
                    return unknown
        return Ok(NEG)


class ZkNamer:
    """Names are nodes, watched while in use, all through the ensemble's one session."""

    def __init__(self, config: ZkNamerConfig, deps: NamerDeps, form: Format) -> None:
        shared: Shared = deps.shared
        self.prefix = deps.prefix
        self.root_id = NAMER_ROOT + deps.prefix
        self.format = form
        self.hold_s = config.hold_ms / 1000
        self.env = deps.env
        self.turn = deps.turn
        self.shared = shared
        self.report = deps.report
        self.rng = deps.env.rng(f"namer{deps.prefix.show()}")
        self.ensemble = ensemble_of(shared, config.place, deps.env, deps.report)
        self.journal = Journal(deps.env)
        self.lookups: dict[Path, Lookup] = {}
        self._names: dict[Path, Name] = {}
        self._was_lost = False
        self._ages = deps.metrics.scope("age_ms")
        self.malformed = deps.metrics.counter("malformed")
        self.errors = deps.metrics.counter("errors")
        ensemble = self.ensemble
        deps.metrics.gauge("names", lambda: len(self._names))
        deps.metrics.gauge("max_age_ms", self._max_age_ms)
        deps.metrics.gauge("connected", lambda: float(ensemble.is_connected))
        deps.metrics.gauge("connects", lambda: ensemble.connects)
        deps.metrics.gauge("sessions", lambda: ensemble.sessions)
        deps.metrics.gauge("watches", lambda: ensemble.watches)
        deps.metrics.gauge("requests", lambda: ensemble.requests)

    async def run(self) -> None:
        """Keep the session."""
        with self.ensemble.used(), self.ensemble.listening(self._connection_changed):
            await trio.sleep_forever()

    def lookup(self, path: Path) -> Activity[LookupTree]:
        """The longest prefix of ``path`` that is a name; the rest is the residual."""
        return self.lookups.get(path) or Lookup(self, path)

    def is_name(self, names: Path) -> bool:
        """Whether names of this form may exist."""
        last, colon, endpoint = names[-1].partition(":") if self.format.has_endpoints else (names[-1], "", "")
        return all(map(is_node, (*names[:-1], last))) and bool(colon) == bool(endpoint)

    def name(self, names: Path) -> Name:
        return self._names.get(names) or Name(self, names)

    def keep(self, name: Name) -> None:
        """The name is observed."""
        if self._names.setdefault(name.names, name) is name:
            self._ages.gauge(name.id.show(), gauge_age_ms(name))

    def drop(self, name: Name) -> None:
        """The name is not observed any more."""
        if self._names.get(name.names) is name:
            del self._names[name.names]
            self._ages.prune(name.id.show())

    def _connection_changed(self) -> None:
        ensemble = self.ensemble
        source = f"zookeeper {ensemble.place.show()}"
        whole = self.root_id.show()
        if ensemble.is_connected:
            if self._was_lost:
                self.journal.write(whole, "recovered", "connected", source, ensemble.session or "")
            self._was_lost = False
            return
        # One entry for all names: with one for each, a reconnect would flush the journal.
        if not self._was_lost and ensemble.connects:
            self.journal.write(whole, "error", "not connected", source, ensemble.session or "")
        self._was_lost = True
        for name in list(self._names.values()):
            name.lost(ensemble.trouble)

    def _max_age_ms(self) -> float:
        return max((name.age() or 0.0 for name in self._names.values()), default=0.0) * 1000

    def bound_names(self) -> list[Path]:
        """Ids in use. What else the ensemble has is not asked for."""
        return sorted(name.id for name in self._names.values())

    def state(self) -> dict[str, object]:
        """The session and the names in use."""
        return {
            "running": True,
            "prefix": self.prefix.show(),
            "zookeeper": self.ensemble.state(),
            "state": {names.show(): self._names[names].state() for names in sorted(self._names)},
        }
