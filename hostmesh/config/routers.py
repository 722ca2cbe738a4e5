"""``routers``: one protocol, one dtab, one set of servers and clients (linkerd1.md 1.5 to 1.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, TypeAlias

from attrs import field, frozen

from hostmesh.base.plugin import PluginConfig
from hostmesh.config.convert import BAD, Bad, Converter
from hostmesh.config.policies import (
    ClientParams,
    H2ClientParams,
    H2ServiceParams,
    HttpClientParams,
    Policy,
    ServiceParams,
    policy_metadata,
)
from hostmesh.config.report import KeyPath, nearest, one_of
from hostmesh.config.servers import H2ServerConfig, HttpServerConfig, ListenerConfig
from hostmesh.config.shape import Bounds
from hostmesh.config.tree import Items, Node, Scalar, Table, is_null
from hostmesh.config.types import Count, Label, Positive, RollPolicy, Seconds, Timeout
from hostmesh.naming.dtab import Dtab
from hostmesh.naming.path import Path
from hostmesh.protocol.h2.engines import DEFAULT_ENGINE

if TYPE_CHECKING:
    from hostmesh.naming.interpreter import InterpreterConfig
    from hostmesh.routing.identifiers import IdentifierConfig

DEFAULT_DST_PREFIX: Final = Path.of("svc")

H2Engine: TypeAlias = Literal["lane", "library"]
"""What reads and writes HTTP/2; :mod:`hostmesh.protocol.h2.engines` knows them."""

_KB = Annotated[int, Bounds(1, 1 << 20, "of kilobytes")]


def read_identifiers(convert: Converter, node: Node, path: KeyPath) -> tuple[Any, ...] | Bad:
    """``identifier``: one object, or a list of them to be tried in order."""
    if isinstance(node, Items):
        if not node.items:
            return convert.bad(node, path, "at least one identifier")
        several: tuple[Any, ...] | Bad = convert.plugins("identifier", node, path)
        return several
    one = convert.plugin(
        "identifier", node, path, default_kind="io.l5d.header.token" if is_null(node) else None
    )
    return BAD if one is BAD else (one,)


PROPAGATORS: Final = ("io.l5d.default", "io.l5d.zipkin")
"""Kinds of ``tracePropagator``: linkerd's own headers, or B3."""


def read_propagator(convert: Converter, node: Node, path: KeyPath) -> str | Bad:
    """``tracePropagator``: ``{kind: ...}``, or the kind alone."""
    if isinstance(node, Table):
        for key, entry in node.entries.items():
            if key not in ("kind", "experimental"):
                convert.report.mistake(
                    entry.line, (*path, key), f"found the unknown key {key!r}, expected 'kind'"
                )
        kind = node.get("kind")
        if kind is None:
            return convert.bad(node, (*path, "kind"), one_of(PROPAGATORS, None).removeprefix("expected "))
        node, path = kind, (*path, "kind")
    if isinstance(node, Scalar):
        for known in PROPAGATORS:
            if node.text in (known, known.removeprefix("io.l5d.")):
                return known
    near = nearest(node.text, PROPAGATORS) if isinstance(node, Scalar) else None
    return convert.bad(node, path, one_of(PROPAGATORS, near).removeprefix("expected "))


@frozen(kw_only=True)
class BindingCacheConfig:
    """How many names a router remembers."""

    paths: Positive = 1000
    """Most dst paths."""
    trees: Positive = 1000
    """Most name trees."""
    bounds: Positive = 1000
    """Most bound names with residuals."""
    clients: Positive = 1000
    """Most bound names, each with its balancer and connections."""
    idle_ttl_secs: Seconds = 600
    """Seconds after which an entry that was not used is dropped."""


@frozen(kw_only=True)
class RouterConfig(PluginConfig):
    """What routers of all protocols take. ``kind`` is the ``protocol``."""

    place: ClassVar[str] = "router"

    servers: tuple[ListenerConfig, ...] = ()
    """Where callers connect, at least one."""
    service: Policy[Any] = field(metadata=policy_metadata(ServiceParams))
    """Policy of logical destinations; kinds ``io.l5d.global``, ``io.l5d.static``."""
    client: Policy[Any] = field(metadata=policy_metadata(ClientParams))
    """Policy of bound names; kinds ``io.l5d.global``, ``io.l5d.static``."""
    dtab: Dtab = Dtab.EMPTY
    """The base dtab. Default: empty."""
    label: Label | None = None
    """The name in metrics and pages. Default: the protocol."""
    dst_prefix: Path = DEFAULT_DST_PREFIX
    """What identifiers put in front of a name. Default: ``/svc``."""
    interpreter: InterpreterConfig | None = field(
        default=None, metadata={"slot": "interpreter", "default_kind": "default"}
    )
    """Who binds names. Default: the configured namers."""
    originator: bool = False
    """``true`` marks the first router of a chain, so that its statistics are not counted twice."""
    announcers: tuple[Any, ...] = field(default=(), metadata={"slot": "announcer"})
    """Where servers are announced."""
    binding_timeout_ms: Timeout = 10_000
    """Milliseconds for a name to become bound; 503 after it."""
    binding_cache: BindingCacheConfig = BindingCacheConfig()
    """How many names are remembered."""

    @property
    def protocol(self) -> str:
        """``http``, ``h2``, ..."""
        return self.kind

    @property
    def name(self) -> str:
        """The label in force."""
        return self.label or self.kind


