"""The ``service`` and ``client`` blocks: one set of parameters, or several by prefix (linkerd1.md 1.9, 6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Generic, Literal, TypeAlias, TypeVar

import attrs
from attrs import field, frozen

from hostmesh.config.convert import BAD, Bad, Converter
from hostmesh.config.h2_budgets import H2BudgetsConfig
from hostmesh.config.registry import KIND_PREFIX
from hostmesh.config.report import KeyPath, Report, nearest, one_of
from hostmesh.config.shape import Bounds, fields_of
from hostmesh.config.sockets import SocketOptions
from hostmesh.config.tls import ClientTlsConfig
from hostmesh.config.tree import Items, Node, Scalar, Table, found, is_null, line_at, node_of
from hostmesh.config.types import Count, PathMatcher, Positive, Ratio, Timeout
from hostmesh.naming.matcher import Matcher, variables_of

if TYPE_CHECKING:
    from hostmesh.base.backoff import BackoffConfig
    from hostmesh.routing.accrual import AccrualConfig
    from hostmesh.routing.balancers import BalancerConfig
    from hostmesh.routing.classifiers import ClassifierConfig

GLOBAL: Final = "io.l5d.global"
STATIC: Final = "io.l5d.static"

P = TypeVar("P", bound=attrs.AttrsInstance)

EndpointProtocol: TypeAlias = Literal["http", "h2"]
"""What endpoints are spoken to in."""


@frozen(kw_only=True)
class BudgetConfig:
    """How many retries a flow of requests pays for."""

    min_retries_per_sec: Count = 10
    """Retries per second that are always allowed, so that a quiet service can retry at all."""
    percent_can_retry: Annotated[float, Bounds(0, 1000)] = 0.2
    """Retries per request, as a fraction: 0.2 is one retry for five requests."""
    ttl_secs: Annotated[int, Bounds(1, 60, "of seconds")] = 10
    """Seconds for which a request counts."""


@frozen(kw_only=True)
class RetriesConfig:
    """Retries of responses that were classified as retryable failures."""

    budget: BudgetConfig = BudgetConfig()
    """The limit; there is no largest number of retries per request."""
    backoff: BackoffConfig | None = field(
        default=None, metadata={"slot": "backoff", "default_kind": "constant"}
    )
    """The wait before each retry. Default: constant, 0 ms."""


@frozen(kw_only=True)
class ServiceParams:
    """Policy of a logical destination. None is "not set here"."""

    place: ClassVar[str] = "service"

    total_timeout_ms: Timeout | None = None
    """Milliseconds for a request with all its attempts and waits; 503 after it. Default: none."""
    retries: RetriesConfig | None = field(default=None, metadata={"fill": {}})
    """Default: a budget of 20 % and at least 10 per second, no wait."""
    response_classifier: ClassifierConfig | None = field(
        default=None, metadata={"slot": "classifier", "fill": {"kind": "io.l5d.http.nonRetryable5XX"}}
    )
    """What is a failure and what may be retried. Default: ``io.l5d.http.nonRetryable5XX``."""


@frozen(kw_only=True)
class RetryBufferSize:
    """How much of a stream is kept for a retry."""

    request_bytes: Count = 16383
    """Bytes of a request body; a longer one is not retried."""
    response_bytes: Count = 16383
    """Bytes of a response held back while it is not classified yet."""


@frozen(kw_only=True)
class H2ServiceParams(ServiceParams):
    """Policy of a logical destination of an h2 router."""

    response_classifier: ClassifierConfig | None = field(
        default=None, metadata={"slot": "classifier", "fill": {"kind": "io.l5d.h2.nonRetryable5XX"}}
    )
    """What is a failure and what may be retried. Default: ``io.l5d.h2.nonRetryable5XX``."""
    classification_timeout_ms: Timeout | None = field(default=None, metadata={"fill": 100})
    """Milliseconds to wait for the end of a response before it is passed on unretried. Default: 100."""
    retry_buffer_size: RetryBufferSize | None = field(default=None, metadata={"fill": {}})
    """Default: 16383 bytes each way."""


@frozen(kw_only=True)
class HostConnectionPool:
    """Connections to one endpoint."""

    min_size: Count = 0
    """Connections that stay open however idle."""
    max_size: Positive | None = None
    """Most connections. Default: unlimited. Requests above it wait."""
    idle_time_ms: Timeout | None = None
    """Milliseconds after which an idle connection above ``minSize`` is closed. Default: ``clientSession`` decides."""
    max_waiters: Count | None = None
    """Most requests that wait for a connection; further ones fail at once. Default: unlimited."""

    def check(self) -> list[str]:
        if self.max_size is not None and self.min_size > self.max_size:
            return [f"minSize: found {self.min_size}, expected at most maxSize, which is {self.max_size}"]
        return []


@frozen(kw_only=True)
class ClientSession:
    """Life of a connection to an endpoint."""

    idle_time_ms: Timeout | None = 30_000
    """Milliseconds after which an idle connection is closed. Default 30 s, where Linkerd 1 had none: endpoints close
    idle connections without telling, and a request that meets such a one fails or has to be repeated."""
    life_time_ms: Timeout | None = None
    """Milliseconds after which a connection is closed when it is next idle. Default: none."""


@frozen(kw_only=True)
class ClientParams:
    """Policy and machinery of a bound name. None is "not set here"."""

    place: ClassVar[str] = "client"

    load_balancer: BalancerConfig | None = field(
        default=None, metadata={"slot": "balancer", "fill": {"kind": "p2c"}}
    )
    """Default: ``p2c``."""
    failure_accrual: AccrualConfig | None = field(
        default=None,
        metadata={"slot": "accrual", "fill": {"kind": "io.l5d.consecutiveFailures", "failures": 5}},
    )
    """Default: 5 consecutive failures, probed after 5 s to 300 s."""
    request_attempt_timeout_ms: Timeout | None = None
    """Milliseconds for one attempt, until the response head; 503 or a retry after it. Default: none."""
    requeue_budget: BudgetConfig | None = field(default=None, metadata={"fill": {}})
    """Repeats of requests that were never sent. Default: 20 % and at least 10 per second."""
    fail_fast: bool | None = field(default=None, metadata={"fill": False})
    """``true`` sets an endpoint aside at a failed connect and dials it again after 1 s to 32 s. Default: false."""
    tls: ClientTlsConfig | None = None
    """Default: plain text."""
    client_session: ClientSession | None = field(default=None, metadata={"fill": {}})
    """Default: idle connections are closed after 30 s."""
    socket_options: SocketOptions | None = field(default=None, metadata={"fill": {}})
    """Default: those of ``socketOptions``."""
    forward_client_cert: bool | None = field(default=None, metadata={"fill": False})
    """``true`` describes the caller's certificate in ``x-forwarded-client-cert``. Default: false."""
    request_authorizers: tuple[object, ...] = field(
        default=(), metadata={"read": lambda convert, node, path: _no_authorizers(convert, node, path)}
    )
    """Accepted when empty: the only kind there was went with Istio 0.x."""


