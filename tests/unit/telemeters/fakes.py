"""An Env and a log for telemeters: time that stands where it is put, and log lines in a list."""

from __future__ import annotations

import random
from typing import Any

from attrs import define, field

from hostmesh.telemeters.telemeter import TelemeterDeps
from hostmesh.telemetry.metrics import MetricsTree


@define
class StillEnv:
    """Time moves when a test moves it."""

    at: float = 0.0
    wall_at: float = 1_500_000_000.0

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        return self.wall_at

    def rng(self, name: str) -> random.Random:
        return random.Random(name)


@define
class ListLog:
    """Keeps (method, event, values)."""

    lines: list[tuple[str, str, dict[str, Any]]] = field(factory=list)

    def bind(self, **_values: Any) -> ListLog:
        return self

    def info(self, event: str, **values: Any) -> None:
        self.lines.append(("info", event, values))

    def warning(self, event: str, **values: Any) -> None:
        self.lines.append(("warning", event, values))

    def error(self, event: str, **values: Any) -> None:
        self.lines.append(("error", event, values))

    def exception(self, event: str, **values: Any) -> None:
        self.lines.append(("exception", event, values))


def deps(env: StillEnv | None = None, log: ListLog | None = None) -> TelemeterDeps:
    shared = log or ListLog()
    return TelemeterDeps(env=env or StillEnv(), metrics=MetricsTree(), log=lambda _name: shared)
