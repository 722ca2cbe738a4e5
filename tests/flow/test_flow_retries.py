"""Retries by classifier, their budget and delays, and what is never repeated."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.flow.scripted import Received
from tests.flow.world import World, answering, config, silent

READS = "responseClassifier: {kind: io.l5d.http.retryableRead5XX}"
ALL = "responseClassifier: {kind: io.l5d.http.retryableAll5XX}"
IDEMPOTENT = "responseClassifier: {kind: io.l5d.http.retryableIdempotent5XX}"


def flaky(failures: int, *, status: int = 503) -> tuple[list[Received], object]:
    """A handler that fails so often and then succeeds, and what it has seen."""
    seen: list[Received] = []

    def handler(received: Received) -> None:
        seen.append(received)
        received.answer(status if len(seen) <= failures else 200)

    return seen, handler


@pytest.mark.parametrize(
    ("service", "method", "attempts"),
    [
        ("", "GET", 1),
        (READS, "GET", 2),
        (READS, "HEAD", 2),
        (READS, "PUT", 1),
        (READS, "POST", 1),
        (IDEMPOTENT, "PUT", 2),
        (IDEMPOTENT, "DELETE", 2),
        (IDEMPOTENT, "POST", 1),
        (ALL, "POST", 2),
        (ALL, "PATCH", 2),
        (ALL, "BREW", 1),
        ("responseClassifier: {kind: io.l5d.http.allSuccessful}", "GET", 1),
    ],
)
def test_the_classifier_says_which_methods_are_retried(service: str, method: str, attempts: int) -> None:
    """A 503 is tried again exactly for the methods of the classifier; the answer is that of the last attempt."""
    world = World(config(service))
    seen, handler = flaky(1)
    world.serving(handler)

    call = world.get(method=method)

    assert call.status == (200 if attempts == 2 else 503)
    assert len(seen) == attempts
    world.check()


def test_a_body_that_was_held_is_sent_again_whole() -> None:
    """A POST with a body below streamAfterContentLengthKB is replayed byte for byte."""
    world = World(config(ALL))
    seen, handler = flaky(2)
    world.serving(handler)

    call = world.get(method="POST", body=b"x" * 5000)

    assert call.status == 200
    assert [received.body for received in seen] == [b"x" * 5000] * 3
    world.check()


def test_a_streamed_body_is_never_sent_again() -> None:
    """Above streamAfterContentLengthKB bytes are let go of as they leave, so the first answer stands."""
    world = World(config(ALL))
    seen, handler = flaky(1)
    world.serving(handler)

    call = world.get(method="POST", body=b"x" * 6000)

    assert call.status == 503
    assert len(seen) == 1
    world.check()


def test_chunked_bodies_are_streamed_and_not_retried() -> None:
    """Nobody knows their length, so they are not held."""
    world = World(config(ALL))
    seen, handler = flaky(1)
    world.serving(handler)
    caller = world.caller()
    caller.send(b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")

    call = caller.expect("POST")
    world.finish(call)

    assert call.status == 503
    assert [received.body for received in seen] == [b"hi"]
    world.check()


def test_retries_wait_as_the_backoff_says() -> None:
    """A constant backoff of 100 ms lies between one failure and the next attempt."""
    world = World(config(READS + ", retries: {backoff: {kind: constant, ms: 100}}"))
    seen, handler = flaky(2)
    world.serving(handler)

    call = world.get()

    assert call.status == 200
    gaps = [later.at - earlier.at for earlier, later in pairwise(seen)]
    assert gaps == pytest.approx([0.1, 0.1], abs=0.01)
    assert world.metric("rt/out/service/svc/web/retries/total") == 2
    world.check()


def test_an_endpoint_that_always_fails_gets_the_requests_and_their_budget() -> None:
    """At 100 % 500s for 20 s: at most requests x 1.2 + 10/s attempts, as the retry budget has it."""
    world = World(config(READS, "failureAccrual: {kind: none}"))
    (endpoint,) = world.serving(answering(500))
    calls = []
    seconds, rate = 20, 50

    for _ in range(seconds * rate):
        calls.append(world.caller().request())
        world.run(1 / rate)
    world.finish(*calls)

    assert {call.status for call in calls} == {500}
    assert len(calls) < len(endpoint) <= len(calls) * 1.2 + 10 * (seconds + 10)
    # The reserve of ten seconds is the burst; what is spent ages out with it.
    late = [received for received in endpoint.requests if received.at > endpoint.requests[0].at + 10]
    assert len(late) <= 0.5 * len(calls) * 1.2 + 10 * 10
    assert world.metric("rt/out/service/svc/web/retries/budget_exhausted") > 0
    world.check()


def test_no_attempt_follows_the_total_deadline() -> None:
    """With totalTimeoutMs 250 and delays of 100 ms: two retries, none later, and the answer of the last attempt."""
    service = READS + ", totalTimeoutMs: 250, retries: {backoff: {kind: constant, ms: 100}}"
    world = World(config(service))
    (endpoint,) = world.serving(answering(500))
    began = world.loop.now()

    call = world.get()
    world.run(10)

    assert call.status == 500
    assert len(endpoint) == 3
    assert max(received.at for received in endpoint.requests) <= began + 0.25
    world.check()


def test_an_answer_that_began_is_never_retried() -> None:
    """The head is with the caller when the endpoint breaks: the connection is cut, and nobody asks twice."""

    def half(received: Received) -> None:
        received.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        received.reset(after=0.01)

    world = World(config(READS))
    (endpoint,) = world.serving(half)
    caller = world.caller()
    call = caller.request()

    world.loop.run_while(lambda: not caller.closed)

    assert (call.status, call.body, call.done) == (200, b"half", False)
    assert isinstance(caller.lost, ConnectionResetError)
    assert len(endpoint) == 1
    world.check()


def test_a_retry_goes_through_the_counters_once_per_attempt() -> None:
    """Service counters see one request, client counters one per attempt with the status of that attempt."""
    world = World(config(READS))
    _, handler = flaky(1)
    world.serving(handler)

    assert world.get().status == 200

    metrics = world.metrics()
    assert metrics["rt/out/service/svc/web/requests"] == 1
    assert metrics["rt/out/service/svc/web/success"] == 1
    assert metrics["rt/out/client/#/lit/web/requests"] == 2
    assert metrics["rt/out/client/#/lit/web/failures"] == 1
    assert metrics["rt/out/client/#/lit/web/status/503"] == 1
    assert metrics["rt/out/client/#/lit/web/status/200"] == 1
    assert world.sink is not None
    assert [(r.status, r.attempts, r.failed) for r in world.sink.records] == [(200, 2, False)]


def test_an_attempt_without_an_answer_is_counted_without_a_status() -> None:
    """After a 503, a second attempt that breaks is not counted as another 503."""
    world = World(config(READS))
    seen: list[Received] = []

    def handler(received: Received) -> None:
        seen.append(received)
        if len(seen) == 1:
            received.answer(503)
        elif len(seen) == 2:
            received.reset()
        else:
            received.answer()

    world.serving(handler)

    assert world.get().status == 200

    metrics = world.metrics()
    assert len(seen) == 3
    assert metrics["rt/out/client/#/lit/web/status/503"] == 1
    assert metrics["rt/out/client/#/lit/web/status/error"] == 1
    world.check()


@pytest.mark.parametrize("field", ["l5d-retryable: true"])
def test_an_endpoint_may_ask_for_a_retry_itself(field: str) -> None:
    """Under the default classifier, which retries nothing."""
    world = World()
    seen: list[Received] = []

    def handler(received: Received) -> None:
        seen.append(received)
        if len(seen) == 1:
            received.answer(503, fields=(field,))
        else:
            received.answer()

    world.serving(handler)

    assert world.get(method="POST", body=b"x").status == 200
    assert len(seen) == 2
    world.check()


def test_a_caller_that_leaves_ends_the_wait_for_a_retry() -> None:
    """Nothing is sent for a caller that has gone while a backoff ran."""
    world = World(config(READS + ", retries: {backoff: {kind: constant, ms: 1000}}"))
    (endpoint,) = world.serving(answering(500))
    caller = world.caller()
    caller.request()
    world.run(0.5)

    caller.reset()
    world.run(5)

    assert len(endpoint) == 1
    world.check()


def test_a_caller_that_leaves_cancels_the_work_behind_it() -> None:
    """The endpoint sees its connection reset, at once; a FIN would leave open whether an answer is wanted."""
    world = World()
    (endpoint,) = world.serving(silent)
    caller = world.caller()
    caller.request()
    world.run(0.1)
    assert not endpoint.requests[0].cut

    caller.close()
    world.run(0.1)

    assert endpoint.requests[0].cut
    assert endpoint.requests[0].session.error is not None
    assert world.metric("rt/out/server/127.0.0.1/4140/failures/reset-by-caller") == 1
    world.check()
