"""How streams and connections to HTTP/2 endpoints end, and what that means for the requests on them."""

from __future__ import annotations

import gc

import pytest
from h2.errors import ErrorCodes

from hostmesh.proxy import h2_client
from hostmesh.proxy.h2_client import FIRST_STREAMS, H2ClientSession
from hostmesh.proxy.h2_liveness import PING_AGAIN, PING_IDLE, PING_QUIET, PING_TIMEOUT
from hostmesh.proxy.h2_pool import MAX_CONNECTIONS, MAX_WAITERS, STREAM_WAIT
from hostmesh.proxy.h2_sending import Sending
from tests.flow.failing_engine import FailingEngine
from tests.flow.h2_endpoint import MAX_STREAM, Stream, answering_h2
from tests.flow.h2_scripted import caller, finish
from tests.flow.h2_world import check, every_engine, h2_world, serving_h2  # noqa: F401
from tests.flow.scripted import Call
from tests.flow.world import World
from tests.h2_raw import HEADERS, PING

CLIENT = "rt/out/client/#/lit/web"


def posts(world: World, count: int) -> list[Call]:
    """POST requests, each on a connection of its own: nobody may repeat them unasked."""
    return [world.caller().request(f"/{number}", method="POST", body=b"body") for number in range(count)]


# -- streams ----------------------------------------------------------------------------------------------------------


def test_a_refused_stream_goes_to_another_endpoint() -> None:
    """REFUSED_STREAM says that nothing was done, so any method may be repeated; it is no failure of the endpoint."""
    world = h2_world(
        "loadBalancer: {kind: roundRobin}, failureAccrual: {kind: io.l5d.consecutiveFailures, failures: 1}"
    )
    refusing, serving = serving_h2(
        world, lambda stream: stream.reset(ErrorCodes.REFUSED_STREAM), answering_h2(200, b"served")
    )

    calls = posts(world, 10)
    world.finish(*calls)

    assert [call.body for call in calls] == [b"served"] * 10
    assert len(refusing) > 0
    assert len(serving) == 10
    assert world.metric(f"{CLIENT}/failure_accrual/removals") == 0
    assert world.metric(f"{CLIENT}/retries/requeues") == len(refusing)
    check(world)


def test_an_endpoint_that_refuses_everything_is_asked_within_the_budget() -> None:
    """One endpoint: the request is repeated there, and answered with 502 when the budget says no."""
    world = h2_world("requeueBudget: {minRetriesPerSec: 0, percentCanRetry: 0.0}")
    (endpoint,) = serving_h2(world, lambda stream: stream.reset(ErrorCodes.REFUSED_STREAM))

    call = world.get(method="POST", body=b"x")

    assert (call.status, call.reason) == (502, "reset-by-endpoint")
    assert len(endpoint) == 1
    check(world)


@pytest.mark.parametrize(
    "code", [ErrorCodes.CANCEL, ErrorCodes.INTERNAL_ERROR, ErrorCodes.NO_ERROR, ErrorCodes.ENHANCE_YOUR_CALM]
)
def test_a_reset_before_the_answer_is_a_failure(code: ErrorCodes) -> None:
    """Whatever its code: the request may have been processed, so it is not repeated, not even a GET, not even on a
    connection that has served before."""
    world = h2_world()
    first, second = serving_h2(world, *[lambda stream: stream.reset(code)] * 2)

    calls = [world.get() for _ in range(4)]

    assert [(call.status, call.reason) for call in calls] == [(502, "reset-by-endpoint")] * 4
    assert len(first) + len(second) == 4
    assert world.metric(f"{CLIENT}/failures") == 4
    check(world)


def test_a_reset_is_retried_where_the_classifier_says_so() -> None:
    """retryableRead5XX covers failures without an answer, in HTTP/2 as in HTTP/1.1."""
    world = h2_world(service="responseClassifier: {kind: io.l5d.http.retryableRead5XX}")
    endpoints = serving_h2(world, *[failing_once()] * 2)

    call = world.get()

    assert call.status == 200
    assert sum(map(len, endpoints)) == 2
    check(world)


def failing_once():  # type: ignore[no-untyped-def]  # a handler
    seen: list[Stream] = []

    def handler(stream: Stream) -> None:
        seen.append(stream)
        if len(seen) == 1:
            stream.reset(ErrorCodes.INTERNAL_ERROR)
        else:
            stream.answer()

    return handler