@frozen(kw_only=True)
class HttpRouterConfig(RouterConfig):
    """HTTP/1.1."""

    servers: tuple[HttpServerConfig, ...] = ()
    """Where callers connect, at least one."""
    service: Policy[ServiceParams] = field(metadata=policy_metadata(ServiceParams))
    """Policy of logical destinations; kinds ``io.l5d.global``, ``io.l5d.static``."""
    client: Policy[HttpClientParams] = field(metadata=policy_metadata(HttpClientParams))
    """Policy of bound names; kinds ``io.l5d.global``, ``io.l5d.static``."""
    identifier: tuple[IdentifierConfig, ...] = field(
        metadata={
            "read": read_identifiers,
            "default_kind": "io.l5d.header.token",
            "expected": "an identifier",
        }
    )
    """How a request gets its name: one, or a list tried in order. Default: ``io.l5d.header.token`` on ``Host``."""
    http_access_log: str | None = None
    """File for access lines. Default: none."""
    http_access_log_roll_policy: RollPolicy = "never"
    """When to start a new file: never, hourly, daily, sighup, weekly(1..7), or a size such as 3.megabytes."""
    http_access_log_append: bool = True
    """``false`` empties the file at start."""
    http_access_log_rotate_count: Annotated[int, Bounds(-1, 1_000_000)] = -1
    """Old files to keep; -1 keeps all."""
    stream_after_content_length_kb: Count = field(default=5, metadata={"key": "streamAfterContentLengthKB"})
    """Kilobytes up to which a body is held, so that it can be sent again; longer ones and those of unknown length are
    streamed and never retried."""
    max_headers_kb: _KB = field(default=8, metadata={"key": "maxHeadersKB"})
    """Kilobytes of an HTTP/1.1 request's headers; 431 above. In HTTP/2 64, see also ``h2Budgets``."""
    max_initial_line_kb: _KB = field(default=4, metadata={"key": "maxInitialLineKB"})
    """Kilobytes of a request line; 414 above."""
    max_err_response_kb: _KB = field(default=5120, metadata={"key": "maxErrResponseKB"})
    """Kilobytes of the body of an answer made here."""
    streaming_enabled: bool = True
    """``false`` holds every message until it is complete."""
    compression_level: Annotated[int, Bounds(-1, 9)] = -1
    """gzip or deflate responses for callers that accept it: 0 never, 1 to 9 the level. The default -1 passes bodies
    through, where Linkerd 1 compressed text: a proxy on each host would compress twice."""
    trace_propagator: str = field(
        default="io.l5d.default", metadata={"read": read_propagator, "expected": "a tracePropagator"}
    )
    """Which headers carry the trace: ``io.l5d.default`` (``l5d-ctx-trace``) or ``io.l5d.zipkin`` (B3)."""
    h2_engine: H2Engine = DEFAULT_ENGINE
    """*hostmesh* What reads and writes HTTP/2, to callers and endpoints: ``library`` is the h2 package, ``lane`` our
    own engine, several times faster. They decide alike."""


@frozen(kw_only=True)
class H2RouterConfig(RouterConfig):
    """HTTP/2 and gRPC."""

    servers: tuple[H2ServerConfig, ...] = ()
    """Where callers connect, at least one."""
    service: Policy[H2ServiceParams] = field(metadata=policy_metadata(H2ServiceParams))
    """Policy of logical destinations; kinds ``io.l5d.global``, ``io.l5d.static``."""
    client: Policy[H2ClientParams] = field(metadata=policy_metadata(H2ClientParams))
    """Policy of bound names; kinds ``io.l5d.global``, ``io.l5d.static``."""
    identifier: tuple[IdentifierConfig, ...] = field(
        metadata={
            "read": read_identifiers,
            "default_kind": "io.l5d.header.token",
            "expected": "an identifier",
        }
    )
    """How a request gets its name. Default: ``io.l5d.header.token`` on ``:authority``."""
    h2_access_log: str | None = None
    """File for access lines. Default: none."""
    h2_access_log_roll_policy: RollPolicy = "never"
    """When to start a new file, as for http."""
    h2_access_log_append: bool = True
    """``false`` empties the file at start."""
    h2_access_log_rotate_count: Annotated[int, Bounds(-1, 1_000_000)] = -1
    """Old files to keep; -1 keeps all."""
    trace_propagator: str = field(
        default="io.l5d.default", metadata={"read": read_propagator, "expected": "a tracePropagator"}
    )
    """Which headers carry the trace."""
    h2_engine: H2Engine = DEFAULT_ENGINE
    """*hostmesh* What reads and writes HTTP/2: ``library`` is the h2 package, ``lane`` our own engine, several times
    faster. They decide alike."""
