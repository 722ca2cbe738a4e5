"""Transformers: const, replace, port, localhost, specificHost.

Each puts ``/%/<its id>`` in front of the bound ids it changes, so that what is a client of its own has a name
of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import TypeAlias

from attrs import evolve, field, frozen

from hostmesh.base.var import Computed, Ok, Read, State, Turn, Var
from hostmesh.naming.addr import ADDR_NEG, Addr, AddrBound, Endpoint
from hostmesh.naming.bind import bind, split_of
from hostmesh.naming.bound import BoundLeaf, BoundName, BoundTree, BoundUnion
from hostmesh.naming.dtab import Dtab
from hostmesh.naming.path import Path
from hostmesh.naming.transformer import System, Transformer, TransformerConfig, TransformerDeps

__all__ = [
    "ConstConfig",
    "EachAddr",
    "Fixed",
    "LocalhostConfig",
    "PortConfig",
    "ReplaceConfig",
    "SpecificHostConfig",
    "Transformer",
    "TransformerDeps",
]

AddrChange: TypeAlias = Callable[[Addr, Read], Addr]


class ChangedAddr(Computed[Addr]):
    """One address, rewritten; while observed it is the one for its source."""

    __slots__ = ("_shared", "source")

    def __init__(
        self, turn: Turn, source: Var[Addr], change: AddrChange, shared: dict[int, ChangedAddr]
    ) -> None:
        super().__init__(turn, change(source.value, Read()), lambda read: change(read(source), read))
        self.source = source
        self._shared = shared

    def _activate(self) -> None:
        # The id stays taken for as long as this holds the source.
        self._shared.setdefault(id(self.source), self)
        super()._activate()

    def _deactivate(self) -> None:
        super()._deactivate()
        if self._shared.get(id(self.source)) is self:
            del self._shared[id(self.source)]


@frozen
class EachAddr:
    """Rewrites the address of every bound name; the names stay what they are."""

    prefix: Path
    turn: Turn
    change: AddrChange
    _shared: dict[int, ChangedAddr] = field(factory=dict, init=False, eq=False, repr=False)

    def transform(self, tree: BoundTree, read: Read) -> State[BoundTree]:
        """The same tree with ids below the prefix."""
        return Ok(self._changed(tree))

    def _changed(self, tree: BoundTree) -> BoundTree:
        if isinstance(tree, BoundLeaf):
            return BoundLeaf(self._name(tree.name))
        if isinstance(tree, BoundUnion):
            return BoundUnion(tuple(evolve(each, tree=self._changed(each.tree)) for each in tree.branches))
        return tree

    def _name(self, name: BoundName) -> BoundName:
        if name.status_code is not None:
            return evolve(name, id=self.prefix + name.id)
        addr = self._shared.get(id(name.addr))
        if addr is None:
            addr = ChangedAddr(self.turn, name.addr, self.change, self._shared)
        return evolve(name, id=self.prefix + name.id, addr=addr)


@frozen
class Fixed:
    """Binds to a path of its own, with the built-in namers only."""

    prefix: Path
    path: Path
    system: System
    whole: bool
    """True: instead of the whole tree, even of Neg. False: instead of each bound name."""

    def transform(self, tree: BoundTree, read: Read) -> State[BoundTree]:
        """The path's own tree, with ids below the prefix, in place of the tree or of its leaves."""
        state = self._own(read)
        return state if self.whole else self._replaced(tree, state)

    def _replaced(self, tree: BoundTree, state: State[BoundTree]) -> State[BoundTree]:
        if isinstance(tree, BoundLeaf):
            return state
        if isinstance(tree, BoundUnion):
            branches = tree.branches
            return split_of(
                [each.weight for each in branches], [self._replaced(each.tree, state) for each in branches]
            )
        return Ok(tree)

    def _own(self, read: Read) -> State[BoundTree]:
        state = bind(self.path, Dtab.EMPTY, (), self.system, read)
        return Ok(_below(self.prefix, state.value)) if isinstance(state, Ok) else state


