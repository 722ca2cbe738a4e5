"""Watched files: what is at a path, as a Var, for as long as somebody looks at it.

One :class:`FileWatch` per daemon, with one inotify descriptor. All reading is done in a few threads, so that
a disk that is slow, or a server of network files that is gone, never stops the data path. Where inotify
cannot be had (no watches left, not on this system, a network file system) a path is polled.
"""

from __future__ import annotations

from os.path import abspath, dirname
from typing import TYPE_CHECKING, TypeAlias

import trio
from attrs import define, field

from hostmesh.base.var import Pending, Turn
from hostmesh.registry import inotify
from hostmesh.registry.interest import Interest
from hostmesh.registry.walk import File, Look, Signature, Unreadable, look, signature
from hostmesh.registry.watched import Report, TextFile, WatchedPath, no_report

if TYPE_CHECKING:
    from hostmesh.base.env import Env
    from hostmesh.registry.alarms import Alarms

MAX_BYTES = 500 * 1024
"""Linkerd 1 refuses larger endpoint files; at 20 bytes a line that is 25,000 endpoints."""

POLL_S = 1.0
"""How often a path is looked at that cannot be watched."""

RESYNC_S = 10.0
"""How often a watched path is compared with what is known of it, for changes without an event: a bind mount,
another machine writing to the same disk, a write through another hard link. It costs one stat(2) per path."""

SETTLE_S = 1.0
"""A file whose writer has not closed it is believed when it has not changed for so long."""

OVERDUE_S = 5.0
"""A file system that has not answered for so long is reported as failing. The answer is still waited for."""

THREADS = 3
"""File systems that may hang at the same time before a healthy one has to wait."""

BATCH = 32
"""Paths looked at in one visit to a thread: a hand-over costs more than a look, and results should not wait
long."""

MAX_SEEN = 1000
"""Events remembered while a thread looks; with more of them its paths are simply looked at again."""

_Key: TypeAlias = tuple[str, str, int, bool]


@define(eq=False)
class _Lane:
    """The observed paths of one root. They live on one file system, and at most one thread waits for it."""

    paths: dict[WatchedPath, None] = field(factory=dict)
    due: dict[WatchedPath, None] = field(factory=dict)
    busy: list[WatchedPath] = field(factory=list)
    seen: list[inotify.Event] = field(factory=list)
    """Events while a thread looks: they may be about watches that it has just been given."""
    began: float = 0.0
    overdue: bool = False


