"""From a checked configuration to routers. No socket is opened and no task started here."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import evolve

from hostmesh.base.backoff import Constant
from hostmesh.config.model import LinkerConfig
from hostmesh.config.policies import (
    ClientParams,
    H2ClientParams,
    H2ServiceParams,
    H2SettingsParams,
    HttpClientParams,
    ServiceParams,
)
from hostmesh.config.routers import H2RouterConfig, HttpRouterConfig
from hostmesh.config.servers import ForwardedHeaderConfig, H2ServerConfig, HttpServerConfig, ListenerConfig
from hostmesh.config.tcp import TcpRouterConfig
from hostmesh.config.tls import ServerTlsConfig
from hostmesh.daemon.clients import RESPONSE_LIMITS, PolicyResolver, client_maker, endpoint_tls_of
from hostmesh.daemon.shared import Shared, local_ips
from hostmesh.naming.bind import Mount, mount
from hostmesh.naming.interpreter import Interpreter, InterpreterDeps
from hostmesh.naming.namer import NamerConfig, NamerDeps
from hostmesh.naming.path import Path
from hostmesh.naming.transformer import TransformerDeps
from hostmesh.protocol.connect import AllowList
from hostmesh.protocol.context import B3Propagator
from hostmesh.protocol.h2.settings import H2Settings
from hostmesh.protocol.limits import Limits
from hostmesh.proxy.announced import Announcers
from hostmesh.proxy.client_stack import ClientStack
from hostmesh.proxy.exchange import Exchange
from hostmesh.proxy.forwarded import Forwarded, RequestRandomLabelerConfig
from hostmesh.proxy.router import Router
from hostmesh.proxy.server import ForwardedLine, ServerSettings
from hostmesh.proxy.settings import ClientSettings, ServiceSettings
from hostmesh.routing.identify import IdentifierDeps

if TYPE_CHECKING:
    from hostmesh.proxy.secure_accept import ServerTls

FOREVER = 10 * 365 * 86400.0
"""Seconds that stand for "never" where a number is needed."""

AnyHttpRouter: TypeAlias = HttpRouterConfig | H2RouterConfig
"""A router of HTTP, of either version: its servers take both."""

AnyRouter: TypeAlias = AnyHttpRouter | TcpRouterConfig
"""A router of any protocol that is carried."""


class Namers:
    """The configured namers, and what they were made from: a reload keeps those whose configuration is the same."""

    def __init__(self, shared: Shared, configs: tuple[NamerConfig, ...], previous: Namers | None) -> None:
        known = {} if previous is None else previous.by_config()
        self.configs = configs
        self.made: list[Any] = []
        self.mounts: list[Mount] = []
        deps = transformer_deps(shared)
        for config in configs:
            namer, place = known.pop(_identity(config), (None, None))
            if namer is None or place is None:
                prefix = config.prefix_in_force
                namer = config.mk(
                    NamerDeps(
                        env=shared.env,
                        turn=shared.turn,
                        prefix=prefix,
                        metrics=shared.metrics.scope("namer", "#" + prefix.show()),
                        resolver=shared.resolver,
                        report=shared.report,
                        shared=shared.registry,
                    )
                )
                place = mount(namer, [t.mk(deps) for t in config.transformers])
            self.made.append(namer)
            self.mounts.append(place)

    def by_config(self) -> dict[Any, tuple[Any, Mount]]:
        return {
            _identity(config): (namer, place)
            for config, namer, place in zip(self.configs, self.made, self.mounts, strict=True)
        }


def _identity(config: Any) -> tuple[type, str]:
    # Configs hold lists, so they are compared by what they say; attrs' repr says all of it. A plugin file that has
    # changed gives other classes.
    return type(config), repr(config)


def transformer_deps(shared: Shared) -> TransformerDeps:
    return TransformerDeps(
        turn=shared.turn,
        system=shared.system,
        resolver=shared.resolver,
        local_ips=local_ips,
        env=shared.env,
        report=shared.report,
        shared=shared.registry,
    )


def build_interpreter(shared: Shared, config: AnyRouter, namers: Namers) -> Interpreter:
    assert config.interpreter is not None
    return config.interpreter.mk(
        InterpreterDeps(
            env=shared.env,
            turn=shared.turn,
            dtab=config.dtab,
            namers=namers.mounts,
            system=shared.system,
            transformer_deps=transformer_deps(shared),
            report=shared.report,
            files=shared.files,
        )
    )


def build_router(
    shared: Shared,
    config: AnyHttpRouter,
    interpreter: Interpreter,
    donor: Callable[[Path], ClientStack | None],
) -> Router:
    """The router of ``config``; ``donor(id)`` may give up a client stack of the router it replaces."""
    label = config.name
    services = PolicyResolver(config.service)
    clients = PolicyResolver(config.client)

    def service_settings(path: Path) -> ServiceSettings:
        return service_settings_of(services.effective(path))

    def client_settings(id: Path) -> ClientSettings:
        params = clients.effective(id)
        tls = endpoint_tls_of(shared, params.tls)
        return evolve(client_settings_of(params), h2_engine=config.h2_engine, tls=tls)

    scope = shared.metrics.scope("rt", label)
    deps = IdentifierDeps(env=shared.env, report=shared.report, shared=shared.registry)
    if config.originator:
        scope.gauge("originator", lambda: 1.0)
    cache = config.binding_cache
    router = Router(
        label=label,
        env=shared.env,
        loop=shared.loop,
        scope=scope,
        identifiers=[identifier.mk_with(config.dst_prefix, deps) for identifier in config.identifier],
        interpreter=interpreter,
        service_settings=service_settings,
        client_settings=client_settings,
        make_client=client_maker(shared, label, clients, client_settings, donor),
        base_dtab=config.dtab,
        limits=RESPONSE_LIMITS,
        propagator=B3Propagator() if config.trace_propagator == "io.l5d.zipkin" else None,
        binding_timeout=config.binding_timeout_ms / 1000,
        cache_sizes={"paths": cache.paths, "clients": cache.clients, "bounds": cache.bounds},
        idle_ttl=cache.idle_ttl_secs,
        report=shared.report_error,
    )
    router.protocol = config.protocol
    return router


def service_settings_of(params: ServiceParams) -> ServiceSettings:
    retries = params.retries
    assert params.response_classifier is not None
    assert retries is not None
    budget = retries.budget
    settings = ServiceSettings(
        classifier=params.response_classifier.mk(),
        backoff=Constant(0.0) if retries.backoff is None else retries.backoff.mk(),
        total_timeout_ms=params.total_timeout_ms,
        retry_ttl=float(budget.ttl_secs),
        retry_min=budget.min_retries_per_sec,
        retry_percent=budget.percent_can_retry,
    )
    if isinstance(params, H2ServiceParams):
        assert params.classification_timeout_ms is not None
        assert params.retry_buffer_size is not None
        settings = evolve(
            settings,
            classification_time=params.classification_timeout_ms / 1000,
            retry_request_bytes=params.retry_buffer_size.request_bytes,
            retry_response_bytes=params.retry_buffer_size.response_bytes,
        )
    return settings


def client_settings_of(params: ClientParams) -> ClientSettings:
    pool = params.host_connection_pool if isinstance(params, HttpClientParams | H2ClientParams) else None
    session = params.client_session
    sockets = params.socket_options
    budget = params.requeue_budget
    assert session is not None
    assert sockets is not None
    assert budget is not None
    settings = ClientSettings(
        make_balancer=params.load_balancer,
        make_accrual=params.failure_accrual,
        attempt_timeout_ms=params.request_attempt_timeout_ms,
        requeue_ttl=float(budget.ttl_secs),
        requeue_min=budget.min_retries_per_sec,
        requeue_percent=budget.percent_can_retry,
        fail_fast=bool(params.fail_fast),
        idle_time=None if session.idle_time_ms is None else session.idle_time_ms / 1000,
        life_time=None if session.life_time_ms is None else session.life_time_ms / 1000,
        no_delay=sockets.no_delay,
        keep_alive=sockets.keep_alive,
        enable_probation=bool(getattr(params.load_balancer, "enable_probation", False)),
    )
    if params.forward_client_cert:
        settings = evolve(settings, forward_client_cert=True)
    if isinstance(params, HttpClientParams | H2ClientParams) and params.protocol == "h2":
        settings = evolve(settings, http2=True, h2=h2_settings_of(params))
    if pool is not None:
        idle = pool.idle_time_ms
        settings = evolve(
            settings,
            pool_min=pool.min_size,
            pool_max=settings.pool_max if pool.max_size is None else pool.max_size,
            pool_waiters=settings.pool_waiters if pool.max_waiters is None else pool.max_waiters,
            idle_time=settings.idle_time if idle is None else min(idle / 1000, settings.idle_time or FOREVER),
        )
    return settings


def h2_settings_of(params: H2SettingsParams) -> H2Settings:
    """What our side of an HTTP/2 connection to an endpoint declares."""
    given = {
        "window_update_ratio": params.window_update_ratio,
        "header_table": params.header_table_bytes,
        "max_header_list": params.max_header_list_bytes,
        "initial_window": params.initial_stream_window_bytes,
        "max_frame": params.max_frame_bytes,
        "budgets": None if params.h2_budgets is None else params.h2_budgets.budgets(),
    }
    known = {key: value for key, value in given.items() if value is not None}
    return H2Settings(client_side=True, **known)  # type: ignore[arg-type]  # each key with the type of its field


def server_settings_of(
    shared: Shared, router: AnyHttpRouter, config: HttpServerConfig | H2ServerConfig
) -> ServerSettings:
    session = config.server_session
    sockets = config.socket_options
    forwarded = config.add_forwarded_header
    settings = ServerSettings(
        name=f"{config.ip}/{config.port}",
        limits=Limits(),
        clear_context=config.clear_context,
        max_concurrent=config.max_concurrent_requests,
        max_call_depth=config.max_call_depth,
        timeout_ms=config.timeout_ms,
        idle_time=FOREVER if session.idle_time_ms is None else session.idle_time_ms / 1000,
        life_time=None if session.life_time_ms is None else session.life_time_ms / 1000,
        forwarded=None
        if forwarded is None
        else forwarded_of(shared, router.name, forwarded, "http" if config.tls is None else "https"),
        read_timeout=None if sockets.read_timeout_ms is None else sockets.read_timeout_ms / 1000,
        write_timeout=None if sockets.write_timeout_ms is None else sockets.write_timeout_ms / 1000,
        upgrades=frozenset(token.lower().encode("ascii") for token in config.upgrades),
        tunnel_idle=config.tunnel_idle_time_ms / 1000,
        h2_engine=router.h2_engine,
        tls=server_tls_of(shared, config.tls),
        announcers=announcers_of(config),
    )
    if isinstance(config, H2ServerConfig):
        settings = evolve(settings, h2=server_h2_settings_of(config))
    settings = evolve(settings, h2=evolve(settings.h2, budgets=config.h2_budgets.budgets()))
    if settings.upgrades:
        settings = evolve(settings, h2=evolve(settings.h2, enable_connect_protocol=True))
    if isinstance(config, HttpServerConfig) and config.allow_connect:
        settings = evolve(settings, allow_connect=AllowList(config.allow_connect))
    if isinstance(config, HttpServerConfig) and config.timestamp_header is not None:
        settings = evolve(settings, timestamp_header=config.timestamp_header.encode("ascii"))
    if isinstance(router, HttpRouterConfig):
        settings = evolve(
            settings,
            limits=Limits(
                max_initial_line=router.max_initial_line_kb * 1024,
                max_head_bytes=router.max_headers_kb * 1024,
                connect=settings.allow_connect is not None,
            ),
            stream_after=router.stream_after_content_length_kb * 1024,
            streaming=router.streaming_enabled,
            max_error_body=router.max_err_response_kb * 1024,
            compression_level=router.compression_level,
        )
    return settings


def announcers_of(config: ListenerConfig) -> Announcers | None:
    """Whom the PROXY headers of a listener's callers are believed from; None if there are to be none."""
    if not config.proxy_protocol:
        return None
    return Announcers(tuple(ip_network(network) for network in config.proxy_protocol_from))


