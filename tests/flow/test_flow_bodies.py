"""Bodies in both directions: framing, backpressure, early answers, aborts half-way."""

from __future__ import annotations

from random import Random

import pytest

from hostmesh.pump.marks import HIGH_MARK
from tests.flow.scripted import Received
from tests.flow.world import World, answering, silent

MEGABYTE = 1 << 20

HELD = 4 * HIGH_MARK
"""Bytes that may lie between two ends when one of them does not read: our marks and the kernel's buffers."""


def chunks(data: bytes, size: int) -> bytes:
    """``data`` in chunked coding."""
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize("read_size", [None, 1, 7, 1000])
@pytest.mark.parametrize("size", [0, 1, 5 * 1024, 5 * 1024 + 1, 20_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_arrive_byte_for_byte(read_size: int | None, size: int, chunked: bool) -> None:
    """Held or streamed, by length or in chunks, however the bytes are cut on their way, and back again."""
    if read_size == 1 and size > 5000:
        size = 5200
    data = Random(size).randbytes(size)
    world = World()

    def echo(received: Received) -> None:
        body = received.body
        if chunked:
            received.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(body, 700))
        else:
            received.answer(body=body)

    (endpoint,) = world.serving(echo)
    world.loop.read_size = read_size
    caller = world.caller()
    if chunked:
        caller.send(
            b"POST /a HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(data, 999)
        )
        call = caller.expect("POST")
    else:
        call = caller.request("/a", method="POST", body=data)
    world.finish(call)
    after = caller.request("/b")
    world.finish(after)

    assert (call.status, call.body) == (200, data)
    assert endpoint.requests[0].body == data
    assert after.status == 200
    world.check()


def test_trailers_travel_both_ways_with_their_announcement() -> None:
    """Behind chunked bodies, whatever else is streamed; Go's servers of HTTP/2 read only what ``Trailer`` announces."""

    def handler(received: Received) -> None:
        received.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 2\r\n\r\n"
        )

    world = World()
    (endpoint,) = world.serving(handler)
    caller = world.caller()
    caller.send(
        b"POST / HTTP/1.1\r\nHost: web\r\nTE: trailers\r\nTrailer: X-In\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nhi\r\n0\r\nX-In: 1\r\n\r\n"
    )
    call = caller.expect("POST")
    world.finish(call)

    assert endpoint.requests[0].message.trailers == b"X-In: 1\r\n"
    assert b"\r\nTrailer: X-In\r\n" in endpoint.requests[0].message.head
    assert call.response is not None
    assert b"\r\nTrailer: X-Sum\r\n" in call.response.head
    assert call.response.trailers == b"X-Sum: 2\r\n"
    world.check()


def test_a_body_that_lasts_until_the_end_of_the_connection_is_chunked_for_the_caller() -> None:
    """HTTP/1.0 style answers; the caller's connection goes on."""

    def handler(received: Received) -> None:
        received.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        received.close(after=0.1)

    world = World()
    world.serving(handler)
    caller = world.caller()

    calls = [caller.request() for _ in range(2)]
    world.finish(*calls)

    assert [call.body for call in calls] == [b"all of it"] * 2
    assert calls[0].response is not None
    assert calls[0].response.get("transfer-encoding") == "chunked"
    world.check()


def test_a_caller_that_stops_reading_stalls_its_endpoint_and_nobody_else() -> None:
    """A 20 MB download: at most the marks and buffers lie in between, and others are served."""
    data = b"x" * (20 * MEGABYTE)
    world = World()
    (endpoint,) = world.serving(answering(body=data))
    world.serving(name="other")
    caller = world.caller()
    call = caller.request()
    world.run(0.0009)
    caller.transport.pause()

    world.run(5)

    (session,) = endpoint.sessions
    assert session.transport.bytes_out - caller.transport.bytes_in <= HELD
    assert world.get(host="other").status == 200
    caller.transport.resume()
    world.finish(call)
    assert call.body == data
    assert world.get().status == 200
    world.check()


