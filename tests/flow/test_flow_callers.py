"""Callers' connections: pipelining, half-close, HTTP/1.0, slow heads, idle times, drain, admission."""

from __future__ import annotations

import pytest

from hostmesh.proxy.caller_session import ASK_AGAIN
from tests.flow.scripted import Received
from tests.flow.world import World, answering, config, silent

GET = b"GET /%d HTTP/1.1\r\nHost: web\r\n\r\n"


@pytest.mark.parametrize("read_size", [None, 1, 50])
def test_pipelined_requests_are_answered_in_order(read_size: int | None) -> None:
    """Ten in one segment, the first the slowest: answers come in the order of the requests, one at a time."""
    world = World()

    def handler(received: Received) -> None:
        number = int(received.message.target[1:])
        received.answer(body=b"%d" % number, after=0.1 - number * 0.01)

    world.serving(handler, handler)
    world.loop.read_size = read_size
    caller = world.caller()
    caller.send(b"".join(GET % number for number in range(10)))

    calls = [caller.expect() for _ in range(10)]
    world.finish(*calls)

    assert [call.body for call in calls] == [b"%d" % number for number in range(10)]
    world.check()


def test_a_body_may_follow_in_the_pipeline() -> None:
    """GET, POST with a body, chunked POST, GET, all at once."""
    world = World()
    (endpoint,) = world.serving()
    caller = world.caller()
    caller.send(
        b"GET /0 HTTP/1.1\r\nHost: web\r\n\r\n"
        b"POST /1 HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\nabc"
        b"POST /2 HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\n\r\n"
        b"GET /3 HTTP/1.1\r\nHost: web\r\n\r\n"
    )

    calls = [caller.expect(method) for method in ("GET", "POST", "POST", "GET")]
    world.finish(*calls)

    assert [call.status for call in calls] == [200] * 4
    assert [received.body for received in endpoint.requests] == [b"", b"abc", b"def", b""]
    world.check()


def test_what_is_pipelined_is_bounded() -> None:
    """While one request is in flight the connection is not read beyond a bound."""
    world = World()
    world.serving(answering(after=5.0))
    caller = world.caller()
    caller.send(GET % 1 + b"GET /2 HTTP/1.1\r\nHost: web\r\nX: " + b"y" * 4000 + b"\r\n\r\n" * 1)
    caller.send((b"GET /3 HTTP/1.1\r\nHost: web\r\nX: " + b"y" * 4000 + b"\r\n\r\n") * 500)

    world.run(3)

    # Our bound, one read beyond it, and what the kernel's buffers hold.
    assert caller.transport.bytes_out <= 64 * 1024 + 64 * 1024 + 64 * 1024


def test_a_caller_that_resets_is_noticed_although_it_is_not_read() -> None:
    """While its pipelined bytes wait unread: the request in flight is cancelled all the same."""
    world = World()
    (endpoint,) = world.serving(silent)
    caller = world.caller()
    caller.send(GET % 1 + (b"GET /2 HTTP/1.1\r\nHost: web\r\nX: " + b"y" * 4000 + b"\r\n\r\n") * 50)
    world.run(1)

    caller.reset()
    world.run(0.1)

    assert endpoint.requests[0].cut
    world.check()


def test_answers_that_are_not_read_hold_up_the_pipeline() -> None:
    """A caller that pipelines requests for large answers and reads none gets no more of them prepared."""
    world = World()
    (endpoint,) = world.serving(answering(body=b"x" * 60_000))
    caller = world.caller()
    world.run(0.01)
    caller.transport.pause()
    caller.send(b"".join(GET % number for number in range(200)))

    world.run(5)

    assert len(endpoint) <= 6
    calls = [caller.expect() for _ in range(200)]
    caller.transport.resume()
    world.finish(*calls)
    assert {len(call.body) for call in calls} == {60_000}
    world.check()


def test_a_bad_request_in_the_pipeline_is_answered_in_its_turn() -> None:
    """What came before it is answered, then it, then the connection ends."""
    world = World()
    world.serving(answering(after=0.1))
    caller = world.caller()
    caller.send(GET % 1 + b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + GET % 3)

    calls = [caller.expect(), caller.expect()]
    world.finish(*calls)
    world.run(3)

    assert [call.status for call in calls] == [200, 400]
    assert caller.closed
    world.check()


@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.1\r\nHost: web\r\n\r\n", b"GET / HTTP/1.0\r\nHost: web\r\n\r\n"]
)
def test_a_caller_that_half_closes_is_answered(head: bytes) -> None:
    """It has said all it has to say, and listens."""
    world = World()
    world.serving(answering(after=0.5))
    caller = world.caller()
    caller.send(head)
    world.run(0.01)
    call = caller.expect()

    caller.half_close()
    world.finish(call)

    assert call.status == 200
    world.run(1)
    assert caller.closed
    world.check()


