"""Thrift routers: parsed, so that a mixed file can be checked, and never run (linkerd1.md 1.5)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from attrs import field, frozen

from hostmesh.config import later_reasons as later
from hostmesh.config.policies import ClientParams, HostConnectionPool, Policy, ServiceParams, policy_metadata
from hostmesh.config.routers import RouterConfig
from hostmesh.config.servers import ServerConfig
from hostmesh.config.types import ListenPort

ThriftProtocol = Literal["binary", "compact"]


@frozen(kw_only=True)
class ThriftServerConfig(ServerConfig):
    """A listening socket of a thrift router."""

    port: ListenPort = 4114
    """Port to listen on."""
    thrift_framed: bool = True
    """Messages carry their length."""


@frozen(kw_only=True)
class ThriftMuxServerConfig(ThriftServerConfig):
    """A listening socket of a thriftmux router."""

    port: ListenPort = 4144
    """Port to listen on."""


@frozen(kw_only=True)
class ThriftClientParams(ClientParams):
    """Machinery of a bound name of a thrift router."""

    host_connection_pool: HostConnectionPool | None = None
    """Connections per endpoint."""
    thrift_framed: bool | None = None
    """Messages carry their length."""
    attempt_t_twitter_upgrade: bool | None = field(default=None, metadata={"key": "attemptTTwitterUpgrade"})
    """Ask the endpoint for Twitter's header."""


@frozen(kw_only=True)
class ThriftServiceParams(ServiceParams):
    """Policy of a logical destination of a thrift router."""

    response_classifier: Any = field(default=None, metadata={"slot": "classifier"})
    """What is a failure."""


@frozen(kw_only=True)
class ThriftRouterConfig(RouterConfig):
    """Apache Thrift."""

    unavailable: ClassVar[str | None] = later.NEVER

    servers: tuple[ThriftServerConfig, ...] = ()
    """Where callers connect."""
    service: Policy[ThriftServiceParams] = field(metadata=policy_metadata(ThriftServiceParams))
    """Policy of logical destinations."""
    client: Policy[ThriftClientParams] = field(metadata=policy_metadata(ThriftClientParams))
    """Policy of bound names."""
    thrift_protocol: ThriftProtocol = "binary"
    """Encoding."""
    thrift_method_in_dst: bool = False
    """The method is part of the name."""


@frozen(kw_only=True)
class ThriftMuxRouterConfig(ThriftRouterConfig):
    """Thrift over mux."""

    needs_experimental: ClassVar[bool] = True

    servers: tuple[ThriftMuxServerConfig, ...] = ()
    """Where callers connect."""
