"""Everything for one bound id: the balancer over its endpoints, their pools, the requeue budget, the counters.

Many dst paths share one client stack, and so its balancer, connections and failure accrual. It outlives reloads
when the settings that made it are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, inf
from typing import TYPE_CHECKING, Final

from hostmesh.base.errors import MeshError, Side
from hostmesh.base.reasons import Reason
from hostmesh.base.var import Var
from hostmesh.naming.addr import Addr, AddrFailed, AddrNeg, AddrPending, Endpoint
from hostmesh.protocol.limits import Limits
from hostmesh.proxy.client_addresses import ClientAddresses
from hostmesh.proxy.diagnostics import answer_here
from hostmesh.proxy.endpoint_stack import EndpointStack
from hostmesh.proxy.settings import ClientSettings
from hostmesh.proxy.stats import ScopeStats
from hostmesh.routing.accrual import Accrual, AccrualCounters
from hostmesh.routing.budget import RetryBudget
from hostmesh.routing.node import Node

if TYPE_CHECKING:
    from random import Random

    from hostmesh.naming.path import Path
    from hostmesh.proxy.exchange import Exchange
    from hostmesh.pump.loop import AnyLoop, Connecting, Session, Transport
    from hostmesh.routing.balancers.base import AnyBalancer
    from hostmesh.telemetry.metrics import Scope

CONNECT_TIMEOUT: Final = 1.0
"""Seconds for a TCP connect; finagle's fixed value, of which Linkerd has no key."""

PICK_AGAIN = 5
"""Picks made to find an endpoint that this request has not tried yet (balancers' maxEffort); then any other will do."""


