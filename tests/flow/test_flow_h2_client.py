"""HTTP/1.1 callers, HTTP/2 endpoints: one request after the other, many at once, bodies both ways."""

from __future__ import annotations

from collections import Counter

import pytest
from h2.settings import SettingCodes

from hostmesh.naming.addr import AddrBound, Endpoint
from hostmesh.pump.marks import HIGH_MARK, READ_LARGE
from tests.flow.h2_endpoint import Stream, answering_h2
from tests.flow.h2_world import check, every_engine, h2_world, serving_h2  # noqa: F401
from tests.flow.world import World

KEYS = (
    "initialStreamWindowBytes: 100000, maxFrameBytes: 20000, headerTableBytes: 0, maxHeaderListBytes: 9000, "
    "windowUpdateRatio: 0.5"
)


def test_a_request_goes_through() -> None:
    """Pseudo fields instead of the initial line and Host, our lines beside the caller's fields."""
    world = h2_world()
    (endpoint,) = serving_h2(world, answering_h2(200, b"hello", fields=(("x-from", "endpoint"),)))

    call = world.get("/a?b=c", fields=("Accept: text/plain",))

    assert (call.status, call.body) == (200, b"hello")
    assert call.response is not None
    assert call.response.get("x-from") == "endpoint"
    (stream,) = endpoint.requests
    assert stream.pairs[:4] == [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/a?b=c"),
        (b":authority", b"web"),
    ]
    assert stream.get("accept") == "text/plain"
    assert stream.get("l5d-dst-service") == "/svc/web"
    assert stream.get("host") is None
    check(world)


def test_connection_fields_of_http_1_stay_behind() -> None:
    """What HTTP/2 forbids (RFC 9113 section 8.2.2) is not forwarded, ``te: trailers`` is."""
    world = h2_world()
    (endpoint,) = serving_h2(world)

    world.get(fields=("Connection: keep-alive, X-Own", "X-Own: 1", "Keep-Alive: 5", "TE: trailers, gzip"))

    names = {name for name, _value in endpoint.requests[0].pairs}
    assert names & {b"connection", b"x-own", b"keep-alive"} == set()
    assert endpoint.requests[0].get("te") == "trailers"
    check(world)


def test_many_requests_share_one_connection() -> None:
    """A burst that one connection takes opens no second one, and the answers come in any order."""
    world = h2_world()

    def by_number(stream: Stream) -> None:
        number = int((stream.target or "")[1:])
        stream.answer(200, b"%d" % number, after=(100 - number) / 1000)

    (endpoint,) = serving_h2(world, by_number)

    calls = [world.caller().request(f"/{number}") for number in range(100)]
    world.finish(*calls)

    assert [call.body for call in calls] == [b"%d" % number for number in range(100)]
    assert endpoint.accepted == 1
    assert world.metric("rt/out/client/#/lit/web/connections") == 1
    check(world)


def test_each_request_is_balanced_by_itself() -> None:
    """One caller's connection, five endpoints, a thousand requests: 20 % each, within three."""
    world = h2_world("loadBalancer: {kind: roundRobin}")
    endpoints = serving_h2(world, *[answering_h2()] * 5)
    caller = world.caller()

    for _ in range(1000):
        world.finish(caller.request())

    assert [len(endpoint) for endpoint in endpoints] == pytest.approx([200] * 5, abs=30)
    assert [endpoint.accepted for endpoint in endpoints] == [1] * 5
    check(world)


def test_concurrent_requests_are_spread_by_load() -> None:
    """The default balancer sees streams, not connections."""
    world = h2_world()
    endpoints = serving_h2(world, *[answering_h2(after=0.1)] * 5)

    for _ in range(20):
        calls = [world.caller().request() for _ in range(50)]
        world.finish(*calls)

    assert [len(endpoint) for endpoint in endpoints] == pytest.approx([200] * 5, abs=30)
    check(world)


@pytest.mark.parametrize(
    ("method", "status", "fields", "expected"),
    [
        ("HEAD", 200, (("content-length", "5"),), "5"),
        ("GET", 204, (), None),
        ("GET", 304, (), None),
        ("GET", 200, (), "0"),
    ],
)
def test_answers_without_a_body(
    method: str, status: int, fields: tuple[tuple[str, str], ...], expected: str | None
) -> None:
    """The caller's connection stays good for the next request."""
    world = h2_world()
    serving_h2(world, answering_h2(status, b"", fields=fields))
    caller = world.caller()

    first = caller.request(method=method)
    world.finish(first)
    second = caller.request(method=method)
    world.finish(second)

    assert (first.status, first.body, second.status) == (status, b"", status)
    assert first.response is not None
    if expected is not None:
        found = first.response.get("content-length")
        assert found == expected
    check(world)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304), ("GET", 200)])
