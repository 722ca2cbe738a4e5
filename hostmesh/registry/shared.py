"""What all namers and interpreters of one daemon share: alarms, the file watch, the resolver."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import trio
from attrs import field, frozen

from hostmesh.naming.namer import Metrics
from hostmesh.registry.alarms import Alarms
from hostmesh.registry.files import FileWatch
from hostmesh.registry.guard import Guard
from hostmesh.registry.resolver import Resolver
from hostmesh.registry.tasks import Tasks
from hostmesh.registry.warm import WarmStart
from hostmesh.registry.watched import Report, no_report

if TYPE_CHECKING:
    from hostmesh.base.env import Env
    from hostmesh.base.var import Turn


@frozen
class Shared:
    """One per daemon, whatever the number of routers and reloads: watches and look-ups outlive a reload."""

    alarms: Alarms
    files: FileWatch
    resolver: Resolver
    clients: dict[Hashable, Any] = field(factory=dict, eq=False)
    """What namers and announcers of one registry have in common, a session or a limit, under a key that starts
    with the registry's name. Whoever adds counts its users, and removes it after the last."""
    tasks: Tasks = field(factory=Tasks, eq=False)
    """For watches that begin and end with the names they are for, whoever has asked for those."""
    warm: WarmStart | None = field(default=None, eq=False)
    """What was believed before the start; it knows nothing unless the daemon opens it."""
    guard: Guard = field(factory=Guard, eq=False)
    """What is not believed of any registry; it allows all unless the daemon opens it."""

    @classmethod
    def make(cls, turn: Turn, env: Env, report: Report = no_report, metrics: Metrics | None = None) -> Shared:
        """No I/O, no task. What alarms raise goes where ``turn`` sends its errors."""
        alarms = Alarms(env, on_error=turn.on_error)
        files = FileWatch(turn, env, alarms, report)
        resolver = Resolver(turn, env, alarms, report)
        if metrics is not None:
            scope = metrics.scope("files")
            scope.gauge("paths", lambda: len(files))
            scope.gauge("watches", lambda: files.watches)
            scope.gauge("looks", lambda: files.looks)
            scope = metrics.scope("resolver")
            scope.gauge("names", lambda: len(resolver))
            scope.gauge("lookups", lambda: resolver.lookups)
            scope.gauge("failures", lambda: resolver.failures)
            scope.gauge("timeouts", lambda: resolver.timeouts)
            scope.gauge("refused", lambda: resolver.refused)
        warm = WarmStart(env, report)
        if metrics is not None:
            scope = metrics.scope("warm_start")
            scope.gauge("names", lambda: len(warm))
            scope.gauge("restored", lambda: warm.restored)
        guard = Guard()
        if metrics is not None:
            scope = metrics.scope("guard")
            scope.gauge("denied_endpoints", lambda: guard.denied)
            scope.gauge("mass_removals", lambda: guard.mass_removals)
        return cls(alarms, files, resolver, tasks=Tasks(turn.on_error), warm=warm, guard=guard)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ring alarms, follow files and look names up until cancelled; started when changes are followed."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.alarms.run)
            nursery.start_soon(self.resolver.run)
            nursery.start_soon(self.tasks.run)
            if self.warm is not None:
                nursery.start_soon(self.warm.run)
            await nursery.start(self.files.run)
            task_status.started()
