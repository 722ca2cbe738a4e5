"""What an interpreter is: the only door through which names reach the data path.

It binds a path under a dtab. The local one lives in ``control``; a remote one will speak to a control plane.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from attrs import field, frozen

from hostmesh.base.env import Env
from hostmesh.base.plugin import PluginConfig
from hostmesh.base.var import Activity, Turn, Var
from hostmesh.naming.bind import Mount
from hostmesh.naming.bound import BoundTree
from hostmesh.naming.delegate import DelegateTree
from hostmesh.naming.dtab import Dtab
from hostmesh.naming.path import Path
from hostmesh.naming.transformer import System, TransformerConfig, TransformerDeps


class Interpreter(Protocol):
    """Binds names.

    Optional, found by ``getattr``: ``async run(self)``, a task; ``state() -> object``, JSON values for admin.
    """

    def bind(self, local: Dtab, path: Path) -> Activity[BoundTree]:
        """What ``path`` is bound to under the base dtab followed by ``local``; live while observed.

        Once it was Ok it stays Ok: trouble later keeps the last good tree, and a new good tree replaces it.
        """
        ...

    def delegate(self, dtab: Dtab, path: Path) -> DelegateTree:
        """How ``path`` is resolved under ``dtab`` alone, with what is known at this moment."""
        ...

    def delegation(self, dtab: Dtab, path: Path) -> Var[DelegateTree]:
        """The same, live while observed: wait until its ``pending`` is False, or no longer."""
        ...

    def set_base(self, dtab: Dtab) -> None:
        """Replace the configured dtab; every observed binding follows."""
        ...


class Files(Protocol):
    """Watched files."""

    def text(self, path: str) -> Activity[str]:
        """The text of a file, followed while observed; once Ok it keeps the last good text."""
        ...


@frozen(kw_only=True)
class InterpreterDeps:
    """What ``InterpreterConfig.mk`` may build on."""

    env: Env
    turn: Turn
    dtab: Dtab
    """The router's configured dtab."""
    namers: Sequence[Mount]
    """The configured namers in the order of the file, each with its transformers."""
    system: System
    transformer_deps: TransformerDeps
    files: Files
    report: Callable[[str, Mapping[str, Any]], None]
    """As for namers: one line in the log."""


@frozen(kw_only=True)
class InterpreterConfig(PluginConfig):
    """The base of every interpreter's config class."""

    transformers: list[TransformerConfig] = field(factory=list)
    """Applied in order to everything the interpreter binds."""

    def mk(self, deps: InterpreterDeps) -> Interpreter:
        """The interpreter. No I/O, no task."""
        raise NotImplementedError(f"{self.kind}: {self.unavailable or 'has no mk()'}")