def test_an_end_that_comes_late(method: str, status: int) -> None:
    """An empty DATA with END_STREAM some time after the head: the answer is whole, the caller's connection good."""
    world = h2_world()

    def late(stream: Stream) -> None:
        stream.head(status, *((("content-length", "0"),) if method == "GET" and status == 200 else ()))
        stream._later(0.1, lambda: stream.data(b"", end=True))

    serving_h2(world, late)
    caller = world.caller()

    calls = []
    for _ in range(2):
        calls.append(caller.request(method=method))
        world.finish(calls[-1])

    assert [(call.status, call.body) for call in calls] == [(status, b"")] * 2
    assert not caller.closed
    check(world)


def test_trailers_reach_a_caller_that_takes_them() -> None:
    """As trailers of a chunked body; what no trailer may say is left out (F19)."""
    world = h2_world()
    trailers = [(b"x-check", b"abc"), (b"content-length", b"5")]
    serving_h2(world, answering_h2(200, b"body", trailers=trailers[:1]))

    call = world.get(fields=("TE: trailers",))

    assert call.body == b"body"
    assert call.response is not None
    assert call.response.trailers == b"x-check: abc\r\n"
    check(world)


def test_interim_answers_pass() -> None:
    """103 as it comes, the final answer after it."""
    world = h2_world()

    def hint(stream: Stream) -> None:
        stream.head(103, ("link", "</x>"))
        stream.answer(after=0.1)

    serving_h2(world, hint)

    call = world.get()

    assert call.status == 200
    assert [(message.status, message.get("link")) for message in call.informational] == [(103, "</x>")]
    check(world)


def test_too_many_interim_answers_end_the_request() -> None:
    """Ten are accepted; the eleventh is answered with a reset and 502. The connection stays."""
    world = h2_world()

    def hint(stream: Stream) -> None:
        for _ in range(11):
            stream.head(103)

    (endpoint,) = serving_h2(world, hint)

    call = world.get()

    assert (call.status, call.reason) == (502, "limit-informational")
    assert not endpoint.session.gone
    check(world)


# -- bodies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5000, 6000, 100_000, 1_000_000])
def test_uploads_arrive(size: int) -> None:
    """Held whole or streamed, declared or chunked."""
    world = h2_world()
    (endpoint,) = serving_h2(world)
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    declared = world.get("/declared", method="POST", body=body)
    caller = world.caller()
    caller.send(b"POST /chunked HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n")
    for start in range(0, size, 10_000):
        piece = body[start : start + 10_000]
        caller.send(b"%x\r\n%b\r\n" % (len(piece), piece))
    caller.send(b"0\r\nX-Sum: 1\r\n\r\n")
    chunked = caller.expect("POST")
    world.finish(chunked)

    assert (declared.status, chunked.status) == (200, 200)
    first, second = endpoint.requests
    assert (bytes(first.body), first.get("content-length")) == (body, str(size))
    assert (bytes(second.body), second.get("content-length")) == (body, None)
    assert second.trailers == [(b"x-sum", b"1")]
    check(world)


def test_an_endpoint_that_takes_no_more_stops_the_caller() -> None:
    """Its window is full: what is held here stays within the marks, and everything arrives once it goes on."""
    world = h2_world()
    (endpoint,) = serving_h2(world)
    endpoint.credits = False
    size = 2_000_000
    caller = world.caller()
    caller.send(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % size)
    caller.send(b"x" * size)
    call = caller.expect("POST")
    world.run(1.0)

    assert len(endpoint.requests[0].body) == 65535
    assert HIGH_MARK <= world.metric("rt/out/client/#/lit/web/buffered_bytes") <= HIGH_MARK + READ_LARGE
    endpoint.credits = True
    conn = endpoint.session.conn
    conn.acknowledge_received_data(65535, endpoint.requests[0].id)
    endpoint.session.flush()
    world.finish(call)

    assert len(endpoint.requests[0].body) == size
    check(world)


def test_an_upload_that_stands_still_is_given_up() -> None:
    """H7: no window for 30 s: the stream is reset, the connection serves on."""
    world = h2_world()
    (endpoint,) = serving_h2(world)
    endpoint.credits = False

    call = world.get(method="POST", body=b"x" * 200_000)

    assert (call.status, call.reason) == (502, "limit-stalled")
    assert call.elapsed == pytest.approx(30.0, abs=1.0)
    world.run(0.01)
    assert endpoint.requests[0].reset_code == 8
    assert not endpoint.session.gone
    assert world.get().status == 200
    check(world)


def test_a_caller_that_takes_no_more_stops_its_stream_and_no_other() -> None:
    """Its window is withheld: an endless body is held to one window and the marks; others get theirs meanwhile."""
    world = h2_world()
    size = 3_000_000

    def endless(stream: Stream) -> None:
        stream.head()
        stream.data(b"x" * size, end=True)

    (endpoint,) = serving_h2(world, endless)
    slow = world.caller()
    slow.request("/slow")
    world.run(0.001)
    slow.transport.pause()
    world.run(5.0)
    sent = size - len(endpoint.requests[0]._unsent)
    fast = world.get("/fast")
    slow.transport.resume()
    world.finish(slow.calls[0])

    assert sent < 65535 + HIGH_MARK + READ_LARGE + 3 * 65536
    assert len(fast.body) == size
    assert fast.elapsed < 5.0
    assert len(slow.calls[0].body) == size
    assert endpoint.accepted == 1
    check(world)