def test_an_endpoint_that_stops_reading_stalls_its_caller() -> None:
    """A 20 MB upload: the caller may send no more than fits, and goes on when the endpoint does."""
    data = Random(1).randbytes(20 * MEGABYTE)
    world = World()
    (endpoint,) = world.serving()
    endpoint.on_head = lambda received: received.session.transport.pause()
    caller = world.caller()
    call = caller.request(method="POST", body=data)

    world.run(5)

    (session,) = endpoint.sessions
    assert caller.transport.bytes_out - session.transport.bytes_in <= HELD
    session.transport.resume()
    world.finish(call)
    assert call.status == 200
    assert endpoint.requests[0].body == data
    world.check()


def test_an_upload_waits_at_the_caller_until_there_is_a_connection() -> None:
    """While an endpoint is dialled only a little of a streamed body is taken in."""
    data = b"x" * (4 * MEGABYTE)
    world = World()
    (endpoint,) = world.serving()
    world.loop.link(endpoint.ip, endpoint.port).latency = 0.2
    caller = world.caller()
    call = caller.request(method="POST", body=data)

    world.run(0.3)
    assert caller.transport.bytes_out <= HELD
    world.finish(call)

    assert endpoint.requests[0].body == data
    world.check()


@pytest.mark.parametrize("whole", [True, False])
def test_an_early_answer_reaches_the_caller_and_ends_its_connection(whole: bool) -> None:
    """413 after the head of an upload: the caller gets it, and may not use the connection again."""

    def early(received: Received) -> None:
        if whole:
            received.answer(413, b"too large")
        else:
            received.send(b"HTTP/1.1 413 X\r\nContent-Length: 9\r\n\r\ntoo")
            received.send(b" large", after=0.1)

    world = World()
    (endpoint,) = world.serving(silent)
    endpoint.on_head = early
    caller = world.caller()
    call = caller.request(method="POST", body=b"x" * (2 * MEGABYTE))

    world.finish(call)

    assert (call.status, call.body) == (413, b"too large")
    assert call.response is not None
    assert call.response.get("connection") == "close"
    world.run(3)
    assert caller.closed
    if whole:
        # The upload had not left when the answer was complete.
        assert endpoint.sessions == {}
    world.check()


def test_an_early_answer_while_the_upload_is_blocked_is_read() -> None:
    """The endpoint reads nothing more: the answer must not wait for the upload."""

    def early(received: Received) -> None:
        received.answer(413)
        received.session.transport.pause()

    world = World()
    (endpoint,) = world.serving(silent)
    endpoint.on_head = early
    caller = world.caller()

    call = caller.request(method="POST", body=b"x" * (2 * MEGABYTE))
    world.finish(call)

    assert call.status == 413
    world.run(3)
    world.check()