def test_a_reset_in_the_middle_of_a_body_cuts_the_caller() -> None:
    """The answer must not look complete; other streams of the connection go on."""
    world = h2_world()

    def handler(stream: Stream) -> None:
        if stream.target == "/cut":
            stream.head(200)
            stream.data(b"half")
            stream.reset(ErrorCodes.INTERNAL_ERROR, after=0.1)
        else:
            stream.answer(after=0.2)

    (endpoint,) = serving_h2(world, handler)
    cut = world.caller()
    cut.request("/cut")
    whole = world.caller().request("/whole")
    world.finish(whole)

    assert (cut.calls[0].status, cut.calls[0].done, cut.closed) == (200, False, True)
    assert whole.status == 200
    assert endpoint.accepted == 1
    check(world)


def test_no_error_after_a_whole_answer_stops_the_upload() -> None:
    """RFC 9113 section 8.1: answer, END_STREAM, RST_STREAM NO_ERROR while the body is still coming."""
    world = h2_world()
    (endpoint,) = serving_h2(world, lambda _stream: None)

    def answer_and_stop(stream: Stream) -> None:
        stream.answer(200, b"enough")
        stream.reset(ErrorCodes.NO_ERROR)

    endpoint.on_head = answer_and_stop
    caller = world.caller()
    caller.send(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 10_000)
    call = caller.expect("POST")
    world.finish(call)

    assert (call.status, call.body) == (200, b"enough")
    assert not endpoint.session.gone
    check(world)


def test_a_caller_that_leaves_resets_its_stream() -> None:
    """With CANCEL, at once; the connection and its other streams stay."""
    world = h2_world()
    (endpoint,) = serving_h2(world, answering_h2(after=1.0))
    leaver = world.caller()
    leaver.request("/left")
    stayer = world.caller().request("/stayed")
    world.run(0.1)

    leaver.reset()
    world.run(0.1)

    assert [stream.reset_code for stream in endpoint.requests] == [ErrorCodes.CANCEL, None]
    world.finish(stayer)
    assert stayer.status == 200
    assert endpoint.accepted == 1
    check(world)


def test_an_attempt_that_times_out_resets_its_stream() -> None:
    """requestAttemptTimeoutMs: CANCEL to the endpoint, 503 to the caller; the connection serves on."""
    world = h2_world("requestAttemptTimeoutMs: 100")
    (endpoint,) = serving_h2(world, lambda stream: None if stream.target == "/slow" else stream.answer())

    slow = world.get("/slow")
    fast = world.get("/fast")

    assert (slow.status, slow.reason) == (503, "attempt-timeout")
    assert endpoint.requests[0].reset_code == ErrorCodes.CANCEL
    assert fast.status == 200
    assert endpoint.accepted == 1
    check(world)


# -- GOAWAY -----------------------------------------------------------------------------------------------------------


def test_after_goaway_streams_finish_and_new_ones_go_elsewhere() -> None:
    """As a server with MaxConnectionAge says it: first the notice, then the last stream it takes."""
    world = h2_world()
    (endpoint,) = serving_h2(world, answering_h2(after=1.0))
    first = world.caller().request("/first")
    world.run(0.1)

    old = endpoint.session
    old.say_goaway(MAX_STREAM)
    world.run(0.1)
    second = world.caller().request("/second")
    world.run(0.1)
    old.say_goaway(1)
    world.finish(first, second)

    assert (first.status, second.status) == (200, 200)
    assert endpoint.accepted == 2
    assert len(old.streams) == 1
    world.run(0.1)
    assert old.gone
    assert old.error is None
    assert world.metric(f"{CLIENT}/retries/requeues") == 0
    check(world)


def test_streams_that_goaway_leaves_out_are_sent_again() -> None:
    """Those above its last id were not processed: POST, too, goes to a new connection; the others finish."""
    world = h2_world()
    (endpoint,) = serving_h2(world, lambda _stream: None)
    calls = posts(world, 6)
    world.run(0.1)
    old = endpoint.session
    assert len(old.streams) == 6
    endpoint.handler = answering_h2(200, b"second")

    old.say_goaway(5)
    for id in (1, 3, 5):
        old.streams[id].answer(200, b"first", after=0.5)
    world.finish(*calls)

    assert sorted(call.body for call in calls) == [b"first"] * 3 + [b"second"] * 3
    assert endpoint.accepted == 2
    assert world.metric(f"{CLIENT}/retries/requeues") == 3
    check(world)