@frozen(kw_only=True)
class H2SettingsParams(ClientParams):
    """What our side of an HTTP/2 connection to an endpoint declares."""

    window_update_ratio: Ratio | None = field(default=None, metadata={"fill": 0.99})
    """HTTP/2: a window is filled again once less than this part of it is left, and an eighth is used. Default: 0.99."""
    header_table_bytes: Count | None = None
    """HTTP/2: SETTINGS_HEADER_TABLE_SIZE. Default: the protocol's 4096."""
    max_header_list_bytes: Positive | None = None
    """HTTP/2: SETTINGS_MAX_HEADER_LIST_SIZE. Default: 65536, which bounds what a response may make us hold."""
    initial_stream_window_bytes: Annotated[int, Bounds(1, 2**31 - 1, "of bytes")] | None = None
    """HTTP/2: SETTINGS_INITIAL_WINDOW_SIZE. Default: the protocol's 65535."""
    max_frame_bytes: Annotated[int, Bounds(16384, 2**24 - 1, "of bytes")] | None = None
    """HTTP/2: SETTINGS_MAX_FRAME_SIZE. Default: the protocol's 16384."""
    h2_budgets: H2BudgetsConfig | None = field(default=None, metadata={"fill": {}})
    """*hostmesh*: what one HTTP/2 connection to an endpoint may cost."""


