"""HTTP/2 callers with HTTP/2 and HTTP/1.1 endpoints: what must survive from one end to the other."""

from __future__ import annotations

from random import Random

import pytest
from h2.errors import ErrorCodes

from hostmesh.pump.marks import HIGH_MARK, READ_LARGE
from tests.flow.h2_endpoint import MAX_STREAM, Stream, StreamHandler, answering_h2
from tests.flow.h2_scripted import H2Call, H2Caller
from tests.flow.h2_world import Engine, check, every_engine, serving_h2  # noqa: F401
from tests.flow.world import World, answering

H2_ROUTER = """
routers:
- protocol: h2
  h2Engine: %s
  label: out
  dtab: /svc => /#/lit
  client: {%s}
  servers: [{port: 4142}]
"""


def h2_router(client: str = "") -> World:
    """An h2 router; its endpoints speak HTTP/2 unless told otherwise."""
    return World(H2_ROUTER % (Engine.kind, client))


def finish(world: World, *calls: H2Call, limit: float = 300.0) -> None:
    world.loop.run_while(lambda: any(call.ended is None for call in calls), limit)


# -- h2 to h2 ---------------------------------------------------------------------------------------------------------


def test_calls_of_one_connection_spread_over_the_endpoints() -> None:
    """Balanced per request: 20 % each, within three, though they share the caller's connection."""
    world = h2_router()
    endpoints = serving_h2(world, *[answering_h2(after=0.01)] * 5)
    caller = H2Caller(world.loop)

    for _ in range(40):
        finish(world, *[caller.request() for _ in range(25)])

    assert [len(endpoint) for endpoint in endpoints] == pytest.approx([200] * 5, abs=30)
    assert [endpoint.accepted for endpoint in endpoints] == [1] * 5
    check(world)


def test_heads_bodies_and_trailers_pass_both_ways() -> None:
    """``te: trailers`` and crumbs joined on the way there, trailers on both ways."""
    world = h2_router()
    trailers = [(b"grpc-status", b"0"), (b"grpc-message", b"fine")]
    (endpoint,) = serving_h2(world, answering_h2(200, b"answer", trailers=trailers))
    caller = H2Caller(world.loop)

    call = caller.request(
        "/pkg.Service/Method",
        method="POST",
        fields=(("te", "trailers"), ("cookie", "a=1"), ("cookie", "b=2")),
        body=b"question",
        trailers=(("x-sum", "1"),),
    )
    finish(world, call)

    (stream,) = endpoint.requests
    assert (bytes(stream.body), stream.trailers) == (b"question", [(b"x-sum", b"1")])
    assert (stream.get("te"), stream.get("cookie")) == ("trailers", "a=1; b=2")
    assert (bytes(call.body), call.done) == (b"answer", True)
    assert call.trailers == [("grpc-status", "0"), ("grpc-message", "fine")]
    check(world)


def test_trailers_only_stays_one_head() -> None:
    """HEADERS with END_STREAM: the answer is complete with it."""
    world = h2_router()
    serving_h2(world, lambda stream: stream.head(200, ("grpc-status", "5"), end=True))
    caller = H2Caller(world.loop)

    call = caller.request(method="POST", body=b"x", fields=(("content-type", "application/grpc"),))
    finish(world, call)

    assert (call.status, call.get("grpc-status"), call.done, call.trailers) == (200, "5", True, [])
    check(world)


def test_messages_pass_as_they_come_in_both_directions() -> None:
    """A conversation: each side waits for the other's message before it sends its next."""
    world = h2_router()
    (endpoint,) = serving_h2(world, lambda stream: stream.data(b"", end=True))
    endpoint.on_head = lambda stream: stream.head(200)
    caller = H2Caller(world.loop)
    call = caller.request("/chat", method="POST", end=False)

    for number in range(20):
        caller.data(call, b"ping %d;" % number)
        world.run(0.01)
        (stream,) = endpoint.requests
        assert stream.body.endswith(b"ping %d;" % number)
        stream.data(b"pong %d;" % number)
        world.run(0.01)
        assert call.body.endswith(b"pong %d;" % number)
    caller.finish(call)
    finish(world, call)

    assert call.done
    check(world)


