"""The interpreter that binds in this process, with the dtab of the configuration or of a watched file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import trio
from attrs import frozen

from hostmesh.base.var import PENDING, Activity, Computed, Failed, Ok, Pending, Read, State, Turn, Var
from hostmesh.naming.bind import Mount, bind, transformed
from hostmesh.naming.bound import BoundTree
from hostmesh.naming.delegate import PENDING_TEXT, DelegateTree, delegate
from hostmesh.naming.dtab import Dtab, DtabError
from hostmesh.naming.interpreter import Interpreter, InterpreterConfig, InterpreterDeps
from hostmesh.naming.path import Path
from hostmesh.naming.transformer import System, Transformer

__all__ = [
    "BoundPath",
    "DefaultInterpreterConfig",
    "FsInterpreter",
    "FsInterpreterConfig",
    "Interpreter",
    "LocalInterpreter",
]

MAX_SHARED: Final = 10_000
"""Observed bindings that are shared between those who ask for the same. Far above the binding caches of a
router; beyond it a binding works as well, but is the asker's own.
"""

MAX_COMBINED: Final = 256
"""Dtabs of requests whose concatenation with the base is kept. They come from headers, hence a bound."""


class BoundPath(Computed[State[BoundTree]]):
    """The binding of one path under one local dtab.

    Once it was Ok it stays Ok: a later Pending or Failed is kept in ``trouble`` only. That lasts while it is
    observed; afterwards it knows nothing.
    """

    __slots__ = ("_release", "_retain", "key", "trouble")

    def __init__(
        self,
        turn: Turn,
        key: tuple[Dtab, Path],
        compute: Callable[[Read], State[BoundTree]],
        retain: Callable[[BoundPath], None],
        release: Callable[[BoundPath], None],
    ) -> None:
        super().__init__(turn, PENDING, compute)
        self.key = key
        self.trouble: Pending | Failed | None = None
        self._retain = retain
        self._release = release

    def set(self, value: State[BoundTree]) -> None:
        """Take a newly evaluated state."""
        if isinstance(value, Ok):
            self.trouble = None
        else:
            self.trouble = value
            if isinstance(self._value, Ok):
                return
        super().set(value)

    def _activate(self) -> None:
        self._retain(self)
        super()._activate()

    def _deactivate(self) -> None:
        super()._deactivate()
        self._release(self)
        # Its bound names hold addresses that may no longer be followed: whoever comes back starts anew.
        self._value = PENDING
        self.trouble = None


class LocalInterpreter:
    """Binds with namers of this process.

    The dtab in force is ``fetched`` (if any), then the configured base, then the request's own; later
    dentries win.
    """

    def __init__(
        self,
        base_dtab: Var[State[Dtab]],
        namers: Sequence[Mount],
        system: System,
        transformers: Sequence[Transformer],
        turn: Turn,
        fetched: Activity[Dtab] | None = None,
    ) -> None:
        self._base = base_dtab
        self._fetched = fetched
        # Concatenated once per change and not once per path.
        self._in_force: Var[State[Dtab]] = (
            base_dtab if fetched is None else Computed(turn, PENDING, self._concatenated)
        )
        self._mounts = tuple(namers)
        self._system = system
        self._transformers = tuple(transformers)
        self._turn = turn
        self._bound: dict[tuple[Dtab, Path], BoundPath] = {}
        self._combined: dict[Dtab, Dtab] = {}
        self._combined_with: Dtab | None = None

    def bind(self, local: Dtab, path: Path) -> Activity[BoundTree]:
        """The binding of ``path``; the same object for as long as it is observed."""
        key = (local, path)
        shared = self._bound.get(key)
        if shared is not None:
            return shared
        return BoundPath(
            self._turn, key, lambda read: self._evaluate(local, path, read), self._retain, self._release
        )

    def delegate(self, dtab: Dtab, path: Path) -> DelegateTree:
        """Every step from ``path`` under ``dtab``, after the fetched one, with what is known at this moment."""
        live = self.delegation(dtab, path)
        live.observe(lambda _tree: None)()
        return live.value

    def delegation(self, dtab: Dtab, path: Path) -> Var[DelegateTree]:
        """The same, live while observed."""
        nothing = DelegateTree(type="exception", path=path, state=PENDING, message=PENDING_TEXT)
        return Computed(self._turn, nothing, lambda read: self._explore(dtab, path, read))

    def set_base(self, dtab: Dtab) -> None:
        """Replace the configured dtab; every observed binding follows in a later turn."""
        self._base.set(Ok(dtab))

    @property
    def base(self) -> State[Dtab]:
        """The dtab that requests without their own are bound under, as far as it is known now."""
        return self._concatenated(lambda var: var.value)

    def state(self) -> object:
        """What the admin page shows: the dtab in force, how much is bound, and the bindings that are in
        trouble.
        """
        base = self.base
        troubled = [each for each in self._bound.values() if each.trouble is not None]
        return {
            "dtab": base.value.show() if isinstance(base, Ok) else None,
            "error": base.cause if isinstance(base, Failed) else None,
            "bound": len(self._bound),
            "troubled": [
                {
                    "path": each.key[1].show(),
                    "dtab": each.key[0].show(),
                    "cause": each.trouble.cause if isinstance(each.trouble, Failed) else PENDING_TEXT,
                    "serving": isinstance(each.value, Ok),
                }
                for each in troubled
            ],
        }

    def _retain(self, bound: BoundPath) -> None:
        if len(self._bound) < MAX_SHARED:
            self._bound.setdefault(bound.key, bound)

    def _release(self, bound: BoundPath) -> None:
        if self._bound.get(bound.key) is bound:
            del self._bound[bound.key]

    def _concatenated(self, read: Callable[[Var[State[Dtab]]], State[Dtab]]) -> State[Dtab]:
        base = read(self._base)
        if self._fetched is None or not isinstance(base, Ok):
            return base
        fetched = read(self._fetched)
        return Ok(fetched.value + base.value) if isinstance(fetched, Ok) else fetched

    def _evaluate(self, local: Dtab, path: Path, read: Read) -> State[BoundTree]:
        base = read(self._in_force)
        if not isinstance(base, Ok):
            return base
        dtab = self._with_local(base.value, local)
        return transformed(bind(path, dtab, self._mounts, self._system, read), self._transformers, read)

    def _with_local(self, base: Dtab, local: Dtab) -> Dtab:
        if not local.dentries:
            return base
        if self._combined_with != base:
            self._combined_with = base
            self._combined.clear()
        dtab = self._combined.get(local)
        if dtab is None:
            if len(self._combined) >= MAX_COMBINED:
                self._combined.clear()
            dtab = self._combined[local] = base + local
        return dtab

    def _explore(self, dtab: Dtab, path: Path, read: Read) -> DelegateTree:
        if self._fetched is not None:
            fetched = read(self._fetched)
            if not isinstance(fetched, Ok):
                cause = fetched.cause if isinstance(fetched, Failed) else PENDING_TEXT
                return DelegateTree(type="exception", path=path, state=fetched, message=cause)
            dtab = fetched.value + dtab
        return delegate(path, dtab, self._mounts, self._system, read, self._transformers)


@frozen(kw_only=True)
class DefaultInterpreterConfig(InterpreterConfig):
    """Binds with the namers of this file and the router's own dtab."""

    def mk(self, deps: InterpreterDeps) -> LocalInterpreter:
        """The interpreter; it has no task."""
        return LocalInterpreter(
            Var(deps.turn, Ok(deps.dtab)),
            deps.namers,
            deps.system,
            [each.mk(deps.transformer_deps) for each in self.transformers],
            deps.turn,
        )


