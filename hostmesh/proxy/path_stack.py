"""One dst path as its callers see it: binding, total timeout, classified retries, the service's counters.

The order is Linkerd's, and each position has a reason: counters on top because they are the caller's view; the total
timeout above retries because it includes them; retries above binding because each one draws a union's branch anew.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from random import Random
from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError
from hostmesh.base.reasons import Reason
from hostmesh.base.var import Activity, Failed, Ok, Pending, State
from hostmesh.naming.bound import BoundName, BoundTree, shares
from hostmesh.naming.dtab import Dtab
from hostmesh.naming.path import Path
from hostmesh.protocol.grpc import status_in
from hostmesh.proxy.branch import Branch
from hostmesh.proxy.context import deadline_field
from hostmesh.proxy.grpc_methods import GrpcMethods
from hostmesh.proxy.settings import ServiceSettings
from hostmesh.proxy.stats import Ledger, ScopeStats
from hostmesh.routing.budget import RetryBudget
from hostmesh.routing.classifiers import FAILURE, RETRYABLE, SUCCESS, Verdict
from hostmesh.routing.draw import WeightedDraw
from hostmesh.routing.grpc_classifiers import GrpcClassifier

if TYPE_CHECKING:
    from hostmesh.protocol.h1_head import ResponseHead
    from hostmesh.proxy.exchange import Exchange
    from hostmesh.proxy.router import Router
    from hostmesh.telemetry.metrics import Scope

MAX_PARKED = 1000
"""Requests that may wait for one name to be bound; the next is answered 503 at once (hardening R7)."""


def _nothing() -> None:
    """Stands for the end of a binding that has ended."""


class PathStack:
    """Owns the binding of one (dst path, local dtab); shared by all requests that name it."""

    def __init__(
        self,
        *,
        router: Router,
        path: Path,
        local: Dtab,
        binding: Activity[BoundTree],
        settings: ServiceSettings,
        scope: Scope,
        rng: Random,
        make_branch: Callable[[PathStack, BoundName], Branch],
        drop_branch: Callable[[Branch], None],
    ) -> None:
        loop = router.loop
        self.router = router
        self.loop = loop
        self.path = path
        self.local = local
        self.text = path.show()
        self._configure(settings)
        self.budget = RetryBudget(settings.retry_ttl, settings.retry_min, settings.retry_percent)
        self._random = rng.random
        self._rng = rng
        self._make_branch = make_branch
        self._drop_branch = drop_branch
        self._scope = scope
        self._methods: GrpcMethods | None = None
        self.stats = ScopeStats(scope, statuses=False)
        self.ledgers: dict[ScopeStats, Ledger] = {}
        """One for each server that requests come from."""
        self._exn = scope.scope("exn")
        self._retry_scope = retries = scope.scope("retries")
        self._retries = retries.counter("total")
        self._per_request = retries.stat("per_request")
        self._exhausted = retries.counter("budget_exhausted")
        retries.gauge("budget", lambda: float(self.budget.balance(loop.now())))
        self.last_used = loop.now()
        self.keys: list[Hashable] = []
        """The identifier keys under which the router remembers this stack."""
        self.closed = False

        self.single: Branch | None = None
        """The only branch, when the bound tree is a leaf: most are, and then a request draws nothing."""
        self._branches: dict[BoundName, Branch] = {}
        self._draw: Callable[[float], int] = WeightedDraw([1.0]).draw
        self._drawn: list[Branch | None] = []
        self._bound = False
        self._state: State[BoundTree] = Pending()
        self._waiting: dict[Exchange, float] = {}
        self._moving: list[tuple[dict[BoundName, Branch], Callable[[Branch], None]]] = []
        """Branches of former configurations, and how to drop them; they serve until the new binding is there."""
        self._close_binding = binding.observe(self._rebound, initial=True)

    def _configure(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.classifier = settings.classifier
        self.judged_from = 0 if settings.classifier.reads_trailers else 500
        """The least status that the classifier has to be asked about; others are successes."""
        self.total_timeout_ms = settings.total_timeout_ms

    # -- binding --------------------------------------------------------------------------------------------------

    def move(
        self,
        router: Router,
        binding: Activity[BoundTree],
        settings: ServiceSettings,
        make_branch: Callable[[PathStack, BoundName], Branch],
        drop_branch: Callable[[Branch], None],
    ) -> None:
        """Serve a new configuration: counters, budget and waiting requests stay, the branches are made anew.

        Until the new binding is there the old branches serve.
        """
        old_drop, old = self._drop_branch, self._branches
        close_binding = self._close_binding
        self.router = router
        self._make_branch = make_branch
        budget = (settings.retry_ttl, settings.retry_min, settings.retry_percent)
        if budget != (self.settings.retry_ttl, self.settings.retry_min, self.settings.retry_percent):
            self.budget = RetryBudget(*budget)
        self._configure(settings)
        self._branches = {}
        self._moving.append((old, old_drop))
        self._drop_branch = drop_branch
        # The new one first: what both of them watch stays watched, and is known at once.
        self._close_binding = binding.observe(self._rebound, initial=True)
        close_binding()

    def _rebound(self, state: State[BoundTree]) -> None:
        if not isinstance(state, Ok):
            # Once bound, the last good tree is kept through Pending and Failed.
            if not self._bound:
                self._state = state
                if isinstance(state, Failed):
                    self._wake()
            return
        self._state = state
        self._bound = True
        tree = state.value
        old = self._branches
        fresh: dict[BoundName, Branch] = {}

        def branch(name: BoundName) -> Branch:
            known = fresh.get(name)
            if known is None:
                known = old.pop(name, None) or self._make_branch(self, name)
                fresh[name] = known
            return known

        # A branch that is bound to nothing keeps its share, and those requests fail (reference 2.5).
        parts = shares(tree)
        drawn = [None if name is None else branch(name) for _share, name in parts]
        self._branches = fresh
        self.single = drawn[0] if len(drawn) == 1 else None
        self._drawn = drawn
        self._draw = WeightedDraw([share for share, _name in parts]).draw
        for gone in old.values():
            self._drop_branch(gone)
        self._leave()
        self._wake()

    def _leave(self) -> None:
        """Drop the branches of former configurations."""
        moving, self._moving = self._moving, []
        for branches, drop in moving:
            for gone in branches.values():
                drop(gone)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for ex in waiting:
            ex.unparked()
            ex.router.guard(self.attempt, ex, self.loop.now())

    # -- requests -------------------------------------------------------------------------------------------------

    def dispatch(self, ex: Exchange, now: float) -> None:
        """The start of a request: deadline, budget, first attempt."""
        ex.path = self
        self.stats.pending += 1
        self.budget.deposit(now)
        if (self.total_timeout_ms is not None or ex.deadline is not None) and not self._arm(ex, now):
            return
        branch = self.single
        if branch is None or branch.client is None or ex.context is not None:
            self.attempt(ex, now)
            return
        # attempt(), of a name that is bound to one thing, for a caller that sent no context: nearly always.
        ex.branch = branch
        ex.client = client = branch.client
        self.router.write_context(ex, now)
        client.dispatch(ex, now)

    def _arm(self, ex: Exchange, now: float) -> bool:
        total = self.total_timeout_ms
        own = now + total / 1000 if total is not None else None
        deadline = ex.deadline
        if deadline is not None and (own is None or deadline <= own):
            if deadline <= now:
                ex.fail(
                    MeshError(
                        Reason.DEADLINE_EXPIRED,
                        f"the caller's deadline ({deadline_field(ex)}) passed {(now - deadline) * 1000:.0f} ms ago",
                        status=503,
                    )
                )
                return False
            left = (deadline - now) * 1000
            if ex.server_timeout:
                reason, why = (
                    Reason.TOTAL_TIMEOUT,
                    f"{self.text} did not answer within {left:.0f} ms (timeoutMs)",
                )
            else:
                reason = Reason.DEADLINE_EXPIRED
                why = (
                    f"the caller's deadline ({deadline_field(ex)}, {left:.0f} ms left on arrival) has passed"
                )
            ex.total_timer = self.loop.call_at(deadline, ex.total_timed_out, reason, why)
        else:
            assert own is not None
            ex.deadline = own
            ex.total_timer = self.loop.call_at(
                own,
                ex.total_timed_out,
                Reason.TOTAL_TIMEOUT,
                f"{self.text} did not answer within {total} ms (totalTimeoutMs)",
            )
        return True

    def attempt(self, ex: Exchange, now: float) -> None:
        """Draw a branch and dispatch; parks until the name is bound."""
        branch = self.single
        if branch is None:
            if not self._bound:
                self._unbound(ex, now)
                return
            drawn = self._drawn[self._draw(self._random())]
            if drawn is None:
                ex.fail(self._bound_to_nothing(ex))
                return
            branch = drawn
        ex.branch = branch
        client = branch.client
        if client is None:
            self._answer_status(ex, branch)
            return
        ex.client = client
        if ex.context is not None or not ex.trace:
            self.router.write_context(ex, now)
        client.dispatch(ex, now)

    def _bound_to_nothing(self, ex: Exchange) -> MeshError:
        if len(self._drawn) == 1:
            # Nobody waits for these answers, so they may cost a delegation.
            tree = self.router.interpreter.delegate(self.router.base_dtab + self.local, self.path)
            if tree.type == "neg" and tree.dentry is None:
                return self.unroutable(ex, Reason.NO_DENTRY, f"no dentry matches {self.text}")
            return self.unroutable(ex, Reason.NAME_NEGATIVE, f"{self.text} is bound to nothing")
        return self.unroutable(
            ex, Reason.NAME_NEGATIVE, f"{self.text} is bound to nothing in the branch that was drawn"
        )

    def _unbound(self, ex: Exchange, now: float) -> None:
        state = self._state
        if isinstance(state, Failed):
            ex.fail(self.unroutable(ex, Reason.REGISTRY_UNREACHABLE, state.cause))
        elif len(self._waiting) >= MAX_PARKED:
            ex.fail(
                MeshError(
                    Reason.LIMIT_PARKED,
                    f"{MAX_PARKED} requests already wait for {self.text} to be bound",
                    status=503,
                )
            )
        else:
            self._waiting[ex] = now
            ex.parked = True
            ex.retry_timer = self.loop.call_at(now + self.router.binding_timeout, self._binding_timed_out, ex)

    def _binding_timed_out(self, ex: Exchange) -> None:
        ex.retry_timer = None
        if ex.parked and self._waiting.pop(ex, None) is not None:
            ex.parked = False
            ex.fail(
                self.unroutable(
                    ex,
                    Reason.BINDING_TIMEOUT,
                    f"Exceeded {self.router.binding_timeout:g} seconds binding timeout "
                    f"while resolving name: {self.text}",
                    status=503,
                )
            )

    def unpark(self, ex: Exchange) -> None:
        self._waiting.pop(ex, None)
        ex.parked = False
        if ex.client is not None:
            ex.client.unpark(ex)

    def _answer_status(self, ex: Exchange, branch: Branch) -> None:
        assert branch.status_code is not None
        ex.router.answer(ex, branch.status_code)

    def unroutable(self, ex: Exchange, reason: Reason, why: str, status: int = 502) -> MeshError:
        """The error of a name that leads nowhere, with the dtabs that were followed (reference 8.5)."""
        lines = ["Unable to route request!", "", why, "", f"service name: {self.text}"]
        lines += ["dtab:", *[f"  {d}" for d in self.router.base_dtab_lines()]]
        if self.local:
            lines += ["override dtab:", *[f"  {d.show()};" for d in self.local.dentries]]
        lines += ["", f"try: hostmesh delegate FILE {self.text}, or GET /delegator.json on the admin port"]
        return MeshError(reason, "\n".join(lines), status=status)

    # -- retries --------------------------------------------------------------------------------------------------

    def classify_response(self, ex: Exchange, head: ResponseHead, done: bool) -> Verdict | None:
        """The verdict on a head, with the wrappers that always apply (reference 6.6); None if it comes with the end
        of the response. ``done`` says that the head was all of it."""
        classifier = self.classifier
        if isinstance(classifier, GrpcClassifier):
            return classifier.classify_early(ex.head.method, head, done=done, streamed=ex.streamed)
        return classifier.classify_head(ex.head.method, head, streamed=ex.streamed)

    def classify_end(self, ex: Exchange, trailers: bytes) -> Verdict:
        """The verdict at the end of a response on whose head there was none."""
        classifier = self.classifier
        if isinstance(classifier, GrpcClassifier):
            return classifier.classify_end(status_in(trailers), streamed=ex.streamed)
        # A reload has changed the classifier under this response.
        return SUCCESS

    def may_hold(self, ex: Exchange) -> bool:
        """Whether a response without a verdict is worth holding back: it could be retried.

        Not while the caller is still sending, even if all that it sent is here: it may be waiting for this response
        before it goes on.
        """
        classifier = self.classifier
        return (
            isinstance(classifier, GrpcClassifier)
            and classifier.holds
            and not ex.streamed
            and ex.request_done
        )

    def count_retry(self, name: str) -> None:
        """Count under ``retries/`` why something was not retried."""
        self._retry_scope.counter(name).value += 1

    def classify_error(self, ex: Exchange, error: MeshError) -> Verdict:
        verdict = self.classifier.classify(ex.head.method, None, error)
        return FAILURE if verdict is RETRYABLE and ex.streamed else verdict

    def may_retry(self, ex: Exchange, now: float) -> bool:
        """Budget and deadline: whether a retryable failure is retried. Withdraws when it says yes."""
        if ex.committed or ex.streamed:
            return False
        backoffs = ex.backoffs
        if backoffs is None:
            backoffs = ex.backoffs = self.settings.backoff.delays(self._rng)
        ex.next_delay = next(backoffs)
        if ex.deadline is not None and now + ex.next_delay >= ex.deadline:
            return False
        if not self.budget.try_withdraw(now):
            self._exhausted.value += 1
            return False
        return True

    def start_retry(self, ex: Exchange, now: float) -> None:
        """Attempt again after the delay that :meth:`may_retry` drew."""
        ex.retries += 1
        self._retries.value += 1
        if ex.next_delay > 0:
            ex.retry_timer = self.loop.call_at(now + ex.next_delay, self._retry, ex)
        else:
            # Never from within the failed attempt's own call stack.
            self.loop.turn.call_soon(self._retry, ex)

    def retry(self, ex: Exchange, now: float) -> bool:
        if not self.may_retry(ex, now):
            return False
        self.start_retry(ex, now)
        return True

    def _retry(self, ex: Exchange) -> None:
        ex.retry_timer = None
        if not ex.finished:
            ex.router.guard(self.attempt, ex, self.loop.now())

    # -- the end --------------------------------------------------------------------------------------------------

    def done(self, ex: Exchange, micros: int, ok: bool) -> None:
        """The end of a request, except that its server counts it in both scopes."""
        stats = self.stats
        stats.pending -= 1
        if ex.retries:
            self._per_request.add(ex.retries)
        if ex.error is not None:
            stats.failed(ex.error.reason)
        if ex.is_grpc:
            self._grpc_done(ex, micros, ok)

    def _grpc_done(self, ex: Exchange, micros: int, ok: bool) -> None:
        if self._methods is None:
            self._methods = GrpcMethods(self._scope.scope("grpc"))
        self._methods.done(ex, micros, None if self.judged_from else ok)

    @property
    def idle(self) -> bool:
        return self.stats.pending == 0

    def close(self) -> None:
        """Let go of the binding and of every branch; exchanges in flight go on with what they hold."""
        if not self.closed:
            self.closed = True
            self._close_binding()
            self._close_binding = _nothing
            for branch in self._branches.values():
                self._drop_branch(branch)
            self._branches = {}
            self._leave()

    def explain(self) -> dict[str, object]:
        """For the admin API: what the name is bound to now."""
        return {
            "path": self.text,
            "local": self.local.show(),
            "bound": self._bound,
            "branches": [
                None if b is None else {"id": b.name.id.show(), "residual": b.name.residual.show()}
                for b in self._drawn
            ],
        }
