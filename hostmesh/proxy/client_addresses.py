"""Who is behind one bound id: the addresses that discovery knows, an endpoint stack for each, a balancer over them.

Once there was a usable set it stays through outages of what names it. Requests that come before the first answer wait
for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError
from hostmesh.base.reasons import Reason
from hostmesh.base.var import Var
from hostmesh.naming.addr import Addr, AddrBound, AddrFailed, AddrNeg, AddrPending, Endpoint
from hostmesh.naming.path import Path
from hostmesh.proxy.endpoint_stack import EndpointStack
from hostmesh.proxy.settings import ClientSettings
from hostmesh.routing.accrual import Accrual
from hostmesh.routing.failfast import FailFast, FailFastCounters
from hostmesh.routing.node import Node, NodeKey, reconcile

if TYPE_CHECKING:
    from hostmesh.proxy.exchange import Exchange
    from hostmesh.pump.loop import AnyLoop, TimerHandle
    from hostmesh.routing.balancers.base import AnyBalancer

MAX_PARKED = 1000
"""Requests waiting for one name's first answer; the next is answered 503 (hardening R7)."""

PROBATION_SWEEP = 1.0
"""Seconds between looks at endpoints that discovery has lost and that are kept while they serve (enableProbation)."""

NEGATIVE_GRACE = 0.5
"""Seconds for which the endpoints of a name that ceased to exist still serve those who are bound to it. When a binding
falls back to an alternative that nobody watched, that one has to be looked up first; meanwhile the old tree is in
force, and it must not lead to nobody."""


def _nothing() -> None:
    """Stands for the end of an observation that has not begun."""


class ClientAddresses:
    """What :class:`hostmesh.proxy.client_stack.ClientStack` is apart from its attempts."""

    def __init__(
        self,
        *,
        id: Path,
        loop: AnyLoop,
        balancer: AnyBalancer,
        make_accrual: Callable[[EndpointStack], Accrual | None],
        settings: ClientSettings,
        rng: Random,
    ) -> None:
        self.id = id
        self.text = id.show()
        self.loop = loop
        self.balancer = balancer
        self.settings = settings
        self._rng = rng
        self.fail_fast_counters = FailFastCounters()
        self._make_accrual = make_accrual
        self._nodes: dict[NodeKey, EndpointStack] = {}
        self.endpoints: list[EndpointStack] = []
        self.size = 0
        self.addr: Addr = AddrPending()
        self._seen = False
        self._waiting: dict[Exchange, None] = {}
        self._sweeping: TimerHandle | None = None
        self._emptying: TimerHandle | None = None
        self._close_addr: Callable[[], object] = _nothing
        self.updates = 0
        self.closed = False

    def dispatch(self, ex: Exchange, now: float) -> None:
        """Pick an endpoint for one attempt of ``ex``; it never refuses while there is one."""
        raise NotImplementedError

    # -- addresses ------------------------------------------------------------------------------------------------

    def _addr_changed(self, addr: Addr) -> None:
        # After the first usable set a later Pending or Failed keeps the old one; Neg empties it (reference 2.5).
        if self._seen and isinstance(addr, AddrPending | AddrFailed):
            return
        self.addr = addr
        if self._emptying is not None:
            self._emptying.cancel()
            self._emptying = None
        if isinstance(addr, AddrBound):
            self._seen = True
            self._update(addr.endpoints)
        elif isinstance(addr, AddrNeg) and self.size:
            self._emptying = self.loop.call_at(self.loop.now() + NEGATIVE_GRACE, self._empty)
        if not isinstance(addr, AddrPending) and self._waiting:
            waiting, self._waiting = self._waiting, {}
            for ex in waiting:
                ex.unparked()
                ex.router.guard(self.dispatch, ex, self.loop.now())

    def _empty(self) -> None:
        self._emptying = None
        self._update(())

    def follow(self, addr: Var[Addr]) -> None:
        """Take the addresses from another Var: a reload built the namer anew. What is known stays until it answers."""
        close, self._close_addr = self._close_addr, addr.observe(self._addr_changed, initial=True)
        close()

    def _update(self, endpoints: tuple[Endpoint, ...]) -> None:
        # A new list of nodes is complete before the balancer sees it.
        nodes = reconcile(self._nodes, endpoints, self._new_endpoint)
        self._drop(self.balancer.update(nodes, self.loop.now()))
        if self.settings.enable_probation and self._sweeping is None and self.size > len(nodes):
            self._sweeping = self.loop.call_at(self.loop.now() + PROBATION_SWEEP, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = None
        self._drop(self.balancer.sweep(self.loop.now()))
        if isinstance(self.addr, AddrBound) and self.size > len(self.addr.endpoints) and not self.closed:
            self._sweeping = self.loop.call_at(self.loop.now() + PROBATION_SWEEP, self._sweep)

    def _drop(self, gone: Sequence[Node]) -> None:
        self.updates += 1
        self.endpoints = [node for node in self.balancer.nodes if isinstance(node, EndpointStack)]
        self.size = len(self.endpoints)
        for node in gone:
            stack = self._nodes.pop(node.key, None)
            if stack is not None:
                stack.close()

    def _make_endpoint(self, endpoint: Endpoint) -> EndpointStack:
        """The stack of an address that is new."""
        raise NotImplementedError

    def _new_endpoint(self, endpoint: Endpoint) -> EndpointStack:
        node = self._make_endpoint(endpoint)
        node.accrual = self._make_accrual(node)
        if self.settings.fail_fast:
            node.fail_fast = FailFast(node, self._rng, self.fail_fast_counters)
        return node

    # -- who waits for them ---------------------------------------------------------------------------------------

    def _nobody(self, ex: Exchange) -> None:
        addr = self.addr
        if isinstance(addr, AddrPending):
            if len(self._waiting) >= MAX_PARKED:
                ex.fail(
                    MeshError(
                        Reason.LIMIT_PARKED,
                        f"{MAX_PARKED} requests already wait for the first addresses of {self.text}",
                        status=503,
                    )
                )
                return
            self._waiting[ex] = None
            ex.parked = True
            ex.retry_timer = self.loop.call_at(
                self.loop.now() + ex.router.binding_timeout, self._address_timed_out, ex
            )
            return
        assert ex.path is not None
        if isinstance(addr, AddrFailed):
            ex.fail(ex.path.unroutable(ex, Reason.REGISTRY_UNREACHABLE, f"{self.text}: {addr.cause}"))
        else:
            ex.fail(ex.path.unroutable(ex, Reason.NO_ENDPOINTS, f"{self.text} is bound and has no address"))

    def _address_timed_out(self, ex: Exchange) -> None:
        if ex in self._waiting:
            ex.retry_timer = None
            del self._waiting[ex]
            ex.parked = False
            assert ex.path is not None
            ex.fail(
                ex.path.unroutable(
                    ex,
                    Reason.BINDING_TIMEOUT,
                    f"Exceeded {ex.router.binding_timeout:g} seconds binding timeout "
                    f"while waiting for the addresses of {self.text}",
                    503,
                )
            )

    def unpark(self, ex: Exchange) -> None:
        self._waiting.pop(ex, None)
