"""Namers that ask again and again: all but the asking.

    class MyNamer(PolledNamer):
        async def look(self, name: PolledName) -> float:
            name.found(await endpoints_of(name.path[0]))
            return 5.0

A name is looked at while somebody observes it, each by a task of its own. What ``look`` raises is an error of the
source and never an empty answer: the endpoints believed last stay (:mod:`hostmesh.registry.freshness`), and the next
look follows with a jittered backoff of at most a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import trio

from hostmesh.base.backoff import EqualJittered
from hostmesh.base.var import PENDING, Activity, Computed, Failed, Ok, Pending, Read, State, Var
from hostmesh.naming.addr import (
    ADDR_PENDING,
    Addr,
    AddrBound,
    AddrFailed,
    AddrNeg,
    Endpoint,
)
from hostmesh.naming.bound import BoundName
from hostmesh.naming.namer import NAMER_ROOT, LookupTree, NamerDeps
from hostmesh.naming.nametree import NEG, Leaf
from hostmesh.naming.path import Path
from hostmesh.registry.freshness import HOLD_S, Freshness
from hostmesh.registry.journal import Journal
from hostmesh.registry.shared import Shared

TIMEOUT_S = 10.0
"""For one look."""

LOOK_GAP_S = 0.01
"""Between looks that do not fail, at least, so that a burst of changes is not a burst of looks."""

RETRY_MIN_S = 0.05
RETRY_MAX_S = 1.0
"""Between looks that fail. A source that is back is noticed within a second, whatever its outage took."""

MAX_NAMES = 10_000
"""Names in use at the same time. A request's own dtab can ask for any name, so there must be a bound; above it names
are Failed."""

MAX_LOOKS = 100
"""Looks at the same time, so that a thousand names do not come to a source at once."""

JITTER = 0.1
"""Part of a pause that is drawn, so that names looked up together do not stay together."""


class PolledName:
    """One name in use. A look tells it what the source says: :meth:`found`, :meth:`absent`, or an exception."""

    def __init__(self, namer: PolledNamer, path: Path) -> None:
        self.path = path
        """The segments that are the name."""
        self.id = namer.root_id + path
        self._namer = namer
        self.exists: Var[State[bool]] = Var(
            namer.turn, PENDING, on_active=self._retain, on_idle=self._release
        )
        self.addr: Var[Addr] = Var(namer.turn, ADDR_PENDING, on_active=self._retain, on_idle=self._release)
        self.fresh = Freshness(
            self.id.show(),
            self.addr,
            namer.shared.alarms,
            namer.journal,
            hold_s=namer.hold_s,
            source=namer.source_of(path),
            report=namer.report,
            on_believed=self._believed,
            warm=namer.shared.warm,
            guard=namer.shared.guard,
        )
        self.changed = trio.Event()
        self.memo: Any = None
        """What ``look`` wants to remember of a look that went well; forgotten when one fails, or nobody observes."""
        self._retained = 0
        self._stop: Callable[[], None] | None = None

    # For the look.

    def found(self, endpoints: Iterable[Endpoint | None], *, index: str = "", complete: bool = True) -> None:
        """These are the endpoints; None counts as one refused (see :func:`hostmesh.registry.usable.endpoint_of`).

        ``complete=False``: there may be more, so nothing is removed.
        """
        usable = []
        for endpoint in endpoints:
            if endpoint is None:
                self._namer.refused.value += 1
            else:
                usable.append(endpoint)
        self.fresh.found(usable, index=index, complete=complete)
        # Also when it is bound already and stays so.
        self._believed()

    def absent(self, *, index: str = "") -> None:
        """There is no such name."""
        self.fresh.absent(index=index)

    def confirm(self) -> None:
        """The source says what it said at the last look."""
        self.fresh.confirm()

    def look_soon(self) -> None:
        """Something has changed: end the pause before the next look."""
        self.changed.set()

    # Observed or not.

    def _retain(self) -> None:
        self._retained += 1
        if self._retained == 1:
            self._stop = self._namer.keep(self)

    def _release(self) -> None:
        self._retained -= 1
        if self._retained:
            return
        if self._stop is not None:
            self._stop()
            self._stop = None
        self._namer.drop(self)
        self.memo = None
        self.fresh.forget()
        self.exists.set(PENDING)

    def _believed(self) -> None:
        match self.addr.value:
            case AddrBound():
                self.exists.set(Ok(True))
            case AddrNeg():
                self.exists.set(Ok(False))
            case AddrFailed(cause):
                self.exists.set(Failed(cause))
            case _:
                self.exists.set(PENDING)


class PolledLookup(Computed[State[LookupTree]]):
    """The name tree of one path."""

    def __init__(self, namer: PolledNamer, path: Path) -> None:
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
        which = self._namer.name_in(read, self._path)
        if not isinstance(which, Ok):
            return which
        if which.value is None:
            return Ok(NEG)
        name = self._namer.name(which.value)
        match read(name.exists):
            case Ok(True):
                return Ok(Leaf(BoundName(name.id, name.addr, self._path.drop(len(name.path)))))
            case Ok(_):
                return Ok(NEG)
            case Pending() | Failed() as unknown:
                return unknown


class PolledNamer:
    """The base of such namers; a subclass writes :meth:`look`, and perhaps the methods below it."""

    segments = 1
    """How many segments of a path are the name; what follows is the residual."""

    def __init__(self, deps: NamerDeps, *, hold_s: float = HOLD_S, timeout_s: float = TIMEOUT_S) -> None:
        shared: Shared = deps.shared
        self.prefix = deps.prefix
        self.root_id = NAMER_ROOT + deps.prefix
        self.hold_s = hold_s
        self.timeout_s = timeout_s
        self.env = deps.env
        self.turn = deps.turn
        self.shared = shared
        self.report = deps.report
        self.journal = Journal(deps.env)
        self.lookups: dict[Path, PolledLookup] = {}
        self.names: dict[Path, PolledName] = {}
        """Those in use."""
        self._retained = 0
        self._looks = trio.Semaphore(MAX_LOOKS)
        self._backoff = EqualJittered(RETRY_MIN_S, RETRY_MAX_S)
        self._rng = deps.env.rng(f"namer{deps.prefix.show()}")
        self._ages = deps.metrics.scope("age_ms")
        self.asked = deps.metrics.counter("lookups")
        self.errors = deps.metrics.counter("errors")
        self.refused = deps.metrics.counter("refused_endpoints")
        deps.metrics.gauge("names", lambda: len(self.names))
        deps.metrics.gauge("max_age_ms", self._max_age_ms)

    async def look(self, name: PolledName) -> float:
        """Ask the source about ``name.path`` once, tell ``name``, and return the seconds until the next look.

        May raise whatever it likes, may be cancelled at any time, and is cancelled after ``timeout_s``.
        """
        raise NotImplementedError

    def name_in(self, read: Read, path: Path) -> State[Path | None]:
        """Which segments of a looked-up path are the name; Ok(None): there is none in it. Pure but for ``read``."""
        return Ok(path.take(self.segments) if len(path) >= self.segments else None)

    def source_of(self, path: Path) -> str:
        """Whom ``look`` asks about this name, for the journal."""
        return self.prefix.show()[1:]

    # What interpreters and pages use.

    def lookup(self, path: Path) -> Activity[LookupTree]:
        return self.lookups.get(path) or PolledLookup(self, path)

    def bound_names(self) -> list[Path]:
        """The ids in use that exist."""
        return sorted(name.id for name in self.names.values() if isinstance(name.addr.value, AddrBound))

    def state(self) -> dict[str, object]:
        """The names in use, with the age of what is believed of each."""
        names = {path.show(): self.names[path].fresh.state() for path in sorted(self.names)}
        return {"running": True, "prefix": self.prefix.show(), "state": names}

    # For names.

    def name(self, path: Path) -> PolledName:
        return self.names.get(path) or PolledName(self, path)

    def keep(self, name: PolledName) -> Callable[[], None] | None:
        """The name is observed; returns what stops looking at it."""
        self._retained += 1
        # Also one that is refused is known while somebody observes it: asking again must give the same one.
        if self.names.setdefault(name.path, name) is name:
            self._ages.gauge(name.id.show(), lambda: (name.fresh.age() or 0.0) * 1000)
        if self._retained > MAX_NAMES:
            self.turn.call_soon(name.fresh.failed, f"more than {MAX_NAMES} names are in use")
            return None
        return self.shared.tasks.start(lambda: self._follow(name))

    def drop(self, name: PolledName) -> None:
        """The name is not observed any more."""
        self._retained -= 1
        if self.names.get(name.path) is name:
            del self.names[name.path]
            self._ages.prune(name.id.show())

    def _max_age_ms(self) -> float:
        return max((name.fresh.age() or 0.0 for name in self.names.values()), default=0.0) * 1000

    async def _follow(self, name: PolledName) -> None:
        delays = None
        while True:
            # Before the look: what changes while it is under way is worth another one.
            name.changed = trio.Event()
            try:
                async with self._looks:
                    self.asked.value += 1
                    with trio.fail_after(self.timeout_s):
                        pause = float(await self.look(name))
            except Exception as error:  # noqa: BLE001 - whatever it is, the source has not answered
                self.errors.value += 1
                name.memo = None
                name.fresh.failed(cause_of(error, self.timeout_s))
                delays = delays or self._backoff.delays(self._rng)
                await trio.sleep(next(delays) * (0.5 + 0.5 * self._rng.random()))
            else:
                delays = None
                await trio.sleep(LOOK_GAP_S)
                with trio.move_on_after(max(0.0, pause * (1 - JITTER * self._rng.random()) - LOOK_GAP_S)):
                    await name.changed.wait()


def cause_of(error: BaseException, timeout_s: float) -> str:
    """An exception of a look in one line."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, trio.TooSlowError):
        return f"no answer in {timeout_s:g} s"
    text = str(error)
    known: Any = (OSError, ValueError)
    return text if text and isinstance(error, known) else f"{type(error).__name__}: {text}".rstrip(": ")