def test_goaway_without_streams_ends_the_connection() -> None:
    """Nothing is on its way: it is closed at once and the next request opens another."""
    world = h2_world()
    (endpoint,) = serving_h2(world)
    world.get()
    old = endpoint.session

    old.say_goaway(1, 0)
    world.run(0.01)

    assert old.gone
    assert world.get().status == 200
    assert endpoint.accepted == 2
    check(world)


def test_a_connection_that_is_cut_after_goaway_fails_what_it_had_taken() -> None:
    """Streams up to the last id may have been processed: POSTs fail, those above went elsewhere before."""
    world = h2_world()
    (endpoint,) = serving_h2(world, lambda _stream: None)
    calls = posts(world, 2)
    world.run(0.1)
    old = endpoint.session
    endpoint.handler = answering_h2()

    old.say_goaway(1, int(ErrorCodes.INTERNAL_ERROR))
    old.transport.close()
    world.finish(*calls)

    assert [call.status for call in calls] == [502, 200]
    check(world)


# -- lost connections -------------------------------------------------------------------------------------------------


def test_a_used_connection_that_closes_before_the_answer_is_no_failure_of_a_get() -> None:
    """The keep-alive race: the request may have met a closing connection, so what may be repeated is."""
    world = h2_world()
    (endpoint,) = serving_h2(world)
    world.get()
    endpoint.handler = lambda stream: stream.session.transport.abort()
    get = world.caller().request("/get")
    world.run(0.0)
    endpoint_handlers = [answering_h2()]

    def close_first(stream: Stream) -> None:
        if endpoint.accepted == 1:
            stream.session.transport.abort()
        else:
            endpoint_handlers[0](stream)

    endpoint.handler = close_first
    world.finish(get)
    assert get.status == 200
    assert endpoint.accepted == 2

    endpoint.handler = lambda stream: stream.session.transport.abort()
    post = world.get(method="POST", body=b"x")
    assert (post.status, post.reason) == (502, "reset-by-endpoint")
    check(world)


def test_a_lost_connection_ends_all_its_streams() -> None:
    """Each with its own answer: cut in the middle of a body, 502 before it."""
    world = h2_world()

    def handler(stream: Stream) -> None:
        if stream.target == "/begun":
            stream.head(200)
            stream.data(b"half")

    (endpoint,) = serving_h2(world, handler)
    begun = world.caller()
    begun.request("/begun")
    (waiting,) = posts(world, 1)
    world.run(0.1)

    endpoint.session.transport.reset()
    world.finish(waiting)

    assert (begun.calls[0].status, begun.calls[0].done, begun.closed) == (200, False, True)
    assert (waiting.status, waiting.reason) == (502, "reset-by-endpoint")
    assert world.metric(f"{CLIENT}/connections") == 0
    check(world)


def test_a_refused_connect_sends_everybody_elsewhere() -> None:
    """All who waited for that connection; nothing had been sent."""
    world = h2_world("loadBalancer: {kind: roundRobin}")
    dead, alive = serving_h2(world, answering_h2(), answering_h2())
    dead.stop()

    calls = posts(world, 20)
    world.finish(*calls)

    assert [call.status for call in calls] == [200] * 20
    assert len(alive) == 20
    assert world.metric(f"{CLIENT}/connects") == 1
    check(world)


def test_a_single_endpoint_that_refuses_connects_is_told_to_all() -> None:
    """502 for everybody after the few attempts that one endpoint is worth, not one connect after the other."""
    world = h2_world()
    (endpoint,) = serving_h2(world)
    endpoint.stop()

    calls = posts(world, 50)
    world.finish(*calls)

    assert {(call.status, call.reason) for call in calls} == {(502, "connect-refused")}
    assert world.loop.dialled[(endpoint.ip, endpoint.port)] <= 5
    check(world)


