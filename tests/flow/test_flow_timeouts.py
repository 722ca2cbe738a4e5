"""Attempt timeouts, total timeouts, and deadlines that travel from hop to hop."""

from __future__ import annotations

import pytest

from tests.flow.scripted import Received
from tests.flow.world import World, answering, config, silent

READS = "responseClassifier: {kind: io.l5d.http.retryableRead5XX}"


def deadline_ms(world: World, received: Received) -> float:
    """How much time the request at an endpoint says is left, in milliseconds of its arrival."""
    value = received.get("l5d-ctx-deadline")
    assert value is not None
    at = world.env.wall() - (world.loop.now() - received.at)
    return int(value.split()[1]) / 1e6 - at * 1000


def test_an_attempt_that_takes_too_long_is_given_up() -> None:
    """requestAttemptTimeoutMs: 503 with the reason; the endpoint's connection ends."""
    world = World(config(client="requestAttemptTimeoutMs: 200"))
    (endpoint,) = world.serving(silent)

    call = world.get()

    assert (call.status, call.reason) == (503, "attempt-timeout")
    assert call.elapsed == pytest.approx(0.2, abs=0.01)
    world.run(0.1)
    assert endpoint.requests[0].cut
    world.check()


def test_an_attempt_timeout_is_retried_as_the_classifier_says() -> None:
    """A read goes to another endpoint; the slow one is ejected after five of them."""
    world = World(config(READS, "requestAttemptTimeoutMs: 100"))
    slow, fast = world.serving(silent, answering(after=0.01))

    calls = []
    for _ in range(60):
        calls.append(world.get())
        world.run(0.3)

    assert {call.status for call in calls} == {200}
    assert len(slow) >= 5
    assert world.metric("rt/out/client/#/lit/web/failure_accrual/removals") >= 1
    assert len(fast) == 60
    world.check()


def test_an_attempt_timeout_of_a_write_is_not_repeated() -> None:
    """It may have been processed."""
    world = World(config(READS, "requestAttemptTimeoutMs: 100"))
    (endpoint,) = world.serving(silent)

    call = world.get(method="POST", body=b"x")

    assert (call.status, call.reason) == (503, "attempt-timeout")
    assert len(endpoint) == 1
    world.check()


def test_the_attempt_timeout_ends_with_the_response_head() -> None:
    """A long body is not cut by it."""

    def slowly(received: Received) -> None:
        received.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", after=0.1)
        received.send(b"ab", after=0.5)
        received.send(b"cd", after=1.0)

    world = World(config("totalTimeoutMs: 300", "requestAttemptTimeoutMs: 200"))
    world.serving(slowly)

    call = world.get()

    assert (call.status, call.body) == (200, b"abcd")
    world.check()


def test_an_attempt_timeout_covers_the_connect() -> None:
    """And nothing comes later to an exchange that is over."""
    world = World(config(client="requestAttemptTimeoutMs: 100"))
    world.loop.link("10.0.0.77", 80).silent = True
    world.name("web", "10.0.0.77:80")

    call = world.get()
    world.run(5)

    assert (call.status, call.reason) == (503, "attempt-timeout")
    world.check()


def test_the_total_timeout_includes_retries() -> None:
    """totalTimeoutMs 250 over attempts of 100: the answer comes at 250 ms, and the work behind it ends."""
    world = World(config(READS + ", totalTimeoutMs: 250", "requestAttemptTimeoutMs: 100"))
    (endpoint,) = world.serving(silent)

    call = world.get()

    assert (call.status, call.reason) == (503, "total-timeout")
    assert call.elapsed == pytest.approx(0.25, abs=0.01)
    assert len(endpoint) == 3
    world.run(1)
    assert len(endpoint) == 3
    assert all(received.cut for received in endpoint.requests)
    world.check()


def test_an_endpoint_that_never_answers_is_ejected_by_total_timeouts() -> None:
    """With no other timeout a black hole is known by the requests that it has cost."""
    world = World(config("totalTimeoutMs: 100"))
    hole, _good = world.serving(silent, answering(after=0.01))

    for _ in range(100):
        world.get()
        world.run(0.3)

    assert world.metric("rt/out/client/#/lit/web/failure_accrual/removals") == 1
    # Five to be ejected, and a probe now and then.
    assert len(hole) <= 10
    world.check()


@pytest.mark.parametrize(
    ("service", "server", "deadline", "reason", "key"),
    [
        ("", "timeoutMs: 100", 0, "total-timeout", b"timeoutMs"),
        ("totalTimeoutMs: 100", "timeoutMs: 200", 0, "total-timeout", b"totalTimeoutMs"),
        ("totalTimeoutMs: 200", "timeoutMs: 100", 0.3, "total-timeout", b"(timeoutMs)"),
        ("totalTimeoutMs: 300", "timeoutMs: 200", 0.1, "deadline-expired", b"l5d-ctx-deadline"),
    ],
)
def test_the_time_that_was_over_is_named(
    service: str, server: str, deadline: float, reason: str, key: bytes
) -> None:
    """The strictest of them ends the request, and the error says which it was."""
    world = World(config(service, server=server))
    world.serving(silent)
    until = int((world.env.wall() + deadline) * 1e9)

    call = world.get(fields=(f"l5d-ctx-deadline: 1 {until}",) if deadline else ())

    assert (call.status, call.reason) == (503, reason)
    assert key in call.body
    assert call.elapsed == pytest.approx(0.1, abs=0.01)
    world.check()


