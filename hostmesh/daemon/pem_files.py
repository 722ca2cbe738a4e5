"""What a few PEM files say together, as a Var that keeps the last good value: a key pair, or CAs and revocation lists.

Files of one pair are never replaced in one step: whatever a tool does, there is a moment in which the key is new and
the certificate old, or a file is half written or gone. So what cannot be used changes nothing, and is believed to be a
mistake only when it has lasted for a while; then it is an alarm, until the files are good again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, TypeVar

from attrs import frozen

from hostmesh.base.var import PENDING, Pending, Turn, Var
from hostmesh.daemon.pem_content import Content, Item, Read
from hostmesh.protocol.tls.credentials import CredentialError, Pem
from hostmesh.registry.pem import MAX_PEM_BYTES, pem_of, read_pem

if TYPE_CHECKING:
    from hostmesh.base.env import Env
    from hostmesh.registry.alarms import Alarm, Alarms
    from hostmesh.registry.watched import FileState, WatchedPath

T = TypeVar("T")

SETTLE_S: Final = 1.5
"""For so long files may contradict each other before that is an alarm: longer than tools need between two files,
and short enough for whoever has just replaced them to see it."""

MAX_TOLD: Final = 5
"""Certificates that one line of the log names: a bundle has hundreds."""

Say: TypeAlias = Callable[[str, Mapping[str, object]], None]


class Files(Protocol):
    """What is needed of the daemon's file watch."""

    def watch(self, path: str, *, max_bytes: int) -> WatchedPath: ...


@frozen(kw_only=True)
class Watching:
    """Where changes come from and where they are told. ``warn`` and ``alarm`` are lines in the log of those levels."""

    turn: Turn
    env: Env
    alarms: Alarms
    files: Files
    report: Say
    warn: Say
    alarm: Say
    settle_s: float = SETTLE_S


class PemFiles(Var["Content[T]"]):
    """The content of ``paths``, which are absolute: read at once, and watched while this is observed.

    ``read(pem)`` makes it of the files, which it asks for by path. It raises CredentialError, and so does the
    constructor; later that is an alarm, and the value stays. ``now`` is what reads them for the constructor, which
    blocks if that does. ``on_idle`` is called when nobody observes any more.
    """

    def __init__(
        self,
        watching: Watching,
        paths: Sequence[str],
        read: Callable[[Read], Content[T]],
        *,
        now: Read = read_pem,
        on_idle: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(watching.turn, read(now), on_active=self._start, on_idle=self._stop)
        self._watching = watching
        self.paths = tuple(dict.fromkeys(paths))
        self._read = read
        self._forget = on_idle
        self._watched: dict[str, WatchedPath] = {}
        self._closers: list[Callable[[], None]] = []
        self._scheduled = False
        self._settling: Alarm | None = None
        self._problem: str | None = None
        """What is wrong with the files as they are; an alarm only when it has lasted."""
        self._told: set[Item | str] = set()
        """What has been warned about."""
        self.alarm: str | None = None
        """What is wrong with the files, while something older is in use; None if nothing is."""
        self.reloads = 0
        self.failures = 0
        self.loaded = watching.env.wall()
        """When the value was read."""

    # -- following ------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        for path in self.paths:
            watched = self._watching.files.watch(path, max_bytes=MAX_PEM_BYTES)
            self._watched[path] = watched
            self._closers.append(watched.var.observe(self._changed))
        self.check()

    def _stop(self) -> None:
        closers, self._closers = self._closers, []
        for close in closers:
            close()
        self._watched.clear()
        self._settled()
        self._forget()

    def _changed(self, _state: FileState) -> None:
        # Once for all files that have changed together.
        if not self._scheduled:
            self._scheduled = True
            self.turn.call_soon(self._judge)

    def _judge(self) -> None:
        self._scheduled = False
        if not self._watched or any(isinstance(each.var.value, Pending) for each in self._watched.values()):
            return
        wall = self._watching.env.wall()
        try:
            content = self._read(self._pem)
        except CredentialError as error:
            self._bad(str(error))
            return
        problem = content.problem(wall)
        if problem is not None and self.value.problem(wall) is None:
            self._bad(problem)
            return
        self._good(content)

    def _pem(self, path: str) -> Pem:
        return pem_of(path, self._watched[path].var.value)

    def _bad(self, problem: str) -> None:
        if problem == self._problem:
            return
        self._problem = problem
        if self.alarm is not None:
            self._shout()
        elif self._settling is None:
            self._settling = self._watching.alarms.after(self._watching.settle_s, self._shout)

    def _shout(self) -> None:
        self._settling = None
        if self._problem is None or self._problem == self.alarm:
            return
        self.failures += 1
        self.alarm = self._problem
        # Before an operator can look: what is in use instead.
        kept = [f"{item.kind} {item.label}" for item in self.value.items[:MAX_TOLD]]
        self._watching.alarm("tls.old_kept", {"cause": self.alarm, "kept": kept})

    def _good(self, content: Content[T]) -> None:
        self._settled()
        self._problem = None
        if self.alarm is not None:
            self.alarm = None
            self._watching.report("tls.good_again", {"files": list(self.paths)})
        if content.value != self.value.value:
            self.reloads += 1
            self.loaded = self._watching.env.wall()
            now = [f"{item.kind} {item.label}" for item in content.items[:MAX_TOLD]]
            self._watching.report("tls.reloaded", {"files": list(self.paths), "now": now})
        self.set(content)
        self._told &= {*content.items, *content.notes}
        self.check()

    def _settled(self) -> None:
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None

    # -- what is told ---------------------------------------------------------------------------------------------

    @property
    def trouble(self) -> str | None:
        """The alarm, or that what is in use has expired."""
        return self.alarm or self.value.problem(self._watching.env.wall())

    def notes(self) -> list[str]:
        """What should be looked after, for people."""
        wall = self._watching.env.wall()
        ending = [
            item.problem(wall) or item.ending(wall) for item in self.value.items if item.is_ending(wall)
        ]
        return [*ending, *self.value.notes]

    def check(self) -> None:
        """Look at the clock: warn about what ends, once for each, and judge files again whose time may have come."""
        wall = self._watching.env.wall()
        if self._problem is not None:
            self._changed(PENDING)
        for item in self.value.items:
            problem = item.problem(wall)
            if problem is not None:
                # After an earlier warning that it will end this is still news.
                say = self._watching.warn if item.kind == "ca" else self._watching.alarm
                self._tell_once(f"{problem}", say, "tls.unusable", problem)
            elif item.is_ending(wall):
                self._tell_once(item, self._watching.warn, "tls.expires_soon", item.ending(wall))
        for note in self.value.notes:
            self._tell_once(note, self._watching.warn, "tls.note", note)

    def _tell_once(self, what: Item | str, say: Say, event: str, cause: str) -> None:
        if what not in self._told:
            self._told.add(what)
            say(event, {"cause": cause})
