"""``protocol: tcp``: routers of plain connections, which Linkerd 1 does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from attrs import field, frozen

from hostmesh.config.convert import BAD, Bad, Converter
from hostmesh.config.policies import Policy, policy_metadata
from hostmesh.config.report import KeyPath
from hostmesh.config.routers import RouterConfig
from hostmesh.config.servers import ListenerConfig
from hostmesh.config.sockets import SocketOptions
from hostmesh.config.tls import ClientTlsConfig
from hostmesh.config.tree import Items, Node, is_null
from hostmesh.config.types import Positive, Timeout

if TYPE_CHECKING:
    from hostmesh.routing.accrual import AccrualConfig
    from hostmesh.routing.balancers import BalancerConfig
    from hostmesh.routing.tcp_identifiers import TcpIdentifierConfig

DEFAULT_IDENTIFIER: Final = "io.l5d.tcp.port"


def read_identifiers(convert: Converter, node: Node, path: KeyPath) -> tuple[Any, ...] | Bad:
    """``identifier``: one object, or a list of them to be tried in order."""
    if isinstance(node, Items):
        if not node.items:
            return convert.bad(node, path, "at least one identifier")
        several: tuple[Any, ...] | Bad = convert.plugins("identifier", node, path)
        return several
    one = convert.plugin("identifier", node, path, default_kind=DEFAULT_IDENTIFIER if is_null(node) else None)
    return BAD if one is BAD else (one,)


@frozen(kw_only=True)
class TcpServerSession:
    """Life of a caller's connection."""

    idle_time_ms: Timeout = 3_600_000
    """*hostmesh* Milliseconds without a byte in either direction after which a connection is cut, at most 5 min once
    one side has said that it sends no more. Default 1 h."""
    life_time_ms: Timeout | None = None
    """*hostmesh* Milliseconds after which a connection is cut whatever it does. Default: none."""


@frozen(kw_only=True)
class TcpServerConfig(ListenerConfig):
    """A listening socket of a tcp router."""

    max_connections: Positive | None = None
    """*hostmesh* Connections above which further ones are reset at once. Default: what descriptors allow."""
    server_session: TcpServerSession = TcpServerSession()
    """*hostmesh* Default: idle connections are cut after 1 h."""


@frozen(kw_only=True)
class TcpServiceParams:
    """Policy of a logical destination of a tcp router. None is "not set here"."""

    total_timeout_ms: Timeout | None = None
    """*hostmesh* Milliseconds until a connection to an endpoint is established, with all attempts and waits; the caller
    is reset after it. Default: none, and the waits have limits of their own."""


@frozen(kw_only=True)
class TcpClientParams:
    """Policy and machinery of a bound name of a tcp router. None is "not set here"."""

    load_balancer: BalancerConfig | None = field(
        default=None, metadata={"slot": "balancer", "fill": {"kind": "p2c"}}
    )
    """*hostmesh* Load is open connections, latency is the time of a connect. Default: ``p2c``."""
    failure_accrual: AccrualConfig | None = field(
        default=None,
        metadata={"slot": "accrual", "fill": {"kind": "io.l5d.consecutiveFailures", "failures": 5}},
    )
    """*hostmesh* A failure is a connect that fails. Default: 5 consecutive failures, probed after 5 s to 300 s."""
    fail_fast: bool | None = field(default=None, metadata={"fill": False})
    """*hostmesh* ``true`` sets an endpoint aside at a failed connect and dials it again after 1 s to 32 s. Default:
    false."""
    connect_timeout_ms: Timeout | None = field(default=None, metadata={"fill": 1000})
    """*hostmesh* Milliseconds for one connect; then the next endpoint is dialled. Default: 1000."""
    proxy_protocol: Literal["v1", "v2"] | None = None
    """*hostmesh* Begin connections to endpoints with a PROXY protocol header of that version, which says who the caller
    is. Default: none."""
    tls: ClientTlsConfig | None = None
    """*hostmesh* TLS to endpoints, around what callers say. Default: bytes are passed as they are, TLS included."""
    socket_options: SocketOptions | None = field(default=None, metadata={"fill": {}})
    """*hostmesh* Default: those of ``socketOptions``."""


@frozen(kw_only=True)
class TcpRouterConfig(RouterConfig):
    """*hostmesh* Plain TCP connections, balanced over endpoints; docs/tcp.md has examples."""

    servers: tuple[TcpServerConfig, ...] = ()
    """Where callers connect, at least one."""
    service: Policy[TcpServiceParams] = field(metadata=policy_metadata(TcpServiceParams))
    """Policy of logical destinations; kinds ``io.l5d.global``, ``io.l5d.static``."""
    client: Policy[TcpClientParams] = field(metadata=policy_metadata(TcpClientParams))
    """Policy of bound names; kinds ``io.l5d.global``, ``io.l5d.static``."""
    identifier: tuple[TcpIdentifierConfig, ...] = field(
        metadata={
            "read": read_identifiers,
            "default_kind": DEFAULT_IDENTIFIER,
            "expected": "an identifier",
        }
    )
    """How a connection gets its name: one, or a list tried in order. Default: ``io.l5d.tcp.port``."""
