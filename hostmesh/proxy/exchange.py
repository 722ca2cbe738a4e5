"""One request and its response in flight.

The exchange stands between two halves: the caller's session (:class:`CallerHalf`) and the session of the endpoint that
was picked (:class:`EndpointHalf`). Both speak in events that are plain method calls, the same for every protocol. What
is true of a request whatever carries it lives here, once: attempts, requeues and retries, timeouts, deadlines,
backpressure between the halves, blame and accounting.

Three facts decide everything hard (docs/architecture.md):

- ``committed``: the response head has been given to the caller; nothing can be retried any more.
- ``replayable``: every byte of the request is still in ``body``.
- ``sent``: how much of this attempt has been handed to the kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError, Sent
from hostmesh.base.reasons import Reason
from hostmesh.protocol.upgrade import SWITCHING
from hostmesh.proxy import attempts
from hostmesh.proxy.diagnostics import with_context
from hostmesh.proxy.exchange_state import ExchangeState
from hostmesh.proxy.held import hold
from hostmesh.routing.classifiers import FAILURE, IGNORABLE, RETRYABLE, SUCCESS, Verdict
from hostmesh.routing.retry import Nack, nack_of

if TYPE_CHECKING:
    from hostmesh.protocol.h1_head import ResponseHead
    from hostmesh.proxy.halves import AnyEndpoint
    from hostmesh.proxy.path_stack import PathStack

UNSENT_BODY = 64 * 1024
"""Request body bytes held while no endpoint is connected yet; above it the caller is paused."""


class Exchange(ExchangeState):
    """See the module's text. Created by a caller's session with the head; ended exactly once by :meth:`finish`."""

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
            self.release_attempt(IGNORABLE)
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

    def attached(self, session: AnyEndpoint) -> None:
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
        """No connection to the picked endpoint; ``blame`` is False for failures of this host."""
        attempts.connect_failed(self, error, blame=blame)

    def session_lost(self, error: MeshError) -> None:
        """The endpoint's connection ended under this attempt."""
        attempts.session_lost(self, error)

    def attempt_timed_out(self) -> None:
        """``requestAttemptTimeoutMs`` passed without a response head."""
        attempts.timed_out(self)

    def total_timed_out(self, reason: Reason, message: str) -> None:
        """The time allowed for the whole request is over; after the head was sent it no longer counts."""
        attempts.out_of_time(self, reason, message)

    def may_resend(self) -> bool:
        """Whether the bytes of the request are all still here."""
        return not self.streamed or (self.sent is Sent.NOTHING)

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
        self.close_attempt(SUCCESS, now)

    def drop_answer(self, done: bool, verdict: Verdict, now: float) -> None:
        """The attempt is over, and its answer is not what the caller gets."""
        # An answer already complete leaves its connection usable; one still coming is cheaper to cut than to read.
        session, self.session = self.session, None
        self.close_attempt(verdict, now)
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
            self.release_attempt(IGNORABLE)
            self.fail(
                MeshError(
                    Reason.BUG,
                    "hostmesh failed to handle this request; the log has the traceback",
                    status=500,
                )
            )

    def release_attempt(self, verdict: Verdict) -> None:
        """Let go of the attempt in whatever state it is: parked, connecting, sent, or between two."""
        session, self.session = self.session, None
        if self.parked and self.path is not None:
            self.path.unpark(self)
        if self.endpoint is not None:
            if session is None:
                self.endpoint.give_up(self)
            self.close_attempt(verdict, self.router.loop.now())
        if session is not None:
            session.cancel()
        self.stop_holding()

    def close_attempt(self, verdict: Verdict, now: float) -> None:
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