def test_a_slow_stream_holds_back_its_endpoint_and_no_other_stream() -> None:
    """End to end: no window from the caller, none for the endpoint; what is between stays within its bounds."""
    world = h2_router()
    size = 2_000_000

    def endless(stream: Stream) -> None:
        stream.head(200)
        stream.data(b"x" * size, end=True)

    (endpoint,) = serving_h2(world, endless)
    caller = H2Caller(world.loop)
    caller.credits = False
    slow = caller.request("/slow")
    world.run(1.0)
    sent = size - len(endpoint.requests[0]._unsent)
    other = H2Caller(world.loop)
    fast = other.request("/fast")
    finish(world, fast)

    assert len(fast.body) == size
    assert len(slow.body) == 65535
    assert sent <= 65535 + HIGH_MARK + READ_LARGE
    caller.credits = True
    caller.give_back(slow, slow.uncredited)
    finish(world, slow)
    assert len(slow.body) == size
    check(world)


def test_a_cancel_travels_to_the_endpoint() -> None:
    """RST_STREAM from the caller is one to the endpoint; other streams of both connections go on."""
    world = h2_router()
    (endpoint,) = serving_h2(world, answering_h2(after=1.0))
    caller = H2Caller(world.loop)
    cancelled = caller.request("/cancelled")
    kept = caller.request("/kept")
    world.run(0.1)

    caller.cancel(cancelled)
    world.run(0.1)

    assert [stream.reset_code for stream in endpoint.requests] == [ErrorCodes.CANCEL, None]
    finish(world, kept)
    assert kept.status == 200
    check(world)


def test_a_reset_after_the_head_travels_to_the_caller() -> None:
    """Its stream is reset, as an answer that is cut must be; its connection stays."""
    world = h2_router()

    def cut(stream: Stream) -> None:
        stream.head(200)
        stream.data(b"half")
        stream.reset(ErrorCodes.INTERNAL_ERROR, after=0.1)

    serving_h2(world, cut)
    caller = H2Caller(world.loop)

    call = caller.request()
    finish(world, call)

    assert (call.status, bytes(call.body), call.done) == (200, b"half", False)
    assert call.reset is not None
    assert not caller.closed
    check(world)


def test_goaway_of_an_endpoint_is_not_the_callers_business() -> None:
    """Streams above its last id go on on another connection, the caller sees answers."""
    world = h2_router()
    (endpoint,) = serving_h2(world, lambda _stream: None)
    caller = H2Caller(world.loop)
    calls = [caller.request(f"/{number}", method="POST", body=b"x") for number in range(5)]
    world.run(0.1)
    old = endpoint.session
    endpoint.handler = answering_h2(200, b"second")

    old.say_goaway(MAX_STREAM)
    old.say_goaway(3)
    old.streams[1].answer(200, b"first")
    old.streams[3].answer(200, b"first")
    finish(world, *calls)

    assert sorted(bytes(call.body) for call in calls) == [b"first"] * 2 + [b"second"] * 3
    assert caller.goaways == []
    check(world)


def test_a_refused_stream_of_a_call_goes_to_another_endpoint() -> None:
    """A POST whose body came with its head is still whole here."""
    world = h2_router("loadBalancer: {kind: roundRobin}")
    refusing, serving = serving_h2(
        world, lambda stream: stream.reset(ErrorCodes.REFUSED_STREAM), answering_h2(200, b"served")
    )
    caller = H2Caller(world.loop)

    calls = [caller.request(method="POST", body=b"x") for _ in range(10)]
    finish(world, *calls)

    assert [bytes(call.body) for call in calls] == [b"served"] * 10
    assert len(refusing) > 0
    assert [bytes(stream.body) for stream in serving.requests] == [b"x"] * 10
    check(world)


# -- h2 to h1 and back ------------------------------------------------------------------------------------------------


def test_an_h2_router_may_speak_http_1_to_endpoints() -> None:
    """``client: {protocol: http}``: heads become HTTP/1.1, bodies chunked where no length is known."""
    world = h2_router("protocol: http")
    (endpoint,) = world.serving(answering(200, b"from h1", fields=("X-From: one",)))
    caller = H2Caller(world.loop)

    get = caller.request("/get")
    post = caller.request("/post", method="POST", body=b"body", fields=(("content-length", "4"),))
    finish(world, get, post)

    assert [(call.status, bytes(call.body), call.get("x-from")) for call in (get, post)] == [
        (200, b"from h1", "one")
    ] * 2
    lines = {received.message.start for received in endpoint.requests}
    assert lines == {b"GET /get HTTP/1.1", b"POST /post HTTP/1.1"}
    assert {received.get("host") for received in endpoint.requests} == {"web"}
    check(world)