@frozen(kw_only=True)
class HttpClientParams(H2SettingsParams):
    """Policy and machinery of a bound name of an http router."""

    protocol: EndpointProtocol | None = field(default=None, metadata={"fill": "http"})
    """*hostmesh*: ``h2`` speaks HTTP/2 to the endpoints (prior knowledge), whatever callers speak. Default: ``http``,
    which is HTTP/1.1."""
    host_connection_pool: HostConnectionPool | None = field(default=None, metadata={"fill": {}})
    """Connections per endpoint. Default: as many as requests are in flight; in HTTP/2 one, and more, at most 32, only
    while it takes no more requests."""


@frozen(kw_only=True)
class H2ClientParams(H2SettingsParams):
    """Policy and machinery of a bound name of an h2 router."""

    protocol: EndpointProtocol | None = field(default=None, metadata={"fill": "h2"})
    """*hostmesh*: ``http`` speaks HTTP/1.1 to the endpoints. Default: ``h2``."""
    host_connection_pool: HostConnectionPool | None = None
    """Bounds of the connections to one endpoint, where Linkerd 1 ignores it. Default: one connection, and more, at
    most 32, only while it takes no more requests; in HTTP/1.1 as many as requests are in flight."""


@frozen
class PrefixParams(Generic[P]):
    """Parameters for the names that a prefix matcher (linkerd1.md 1.9) matches."""

    prefix: str
    params: P


@frozen
class Policy(Generic[P]):
    """A ``service`` or ``client`` block.

    For each name, merge the parameters of *every* entry of ``configs`` whose prefix matches, in order, over
    ``defaults``: :meth:`effective`. The kind ``io.l5d.global`` is one entry with the prefix ``/``.
    """

    configs: tuple[PrefixParams[P], ...]
    kind: str
    defaults: P
    """Every parameter that has a default, set."""

    def effective(self, matching: Iterable[P]) -> P:
        """Later parameters win over earlier ones, each as a whole; what none sets has its default."""
        return merged(self.defaults, matching)


def merged(base: P, layers: Iterable[P]) -> P:
    """``base`` overridden parameter by parameter by what each layer sets."""
    changes: dict[str, Any] = {}
    for layer in layers:
        for attribute in attrs.fields(type(layer)):
            value = getattr(layer, attribute.name)
            if value is not None:
                changes[attribute.alias] = value
    return attrs.evolve(base, **changes) if changes else base  # type: ignore[misc]  # P is bound to attrs classes


def policy_metadata(params: type[attrs.AttrsInstance]) -> dict[str, Any]:
    """The metadata of a ``service`` or ``client`` field whose parameters are ``params``."""
    return {"read": read_policy(params), "default_kind": GLOBAL, "expected": "a mapping", "params": params}


def read_policy(params: type[P]) -> Callable[[Converter, Node, KeyPath], Policy[P] | Bad]:
    """The reader of a ``service`` or ``client`` key whose parameters are ``params``."""

    def read(convert: Converter, node: Node, path: KeyPath) -> Policy[P] | Bad:
        if is_null(node):
            node = Table(node.line, 1, {})
        if not isinstance(node, Table):
            return convert.bad(node, path, "a mapping")
        kind = _policy_kind(convert, node, path)
        if kind == STATIC:
            configs = _read_static(convert, node, path, params)
        else:
            value = convert.table(params, node, path, skip=("kind",))
            configs = () if value is BAD else (PrefixParams("/", value),)
        return Policy(configs, kind, _defaults(convert, params))

    return read


