"""What becomes of a request whose attempt has failed: another endpoint, a retry, or an answer that says why.

:class:`~hostmesh.proxy.exchange.Exchange` has the facts (committed, replayable, sent); here they decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError, Sent, Side
from hostmesh.base.reasons import Reason
from hostmesh.proxy.context import grpc_time_is_over
from hostmesh.routing.classifiers import FAILURE, IDEMPOTENT, IGNORABLE, RETRYABLE, Verdict

if TYPE_CHECKING:
    from hostmesh.proxy.endpoint_stack import EndpointStack
    from hostmesh.proxy.exchange import Exchange

MAX_CONNECT_ATTEMPTS = 25
"""Endpoints tried for one request while nothing has been sent (finagle's bound on acquiring a connection)."""


def connect_failed(ex: Exchange, error: MeshError, *, blame: bool) -> None:
    """No connection to the picked endpoint: nothing was sent, so any method may go elsewhere.

    ``blame`` is False for failures of this host, which must not eject the endpoint.
    """
    client, endpoint = ex.client, ex.endpoint
    assert client is not None
    assert endpoint is not None
    now = ex.router.loop.now()
    ex.close_attempt(FAILURE if blame else IGNORABLE, now)
    ex.connects += 1
    if ex.tried is None:
        ex.tried = set()
    ex.tried.add(endpoint)
    if ex.connects < min(MAX_CONNECT_ATTEMPTS, 2 * client.size + 1):
        ex.requeues += 1
        client.requeued()
        client.dispatch(ex, now)
    else:
        ex.fail(error)


def session_lost(ex: Exchange, error: MeshError) -> None:
    """The endpoint's connection ended under this attempt."""
    session = ex.session
    assert session is not None
    ex.session = None
    now = ex.router.loop.now()
    # Servers of gRPC watch deadlines, too, and grpc-go's reset the stream: that is no failure of theirs.
    overdue = grpc_time_is_over(ex, now)
    blamed = IGNORABLE if overdue or error.side is Side.SELF else FAILURE
    if ex.committed:
        ex.error = error
        ex.close_attempt(blamed, now)
        ex.caller.cut()
        ex.finish(ex.status, ok=False)
        return
    if ex.held is not None:
        ex.stop_holding()
    if overdue:
        ex.close_attempt(IGNORABLE, now)
        what = f"the caller's deadline (grpc-timeout) has passed: {error.message}"
        ex.fail(MeshError(Reason.DEADLINE_EXPIRED, what, status=503))
        return
    if error.side is Side.SELF:
        # Our own bug: not the endpoint's failure, and the same bytes would only meet it again.
        ex.close_attempt(IGNORABLE, now)
        ex.fail(error)
        return
    unread = session.reused and not session.got_bytes
    path = ex.path
    assert path is not None
    verdict = path.classify_error(ex, error)
    if error.sent is Sent.NOTHING or (unread and ex.head.method in IDEMPOTENT):
        # The keep-alive race: the endpoint closed an idle connection while our request was on its way
        # (RFC 9110 section 9.2.2, RFC 9112 section 9.3.1). Not the endpoint's failure.
        ex.close_attempt(IGNORABLE, now)
        if ex.may_resend() and ex.client is not None and ex.client.may_requeue(ex, now):
            ex.requeues += 1
            ex.client.requeued()
            ex.client.dispatch(ex, now)
            return
        if verdict is not RETRYABLE:
            ex.fail(error)
            return
    else:
        ex.close_attempt(FAILURE, now)
    _retry_or_fail(ex, verdict, error, now)


def timed_out(ex: Exchange) -> None:
    """``requestAttemptTimeoutMs`` passed without a response head."""
    ex.attempt_timer = None
    path, client, endpoint = ex.path, ex.client, ex.endpoint
    assert path is not None
    assert client is not None
    error = MeshError(
        Reason.ATTEMPT_TIMEOUT,
        f"no answer from {_endpoint_text(endpoint)} within {client.attempt_timeout_ms} ms (requestAttemptTimeoutMs)",
        status=503,
        side=Side.CALLEE,
        sent=ex.sent,
    )
    verdict = path.classify_error(ex, error)
    now = ex.router.loop.now()
    ex.release_attempt(FAILURE)
    _retry_or_fail(ex, verdict, error, now)


def out_of_time(ex: Exchange, reason: Reason, message: str) -> None:
    """The time allowed for the whole request is over; after the head was sent it no longer counts."""
    ex.total_timer = None
    if not ex.finished and not ex.committed:
        # An endpoint that has the request and does not answer within our own limit has failed: with no other
        # timeout a black hole would never be ejected. A caller's deadline is the caller's own measure; if it
        # counted, impatient callers could eject an endpoint for everybody.
        blamed = reason is Reason.TOTAL_TIMEOUT and ex.session is not None
        ex.release_attempt(FAILURE if blamed else IGNORABLE)
        ex.fail(MeshError(reason, message, status=503))


def _retry_or_fail(ex: Exchange, verdict: Verdict, error: MeshError, now: float) -> None:
    path = ex.path
    assert path is not None
    if verdict is RETRYABLE and not ex.streamed and path.retry(ex, now):
        return
    ex.fail(error)


def _endpoint_text(endpoint: EndpointStack | None) -> str:
    return "an endpoint" if endpoint is None else f"{endpoint.endpoint.host}:{endpoint.endpoint.port}"
