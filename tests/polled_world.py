"""Any namer with the registry's shared parts, driven without a pump; see tests/fs_world.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path as FilePath
from typing import Any

import trio

from hostmesh.naming.namer import NamerConfig, NamerDeps
from tests.fs_world import World


class NamerWorld(World):
    """``run(test)`` as there, with the namer of ``config`` and its task."""

    def __init__(self, config: NamerConfig) -> None:
        super().__init__(FilePath("/nonexistent"))
        self.namer = config.mk(  # type: ignore[assignment]  # any namer
            NamerDeps(
                env=self.env,
                turn=self.turn,
                prefix=config.prefix_in_force,
                metrics=self.metrics.scope("namer"),
                resolver=self.shared.resolver,
                report=self.report,
                shared=self.shared,
            )
        )

    def report(self, event: str, facts: Mapping[str, object]) -> None:
        """Besides being kept, a report is something to wait for."""
        super().report(event, facts)
        self.turn.call_soon(lambda: None)

    def run(self, test: Callable[[Any], Awaitable[None]]) -> None:
        async def both(world: World) -> None:
            async with trio.open_nursery() as nursery:
                run = getattr(self.namer, "run", None)
                if run is not None:
                    nursery.start_soon(run)
                await test(world)
                nursery.cancel_scope.cancel()

        super().run(both)
