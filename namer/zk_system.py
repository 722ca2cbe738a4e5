"""``/$/com.twitter.serverset`` and ``/$/io.buoyant.namer.zk.leader``: ZooKeeper without a namer in the configuration.

The ensemble is in the path, ``/<servers>/<zk path>``, and so may come from the dtab of a request: ensembles in use at
the same time are bounded, and one is left when nobody uses its names any more.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address

from attrs import evolve, frozen

from hostmesh.plugin import Activity, Failed, LookupTree, NamerDeps, Path, State, endpoint_of
from hostmesh.registry.journal import Journal
from hostmesh.registry.shared import Shared
from hostmesh.registry.zk_place import DEFAULT_PORT, Place
from hostmesh.registry.zookeeper import forget
from namer.serversets import ServersetsFormat
from namer.zk import ZkNamer
from namer.zk_config import ZkAddr, ZkNamerConfig
from namer.zk_leader import LeaderFormat
from namer.zk_name import Format, Name

MAX_ENSEMBLES = 8
"""In use at the same time, of each of the two. A dtab that people write names one or two."""

MAX_SERVERS = 16
"""Of an ensemble; they have three to seven."""

_SEPARATOR = re.compile(r"::|,")
_SERVER = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}))(?::([0-9]{1,5}))?", re.ASCII)


def servers_in(segment: str) -> tuple[ZkAddr, ...]:
    """The servers of ``host:port,host:port`` or ``host:port::host:port``; the port is 2181 unless given.

    ValueError says what was expected.
    """
    parts = _SEPARATOR.split(segment)
    if len(parts) > MAX_SERVERS:
        raise ValueError(f"expected at most {MAX_SERVERS} servers, found {len(parts)}")
    servers = []
    for part in parts:
        match = _SERVER.fullmatch(part)
        port = DEFAULT_PORT if match is None or match[2] is None else int(match[2])
        if match is None or not 0 < port < 65536 or not _may_be_asked(match[1], port):
            raise ValueError(f"expected the host:port of a ZooKeeper server, found {part!r}")
        servers.append(ZkAddr(host=match[1], port=port))
    return tuple(servers)


def _may_be_asked(host: str, port: int) -> bool:
    """Whether a numeric address is one that services have; of names it is seen when they are looked up."""
    try:
        ip_address(host)
    except ValueError:
        return True
    return endpoint_of(host, port) is not None


@frozen(kw_only=True)
class PathZkConfig(ZkNamerConfig):
    """An ensemble that a path names, which may be a request's: see :class:`Place`."""

    @property
    def place(self) -> Place:
        return evolve(super().place, named_by_path=True)


class PathNamer(ZkNamer):
    """The names of one ensemble. It keeps the session while one of them is in use."""

    def __init__(self, servers: tuple[ZkAddr, ...], deps: NamerDeps, form: Format, root: Path) -> None:
        super().__init__(PathZkConfig(zk_addrs=servers), deps, form)
        self.root_id = root
        self._stop: Callable[[], None] | None = None

    def keep(self, name: Name) -> None:
        if self._stop is None:
            self._stop = self.shared.tasks.start(self.run)
        super().keep(name)

    def drop(self, name: Name) -> None:
        super().drop(name)
        if not self.bound_names() and self._stop is not None:
            self._stop()
            self._stop = None

    @property
    def is_idle(self) -> bool:
        """Nobody uses its names."""
        return self._stop is None


class PathNamers:
    """All that is below one of the two names."""

    def __init__(self, deps: NamerDeps, form: Callable[[], Format]) -> None:
        self.prefix = deps.prefix
        self.journal = Journal(deps.env)
        self._deps = deps
        self._shared: Shared = deps.shared
        self._form = form
        self._namers: dict[str, PathNamer] = {}

    def lookup(self, path: Path) -> State[LookupTree] | Activity[LookupTree]:
        """``/<servers>/<zk path>``: as the configured namers, with the servers in the bound id."""
        if len(path) < 2:
            return Failed(f"{(self.prefix + path).show()}: expected {self.prefix.show()}/<servers>/<zk path>")
        namer = self._namers.get(path[0])
        if namer is None:
            try:
                namer = self._make(path[0])
            except ValueError as error:
                return Failed(f"{(self.prefix + path).show()}: {error}")
        return namer.lookup(path.drop(1))

    def _make(self, servers: str) -> PathNamer:
        addrs = servers_in(servers)
        for idle in [key for key, namer in self._namers.items() if namer.is_idle]:
            self._forget(idle)
        if len(self._namers) >= MAX_ENSEMBLES:
            raise ValueError(f"more than {MAX_ENSEMBLES} ensembles are in use")
        deps = NamerDeps(
            env=self._deps.env,
            turn=self._deps.turn,
            prefix=self.prefix + Path.of(servers),
            metrics=self._deps.metrics.scope(servers),
            resolver=self._deps.resolver,
            report=self._deps.report,
            shared=self._shared,
        )
        namer = PathNamer(addrs, deps, self._form(), deps.prefix)
        namer.journal = self.journal
        self._namers[servers] = namer
        return namer

    def _forget(self, servers: str) -> None:
        namer = self._namers.pop(servers)
        self._deps.metrics.prune(servers)
        forget(self._shared, namer.ensemble)

    def bound_names(self) -> list[Path]:
        """Ids in use."""
        return sorted(id for namer in self._namers.values() for id in namer.bound_names())

    def state(self) -> dict[str, object]:
        """For the admin page, by ensemble."""
        return {
            "running": True,
            "prefix": self.prefix.show(),
            "state": {servers: self._namers[servers].state() for servers in sorted(self._namers)},
        }


class ServersetNamers(PathNamers):
    """``/$/com.twitter.serverset/<servers>/<zk path>[:<endpoint>]``."""

    def __init__(self, deps: NamerDeps) -> None:
        super().__init__(deps, ServersetsFormat)


class LeaderNamers(PathNamers):
    """``/$/io.buoyant.namer.zk.leader/<servers>/<zk path>``."""

    def __init__(self, deps: NamerDeps) -> None:
        super().__init__(deps, LeaderFormat)