def test_impatient_callers_do_not_eject_an_endpoint() -> None:
    """A deadline is the caller's own: one that is too short for anybody says nothing about the endpoint."""
    world = World()
    world.serving(answering(after=0.05))

    for _ in range(20):
        deadline = int((world.env.wall() + 0.02) * 1e9)
        call = world.get(fields=(f"l5d-ctx-deadline: 1 {deadline}",))
        assert (call.status, call.reason) == (503, "deadline-expired")

    assert world.metric("rt/out/client/#/lit/web/failure_accrual/removals") == 0
    assert world.get().status == 200
    world.check()


def test_a_deadline_that_has_passed_is_answered_at_once() -> None:
    """No endpoint is asked."""
    world = World()
    (endpoint,) = world.serving()
    deadline = int((world.env.wall() - 1) * 1e9)

    call = world.get(fields=(f"l5d-ctx-deadline: 1 {deadline}",))

    assert (call.status, call.reason) == (503, "deadline-expired")
    assert len(endpoint) == 0
    world.check()


@pytest.mark.parametrize(
    ("service", "client", "server", "left"),
    [
        ("totalTimeoutMs: 400", "", "", 400),
        ("", "requestAttemptTimeoutMs: 300", "", 300),
        ("totalTimeoutMs: 400", "requestAttemptTimeoutMs: 300", "", 300),
        ("totalTimeoutMs: 200", "requestAttemptTimeoutMs: 300", "", 200),
        ("", "", "timeoutMs: 150", 150),
    ],
)
def test_our_own_timeouts_are_the_deadline_of_the_next_hop(
    service: str, client: str, server: str, left: float
) -> None:
    """The strictest of them, also for a caller that sent no context."""
    world = World(config(service, client, server=server))
    (endpoint,) = world.serving()

    assert world.get().status == 200

    assert deadline_ms(world, endpoint.requests[0]) == pytest.approx(left, abs=2)


def test_each_attempt_carries_its_own_deadline() -> None:
    """After 100 ms of a first attempt the second one has 100 ms again, and the total is what remains."""
    world = World(config(READS + ", totalTimeoutMs: 250", "requestAttemptTimeoutMs: 100"))
    (endpoint,) = world.serving(silent)

    world.get()

    lefts = [deadline_ms(world, received) for received in endpoint.requests]
    assert lefts == pytest.approx([100, 100, 50], abs=3)


TWO = """
routers:
- protocol: http
  label: out
  dtab: /svc => /$/inet/127.0.0.1/4141
  service: {totalTimeoutMs: 1000}
  servers: [{port: 4140}]
- protocol: http
  label: in
  dtab: /svc => /#/lit
  service: {totalTimeoutMs: 700}
  client: {requestAttemptTimeoutMs: 600}
  servers: [{port: 4141}]
"""


def test_a_deadline_shrinks_from_hop_to_hop() -> None:
    """A caller with 800 ms, a router with 1,000, one with 700, an attempt with 600: the endpoint sees 600."""
    world = World(TWO, latency=0.01)
    (endpoint,) = world.serving()
    deadline = int((world.env.wall() + 0.8) * 1e9)

    call = world.get(fields=(f"l5d-ctx-deadline: 1 {deadline}",))

    assert call.status == 200
    assert deadline_ms(world, endpoint.requests[0]) == pytest.approx(600 - 10 * 3, abs=3)
    world.check()


def test_a_deadline_cancels_the_work_behind_it_over_two_routers() -> None:
    """When the caller's 300 ms are over both routers answer and the endpoint's connection ends: nobody works on."""
    world = World(TWO, latency=0.001)
    (endpoint,) = world.serving(silent)
    deadline = int((world.env.wall() + 0.3) * 1e9)

    call = world.get(fields=(f"l5d-ctx-deadline: 1 {deadline}",))

    assert call.status == 503
    assert call.elapsed == pytest.approx(0.3, abs=0.02)
    assert 0 < deadline_ms(world, endpoint.requests[0]) < 300
    world.run(0.05)
    assert endpoint.requests[0].cut
    assert world.linker.pending == 0
    world.check()


def test_an_upload_that_waits_two_routers_away_is_cancelled_too() -> None:
    """The endpoint reads nothing, so neither router reads anything; the reset is heard all the same."""
    world = World(TWO)
    (endpoint,) = world.serving(silent)
    endpoint.on_head = lambda received: received.session.transport.pause()
    caller = world.caller()
    caller.request(method="POST", body=b"x" * (4 << 20))
    world.run(0.4)
    assert len(endpoint) == 1

    caller.reset()
    world.run(0.05)

    assert world.linker.pending == 0
    assert world.linker.connections == 0
    world.check()


def test_a_caller_that_leaves_cancels_the_work_two_routers_away() -> None:
    """Its reset travels to the endpoint."""
    world = World(TWO)
    (endpoint,) = world.serving(silent)
    caller = world.caller()
    caller.request()
    world.run(0.05)
    assert len(endpoint) == 1

    caller.reset()
    world.run(0.05)

    assert endpoint.requests[0].cut
    world.check()