def test_an_endpoint_that_does_not_speak_http_2_says_so_in_the_answer() -> None:
    """An HTTP/1.1 server answers the preface with 400 or hangs up: 502, bad-response."""
    world = h2_world()
    world.serving()

    call = world.get()

    assert call.status == 502
    assert call.reason == "bad-response"
    assert b"what came is HTTP/1" in call.body
    check(world)


# -- how many ---------------------------------------------------------------------------------------------------------


def test_more_streams_than_the_peer_allows_open_more_connections() -> None:
    """MAX_CONCURRENT_STREAMS 4, ten requests at once: three connections, once the limit is known."""
    world = h2_world()
    (endpoint,) = serving_h2(world, answering_h2(after=0.5), max_streams=4)
    world.finish(world.caller().request())

    calls = [world.caller().request() for _ in range(10)]
    world.finish(*calls)

    assert [call.status for call in calls] == [200] * 10
    assert max(call.elapsed for call in calls) < 0.6
    assert endpoint.accepted == 3
    check(world)


def test_streams_opened_before_the_limit_is_known_are_repeated() -> None:
    """The peer refuses what is above its limit; those requests wait for room or another connection."""
    world = h2_world()
    (endpoint,) = serving_h2(world, answering_h2(after=0.1), max_streams=4)

    calls = posts(world, 10)
    world.finish(*calls)

    assert [call.status for call in calls] == [200] * 10
    assert endpoint.accepted <= 3
    check(world)


def test_connections_are_bounded_and_the_others_wait() -> None:
    """hostConnectionPool.maxSize 2, one stream each: five requests of 100 ms take three rounds."""
    world = h2_world("hostConnectionPool: {maxSize: 2}")
    (endpoint,) = serving_h2(world, answering_h2(after=0.1), max_streams=1)
    world.get()

    calls = [world.caller().request() for _ in range(5)]
    world.finish(*calls)

    assert endpoint.accepted == 2
    assert sorted(round(call.elapsed, 1) for call in calls) == [0.1, 0.1, 0.2, 0.2, 0.3]
    check(world)


def test_waiters_are_bounded() -> None:
    """maxWaiters 1: the fourth of four requests is told so at once."""
    world = h2_world("hostConnectionPool: {maxSize: 2, maxWaiters: 1}")
    serving_h2(world, answering_h2(after=0.1), max_streams=1)
    world.get()

    calls = [world.caller().request() for _ in range(4)]
    world.finish(*calls)

    assert sorted(call.status for call in calls) == [200, 200, 200, 503]
    assert next(call for call in calls if call.status == 503).reason == "limit-pool-waiters"
    check(world)


def test_the_bounds_hold_without_configuration() -> None:
    """A peer that takes one stream per connection gets 32 connections and a thousand waiters, not more."""
    world = h2_world()
    (endpoint,) = serving_h2(world, answering_h2(after=5.0), max_streams=1)
    world.finish(world.caller().request())

    calls = [world.caller().request() for _ in range(MAX_CONNECTIONS + MAX_WAITERS + 10)]
    world.run(4.0)

    assert endpoint.accepted == MAX_CONNECTIONS
    told = [call for call in calls if call.ended is not None]
    assert [(call.status, call.reason) for call in told] == [(503, "limit-pool-waiters")] * 10
    assert world.metric(f"{CLIENT}/pool_waiters") == MAX_WAITERS
    world.finish(*calls, limit=600.0)
    check(world)


def test_a_peer_that_allows_nothing_yet_is_waited_for() -> None:
    """MAX_CONCURRENT_STREAMS 0, later 10: those who wait go on."""
    world = h2_world("hostConnectionPool: {maxSize: 1}")
    (endpoint,) = serving_h2(world, max_streams=0)
    world.loop.link(endpoint.ip, endpoint.port).latency = 0.0
    first = world.caller().request()
    world.run(0.5)
    session = endpoint.session
    waiting = world.caller().request()
    world.run(0.5)
    assert waiting.ended is None

    session.allow(10)
    world.finish(first, waiting)

    assert waiting.status == 200
    check(world)


def test_used_up_stream_ids_end_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """H8: after the last id there is another connection; the requests notice nothing."""
    monkeypatch.setattr(h2_client, "LAST_REQUEST", 3)
    world = h2_world()
    (endpoint,) = serving_h2(world)

    calls = [world.get() for _ in range(7)]

    assert [call.status for call in calls] == [200] * 7
    assert endpoint.accepted == 3
    check(world)


