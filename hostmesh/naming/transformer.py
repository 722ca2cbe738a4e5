"""What a transformer is: it rewrites what names are bound to, for a whole interpreter or for one namer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from attrs import frozen

from hostmesh.base.plugin import PluginConfig
from hostmesh.base.var import Activity, Read, State, Turn
from hostmesh.naming.bound import BoundTree
from hostmesh.naming.path import Path

if TYPE_CHECKING:
    from hostmesh.base.env import Env
    from hostmesh.naming.namer import LookupTree, Resolver

TRANSFORMER_ROOT: Final = Path.of("%")
"""Transformers put their ids below it, in front of the bound ids they change."""


class System(Protocol):
    """The built-in namers under ``/$/``."""

    def lookup(self, path: Path) -> State[LookupTree] | Activity[LookupTree]:
        """The names at ``path``, which starts with ``/$``; Failed for a namer that does not exist. What may change
        is to be read."""
        ...


class Transformer(Protocol):
    """Rewrites bound trees."""

    @property
    def prefix(self) -> Path:
        """What is put in front of a bound id, with the ``/%``. The last transformer of a list is outermost."""
        ...

    def transform(self, tree: BoundTree, read: Read) -> State[BoundTree]:
        """The tree with its bound names rewritten; pure but for what it reads."""
        ...


@frozen(kw_only=True)
class TransformerDeps:
    """What ``TransformerConfig.mk`` may build on."""

    turn: Turn
    system: System
    """For const and replace, whose paths are bound with the built-in namers only."""
    resolver: Resolver
    local_ips: Callable[[], frozenset[str]]
    """The addresses of all interfaces that are up, in canonical form, loopback included."""
    env: Env | None = None
    report: Callable[[str, Mapping[str, Any]], None] = lambda _event, _facts: None
    shared: Any = None
    """The daemon's :class:`hostmesh.registry.shared.Shared`, for those that ask a registry. Any, because this layer is
    below that one."""


@frozen(kw_only=True)
class TransformerConfig(PluginConfig):
    """The base of every transformer's config class."""

    prefix: Path | None = None
    """What is put in front of the bound ids, after ``/%``. Default: the kind, as in ``/io.l5d.port/4141``."""

    def prefix_or(self, *default: str) -> Path:
        """The id prefix in force, with its ``/%``; ``default`` are the segments of the kind's own."""
        return TRANSFORMER_ROOT + (Path.of(*default) if self.prefix is None else self.prefix)

    def mk(self, deps: TransformerDeps) -> Transformer:
        """The transformer. No I/O."""
        raise NotImplementedError(f"{self.kind}: {self.unavailable or 'has no mk()'}")