def _below(prefix: Path, tree: BoundTree) -> BoundTree:
    # The built-in namers alone bind to a name or to an end, never to a union.
    if isinstance(tree, BoundLeaf):
        return BoundLeaf(evolve(tree.name, id=prefix + tree.name.id))
    return tree


def _kept(addr: Addr, keep: Callable[[Endpoint], bool]) -> Addr:
    """The endpoints to keep. None left is Neg: the name has no replica set here, which is no reason to fall
    back.
    """
    if not isinstance(addr, AddrBound):
        return addr
    kept = [each for each in addr.endpoints if keep(each)]
    return AddrBound(kept) if kept else ADDR_NEG


@frozen(kw_only=True)
class ConstConfig(TransformerConfig):
    """Binds everything to one path, even what has no name."""

    path: Path
    """The path, bound with the built-in namers only, e.g. ``/$/inet/127.0.0.1/8080``."""

    def mk(self, deps: TransformerDeps) -> Fixed:
        """The transformer."""
        return Fixed(self.prefix_or("io.l5d.const"), self.path, deps.system, whole=True)


@frozen(kw_only=True)
class ReplaceConfig(TransformerConfig):
    """Binds every bound name to one path; what has no name stays without."""

    path: Path
    """The path, bound with the built-in namers only, e.g. ``/$/inet/127.0.0.1/8080``."""

    def mk(self, deps: TransformerDeps) -> Fixed:
        """The transformer."""
        return Fixed(self.prefix_or("io.l5d.replace"), self.path, deps.system, whole=False)


@frozen(kw_only=True)
class PortConfig(TransformerConfig):
    """Replaces the port of every endpoint: from a service to the router on its host."""

    port: int
    """The port, 1 to 65535."""

    def check(self) -> list[str]:
        """A port that cannot be."""
        if 1 <= self.port <= 65535:
            return []
        return [f"port: {self.port} is no port, expected 1 to 65535"]

    def mk(self, deps: TransformerDeps) -> EachAddr:
        """The transformer."""

        def with_port(addr: Addr, _read: Read) -> Addr:
            if not isinstance(addr, AddrBound):
                return addr
            return AddrBound(each._replace(port=self.port) for each in addr.endpoints)

        return EachAddr(self.prefix_or("io.l5d.port", str(self.port)), deps.turn, with_port)


@frozen(kw_only=True)
class LocalhostConfig(TransformerConfig):
    """Keeps the endpoints on this host: for a router that takes the traffic of others in."""

    def mk(self, deps: TransformerDeps) -> EachAddr:
        """The transformer. Interfaces are looked at whenever the replica set changes."""

        def local(addr: Addr, _read: Read) -> Addr:
            ips = deps.local_ips()
            return _kept(addr, lambda each: each.host in ips)

        return EachAddr(self.prefix_or("io.l5d.localhost"), deps.turn, local)


@frozen(kw_only=True)
class SpecificHostConfig(TransformerConfig):
    """Keeps the endpoints on one host."""

    host: str
    """An IP address, or a name that is resolved and followed."""

    def mk(self, deps: TransformerDeps) -> EachAddr:
        """The transformer."""
        host = deps.resolver.resolve(self.host, _ANY_PORT) if _literal(self.host) is None else None
        literal = _literal(self.host)

        def on_host(addr: Addr, read: Read) -> Addr:
            if host is None:
                return _kept(addr, lambda each: each.host == literal)
            where = read(host)
            if not isinstance(addr, AddrBound) or not isinstance(where, AddrBound):
                # Where the host is matters only once there is something to keep.
                return where if isinstance(addr, AddrBound) else addr
            ips = {each.host for each in where.endpoints}
            return _kept(addr, lambda each: each.host in ips)

        return EachAddr(self.prefix_or("io.l5d.specificHost"), deps.turn, on_host)


_ANY_PORT = 1
"""The resolver wants a port; the filter looks at addresses only."""


def _literal(host: str) -> str | None:
    try:
        return str(ip_address(host))
    except ValueError:
        return None