# -- time -------------------------------------------------------------------------------------------------------------


def test_idle_connections_are_closed() -> None:
    """After their idle time, with GOAWAY and FIN."""
    world = h2_world("clientSession: {idleTimeMs: 5000}")
    (endpoint,) = serving_h2(world)
    world.get()
    session = endpoint.session

    world.run(4.9)
    assert not session.gone
    world.run(0.2)

    assert session.gone
    assert session.goaway == ErrorCodes.NO_ERROR
    assert world.metric(f"{CLIENT}/connections") == 0
    check(world)


def test_a_connection_in_use_is_not_idle() -> None:
    """A stream that is open for longer than the idle time keeps it; then the time begins."""
    world = h2_world("clientSession: {idleTimeMs: 5000}")
    (endpoint,) = serving_h2(world, answering_h2(after=12.0))
    call = world.caller().request()
    world.finish(call)

    world.run(4.9)
    assert not endpoint.session.gone
    world.run(0.2)

    assert endpoint.sessions == {}
    check(world)


def test_min_size_keeps_a_connection() -> None:
    """hostConnectionPool.minSize: it stays however idle, and is asked whether it lives when it is used again."""
    world = h2_world("clientSession: {idleTimeMs: 5000}, hostConnectionPool: {minSize: 1}")
    (endpoint,) = serving_h2(world)
    world.get()

    world.run(3601.0)

    assert not endpoint.session.gone
    assert endpoint.session.pings == 0
    assert world.get().status == 200
    world.run(1.0)
    assert endpoint.session.pings == 1
    check(world)


def test_old_connections_are_replaced() -> None:
    """lifeTimeMs: streams finish, the next request opens another connection, however busy the old one is."""
    world = h2_world("clientSession: {lifeTimeMs: 10000}")
    (endpoint,) = serving_h2(world, answering_h2(after=2.0))
    calls = []
    for _ in range(30):
        calls.append(world.caller().request())
        world.run(1.0)
    world.finish(*calls)

    assert [call.status for call in calls] == [200] * 30
    assert endpoint.accepted == 3
    check(world)


def test_a_dead_connection_is_found_by_ping_after_a_rest() -> None:
    """The first request after a rest brings a PING along; without an answer it goes to a new connection."""
    world = h2_world()
    (endpoint,) = serving_h2(world)
    world.get()
    dead = endpoint.session
    world.run(PING_IDLE + 1)
    endpoint.deaf = True
    call = world.caller().request()
    world.run(PING_TIMEOUT - 0.1)
    assert call.ended is None

    endpoint.deaf = False
    world.finish(call)

    assert call.status == 200
    assert call.elapsed == pytest.approx(PING_TIMEOUT, abs=0.1)
    assert dead.gone
    assert endpoint.accepted == 2
    check(world)


def test_a_quiet_connection_is_asked_once_and_then_seldom() -> None:
    """A long answer without a byte: PING after 30 s, the next only after 310 s, as gRPC servers want it."""
    world = h2_world()
    (endpoint,) = serving_h2(world, answering_h2(after=900.0))
    call = world.caller().request()

    pings = []
    for seconds in (PING_QUIET - 1, 2, PING_AGAIN - 3, 3, PING_AGAIN):
        world.run(seconds)
        pings.append(endpoint.session.pings)

    assert pings == [0, 1, 1, 2, 3]
    world.finish(call, limit=1000.0)
    assert call.status == 200
    check(world)


def test_a_ping_comes_after_the_head_of_its_request() -> None:
    """gRPC servers allow one PING in two hours to a connection without streams."""
    world = h2_world()
    (endpoint,) = serving_h2(world)
    world.get()
    world.run(PING_IDLE + 1)
    before = len(endpoint.session.raw)
    world.get()

    raw = endpoint.session.raw[before:]
    kinds = []
    while raw:
        kinds.append(raw[3])
        del raw[: 9 + int.from_bytes(raw[:3], "big")]
    assert [kind for kind in kinds if kind in (HEADERS, PING)] == [HEADERS, PING]
    check(world)


