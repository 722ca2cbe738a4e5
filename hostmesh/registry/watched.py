"""What observers of files hold: one watched path, and the text of one file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from hostmesh.base.var import PENDING, Failed, Ok, Pending, State, Turn, Var
from hostmesh.registry.walk import File, Found, Missing, Signature, Unreadable

FileState: TypeAlias = Pending | Found
Report: TypeAlias = Callable[[str, Mapping[str, object]], None]


def no_report(_event: str, _facts: Mapping[str, object]) -> None:
    """For those who do not want reports."""


class Watcher(Protocol):
    """What a watched path needs of its :class:`~hostmesh.registry.files.FileWatch`."""

    turn: Turn
    report: Report

    def start(self, watched: WatchedPath) -> None: ...

    def stop(self, watched: WatchedPath) -> None: ...

    def now(self) -> float: ...


class WatchedPath:
    """One path, followed while ``var`` is observed, with what the admin API shows of it.

    ``var`` always holds what the file system said last, errors included: keeping a last good value is the
    business of those who know what the content means.
    """

    def __init__(self, watcher: Watcher, path: str, root: str, max_bytes: int, *, poll: bool) -> None:
        self.path = path
        self.root = root
        self.max_bytes = max_bytes
        self.poll = poll
        """Polling was asked for."""
        self.unwatched: str | None = None
        """Why it is polled though nobody asked."""
        self.var: Var[FileState] = Var(
            watcher.turn,
            PENDING,
            on_active=lambda: watcher.start(self),
            on_idle=lambda: watcher.stop(self),
        )
        self.confirmed: float | None = None
        """``env.now()`` of the last look that succeeded."""
        self.updated: float | None = None
        """``env.wall()`` of the last change."""
        self.last_event: tuple[str, str, float] | None = None
        """Kind, entry name and ``env.wall()`` of the last event."""
        self.signature: Signature | None = None
        self.unsettled: Signature | None = None
        """Of content that is not believed yet, because somebody may still be writing it."""
        self.chain: list[tuple[int, str]] = []
        """(watch descriptor, entry name) of all that the value depends on."""
        self.definite = True
        """The next look is at something finished: its writer has closed it, or it was moved there whole."""

    @property
    def source(self) -> str:
        """How changes are noticed: ``inotify`` or ``poll``."""
        return "poll" if self.poll or self.unwatched else "inotify"

    def age(self, now: float) -> float | None:
        """Seconds since the file system last confirmed the value; None before the first time."""
        return None if self.confirmed is None else now - self.confirmed

    def forget(self) -> None:
        """Nobody observes any more, so the value is nobody's knowledge; the next observer begins with a
        look."""
        self.var.set(PENDING)
        self.confirmed = self.signature = self.unsettled = None
        self.definite = True


class TextFile(Var[State[str]]):
    """The text of a file, an Activity that keeps the last good text.

    Failed only before the first success. After that, whatever happens to the file is in ``error``, reported
    once per cause, and the text stays. An empty file is a good text.
    """

    def __init__(self, watcher: Watcher, watched: WatchedPath) -> None:
        super().__init__(watcher.turn, PENDING, on_active=self._start, on_idle=self._stop)
        self._watcher = watcher
        self.watched = watched
        self.error: str | None = None
        """What is wrong now; None while the text is confirmed."""
        self._close: Callable[[], None] | None = None

    def age(self) -> float | None:
        """Seconds since the file system last confirmed the text; None before the first time."""
        return self.watched.age(self._watcher.now())

    def _start(self) -> None:
        self._close = self.watched.var.observe(self._changed, initial=True)

    def _stop(self) -> None:
        if self._close is not None:
            self._close()
            self._close = None

    def _changed(self, state: FileState) -> None:
        if isinstance(state, Pending):
            return
        if isinstance(state, File):
            if self.error is not None:
                self._watcher.report("files.readable", {"path": self.watched.path})
            self.error = None
            self.set(Ok(state.text))
            return
        if isinstance(state, Unreadable):
            cause = state.cause
        elif isinstance(state, Missing):
            cause = f"{self.watched.path}: expected a file, found nothing at {state.where}"
        else:
            cause = f"{self.watched.path}: expected a file, found a directory"
        if cause != self.error:
            self.error = cause
            self._watcher.report("files.unreadable", {"path": self.watched.path, "cause": cause})
        if not isinstance(self.value, Ok):
            self.set(Failed(cause))
