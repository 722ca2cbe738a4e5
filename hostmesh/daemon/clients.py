"""What a router makes of a bound name: a client stack, that of the router it replaces or a new one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from attrs import evolve

from hostmesh.config.policies import Policy
from hostmesh.config.tls import ClientTlsConfig
from hostmesh.daemon.shared import Shared
from hostmesh.naming.bound import BoundName
from hostmesh.naming.matcher import Matcher, substituted
from hostmesh.naming.path import Path
from hostmesh.protocol.limits import Limits
from hostmesh.protocol.tls.server_name import server_name_of
from hostmesh.proxy.client_stack import ClientStack
from hostmesh.proxy.endpoint_stack import EndpointStack
from hostmesh.proxy.router import Router
from hostmesh.proxy.settings import ClientSettings
from hostmesh.routing.accrual import Accrual, AccrualCounters
from hostmesh.telemetry.metrics import Scope

if TYPE_CHECKING:
    from hostmesh.proxy.secure_connect import EndpointTls

RESPONSE_LIMITS = Limits(max_initial_line=8192, max_head_bytes=64 * 1024, max_fields=200)
"""What an endpoint's response head may be: larger than a request's, since our own services send it, and bounded."""


class PolicyResolver:
    """The parameters of a name: every matching entry in file order, later ones override (reference 1.9)."""

    def __init__(self, policy: Policy[Any]) -> None:
        self._policy = policy
        self._entries = [(Matcher.read(entry.prefix), entry.params) for entry in policy.configs]

    def effective(self, path: Path) -> Any:
        """Names in ``tls`` have what their own prefix has captured."""
        found = []
        for matcher, params in self._entries:
            captures = matcher.match(path)
            if captures is not None:
                found.append(_named(params, captures) if captures else params)
        return self._policy.effective(found)


def _named(params: Any, captures: Mapping[str, str]) -> Any:
    tls = getattr(params, "tls", None)
    if tls is None or tls.common_name is None:
        return params
    return evolve(params, tls=evolve(tls, common_name=substituted(tls.common_name, captures)))


def endpoint_tls_of(shared: Shared, config: ClientTlsConfig | None) -> EndpointTls | None:
    """How endpoints are met. Raises ConfigError for files that cannot be used."""
    if config is None or not config.enabled:
        return None
    # Only here: what does not speak TLS does not load it.
    from hostmesh.proxy.secure_connect import EndpointTls

    name = config.common_name
    return EndpointTls(
        # One for all names: a context does not know whom it is for.
        contexts=shared.certificates.client(evolve(config, common_name=None)),
        name=None if config.disable_validation else name,
        server_name=server_name_of(name),
        from_subject=config.common_name_from_subject,
    )


def client_maker(
    shared: Shared,
    label: str,
    clients: PolicyResolver,
    settings_of: Callable[[Path], ClientSettings],
    donor: Callable[[Path], ClientStack | None],
    kind: type[ClientStack] = ClientStack,
) -> Callable[[Router, BoundName, Scope], ClientStack]:
    """What makes the client stacks of the router called ``label``.

    ``donor(id)`` may give up a stack of the router that is replaced: it goes on if its settings are the same, and is
    closed if not. ``kind`` is the class of new ones.
    """

    def make(router: Router, name: BoundName, scope: Scope) -> ClientStack:
        settings = settings_of(name.id)
        given = donor(name.id)
        if given is not None:
            if given.settings == settings:
                given.follow(name.addr)
                return given
            given.close()
        params = clients.effective(name.id)
        accrual = params.failure_accrual
        rng = shared.env.rng(f"balancer/{label}{name.id.show()}")
        counters = AccrualCounters()

        def make_accrual(node: EndpointStack) -> Accrual | None:
            return None if accrual.kind == "none" else Accrual(node, accrual.mk(rng), counters)

        return kind(
            id=name.id,
            addr=name.addr,
            loop=shared.loop,
            scope=scope,
            limits=RESPONSE_LIMITS,
            balancer=params.load_balancer.mk(rng),
            make_accrual=make_accrual,
            accrual_counters=counters,
            settings=settings,
            rng=rng,
            report=shared.report_error,
        )

    return make
