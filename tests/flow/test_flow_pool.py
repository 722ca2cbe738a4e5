"""Connections to endpoints: how many, who waits, how long they rest."""

from __future__ import annotations

import pytest

from tests.flow.scripted import Received
from tests.flow.world import World, answering, config, silent


def test_one_connection_serves_one_request_after_the_other() -> None:
    """Sequential requests of many callers share it."""
    world = World()
    (endpoint,) = world.serving()

    calls = [world.get() for _ in range(10)]

    assert [call.status for call in calls] == [200] * 10
    assert endpoint.accepted == 1
    world.check()


def test_a_burst_opens_a_connection_for_each_request() -> None:
    """A hundred requests at once to an endpoint that takes a second are all answered after a second."""
    world = World()
    (endpoint,) = world.serving(answering(after=1.0))

    calls = [world.caller().request() for _ in range(100)]
    world.finish(*calls)

    assert max(call.elapsed for call in calls) == pytest.approx(1.0, abs=0.05)
    assert endpoint.accepted == 100
    world.check()


def test_a_free_connection_is_not_waited_for_while_one_is_dialled() -> None:
    """A slow dial does not delay a request for which a connection has become free."""
    world = World()
    (endpoint,) = world.serving(answering(after=0.05))
    first = world.caller().request()
    world.run(0.01)
    world.loop.link(endpoint.ip, endpoint.port).latency = 0.4

    second = world.caller().request()
    world.finish(first, second)

    assert second.elapsed == pytest.approx(0.1, abs=0.02)
    world.run(2)
    assert world.client().connections == 2
    world.check()


def test_max_size_bounds_the_connections_and_the_others_wait() -> None:
    """hostConnectionPool.maxSize 2: five requests of 100 ms take three rounds."""
    world = World(config(client="hostConnectionPool: {maxSize: 2}"))
    (endpoint,) = world.serving(answering(after=0.1))

    calls = [world.caller().request() for _ in range(5)]
    world.finish(*calls)

    assert endpoint.accepted == 2
    assert sorted(round(call.elapsed, 1) for call in calls) == [0.1, 0.1, 0.2, 0.2, 0.3]
    world.check()


def test_max_waiters_bounds_who_waits() -> None:
    """One connection, one waiter: the third request is told so at once."""
    world = World(config(client="hostConnectionPool: {maxSize: 1, maxWaiters: 1}"))
    world.serving(answering(after=0.1))

    calls = [world.caller().request() for _ in range(3)]
    world.finish(*calls)

    assert sorted(call.status for call in calls) == [200, 200, 503]
    assert next(call for call in calls if call.status == 503).reason == "limit-pool-waiters"
    assert world.metric("rt/out/client/#/lit/web/failure_accrual/removals") == 0
    world.check()


def test_a_waiter_outlives_the_connection_it_was_to_get() -> None:
    """The connection that becomes free breaks in that very moment: the waiter gets a new one."""

    def answer_and_break(received: Received) -> None:
        received.answer(after=0.1)
        received.reset(after=0.1)

    world = World(config(client="hostConnectionPool: {maxSize: 1}"))
    (endpoint,) = world.serving(answer_and_break)

    calls = [world.caller().request() for _ in range(3)]
    world.finish(*calls, limit=5)

    assert [call.status for call in calls] == [200] * 3
    assert endpoint.accepted == 3
    world.check()


def test_a_waiter_that_leaves_is_forgotten() -> None:
    """Its place in the queue is free, and the endpoint never sees it."""
    world = World(config(client="hostConnectionPool: {maxSize: 1, maxWaiters: 1}"))
    (endpoint,) = world.serving(answering(after=0.1))
    first = world.caller().request("/1")
    world.run(0.01)
    leaver = world.caller()
    leaver.request("/2")
    world.run(0.01)

    leaver.reset()
    world.run(0.01)
    third = world.caller().request("/3")
    world.finish(first, third)

    assert (first.status, third.status) == (200, 200)
    assert [received.message.target for received in endpoint.requests] == ["/1", "/3"]
    world.check()