class FileWatch:
    """What is at a path, as Vars.

    :meth:`run` must run for changes to be seen. Before that a path is read when first observed, in the
    caller's frame, so that a command line tool needs no task.
    """

    def __init__(
        self,
        turn: Turn,
        env: Env,
        alarms: Alarms,
        report: Report = no_report,
        *,
        use_inotify: bool = True,
        poll_s: float = POLL_S,
        resync_s: float = RESYNC_S,
        settle_s: float = SETTLE_S,
        overdue_s: float = OVERDUE_S,
    ) -> None:
        self.turn = turn
        self.report = report
        self._env = env
        self._alarms = alarms
        self._use_inotify = use_inotify
        self._poll_s = poll_s
        self._resync_s = resync_s
        self._settle_s = settle_s
        self._overdue_s = overdue_s
        self._inotify: inotify.Inotify | None = None
        self._nursery: trio.Nursery | None = None
        self._threads = trio.CapacityLimiter(THREADS)
        self._interest = Interest()
        self._shared: dict[_Key, WatchedPath] = {}
        self._lanes: dict[str, _Lane] = {}
        self.looks = 0
        """Results of looks so far."""

    def __len__(self) -> int:
        """How many paths are observed."""
        return sum(len(lane.paths) for lane in self._lanes.values())

    @property
    def watches(self) -> int:
        """How many directories the kernel watches for us."""
        return len(self._interest)

    def now(self) -> float:
        return self._env.now()

    def watch(
        self, path: str, *, root: str | None = None, max_bytes: int = MAX_BYTES, poll: bool = False
    ) -> WatchedPath:
        """The watch of a path: the same object for as long as it is observed.

        ``path`` may name a file, a directory or nothing yet. ``root`` (default: its directory) is a directory
        above it that says which file system it is on: paths of one root wait for each other, not for others.
        With ``poll`` it is looked at every second instead of being watched: for network file systems, where
        another machine's change has no event. Files of more than ``max_bytes`` are Unreadable.
        """
        path = abspath(path)
        root = abspath(root) if root is not None else dirname(path)
        known = self._shared.get((path, root, max_bytes, poll))
        # Kept from its first observation on, so that merely asking costs no memory.
        return known or WatchedPath(self, path, root, max_bytes, poll=poll)

    def text(self, path: str, *, max_bytes: int = MAX_BYTES, poll: bool = False) -> TextFile:
        """The text of one file that ought to be there: a dtab, a certificate, a token. An Activity."""
        return TextFile(self, self.watch(path, max_bytes=max_bytes, poll=poll))

    def start(self, watched: WatchedPath) -> None:
        """Called by a path's Var when it is first observed."""
        self._shared.setdefault(_key(watched), watched)
        self._lanes.setdefault(watched.root, _Lane()).paths[watched] = None
        if self._nursery is not None:
            self._ask(watched, definite=True)
        else:
            self._take(watched, look(watched.path, watched.max_bytes), definite=True)

    def stop(self, watched: WatchedPath) -> None:
        """Called by a path's Var when nobody observes it any more."""
        if self._shared.get(_key(watched)) is watched:
            del self._shared[_key(watched)]
        lane = self._lanes[watched.root]
        del lane.paths[watched]
        lane.due.pop(watched, None)
        self._interest.rewire(watched, [])
        self._tidy(watched.root, lane)
        watched.forget()

    def _tidy(self, root: str, lane: _Lane) -> None:
        if not lane.paths and not lane.busy:
            self._lanes.pop(root, None)
        if not any(other.busy for other in self._lanes.values()):
            self._interest.sweep(self._inotify)

    # Looking.

    def _ask(self, watched: WatchedPath, *, definite: bool = False) -> None:
        """Have a path looked at; at once if its lane is free."""
        lane = self._lanes.get(watched.root)
        if lane is None or watched not in lane.paths:
            return
        watched.definite |= definite
        lane.due[watched] = None
        if not lane.busy and self._nursery is not None:
            self._next_batch(lane)
            self._nursery.start_soon(self._visit, watched.root, lane)

    def _next_batch(self, lane: _Lane) -> None:
        # Busy from here on, although the visit begins a moment later: nobody may start a second one.
        lane.busy = list(lane.due)[:BATCH]
        lane.seen = []
        lane.began = self.now()
        for watched in lane.busy:
            del lane.due[watched]

    async def _visit(self, root: str, lane: _Lane) -> None:
        while lane.busy:
            jobs = [self._job(watched) for watched in lane.busy]
            for watched in lane.busy:
                watched.definite = False
            # Abandoned when cancelled: a hanging network file system must not hold up the end of the daemon.
            looks = await trio.to_thread.run_sync(
                _look_at_all, jobs, limiter=self._threads, abandon_on_cancel=True
            )
            lane.overdue = False
            for watched, job, found in zip(lane.busy, jobs, looks, strict=True):
                if watched in lane.paths:
                    self._take(watched, found, definite=job.definite)
                elif found is not None:
                    self._interest.unwanted(found.chain)
            for event in lane.seen:
                self._ask_concerned(event, lane.busy)
            self._next_batch(lane)
        self._tidy(root, lane)

    def _job(self, watched: WatchedPath) -> _Job:
        # A definite look reads. Otherwise a file whose signature is as known is not read again.
        reads = watched.definite or watched.unsettled is not None
        return _Job(
            watched.path,
            watched.max_bytes,
            None if watched.poll else self._inotify,
            None if reads else watched.signature,
            watched.definite,
        )

    def _take(self, watched: WatchedPath, found: Look | None, *, definite: bool) -> None:
        """Use the result of a look; None: nothing has changed."""
        self.looks += 1
        if found is None:
            watched.confirmed = self.now()
            return
        if self._nursery is not None:
            self._interest.rewire(watched, found.chain)
            self._note_source(watched, found)
        state = found.found
        if isinstance(state, File) and not definite and not self._is_settled(watched, found):
            # Somebody may be writing: keep what is known. The closing of the file will ask again, or else we.
            watched.unsettled = found.signature
            self._alarms.after(self._settle_s, lambda: self._ask(watched))
            return
        watched.unsettled = None
        watched.signature = found.signature
        if not isinstance(state, Unreadable):
            watched.confirmed = self.now()
        if state != watched.var.value:
            watched.updated = self._env.wall()
            watched.var.set(state)

    def _is_settled(self, watched: WatchedPath, found: Look) -> bool:
        if isinstance(watched.var.value, Pending) or found.signature in (
            watched.signature,
            watched.unsettled,
        ):
            return True
        return self._env.wall() - found.changed >= self._settle_s

    def _note_source(self, watched: WatchedPath, found: Look) -> None:
        if watched.poll:
            return
        if self._inotify is not None and found.unwatched is None:
            watched.unwatched = None
            return
        cause = str(found.unwatched or "inotify is not available")
        if watched.unwatched is None:
            self.report("files.polling", {"path": watched.path, "cause": cause, "seconds": self._poll_s})
        watched.unwatched = cause

    # Following.

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow changes until cancelled; what was observed before is looked at again first."""
        if self._use_inotify:
            try:
                self._inotify = inotify.Inotify()
            except OSError as error:
                self.report("files.no_inotify", {"cause": str(error)})
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._ask_all()
                task_status.started()
                nursery.start_soon(self._poll)
                if self._inotify is not None:
                    await self._follow(self._inotify)
        finally:
            self._nursery = None
            self._interest.clear()
            if self._inotify is not None:
                self._inotify.close()
                self._inotify = None

    def _ask_all(self) -> None:
        for lane in list(self._lanes.values()):
            for watched in list(lane.paths):
                self._ask(watched, definite=True)

    async def _follow(self, kernel: inotify.Inotify) -> None:
        while True:
            await trio.lowlevel.wait_readable(kernel.fd)
            for event in kernel.read():
                self._tell(event)

    def _tell(self, event: inotify.Event) -> None:
        if event.mask & inotify.Q_OVERFLOW:
            self.report("files.overflow", {"paths": len(self)})
            self._ask_all()
            return
        for lane in self._lanes.values():
            if lane.busy and len(lane.seen) < MAX_SEEN:
                lane.seen.append(event)
            elif lane.busy:
                for watched in lane.busy:
                    self._ask(watched, definite=True)
        self._ask_concerned(event)
        if event.mask & inotify.IGNORED:
            self._interest.gone(event.wd)

    def _ask_concerned(self, event: inotify.Event, among: list[WatchedPath] | None = None) -> None:
        # Attributes and bare creation do not say whether a writer has finished; everything else does.
        definite = bool(event.mask & ~(inotify.CREATE | inotify.ATTRIB | inotify.ISDIR))
        for watched in self._interest.concerned(event):
            if among is None or watched in among:
                watched.last_event = (event.kind, event.name, self._env.wall())
                self._ask(watched, definite=definite)

    async def _poll(self) -> None:
        resynced = self.now()
        while True:
            await trio.sleep(self._poll_s)
            now = self.now()
            resync = now - resynced >= self._resync_s
            if resync:
                resynced = now
            for lane in list(self._lanes.values()):
                if lane.busy and now - lane.began >= self._overdue_s:
                    self._note_overdue(lane)
                for watched in list(lane.paths):
                    if resync or watched.source == "poll":
                        self._ask(watched)

    def _note_overdue(self, lane: _Lane) -> None:
        """All paths of a lane whose file system hangs are unreadable; when it answers they are read again."""
        if lane.overdue:
            return
        lane.overdue = True
        for watched in lane.paths:
            watched.var.set(
                Unreadable(f"{watched.path}: no answer from its file system for {self._overdue_s:g} s")
            )
            self._ask(watched, definite=True)


@define
class _Job:
    path: str
    max_bytes: int
    kernel: inotify.Inotify | None
    known: Signature | None
    definite: bool


def _look_at_all(jobs: list[_Job]) -> list[Look | None]:
    """Runs in a thread. None: the same as before."""
    return [
        None
        if job.known is not None and signature(job.path) == job.known
        else look(job.path, job.max_bytes, job.kernel)
        for job in jobs
    ]


def _key(watched: WatchedPath) -> _Key:
    return (watched.path, watched.root, watched.max_bytes, watched.poll)
