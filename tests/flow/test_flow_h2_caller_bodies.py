"""Bodies and trailers between callers that speak HTTP/2 and endpoints that speak HTTP/1.1, and who waits for whom."""

from __future__ import annotations

import pytest

from hostmesh.proxy.h2_caller_life import EARLY_WAIT
from hostmesh.pump.marks import HIGH_MARK, READ_LARGE
from hostmesh.pump.memory_transport import WINDOW
from tests.flow.h2_scripted import SERVER, H2Call, H2Caller, caller, finish, h2_config, http_config
from tests.flow.scripted import Received
from tests.flow.world import World, answering

pytestmark = pytest.mark.usefixtures("engine")

STREAM_WINDOW = 65535
"""What a caller may send on one stream before any of it has left."""


def retrying(**options: str) -> str:
    return h2_config(service="responseClassifier: {kind: io.l5d.h2.retryableAll5XX}", **options)


def test_whole_body_is_sent_again() -> None:
    """A body that came in one read with its head goes to the endpoint once more when its answer may be retried."""
    answers = iter([500, 200])
    world = World(retrying())
    (endpoint,) = world.serving(lambda received: received.answer(next(answers)))
    call = caller(world).request(method="POST", body=b"hello", trailers=(("x-sum", "5"),))
    finish(world, call)

    assert call.status == 200
    assert [(each.body, each.message.trailers) for each in endpoint.requests] == [
        (b"hello", b"x-sum: 5\r\n"),
        (b"hello", b"x-sum: 5\r\n"),
    ]
    assert world.metric(f"{SERVER}/request/stream/data_bytes") == 5
    world.check()


@pytest.mark.parametrize(("size", "attempts"), [(16_383, 2), (16_384, 1)])
def test_longest_body_that_is_kept(size: int, attempts: int) -> None:
    """Above 16,383 bytes, Linkerd's retryBufferSize, a body is passed on and cannot be sent again."""
    answers = iter([500, 200])
    world = World(retrying())
    (endpoint,) = world.serving(lambda received: received.answer(next(answers)))
    world.loop.read_size = 1 << 20
    call = caller(world).request(method="PUT", body=b"x" * size)
    finish(world, call)

    assert len(endpoint) == attempts
    assert call.status == (200 if attempts == 2 else 500)
    assert endpoint.requests[0].body == b"x" * size
    world.check()


@pytest.mark.parametrize("size", [3, 16_383])
def test_body_in_pieces(size: int) -> None:
    """What comes later is passed on as it comes, chunked, with its trailers; a long body is not sent again."""
    answers = iter([500, 200])
    world = World(retrying())
    (endpoint,) = world.serving(lambda received: received.answer(next(answers)))
    connection = caller(world)
    call = connection.request(method="POST", end=False)
    world.run(0.1)
    connection.data(call, b"one")
    world.run(0.1)
    so_far = endpoint.requests[0].body
    connection.data(call, b"x" * size)
    connection.finish(call, (("x-sum", "6"), ("content-length", "3"), ("l5d-dtab", "x")))
    finish(world, call)

    assert so_far == b"one"
    assert (call.status, len(endpoint)) == ((200, 2) if size == 3 else (500, 1))
    for request in endpoint.requests:
        assert request.get("transfer-encoding") == "chunked"
        assert (request.body, request.message.trailers) == (b"one" + b"x" * size, b"x-sum: 6\r\n")
    world.check()


def test_declared_length_is_kept() -> None:
    """A body with content-length needs no chunks."""
    world = World(h2_config())
    (endpoint,) = world.serving()
    connection = caller(world)
    call = connection.request(method="POST", fields=(("content-length", "6"),), end=False)
    connection.data(call, b"one")
    world.run(0.1)
    connection.data(call, b"two", True)
    finish(world, call)

    assert call.status == 200
    assert endpoint.requests[0].get("content-length") == "6"
    assert endpoint.requests[0].get("transfer-encoding") is None
    assert endpoint.requests[0].body == b"onetwo"
    world.check()


