"""What was not processed is sent elsewhere: failed connects, the keep-alive race, nacks."""

from __future__ import annotations

import pytest

from tests.flow.scripted import Received
from tests.flow.world import World, answering, config


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "BREW"])
def test_a_failed_connect_requeues_every_method(method: str) -> None:
    """Nothing was sent, so it is safe for all of them, also with a body that is streamed."""
    world = World()
    alive = world.endpoint()
    world.name("web", alive, "10.0.0.77:80")
    body = None if method == "GET" else b"x" * 8000

    calls = [world.get(method=method, body=body) for _ in range(20)]

    assert [call.status for call in calls] == [200] * 20
    assert len(alive) == 20
    assert world.loop.dialled["10.0.0.77", 80] > 0
    if body:
        assert {received.body for received in alive.requests} == {body}
    world.check()


def test_a_failed_connect_requeues_to_a_busy_endpoint() -> None:
    """However much less the one that refuses has to do: what was tried is not tried again while another is there."""
    world = World(config(client="failureAccrual: {kind: none}"))
    (alive,) = world.serving(answering(after=5.0))
    world.name("web", alive, "10.0.0.77:80")

    calls = [world.caller().request() for _ in range(40)]
    world.finish(*calls)

    assert {call.status for call in calls} == {200}
    assert 0 < world.loop.dialled["10.0.0.77", 80] <= 40
    world.check()


def test_a_dead_endpoint_is_ejected_by_its_failed_connects() -> None:
    """Five in a row trip the default accrual; after that it is not dialled until it is probed."""
    world = World()
    alive = world.endpoint()
    world.name("web", alive, "10.0.0.77:80")

    # A failure keeps its slot for two seconds, so it takes a while until the balancer comes back to it.
    for _ in range(100):
        assert world.get().status == 200
        world.run(0.5)
        if world.metric("rt/out/client/#/lit/web/failure_accrual/removals"):
            break
    for _ in range(20):
        assert world.get().status == 200

    assert world.loop.dialled["10.0.0.77", 80] == 5
    world.check()


def test_when_nobody_can_be_dialled_the_caller_is_told() -> None:
    """502 with the reason, after a bounded number of connects."""
    world = World()
    world.name("web", "10.0.0.77:80", "10.0.0.78:80")

    call = world.get()

    assert (call.status, call.reason) == (502, "connect-refused")
    assert sum(world.loop.dialled[ip, 80] for ip in ("10.0.0.77", "10.0.0.78")) <= 5
    world.check()


def test_a_dial_without_an_answer_ends_after_a_second() -> None:
    """A host that is off the net: connect-timeout, and the next endpoint is tried."""
    world = World()
    world.loop.link("10.0.0.77", 80).silent = True
    world.name("web", "10.0.0.77:80")

    call = world.get()

    assert (call.status, call.reason) == (502, "connect-timeout")
    assert call.elapsed == pytest.approx(3.0, abs=0.1)
    world.check()


def racing(world: World) -> None:
    """Make the first endpoint of the world close its idle connection just as the next request is on its way."""
    endpoint = world.endpoints[0]
    (session,) = endpoint.sessions
    session.transport.reset()


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_an_idempotent_request_survives_the_keep_alive_race(method: str) -> None:
    """The endpoint ended the idle connection while the request travelled: it is sent again on a new one."""
    world = World()
    (endpoint,) = world.serving()
    caller = world.caller()
    world.finish(caller.request())

    call = caller.request(method=method, body=b"x" if method == "PUT" else None)
    # It reaches hostmesh at 100 us and would reach the endpoint at 200.
    world.run(0.00015)
    racing(world)
    world.finish(call)

    assert call.status == 200
    assert len(endpoint) == 2
    assert world.metric("rt/out/client/#/lit/web/retries/requeues") == 1
    assert world.metric("rt/out/client/#/lit/web/failure_accrual/removals") == 0
    world.check()


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_request_that_may_have_been_processed_is_not_repeated_in_the_race(method: str) -> None:
    """The caller learns that the connection broke, with the reason."""
    world = World()
    (endpoint,) = world.serving()
    caller = world.caller()
    first = caller.request()
    world.finish(first)

    call = caller.request(method=method, body=b"x")
    world.run(0.00015)
    racing(world)
    world.finish(call)

    assert (call.status, call.reason) == (502, "reset-by-endpoint")
    assert len(endpoint) == 1
    world.check()