def _policy_kind(convert: Converter, table: Table, path: KeyPath) -> str:
    """The kind, or after a mistake the one that the block looks like, so that the rest is checked too."""
    node = table.get("kind")
    if node is None or is_null(node):
        if "configs" in table.entries:
            convert.report.mistake(
                table.entries["configs"].line,
                (*path, "configs"),
                f"found configs without a kind, expected kind: {STATIC} beside it",
            )
            return STATIC
        return GLOBAL
    for kind in (GLOBAL, STATIC):
        if isinstance(node, Scalar) and node.text in (kind, kind.removeprefix(KIND_PREFIX)):
            return kind
    near = nearest(node.text, (GLOBAL, STATIC)) if isinstance(node, Scalar) else None
    convert.bad(node, (*path, "kind"), one_of((GLOBAL, STATIC), near).removeprefix("expected "))
    return STATIC if "configs" in table.entries else GLOBAL


def _read_static(
    convert: Converter, table: Table, path: KeyPath, params: type[P]
) -> tuple[PrefixParams[P], ...]:
    for key, entry in table.entries.items():
        if key not in ("kind", "configs"):
            expected = one_of(("kind", "configs"), nearest(key, ("kind", "configs")))
            message = f"found the unknown key {key!r}, {expected}; parameters belong into an entry of configs"
            convert.report.mistake(entry.line, (*path, key), message)
    node = table.get("configs")
    if not isinstance(node, Items):
        what = "found nothing" if node is None else found(node)
        convert.report.mistake(
            table.line, (*path, "configs"), f"{what}, expected a list of mappings with a prefix"
        )
        return ()
    configs = []
    for index, item in enumerate(node.items):
        here = (*path, "configs", index)
        if not isinstance(item, Table):
            convert.bad(item, here, "a mapping with a prefix")
            continue
        given = item.get("prefix")
        if given is None or is_null(given):
            convert.report.mistake(
                item.line, (*here, "prefix"), "found nothing, expected a path prefix that starts with '/'"
            )
            prefix: Any = BAD
        else:
            prefix = convert.value(PathMatcher, given, (*here, "prefix"))
        value = convert.table(params, item, here, skip=("prefix",))
        if prefix is not BAD and value is not BAD:
            _check_captures(convert, prefix, value, item, here)
            configs.append(PrefixParams(prefix, value))
    return tuple(configs)


def _check_captures(convert: Converter, prefix: str, params: object, item: Table, path: KeyPath) -> None:
    """A ``{var}`` that the prefix does not capture would stay in the name, which no certificate carries."""
    tls = getattr(params, "tls", None)
    if not isinstance(tls, ClientTlsConfig) or tls.common_name is None:
        return
    for name in sorted(variables_of(tls.common_name) - Matcher.read(prefix).variables):
        line = line_at(item, ("tls", "commonName"))
        message = f"found {{{name}}}, expected only what the prefix {prefix} captures"
        convert.report.mistake(line, (*path, "tls", "commonName"), message)


def _defaults(convert: Converter, params: type[P]) -> P:
    """An instance of ``params`` in which everything with ``metadata["fill"]`` has that value."""
    quiet = convert.trial(Report(convert.report.file))
    values = {}
    for each in fields_of(params):
        if "fill" in each.metadata:
            node = node_of({each.key: each.metadata["fill"]})
            value = getattr(quiet.table(params, node, ()), each.name, None)
            if value is not None:
                values[each.name] = value
    return params(**values)


def _no_authorizers(convert: Converter, node: Node, path: KeyPath) -> tuple[object, ...] | Bad:
    if isinstance(node, Items) and not node.items:
        return ()
    return convert.bad(node, path, "an empty list: its only kind, io.l5d.k8s.istio, is not in hostmesh")