@pytest.mark.parametrize(("method", "length"), [("POST", "0"), ("PUT", "0"), ("GET", None), ("DELETE", None)])
def test_request_without_a_body(method: str, length: str | None) -> None:
    """Methods that usually have a body tell an HTTP/1.1 endpoint that there is none."""
    world = World(h2_config())
    (endpoint,) = world.serving()
    call = caller(world).request(method=method)
    finish(world, call)

    assert call.status == 200
    assert endpoint.requests[0].get("content-length") == length
    assert endpoint.requests[0].get("transfer-encoding") is None
    world.check()


@pytest.mark.parametrize("body", [b"short", b"more than it said"])
def test_f16_wrong_length(body: bytes) -> None:
    """F16: a body that is not what content-length says ends its stream, and is never complete at the endpoint."""
    world = World(h2_config())
    (endpoint,) = world.serving()
    connection = caller(world)
    call = connection.request(method="POST", fields=(("content-length", "10"),), end=False)
    world.run(0.1)
    connection.data(call, body, True)
    finish(world, call)

    assert (call.status, call.reset) == (0, 1)
    assert not endpoint.requests[0].message.done
    assert endpoint.requests[0].cut
    world.check()


def test_trailers_of_an_answer() -> None:
    """Trailers behind chunks become HTTP/2 trailers, without those that may not be (F19)."""
    world = World(http_config())
    world.serving(
        lambda received: received.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 2\r\nSet-Cookie: a\r\n\r\n"
        )
    )
    call = caller(world).request()
    finish(world, call)

    assert (call.status, bytes(call.body), call.done) == (200, b"hi", True)
    assert call.get("transfer-encoding") is None
    assert call.trailers == [("x-sum", "2")]
    world.check()


def test_answer_until_the_connection_ends() -> None:
    """A body that HTTP/1.0 ends by closing has its end on its stream."""
    world = World(http_config())

    def handler(received: Received) -> None:
        received.send(b"HTTP/1.0 200 OK\r\n\r\nall of it")
        received.close(after=0.1)

    world.serving(handler)
    call = caller(world).request()
    finish(world, call)

    assert (bytes(call.body), call.done) == (b"all of it", True)
    world.check()


@pytest.mark.parametrize(
    "text",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ],
    ids=["length", "chunks"],
)
def test_f14_cut_answer_is_not_complete(text: bytes) -> None:
    """F14: when an endpoint dies in the middle, the stream is reset, and the connection and its streams go on."""
    world = World(http_config())

    def handler(received: Received) -> None:
        if received.message.target == "/cut":
            received.send(text)
            received.reset(after=0.1)
        else:
            received.answer(after=0.2)

    world.serving(handler)
    connection = caller(world)
    cut, whole = connection.request("/cut"), connection.request("/whole")
    finish(world, cut, whole)

    assert (cut.status, bytes(cut.body), cut.done, cut.reset) == (200, b"half", False, 2)
    assert (whole.status, whole.done) == (200, True)
    assert world.metric(f"{SERVER}/stream/stream_failures") == 1
    world.check()


def test_upload_waits_for_its_endpoint() -> None:
    """An endpoint that does not read stops its caller at the windows and marks, and nobody else's upload."""
    world = World(h2_config())

    def handler(received: Received) -> None:
        received.answer()

    (endpoint,) = world.serving(handler)
    endpoint.on_head = lambda received: (
        received.session.transport.pause() if received.message.target == "/stuck" else None
    )
    connection = caller(world)
    stuck = connection.request("/stuck", method="POST", end=False)
    world.run(0.1)
    sent = pour(world, connection, stuck, 2_000_000)
    assert sent < STREAM_WINDOW + HIGH_MARK + WINDOW + STREAM_WINDOW

    free = connection.request("/free", method="POST", end=False)
    world.run(0.1)
    assert pour(world, connection, free, 1_000_000) == 1_000_000
    connection.finish(free)
    finish(world, free)
    assert free.status == 200

    endpoint.requests[0].session.transport.resume()
    assert pour(world, connection, stuck, 1_000_000) == 1_000_000
    connection.finish(stuck)
    finish(world, stuck)
    assert stuck.status == 200
    assert len(endpoint.requests[0].body) == sent + 1_000_000
    world.check()