class FsInterpreter(LocalInterpreter):
    """Binds with the dtab of a watched file, followed by the router's own.

    A file that is no dtab fails what is not bound yet; what is bound keeps its last good tree.
    """

    def __init__(
        self,
        path: str,
        text: Activity[str],
        deps: InterpreterDeps,
        transformers: Sequence[Transformer],
    ) -> None:
        def parse(read: Read) -> State[Dtab]:
            return _parsed(path, read(text))

        self._watched: Computed[State[Dtab]] = Computed(deps.turn, PENDING, parse)
        self._path = path
        self._report: Callable[[str, Mapping[str, Any]], None] = deps.report
        base: Var[State[Dtab]] = Var(deps.turn, Ok(deps.dtab))
        super().__init__(base, deps.namers, deps.system, transformers, deps.turn, fetched=self._watched)

    async def run(self) -> None:
        """Follow the file also while nothing is bound, and report what is wrong with it; until cancelled."""
        close = self._watched.observe(self._tell, initial=True)
        try:
            await trio.sleep_forever()
        finally:
            close()

    def _tell(self, state: State[Dtab]) -> None:
        if isinstance(state, Failed):
            self._report("interpreter.bad_dtab", {"path": self._path, "cause": state.cause})
        elif isinstance(state, Ok):
            self._report("interpreter.dtab", {"path": self._path, "dentries": len(state.value)})


def _parsed(path: str, text: State[str]) -> State[Dtab]:
    if not isinstance(text, Ok):
        return text
    try:
        return Ok(Dtab.read(text.value))
    except DtabError as error:
        return Failed(f"{path}:{error.line}:{error.column}: {error.message}")


@frozen(kw_only=True)
class FsInterpreterConfig(InterpreterConfig):
    """Takes the dtab from a file and follows its changes."""

    dtab_file: str
    """The file; it must exist when hostmesh starts. Its dentries come before, and so lose to, those of the
    router.
    """

    def mk(self, deps: InterpreterDeps) -> FsInterpreter:
        """The interpreter, with a task that keeps the file watched."""
        transformers = [each.mk(deps.transformer_deps) for each in self.transformers]
        return FsInterpreter(self.dtab_file, deps.files.text(self.dtab_file), deps, transformers)
