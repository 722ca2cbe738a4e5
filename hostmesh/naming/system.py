"""The built-in namers, ``/$/…``: names that need no registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from hostmesh.base.var import Activity, Closer, Failed, Ok, State, Turn, Var
from hostmesh.naming.addr import ADDR_PENDING, Addr, AddrBound
from hostmesh.naming.bound import BoundName
from hostmesh.naming.namer import LookupTree, Resolver
from hostmesh.naming.nametree import EMPTY, FAIL, NEG, Leaf
from hostmesh.naming.path import Path
from hostmesh.naming.pathrules import PATH_RULES

__all__ = ["FIXED_KEPT", "ResolvedOnce", "Resolver", "SystemNamer", "SystemNamers"]

FIXED_KEPT: Final = 1000
"""Addresses of ``/$/fixedinet`` that are remembered. The path may come from a request, so there is a bound; a
dtab names a handful.
"""

_OK_NEG: Final[State[LookupTree]] = Ok(NEG)
_OK_EMPTY: Final[State[LookupTree]] = Ok(EMPTY)
_OK_FAIL: Final[State[LookupTree]] = Ok(FAIL)


class SystemNamer(Protocol):
    """A built-in namer that asks a registry: one of the names below ``/$/``.

    Those of plugins are entry points of the group ``hostmesh.system``; the name is what follows ``/$/``. They are
    called with :class:`~hostmesh.naming.namer.NamerDeps`, whose prefix is ``/$/<name>``.
    """

    def lookup(self, path: Path) -> State[LookupTree] | Activity[LookupTree]:
        """The names at ``path``, which is what follows ``/$/<name>``, with ids that begin with it; as
        :meth:`hostmesh.naming.namer.Namer.lookup`, or a state that does not change."""
        ...


def _none(_name: str) -> SystemNamer | None:
    return None


class ResolvedOnce(Var[Addr]):
    """An address that follows its source until that is bound for the first time, and then never changes."""

    __slots__ = ("_close", "_source")

    def __init__(self, turn: Turn, source: Var[Addr]) -> None:
        super().__init__(turn, ADDR_PENDING, on_active=self._start, on_idle=self._stop)
        self._source = source
        self._close: Closer | None = None

    def _start(self) -> None:
        if not isinstance(self.value, AddrBound):
            self._close = self._source.observe(self._take)
            self._take(self._source.value)

    def _take(self, addr: Addr) -> None:
        self.set(addr)
        if isinstance(addr, AddrBound):
            self._stop()

    def _stop(self) -> None:
        if self._close is not None:
            self._close()
            self._close = None


class SystemNamers:
    """Looks up paths that start with ``/$``."""

    def __init__(
        self, turn: Turn, resolver: Resolver, provide: Callable[[str], SystemNamer | None] = _none
    ) -> None:
        """``provide(name)`` makes what is below ``/$/<name>`` and not built in, None if nobody knows it; asked once
        for each that there is."""
        self._provide = provide
        self.provided: dict[str, SystemNamer] = {}
        """Those that have been asked for."""
        self._turn = turn
        self._resolver = resolver
        self._fixed: dict[tuple[str, int], ResolvedOnce] = {}
        self._nowhere: Var[Addr] = Var(turn, AddrBound(()))

    def lookup(self, path: Path) -> State[LookupTree] | Activity[LookupTree]:
        """The names at ``path``. Neg if the arguments do not fit, Failed for a namer that does not exist."""
        name = path[1] if len(path) > 1 else ""
        rule = PATH_RULES.get(name)
        if rule is not None:
            rewritten = rule(path.drop(2))
            return _OK_NEG if rewritten is None else Ok(Leaf(rewritten))
        match name:
            case "inet" | "fixedinet":
                return self._inet(path, fixed=name == "fixedinet")
            case "nil":
                return _OK_EMPTY
            case "fail":
                return _OK_FAIL
            case "io.buoyant.rinet":
                return self._rinet(path)
            case "io.buoyant.http.status":
                return self._status(path)
        provided = self.provided.get(name) or self._provide(name)
        if provided is not None:
            self.provided[name] = provided
            return provided.lookup(path.drop(2))
        return Failed(f"Unknown namer: {name or '/$'} for path {path.show()}")

    def _inet(self, path: Path, *, fixed: bool) -> State[LookupTree]:
        # A port alone comes first: what follows it is residual and may look like a port, too.
        if len(path) > 2 and (port := _port(path[2])) is not None:
            return self._at(path, 3, "localhost", port, fixed=fixed)
        if len(path) > 3 and (port := _port(path[3])) is not None:
            return self._at(path, 4, path[2], port, fixed=fixed)
        kind = path[1]
        return Failed(
            f"{path.show()}: expected /$/{kind}/<host>/<port> or /$/{kind}/<port>, a port is 1 to 65535"
        )

    def _rinet(self, path: Path) -> State[LookupTree]:
        port = _port(path[2]) if len(path) > 3 else None
        return _OK_NEG if port is None else self._at(path, 4, path[3], port, fixed=False)

    def _at(self, path: Path, consumed: int, host: str, port: int, *, fixed: bool) -> State[LookupTree]:
        addr = self._fixed_addr(host, port) if fixed else self._resolver.resolve(host, port)
        return Ok(Leaf(BoundName(path.take(consumed), addr, path.drop(consumed))))

    def _fixed_addr(self, host: str, port: int) -> Var[Addr]:
        key = (host, port)
        addr = self._fixed.pop(key, None)
        if addr is None:
            addr = ResolvedOnce(self._turn, self._resolver.resolve(host, port))
            if len(self._fixed) >= FIXED_KEPT:
                del self._fixed[next(iter(self._fixed))]
        self._fixed[key] = addr
        return addr

    def _status(self, path: Path) -> State[LookupTree]:
        code = path[2] if len(path) > 2 else ""
        if not (len(code) == 3 and code.isascii() and code.isdigit() and 100 <= int(code) <= 599):
            return _OK_NEG
        return Ok(Leaf(BoundName(path.take(3), self._nowhere, path.drop(3), status_code=int(code))))


def _port(segment: str) -> int | None:
    if not (segment.isascii() and segment.isdigit() and len(segment) <= 5):
        return None
    port = int(segment)
    return port if 1 <= port <= 65535 else None