def pour(world: World, connection: H2Caller, call: H2Call, size: int) -> int:
    """Send ``size`` bytes as windows allow; how many went before nothing moved for a second."""
    sent = idle = 0
    while sent < size and idle < 100:
        room = min(connection.room(call), size - sent)
        if room > 0:
            connection.data(call, b"x" * room)
            sent += room
            idle = 0
        else:
            idle += 1
        world.run(0.01)
    return sent


def test_download_waits_for_its_caller() -> None:
    """A caller that gives no window stops the endpoint of that stream only; then it gets every byte."""
    world = World(http_config())
    size = 1_000_000

    def handler(received: Received) -> None:
        body = b"z" * size if received.message.target == "/large" else b"ok"
        received.answer(body=body)

    (endpoint,) = world.serving(handler)
    connection = caller(world)
    connection.credits = False
    large = connection.request("/large")
    world.run(5.0)
    held = len(large.body)
    written = endpoint.requests[0].session.transport.bytes_out
    connection.conn.increment_flow_control_window(1000)
    small = connection.request("/small")
    finish(world, small)

    assert held == STREAM_WINDOW
    assert written < STREAM_WINDOW + 2 * HIGH_MARK + 2 * WINDOW
    assert small.status == 200

    connection.credits = True
    connection.give_back(large, large.uncredited)
    finish(world, large)
    assert (len(large.body), large.done) == (size, True)
    world.check()


def test_slow_readers_hold_up_nobody() -> None:
    """Every tenth stream is read at 1 KB/s: it gets all of its body in time, the others theirs at once, and what waits
    for them here stays bounded."""
    world = World(h2_config())
    size = 100_000
    world.serving(answering(body=b"z" * size))
    connections = [caller(world, source=f"10.9.9.{number}") for number in range(3)]
    slow, quick = [], []
    for connection in connections:
        for number in range(30):
            call = connection.request()
            call.slow = number % 10 == 0
            (slow if call.slow else quick).append((connection, call))
    finish(world, *[call for _, call in quick])
    took = max(call.elapsed for _, call in quick)
    most = 0
    for _ in range(45):
        world.run(1.0)
        for connection, call in slow:
            if call.ended is None:
                connection.take_slowly(call, 1024)
        sessions = world.linker.servers["127.0.0.1", 4140][1].sessions
        most = max(most, *[session.sending.size for session in sessions])
    finish(world, *[call for _, call in slow])

    assert took < 1.0
    assert all(call.done and len(call.body) == size for _, call in slow + quick)
    assert most <= 3 * (HIGH_MARK + READ_LARGE)
    world.check()


def test_f13_early_answer() -> None:
    """F13: an answer before the end of its request is delivered; then the caller is told to stop, without an error."""
    world = World(http_config())
    (endpoint,) = world.serving(None)
    endpoint.on_head = lambda received: received.answer(413, b"too large")
    connection = caller(world)
    call = connection.request(method="POST", end=False)
    connection.data(call, b"x" * 1000)
    finish(world, call)
    world.run(0.1)
    again = connection.request(method="POST", end=False)
    finish(world, again)

    assert (call.status, bytes(call.body), call.done) == (413, b"too large", True)
    assert call.reset == 0
    assert again.status == 413
    assert endpoint.accepted == 2  # a connection that owes the rest of a request is not used again
    assert world.metric(f"{SERVER}/open_streams") == 0
    world.check()


def test_the_reset_after_an_early_answer_leaves_time_to_read_it() -> None:
    """Who ends its request within that time is not reset at all; who does not, is, even if nothing more comes of it."""
    world = World(http_config())
    (endpoint,) = world.serving(None)
    endpoint.on_head = lambda received: received.answer(413)
    connection = caller(world)
    quick, slow = (connection.request(method="POST", end=False) for _ in range(2))
    finish(world, quick, slow)
    connection.data(quick, b"", True)
    world.run(EARLY_WAIT / 2)
    before = slow.reset
    world.run(EARLY_WAIT)

    assert (quick.reset, before, slow.reset) == (None, None, 0)
    world.check()


