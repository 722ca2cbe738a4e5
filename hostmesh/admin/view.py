"""What the admin pages may see of the daemon, and the three things they may do to it.

The daemon fills one :class:`View` and replaces its fields at a reload; every page reads the field when it is asked, so
no page keeps an object of a configuration that is gone. Everything here is called on the daemon's own thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeAlias

from attrs import define, field, frozen

if TYPE_CHECKING:
    from hostmesh.base.var import Var
    from hostmesh.naming.addr import Addr
    from hostmesh.naming.delegate import DelegateTree
    from hostmesh.naming.dtab import Dtab
    from hostmesh.naming.path import Path
    from hostmesh.protocol.h1_head import RequestHead
    from hostmesh.telemetry.metrics import MetricsTree


class Delegator(Protocol):
    """The part of an interpreter that explains names."""

    def delegation(self, dtab: Dtab, path: Path) -> Var[DelegateTree]:
        """All ways ``path`` could go under ``dtab`` alone, live while observed, ``pending`` while a namer is asked."""
        ...


@frozen
class Identified:
    """An identifier's answer: the dst path and the request's own dtab, both as text."""

    path: str
    dtab: str = ""


@frozen
class Unidentified:
    """An identifier's refusal; ``reason`` is for people."""

    reason: str


@frozen(kw_only=True)
class RouterView:
    """One router, as the pages need it."""

    label: str
    protocol: str
    """``http``, ``h2``: the config's word."""
    base_dtab: Callable[[], str]
    """The dtab that a name is bound under, as text; changes when the interpreter's file does."""
    interpreter: Delegator | None
    """None if this interpreter cannot show delegations."""
    identify: Callable[[RequestHead], Identified | Unidentified] | None
    """None for routers that do not identify HTTP/1.1 heads. May raise MeshError."""
    clients: Callable[[], Iterable[tuple[str, Addr]]]
    """Each client the router holds now: bound id and the state of its replica set."""
    interpreter_states: Callable[[], Mapping[str, Callable[[], object]]] = dict
    """JSON makers by page name: ``io.l5d.namerd/default`` is shown at
    ``/<label>/interpreter_state/io.l5d.namerd/default.json``."""


class NamerView(Protocol):
    """What any namer may offer; a namer without these methods is simply not shown."""

    def state(self) -> object:
        """JSON for ``/namer_state/<prefix>.json``."""
        ...

    def bound_names(self) -> list[Path]:
        """The bound ids that exist now."""
        ...


class EntryView(Protocol):
    """One line of a journal."""

    @property
    def name(self) -> str: ...

    def json(self) -> dict[str, object]: ...


class JournalView(Protocol):
    """What a namer's ``journal`` offers; the registry's ``Journal`` is one."""

    @property
    def size(self) -> int: ...

    def entries(self, name: str | None = None, after: int = 0) -> Iterable[EntryView]:
        """Those with a number above ``after``, oldest first."""
        ...


@frozen(kw_only=True)
class CertificateView:
    """One certificate, CA or revocation list that is in use, and how the file it came from does."""

    kind: str
    """``certificate``, ``ca`` or ``crl``."""
    file: str
    name: str
    serial: str | None
    """Lower case hex."""
    not_after: float
    """Seconds since the epoch."""
    days: float
    """Left of its life, below 0 after its end."""
    loaded: float
    """When it was read, in seconds since the epoch."""
    alarm: str | None
    """Why something older than the file is in use, or what is in use cannot serve."""
    notes: tuple[str, ...]
    """What works and should not be left so."""


@frozen
class Readiness:
    """Whether this host should be given new traffic."""

    ready: bool
    reason: str = ""
    """Why not, or a remark."""


PageBody: TypeAlias = "str | bytes | Iterable[str]"
"""An iterable is rendered in slices between which the data path runs."""

AdminRoute: TypeAlias = "Callable[[Mapping[str, str]], tuple[str, PageBody]]"
"""A telemeter's page: query parameters, and the request's ``Host`` as ``:host``, to media type and body. Telemeters and
admin do not import each other, hence plain values."""


@define(kw_only=True)
class View:
    """All of it. Mappings may be replaced or changed in place; callables must not block."""

    metrics: MetricsTree
    config_json: Callable[[], object]
    """The running configuration as plain data. Secrets are masked by the page, not here."""
    routers: Mapping[str, RouterView]
    """By label, in the order of the config."""
    namers: Mapping[str, object]
    """Objects that may be :class:`NamerView`, by prefix without ``/#/``: ``io.l5d.fs``."""
    log_levels: Callable[[], Mapping[str, str]]
    """Level by logger name; the root logger is called ``root``."""
    set_log_level: Callable[[str, str], None]
    """Raises ValueError, saying what exists, for an unknown logger or level."""
    shutdown: Callable[[], None]
    """Starts the drain and returns."""
    health: Callable[[], Readiness]
    admin_routes: Mapping[str, AdminRoute] = field(factory=dict)
    """Pages of telemeters by path."""
    journals: Mapping[str, JournalView] = field(factory=dict)
    """Journals besides those of the namers."""
    certificates: Callable[[], Iterable[CertificateView]] = tuple
    """What TLS shows and trusts; empty without TLS."""
    alarms: Callable[[], Iterable[str]] = tuple
    """What somebody should mend now, in a sentence each."""
    server_info: Callable[[], Mapping[str, object]] = dict
    """Version, start time, config file, Python: who is this."""
    loop: Callable[[], Mapping[str, float | int]] = dict
    """How the data path's loop does: lag, batches, pending timers."""