def test_a_connection_that_only_listens_is_asked_seldom() -> None:
    """WINDOW_UPDATEs and PINGs of the endpoint's own while it is sent something every minute: gRPC counts our PINGs
    until it has sent a part of a response."""
    world = h2_world()
    (endpoint,) = serving_h2(world)
    each = caller(world)
    call = each.request(method="POST", body=b"x", end=False)
    for _ in range(5):
        world.run(50.0)
        endpoint.session.conn.ping(b"bdpping!")
        endpoint.session.flush()
        each.data(call, b"x")
    assert endpoint.session.pings == 1
    each.data(call, b"x", end=True)
    finish(world, call)

    assert call.status == 200
    check(world)


def test_a_connection_that_speaks_is_not_asked() -> None:
    """Data every ten seconds is life enough."""
    world = h2_world()

    def drip(stream: Stream) -> None:
        stream.head(200)
        for second in range(10, 200, 10):
            stream._later(second, lambda: stream.data(b"."))
        stream._later(200, lambda: stream.data(b".", end=True))

    (endpoint,) = serving_h2(world, drip)

    call = world.get()

    assert call.body == b"." * 20
    assert endpoint.session.pings == 0
    check(world)


def test_a_dead_endpoint_is_found_while_a_stream_waits() -> None:
    """No byte for 30 s and no answer to a PING: the stream ends with 502."""
    world = h2_world()
    (endpoint,) = serving_h2(world, lambda _stream: None)
    (call,) = posts(world, 1)
    world.run(1.0)
    endpoint.deaf = True
    world.finish(call)

    assert (call.status, call.reason) == (502, "reset-by-endpoint")
    assert call.elapsed == pytest.approx(PING_QUIET + PING_TIMEOUT, abs=0.5)
    assert b"PING" in call.body
    check(world)


# -- what endpoints may not -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"\x00\x00\x04\x05\x04\x00\x00\x00\x01\x00\x00\x00\x02", "bad-response"),  # PUSH_PROMISE
        (b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x", "bad-response"),  # DATA on stream 0
        ((b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + b"pingping") * 3000, "limit-control-frames"),
    ],
    ids=["push", "data-on-0", "pings"],
)
def test_h10_endpoints_that_break_the_rules_lose_their_connection(frame: bytes, reason: str) -> None:
    """GOAWAY, close, 502 for those on it; the next request gets another connection."""
    world = h2_world()
    (endpoint,) = serving_h2(world, lambda stream: stream.session.transport.write(frame))

    call = world.get(method="POST", body=b"x")

    assert (call.status, call.reason) == (502, reason)
    endpoint.handler = answering_h2()
    assert world.get().status == 200
    assert endpoint.accepted == 2
    check(world)


def test_h10_an_answer_that_is_none_resets_its_stream() -> None:
    """No :status, upper case: 502 for that request; the connection stays."""
    world = h2_world()

    def bad(stream: Stream) -> None:
        if stream.target == "/bad":
            block = b"\x88\x00\x03Bad\x01x"
            frame = len(block).to_bytes(3, "big") + b"\x01\x05" + stream.id.to_bytes(4, "big") + block
            stream.session.transport.write(frame)
        else:
            stream.answer()

    (endpoint,) = serving_h2(world, bad)

    call = world.get("/bad")

    assert (call.status, call.reason) == (502, "bad-response")
    assert world.get("/good").status == 200
    assert endpoint.accepted == 1
    check(world)


# -- replica sets and reloads -----------------------------------------------------------------------------------------


def test_an_endpoint_that_leaves_finishes_its_streams() -> None:
    """No new streams, and the connection ends with the last."""
    world = h2_world()
    leaving, staying = serving_h2(world, answering_h2(200, b"old", after=1.0), answering_h2(200, b"new"))
    world.name("web", leaving.text)
    call = world.caller().request()
    world.run(0.1)

    world.name("web", staying.text)
    world.run(0.1)
    assert world.get().body == b"new"
    world.finish(call)

    assert call.body == b"old"
    world.run(0.1)
    assert leaving.sessions == {}
    check(world)