def test_early_answers_end_the_upload() -> None:
    """The answer goes to the caller, the rest of the body to nobody: the stream is reset, the connection stays."""
    world = h2_world()
    (endpoint,) = serving_h2(world, lambda _stream: None)
    endpoint.on_head = lambda stream: stream.answer(413, b"too large")
    caller = world.caller()
    caller.send(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 10_000)
    call = caller.expect("POST")
    world.finish(call)

    assert (call.status, call.body) == (413, b"too large")
    world.run(1.0)
    assert endpoint.requests[0].reset_code == 8
    assert not endpoint.session.gone
    check(world)


# -- configuration ----------------------------------------------------------------------------------------------------


def test_settings_are_announced() -> None:
    """Linkerd's client keys, and no push."""
    world = h2_world(KEYS)
    (endpoint,) = serving_h2(world)

    world.get()

    settings = endpoint.session.settings
    assert settings[SettingCodes.INITIAL_WINDOW_SIZE] == 100_000
    assert settings[SettingCodes.MAX_FRAME_SIZE] == 20_000
    assert settings[SettingCodes.HEADER_TABLE_SIZE] == 0
    assert settings[SettingCodes.MAX_HEADER_LIST_SIZE] == 9000
    assert settings[SettingCodes.ENABLE_PUSH] == 0
    check(world)


def test_each_name_has_its_own_protocol() -> None:
    """``io.l5d.static``: one bound name in HTTP/2, the others in HTTP/1.1."""
    world = World(
        """
routers:
- protocol: http
  label: out
  dtab: /svc => /#/lit
  client:
    kind: io.l5d.static
    configs:
    - {prefix: /#/lit/new, protocol: h2}
  servers:
  - port: 4140
"""
    )
    serving_h2(world, name="new")
    world.serving(name="old")

    statuses = Counter(world.get(host=host).status for host in ("new", "old"))

    assert statuses == {200: 2}
    check(world)


def test_an_endpoint_is_called_by_its_own_name() -> None:
    """setHost: its name as :authority, and the caller's host where it speaks of itself."""
    world = h2_world()
    own = "web.service.dc1.consul"
    (endpoint,) = serving_h2(
        world,
        answering_h2(302, b"", fields=(("location", f"http://{own}/next"), ("x-url", f"http://{own}/"))),
    )
    set_authority(world, endpoint.text, own)

    call = world.get(host="web")

    assert endpoint.requests[0].get(":authority") == own
    assert call.response is not None
    assert call.response.get("location") == "http://web/next"
    assert call.response.get("x-url") == f"http://{own}/"
    check(world)


def set_authority(world: World, text: str, name: str) -> None:
    """Give the endpoint a name of its own, as Consul's setHost does."""
    ip, _, port = text.partition(":")
    world.namer.addrs["web"].set(AddrBound((Endpoint(ip, int(port), 1.0, (("authority", name),)),)))


def test_whole_bodies_leave_from_where_they_are_held() -> None:
    """streamingEnabled false: twenty bodies of 2 MB at once, far more than a connection may hold, all arrive."""
    world = h2_world(router="streamingEnabled: false")
    (endpoint,) = serving_h2(world)
    body = bytes(range(250)) * 8000

    calls = [world.caller().request(method="POST", body=body) for _ in range(20)]
    world.run(0.05)
    assert world.metric("rt/out/client/#/lit/web/buffered_bytes") <= 20 * 2 * HIGH_MARK
    world.finish(*calls)

    assert [call.status for call in calls] == [200] * 20
    assert all(bytes(stream.body) == body for stream in endpoint.requests)
    check(world)


def test_whole_bodies_keep_their_trailers() -> None:
    """Also when they leave in several pieces."""
    world = h2_world(router="streamingEnabled: false")
    (endpoint,) = serving_h2(world)
    caller = world.caller()
    size = 300_000
    caller.send(b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n")
    caller.send(b"%x\r\n%b\r\n0\r\nX-Sum: 1\r\n\r\n" % (size, b"x" * size))
    call = caller.expect("POST")
    world.finish(call)

    (stream,) = endpoint.requests
    assert (len(stream.body), stream.trailers) == (size, [(b"x-sum", b"1")])
    check(world)


def test_an_expectation_is_the_endpoints_to_meet() -> None:
    """100-continue with a streamed body: the endpoint says when the body may come."""
    world = h2_world()
    (endpoint,) = serving_h2(world)
    endpoint.on_head = lambda stream: stream.head(100)
    caller = world.caller()
    caller.send(b"POST / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 20000\r\n\r\n")
    call = caller.expect("POST")
    world.run(0.1)
    assert [message.status for message in call.informational] == [100]
    assert endpoint.requests[0].get("expect") == "100-continue"
    caller.send(b"x" * 20_000)
    world.finish(call)

    assert (call.status, len(endpoint.requests[0].body)) == (200, 20_000)
    check(world)
