"""A warm start: what was believed of names, kept in a file, so that a host that starts during an outage of its registry
still routes.

An entry counts only when the registry has failed before it has answered once; from its first answer on, what it says
counts, and what it does not confirm goes after the hold like anything else.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import trio

from hostmesh.naming.addr import Endpoint
from hostmesh.registry.trusted_file import read_trusted
from hostmesh.registry.usable import endpoint_of
from hostmesh.registry.watched import Report, no_report

if TYPE_CHECKING:
    from hostmesh.base.env import Env

WRITE_S = 5.0
"""Between a change and its being written; a burst of changes is one write."""

REFRESH_S = 600.0
"""Between writes without a change, which only renew the times."""

MAX_NAMES = 10_000
"""Names kept; the ones confirmed longest ago go first."""

MAX_BYTES = 64 * 1024 * 1024
"""Of the file."""

VERSION = 1


class WarmStart:
    """Endpoints by bound id. Without :meth:`open` it keeps and knows nothing."""

    def __init__(self, env: Env, report: Report = no_report) -> None:
        self._env = env
        self._report = report
        self._path: str | None = None
        self._max_age_s = 0.0
        self._names: dict[str, tuple[float, tuple[Endpoint, ...]]] = {}
        """``env.wall()`` of the last confirmation, and the endpoints."""
        self._changed = trio.Event()
        self.restored = 0
        """Names that were given back."""

    def __len__(self) -> int:
        return len(self._names)

    def open(self, path: str, max_age_s: float) -> None:
        """Read the file and write to it from now on. What is wrong with it is reported, and it counts as empty."""
        self._path = path
        self._max_age_s = max_age_s
        try:
            self._names = _entries(json.loads(read_trusted(path, MAX_BYTES)))
        except FileNotFoundError:
            return
        except (OSError, ValueError, RecursionError) as error:
            self._report("names.cache_unusable", {"path": path, "cause": str(error)})

    # For the freshness contract.

    def keep(self, name: str, endpoints: tuple[Endpoint, ...]) -> None:
        """The registry has said so, all of it."""
        if self._path is None:
            return
        if not endpoints:
            self.forget(name)
            return
        known = self._names.pop(name, None)
        # At the end: the order is that of confirmation.
        self._names[name] = (self._env.wall(), endpoints)
        if known is None or known[1] != endpoints:
            self._changed.set()
        while len(self._names) > MAX_NAMES:
            del self._names[next(iter(self._names))]

    def forget(self, name: str) -> None:
        """The registry has said that there is no such name."""
        if self._names.pop(name, None) is not None:
            self._changed.set()

    def recall(self, name: str) -> tuple[Endpoint, ...] | None:
        """What was believed before the start, unless that is too long ago."""
        at, endpoints = self._names.get(name, (0.0, ()))
        if not endpoints or self._env.wall() - at > self._max_age_s:
            return None
        self.restored += 1
        return endpoints

    # The file.

    async def run(self) -> None:
        """Write what changes, until cancelled, and then once more."""
        try:
            while True:
                with trio.move_on_after(REFRESH_S):
                    await self._changed.wait()
                await trio.sleep(WRITE_S)
                self._changed = trio.Event()
                if self._path is not None:
                    # The copy is cheap; writing it out and the disk are a thread's business.
                    await trio.to_thread.run_sync(self._write, dict(self._names))
        finally:
            if self._path is not None:
                self._write(dict(self._names))

    def _write(self, names: dict[str, tuple[float, tuple[Endpoint, ...]]]) -> None:
        assert self._path is not None
        beside = f"{self._path}.new"
        entries = {
            name: {"at": at, "endpoints": [[e.host, e.port, e.weight, e.meta] for e in endpoints]}
            for name, (at, endpoints) in names.items()
        }
        try:
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump({"version": VERSION, "names": entries}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, self._path)
        except OSError as error:
            self._report("names.cache_not_written", {"path": self._path, "cause": str(error)})


def _entries(data: Any) -> dict[str, tuple[float, tuple[Endpoint, ...]]]:
    """The entries of a file, those confirmed longest ago first. ValueError if it is none of ours."""
    if (
        not isinstance(data, dict)
        or data.get("version") != VERSION
        or not isinstance(data.get("names"), dict)
    ):
        raise ValueError(f"expected a cache of names, version {VERSION}, found something else")
    found = {}
    for name, entry in data["names"].items():
        try:
            endpoints = tuple(
                endpoint
                for host, port, weight, meta in entry["endpoints"]
                if (endpoint := endpoint_of(host, port, weight, tuple((str(k), str(v)) for k, v in meta)))
            )
            found[name] = (float(entry["at"]), endpoints)
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"{name}: expected a time and endpoints, found something else") from error
    return dict(sorted(found.items(), key=lambda item: item[1][0])[-MAX_NAMES:])