def test_those_who_wait_for_a_leaving_endpoint_go_elsewhere() -> None:
    """They had sent nothing."""
    world = h2_world()
    leaving, staying = serving_h2(world, answering_h2(), answering_h2(200, b"new"))
    world.name("web", leaving.text)
    world.loop.link(leaving.ip, leaving.port).silent = True
    calls = posts(world, 5)
    world.run(0.1)

    world.name("web", staying.text)
    world.finish(*calls)

    assert [call.body for call in calls] == [b"new"] * 5
    check(world)


def test_a_reload_to_http_1_lets_streams_finish() -> None:
    """Other settings, another stack: the old connection serves what it has and ends."""
    world = h2_world()
    (endpoint,) = serving_h2(world, answering_h2(after=1.0))
    call = world.caller().request()
    world.run(0.1)
    session = endpoint.session

    world.apply(
        """
routers:
- protocol: http
  label: out
  dtab: /svc => /#/lit
  client: {protocol: h2, clientSession: {idleTimeMs: 1000}}
  servers: [{port: 4140}]
"""
    )
    world.finish(call)

    assert call.status == 200
    world.run(0.5)
    assert session.gone
    assert world.get().status == 200
    assert endpoint.accepted == 2
    check(world)


def test_first_streams_is_what_the_protocol_recommends() -> None:
    """Peers that take fewer than a hundred streams are the exception (RFC 9113 section 6.5.2)."""
    world = h2_world()
    (endpoint,) = serving_h2(world, answering_h2(after=0.1), max_streams=1000)
    world.loop.link(endpoint.ip, endpoint.port).latency = 0.01

    calls = [world.caller().request() for _ in range(FIRST_STREAMS + 50)]
    world.finish(*calls)

    assert [call.status for call in calls] == [200] * (FIRST_STREAMS + 50)
    assert endpoint.accepted <= 2
    check(world)


def test_nobody_waits_for_ever_for_a_stream() -> None:
    """A peer that allows none: after ten seconds the request goes to another endpoint."""
    world = h2_world("loadBalancer: {kind: roundRobin}")
    closed, _open = serving_h2(world, answering_h2(), answering_h2(200, b"other"))
    world.name("web", closed.text)
    closed.max_streams = 0
    first = world.caller().request()
    world.run(1.0)
    assert first.ended is None
    world.name("web", closed.text, _open.text)

    waiting = [world.caller().request() for _ in range(10)]
    world.finish(first, *waiting)

    assert {call.body for call in (first, *waiting)} == {b"other"}
    assert first.elapsed == pytest.approx(STREAM_WAIT, abs=0.5)
    check(world)


def test_h10_an_endpoint_that_says_goaway_to_everything_is_asked_a_bounded_number_of_times() -> None:
    """Each request opens a connection that ends before it: another endpoint serves, and alone it costs a budget."""
    world = h2_world("loadBalancer: {kind: roundRobin}")
    storming, serving = serving_h2(world, answering_h2(), answering_h2(200, b"served"))
    storming.on_head = lambda stream: stream.session.say_goaway(0)
    storming.handler = None

    calls = posts(world, 20)
    world.finish(*calls)
    assert [call.body for call in calls] == [b"served"] * 20
    assert len(serving) == 20

    world.name("web", storming.text)
    before = storming.accepted
    alone = world.get(method="POST", body=b"x")
    assert (alone.status, alone.reason) == (502, "reset-by-endpoint")
    assert storming.accepted - before <= 30
    check(world)


def test_h10_an_endpoint_that_hangs_up_before_any_request_is_not_dialled_for_ever() -> None:
    """SETTINGS that allow no stream, then GOAWAY: those who wait are told, after a few connections."""
    world = h2_world()
    (endpoint,) = serving_h2(world, lambda stream: stream.reset(ErrorCodes.REFUSED_STREAM), max_streams=0)
    world.caller().request()
    world.run(0.1)
    endpoint.session.say_goaway(0)
    world.run(0.1)

    def hang_up() -> None:
        for session in list(endpoint.sessions):
            session.transport.abort()
        world.loop.call_at(world.loop.now() + 0.001, hang_up)

    hang_up()
    before = endpoint.accepted
    calls = posts(world, 5)
    world.finish(*calls, limit=60.0)

    assert {call.status for call in calls} <= {502, 503}
    assert endpoint.accepted - before < 200
    check(world)


