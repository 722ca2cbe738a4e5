"""One request and its response in flight.

The exchange stands between two halves: the caller's session (:class:`CallerHalf`) and the session of the endpoint that
was picked (:class:`EndpointHalf`). Both speak in events that are plain method calls, the same for every protocol. What
is true of a request whatever carries it lives here, once: attempts, requeues and retries, timeouts, deadlines,
backpressure between the halves, blame and accounting.

Three facts decide everything hard (docs/architecture.md):

- ``committed``: the response head has been given to the caller; nothing can be retried any more.
- ``replayable``: every byte of the request is still in ``body``.
- ``sent``: how much of this attempt has been handed to the kernel.

Attributes have class-level defaults instead of an ``__init__`` that sets thirty of them: most requests touch ten, and
on CPython the difference is a microsecond per request.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError, Sent, Side
from hostmesh.base.reasons import Reason
from hostmesh.protocol.upgrade import SWITCHING
from hostmesh.proxy.diagnostics import with_context
from hostmesh.proxy.held import Held, hold
from hostmesh.routing.classifiers import FAILURE, IDEMPOTENT, IGNORABLE, RETRYABLE, SUCCESS, Verdict
from hostmesh.routing.retry import Nack, nack_of

if TYPE_CHECKING:
    from hostmesh.naming.dtab import Dtab
    from hostmesh.protocol.h1_head import RequestHead, ResponseHead
    from hostmesh.protocol.h2.engine import Pairs
    from hostmesh.proxy.branch import Branch
    from hostmesh.proxy.client_stack import ClientStack
    from hostmesh.proxy.context import Context
    from hostmesh.proxy.diagnostics import Diagnosis
    from hostmesh.proxy.endpoint_stack import EndpointStack
    from hostmesh.proxy.halves import CallerHalf, EndpointHalf
    from hostmesh.proxy.path_stack import PathStack
    from hostmesh.proxy.server import Server
    from hostmesh.pump.loop import TimerHandle

MAX_CONNECT_ATTEMPTS = 25
"""Endpoints tried for one request while nothing has been sent (finagle's bound on acquiring a connection)."""

UNSENT_BODY = 64 * 1024
"""Request body bytes held while no endpoint is connected yet; above it the caller is paused."""


class Exchange:
    """See the module's text. Created by a caller's session with the head; ended exactly once by :meth:`finish`."""

    # what was asked
    path: PathStack | None = None
    local: Dtab | None = None
    target: bytes | None = None
    """The target to forward when an identifier consumed a part of it; else that of the head."""
    context: Context | None = None
    """What the caller sent along; None when it sent nothing of the kind."""
    trace: bytes = b""
    """Lines with trace context to forward, made when the first attempt is dispatched."""
    trace_pairs: Pairs | None = None
    """The same for HTTP/2 where it was known as pairs."""
    reqid: bytes = b""
    deadline: float | None = None
    """On the loop's clock; the strictest of the caller's and our own timeouts."""
    server_timeout = False
    """``deadline`` is not the caller's but the ``timeoutMs`` of the server."""

    # request half
    body = b""
    """Request bytes not yet, or for a replayable request possibly again, to be sent."""
    request_done = True
    request_trailers = b""
    upgrade: bytes | None = None
    """What of the caller's Upgrade goes on to the endpoint, whose 101 then makes a tunnel of both connections."""
    upgrade_key = b""
    """The ``Sec-WebSocket-Key`` that we made for this attempt, because the caller has none in HTTP/2."""
    drop: frozenset[bytes] = frozenset()
    """Lower-case names of fields that another propagator owns: cut, then written anew."""
    simple = True
    """No body at all: the head alone is the request."""
    streamed = False
    """The body is passed through as it comes and cannot be sent again."""
    is_grpc = False
    """Errors are answered as gRPC statuses, and the method is counted."""

    # where it goes
    branch: Branch | None = None
    client: ClientStack | None = None
    endpoint: EndpointStack | None = None
    last_endpoint: EndpointStack | None = None
    """The endpoint of the last attempt, for the record; ``endpoint`` is None once that attempt is accounted."""
    session: EndpointHalf | None = None
    attempt_start = 0.0
    attempts = 0
    connects = 0
    requeues = 0
    retries = 0
    tried: set[EndpointStack] | None = None
    backoffs: Iterator[float] | None = None
    next_delay = 0.0
    diagnosis: Diagnosis | None = None
    """Set for a TRACE that asks where it goes."""
    nacked = False
    """The answer of this attempt said that it was not processed."""
    sent = Sent.NOTHING
    ttfb: float | None = None
    verdict: Verdict = SUCCESS

    # response half
    committed = False
    response: ResponseHead | None = None
    status = 0
    error: MeshError | None = None
    response_trailers = b""
    held: Held | None = None
    """A response that waits for its verdict, so that it can be retried (``held.py``)."""
    unjudged = False
    """The head has left, and the verdict comes with the end of the response; until then it is IGNORABLE."""
    informational = 0
    finished = False
    request_bytes = 0
    response_bytes = 0

    # timers
    total_timer: TimerHandle | None = None
    attempt_timer: TimerHandle | None = None
    retry_timer: TimerHandle | None = None
    parked = False

    def __init__(self, caller: CallerHalf, server: Server, head: RequestHead, now: float) -> None:
        self.caller = caller
        self.server = server
        self.router = server.router
        self.head = head
        self.start = now

    # -- request half ---------------------------------------------------------------------------------------------

    def request_data(self, chunk: bytes, done: bool, trailers: bytes = b"") -> None:
        """A piece of a streamed request body."""
        self.request_bytes += len(chunk)
        if done:
            self.request_done = True
            self.request_trailers = trailers
        if self.finished:
            return
        session = self.session
        if session is not None:
            if not self.streamed:
                self._keep(chunk)
            session.send_data(chunk, done, trailers)
            if session.blocked and not done:
                self.caller.pause()
        else:
            self.body += chunk
            if len(self.body) >= UNSENT_BODY and not done:
                self.caller.pause()

    def _keep(self, chunk: bytes) -> None:
        """A piece of a body that is forwarded as it comes stays here for another attempt, within bounds."""
        path = self.path
        assert path is not None
        if len(self.body) + len(chunk) <= path.settings.retry_request_bytes:
            self.body += chunk
        else:
            self._let_go(path)

    def _let_go(self, path: PathStack) -> None:
        path.count_retry("request_stream_too_long")
        self.streamed = True
        self.body = b""

    def request_aborted(self, error: MeshError) -> None:
        """The caller broke off: whatever runs for this request is cancelled."""
        if not self.finished:
            self.error = error
            self._release_attempt(IGNORABLE)
            self.finish(self.status, ok=False)

    def endpoint_writable(self) -> None:
        if not self.finished:
            self.caller.resume()

    def caller_writable(self) -> None:
        if self.session is not None:
            self.session.resume()

    # -- an attempt -----------------------------------------------------------------------------------------------

    def unparked(self) -> None:
        """What this request waited for is there, or gone: the timer of the wait, which holds on to it, ends."""
        self.parked = False
        if self.retry_timer is not None:
            self.retry_timer.cancel()
            self.retry_timer = None

    def attached(self, session: EndpointHalf) -> None:
        """A session to the picked endpoint took this exchange and has written its head and what body there was."""
        self.session = session
        self.attempts += 1
        if self.request_done:
            self.sent = Sent.ALL
            if not self.simple:
                self._sent_body()
            return
        self.sent = Sent.SOME
        self._sent_body()
        if session.blocked:
            self.caller.pause()
        else:
            self.caller.resume()

    def _sent_body(self) -> None:
        """What there is of the body is on its way: does it have to stay here for another attempt?"""
        if self.streamed:
            self.body = b""
        elif self.head.version == 20 and not self.server.aggregate:
            # Bodies of HTTP/1.1 have been measured by their caller's half.
            path = self.path
            assert path is not None
            if len(self.body) > path.settings.retry_request_bytes:
                self._let_go(path)

    def connect_failed(self, error: MeshError, *, blame: bool) -> None:
        """No connection to the picked endpoint: nothing was sent, so any method may go elsewhere.

        ``blame`` is False for failures of this host, which must not eject the endpoint.
        """
        client, endpoint = self.client, self.endpoint
        assert client is not None
        assert endpoint is not None
        now = self.router.loop.now()
        self._close_attempt(FAILURE if blame else IGNORABLE, now)
        self.connects += 1
        if self.tried is None:
            self.tried = set()
        self.tried.add(endpoint)
        if self.connects < min(MAX_CONNECT_ATTEMPTS, 2 * client.size + 1):
            self.requeues += 1
            client.requeued()
            client.dispatch(self, now)
        else:
            self.fail(error)

    def session_lost(self, error: MeshError) -> None:
        """The endpoint's connection ended under this attempt."""
        session = self.session
        assert session is not None
        self.session = None
        now = self.router.loop.now()
        if self.committed:
            self.error = error
            self._close_attempt(FAILURE, now)
            self.caller.cut()
            self.finish(self.status, ok=False)
            return
        if self.held is not None:
            self.stop_holding()
        unread = session.reused and not session.got_bytes
        path = self.path
        assert path is not None
        verdict = path.classify_error(self, error)
        if error.sent is Sent.NOTHING or (unread and self.head.method in IDEMPOTENT):
            # The keep-alive race: the endpoint closed an idle connection while our request was on its way
            # (RFC 9110 section 9.2.2, RFC 9112 section 9.3.1). Not the endpoint's failure.
            self._close_attempt(IGNORABLE, now)
            if self.may_resend() and self.client is not None and self.client.may_requeue(self, now):
                self.requeues += 1
                self.client.requeued()
                self.client.dispatch(self, now)
                return
            if verdict is not RETRYABLE:
                self.fail(error)
                return
        else:
            self._close_attempt(FAILURE, now)
        self._retry_or_fail(verdict, error, now)

    def attempt_timed_out(self) -> None:
        """``requestAttemptTimeoutMs`` passed without a response head."""
        self.attempt_timer = None
        path, client, endpoint = self.path, self.client, self.endpoint
        assert path is not None
        assert client is not None
        error = MeshError(
            Reason.ATTEMPT_TIMEOUT,
            f"no answer from {endpoint_text(endpoint)} within {client.attempt_timeout_ms} ms (requestAttemptTimeoutMs)",
            status=503,
            side=Side.CALLEE,
            sent=self.sent,
        )
        verdict = path.classify_error(self, error)
        now = self.router.loop.now()
        self._release_attempt(FAILURE)
        self._retry_or_fail(verdict, error, now)

    def total_timed_out(self, reason: Reason, message: str) -> None:
        """The time allowed for the whole request is over; after the head was sent it no longer counts."""
        self.total_timer = None
        if not self.finished and not self.committed:
            # An endpoint that has the request and does not answer within our own limit has failed: with no other
            # timeout a black hole would never be ejected. A caller's deadline is the caller's own measure; if it
            # counted, impatient callers could eject an endpoint for everybody.
            blamed = reason is Reason.TOTAL_TIMEOUT and self.session is not None
            self._release_attempt(FAILURE if blamed else IGNORABLE)
            self.fail(MeshError(reason, message, status=503))

    def may_resend(self) -> bool:
        """Whether the bytes of the request are all still here."""
        return not self.streamed or (self.sent is Sent.NOTHING)

    def _retry_or_fail(self, verdict: Verdict, error: MeshError, now: float) -> None:
        path = self.path
        assert path is not None
        if verdict is RETRYABLE and not self.streamed and path.retry(self, now):
            return
        self.fail(error)

    # -- response half --------------------------------------------------------------------------------------------

    def on_response(self, head: ResponseHead, chunk: bytes, done: bool) -> None:
        """The response head, with the body bytes that came along; ``done`` if that was all of it."""
        status = head.status
        if status < 200:
            self._informational(head)
            return
        now = self.router.loop.now()
        self.ttfb = now - self.attempt_start
        self.response = head
        if self.attempt_timer is not None:
            self.attempt_timer.cancel()
            self.attempt_timer = None
        path = self.path
        if status >= path.judged_from:  # type: ignore[union-attr]  # dispatched, so it has a path
            verdict = path.classify_response(self, head, done)  # type: ignore[union-attr]
            if verdict is None:
                if path.may_hold(self):  # type: ignore[union-attr]
                    hold(self, head, chunk, now)
                    return
                self.unjudged = True
                verdict = IGNORABLE
            elif verdict is not SUCCESS:
                client = self.client
                assert client is not None
                self.nacked = nack_of(head) is Nack.RETRYABLE
                if self.nacked and not self.streamed and client.may_requeue(self, now):
                    self.drop_answer(done, IGNORABLE, now)
                    self.requeues += 1
                    client.requeued()
                    client.dispatch(self, now)
                    return
                if verdict is RETRYABLE and not self.streamed and path.may_retry(self, now):  # type: ignore[union-attr]
                    self.drop_answer(done, FAILURE, now)
                    path.start_retry(self, now)  # type: ignore[union-attr]
                    return
            self.verdict = verdict
        if self.total_timer is not None:
            self.total_timer.cancel()
            self.total_timer = None
        self.committed = True
        self.status = status
        if self.diagnosis is not None and self.diagnosis.add_context:
            self.caller.send_answer(self, status, with_context(self, head, chunk, done, now))
            self.drop_answer(done, self.verdict, now)
            self.finish(status, ok=self.verdict is SUCCESS, now=now)
            return
        self.response_bytes = len(chunk)
        self.caller.send_head(self, head, chunk, done)
        if done:
            self._complete(now)
            return
        if self.caller.blocked:
            self.session.pause()  # type: ignore[union-attr]  # it just delivered
        endpoint = self.endpoint
        if endpoint is not None and endpoint.blocked_until and (self.unjudged or self.verdict is SUCCESS):
            # A probe has succeeded with its head: a body may last for hours, and the others would wait for it.
            endpoint.probed(now)

    def on_response_data(self, chunk: bytes, done: bool, trailers: bytes = b"") -> None:
        """A further piece of the response body."""
        if self.held is not None:
            self.held.more(self, chunk, done, trailers)
            return
        self.response_bytes += len(chunk)
        if done:
            self.response_trailers = trailers
            if self.unjudged:
                self.verdict = self.path.classify_end(self, trailers)  # type: ignore[union-attr]
        self.caller.send_data(chunk, done, trailers)
        if done:
            self._complete(self.router.loop.now())
        elif self.caller.blocked and self.session is not None:
            self.session.pause()

    def stop_holding(self) -> None:
        """The response that was held back is retried, forwarded or lost."""
        self.held = None
        if self.retry_timer is not None:
            self.retry_timer.cancel()
            self.retry_timer = None

    def forward_held(self, head: ResponseHead, body: bytes, done: bool, trailers: bytes) -> None:
        """What was held back goes to the caller; ``done`` if that was all of the response."""
        if self.total_timer is not None:
            self.total_timer.cancel()
            self.total_timer = None
        self.committed = True
        self.status = head.status
        self.response_bytes = len(body)
        self.response_trailers = trailers
        caller = self.caller
        if trailers:
            caller.send_head(self, head, body, False)
            caller.send_data(b"", True, trailers)
        else:
            caller.send_head(self, head, body, done)
        if done:
            self._complete(self.router.loop.now())
        elif caller.blocked and self.session is not None:
            self.session.pause()

    def _informational(self, head: ResponseHead) -> None:
        self.informational += 1
        self.caller.send_informational(self, head)

    def switched(self, head: ResponseHead, now: float) -> None:
        """The endpoint has switched protocols: request and response are over, and what comes next is a tunnel's."""
        self.ttfb = now - self.attempt_start
        self.response = head
        self.committed = True
        self.status = SWITCHING
        self.session = None
        self.finished = True
        if self.total_timer is not None:
            self.total_timer.cancel()
            self.total_timer = None
        self._close_attempt(SUCCESS, now)

    def drop_answer(self, done: bool, verdict: Verdict, now: float) -> None:
        """The attempt is over, and its answer is not what the caller gets."""
        # An answer already complete leaves its connection usable; one still coming is cheaper to cut than to read.
        session, self.session = self.session, None
        self._close_attempt(verdict, now)
        if session is not None:
            session.detach(now, reuse=done and self.request_done)

    def _complete(self, now: float) -> None:
        session = self.session
        self.session = None
        endpoint = self.endpoint
        if endpoint is not None:
            self.endpoint = None
            endpoint.attempt_done(self, self.verdict, now)
        if session is not None:
            session.detach(now, reuse=self.request_done)
        if not self.finished:
            self.finish(self.status, ok=self.verdict is SUCCESS, now=now)

    # -- ends -----------------------------------------------------------------------------------------------------

    def fail(self, error: MeshError) -> None:
        """Answer with ``error`` (or cut, if the head has left) and end. The attempt must have been released."""
        if self.finished:
            return
        self.error = error
        self.status = error.status
        if self.committed:
            self.caller.cut()
        else:
            self.caller.send_error(self, error)
        self.finish(error.status, ok=False)

    def bug(self, error: Exception) -> None:
        """Blame: an exception of ours ends this exchange and nothing else."""
        self.router.report(error)
        if not self.finished:
            self._release_attempt(IGNORABLE)
            self.fail(
                MeshError(
                    Reason.BUG,
                    "hostmesh failed to handle this request; the log has the traceback",
                    status=500,
                )
            )

    def _release_attempt(self, verdict: Verdict) -> None:
        """Let go of the attempt in whatever state it is: parked, connecting, sent, or between two."""
        session, self.session = self.session, None
        if self.parked and self.path is not None:
            self.path.unpark(self)
        if self.endpoint is not None:
            if session is None:
                self.endpoint.give_up(self)
            self._close_attempt(verdict, self.router.loop.now())
        if session is not None:
            session.cancel()
        self.stop_holding()

    def _close_attempt(self, verdict: Verdict, now: float) -> None:
        """Account the attempt once: balancer, accrual, client counters."""
        endpoint = self.endpoint
        if endpoint is None:
            return
        self.endpoint = None
        if self.attempt_timer is not None:
            self.attempt_timer.cancel()
            self.attempt_timer = None
        endpoint.attempt_done(self, verdict, now)

    def finish(self, status: int, *, ok: bool, now: float | None = None) -> None:
        """The one end of every exchange: accounting and records."""
        self.finished = True
        if self.total_timer is not None:
            self.total_timer.cancel()
            self.total_timer = None
        if now is None:
            now = self.router.loop.now()
        micros = int((now - self.start) * 1e6)
        path = self.path
        if path is not None:
            path.done(self, micros, ok)
        self.server.done(self, status, micros, ok, now)


def endpoint_text(endpoint: EndpointStack | None) -> str:
    return "an endpoint" if endpoint is None else f"{endpoint.endpoint.host}:{endpoint.endpoint.port}"
