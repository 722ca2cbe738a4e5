"""Telemeters, logs of requests, process gauges: everything that watches and nothing that carries."""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import trio

from hostmesh import core
from hostmesh.config.model import LinkerConfig
from hostmesh.config.routers import H2RouterConfig
from hostmesh.config.tcp import TcpRouterConfig
from hostmesh.daemon.build import AnyHttpRouter, carried
from hostmesh.proxy.recorder import Recorder
from hostmesh.telemeters.access_log import AccessLog
from hostmesh.telemeters.canonical import CanonicalLog
from hostmesh.telemeters.telemeter import AdminRoute, TelemeterDeps
from hostmesh.telemetry.record import RecordSink

if TYPE_CHECKING:
    from hostmesh.daemon.logs import Logs
    from hostmesh.daemon.shared import Shared

MINUTE = 60.0
"""Seconds per histogram window (reference 9.1)."""


class Observers:
    """The telemeters of the configuration in force, and the recorders of its routers.

    A reload calls ``prepare``, then ``commit`` or ``abandon``. Telemeters and files whose configuration is the same
    are kept, with what they hold.
    """

    def __init__(self, shared: Shared, logs: Logs, bugs: Callable[[], int]) -> None:
        self.shared = shared
        self.logs = logs
        self.telemeters: dict[str, Any] = {}
        self.access_logs: dict[str, AccessLog] = {}
        self.canonical: dict[str, CanonicalLog] = {}
        self.recorders: dict[str, Any] = {}
        self._next: (
            tuple[dict[str, Any], dict[str, AccessLog], dict[str, CanonicalLog], dict[str, Any]] | None
        ) = None
        self._gc_worst = 0.0
        self._gc_start = 0.0
        gc.callbacks.append(self._gc_event)
        self._process_gauges(bugs)

    # -- configuration --------------------------------------------------------------------------------------------

    def apply(self, config: LinkerConfig) -> None:
        """The first configuration."""
        self.prepare(config)
        self.commit()

    def prepare(self, config: LinkerConfig) -> dict[str, Any]:
        """Build what ``config`` needs and return the recorder of each router; nothing changes yet."""
        shared = self.shared
        deps = TelemeterDeps(env=shared.env, metrics=shared.metrics, log=self.logs.logger)
        telemeters: dict[str, Any] = {}
        for entry in config.telemetry:
            key = repr(entry)
            telemeters[key] = self.telemeters.get(key) or entry.mk(deps)
        key = repr(config.access_log)
        canonical = {
            key: self.canonical.get(key)
            or CanonicalLog(deps, sample=config.access_log.sample, path=config.access_log.path)
        }
        access_logs: dict[str, AccessLog] = {}
        recorders: dict[str, Any] = {}
        shown = [sink for sink in telemeters.values() if hasattr(sink, "on_exchange")]
        for router in carried(config):
            sinks: list[RecordSink] = [*canonical.values(), *shown]
            access_log = None
            if not isinstance(router, TcpRouterConfig):
                access_log = self._access_log(access_logs, router, deps)
            if access_log is not None:
                sinks.append(access_log)
            recorders[router.name] = Recorder(router.name, shared.env, sinks)
        self._next = (telemeters, access_logs, canonical, recorders)
        return recorders

    def _access_log(
        self, made: dict[str, AccessLog], router: AnyHttpRouter, deps: TelemeterDeps
    ) -> AccessLog | None:
        h2 = isinstance(router, H2RouterConfig)
        if isinstance(router, H2RouterConfig):
            path, policy = router.h2_access_log, router.h2_access_log_roll_policy
            append, rotate = router.h2_access_log_append, router.h2_access_log_rotate_count
        else:
            path, policy = router.http_access_log, router.http_access_log_roll_policy
            append, rotate = router.http_access_log_append, router.http_access_log_rotate_count
        if path is None:
            return None
        key = repr((router.name, path, policy, append, rotate, h2))
        access_log = made.get(key) or self.access_logs.get(key)
        if access_log is None:
            access_log = AccessLog(
                deps, router.name, path, roll_policy=policy, append=append, rotate_count=rotate, h2=h2
            )
        made[key] = access_log
        return access_log

    def commit(self) -> None:
        """Switch: start what is new, stop what is gone."""
        assert self._next is not None
        old = [*self.telemeters.values(), *self.access_logs.values(), *self.canonical.values()]
        self.telemeters, self.access_logs, self.canonical, self.recorders = self._next
        self._next = None
        new = self.running()
        for plugin in new:
            self.shared.start(plugin)
        for plugin in old:
            if not any(plugin is other for other in new):
                self.shared.stop(plugin)

    def abandon(self) -> None:
        self._next = None

    def running(self) -> list[Any]:
        return [*self.telemeters.values(), *self.access_logs.values(), *self.canonical.values()]

    def admin_routes(self) -> Mapping[str, AdminRoute]:
        routes: dict[str, AdminRoute] = {}
        for telemeter in self.telemeters.values():
            routes.update(telemeter.admin_routes())
        return routes

    # -- work -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Tick the histograms once a minute, in steps between which the data path runs."""
        while True:
            await trio.sleep(MINUTE)
            for _ in self.shared.metrics.tick_steps():
                await trio.lowlevel.checkpoint()
            self.reset_pauses()

    def reset_pauses(self) -> None:
        """Begin a new window for the worst pauses of loop and collector."""
        self.shared.pump.take_worst_pause()
        self._gc_worst = 0.0

    def reopen_logs(self) -> None:
        """SIGHUP: for files under the roll policy ``sighup``, and for whoever moved the canonical log away."""
        for access_log in self.access_logs.values():
            access_log.reopen()
        for canonical in self.canonical.values():
            canonical.reopen()

    # -- the process ----------------------------------------------------------------------------------------------

    def _gc_event(self, phase: str, _info: Mapping[str, int]) -> None:
        if phase == "start":
            self._gc_start = time.perf_counter()
        else:
            self._gc_worst = max(self._gc_worst, time.perf_counter() - self._gc_start)

    def _process_gauges(self, bugs: Callable[[], int]) -> None:
        shared = self.shared
        pump = shared.pump
        scope = shared.metrics.scope("process")
        started = shared.env.now()
        scope.gauge("uptime_s", lambda: shared.env.now() - started)
        scope.gauge("rss_bytes", _resident)
        scope.gauge("cpu_s", _cpu_seconds)
        scope.gauge("descriptors", lambda: float(len(list(FilePath("/proc/self/fd").iterdir()))))
        scope.gauge("bugs", lambda: float(bugs()))
        compiled = core.kind() == "compiled"
        scope.gauge("compiled_core", lambda: float(compiled))
        loop = scope.scope("loop")
        loop.gauge("worst_pause_ms", lambda: pump.worst_pause * 1000)
        loop.gauge("batches", lambda: float(pump.batches))
        loop.gauge("events", lambda: float(pump.events))
        loop.gauge("busy_s", lambda: pump.busy)
        loop.gauge("timers", lambda: float(len(pump.wheel)))
        collector = scope.scope("gc")
        collector.gauge("worst_pause_ms", lambda: self._gc_worst * 1000)
        for generation in range(3):
            collector.gauge(f"collections_{generation}", partial(_collections, generation))


def _collections(generation: int) -> float:
    return float(gc.get_stats()[generation]["collections"])


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _resident() -> float:
    with open("/proc/self/statm", encoding="ascii") as table:
        return float(int(table.read().split()[1]) * resource.getpagesize())
