"""Failure accrual and fail-fast as requests meet them: tripping, probing, reviving, and the last resort."""

from __future__ import annotations

import pytest

from tests.flow.scripted import Received, ScriptedEndpoint
from tests.flow.world import World, answering, config

ACCRUAL = (
    "failureAccrual: {kind: io.l5d.consecutiveFailures, failures: 5, backoff: {kind: constant, ms: 5000}}"
)


class Switch:
    """A handler that a test breaks and mends."""

    def __init__(self, status: int = 200) -> None:
        self.status = status

    def __call__(self, received: Received) -> None:
        received.answer(self.status, after=0.001)


def removals(world: World) -> float:
    return world.metric("rt/out/client/#/lit/web/failure_accrual/removals")


def pace(world: World, seconds: float, rate: float) -> list[int]:
    """Requests at a rate; their statuses."""
    calls = []
    for _ in range(round(seconds * rate)):
        calls.append(world.caller().request())
        world.run(1 / rate)
    world.finish(*calls)
    return [call.status for call in calls]


def since(endpoint: ScriptedEndpoint, when: float) -> int:
    return sum(received.at >= when for received in endpoint.requests)


def test_it_trips_after_five_failures_is_probed_once_per_backoff_and_revives() -> None:
    """Of two endpoints the broken one gets five requests, then one each five seconds, then its half again."""
    world = World(config(client=f"{ACCRUAL}, loadBalancer: {{kind: roundRobin}}"))
    switch = Switch(500)
    broken, _healthy = world.serving(switch, Switch())

    pace(world, 1, 20)
    assert len(broken) == 5
    assert removals(world) == 1

    pace(world, 20, 20)
    assert len(broken) == 5 + 4
    assert world.metric("rt/out/client/#/lit/web/failure_accrual/probes") == 4

    switch.status = 200
    pace(world, 6, 20)
    assert world.metric("rt/out/client/#/lit/web/failure_accrual/revivals") == 1
    revived_at = world.loop.now()
    assert set(pace(world, 5, 20)) == {200}
    assert since(broken, revived_at) == pytest.approx(50, abs=5)
    world.check()


def test_only_one_request_probes() -> None:
    """While the probe has no answer the others go elsewhere."""
    world = World(config(client=f"{ACCRUAL}, loadBalancer: {{kind: roundRobin}}"))
    switch = Switch(500)
    broken, _healthy = world.serving(switch, Switch())
    pace(world, 1, 20)
    broken.handler = answering(after=1.0)
    world.run(5)

    calls = [world.caller().request() for _ in range(50)]
    world.finish(*calls)

    assert {call.status for call in calls} == {200}
    assert len(broken) == 5 + 1
    world.check()


def test_a_probe_whose_caller_left_is_repeated() -> None:
    """It said nothing about the endpoint, which must not stay ejected for it."""
    world = World(config(client=f"{ACCRUAL}, loadBalancer: {{kind: roundRobin}}"))
    broken, _healthy = world.serving(Switch(500), Switch())
    pace(world, 1, 20)
    broken.handler = answering(after=1.0)
    world.run(5)
    callers = [world.caller() for _ in range(2)]
    for caller in callers:
        caller.request()
    world.run(0.1)
    assert len(broken) == 6

    for caller in callers:
        caller.reset()
    world.run(0.1)
    broken.handler = answering()
    pace(world, 1, 20)

    assert world.metric("rt/out/client/#/lit/web/failure_accrual/revivals") == 1
    world.check()


@pytest.mark.parametrize("balancer", ["p2c", "ewma", "heap", "aperture", "roundRobin"])
def test_when_all_are_ejected_they_still_serve(balancer: str) -> None:
    """The last resort is counted, and the first that recovers is found by ordinary requests."""
    world = World(config(client=f"{ACCRUAL}, loadBalancer: {{kind: {balancer}}}"))
    switches = [Switch(500), Switch(500), Switch(500)]
    members = world.serving(*switches)
    # Slots of failures are held for two seconds: spread the requests so that each member fails five times.
    pace(world, 8, 10)
    assert removals(world) == 3
    before = sum(map(len, members))

    statuses = pace(world, 1, 20)

    assert statuses == [500] * 20
    assert sum(map(len, members)) == before + 20
    assert world.metric("rt/out/client/#/lit/web/loadbalancer/last_resort") > 0
    assert world.metric("rt/out/client/#/lit/web/loadbalancer/available") < 3
    world.check()


