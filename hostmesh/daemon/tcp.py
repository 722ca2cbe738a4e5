"""From a checked configuration to tcp routers and their servers, as ``build.py`` does it for HTTP."""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve

from hostmesh.base.backoff import Constant
from hostmesh.config.policies import HttpClientParams, ServiceParams
from hostmesh.config.routers import HttpRouterConfig
from hostmesh.config.tcp import TcpClientParams, TcpRouterConfig, TcpServerConfig, TcpServiceParams
from hostmesh.daemon.build import AnyRouter, announcers_of, server_tls_of
from hostmesh.daemon.clients import RESPONSE_LIMITS, PolicyResolver, client_maker, endpoint_tls_of
from hostmesh.daemon.shared import Shared
from hostmesh.naming.interpreter import Interpreter
from hostmesh.naming.path import Path
from hostmesh.proxy.client_stack import CONNECT_TIMEOUT, ClientStack
from hostmesh.proxy.settings import ServiceSettings
from hostmesh.proxy.tcp_client import TcpClientSettings, TcpClientStack
from hostmesh.proxy.tcp_router import TcpRouter
from hostmesh.proxy.tcp_server import PREFACE_TIME, TcpServerSettings
from hostmesh.routing.classifiers import NonRetryable5XXConfig
from hostmesh.routing.identify import IdentifierDeps
from hostmesh.routing.tcp_identifiers import reads_hello


def build_tcp_router(
    shared: Shared,
    config: TcpRouterConfig | HttpRouterConfig,
    interpreter: Interpreter,
    donor: Callable[[Path], ClientStack | None],
) -> TcpRouter:
    """The router of ``config``; ``donor(id)`` may give up a client stack of the router it replaces.

    That of an http router carries what callers of its ports ask for with CONNECT.
    """
    label = config.name
    scope = shared.metrics.scope("rt", label)
    if isinstance(config, HttpRouterConfig):
        label = f"{label}/connect"
        # Beside the http router's own: stacks of the same names are others.
        scope = scope.scope("connect")
    services = PolicyResolver(config.service)
    clients = PolicyResolver(config.client)

    def service_settings(path: Path) -> ServiceSettings:
        return service_settings_of(services.effective(path))

    def client_settings(id: Path) -> TcpClientSettings:
        params = clients.effective(id)
        settings = client_settings_of(params)
        if isinstance(params, TcpClientParams):
            # What callers of CONNECT say through an http router is theirs, TLS included.
            settings = evolve(settings, tls=endpoint_tls_of(shared, params.tls))
        return settings

    deps = IdentifierDeps(env=shared.env, report=shared.report, shared=shared.registry)
    if config.originator and isinstance(config, TcpRouterConfig):
        scope.gauge("originator", lambda: 1.0)
    cache = config.binding_cache
    router = TcpRouter(
        label=label,
        env=shared.env,
        loop=shared.loop,
        scope=scope,
        identifiers=[identifier.mk_with(config.dst_prefix, deps) for identifier in config.identifier],
        interpreter=interpreter,
        service_settings=service_settings,
        client_settings=client_settings,
        make_client=client_maker(shared, label, clients, client_settings, donor, TcpClientStack),
        base_dtab=config.dtab,
        limits=RESPONSE_LIMITS,
        binding_timeout=config.binding_timeout_ms / 1000,
        cache_sizes={"paths": cache.paths, "clients": cache.clients, "bounds": cache.bounds},
        idle_ttl=cache.idle_ttl_secs,
        report=shared.report_error,
    )
    router.reads_hello = any(reads_hello(identifier) for identifier in config.identifier)
    return router


def wants_connect(config: AnyRouter) -> bool:
    """Whether a router of connections is needed beside it."""
    return isinstance(config, HttpRouterConfig) and any(server.allow_connect for server in config.servers)


def service_settings_of(params: TcpServiceParams | ServiceParams) -> ServiceSettings:
    # Connections are not answered, so nothing is classified and nothing retried: connects are requeued.
    return ServiceSettings(
        classifier=NonRetryable5XXConfig().mk(),
        backoff=Constant(0.0),
        total_timeout_ms=params.total_timeout_ms,
    )


def client_settings_of(params: TcpClientParams | HttpClientParams) -> TcpClientSettings:
    sockets = params.socket_options
    assert sockets is not None
    timeout = header = None
    if isinstance(params, TcpClientParams):
        timeout, header = params.connect_timeout_ms, params.proxy_protocol
    return TcpClientSettings(
        make_balancer=params.load_balancer,
        make_accrual=params.failure_accrual,
        fail_fast=bool(params.fail_fast),
        no_delay=sockets.no_delay,
        keep_alive=sockets.keep_alive,
        enable_probation=bool(getattr(params.load_balancer, "enable_probation", False)),
        connect_timeout=CONNECT_TIMEOUT if timeout is None else timeout / 1000,
        proxy_protocol=header,
    )


def tcp_server_settings_of(shared: Shared, config: TcpServerConfig) -> TcpServerSettings:
    session = config.server_session
    read_timeout = config.socket_options.read_timeout_ms
    return TcpServerSettings(
        name=f"{config.ip}/{config.port}",
        max_connections=config.max_connections,
        idle_time=session.idle_time_ms / 1000,
        life_time=None if session.life_time_ms is None else session.life_time_ms / 1000,
        preface_time=PREFACE_TIME if read_timeout is None else min(PREFACE_TIME, read_timeout / 1000),
        announcers=announcers_of(config),
        tls=server_tls_of(shared, config.tls),
    )
