"""``servers``: listening sockets of a router (linkerd1.md 7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias

from attrs import field, frozen

from hostmesh.base.plugin import PluginConfig
from hostmesh.config.h2_budgets import DEFAULT_H2_BUDGETS, H2BudgetsConfig
from hostmesh.config.shape import Bounds, Text
from hostmesh.config.sockets import SocketOptions
from hostmesh.config.tls import ServerTlsConfig
from hostmesh.config.types import (
    LOOPBACK,
    Count,
    HeaderName,
    Ip,
    ListenPort,
    Network,
    Positive,
    Ratio,
    Timeout,
    canonical_ip,
)
from hostmesh.naming.path import Path
from hostmesh.protocol.connect import pattern_problem
from hostmesh.protocol.upgrade import token_problem

if TYPE_CHECKING:
    from random import Random


ConnectPattern: TypeAlias = Annotated[str, Text(pattern_problem)]
UpgradeToken: TypeAlias = Annotated[str, Text(token_problem)]


@frozen(kw_only=True)
class ServerSession:
    """Life of a caller's connection."""

    idle_time_ms: Timeout | None = 600_000
    """Milliseconds after which an idle connection is closed; 60 s at most for one of HTTP/2, which ends without loss.
    Default 10 min, where Linkerd 1 had none: callers that vanished without a word would otherwise be remembered for
    ever."""
    life_time_ms: Timeout | None = None
    """Milliseconds after which a connection is closed when it is next idle. Default: none."""


@frozen(kw_only=True)
class LabelerConfig(PluginConfig):
    """The base of every labeler's config class."""

    def mk(self) -> Callable[[Any, Random], str]:
        """The function that labels one end of a connection, see ``proxy/forwarded.py``."""
        raise NotImplementedError(f"{self.kind}: has no mk()")


@frozen(kw_only=True)
class ForwardedHeaderConfig:
    """What the ``Forwarded`` header (RFC 7239) says."""

    by: LabelerConfig = field(metadata={"default_kind": "requestRandom"})
    """How to name this server. Default: ``requestRandom``."""
    for_: LabelerConfig = field(metadata={"default_kind": "requestRandom"})
    """How to name the caller. Default: ``requestRandom``."""


@frozen(kw_only=True)
class ListenerConfig:
    """A listening socket of a router, whatever it carries."""

    place: ClassVar[str] = "server"

    port: ListenPort
    """Port to listen on; 0 lets the system choose."""
    ip: Ip = field(default=LOOPBACK, converter=canonical_ip)
    """Address to listen on. Default: loopback; ``0.0.0.0`` is every IPv4 address."""
    label: str | None = None
    """A name for people."""
    tls: ServerTlsConfig | None = None
    """Default: plain text."""
    socket_options: SocketOptions = field(factory=SocketOptions)
    """Options of the callers' connections."""
    announce: tuple[Path, ...] = ()
    """Names to announce this server under, each ``/#/<announcer prefix>/<rest>``."""
    proxy_protocol: bool = False
    """*hostmesh* ``true``: every connection begins with a PROXY protocol header, version 1 or 2, which says who the
    caller is; one without is refused. Only for a port that nobody but that proxy can reach."""
    proxy_protocol_from: tuple[Network, ...] = ()
    """*hostmesh* Networks from which such headers are believed; other connections are refused. Default: all."""

    def check(self) -> list[str]:
        if self.proxy_protocol_from and not self.proxy_protocol:
            return ["proxyProtocolFrom: found without proxyProtocol: true, expected both or neither"]
        return []


@frozen(kw_only=True)
class ServerConfig(ListenerConfig):
    """A listening socket of a router of requests."""

    max_concurrent_requests: Positive | None = None
    """Requests in flight above which further ones are answered 503 at once. Default: unlimited."""
    timeout_ms: Timeout | None = None
    """Milliseconds for a whole request; 503 after it. Default: none."""
    clear_context: bool = False
    """``true`` removes all ``l5d-*`` headers from requests and responses: for callers that are not trusted."""
    server_session: ServerSession = ServerSession()
    """Default: idle connections are closed after 10 min."""
    add_forwarded_header: ForwardedHeaderConfig | None = None
    """Appends a ``Forwarded`` header to requests. Default: none."""
    max_call_depth: Positive = 1000
    """Hops counted in ``Via`` above which a request is answered 400 as a loop."""


@frozen(kw_only=True)
class HttpServerConfig(ServerConfig):
    """A listening socket of an http router."""

    port: ListenPort = 4140
    """Port to listen on; 0 lets the system choose."""
    timestamp_header: HeaderName | None = None
    """A header that is set on each request to its arrival time in milliseconds since the epoch. Default: none."""
    upgrades: tuple[UpgradeToken, ...] = ("websocket",)
    """*hostmesh* Protocols that a caller may switch to, if the endpoint agrees: with ``Upgrade`` (a request that asks
    for another goes on without the field), in HTTP/2 with extended CONNECT (501 for others). ``[]`` allows none."""
    allow_connect: tuple[ConnectPattern, ...] = ()
    """*hostmesh* Where ``CONNECT`` may lead: patterns ``host:port``, the host exact, ``*.suffix`` or ``*``, the port a
    number or ``*``. The connection is then named and bound as a request is; in HTTP/2 a stream is one. Default:
    nowhere, and ``CONNECT`` is answered 405."""
    tunnel_idle_time_ms: Timeout = 3_600_000
    """*hostmesh* Milliseconds without a byte after which a connection that switched protocols is cut, or a gRPC call
    whose request has not ended. Default 1 h."""
    h2_budgets: H2BudgetsConfig = DEFAULT_H2_BUDGETS
    """*hostmesh* What one HTTP/2 caller may cost."""


@frozen(kw_only=True)
class H2ServerConfig(ServerConfig):
    """A listening socket of an h2 router."""

    port: ListenPort = 4142
    """Port to listen on; 0 lets the system choose."""
    max_concurrent_streams_per_connection: Positive = 100
    """Streams a caller may have open. Default 100, where Linkerd 1 had 1000: what many streams may pin in memory."""
    window_update_ratio: Ratio = 0.99
    """A window is filled again once less than this part of it is left, and an eighth is used."""
    header_table_bytes: Count | None = None
    """SETTINGS_HEADER_TABLE_SIZE. Default: the protocol's 4096."""
    initial_stream_window_bytes: Annotated[int, Bounds(0, 2**31 - 1, "of bytes")] | None = None
    """SETTINGS_INITIAL_WINDOW_SIZE. Default: the protocol's 65535."""
    max_frame_bytes: Annotated[int, Bounds(16384, 2**24 - 1, "of bytes")] | None = None
    """SETTINGS_MAX_FRAME_SIZE. Default: the protocol's 16384."""
    max_header_list_bytes: Positive | None = None
    """SETTINGS_MAX_HEADER_LIST_SIZE; 431 above. Default: 65536, where Linkerd 1 had none."""
    upgrades: tuple[UpgradeToken, ...] = ("websocket",)
    """*hostmesh* Protocols that a caller may switch to, if the endpoint agrees: with ``Upgrade`` (a request that asks
    for another goes on without the field), in HTTP/2 with extended CONNECT (501 for others). ``[]`` allows none."""
    tunnel_idle_time_ms: Timeout = 3_600_000
    """*hostmesh* Milliseconds without a byte after which a connection that switched protocols is cut, or a gRPC call
    whose request has not ended. Default 1 h."""
    h2_budgets: H2BudgetsConfig = DEFAULT_H2_BUDGETS
    """*hostmesh* What one HTTP/2 caller may cost."""