def test_failures_that_are_not_the_endpoints_do_not_eject_it() -> None:
    """Callers that leave, a hundred of them, and refusals by our own pool."""
    world = World(config(client=f"{ACCRUAL}, hostConnectionPool: {{maxSize: 1, maxWaiters: 1}}"))
    world.serving(answering(after=0.2))
    for _ in range(100):
        caller = world.caller()
        caller.request()
        world.run(0.002)
        caller.reset()
        world.run(0.002)
    calls = [world.caller().request() for _ in range(20)]
    world.finish(*calls)

    assert {call.status for call in calls} == {200, 503}
    assert removals(world) == 0
    world.check()


def test_a_probe_succeeds_with_its_response_head() -> None:
    """A stream that lasts an hour must not keep its endpoint out of use for that hour."""

    def stream(received: Received) -> None:
        received.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")

    world = World(config(client=f"{ACCRUAL}, loadBalancer: {{kind: roundRobin}}"))
    broken, _healthy = world.serving(Switch(500), Switch())
    pace(world, 1, 20)
    assert removals(world) == 1
    world.run(5)
    broken.handler = stream
    callers = [world.caller() for _ in range(2)]
    for caller in callers:
        caller.request()
    world.run(0.1)
    broken.handler = answering()

    before = len(broken)
    assert set(pace(world, 2, 20)) == {200}

    assert len(broken) - before == pytest.approx(20, abs=3)
    for caller in callers:
        caller.reset()
    world.check()


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [("nonRetryable5XX", 500, "0.0"), ("nonRetryable5XX", 404, "1.0"), ("allSuccessful", 500, "1.0")],
)
def test_the_answer_says_how_it_was_classified(kind: str, status: int, expected: str) -> None:
    """l5d-success-class, from the classifier that counted it."""
    world = World(config(f"responseClassifier: {{kind: io.l5d.http.{kind}}}"))
    world.serving(answering(status))

    call = world.get()

    assert call.response is not None
    assert call.response.get("l5d-success-class") == expected
    assert world.metric("rt/out/service/svc/web/success") == float(expected)
    world.check()


def test_fail_fast_with_everybody_dead_refuses_at_once() -> None:
    """No dial, a reason of its own; the first that answers a background dial serves again."""
    world = World(config(client="failFast: true, failureAccrual: {kind: none}"))
    world.name("web", "10.0.0.77:80", "10.0.0.78:80")
    world.get()
    dials = dict(world.loop.dialled)

    call = world.get()

    assert (call.status, call.reason) == (503, "all-ejected")
    assert world.loop.dialled == {**dials, ("127.0.0.1", 4140): dials["127.0.0.1", 4140] + 1}
    world.endpoint(ip="10.0.0.78")
    world.run(40)
    assert set(pace(world, 1, 20)) == {200}
    world.check()


def test_fail_fast_refuses_a_dead_endpoint_without_dialling_it() -> None:
    """failFast: one refused connect marks it dead; others serve, it is dialled again in the background and returns."""
    world = World(config(client="failFast: true, failureAccrual: {kind: none}"))
    alive = world.endpoint()
    world.name("web", alive, "10.0.0.77:80")

    assert set(pace(world, 2, 20)) == {200}
    metrics = world.metrics()
    assert metrics["rt/out/client/#/lit/web/failfast/marked_dead"] == 1
    assert metrics["rt/out/client/#/lit/web/failure_accrual/removals"] == 0
    dials = world.loop.dialled["10.0.0.77", 80]
    assert dials <= 4

    back = world.endpoint(ip="10.0.0.77")
    world.run(60)
    assert set(pace(world, 2, 20)) == {200}
    assert world.metric("rt/out/client/#/lit/web/failfast/marked_available") == 1
    assert len(back) > 5
    world.check()