class ClientStack(ClientAddresses):
    """Balancer over endpoint stacks.

    ``make_balancer()`` and ``make_accrual(node)`` build the pluggable parts. The address Var is observed from
    construction to :meth:`close`.
    """

    connect_timeout: float = CONNECT_TIMEOUT

    def __init__(
        self,
        *,
        id: Path,
        addr: Var[Addr],
        loop: AnyLoop,
        scope: Scope,
        limits: Limits,
        balancer: AnyBalancer,
        make_accrual: Callable[[EndpointStack], Accrual | None],
        accrual_counters: AccrualCounters | None,
        settings: ClientSettings,
        rng: Random,
        report: Callable[[BaseException], None],
    ) -> None:
        super().__init__(
            id=id, loop=loop, balancer=balancer, make_accrual=make_accrual, settings=settings, rng=rng
        )
        self.limits = limits
        self._endpoint_class = _endpoint_class(settings)
        self._fail_fast = settings.fail_fast
        self.report = report
        self.attempt_timeout_ms = settings.attempt_timeout_ms
        self.http2 = settings.http2
        self.idle_time = settings.idle_time
        self.life_time = settings.life_time
        self.pool_min = settings.pool_min
        self.pool_max = settings.pool_max
        self.pool_waiters = settings.pool_waiters
        self.requeue_budget = RetryBudget(
            settings.requeue_ttl, settings.requeue_min, settings.requeue_percent
        )
        self.users = 0
        """Branches that lead here. A stack that has any is not idle: its path would go on with a closed one."""
        self.last_used = loop.now()

        self.stats = ScopeStats(scope, statuses=True)
        self.connects = scope.counter("connects")
        self.closes = scope.counter("closes")
        self.connect_failures = scope.scope("service_creation").counter("failures")
        self.surplus = scope.counter("surplus_responses")
        self.too_many_waiters = scope.counter("pool_num_too_many_waiters")
        self.connections = 0
        scope.gauge("connections", lambda: float(self.connections))
        scope.gauge("pool_cached", lambda: float(sum(len(e.idle) for e in self.endpoints)))
        scope.gauge("pool_waiters", lambda: float(sum(len(e.waiters) for e in self.endpoints)))
        retries = scope.scope("retries")
        self._requeues = retries.counter("requeues")
        self._requeue_exhausted = retries.counter("budget_exhausted")
        self._request_limit = retries.counter("request_limit")
        retries.gauge("budget", lambda: float(self.requeue_budget.balance(loop.now())))
        if settings.http2:
            scope.gauge("open_streams", lambda: float(sum(e.streams for e in self.endpoints)))
            scope.gauge("buffered_bytes", lambda: float(sum(e.buffered for e in self.endpoints)))
        self._balancer_metrics(scope.scope("loadbalancer"))
        if settings.fail_fast:
            node = scope.scope("failfast")
            for name in ("marked_dead", "marked_available", "unhealthy_for_ms", "unhealthy_num_tries"):
                node.counter_of(name, lambda name=name: int(getattr(self.fail_fast_counters, name)))  # type: ignore[misc]
        if accrual_counters is not None:
            node = scope.scope("failure_accrual")
            for name in ("removals", "revivals", "probes", "removed_for_ms"):
                node.counter_of(name, lambda name=name: int(getattr(accrual_counters, name)))  # type: ignore[misc]
        self._begin(scope, settings)
        self.follow(addr)

    def _begin(self, scope: Scope, settings: ClientSettings) -> None:
        """What other kinds of client have besides, before there are endpoints."""

    def _balancer_metrics(self, scope: Scope) -> None:
        now = self.loop.now
        scope.gauge("size", lambda: float(self.size))
        scope.gauge("available", lambda: float(sum(e.is_open(now()) for e in self.endpoints)))
        scope.gauge("busy", lambda: float(sum(not e.is_open(now()) for e in self.endpoints)))
        scope.gauge("closed", lambda: 0.0)
        scope.gauge("load", lambda: float(sum(e.pending for e in self.endpoints)))
        for name in ("adds", "removes", "rebuilds", "max_effort_exhausted", "last_resort"):
            scope.counter_of(name, lambda name=name: int(getattr(self.balancer, name, 0)))  # type: ignore[misc]

    # -- requests -------------------------------------------------------------------------------------------------

    def dispatch(self, ex: Exchange, now: float) -> None:
        """Pick an endpoint for one attempt of ``ex``; it never refuses while there is one."""
        node = self.balancer.pick(now)
        if ex.tried is not None or self._fail_fast or ex.local is not None or ex.diagnosis is not None:
            node = self._allowed(ex, node, now)
            if node is None:
                return
        elif node is None:
            self._nobody(ex)
            return
        self.balancer.started(node, now)
        self.stats.pending += 1
        if ex.last_endpoint is not None:
            ex.ttfb = None
            ex.response = None
            ex.nacked = False
        stack: EndpointStack = node  # type: ignore[assignment]  # the balancer has the nodes that we gave it
        ex.endpoint = ex.last_endpoint = stack
        ex.attempt_start = now
        if stack.accrual is not None:
            stack.accrual.on_dispatch(now)
        if self.attempt_timeout_ms is not None:
            ex.attempt_timer = self.loop.call_at(now + self.attempt_timeout_ms / 1000, ex.attempt_timed_out)
        stack.dispatch(ex)

    def _allowed(self, ex: Exchange, node: Node | None, now: float) -> Node | None:
        """The node for an attempt that not every node may get; None when ``ex`` has been answered instead."""
        if node is None:
            self._nobody(ex)
            return None
        if ex.tried is not None and node in ex.tried:
            node = self._untried(ex.tried, now) or node
        assert isinstance(node, EndpointStack)
        if node.fail_fast is not None and node.fail_fast.refuses:
            other_node = self._not_refusing(now)
            if other_node is None:
                assert ex.path is not None
                ex.fail(
                    ex.path.unroutable(
                        ex,
                        Reason.ALL_EJECTED,
                        f"every endpoint of {self.text} refuses connections (failFast)",
                        503,
                    )
                )
                return None
            node = other_node
        if ex.local is not None and (why := ex.router.refused_by_policy(ex, node.endpoint)) is not None:
            ex.fail(MeshError(Reason.POLICY_DTAB, why, status=403, side=Side.CALLER))
            return None
        if ex.diagnosis is not None and ex.diagnosis.ends_here:
            answer_here(ex, self, node, now)
            return None
        return node

    def _untried(self, tried: set[EndpointStack], now: float) -> Node | None:
        """An endpoint that is none of ``tried``; None if all others are ejected."""
        for _ in range(PICK_AGAIN):
            other = self.balancer.pick(now)
            if other is not None and other not in tried:
                return other
        # One that refuses has nothing to do, so a balancer that looks for the least loaded of few picks it each time.
        for stack in self.endpoints:
            if stack not in tried and stack.is_open(now):
                return stack
        return None

    def _not_refusing(self, now: float) -> EndpointStack | None:
        for node in self.endpoints:
            if node.fail_fast is None or not node.fail_fast.refuses:
                return node
        return None

    def _make_endpoint(self, endpoint: Endpoint) -> EndpointStack:
        return self._endpoint_class(self, endpoint)

    def connect(self, endpoint: EndpointStack) -> Connecting:
        """Dial ``endpoint`` for whoever waits there."""
        tls = self.settings.tls
        if tls is not None:
            return tls.connect(self, endpoint)

        def connected(transport: Transport) -> Session:
            return endpoint.connected(connecting, transport)

        def failed(error: OSError) -> None:
            endpoint.connect_failed(connecting, error)

        connecting = self.dial(endpoint, connected, failed)
        return connecting

    def dial(
        self,
        endpoint: EndpointStack,
        connected: Callable[[Transport], Session],
        failed: Callable[[OSError], None],
    ) -> Connecting:
        """Open a connection to ``endpoint``, as :meth:`hostmesh.pump.loop.Loop.connect` does."""
        return self.loop.connect(
            endpoint.endpoint,
            self.connect_timeout,
            connected,
            failed,
            no_delay=self.settings.no_delay,
            keep_alive=self.settings.keep_alive,
        )

    @property
    def alpn(self) -> tuple[bytes, ...]:
        """What is offered to endpoints that speak TLS."""
        return (b"h2",) if self.settings.http2 else (b"http/1.1",)

    def may_requeue(self, ex: Exchange, now: float) -> bool:
        """Withdraw from the requeue budget; at most ceil(0.2 x balance) per request (finagle's RequeueFilter)."""
        limit = ceil(0.2 * self.requeue_budget.balance(now)) if ex.requeues else inf
        if ex.requeues >= limit:
            self._request_limit.value += 1
            return False
        if not self.requeue_budget.try_withdraw(now):
            self._requeue_exhausted.value += 1
            return False
        return True

    def requeued(self) -> None:
        self._requeues.value += 1

    def attempt_done(self, ex: Exchange, ok: bool, now: float) -> None:
        """Count an attempt, in this client's scope and in the scope of its service below it."""
        self.stats.pending -= 1
        status = ex.response.status if ex.response is not None else 0
        ex.branch.ledger.add(  # type: ignore[union-attr]  # an attempt has a branch, and one with a client
            status if ok else ~status, int((now - ex.attempt_start) * 1e6)
        )
        if ok:
            # Requeue budgets are fed by successes only: a client that fails altogether runs dry (algorithms 3.2).
            self.requeue_budget.deposit(now)

    # -- life -----------------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        return self.users == 0 and self.stats.pending == 0 and not self._waiting

    def close(self) -> None:
        """Stop watching and close what is idle; exchanges in flight keep their sessions until they end."""
        if not self.closed:
            self.closed = True
            self._close_addr()
            if self._sweeping is not None:
                self._sweeping.cancel()
            if self._emptying is not None:
                self._emptying.cancel()
            for node in self._nodes.values():
                node.close()
            waiting, self._waiting = self._waiting, {}
            for ex in waiting:
                ex.parked = False
                ex.fail(
                    MeshError(Reason.DRAINING, f"{self.text} is being closed", status=503, side=Side.SELF)
                )

    def state(self) -> dict[str, object]:
        """What ``/client_state.json`` shows."""
        addr = self.addr
        if isinstance(addr, AddrFailed):
            return {"state": f"Failed: {addr.cause}"}
        if isinstance(addr, AddrPending):
            return {"state": "Pending"}
        if isinstance(addr, AddrNeg):
            return {"state": "Neg"}
        return {"state": "bound", "addresses": [node.text for node in self.endpoints]}


def _endpoint_class(settings: ClientSettings) -> type[EndpointStack]:
    if not settings.http2:
        return EndpointStack
    # Only here: a configuration without HTTP/2 does not load it.
    from hostmesh.proxy.h2_pool import H2EndpointStack

    return H2EndpointStack
