"""What a namer is, and what it is given.

A namer looks names up under a prefix of ``/#/``: path to name tree, changing over time. Most are plugins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

from attrs import field, frozen

from hostmesh.base.env import Env
from hostmesh.base.plugin import PluginConfig
from hostmesh.base.var import Activity, Turn, Var
from hostmesh.naming.addr import Addr
from hostmesh.naming.bound import BoundName
from hostmesh.naming.nametree import NameTree
from hostmesh.naming.path import Path
from hostmesh.naming.transformer import TransformerConfig

NAMER_ROOT = Path.of("#")
"""Configured namers live below it."""

LookupTree: TypeAlias = NameTree[Path | BoundName]
"""What a namer answers: bound names, and paths that are resolved through the dtab again."""


class Namer(Protocol):
    """A source of names.

    Optional, found by ``getattr``: ``async run(self)`` is the namer's task, alive as long as the router uses
    it and ended by cancellation; ``state() -> object`` is what the admin page shows, as JSON values;
    ``bound_names() -> list[Path]`` are the ids it can enumerate.
    """

    @property
    def prefix(self) -> Path:
        """Without the ``/#``: the namer answers for ``/#`` + prefix, and its bound ids start with that."""
        ...

    def lookup(self, path: Path) -> Activity[LookupTree]:
        """The names at ``path``, which is what follows the prefix; never raises, never blocks.

        While the result is observed the same path gives the same Var, and the same bound id the same address
        Var; the watch starts when it is first observed and ends when nobody does any more. "No such name" is
        Ok(NEG); a registry that cannot be read is Pending or Failed, never NEG.
        """
        ...


class Resolver(Protocol):
    """Turns host names into addresses, and keeps doing so."""

    def resolve(self, host: str, port: int) -> Var[Addr]:
        """The addresses of ``host``, re-resolved while observed; an IP address is there at once.

        An unknown host is AddrNeg, any other failure AddrFailed.
        """
        ...


class Counter(Protocol):
    """A number that only grows: ``counter.value += 1``."""

    value: int


class Metrics(Protocol):
    """The part of the metrics tree that a namer writes to."""

    def scope(self, *names: str) -> Metrics: ...

    def counter(self, name: str) -> Counter: ...

    def gauge(self, name: str, fn: Callable[[], float]) -> object: ...

    def prune(self, name: str) -> None: ...


@frozen(kw_only=True)
class NamerDeps:
    """What ``NamerConfig.mk`` may build on."""

    env: Env
    turn: Turn
    """The ready list of the thread that will observe the namer's Vars."""
    prefix: Path
    """The prefix in force: the configured one, or the kind's default."""
    metrics: Metrics
    resolver: Resolver
    report: Callable[[str, Mapping[str, Any]], None]
    """Tell people: ``report("watch lost", {"path": "/x", "cause": "..."})`` becomes one line in the log."""
    shared: Any = None
    """The daemon's :class:`hostmesh.registry.shared.Shared`: alarms, file watch, resolver. Any, because this
    layer is below that one."""


@frozen(kw_only=True)
class NamerConfig(PluginConfig):
    """The base of every namer's config class."""

    prefix: Path | None = None
    """Where the namer lives below ``/#``. Default: the kind, as in ``/io.l5d.fs``."""

    transformers: list[TransformerConfig] = field(factory=list)
    """Applied in order to this namer's answers whose every leaf is bound; others pass untransformed."""

    @property
    def prefix_in_force(self) -> Path:
        """The configured prefix, or the kind's own."""
        return Path.of(self.kind) if self.prefix is None else self.prefix

    def mk(self, deps: NamerDeps) -> Namer:
        """The namer. No I/O, no task: those belong to ``run`` and to the observed Vars."""
        raise NotImplementedError(f"{self.kind}: {self.unavailable or 'has no mk()'}")
