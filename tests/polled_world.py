"""Any namer with the registry's shared parts, driven without a pump; see tests/fs_world.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path as FilePath

from hostmesh.naming.namer import NamerConfig, NamerDeps
from tests.fs_world import World


class NamerWorld(World):
    """``run(test)`` as there, with the namer of ``config`` (whose ``run`` is the caller's to start)."""

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
