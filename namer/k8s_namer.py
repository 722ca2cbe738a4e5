"""The namer behind ``io.l5d.k8s``, ``io.l5d.k8s.ns`` and ``io.l5d.k8s.external``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.plugin import (
    NAMER_ROOT,
    NEG,
    PENDING,
    Activity,
    AddrBound,
    AddrFailed,
    AddrNeg,
    AddrPending,
    BoundName,
    Computed,
    Failed,
    Leaf,
    LookupTree,
    NamerDeps,
    Ok,
    Path,
    Read,
    State,
    Turn,
)
from hostmesh.registry.journal import Journal
from hostmesh.registry.k8s_client import K8sClient
from hostmesh.registry.shared import Shared
from namer.k8s_name import K8sName

if TYPE_CHECKING:
    from namer.k8s import K8sConfig


class Lookup(Computed[State[LookupTree]]):
    """The name tree of one path."""

    def __init__(self, namer: K8sNamer, path: Path) -> None:
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
        depth = self._namer.depth
        name = self._namer.name(self._path.take(depth)) if len(self._path) >= depth else None
        if name is None:
            return Ok(NEG)
        match read(name.addr):
            case AddrBound():
                return Ok(Leaf(BoundName(name.id, name.addr, self._path.drop(depth))))
            case AddrNeg():
                return Ok(NEG)
            case AddrFailed(cause):
                return Failed(cause)
            case AddrPending():
                return PENDING


class K8sNamer:
    """Services of a Kubernetes cluster, watched while in use."""

    def __init__(self, config: K8sConfig, deps: NamerDeps) -> None:
        shared: Shared = deps.shared
        self.config = config
        self.prefix = deps.prefix
        self.root_id = NAMER_ROOT + deps.prefix
        self.depth = config.depth
        self.is_external = config.is_external
        self.endpoints = config.endpoints
        self.hold_s = config.hold_ms / 1000
        self.env = deps.env
        self.turn: Turn = deps.turn
        self.shared = shared
        self.report = deps.report
        self.journal = Journal(deps.env)
        self.lookups: dict[Path, Lookup] = {}
        self._names: dict[Path, K8sName] = {}
        self._ages = deps.metrics.scope("age_ms")
        self.errors = deps.metrics.counter("errors")
        deps.metrics.gauge("skipped", lambda: sum(name.skipped for name in self._names.values()))
        deps.metrics.gauge("names", lambda: len(self._names))
        deps.metrics.gauge("max_age_ms", self._max_age_ms)
        deps.metrics.gauge("watches", lambda: len(self.client().watches))
        deps.metrics.gauge("lists", lambda: self.client().listed)
        deps.metrics.gauge("gone", lambda: self.client().gone)

    def client(self) -> K8sClient:
        """The API server's client, shared by all namers that ask it in the same way."""
        config = self.config
        return K8sClient.of(self.shared, config.api, config.host, config.port, self.report)

    def lookup(self, path: Path) -> Activity[LookupTree]:
        """The first segments are the name, what follows them the residual."""
        return self.lookups.get(path) or Lookup(self, path)

    def name(self, path: Path) -> K8sName | None:
        """The name at exactly this path; None if no service can be called that."""
        found = self._names.get(path)
        if found is not None:
            return found
        wanted = self.config.wanted(path)
        return None if wanted is None else K8sName(self, path, wanted)

    def keep(self, name: K8sName) -> None:
        """The name is observed."""
        if self._names.setdefault(name.path, name) is name:
            self._ages.gauge(name.id.show(), lambda: (name.fresh.age() or 0.0) * 1000)

    def drop(self, name: K8sName) -> None:
        """The name is not observed any more."""
        if self._names.get(name.path) is name:
            del self._names[name.path]
            self._ages.prune(name.id.show())

    def _max_age_ms(self) -> float:
        return max((name.fresh.age() or 0.0 for name in self._names.values()), default=0.0) * 1000

    def bound_names(self) -> list[Path]:
        """Ids of the names in use that exist. Listing a whole cluster would need more rights than routing."""
        return [self._names[path].id for path in sorted(self._names) if self._names[path].fresh.is_good]

    def state(self) -> dict[str, object]:
        """The names in use and their watches."""
        client = self.client()
        return {
            "running": True,
            "server": client.name,
            "error": client.trouble,
            "prefix": self.prefix.show(),
            "state": {path.show(): self._names[path].state() for path in sorted(self._names)},
        }
