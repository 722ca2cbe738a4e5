"""``hostmesh run``: the life of the daemon, from the configuration to the last connection."""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import trio

from hostmesh import __version__, core
from hostmesh.base.errors import ConfigError
from hostmesh.config.load import load, read_file
from hostmesh.config.model import LinkerConfig
from hostmesh.daemon.build import uses_tls
from hostmesh.daemon.linker import Linker
from hostmesh.daemon.logs import Logs
from hostmesh.daemon.observe import Observers
from hostmesh.daemon.process import notify, raise_descriptor_limit
from hostmesh.daemon.shared import Shared
from hostmesh.daemon.view import fill_view
from hostmesh.pump.clock import SystemEnv
from hostmesh.pump.listen import ListenOptions, open_listener
from hostmesh.registry.announcer import WITHDRAW_S

if TYPE_CHECKING:
    from hostmesh.base.var import Var
    from hostmesh.protocol.tls.contexts import ServerContexts

SWITCH_INTERVAL = 0.0005
"""Seconds after which CPython takes the GIL from a busy thread: at the default 5 ms one busy registry thread took
socket calls from 554,000 to 708 a second, at this to 258,000."""


GC_THRESHOLDS = (2000, 10, 20)
"""What lives from the start is frozen and cycles of the data path are broken where they end, so little is left to
collect. The middle generation is kept small (20,000 objects, some 2 ms) because it is collected while requests wait;
the full one, which was seen to stop the loop for 22 ms at 145,000 objects, comes after 400,000 more."""


SETTLED = 0.1
"""Seconds after the start from which pauses count: the batch that built the routers must be over."""


def main_run(file: str) -> int:
    """Run the configuration in ``file`` (``-`` is standard input) until a signal; the exit status.

    Raises ConfigError, for the command line to print, when it cannot be started.
    """
    name = "stdin" if file == "-" else file
    return run_config(checked(read_file(file), name), name, reloads=file != "-")


def run_config(
    config: LinkerConfig, file: str, *, reloads: bool = True, on_ready: Callable[[], object] | None = None
) -> int:
    """Run a checked configuration until a signal; the exit status.

    With ``reloads`` the file is followed. ``on_ready`` is called once, when the ports answer. Raises ConfigError.
    """
    with Base(config.seed) as base:
        daemon = Daemon(base, config, file, reloads=reloads, on_ready=on_ready)
        try:
            status: int = base.run(daemon.serve)
        except* ConfigError as group:
            raise ConfigError(config.located(str(flat(group)))) from None
    return status


def flat(group: BaseExceptionGroup[ConfigError]) -> ConfigError:
    """The one error that trio's nurseries have wrapped."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ConfigError)
    return error


def checked(text: str | bytes, file: str) -> LinkerConfig:
    """The configuration in ``text``; warnings are printed, mistakes raised as one ConfigError."""
    config, report = load(text, file)
    if config is None:
        raise ConfigError("\n".join(report.mistake_lines()))
    for line in report.warning_lines():
        print(line, file=sys.stderr)  # noqa: T201 - before the log is set up
    return config


class Base:
    """What stands before any configuration is applied: clock, log, loop. Use as a context manager."""

    def __init__(self, seed: int | None = None, *, quiet: bool = False) -> None:
        self.env = SystemEnv(seed)
        self.logs = Logs(self.env.now, level="WARNING" if quiet else "INFO")
        self.log = self.logs.logger("hostmesh")
        self.bugs = 0
        self.shared = Shared(
            env=self.env,
            report=self._report,
            report_error=self._report_error,
            warn=lambda event, facts: self.log.warning(event, **dict(facts)),
            alarm=lambda event, facts: self.log.error(event, **dict(facts)),
        )

    def __enter__(self) -> Base:
        return self

    def __exit__(self, *_exc: object) -> None:
        # Sessions that were cut tell their owners in a turn.
        self.shared.turn.run()
        self.shared.pump.close()
        self.logs.close()

    def run(self, main: Callable[[], Any]) -> Any:
        """Run the loop, with ``main`` as trio's main task, until it returns."""
        sys.setswitchinterval(SWITCH_INTERVAL)
        raise_descriptor_limit()
        # Keys and tokens are in memory (X7). A process that cannot be dumped at all (PR_SET_DUMPABLE) could not be
        # looked at by its own user either: /proc/PID/fd, py-spy.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        return self.shared.pump.run(main)

    def _report(self, event: str, facts: Mapping[str, Any]) -> None:
        self.log.info(event, **dict(facts))

    def _report_error(self, error: BaseException) -> None:
        self.bugs += 1
        self.log.error("bug", exc_info=error)


