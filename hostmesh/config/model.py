"""The whole file: :class:`LinkerConfig` (linkerd1.md 1.2, 1.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from attrs import field, frozen

from hostmesh.config.routers import RouterConfig
from hostmesh.config.shape import Bounds
from hostmesh.config.sockets import SocketOptions
from hostmesh.config.tls import ServerTlsConfig
from hostmesh.config.types import (
    LOOPBACK,
    Count,
    Ip,
    ListenPort,
    Millis,
    Network,
    Positive,
    Ratio,
    Regex,
    canonical_ip,
)

if TYPE_CHECKING:
    from hostmesh.naming.namer import NamerConfig

EXTENSION = {"extension": True}
"""Metadata of a key that Linkerd 1 does not have."""


@frozen(kw_only=True)
class SecurityConfig:
    """Which admin pages are served. A refused page is a plain 404."""

    ui_enabled: bool = True
    """The dashboard: ``/``, ``/files``, ``/config.json``, ``/metrics.json``, ``/admin/metrics*``, ``/delegator*``,
    ``/logging``, ``/help``."""
    control_enabled: bool = True
    """What changes something: ``/admin/shutdown``, ``/logging.json``."""
    diagnostics_enabled: bool = True
    """Everything else."""
    path_whitelist: tuple[Regex, ...] = ()
    """Regular expressions of whole paths that are served although their category is off."""
    path_blacklist: tuple[Regex, ...] = ()
    """Regular expressions of whole paths that are refused; wins over everything."""


@frozen(kw_only=True)
class AdminConfig:
    """The admin interface."""

    place: ClassVar[str] = "admin"

    ip: Ip = field(default=LOOPBACK, converter=canonical_ip)
    """Address to listen on. Default: loopback."""
    port: ListenPort = 9990
    """Port to listen on; 0 lets the system choose."""
    socket_options: SocketOptions = field(factory=SocketOptions)
    """Options of its connections."""
    tls: ServerTlsConfig | None = None
    """Default: plain text. Files are followed; a change of the keys needs a restart."""
    shutdown_grace_ms: Millis = 10_000
    """Milliseconds that requests in flight have to end after a signal to stop."""
    worker_threads: Positive = 2
    """Accepted for old files: pages are rendered on one thread beside the data path."""
    http_identifier_port: ListenPort | None = None
    """A port that answers every request with what each router's identifier makes of it, over TLS like the
    pages. Default: none."""
    security: SecurityConfig = SecurityConfig()
    """Which pages are served. Default: all."""


@frozen(kw_only=True)
class UsageConfig:
    """Accepted for old files. hostmesh never phones home."""

    org_id: str | None = None
    """Ignored."""
    enabled: bool = True
    """Ignored."""


@frozen(kw_only=True)
class AccessLogConfig:
    """The canonical line: one JSON object per exchange."""

    sample: Ratio = 0.01
    """Part of the successful exchanges that are logged; failures all are. Default 1 %: a line costs a third of what a
    request costs."""
    path: str | None = None
    """File to write to. Default: standard output."""


@frozen(kw_only=True)
class WarmStartConfig:
    """What is believed of names, kept in a file, so that a host that starts during an outage of its registry routes."""

    path: str
    """The file, in a folder that hostmesh may write to. It must belong to root or to hostmesh's user and be writable
    by nobody else."""
    max_age_hours: Positive = 24
    """What was confirmed longer ago is not believed."""


@frozen(kw_only=True)
class RegistryGuardConfig:
    """What is not believed of any registry, whatever it says."""

    deny_endpoints: tuple[Network, ...] = ()
    """Networks whose addresses are no endpoints, such as ``10.1.0.0/16``: filtered out of every namer's answers and
    counted. Link-local, multicast and cloud metadata addresses are refused in any case. Default: none."""
    mass_removal_ms: Millis = 0
    """Milliseconds for which endpoints go on being believed when most of a replica set is removed at once, instead of
    ``holdMs``; endpoints that are really gone are kept away by failure accrual meanwhile. For sets of three and
    more. Default 0: removals are believed after ``holdMs`` however many."""
    mass_removal_percent: Annotated[int, Bounds(1, 99)] = 50
    """More than this part of a set is most of it."""


@frozen(kw_only=True)
class LinkerConfig:
    """The whole configured daemon."""

    place: ClassVar[str] = "linker"

    admin: AdminConfig = AdminConfig()
    """The admin interface."""
    routers: tuple[RouterConfig, ...] = field(default=(), metadata={"slot": "protocol"})
    """At least one."""
    namers: tuple[NamerConfig, ...] = field(default=(), metadata={"slot": "namer"})
    """Where names come from. Of overlapping prefixes the *later* entry is asked first."""
    telemetry: tuple[Any, ...] = field(default=(), metadata={"slot": "telemeter"})
    """Who exports metrics and traces."""
    usage: UsageConfig | None = None
    """Accepted and ignored."""
    plugins: tuple[str, ...] = field(default=(), metadata=EXTENSION)
    """``.py`` files with plugins of your own (docs/namers.md), relative to this file's folder. They run with the rights
    of hostmesh, also under ``hostmesh check``, and must belong to root or its user and be writable by nobody else."""
    access_log: AccessLogConfig = field(default=AccessLogConfig(), metadata=EXTENSION)
    """The canonical line of each exchange."""
    warm_start: WarmStartConfig | None = field(default=None, metadata=EXTENSION)
    """A cache file of names. Default: none, and names are Failed until their registry has answered. A change needs a
    restart."""
    registry_guard: RegistryGuardConfig = field(default=RegistryGuardConfig(), metadata=EXTENSION)
    """Limits of the trust in registries. A change needs a restart."""
    seed: Count | None = field(default=None, metadata=EXTENSION)
    """Seed of all random choices, for tests and simulations. Default: the system's randomness."""

    file: str = field(default="", metadata={"internal": True}, eq=False)
    """Where it was read from."""
    unavailable_lines: tuple[str, ...] = field(default=(), metadata={"internal": True}, eq=False)
    """What parses and cannot run in this version, each ``file:line: key: ...``."""
    lines: Mapping[str, int] = field(factory=dict, metadata={"internal": True}, eq=False, repr=False)
    """Where the keys stand that name files of TLS."""

    def located(self, text: str) -> str:
        """Each line of ``text`` that begins with a key of :attr:`lines`, with file and line in front of it."""
        said = []
        for each in text.splitlines():
            key = each.partition(": ")[0]
            # Of a list its key is known, not each item.
            line = self.lines.get(key, self.lines.get(key.rpartition("[")[0]))
            said.append(each if line is None else f"{self.file}:{line}: {each}")
        return "\n".join(said)


def unavailable(config: LinkerConfig) -> list[str]:
    """Why this configuration cannot be run, one line for each kind or key; empty when it can."""
    return list(config.unavailable_lines)
