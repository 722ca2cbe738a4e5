"""``io.l5d.fs``: one file per service below a directory, one ``host port [* weight]`` per line."""

from __future__ import annotations

import os
from collections.abc import Iterator

from attrs import field, frozen

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
    NamerConfig,
    NamerDeps,
    Ok,
    Path,
    Pending,
    Read,
    State,
    Turn,
)
from hostmesh.registry.files import FileWatch
from hostmesh.registry.journal import Journal
from hostmesh.registry.shared import Shared
from namer.fs_service import IsDirectory, IsFile, IsMissing, Service

MAX_LISTED = 10_000
"""Names enumerated for the admin page."""


def is_name(segment: str) -> bool:
    """Whether a segment may be looked up: not a way out of the directory, not the inside of a ConfigMap
    volume (``..data``)."""
    return not segment.startswith("..") and segment != "." and "/" not in segment and "\0" not in segment


class Lookup(Computed[State[LookupTree]]):
    """The name tree of one path."""

    def __init__(self, namer: FsNamer, path: Path) -> None:
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
        for depth, segment in enumerate(self._path, 1):
            if not is_name(segment):
                break
            service = self._namer.service(self._path.take(depth))
            match read(service.kind):
                case IsDirectory():
                    continue
                case IsFile():
                    residual = self._path.drop(depth)
                    return Ok(Leaf(BoundName(service.id, service.addr, residual)))
                case IsMissing():
                    break
                case Pending() | Failed() as unknown:
                    return unknown
        return Ok(NEG)


class FsNamer:
    """Names are files below ``rootDir``, watched while in use."""

    def __init__(self, config: FsConfig, deps: NamerDeps) -> None:
        shared: Shared = deps.shared
        self.prefix = deps.prefix
        self.root_id = NAMER_ROOT + deps.prefix
        self.root_dir = os.path.abspath(config.root_dir)
        self.poll = config.poll
        self.hold_s = config.hold_ms / 1000
        self.env = deps.env
        self.turn: Turn = deps.turn
        self.shared = shared
        self.files: FileWatch = shared.files
        self.report = deps.report
        self.journal = Journal(deps.env)
        self.lookups: dict[Path, Lookup] = {}
        self._services: dict[Path, Service] = {}
        self._ages = deps.metrics.scope("age_ms")
        self.malformed = deps.metrics.counter("malformed")
        self.errors = deps.metrics.counter("errors")
        deps.metrics.gauge("names", lambda: len(self._services))
        deps.metrics.gauge("max_age_ms", self._max_age_ms)

    def lookup(self, path: Path) -> Activity[LookupTree]:
        """The first file on the way along ``path`` is the name, what follows it the residual."""
        return self.lookups.get(path) or Lookup(self, path)

    def service(self, names: Path) -> Service:
        return self._services.get(names) or Service(self, names)

    def keep(self, service: Service) -> None:
        """The service is observed."""
        if self._services.setdefault(service.names, service) is service:
            self._ages.gauge(service.id.show(), lambda: (service.age() or 0.0) * 1000)

    def drop(self, service: Service) -> None:
        """The service is not observed any more."""
        if self._services.get(service.names) is service:
            del self._services[service.names]
            self._ages.prune(service.id.show())

    def _max_age_ms(self) -> float:
        return max((service.age() or 0.0 for service in self._services.values()), default=0.0) * 1000

    def bound_names(self) -> list[Path]:
        """Ids of the top level of ``rootDir``, as Linkerd lists them. Reads the directory, so it is for
        people."""
        return [self.root_id + Path.of(name) for name in sorted(self._listing())]

    def _listing(self) -> Iterator[str]:
        try:
            with os.scandir(self.root_dir) as entries:
                for count, entry in enumerate(entries):
                    if count >= MAX_LISTED:
                        return
                    if is_name(entry.name):
                        yield entry.name
        except OSError as error:
            self.report("names.not_listed", {"path": self.root_dir, "cause": str(error)})

    def state(self) -> dict[str, object]:
        """The names in use, nested as their directories are."""
        top: dict[str, object] = {}
        for names in sorted(self._services):
            level = top
            for name in names[:-1]:
                inner = level.setdefault(name, {})
                assert isinstance(inner, dict)
                level = inner.setdefault("children", {})
            entry = level.setdefault(names[-1], {})
            assert isinstance(entry, dict)
            entry.update(self._services[names].state())
        return {"running": True, "rootDir": self.root_dir, "prefix": self.prefix.show(), "state": top}


@frozen(kw_only=True)
class FsConfig(NamerConfig):
    """Endpoints from files: one file per service, one ``host port [* weight]`` per line."""

    root_dir: str
    """The directory with the files; sub-directories are further path segments. A relative one is relative to
    the working directory. Names are Failed while it does not exist."""

    hold_ms: int = field(default=2000)
    """*hostmesh* Milliseconds for which a removed endpoint or file goes on being believed, so that a tool
    that rewrites or restores files causes no gap. 0 believes at once, as Linkerd does."""

    poll: bool = False
    """*hostmesh* Look at the files every second instead of waiting for the kernel's word: for network file
    systems, where another machine's changes have no event."""

    def check(self) -> list[str]:
        problems = super().check()
        if not self.root_dir:
            problems.append("rootDir: expected the path of a directory, found an empty one")
        if self.hold_ms < 0:
            problems.append(f"holdMs: expected at least 0, found {self.hold_ms}")
        return problems

    def mk(self, deps: NamerDeps) -> FsNamer:
        return FsNamer(self, deps)