def test_idle_connections_are_closed_after_their_idle_time() -> None:
    """The newest works, the oldest are closed; minSize of them stay."""
    world = World(config(client="hostConnectionPool: {idleTimeMs: 5000, minSize: 1}"))
    (endpoint,) = world.serving(answering(after=0.1))
    world.finish(*[world.caller().request() for _ in range(4)])
    assert len(endpoint.sessions) == 4

    world.run(4)
    assert len(endpoint.sessions) == 4
    world.run(3)

    assert len(endpoint.sessions) == 1
    assert world.get().status == 200
    assert endpoint.accepted == 4
    world.check()


def test_connections_end_after_their_life_time() -> None:
    """clientSession.lifeTimeMs: the request after it gets a new one, and none is failed."""
    world = World(config(client="clientSession: {lifeTimeMs: 1000}"))
    (endpoint,) = world.serving()
    for _ in range(6):
        assert world.get().status == 200
        world.run(0.4)

    assert endpoint.accepted == 2
    world.check()


def test_a_response_that_nobody_asked_for_ends_the_connection() -> None:
    """F14: bytes behind a whole response could be taken for the next one."""

    def twice(received: Received) -> None:
        received.answer()
        received.answer(body=b"poison")

    world = World()
    (endpoint,) = world.serving(twice)

    calls = [world.get() for _ in range(3)]

    assert [call.body for call in calls] == [b"ok"] * 3
    assert endpoint.accepted == 3
    assert world.metric("rt/out/client/#/lit/web/surplus_responses") == 3
    world.check()


def test_an_endpoint_that_left_serves_what_it_has_begun() -> None:
    """Taken out of the replica set: its connection ends after the answer, and nothing new goes there."""
    world = World()
    old, new = world.serving(answering(after=0.5), answering())
    calls = [world.caller().request() for _ in range(8)]
    world.run(0.1)
    begun = len(old)

    world.name("web", new)
    world.run(0.01)
    later = [world.get() for _ in range(8)]
    world.finish(*calls)

    assert {call.status for call in calls + later} == {200}
    assert len(old) == begun > 0
    world.run(0.1)
    assert old.sessions == {}
    world.check()


def test_requests_that_wait_for_an_endpoint_that_leaves_go_elsewhere() -> None:
    """They have not been sent, so they move."""
    world = World(config(client="hostConnectionPool: {maxSize: 1}"))
    (old,) = world.serving(silent)
    calls = [world.caller().request() for _ in range(4)]
    world.run(0.1)
    new = world.endpoint()

    world.name("web", new)
    world.finish(*calls[1:])

    assert [call.status for call in calls] == [0, 200, 200, 200]
    assert (len(old), len(new)) == (1, 3)


def test_a_closed_name_leaves_no_connection_behind() -> None:
    """After the idle time of the binding cache all of it is gone, and the next use builds it again."""
    world = World(config(router="bindingCache: {idleTtlSecs: 20}"))
    web, other = world.serving(), world.serving(name="other")
    assert world.get().status == 200
    assert world.get(host="other").status == 200

    for _ in range(60):
        assert world.get(host="other").status == 200
        world.run(1)

    assert web[0].sessions == {}
    assert world.get().status == 200
    assert len(other[0].sessions) == 1
    world.check()


def test_a_name_in_use_is_never_closed() -> None:
    """Clients that are used now and then outlive any number of sweeps; none of their requests waits for ever."""
    world = World(config(router="bindingCache: {idleTtlSecs: 20}"))
    world.serving()
    world.serving(name="other")

    for _ in range(20):
        assert world.get().status == 200
        assert world.get(host="other").status == 200
        world.run(7)

    assert world.metric("rt/out/bindcache/client/expires") == 0
    world.check()
