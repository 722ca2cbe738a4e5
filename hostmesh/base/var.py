"""Observable values: how names, addresses and configuration reach the data path.

A :class:`Var` holds a value; setting it puts its observers on the :class:`Turn`, the ready list of the thread that
owns them, and returns. Observers run later, in order, once per change, never inside the setter: a setter in the
middle of a pump callback cannot re-enter it. A :class:`Computed` is a Var whose value is a function of others; it
re-evaluates when one of those it read has changed, and only while somebody observes it.

An :data:`Activity` is a Var of a state: Pending, Ok(value) or Failed(cause). Names in a registry are Activities.

Everything here belongs to one thread. Another thread hands values over with ``TrioToken.run_sync_soon(var.set, v)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeAlias, TypeVar

from attrs import frozen

from hostmesh.base.turn import Turn

__all__ = [
    "PENDING",
    "Activity",
    "Closer",
    "Computed",
    "Failed",
    "Ok",
    "Pending",
    "Read",
    "State",
    "Turn",
    "Var",
]

T = TypeVar("T")
U = TypeVar("U")
Closer: TypeAlias = Callable[[], None]


class Var(Generic[T]):
    """A value that can be watched.

    ``on_active`` runs when the first observer arrives and ``on_idle`` after the last has left: a namer starts and
    stops the watch of a name there. Both run at once, in the caller's frame.
    """

    __slots__ = ("_notifying", "_observers", "_on_active", "_on_idle", "_value", "turn")

    def __init__(
        self,
        turn: Turn,
        value: T,
        *,
        on_active: Callable[[], None] | None = None,
        on_idle: Callable[[], None] | None = None,
    ) -> None:
        self.turn = turn
        self._value = value
        self._observers: dict[object, Callable[[T], None]] = {}
        self._notifying = False
        self._on_active = on_active
        self._on_idle = on_idle

    @property
    def value(self) -> T:
        """The value now; never blocks."""
        return self._value

    @property
    def observed(self) -> bool:
        return bool(self._observers)

    def set(self, value: T) -> None:
        """Store a value; when it differs from the last, observers are told in a later turn.

        Several sets before that turn are one notification, with the newest value.
        """
        if value == self._value:
            return
        self._value = value
        if self._observers and not self._notifying:
            self._notifying = True
            self.turn.call_soon(self._notify)

    def _notify(self) -> None:
        self._notifying = False
        value = self._value
        for key, observer in list(self._observers.items()):
            if key in self._observers:
                # Each on its own entry of the turn: one that raises does not silence the next.
                self.turn.call_soon(self._tell, key, observer, value)

    def _tell(self, key: object, observer: Callable[[T], None], value: T) -> None:
        if key in self._observers:
            observer(value)

    def observe(self, observer: Callable[[T], None], *, initial: bool = False) -> Closer:
        """Call ``observer(value)`` after each change, and at once if ``initial``; returns what ends it.

        The returned function may be called more than once.
        """
        key = object()
        first = not self._observers
        self._observers[key] = observer
        if first:
            self._activate()

        def close() -> None:
            if self._observers.pop(key, None) is not None and not self._observers:
                self._deactivate()

        if initial:
            observer(self._value)
        return close

    # Methods to override, and not bound methods stored in the object: those would be rings that only the collector
    # can free, one for every name that somebody makes up.
    def _activate(self) -> None:
        if self._on_active is not None:
            self._on_active()

    def _deactivate(self) -> None:
        if self._on_idle is not None:
            self._on_idle()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._value!r}, observers={len(self._observers)})"


class Read:
    """The reader handed to a computation: ``read(var)`` returns the value and records the dependency."""

    __slots__ = ("vars",)

    def __init__(self) -> None:
        self.vars: dict[int, Var[Any]] = {}

    def __call__(self, var: Var[U]) -> U:
        self.vars[id(var)] = var
        return var.value


class Computed(Var[T]):
    """A Var computed from others: ``compute(read)`` is pure but for its reads.

    While unobserved it holds no dependency, and its value is what it was when last observed; the first observer
    makes it evaluate at once. A dependency observed for the first time may activate (start a watch) and change;
    that change arrives as any other. New dependencies are observed before old ones are dropped, so a watch that
    both need is not restarted.
    """

    __slots__ = ("_closers", "_compute", "_scheduled")

    def __init__(self, turn: Turn, initial: T, compute: Callable[[Read], T]) -> None:
        super().__init__(turn, initial)
        self._compute = compute
        self._closers: dict[int, tuple[Var[Any], Closer]] = {}
        self._scheduled = False

    def _activate(self) -> None:
        self._evaluate()

    def _deactivate(self) -> None:
        closers, self._closers = self._closers, {}
        for _var, close in closers.values():
            close()

    def _changed(self, _value: object) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.turn.call_soon(self._rerun)

    def _rerun(self) -> None:
        self._scheduled = False
        if self._observers:
            self._evaluate()

    def _evaluate(self) -> None:
        # Observing a dependency may change it at once (on_active of a literal namer), so evaluate until the set
        # of dependencies is the one that was observed before the evaluation. Sixteen rounds is a bound, not a need:
        # each round can only reveal names that the previous one unlocked, and a dtab's depth is limited elsewhere.
        for _round in range(16):
            read = Read()
            value = self._compute(read)
            fresh = [var for key, var in read.vars.items() if key not in self._closers]
            for var in fresh:
                self._closers[id(var)] = (var, var.observe(self._changed))
            if not fresh:
                break
        for key in [key for key in self._closers if key not in read.vars]:
            self._closers.pop(key)[1]()
        self.set(value)


@frozen
class Pending:
    """Not known yet."""


@frozen
class Ok(Generic[T]):
    value: T


@frozen
class Failed:
    """Cannot be known now; ``cause`` is for people."""

    cause: str


State: TypeAlias = Pending | Ok[T] | Failed
Activity: TypeAlias = Var[State[T]]
PENDING = Pending()
