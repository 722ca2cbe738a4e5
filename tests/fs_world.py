"""The registry's shared parts and a file namer on a real directory, driven without a pump."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path as FilePath
from typing import Any, TypeVar

import trio

from hostmesh.base.var import PENDING, Ok, Turn, Var
from hostmesh.naming.addr import Addr, AddrBound, AddrNeg
from hostmesh.naming.namer import NamerDeps
from hostmesh.naming.nametree import Leaf, Neg
from hostmesh.naming.path import Path
from hostmesh.registry.alarms import Alarms
from hostmesh.registry.files import FileWatch
from hostmesh.registry.resolver import Answer, Resolver, system_lookup
from hostmesh.registry.shared import Shared
from hostmesh.telemetry.metrics import Scope
from namer.fs import FsConfig

T = TypeVar("T")


class RealEnv:
    """The real clock."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def rng(self, name: str) -> random.Random:
        return random.Random(f"1/{name}")


class SetEnv(RealEnv):
    """A clock that tests set by hand."""

    def __init__(self, now: float = 100.0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time


class World:
    """``run(test)`` runs everything around ``await test(world)``; waits are for conditions and bounded."""

    def __init__(
        self,
        root: FilePath,
        *,
        hold_ms: int = 100,
        poll: bool = False,
        use_inotify: bool = True,
        lookup: Callable[[str], Answer] = system_lookup,
        ttl_s: float = 5.0,
        settle_s: float = 0.2,
        resync_s: float = 10.0,
    ) -> None:
        self.env = RealEnv()
        self.reports: list[tuple[str, dict[str, Any]]] = []
        self.turn = Turn(wake=self._wake)
        alarms = Alarms(self.env)
        files = FileWatch(
            self.turn,
            self.env,
            alarms,
            self.report,
            use_inotify=use_inotify,
            poll_s=0.05,
            settle_s=settle_s,
            resync_s=resync_s,
        )
        resolver = Resolver(
            self.turn, self.env, alarms, self.report, lookup=lookup, ttl_s=ttl_s, hold_s=0.0, retry_s=0.05
        )
        self.shared = Shared(alarms, files, resolver)
        self.files = files
        self.metrics = Scope()
        self.root = root
        config = FsConfig(kind="io.l5d.fs", root_dir=str(root), hold_ms=hold_ms, poll=poll)
        self.namer = config.mk(
            NamerDeps(
                env=self.env,
                turn=self.turn,
                prefix=Path.read("/io.l5d.fs"),
                metrics=self.metrics,
                resolver=resolver,
                report=self.report,
                shared=self.shared,
            )
        )
        self._ready: trio.Event | None = None
        self._changed: trio.Event | None = None

    def report(self, event: str, facts: Mapping[str, object]) -> None:
        self.reports.append((event, dict(facts)))

    def reported(self) -> set[str]:
        return {event for event, _facts in self.reports}

    def _wake(self) -> None:
        if self._ready is not None:
            self._ready.set()

    def run(self, test: Callable[[World], Awaitable[None]]) -> None:
        trio.run(self._main, test)

    async def _main(self, test: Callable[[World], Awaitable[None]]) -> None:
        self._ready, self._changed = trio.Event(), trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(self.shared.run)
            nursery.start_soon(self._drain)
            with trio.fail_after(60):
                await test(self)
            nursery.cancel_scope.cancel()

    async def _drain(self) -> None:
        while True:
            assert self._ready is not None
            await self._ready.wait()
            self._ready = trio.Event()
            self.turn.run()
            assert self._changed is not None
            self._changed.set()
            self._changed = trio.Event()

    async def until(self, holds: Callable[[], bool], seconds: float = 5.0) -> None:
        """Return when the condition holds; it is checked whenever something has changed."""
        with trio.move_on_after(seconds):
            while not holds():
                assert self._changed is not None
                await self._changed.wait()
            return
        raise AssertionError(f"not within {seconds} s; reports {self.reports}")

    async def quiet(self, seconds: float, holds: Callable[[], bool]) -> None:
        """The condition holds all the time."""
        with trio.move_on_after(seconds):
            while True:
                assert holds()
                assert self._changed is not None
                await self._changed.wait()
        assert holds()


class Followed:
    """One name as a client follows it: its tree, and the addresses of what it is bound to."""

    def __init__(self, world: World, path: str) -> None:
        self.world = world
        self.lookup = world.namer.lookup(Path.read(path))
        self.trees: list[object] = []
        self.addrs: list[Addr] = []
        self._addr: Var[Addr] | None = None
        self._close_addr: Callable[[], None] = lambda: None
        self._close = self.lookup.observe(self._bound, initial=True)

    def _bound(self, state: object) -> None:
        if not self.trees or self.trees[-1] != state:
            self.trees.append(state)
        if isinstance(state, Ok) and isinstance(state.value, Leaf):
            addr = state.value.value.addr
            if addr is not self._addr:
                self._close_addr()
                self._addr = addr
                self._close_addr = addr.observe(self.addrs.append, initial=True)

    def close(self) -> None:
        self._close()
        self._close_addr()

    @property
    def tree(self) -> object:
        return self.trees[-1]

    @property
    def addr(self) -> Addr | None:
        return None if self._addr is None else self._addr.value

    @property
    def is_neg(self) -> bool:
        return isinstance(self.tree, Ok) and isinstance(self.tree.value, Neg)

    @property
    def is_pending(self) -> bool:
        return self.tree == PENDING

    @property
    def ports(self) -> list[int] | None:
        """The ports of the endpoints, sorted; None when the addresses are not bound."""
        if isinstance(self.addr, AddrBound):
            return sorted(endpoint.port for endpoint in self.addr.endpoints)
        return None

    @property
    def had_a_gap(self) -> bool:
        """Whether the addresses were ever gone or empty after having been there."""
        seen = False
        for addr in self.addrs:
            full = isinstance(addr, AddrBound) and bool(addr.endpoints)
            if seen and (not full or isinstance(addr, AddrNeg)):
                return True
            seen = seen or full
        return False


def replace(path: FilePath, text: str) -> None:
    """Write beside and rename over, as writers should."""
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(text)
    os.replace(beside, path)
