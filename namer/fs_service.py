"""What is at one path below an ``io.l5d.fs`` namer's directory, followed while it is in use."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from attrs import frozen

from hostmesh.plugin import (
    ADDR_PENDING,
    PENDING,
    Addr,
    AddrBound,
    AddrFailed,
    AddrNeg,
    AddrPending,
    Endpoint,
    Failed,
    Path,
    Pending,
    Var,
)
from hostmesh.registry.freshness import Freshness
from hostmesh.registry.walk import Directory, File, Missing, Unreadable
from namer.fs_format import HostLine, Line, parsing

if TYPE_CHECKING:
    from hostmesh.registry.alarms import Alarm
    from hostmesh.registry.watched import FileState
    from namer.fs import FsNamer


@frozen
class IsDirectory:
    """Names go on below."""


@frozen
class IsFile:
    """A service."""


@frozen
class IsMissing:
    """No such name."""


Kind: TypeAlias = Pending | Failed | IsDirectory | IsFile | IsMissing


class Service:
    """What is at one path below ``rootDir``: a file with its endpoints, a directory, or nothing.

    It lives while ``kind`` or ``addr`` is observed, and is then the only one for its path.
    """

    def __init__(self, namer: FsNamer, names: Path) -> None:
        self.names = names
        self.id = namer.root_id + names
        self.path = os.path.join(namer.root_dir, *names)
        self._namer = namer
        self.kind: Var[Kind] = Var(namer.turn, PENDING, on_active=self._retain, on_idle=self._release)
        self.addr: Var[Addr] = Var(namer.turn, ADDR_PENDING, on_active=self._retain, on_idle=self._release)
        self.watched = namer.files.watch(self.path, root=namer.root_dir, poll=namer.poll)
        self.fresh = Freshness(
            self.id.show(),
            self.addr,
            namer.shared.alarms,
            namer.journal,
            hold_s=namer.hold_s,
            source=self.path,
            report=namer.report,
            on_believed=self._classify,
            warm=namer.shared.warm,
            guard=namer.shared.guard,
        )
        self.started = 0.0
        self._retained = 0
        self._is_directory = False
        self._is_file = False
        self._is_usable = False
        self._lines: tuple[Line, ...] = ()
        self._resolved: dict[tuple[str, int], Var[Addr]] = {}
        self._closers: dict[tuple[str, int], Callable[[], None]] = {}
        self._close: Callable[[], None] | None = None
        self._parse_alarm: Alarm | None = None

    def age(self) -> float | None:
        """Seconds since what is believed was last confirmed by the file system."""
        if self.fresh.error is None and self.fresh.confirmed is not None:
            return self.watched.age(self._namer.files.now())
        return self.fresh.age()

    # Observed or not.

    def _retain(self) -> None:
        self._retained += 1
        if self._retained == 1:
            self._namer.keep(self)
            self.started = self._namer.env.wall()
            self._close = self.watched.var.observe(self._seen, initial=True)

    def _release(self) -> None:
        self._retained -= 1
        if self._retained:
            return
        if self._close is not None:
            self._close()
        self._stop_parsing()
        self._follow_names({})
        self._lines = ()
        self._is_directory = self._is_file = self._is_usable = False
        self.fresh.forget()
        self.kind.set(PENDING)
        self._namer.drop(self)

    # What the file system says.

    def _seen(self, state: FileState) -> None:
        if isinstance(state, Pending):
            return
        self._stop_parsing()
        match state:
            case File(text):
                self._is_file, self._is_directory = True, False
                self._parse(parsing(text))
                return
            case Directory():
                self._is_file, self._is_directory = False, True
                self._use(())
            case Missing(where):
                if len(where) <= len(self._namer.root_dir):
                    # The registry itself is away (not mounted, being replaced): that says nothing of its
                    # names.
                    root = self._namer.root_dir
                    self.fresh.failed(f"rootDir {root}: expected a directory, found none at {where}")
                else:
                    self._follow_names({})
                    self.fresh.absent(index=self._index())
            case Unreadable(cause, is_file):
                self._is_file = self._is_file or is_file
                self._unusable(cause)
        self._classify()

    def _parse(self, steps: Generator[None, None, tuple[Line, ...]]) -> None:
        try:
            next(steps)
        except StopIteration as end:
            self._use(end.value)
            self._classify()
        except ValueError as error:
            self._namer.malformed.value += 1
            self._unusable(f"{self.path}: {error}")
            self._classify()
        else:
            if not self._namer.shared.alarms.is_running:
                self._parse(steps)
                return
            # The next step in a later turn of the loop, so that a large file does not stop the data path.
            self._parse_alarm = self._namer.shared.alarms.after(0.0, partial(self._parse, steps))

    def _stop_parsing(self) -> None:
        if self._parse_alarm is not None:
            self._parse_alarm.cancel()
            self._parse_alarm = None

    def _unusable(self, cause: str) -> None:
        self._is_usable = False
        self._namer.errors.value += 1
        self.fresh.failed(cause)

    def _index(self) -> str:
        """The time of the file's last change in nanoseconds, as the journal's index."""
        signature = self.watched.signature
        return str(signature[3]) if signature is not None and len(signature) > 3 else ""

    # Endpoints.

    def _use(self, lines: tuple[Line, ...]) -> None:
        self._lines = lines
        self._is_usable = True
        resolve = self._namer.shared.resolver.resolve
        self._follow_names(
            {
                (line.host, line.port): self._resolved.get((line.host, line.port))
                or resolve(line.host, line.port)
                for line in lines
                if isinstance(line, HostLine)
            }
        )
        self._combine()

    def _follow_names(self, resolved: dict[tuple[str, int], Var[Addr]]) -> None:
        """Observe these host names instead of those before; what both have stays observed."""
        self._resolved = resolved
        for key, var in resolved.items():
            if key not in self._closers:
                self._closers[key] = var.observe(self._name_changed)
        for key in self._closers.keys() - resolved.keys():
            self._closers.pop(key)()

    def _name_changed(self, _addr: Addr) -> None:
        if self._retained:
            self._combine()

    def _combine(self) -> None:
        """The endpoints of all lines.

        A host name that is still being resolved may stand for any endpoint that is missing now, so nothing is
        removed meanwhile. One that cannot be resolved counts as none, lest one bad line keep all removals
        back; but if nothing else is left that is an error and not an empty set.
        """
        endpoints: list[Endpoint] = []
        pending = False
        cause: str | None = None
        for line in self._lines:
            if isinstance(line, Endpoint):
                endpoints.append(line)
                continue
            match self._resolved[line.host, line.port].value:
                case AddrBound(found):
                    endpoints.extend(endpoint._replace(weight=line.weight) for endpoint in found)
                case AddrPending():
                    pending = True
                case AddrFailed(why):
                    cause = cause or why
                case AddrNeg():
                    pass
        if endpoints or not (pending or cause):
            # While the file itself cannot be read its host names go on being followed, for what they add.
            self.fresh.found(endpoints, index=self._index(), complete=self._is_usable and not pending)
        elif cause and not pending:
            self.fresh.failed(cause)

    def _classify(self) -> None:
        """Derive ``kind`` from what is believed."""
        match self.addr.value:
            case AddrNeg():
                self.kind.set(IsMissing())
            case AddrPending():
                # A file whose host names are being resolved is known to be a name already.
                self.kind.set(IsFile() if self._is_file else PENDING)
            case AddrFailed(cause):
                self.kind.set(IsFile() if self._is_file else Failed(cause))
            case AddrBound():
                self.kind.set(IsDirectory() if self._is_directory else IsFile())

    def state(self) -> dict[str, object]:
        """For the admin page."""
        age = self.age()
        updated = self.watched.updated
        unresolved = {
            host: var.value.cause
            for (host, _port), var in self._resolved.items()
            if isinstance(var.value, AddrFailed)
        }
        event = self.watched.last_event
        return {
            "running": True,
            "lastStartedAt": round(self.started * 1000),
            "lastUpdatedAt": None if updated is None else round(updated * 1000),
            **self.fresh.state(),
            "ageMs": None if age is None else round(age * 1000),
            "watch": self.watched.source,
            "unresolved": unresolved,
            "events": event and {"kind": event[0], "name": event[1], "at": round(event[2] * 1000)},
        }
