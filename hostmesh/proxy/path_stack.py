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
from hostmesh.base.var import Activity
from hostmesh.naming.bound import BoundName, BoundTree
from hostmesh.naming.dtab import Dtab
from hostmesh.naming.path import Path
from hostmesh.protocol.grpc import status_in
from hostmesh.proxy.branch import Branch
from hostmesh.proxy.context import deadline_field
from hostmesh.proxy.grpc_methods import GrpcMethods
from hostmesh.proxy.path_binding import PathBinding
from hostmesh.proxy.settings import ServiceSettings
from hostmesh.proxy.stats import Ledger, ScopeStats
from hostmesh.proxy.stream_stats import StreamStats
from hostmesh.routing.budget import RetryBudget
from hostmesh.routing.classifiers import FAILURE, RETRYABLE, SUCCESS, Verdict
from hostmesh.routing.grpc_classifiers import GrpcClassifier

if TYPE_CHECKING:
    from hostmesh.protocol.h1_head import ResponseHead
    from hostmesh.proxy.exchange import Exchange
    from hostmesh.proxy.router import Router
    from hostmesh.telemetry.metrics import Scope


class PathStack(PathBinding):
    """One (dst path, local dtab) and its binding; shared by all requests that name it."""

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
        super().__init__(router=router, path=path, local=local, rng=rng, drop_branch=drop_branch)
        loop = router.loop
        self._configure(settings)
        self.budget = RetryBudget(settings.retry_ttl, settings.retry_min, settings.retry_percent)
        self._rng = rng
        self._maker = make_branch
        self._scope = scope
        self._methods: GrpcMethods | None = None
        self._streams: StreamStats | None = None
        self.stats = ScopeStats(scope, statuses=False)
        self.is_known = False
        """It has been bound to something. Until then nobody sees its scope, and what is unknown is counted as one."""
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
        self._follow(binding)

    def _make_branch(self, name: BoundName) -> Branch:
        if not self.is_known:
            self.is_known = True
            self.router.services.known(self.path)
        return self._maker(self, name)

    def _configure(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.classifier = settings.classifier
        self.judged_from = 0 if settings.classifier.reads_trailers else 500
        """The least status that the classifier has to be asked about; others are successes."""
        self.total_timeout_ms = settings.total_timeout_ms

    def move(
        self,
        router: Router,
        binding: Activity[BoundTree],
        settings: ServiceSettings,
        make_branch: Callable[[PathStack, BoundName], Branch],
        drop_branch: Callable[[Branch], None],
    ) -> None:
        """Serve a new configuration: counters, budget and waiting requests stay, the branches are made anew."""
        self.router = router
        self._maker = make_branch
        budget = (settings.retry_ttl, settings.retry_min, settings.retry_percent)
        if budget != (self.settings.retry_ttl, self.settings.retry_min, self.settings.retry_percent):
            self.budget = RetryBudget(*budget)
        self._configure(settings)
        self._remake(drop_branch)
        self._follow(binding)

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
            ex.total_timer = self.loop.call_at(deadline, self._deadline_passed, ex, deadline - now)
        else:
            assert own is not None
            ex.deadline = own
            ex.total_timer = self.loop.call_at(own, self._total_passed, ex, total)
        return True

    def _deadline_passed(self, ex: Exchange, seconds: float) -> None:
        """The deadline that ``ex`` came with is over, or the ``timeoutMs`` of its server."""
        left = seconds * 1000
        if ex.server_timeout:
            why = f"{self.text} did not answer within {left:.0f} ms (timeoutMs)"
            ex.total_timed_out(Reason.TOTAL_TIMEOUT, why)
        else:
            why = f"the caller's deadline ({deadline_field(ex)}, {left:.0f} ms left on arrival) has passed"
            ex.total_timed_out(Reason.DEADLINE_EXPIRED, why)

    def _total_passed(self, ex: Exchange, total: int) -> None:
        why = f"{self.text} did not answer within {total} ms (totalTimeoutMs)"
        ex.total_timed_out(Reason.TOTAL_TIMEOUT, why)

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

    def _answer_status(self, ex: Exchange, branch: Branch) -> None:
        assert branch.status_code is not None
        ex.router.answer(ex, branch.status_code)

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
            if not self.is_known:
                unknown = self.router.services.show_strangers()
                unknown.done(ex.error.status, micros, ok)
                unknown.failed(ex.error.reason)
        if ex.is_grpc:
            self._grpc_done(ex, micros, ok)

    def _grpc_done(self, ex: Exchange, micros: int, ok: bool) -> None:
        if self._methods is None:
            self._methods = GrpcMethods(self._scope.scope("grpc"))
        self._methods.done(ex, micros, None if self.judged_from else ok)

    @property
    def streams(self) -> StreamStats:
        """The counters of HTTP/2 streams, which are there from the first one on."""
        if self._streams is None:
            self._streams = StreamStats(self._scope)
        return self._streams

    @property
    def idle(self) -> bool:
        return self.stats.pending == 0