def test_a_caller_that_breaks_off_an_upload_cuts_it_at_the_endpoint() -> None:
    """The endpoint must not take the part for the whole."""
    world = World()
    (endpoint,) = world.serving()
    caller = world.caller()
    caller.send(b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
    world.run(0.1)
    assert endpoint.requests[0].body == b"hi"

    caller.close()
    world.run(0.1)

    assert endpoint.requests[0].cut
    assert not endpoint.requests[0].message.done
    assert world.metric("rt/out/server/127.0.0.1/4140/failures/reset-by-caller") == 1
    world.check()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_response_that_breaks_off_does_not_look_complete(chunked: bool) -> None:
    """The caller's connection is reset, and the attempt is the endpoint's failure."""

    def handler(received: Received) -> None:
        if chunked:
            received.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        else:
            received.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        received.close(after=0.1)

    world = World()
    world.serving(handler)
    caller = world.caller()
    call = caller.request()

    world.loop.run_while(lambda: not caller.closed)

    assert (call.body, call.done) == (b"hello", False)
    assert isinstance(caller.lost, ConnectionResetError)
    assert world.metric("rt/out/client/#/lit/web/failures") == 1
    world.check()


def test_expect_continue_waits_for_the_endpoint() -> None:
    """A streamed body: 100 comes from the endpoint, and the body after it."""

    def on_head(received: Received) -> None:
        received.send(b"HTTP/1.1 100 Continue\r\n\r\n", after=0.1)

    world = World()
    (endpoint,) = world.serving()
    endpoint.on_head = on_head
    caller = world.caller()
    caller.send(b"POST / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 10000\r\n\r\n")
    call = caller.expect("POST")
    world.run(0.2)
    assert [message.status for message in call.informational] == [100]

    caller.send(b"x" * 10_000)
    world.finish(call)

    assert call.status == 200
    assert endpoint.requests[0].get("expect") == "100-continue"
    world.check()


def test_expect_continue_of_a_held_body_is_answered_here() -> None:
    """A small body is read before it is forwarded, so we ask for it, and the endpoint is not asked."""
    world = World()
    (endpoint,) = world.serving()
    caller = world.caller()
    caller.send(b"POST / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    call = caller.expect("POST")
    world.run(0.1)
    assert [message.status for message in call.informational] == [100]
    assert len(endpoint) == 0

    caller.send(b"hello")
    world.finish(call)

    assert (call.status, endpoint.requests[0].body) == (200, b"hello")
    assert endpoint.requests[0].get("expect") is None
    world.check()


@pytest.mark.parametrize(("status", "method"), [(204, "GET"), (304, "GET"), (200, "HEAD")])
def test_answers_without_a_body_leave_the_connection_in_step(status: int, method: str) -> None:
    """204, 304 and HEAD, whatever their Content-Length says."""

    def handler(received: Received) -> None:
        if received.message.target == "/first":
            length = b"" if status == 204 else b"Content-Length: 100\r\n"
            received.send(b"HTTP/1.1 %d X\r\n%b\r\n" % (status, length))
        else:
            received.answer()

    world = World()
    (endpoint,) = world.serving(handler)
    caller = world.caller()

    calls = [caller.request("/first", method=method), caller.request("/second")]
    world.finish(*calls)

    assert [call.status for call in calls] == [status, 200]
    assert endpoint.accepted == 1
    world.check()


def test_a_caller_that_had_to_wait_is_not_taken_for_silent() -> None:
    """The endpoint reads nothing for 100 s; when it does the caller has its whole time again."""
    world = World()
    (endpoint,) = world.serving()
    endpoint.on_head = lambda received: received.session.transport.pause()
    caller = world.caller()
    call = caller.request(method="POST", body=b"x" * MEGABYTE)
    # Progress in writing is watched by itself (WRITE_STALL): let a little through now and then.
    for _ in range(3):
        world.run(50)
        (session,) = endpoint.sessions
        session.transport.resume()
        world.run(0.0002)
        session.transport.pause()
        assert call.status == 0

    session.transport.resume()
    world.finish(call)

    assert (call.status, len(endpoint.requests[0].body)) == (200, MEGABYTE)
    world.check()


def test_informational_answers_pass_and_are_bounded() -> None:
    """103 reaches the caller; the eleventh ends the exchange (F14)."""
    count = 2

    def handler(received: Received) -> None:
        received.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * count)
        received.answer()

    world = World()
    world.serving(handler)

    call = world.get()
    assert call.status == 200
    assert [message.status for message in call.informational] == [103, 103]
    count = 11
    call = world.get()
    assert (call.status, call.reason) == (502, "limit-informational")
    world.check()


def test_a_body_that_stops_coming_is_refused() -> None:
    """R2: no byte for a minute is 408, held or streamed, and the exchange ends everywhere."""
    world = World()
    (endpoint,) = world.serving()
    held, streamed = world.caller(), world.caller()
    held.send(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 10\r\n\r\nabc")
    streamed.send(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100000\r\n\r\nabc")
    calls = [held.expect("POST"), streamed.expect("POST")]

    world.finish(*calls)

    assert [(call.status, call.reason) for call in calls] == [(408, "limit-body-time")] * 2
    assert [round(call.elapsed) for call in calls] == [60, 60]
    world.run(3)
    assert held.closed
    assert streamed.closed
    assert endpoint.requests[0].cut
    world.check()
