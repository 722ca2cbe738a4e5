"""What an announcer is: it puts the addresses of our own servers into a registry, for as long as it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

from attrs import frozen

from hostmesh.base.env import Env
from hostmesh.base.plugin import PluginConfig
from hostmesh.naming.namer import Metrics
from hostmesh.naming.path import Path
from hostmesh.registry.shared import Shared

WITHDRAW_S = 2.0
"""Seconds that a cancelled announcer may take to tell its registry: a drain waits for it, and a registry that
is gone must not hold up the end of the daemon. What it could not take back ends with its session or check."""


@frozen
class Announcement:
    """One server under one name."""

    name: Path
    """What follows the announcer's prefix: ``/#/io.l5d.serversets/prod/web`` is announced as ``/prod/web``."""
    addresses: tuple[tuple[str, int], ...]
    """Where the server can be reached: numeric IP addresses and ports, never a wildcard."""


@frozen(kw_only=True)
class AnnouncerDeps:
    """What ``AnnouncerConfig.mk`` may build on."""

    env: Env
    metrics: Metrics
    report: Callable[[str, Mapping[str, Any]], None]
    """One line in the log."""
    shared: Shared
    """The daemon's alarms, look-ups and registry clients."""
    announcements: tuple[Announcement, ...]
    """All that this announcer has to announce; a reload that changes them makes a new announcer."""


class Announcer(Protocol):
    """Announces while it runs."""

    async def run(self) -> None:
        """Keep every announcement in the registry until cancelled; reconnect for ever.

        When cancelled it takes the announcements back, shielded, within ``WITHDRAW_S``. A registry that cannot be
        reached is reported and tried again, never raised.
        """
        ...


@frozen(kw_only=True)
class AnnouncerConfig(PluginConfig):
    """The base of every announcer's config class."""

    slot: ClassVar[str] = "announcer"

    prefix: Path | None = None
    """What its ``announce`` names start with, after ``/#``. Default: the kind, as in ``/io.l5d.serversets``."""

    @property
    def prefix_in_force(self) -> Path:
        """The configured prefix, or the kind's own."""
        return Path.of(self.kind) if self.prefix is None else self.prefix

    def mk(self, deps: AnnouncerDeps) -> Announcer:
        """The announcer. No I/O, no task: those belong to ``run``."""
        raise NotImplementedError(f"{self.kind}: {self.unavailable or 'has no mk()'}")