def test_a_new_connection_that_breaks_is_no_race() -> None:
    """An endpoint that accepts and closes fails: no requeue without a classifier that says so."""

    def hang_up(received: Received) -> None:
        received.close()

    world = World()
    (endpoint,) = world.serving(hang_up)

    call = world.get()

    assert (call.status, call.reason) == (502, "reset-by-endpoint")
    assert len(endpoint) == 1
    world.check()


def test_a_broken_connection_is_retried_when_the_classifier_says_so() -> None:
    """Of three endpoints one resets every request: reads do not fail."""

    def hang_up(received: Received) -> None:
        received.reset()

    world = World(config("responseClassifier: {kind: io.l5d.http.retryableRead5XX}"))
    bad, *_good = world.serving(hang_up, answering(), answering())

    calls = []
    for _ in range(60):
        calls.append(world.get())
        world.run(0.25)

    assert {call.status for call in calls} == {200}
    assert len(bad) >= 5
    world.check()


@pytest.mark.parametrize("field", ["Retry-After: 0", "finagle-http-nack: true"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_nack_is_sent_elsewhere(field: str, method: str) -> None:
    """A 503 that says "not processed" costs the caller nothing, whatever the classifier."""
    world = World()
    busy, free = world.serving(answering(503, fields=(field,)), answering())
    body = b"x" if method == "POST" else None

    calls = [world.get(method=method, body=body) for _ in range(20)]

    assert [call.status for call in calls] == [200] * 20
    assert len(free) == 20
    assert len(busy) > 0
    assert world.metric("rt/out/client/#/lit/web/failure_accrual/removals") == 0
    world.check()


def test_a_final_nack_is_the_answer() -> None:
    """503 with finagle-http-nonretryable-nack is passed on, whatever the classifier."""
    world = World(config("responseClassifier: {kind: io.l5d.http.retryableAll5XX}"))
    (endpoint,) = world.serving(answering(503, fields=("finagle-http-nonretryable-nack: true",)))

    assert world.get().status == 503
    assert len(endpoint) == 1
    world.check()


def test_when_all_nack_the_last_one_is_the_answer() -> None:
    """Requeues of one request are bounded by a fifth of the budget, retries by their own."""
    world = World()
    members = world.serving(*[answering(503, fields=("Retry-After: 0",))] * 3)

    call = world.get()

    assert call.status == 503
    assert 2 <= sum(map(len, members)) <= 20 + 100 + 1
    world.check()


def test_killing_an_endpoint_fails_no_idempotent_request() -> None:
    """Of three endpoints one is killed under 500 GETs/s with retryableRead5XX: no request fails."""
    world = World(config("responseClassifier: {kind: io.l5d.http.retryableRead5XX}"))
    victim, *_others = world.serving(*[answering(after=0.01)] * 3)
    calls = []

    for number in range(1000):
        calls.append(world.caller().request())
        world.run(0.002)
        if number == 500:
            victim.kill()
    world.finish(*calls)

    assert {call.status for call in calls} == {200}
    world.check()


def test_killing_an_endpoint_fails_only_the_posts_on_their_way_to_it() -> None:
    """POSTs in flight to the killed process fail, none is delivered twice, later ones go elsewhere."""
    world = World(config("responseClassifier: {kind: io.l5d.http.retryableRead5XX}"))
    victim, *others = world.serving(*[answering(after=0.01)] * 3)
    calls = []
    in_flight = 0

    for number in range(600):
        calls.append(world.caller().request(f"/{number}", method="POST", body=b"%d" % number))
        world.run(0.002)
        if number == 300:
            in_flight = sum(not received.answered for received in victim.requests)
            victim.kill()
    world.finish(*calls)

    failed = [call for call in calls if call.status != 200]
    assert 0 < len(failed) <= in_flight + 1
    assert {call.reason for call in failed} == {"reset-by-endpoint"}
    delivered = [received.message.target for member in (victim, *others) for received in member.requests]
    assert len(delivered) == len(set(delivered))
    world.check()
