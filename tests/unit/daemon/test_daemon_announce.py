"""Which servers are announced where, and for how long."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio
import trio.testing
from attrs import evolve, frozen

from hostmesh.config.load import load
from hostmesh.config.routers import HttpRouterConfig
from hostmesh.daemon.announce import Announcers
from hostmesh.daemon.shared import Shared
from hostmesh.naming.path import Path
from hostmesh.pump.memory import MemoryLoop, VirtualEnv
from hostmesh.registry.announcer import Announcement, AnnouncerConfig, AnnouncerDeps

ROUTER = """\
routers:
- protocol: http
  servers:
  - {port: 4140, ip: 10.0.0.1, announce: [/#/reg/web, /#/reg/prod/api, /#/other/x, /#/reg]}
  - {port: 0, ip: 0.0.0.0, announce: [/#/reg/web]}
"""


class Recorder:
    """An announcer that says when it runs and when it has been stopped."""

    def __init__(self, deps: AnnouncerDeps) -> None:
        self.deps = deps
        self.log: list[str] = []

    async def run(self) -> None:
        self.log.append("run")
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
                self.log.append("withdrawn")


@frozen(kw_only=True)
class RecorderConfig(AnnouncerConfig):
    """Its config."""

    def mk(self, deps: AnnouncerDeps) -> Recorder:
        return Recorder(deps)


LOCAL = frozenset({"127.0.0.1", "10.0.0.1", "10.0.0.2", "169.254.0.1", "::1", "2001:db8::1"})


def router(*announcers: AnnouncerConfig) -> HttpRouterConfig:
    config, report = load(ROUTER, "f")
    assert config is not None, report.mistake_lines()
    found = config.routers[0]
    assert isinstance(found, HttpRouterConfig)
    return evolve(found, announcers=announcers)


def where(ip: str, port: int) -> tuple[str, int]:
    """Port 0 became 5000."""
    return ip, port or 5000


def run(test: Callable[[Announcers, list[tuple[str, Any]]], Awaitable[None]]) -> None:
    reports: list[tuple[str, Any]] = []

    def report(event: str, facts: object) -> None:
        reports.append((event, facts))

    async def main() -> None:
        loop = MemoryLoop()
        shared = Shared(env=VirtualEnv(loop), report=report, report_error=lambda error: None, loop=loop)
        async with trio.open_nursery() as nursery:
            await nursery.start(shared.run)
            await test(Announcers(shared, lambda: LOCAL), reports)
            nursery.cancel_scope.cancel()

    trio.run(main)


def only(announcers: Announcers) -> Recorder:
    (found,) = announcers.running.values()
    assert isinstance(found, Recorder)
    return found


REG = RecorderConfig(kind="recorder", prefix=Path.of("reg"))


def test_names_below_the_prefix_are_announced_with_reachable_addresses() -> None:
    """The rest of each name, at the address that others can dial; a name that is the prefix itself is none."""

    async def test(announcers: Announcers, _reports: object) -> None:
        announcers.apply([router(REG)], where)

        assert only(announcers).deps.announcements == (
            Announcement(Path.of("web"), (("10.0.0.1", 4140),)),
            Announcement(Path.of("prod", "api"), (("10.0.0.1", 4140),)),
            Announcement(Path.of("web"), (("10.0.0.1", 5000), ("10.0.0.2", 5000))),
        )

    run(test)


def test_a_reload_keeps_those_that_announce_the_same() -> None:
    """The same announcements go on without a gap; others end what was and begin anew."""

    async def test(announcers: Announcers, _reports: object) -> None:
        announcers.apply([router(REG)], where)
        first = only(announcers)
        await trio.testing.wait_all_tasks_blocked()
        announcers.apply([router(REG)], where)
        assert only(announcers) is first
        announcers.apply([router(REG)], lambda ip, port: (ip, port or 6000))
        second = only(announcers)
        await trio.testing.wait_all_tasks_blocked()

        assert first.log == ["run", "withdrawn"]
        assert second.log == ["run"]

    run(test)


def test_withdrawal_is_waited_for() -> None:
    """When withdraw returns nothing is announced any more."""

    async def test(announcers: Announcers, _reports: object) -> None:
        announcers.apply([router(REG)], where)
        announcer = only(announcers)
        await trio.testing.wait_all_tasks_blocked()

        await announcers.withdraw()

        assert announcer.log == ["run", "withdrawn"]
        assert announcers.running == {}

    run(test)


def test_a_wildcard_without_interfaces_is_reported() -> None:
    """A server that nobody can reach is not announced, and the log says so."""

    async def test(announcers: Announcers, reports: list[tuple[str, Any]]) -> None:
        announcers._local = lambda: ["127.0.0.1"]
        announcers.apply([router(REG)], where)

        assert only(announcers).deps.announcements[2].addresses == ()
        assert [event for event, _facts in reports] == ["announcement.impossible"]

    run(test)
