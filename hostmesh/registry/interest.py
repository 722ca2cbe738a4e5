"""Who is interested in which directory entry: the table between kernel watches and watched paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostmesh.registry.inotify import Event, Inotify
    from hostmesh.registry.watched import WatchedPath


class Interest:
    """Watch descriptors, and for each the paths that depend on it with the names they care for.

    A directory is watched by the kernel once, however many paths go through it.
    """

    def __init__(self) -> None:
        self._entries: dict[int, dict[WatchedPath, set[str]]] = {}
        self._idle: set[int] = set()

    def __len__(self) -> int:
        """How many directories are watched, counting those that await :meth:`sweep`."""
        return len(self._entries)

    def rewire(self, watched: WatchedPath, chain: list[tuple[int, str]]) -> None:
        """Let ``watched`` depend on ``chain`` instead of what it depended on."""
        before = {wd for wd, _name in watched.chain}
        for wd in before:
            self._entries.get(wd, {}).pop(watched, None)
        for wd, name in chain:
            self._entries.setdefault(wd, {}).setdefault(watched, set()).add(name)
        watched.chain = chain
        self._idle.update(wd for wd in before if not self._entries.get(wd))

    def unwanted(self, chain: list[tuple[int, str]]) -> None:
        """A look has made these watches for a path that is no longer observed."""
        for wd, _name in chain:
            if not self._entries.setdefault(wd, {}):
                self._idle.add(wd)

    def concerned(self, event: Event) -> list[WatchedPath]:
        """The paths that an event may have changed."""
        entries = self._entries.get(event.wd, {})
        return [watched for watched, names in entries.items() if not event.name or event.name in names]

    def gone(self, wd: int) -> None:
        """The kernel has removed this watch."""
        self._entries.pop(wd, None)

    def sweep(self, kernel: Inotify | None) -> None:
        """Remove the watches that nobody needs.

        Not to be called while a thread looks at paths: it may just have been given one of them by the kernel.
        """
        for wd in self._idle:
            # One that is unknown here has been removed already, by the kernel or by an earlier sweep.
            if not self._entries.get(wd, True):
                del self._entries[wd]
                if kernel is not None:
                    kernel.remove(wd)
        self._idle.clear()

    def clear(self) -> None:
        """The descriptor is closed, and with it all watches are gone."""
        self._entries.clear()
        self._idle.clear()
