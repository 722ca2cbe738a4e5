"""A namer and a resolver that say what they are told, for tests that need names without a registry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hostmesh.base.var import PENDING, Activity, Ok, State, Turn, Var
from hostmesh.naming import nametree
from hostmesh.naming.addr import ADDR_PENDING, Addr, AddrBound, Endpoint
from hostmesh.naming.bound import BoundLeaf, BoundName, BoundTree, BoundUnion
from hostmesh.naming.namer import NAMER_ROOT, LookupTree
from hostmesh.naming.nametree import NEG, Leaf
from hostmesh.naming.path import Path


def endpoints(*texts: str) -> AddrBound:
    """``endpoints("10.0.0.1:80")``."""
    pairs = (text.rsplit(":", 1) for text in texts)
    return AddrBound(Endpoint(host, int(port)) for host, port in pairs)


class LiteralNamer:
    """Names that a test adds, changes and removes. The first segment of a path is the name, the rest is
    residual.
    """

    def __init__(self, turn: Turn, prefix: str = "/fs") -> None:
        self.turn = turn
        self.prefix = Path.read(prefix)
        self.addrs: dict[str, Var[Addr]] = {}
        self.vars: dict[Path, Var[State[LookupTree]]] = {}
        self.asked: list[Path] = []
        self.otherwise: State[LookupTree] = Ok(NEG)
        self.transformed = False

    def add(self, name: str, *texts: str) -> BoundName:
        """The name exists, with these endpoints; returns it as the namer will."""
        self.addrs[name] = Var(self.turn, endpoints(*texts) if texts else ADDR_PENDING)
        for path, var in self.vars.items():
            if path.take(1) == (name,):
                var.set(self._bound(path))
        return BoundName(NAMER_ROOT + self.prefix + (name,), self.addrs[name])

    def set(self, path: str, state: State[LookupTree]) -> None:
        """The look-up of exactly this path is in this state."""
        self.vars.setdefault(Path.read(path), Var(self.turn, PENDING)).set(state)

    def lookup(self, path: Path) -> Activity[LookupTree]:
        self.asked.append(path)
        if path not in self.vars:
            self.vars[path] = Var(self.turn, self._bound(path))
        return self.vars[path]

    def _bound(self, path: Path) -> State[LookupTree]:
        if not path or path[0] not in self.addrs:
            return self.otherwise
        return Ok(Leaf(BoundName(NAMER_ROOT + self.prefix + path[:1], self.addrs[path[0]], path.drop(1))))


class LiteralResolver:
    """Host names to addresses; an IP address is itself. ``hosts[name].set(...)`` changes one."""

    def __init__(self, turn: Turn, hosts: Mapping[str, Iterable[str]] | None = None) -> None:
        self.turn = turn
        self.hosts = {name: tuple(ips) for name, ips in (hosts or {}).items()}
        self.vars: dict[tuple[str, int], Var[Addr]] = {}

    def resolve(self, host: str, port: int) -> Var[Addr]:
        if (host, port) not in self.vars:
            ips = self.hosts.get(host, (host,))
            bound = AddrBound(Endpoint(ip, port) for ip in ips)
            self.vars[host, port] = Var(self.turn, bound if ips else ADDR_PENDING)
        return self.vars[host, port]


def tree_text(state: State[BoundTree]) -> str:
    """A bound tree in the words of dtabs, with ``id + residual`` for a name: what most assertions compare."""
    if not isinstance(state, Ok):
        return repr(state)
    return _text(state.value)


def _text(tree: BoundTree) -> str:
    if isinstance(tree, BoundLeaf):
        name = tree.name
        return name.id.show() + (f" + {name.residual.show()}" if name.residual else "")
    if isinstance(tree, BoundUnion):
        return " & ".join(f"{each.weight:g} * ({_text(each.tree)})" for each in tree.branches)
    return nametree.show(tree)
