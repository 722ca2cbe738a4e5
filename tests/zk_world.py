"""A ZooKeeper namer on a real server, driven without a pump."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path as FilePath
from typing import Any

import trio

from hostmesh.naming.namer import NAMER_ROOT, NamerDeps
from hostmesh.naming.path import Path
from hostmesh.registry.announcer import Announcement, AnnouncerDeps
from namer.serversets import ServersetsConfig
from namer.serversets_announcer import ServersetsAnnouncer, ServersetsAnnouncerConfig
from namer.zk import ZkNamer
from namer.zk_config import ZkAddr, ZkNamerConfig
from namer.zk_leader import ZkLeaderConfig
from tests.fs_world import Followed, World


class ZkWorld(World):
    """``run(test)`` as in :class:`World`, with the namer's task; ``namer`` is of ZooKeeper."""

    def __init__(
        self, root: FilePath, port: int, *, leader: bool = False, hold_ms: int = 200, **keys: Any
    ) -> None:
        super().__init__(root)
        self.zk_addrs = (ZkAddr(host="127.0.0.1", port=port),)
        cls = ZkLeaderConfig if leader else ServersetsConfig
        config = cls(kind="io.l5d.zk", zk_addrs=self.zk_addrs, hold_ms=hold_ms, **keys)
        self.use(config)

    def use(self, config: ZkNamerConfig) -> None:
        """Have another namer."""
        self.zk: ZkNamer = config.mk(  # type: ignore[assignment]
            NamerDeps(
                env=self.env,
                turn=self.turn,
                prefix=Path.read("/io.l5d.zk"),
                metrics=self.metrics,
                resolver=self.shared.resolver,
                report=self.report,
                shared=self.shared,
            )
        )
        self.namer = self.zk  # type: ignore[assignment]

    def run(self, test: Callable[[Any], Awaitable[None]]) -> None:
        async def with_task(world: World) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.zk.run)
                await test(self)
                nursery.cancel_scope.cancel()

        super().run(with_task)

    async def until(self, holds: Callable[[], bool], seconds: float = 30.0) -> None:
        """As in :class:`World`, but also for conditions that the server changes."""
        with trio.move_on_after(seconds):
            while not holds():  # noqa: ASYNC110 - what another process does has no event
                await trio.sleep(0.01)
            return
        raise AssertionError(f"not within {seconds} s; reports {self.reports}")

    def follow(self, path: str) -> Followed:
        return Followed(self, path)

    def journal(self, path: str) -> list[tuple[str, str]]:
        id = (NAMER_ROOT + Path.read("/io.l5d.zk") + Path.read(path)).show()
        return [(entry.action, entry.what) for entry in self.zk.journal.entries(id)]

    def announcer(self, *names: str, port: int = 4140, **keys: Any) -> ServersetsAnnouncer:
        """One that announces 10.9.9.9:``port`` under each name."""
        config = ServersetsAnnouncerConfig(kind="io.l5d.serversets", zk_addrs=self.zk_addrs, **keys)
        announced = tuple(Announcement(Path.read(name), (("10.9.9.9", port),)) for name in names)
        return config.mk(
            AnnouncerDeps(
                env=self.env,
                metrics=self.metrics,
                report=self.report,
                shared=self.shared,
                announcements=announced,
            )
        )