class Daemon:
    """One process."""

    def __init__(
        self,
        base: Base,
        config: LinkerConfig,
        file: str,
        *,
        reloads: bool,
        on_ready: Callable[[], object] | None = None,
    ) -> None:
        self.config = config
        self.file = file
        self.can_reload = reloads
        self.on_ready = on_ready
        self.env = base.env
        self.logs = base.logs
        self.log = base.log
        self.shared = base.shared
        self.linker = Linker(self.shared)
        self.observers = Observers(self.shared, self.logs, lambda: base.bugs)
        self.started = self.env.wall()
        self.stopping = trio.Event()
        self.admin_stop = trio.Event()
        self.admin_stopped = trio.Event()
        self._reloading = trio.Lock()
        # One thread: the next reload waits for what hangs in the one before, and fails as that did.
        self._fetching = trio.CapacityLimiter(1)
        self.reloads = 0
        self.reload_failures = 0
        scope = self.shared.metrics.scope("config")
        scope.gauge("reloads", lambda: self.reloads)
        scope.gauge("reload_failures", lambda: self.reload_failures)

    async def serve(self) -> int:
        """From opening sockets to the end of the drain, as the pump's guest; returns the exit status."""
        try:
            return await self._serve()
        finally:
            self.linker.close()

    async def _serve(self) -> int:
        admin = self.config.admin
        admin_socket = open_listener(admin.ip, admin.port, ListenOptions())
        identifier_socket = None
        if admin.http_identifier_port is not None:
            identifier_socket = open_listener(admin.ip, admin.http_identifier_port, ListenOptions())
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.shared.run)
                # Before admin: a port in use or a kind that cannot run must end the start, not follow it.
                self.observers.apply(self.config)
                warm = self.config.warm_start
                if warm is not None:
                    assert self.shared.registry.warm is not None
                    self.shared.registry.warm.open(warm.path, warm.max_age_hours * 3600.0)
                guard = self.config.registry_guard
                self.shared.registry.guard.open(
                    denied=map(ip_network, guard.deny_endpoints),
                    mass_hold_s=guard.mass_removal_ms / 1000,
                    mass_part=guard.mass_removal_percent / 100,
                )
                contexts = None
                if admin.tls is not None:
                    # A change of admin needs a restart, one of its files does not.
                    contexts = self.shared.certificates.pin(admin.tls, "admin.tls")
                self.linker.apply(self.config, self.observers.recorders)
                nursery.start_soon(self.observers.run)
                await nursery.start(self._serve_admin, admin_socket, identifier_socket, contexts)
                nursery.start_soon(self._signals, signals)
                if self.can_reload:
                    nursery.start_soon(self._watch_config)
                self._announce()
                gc.collect()
                gc.freeze()
                gc.set_threshold(*GC_THRESHOLDS)
                # Imports and the first configuration are not what anybody waits for.
                pump = self.shared.pump
                pump.call_at(pump.now() + SETTLED, self.observers.reset_pauses)
                await self.stopping.wait()
                await self._drain()
                # Admin last: whoever watches the drain sees its end.
                self.admin_stop.set()
                await self.admin_stopped.wait()
                nursery.cancel_scope.cancel()
        admin_socket.close()
        if identifier_socket is not None:
            identifier_socket.close()
        return 0

    def _announce(self) -> None:
        for (ip, port), (_listener, server) in self.linker.servers.items():
            self.log.info("serving", router=server.router.label, ip=ip, port=port)
            loopback = ip in ("127.0.0.1", "::1")
            if not loopback and not server.settings.clear_context:
                self.log.warning(
                    "l5d headers of any caller are trusted here; set clearContext: true on servers that face "
                    "callers outside the mesh",
                    ip=ip,
                    port=port,
                )
        changed = core.stale()
        if changed:
            self.log.warning(
                "these modules run as they were compiled and have changed since: make compiled, or make pure",
                modules=changed,
            )
        self.log.info(
            "started",
            version=__version__,
            core=core.kind(),
            config=self.file,
            admin=f"{self.config.admin.ip}:{self.config.admin.port}",
            seed=self.env.seed,
            pid=os.getpid(),
        )
        notify(b"READY=1")
        if self.on_ready is not None:
            self.on_ready()

    async def _serve_admin(
        self,
        sock: socket.socket,
        identifier: socket.socket | None,
        contexts: Var[ServerContexts] | None,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        from hostmesh.admin.serve import serve

        await serve(
            fill_view(self),
            self.config.admin,
            [sock],
            stop=self.admin_stop,
            identifier_sockets=[] if identifier is None else [identifier],
            tls=None if contexts is None else lambda: contexts.value,
            task_status=task_status,
        )
        self.admin_stopped.set()

    async def _signals(self, signals: Any) -> None:
        async for number in signals:
            if number == signal.SIGHUP:
                self.observers.reopen_logs()
                await self.reload("SIGHUP")
            elif self.stopping.is_set():
                self.log.warning("stopping at once", signal=signal.Signals(number).name)
                self.linker.close()
            else:
                self.log.info("stopping", signal=signal.Signals(number).name)
                self.stopping.set()

    def stop(self) -> None:
        """Begin the drain."""
        self.stopping.set()

    async def _drain(self) -> None:
        notify(b"STOPPING=1")
        grace = self.config.admin.shutdown_grace_ms / 1000
        with trio.move_on_after(min(grace, WITHDRAW_S + 0.5)):
            await self.linker.withdraw()
        self.linker.drain()
        with trio.move_on_after(grace):
            await self.linker.wait_drained()
        left = self.linker.pending
        if left:
            self.log.warning("drain deadline", cut=left, grace_ms=self.config.admin.shutdown_grace_ms)
        # While the logs still run: what is cut has lines of its own.
        self.linker.cut()
        self.log.info("stopped", cut=left)

    # -- reload ---------------------------------------------------------------------------------------------------

    async def _watch_config(self) -> None:
        """Follow the file: a change is applied when it is good and reported when it is not."""
        from hostmesh.base.var import Ok

        text = self.shared.files.text(self.file)
        changed = trio.Event()

        def tell(_state: object) -> None:
            changed.set()

        close = text.observe(tell)
        seen = read_file(self.file)
        try:
            while True:
                await changed.wait()
                changed = trio.Event()
                state = text.value
                if isinstance(state, Ok):
                    data = state.value.encode("utf-8", "surrogateescape")
                    if data != seen:
                        seen = data
                        await self.reload("file changed", data)
        finally:
            close()

    async def reload(self, why: str, data: bytes | None = None) -> bool:
        """Read the file again and switch to it; the old configuration stays when the new one is bad."""
        if not self.can_reload:
            self.log.warning("reload refused", why=why, cause="the configuration did not come from a file")
            return False
        async with self._reloading:
            return await self._reload(why, data)

    async def _reload(self, why: str, data: bytes | None) -> bool:
        config: LinkerConfig | None = None
        try:
            text = read_file(self.file) if data is None else data
            # A page of YAML takes 20 ms to read and check. On a thread it costs the data path half a millisecond here
            # and there (SWITCH_INTERVAL), here it would stop it.
            config, report = await trio.to_thread.run_sync(load, text, self.file)
            if config is None:
                raise ConfigError("\n".join(report.mistake_lines()))
            if uses_tls(config):
                # Only here: what does not speak TLS does not load it.
                from hostmesh.daemon.tls_places import fetch_on_thread

                self.shared.certificates.fetched = await fetch_on_thread(config, self._fetching)
            if self.stopping.is_set():
                return False
            recorders = self.observers.prepare(config)
            self.linker.apply(config, recorders)
            self.observers.commit()
        except ConfigError as error:
            self.reload_failures += 1
            self.observers.abandon()
            self.log.error(
                "reload refused, the old configuration stays",
                why=why,
                mistakes=(str(error) if config is None else config.located(str(error))).splitlines(),
            )
            return False
        finally:
            if self.shared.has_certificates:
                self.shared.certificates.fetched = {}
        for line in report.warning_lines():
            self.log.warning("config", message=line)
        if config.admin != self.config.admin:
            self.log.warning("a change of admin needs a restart", keys="admin")
        if config.warm_start != self.config.warm_start:
            self.log.warning("a change of warmStart needs a restart", keys="warmStart")
        if config.registry_guard != self.config.registry_guard:
            self.log.warning("a change of registryGuard needs a restart", keys="registryGuard")
        self.config = config
        self.reloads += 1
        self.log.info("reloaded", why=why, routers=list(self.linker.routers))
        return True
