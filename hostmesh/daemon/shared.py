"""What outlives every reload: the loop, the clock, the metrics tree, the look-ups, and the tasks in progress."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Mapping
from fcntl import ioctl
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

import trio

from hostmesh.base.env import Env
from hostmesh.naming.namer import NamerDeps
from hostmesh.naming.path import Path
from hostmesh.naming.system import SystemNamer, SystemNamers
from hostmesh.pump.loop import Loop
from hostmesh.pump.pump import Pump
from hostmesh.registry.shared import Shared as Registry
from hostmesh.telemetry.metrics import MetricsTree

if TYPE_CHECKING:
    from hostmesh.daemon.certificates import Certificates

SYSTEM_GROUP = "hostmesh.system"
"""Entry points of namers below ``/$/``."""

SIOCGIFADDR = 0x8915
"""ioctl: the IPv4 address of an interface (linux/sockios.h)."""


class Shared:
    """One per process. ``report(event, facts)`` is one line in the log; ``report_error`` one with its traceback.

    ``warn`` and ``alarm`` are lines that somebody should read soon, or now. Without a ``loop`` it makes the pump.
    """

    def __init__(
        self,
        *,
        env: Env,
        report: Callable[[str, Mapping[str, Any]], None],
        report_error: Callable[[BaseException], None],
        warn: Callable[[str, Mapping[str, Any]], None] | None = None,
        alarm: Callable[[str, Mapping[str, Any]], None] | None = None,
        loop: Loop | None = None,
    ) -> None:
        self.env = env
        self.report = report
        self.warn = warn or report
        self.alarm = alarm or report
        self.report_error = report_error
        self.loop: Loop = Pump(env, report_error) if loop is None else loop
        self.turn = self.loop.turn
        self.metrics = MetricsTree()
        self.registry = Registry.make(self.turn, env, report, self.metrics.scope("registry"))
        self.files = self.registry.files
        self.resolver = self.registry.resolver
        self._certificates: Certificates | None = None
        self._system_points: dict[str, EntryPoint] | None = None
        self.system = SystemNamers(self.turn, self.resolver, self._system_namer)
        self._tasks: dict[int, tuple[object, trio.CancelScope, trio.Event]] = {}
        self._nursery: trio.Nursery | None = None

    def _system_namer(self, name: str) -> SystemNamer | None:
        """A plugin's namer for ``/$/<name>``; it costs nothing where no dtab names one."""
        if self._system_points is None:
            # All at once: the name may be any that a request's dtab has.
            self._system_points = {point.name: point for point in entry_points(group=SYSTEM_GROUP)}
        point = self._system_points.get(name)
        if point is None:
            return None
        deps = NamerDeps(
            env=self.env,
            turn=self.turn,
            prefix=Path.of("$", name),
            metrics=self.metrics.scope("namer", f"$/{name}"),
            resolver=self.resolver,
            report=self.report,
            shared=self.registry,
        )
        made: SystemNamer = point.load()(deps)
        return made

    @property
    def certificates(self) -> Certificates:
        """The files of TLS, watched; what does not speak TLS does not load it."""
        if self._certificates is None:
            from hostmesh.daemon.certificates import Certificates

            self._certificates = Certificates(self)
        return self._certificates

    @property
    def has_certificates(self) -> bool:
        """Whether :attr:`certificates` has been asked for."""
        return self._certificates is not None

    @property
    def pump(self) -> Pump:
        """The loop of a daemon; a virtual loop has no statistics and no guest."""
        assert isinstance(self.loop, Pump)
        return self.loop

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the registries' tasks and those of plugins that are started, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self.registry.run)
            task_status.started()
            await trio.sleep_forever()

    def start(self, plugin: object) -> None:
        """Give a plugin that has a ``run`` its task; nothing happens if it has none or runs already."""
        run = getattr(plugin, "run", None)
        if run is None or id(plugin) in self._tasks or self._nursery is None:
            return
        scope, ended = trio.CancelScope(), trio.Event()
        self._tasks[id(plugin)] = (plugin, scope, ended)
        self._nursery.start_soon(self._run_plugin, plugin, run, scope, ended)

    async def _run_plugin(
        self, plugin: object, run: Callable[[], Any], scope: trio.CancelScope, ended: trio.Event
    ) -> None:
        # A plugin that fails must not take the daemon with it: it is reported and started again, ever more slowly.
        delay = 0.1
        with scope:
            while True:
                try:
                    await run()
                    break
                except Exception as error:  # noqa: BLE001 - anybody's code; reported, and run again
                    self.report_error(error)
                await trio.sleep(delay)
                delay = min(delay * 2, 30.0)
        self._tasks.pop(id(plugin), None)
        ended.set()

    def stop(self, plugin: object) -> None:
        """Cancel a plugin's task."""
        entry = self._tasks.get(id(plugin))
        if entry is not None:
            entry[1].cancel()

    async def wait_stopped(self, plugin: object) -> None:
        """Until a plugin's task has ended; at once if it has none."""
        entry = self._tasks.get(id(plugin))
        if entry is not None:
            await entry[2].wait()


def local_ips() -> frozenset[str]:
    """The addresses of all interfaces that are up, loopback included, in canonical form."""
    found = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _index, name in socket.if_nameindex():
            try:
                answer = ioctl(probe.fileno(), SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue  # an interface without an IPv4 address
            found.add(socket.inet_ntoa(answer[20:24]))
    if os.path.exists("/proc/net/if_inet6"):
        with open("/proc/net/if_inet6", encoding="ascii") as table:
            for line in table:
                found.add(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line.split()[0])))
    return frozenset(found)