@pytest.mark.parametrize("end", ["idle", "goaway", "reset", "eof", "garbage", "busy"])
def test_a_connection_that_has_ended_leaves_no_cycles(end: str) -> None:
    """However it ends, its memory is free at once and not only when the collector stops the loop."""
    world = h2_world("clientSession: {idleTimeMs: 1000}")
    (endpoint,) = serving_h2(world)
    world.get()
    session = endpoint.session
    gc.collect()
    gc.disable()
    try:
        if end == "busy":
            endpoint.handler = None
            call = world.caller().request(method="POST", body=b"x" * 100_000)
            world.run(0.1)
            session.transport.reset()
            world.finish(call)
            del call
        elif end == "goaway":
            session.say_goaway(1)
        elif end == "reset":
            session.transport.reset()
        elif end == "eof":
            session.transport.abort()
        elif end == "garbage":
            session.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        world.run(5.0)
        left = [each for each in gc.get_objects() if isinstance(each, H2ClientSession | Sending)]
    finally:
        gc.enable()

    assert session.gone
    assert left == []
    check(world)


# -- what endpoints are judged by -------------------------------------------------------------------------------------


def test_endpoints_that_reset_everything_are_ejected() -> None:
    """Failure accrual counts streams: five resets in a row, and the other endpoint gets the rest, on its connection."""
    world = h2_world("loadBalancer: {kind: roundRobin}")
    failing, serving = serving_h2(
        world, lambda stream: stream.reset(ErrorCodes.INTERNAL_ERROR), answering_h2(200, b"served")
    )

    calls = [world.get() for _ in range(40)]

    assert sum(call.status == 502 for call in calls) == len(failing) == 5
    assert len(serving) == 35
    assert world.metric(f"{CLIENT}/failure_accrual/removals") == 1
    check(world)


def test_an_endpoint_that_is_back_is_probed_on_a_connection_of_its_own() -> None:
    """failFast: a refused connect sets it aside, a connect without a request brings it back."""
    world = h2_world("failFast: true, loadBalancer: {kind: roundRobin}")
    away, _serving = serving_h2(world, answering_h2(200, b"back"), answering_h2(200, b"served"))
    away.stop()
    assert {world.get().body for _ in range(10)} == {b"served"}
    dials = world.loop.dialled[(away.ip, away.port)]

    away.start()
    world.run(40.0)
    bodies = [world.get().body for _ in range(10)]

    assert dials == 1
    assert bodies.count(b"back") == 5
    assert away.accepted >= 1
    check(world)


# -- our own bugs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", ["reads", "writes", "everything"])
def test_a_bug_of_our_engine_is_not_blamed_on_the_endpoint(fails: str) -> None:
    """The requests on that connection are answered with 500 or cut, the traceback is logged, and the endpoint, which
    has done nothing wrong, is not ejected even where a single failure ejects; the next request is served."""
    world = h2_world(
        "failureAccrual: {kind: io.l5d.consecutiveFailures, failures: 1, backoff: {kind: constant, ms: 60000}}",
        service="responseClassifier: {kind: io.l5d.http.retryableRead5XX}",
    )

    def handler(stream: Stream) -> None:
        if stream.target == "/half":
            stream.head(200)
            stream.data(b"half")
        elif stream.target != "/silent":
            stream.answer()

    (endpoint,) = serving_h2(world, handler)
    half, silent = (world.caller().request(target) for target in ("/half", "/silent"))
    world.run(0.1)
    (node,) = world.client().endpoints
    (session,) = node.sessions  # type: ignore[attr-defined]  # of an HTTP/2 endpoint
    all_of_it = fails == "everything"
    session.engine = FailingEngine(session.engine, all_of_it=all_of_it, writes=fails == "writes")
    session.sending._engine = session.engine
    third = world.caller().request("/third")
    world.finish(silent, third)

    assert (half.status, half.body, half.done) == (200, b"half", False)
    assert [(call.status, call.reason) for call in (silent, third)] == [(500, "bug")] * 2
    assert len(endpoint) == (2 if fails == "writes" else 3)
    assert {type(error) for error in world.errors} == {ZeroDivisionError}
    assert len(world.errors) == 1 + all_of_it
    assert world.metric(f"{CLIENT}/failure_accrual/removals") == 0
    assert world.get().status == 200
    world.errors.clear()
    check(world)