@pytest.mark.parametrize(("version", "asked"), [(b"1.1", [0, 1, 2, 2]), (b"1.0", [0, 0, 0, 0])])
def test_a_half_closed_caller_is_asked_twice_whether_it_listens(version: bytes, asked: list[int]) -> None:
    """With an interim 100, as far as its version has them: one that was just leaving TLS may have read the first."""
    world = World()
    world.serving(answering(after=5.0))
    caller = world.caller()
    caller.send(b"GET / HTTP/%b\r\nHost: web\r\n\r\n" % version)
    world.run(0.01)
    call = caller.expect()

    seen = [len(call.informational)]
    caller.half_close()
    for seconds in (0.1, ASK_AGAIN, 3.0):
        world.run(seconds)
        seen.append(len(call.informational))
    world.finish(call)

    assert seen == asked
    assert call.status == 200
    world.check()


def test_pipelined_requests_before_a_half_close_are_all_answered() -> None:
    """Then the connection ends."""
    world = World()
    world.serving(answering(after=0.1))
    caller = world.caller()
    caller.send(b"".join(GET % number for number in range(5)))
    world.run(0.01)
    caller.half_close()

    calls = [caller.expect() for _ in range(5)]
    world.finish(*calls)

    assert [call.status for call in calls] == [200] * 5
    world.run(3)
    assert caller.closed
    world.check()


def test_a_half_closed_caller_still_has_its_pipelined_upload_cut() -> None:
    """A FIN in the middle of a body: the request is not what it says it is."""
    world = World()
    (endpoint,) = world.serving()
    caller = world.caller()
    caller.send(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 10000\r\n\r\nabc")
    world.run(0.01)

    caller.half_close()
    world.run(3)

    assert endpoint.requests[0].cut
    assert caller.closed
    world.check()


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        ("GET / HTTP/1.1\r\nHost: web\r\n", True),
        ("GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n", False),
        ("GET / HTTP/1.0\r\nHost: web\r\n", False),
        ("GET / HTTP/1.0\r\nHost: web\r\nConnection: keep-alive\r\n", True),
    ],
)
def test_connections_are_kept_as_the_caller_asks(lines: str, kept: bool) -> None:
    """And the endpoint's connection does not depend on it."""
    world = World()
    (endpoint,) = world.serving()
    for _ in range(2):
        caller = world.caller()
        caller.send(lines.encode() + b"\r\n")
        world.finish(caller.expect())
        world.run(3)
        assert caller.closed is not kept

    assert endpoint.accepted == 1
    world.check()


def test_a_chunked_answer_for_an_old_caller_ends_with_the_connection() -> None:
    """HTTP/1.0 knows no chunks."""

    def handler(received: Received) -> None:
        received.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")

    world = World()
    world.serving(handler)
    caller = world.caller()
    caller.send(b"GET / HTTP/1.0\r\nHost: web\r\nConnection: keep-alive\r\n\r\n")
    call = caller.expect()

    world.finish(call)

    assert call.body == b"hello"
    assert call.response is not None
    assert call.response.get("transfer-encoding") is None
    assert caller.closed
    world.check()


def test_a_slow_head_is_refused_in_time() -> None:
    """R1: ten seconds from its first byte, however steadily bytes drip."""
    world = World()
    world.serving()
    caller = world.caller()
    call = caller.expect()
    for byte in b"GET / HTTP/1.1\r\nHost: web\r\nX: ":
        caller.send(bytes([byte]))
        world.run(0.5)
        if caller.closed:
            break
    world.run(3)

    assert (call.status, call.reason) == (408, "limit-head-time")
    assert call.elapsed <= 10.1
    assert caller.closed
    world.check()


def test_a_caller_that_says_nothing_is_let_go() -> None:
    """R1: thirty seconds after the accept."""
    world = World()
    caller = world.caller()
    world.run(29)
    assert not caller.closed

    world.run(4)

    assert caller.closed
    assert bytes(caller.raw) == b""


def test_idle_connections_of_callers_end_after_their_idle_time() -> None:
    """serverSession.idleTimeMs counts from the end of the last answer."""
    world = World(config(server="serverSession: {idleTimeMs: 2000}"))
    world.serving(answering(after=1.9))
    caller = world.caller()
    for _ in range(3):
        world.finish(caller.request())
        world.run(1.5)
        assert not caller.closed

    world.run(3)

    assert caller.closed
    world.check()


def test_connections_of_callers_end_after_their_life_time() -> None:
    """serverSession.lifeTimeMs: between two requests, never in one."""
    world = World(config(server="serverSession: {lifeTimeMs: 2000}"))
    world.serving(answering(after=3.0))
    caller = world.caller()

    call = caller.request()
    world.finish(call)
    world.run(5)

    assert call.status == 200
    assert caller.closed
    world.check()