def test_a_streamed_call_becomes_chunks_and_trailers() -> None:
    """HTTP/2 trailers are those of a chunked body, both ways."""
    world = h2_router("protocol: http")

    def chunked(received):  # type: ignore[no-untyped-def]
        received.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n"
        )

    (endpoint,) = world.serving(chunked)
    caller = H2Caller(world.loop)
    call = caller.request(method="POST", end=False)
    world.run(0.01)
    caller.data(call, b"one")
    world.run(0.01)
    caller.data(call, b"two")
    caller.finish(call, trailers=(("x-sum", "9"),))
    finish(world, call)

    (received,) = endpoint.requests
    assert (received.body, received.message.trailers) == (b"onetwo", b"x-sum: 9\r\n")
    assert (bytes(call.body), call.trailers) == (b"hello", [("x-sum", "7")])
    check(world)


def test_one_slow_stream_stops_its_own_http_1_connection() -> None:
    """The endpoint's socket is paused for it; the caller's other streams have theirs."""
    world = h2_router("protocol: http")
    size = 2_000_000
    (endpoint,) = world.serving(answering(200, b"x" * size))
    caller = H2Caller(world.loop)
    caller.credits = False
    slow = caller.request("/slow")
    world.run(1.0)

    assert len(slow.body) == 65535
    assert endpoint.accepted == 1
    caller.credits = True
    caller.give_back(slow, slow.uncredited)
    fast = caller.request("/fast")
    finish(world, slow, fast)
    assert (len(slow.body), len(fast.body)) == (size, size)
    check(world)


# -- everything at once -----------------------------------------------------------------------------------------------


def _moody(rng: Random) -> StreamHandler:
    """An endpoint that does, now and then, everything an endpoint can do to a stream."""

    def handler(stream: Stream) -> None:
        mood = rng.random()
        after = rng.random() * 0.02
        if mood < 0.5:
            stream.answer(200, b"y" * rng.randrange(200_000), after=after)
        elif mood < 0.65:
            stream.answer(200, b"z" * rng.randrange(1000), after=after, trailers=[(b"x-end", b"1")])
        elif mood < 0.75:
            stream.reset(
                rng.choice([ErrorCodes.REFUSED_STREAM, ErrorCodes.CANCEL, ErrorCodes.INTERNAL_ERROR])
            )
        elif mood < 0.85:
            stream.head(200)
            stream.data(b"half")
            stream.reset(ErrorCodes.INTERNAL_ERROR, after=after)
        elif mood < 0.90:
            stream.answer(503, b"no", after=after)
        elif mood < 0.93:
            stream.session.say_goaway(max(stream.session.streams))
        elif mood < 0.95:
            stream.session.transport.reset()

    return handler


@pytest.mark.parametrize("seed", range(3))
def test_h12_nothing_is_left_after_mixed_resets_cancels_timeouts_and_goaways(seed: int) -> None:
    """A thousand streams of every fate: each ends, and every counter of streams, bytes and slots is back at zero."""
    rng = Random(seed)
    world = h2_router("requestAttemptTimeoutMs: 50")
    endpoints = serving_h2(world, *[_moody(rng) for _ in range(3)], max_streams=20)
    callers = [H2Caller(world.loop) for _ in range(5)]
    calls: list[H2Call] = []
    for _ in range(100):
        for number, caller in enumerate(callers):
            if caller.closed or caller.goaways:
                callers[number] = caller = H2Caller(world.loop)
            for _ in range(2):
                body = b"x" * rng.randrange(1, 20_000) if rng.random() < 0.3 else None
                call = caller.request(method="POST" if body else "GET", body=body)
                calls.append(call)
                if rng.random() < 0.1:
                    world.run(0.001)
                    if call.ended is None and not caller.closed:
                        caller.cancel(call)
        world.run(0.01)
    finish(world, *calls, limit=120.0)

    assert sum(map(len, endpoints)) > 500
    assert sum(call.done for call in calls) > 300
    check(world)
    assert world.metric("rt/out/client/#/lit/web/open_streams") == 0
    assert world.metric("rt/out/client/#/lit/web/buffered_bytes") == 0
    for endpoint in endpoints:
        for session in endpoint.sessions:
            assert session.conn.open_inbound_streams == 0