def test_early_answer_that_is_long() -> None:
    """The reset waits for the last byte of the answer."""
    world = World(http_config())
    (endpoint,) = world.serving(None)
    endpoint.on_head = lambda received: received.answer(200, b"y" * 300_000)
    call = caller(world).request(method="POST", end=False)
    finish(world, call)
    world.run(1.0)

    assert (len(call.body), call.done, call.reset) == (300_000, True, 0)
    world.check()


def test_request_may_end_after_its_answer() -> None:
    """A caller that ends its request before it has read our reset has done nothing wrong."""
    world = World(http_config())
    (endpoint,) = world.serving(None)
    endpoint.on_head = lambda received: received.answer()
    connection = caller(world)
    connection.credits = False
    call = connection.request(method="POST", end=False)
    world.run(0.0006)
    connection.data(call, b"last", True)
    finish(world, call)
    other = connection.request(method="POST", body=b"x")
    finish(world, other)

    assert (call.status, other.status) == (200, 200)
    assert connection.goaways == []
    world.check()


def test_expect_continue() -> None:
    """The endpoint's word on an upload is passed on before the upload."""
    world = World(http_config())
    (endpoint,) = world.serving(answering())
    endpoint.on_head = lambda received: received.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    connection = caller(world)
    call = connection.request(method="POST", fields=(("expect", "100-continue"),), end=False)
    world.run(0.1)
    assert call.informational == [[(":status", "100")]]
    connection.data(call, b"body", True)
    finish(world, call)

    assert call.status == 200
    assert endpoint.requests[0].get("expect") == "100-continue"
    assert endpoint.requests[0].body == b"body"
    world.check()


def test_other_expectations_are_refused() -> None:
    """As in HTTP/1.1: nobody knows what else could be meant."""
    world = World(h2_config())
    (endpoint,) = world.serving()
    call = caller(world).request(method="POST", fields=(("expect", "200-ok"),), body=b"x")
    finish(world, call)

    assert (call.status, call.reason, len(endpoint)) == (417, "unsupported", 0)
    world.check()


def test_whole_bodies_only() -> None:
    """streamingEnabled: false holds a body until it is complete, answers Expect itself, and gives windows back."""
    world = World(http_config(router="streamingEnabled: false"))
    (endpoint,) = world.serving()
    connection = caller(world)
    call = connection.request(method="POST", fields=(("expect", "100-continue"),), end=False)
    world.run(0.1)
    assert pour(world, connection, call, 300_000) == 300_000
    before = len(endpoint)
    connection.finish(call)
    finish(world, call)

    assert call.informational == [[(":status", "100")]]
    assert before == 0
    assert (call.status, len(endpoint.requests[0].body)) == (200, 300_000)
    assert endpoint.requests[0].get("expect") is None
    world.check()


@pytest.mark.parametrize("declared", [True, False])
def test_body_too_long_to_be_held(declared: bool) -> None:
    """More than 5 MB on such a router is a 413, at once if the head says so."""
    world = World(http_config(router="streamingEnabled: false"))
    (endpoint,) = world.serving()
    world.linker.servers["127.0.0.1", 4140][1].max_aggregate = 100_000
    connection = caller(world)
    fields = (("content-length", "100001"),) if declared else ()
    call = connection.request(method="POST", fields=fields, end=False)
    if not declared:
        pour(world, connection, call, 100_001)
    finish(world, call)

    assert (call.status, call.reason, call.done) == (413, "limit-body-bytes", True)
    assert len(endpoint) == 0
    world.check()


def test_compression() -> None:
    """compressionLevel holds for callers of either version."""
    world = World(http_config(router="compressionLevel: 6"))
    world.serving(answering(body=b"text " * 1000))
    call = caller(world).request(fields=(("accept-encoding", "gzip"),))
    finish(world, call)

    assert (call.status, call.get("content-encoding"), call.done) == (200, "gzip", True)
    assert len(call.body) < 1000
    world.check()