def test_admission_is_bounded() -> None:
    """maxConcurrentRequests 2: the third is refused as a nack that finagle callers understand."""
    world = World(config(server="maxConcurrentRequests: 2"))
    world.serving(answering(after=0.1))

    calls = [world.caller().request() for _ in range(3)]
    world.finish(*calls)

    assert sorted(call.status for call in calls) == [200, 200, 503]
    refused = next(call for call in calls if call.status == 503)
    assert refused.reason == "overloaded"
    assert refused.response is not None
    assert refused.response.get("retry-after") == "0"
    assert refused.response.get("finagle-http-nack") == "true"
    assert world.get().status == 200
    world.check()


def test_a_drain_ends_idle_connections_and_finishes_the_others() -> None:
    """No request fails: the one in flight is answered with Connection: close, streams run to their end."""

    def stream(received: Received) -> None:
        received.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        received.send(b"cd", after=2.0)

    world = World()
    world.serving(answering(after=1.0))
    world.serving(stream, name="stream")
    idle, busy, streaming = world.caller(), world.caller(), world.caller()
    world.finish(idle.request())
    call = busy.request()
    stream_call = streaming.request(host="stream")
    world.run(0.1)

    world.linker.drain()
    world.finish(call, stream_call)
    world.run(3)

    assert (call.status, stream_call.body) == (200, b"abcd")
    assert call.response is not None
    assert call.response.get("connection") == "close"
    assert idle.closed
    assert busy.closed
    assert streaming.closed
    assert world.linker.connections == 0
    world.check()


def test_a_drain_answers_what_is_pipelined_behind_the_request_in_flight() -> None:
    """Or at least says that the connection ends before it: no request is half-taken."""
    world = World()
    (endpoint,) = world.serving(answering(after=0.5))
    caller = world.caller()
    caller.send(GET % 1 + GET % 2)
    first = caller.expect()
    world.run(0.1)

    world.linker.drain()
    world.finish(first)
    world.run(3)

    assert first.status == 200
    assert first.response is not None
    assert first.response.get("connection") == "close"
    assert len(endpoint) == 1
    assert caller.closed
    world.check()


def test_a_status_answer_during_a_drain_ends_its_connection() -> None:
    """Answers that are made here do not keep connections open either."""
    world = World()
    world.set_dtab("/svc/web => /$/io.buoyant.http.status/204")
    caller = world.caller()
    caller.send(b"GET / HTTP/1.1\r\n")
    world.run(0.1)
    world.linker.drain()

    caller.send(b"Host: web\r\n\r\n")
    call = caller.expect()
    world.finish(call)
    world.run(3)

    assert call.status == 204
    assert caller.closed
    world.check()


def test_the_end_of_the_drain_cuts_what_is_left() -> None:
    """A request that outlasts shutdownGraceMs is broken off."""
    world = World()
    (endpoint,) = world.serving(silent)
    caller = world.caller()
    caller.request()
    world.run(0.1)
    world.linker.drain()
    world.run(10)
    assert not caller.closed

    world.linker.close()
    world.run(0.1)

    assert caller.closed
    assert endpoint.requests[0].cut


def test_a_removed_server_drains() -> None:
    """A reload without one of two ports: its connections end with their answers."""
    two = config() + "  - {port: 4141}\n"
    world = World(two)
    world.serving(answering(after=0.5))
    caller = world.caller(4141)
    call = caller.request()
    world.run(0.1)

    world.apply(config())
    world.finish(call)
    world.run(3)

    assert call.status == 200
    assert caller.closed
    refused = world.caller(4141)
    world.run(0.1)
    assert isinstance(refused.lost, ConnectionRefusedError)
    assert world.get().status == 200
    world.check()


def test_a_reload_keeps_connections_and_requests() -> None:
    """Ten reloads under load, each with another weight: no request fails, no endpoint connection is made anew."""
    world = World(config(router="", service="totalTimeoutMs: 5000"))
    (endpoint,) = world.serving(answering(after=0.02))
    callers = [world.caller() for _ in range(10)]
    world.finish(*[caller.request() for caller in callers])
    accepted = endpoint.accepted
    calls = []

    for number in range(10):
        calls += [caller.request() for caller in callers]
        world.run(0.01)
        world.apply(config(service=f"totalTimeoutMs: {5001 + number}"))
        world.finish(*calls)

    assert {call.status for call in calls} == {200}
    assert endpoint.accepted == accepted
    assert world.metric("rt/out/server/127.0.0.1/4140/requests") == len(calls) + 10
    world.run(60)
    assert world.get().status == 200
    world.check()


def test_a_reload_that_changes_a_client_serves_what_is_in_flight() -> None:
    """Another balancer, so other stacks: requests that wait for a connection are served all the same."""
    world = World(config(client="hostConnectionPool: {maxSize: 1}"))
    world.serving(answering(after=0.1))
    calls = [world.caller().request() for _ in range(4)]
    world.run(0.05)

    world.apply(config(client="hostConnectionPool: {maxSize: 2}, loadBalancer: {kind: ewma}"))
    calls += [world.caller().request() for _ in range(4)]
    world.finish(*calls)

    assert {call.status for call in calls} == {200}
    world.run(30)
    world.check()