def server_tls_of(shared: Shared, config: ServerTlsConfig | None) -> ServerTls | None:
    """How callers are met. Raises ConfigError for files that cannot be used."""
    if config is None:
        return None
    # Only here: what does not speak TLS does not load it.
    from hostmesh.proxy.secure_accept import ServerTls

    return ServerTls(shared.certificates.server(config))


def server_h2_settings_of(config: H2ServerConfig) -> H2Settings:
    """What our side of an HTTP/2 connection from a caller declares."""
    given = {
        "header_table": config.header_table_bytes,
        "max_header_list": config.max_header_list_bytes,
        "initial_window": config.initial_stream_window_bytes,
        "max_frame": config.max_frame_bytes,
    }
    return H2Settings(
        client_side=False,
        max_concurrent_streams=config.max_concurrent_streams_per_connection,
        window_update_ratio=config.window_update_ratio,
        **{key: value for key, value in given.items() if value is not None},  # type: ignore[arg-type]  # as each field
    )


def forwarded_of(shared: Shared, label: str, config: ForwardedHeaderConfig, proto: str) -> ForwardedLine:
    """What makes the Forwarded line of a request on this server, whose callers use ``proto``."""
    by: Any = config.by or RequestRandomLabelerConfig()
    for_: Any = config.for_ or RequestRandomLabelerConfig()
    forwarded = Forwarded(by.mk(), for_.mk())
    rng = shared.env.rng(f"forwarded/{label}")

    def line(ex: Exchange) -> bytes:
        session = ex.caller
        server, caller = session.parties(label, rng)
        key = "authority" if ex.head.version == 20 else "host"
        return forwarded.line(server, caller, ex.head.host, proto, rng, key=key)

    return line


def uses_tls(config: LinkerConfig) -> bool:
    """Whether there is a ``tls`` anywhere."""
    plugins = [*config.namers, *(each for router in config.routers for each in router.announcers)]
    return any(getattr(plugin, "tls", None) is not None for plugin in plugins) or any(
        any(server.tls is not None for server in router.servers)
        or any(entry.params.tls is not None for entry in router.client.configs)
        for router in carried(config)
    )


def carried(config: LinkerConfig) -> list[AnyRouter]:
    """The routers of every protocol that can run."""
    return [
        router
        for router in config.routers
        if isinstance(router, HttpRouterConfig | H2RouterConfig | TcpRouterConfig)
    ]


def http_routers(config: LinkerConfig) -> list[AnyHttpRouter]:
    """The routers that carry HTTP, of either version."""
    return [router for router in config.routers if isinstance(router, HttpRouterConfig | H2RouterConfig)]
