"""Callers that speak HTTP/2, through the router, to endpoints that speak HTTP/1.1."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest

from tests.flow.h2_scripted import H2Call, caller, finish, h2_config, http_config
from tests.flow.scripted import Received
from tests.flow.world import World, answering, silent

pytestmark = pytest.mark.usefixtures("engine")


@pytest.mark.parametrize("text", [http_config, h2_config], ids=["http", "h2"])
def test_a_request_and_its_answer(text: Callable[[], str]) -> None:
    """Every router's port takes HTTP/2; the endpoint sees HTTP/1.1 with Host, and the caller its whole answer."""
    world = World(text())
    (endpoint,) = world.serving(answering(body=b"hello", fields=("X-Kind: a", "Connection: keep-alive")))

    call = caller(world).request("/a?b", fields=(("accept", "*/*"), ("cookie", "a=1"), ("cookie", "b=2")))
    finish(world, call)

    assert (call.status, bytes(call.body), call.done) == (200, b"hello", True)
    assert [name for name, _ in call.head] == [
        ":status",
        "content-length",
        "x-kind",
        "via",
        "l5d-success-class",
    ]
    seen = endpoint.requests[0]
    assert seen.message.start == b"GET /a?b HTTP/1.1"
    assert seen.get("host") == "web"
    assert seen.get("cookie") == "a=1; b=2"
    assert seen.get("l5d-dst-service") == "/svc/web"
    assert seen.get("via") == "h2 hostmesh"
    assert world.metric("rt/out/server/127.0.0.1/4140/requests") == 1
    assert world.metric("rt/out/server/127.0.0.1/4140/open_streams") == 0
    world.check()


def test_router_is_called_after_its_protocol() -> None:
    """The overview shows what the configuration says."""
    assert (World(h2_config()).router().protocol, World(http_config()).router().protocol) == ("h2", "http")


def test_timeout_of_the_server() -> None:
    """timeoutMs holds for streams, too."""
    world = World(h2_config(server="timeoutMs: 100"))
    world.serving(silent)
    call = caller(world).request()
    finish(world, call)

    assert (call.status, call.reason) == (503, "total-timeout")
    world.check()


def test_streams_share_a_connection() -> None:
    """Requests of one connection run side by side, and an answer does not wait for an earlier one."""
    world = World(http_config())
    world.serving(lambda received: received.answer(after=0.5 if received.message.target == "/slow" else 0.0))
    connection = caller(world)

    slow, fast = connection.request("/slow"), connection.request("/fast")
    finish(world, slow, fast)

    assert (slow.status, fast.status) == (200, 200)
    assert slow.elapsed > 0.5
    assert fast.elapsed < 0.1
    assert world.metric("rt/out/server/127.0.0.1/4140/connects") == 1
    world.check()


def test_preface_in_pieces() -> None:
    """The protocol is recognised however the first bytes are cut."""
    world = World(http_config())
    world.serving()
    world.loop.read_size = 1

    call = caller(world).request()
    finish(world, call)

    assert call.status == 200
    world.check()


@pytest.mark.parametrize(
    "text", ["PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "PRI /x HTTP/1.1\r\nHost: a\r\n\r\n", "PUT"]
)
def test_what_only_begins_like_the_preface(text: str) -> None:
    """It is HTTP/1.1, good or bad."""
    world = World(http_config())
    world.serving(name="a")
    http = world.caller()

    http.send(text[:2].encode())
    world.run(0.1)
    http.send(
        text[2:].encode() + (b" / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" if text == "PUT" else b"")
    )
    call = http.expect()
    world.finish(call)

    assert call.status == {"PRI ": 505, "PUT": 200}.get(text[:4], 200) or text.startswith("PRI /")
    world.check()


def test_upgrade_to_h2c() -> None:
    """An HTTP/1.1 request that asks for h2c is answered as stream 1, and the connection goes on in HTTP/2."""
    world = World(h2_config())
    (endpoint,) = world.serving()
    connection = caller(world, start=False)
    settings = connection.conn.initiate_upgrade_connection()
    assert settings is not None
    first = connection.calls[1] = H2Call(1, "GET", world.loop.now())
    connection.send(
        b"GET /first HTTP/1.1\r\nHost: web\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: %b\r\nX-Small: 1\r\n\r\n" % settings
    )
    connection.before = b"101"
    world.run(0.1)
    connection.flush()
    finish(world, first)
    second = connection.request("/second")
    finish(world, second)

    assert (first.status, second.status) == (200, 200)
    assert [each.message.target for each in endpoint.requests] == ["/first", "/second"]
    assert endpoint.requests[0].get("x-small") == "1"
    assert endpoint.requests[0].get("upgrade") is None
    assert endpoint.requests[0].get("http2-settings") is None
    world.check()


@pytest.mark.parametrize(
    "lines",
    [
        "Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: ?",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAT_____",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2\r\nHTTP2-Settings: AAMAAABk",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nContent-Length: 2",
    ],
    ids=["not nominated", "no settings", "cut", "no base64", "bad value", "TLS", "body"],
)
def test_bad_upgrades_are_ordinary_requests(lines: str) -> None:
    """A request whose upgrade is not as it should be is answered in HTTP/1.1, without the field (F20)."""
    world = World(h2_config())
    (endpoint,) = world.serving()
    http = world.caller()

    body = "hi" if "Content-Length" in lines else ""
    http.send(f"GET / HTTP/1.1\r\nHost: web\r\n{lines}\r\n\r\n{body}".encode())
    call = http.expect()
    world.finish(call)

    assert call.status == 200
    assert endpoint.requests[0].get("upgrade") is None
    world.check()


def test_base64_settings_of_an_upgrade_count() -> None:
    """The windows in HTTP2-Settings hold for the first answer."""
    world = World(h2_config())
    world.serving(answering(body=b"x" * 100))
    http = world.caller()
    settings = base64.urlsafe_b64encode(b"\x00\x04\x00\x00\x00\x0a").rstrip(b"=")

    http.send(
        b"GET / HTTP/1.1\r\nHost: web\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: %b\r\n\r\n" % settings
    )
    world.run(0.1)

    assert http.raw.startswith(b"HTTP/1.1 101 ")
    assert http.raw.count(b"x" * 10) == 1
    assert b"x" * 11 not in http.raw
    http.close()
    world.run(1.0)
    world.check()


def test_http_routers_answer_upgrades_in_http1() -> None:
    """Who asks an http router for h2c gets as many connections as it opens, not one with a number of streams."""
    world = World(http_config())
    (endpoint,) = world.serving()
    http = world.caller()

    for _ in range(2):
        http.send(
            b"GET / HTTP/1.1\r\nHost: web\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
            b"HTTP2-Settings: AAMAAABk\r\n\r\n"
        )
        call = http.expect()
        world.finish(call)

        assert call.status == 200
    assert [each.get("upgrade") for each in endpoint.requests] == [None, None]
    assert [each.get("http2-settings") for each in endpoint.requests] == [None, None]
    world.check()


def test_head_and_bodiless_answers() -> None:
    """HEAD keeps its content-length and has no body; 204 and 304 have neither."""
    world = World(http_config())

    def handler(received: Received) -> None:
        if received.message.method == "HEAD":
            received.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        else:
            status = received.message.target[1:]
            received.send(b"HTTP/1.1 %b No\r\nETag: x\r\n\r\n" % status.encode())

    world.serving(handler)
    connection = caller(world)

    calls = [connection.request("/", method="HEAD"), connection.request("/204"), connection.request("/304")]
    finish(world, *calls)

    assert [(call.status, bytes(call.body), call.done, call.get("content-length")) for call in calls] == [
        (200, b"", True, "5"),
        (204, b"", True, None),
        (304, b"", True, None),
    ]
    world.check()


def test_interim_answers_are_passed_on() -> None:
    """103 comes before the answer; hop-by-hop fields do not."""
    world = World(http_config())

    def handler(received: Received) -> None:
        received.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\nX: 1\r\n\r\n")
        received.answer()

    world.serving(handler)
    call = caller(world).request()
    finish(world, call)

    assert call.informational == [[(":status", "103"), ("link", "</a>")]]
    assert call.status == 200
    world.check()


def test_errors_made_here() -> None:
    """A name that leads nowhere is a 502 with l5d-err and a text on its stream; the others go on."""
    world = World(http_config())
    world.serving()
    connection = caller(world)

    lost, head, fine = (
        connection.request(host="nowhere"),
        connection.request(host="nowhere", method="HEAD"),
        connection.request(),
    )
    finish(world, lost, head, fine)

    assert (lost.status, lost.reason, lost.get("content-type")) == (502, "name-negative", "text/plain")
    assert lost.body.startswith(b"Unable to route request!")
    assert (head.status, head.reason, bytes(head.body), head.done) == (502, "name-negative", b"", True)
    assert fine.status == 200
    world.check()


def test_over_the_limit_of_the_server() -> None:
    """maxConcurrentRequests refuses with REFUSED_STREAM, which every client may repeat."""
    world = World(h2_config(server="maxConcurrentRequests: 1"))
    world.serving(answering(after=0.1))
    connection = caller(world)

    first, second = connection.request(), connection.request()
    finish(world, first, second)

    assert (first.status, second.status, second.reset) == (200, 0, 7)
    assert world.metric("rt/out/server/127.0.0.1/4140/nacks") == 1
    world.check()


def test_connect_is_refused() -> None:
    """F20: a plain CONNECT is a 405."""
    world = World(http_config())
    connection = caller(world)
    call = connection.connect("web:80")
    finish(world, call)

    assert (call.status, call.reason) == (405, "unsupported")
    world.check()


def test_forwarded_says_authority() -> None:
    """addForwardedHeader on a request that came by HTTP/2."""
    world = World(h2_config(server="addForwardedHeader: {by: {kind: ip}, for: {kind: ip}}"))
    (endpoint,) = world.serving()
    call = caller(world).request()
    finish(world, call)

    assert endpoint.requests[0].get("forwarded") == "by=127.0.0.1;for=10.9.9.9;authority=web;proto=http"
    world.check()


def test_clear_context() -> None:
    """On a server for untrusted callers their l5d fields count for nothing, and ours stay inside."""
    world = World(h2_config(server="clearContext: true"))
    (endpoint,) = world.serving()
    connection = caller(world)

    fine = connection.request(fields=(("l5d-dtab", "/svc => /$/inet/1.2.3.4/5"), ("x_y", "1")))
    lost = connection.request(host="nowhere")
    finish(world, fine, lost)

    assert fine.status == 200
    assert not [name for name, _ in fine.head + lost.head if name.startswith("l5d-")]
    assert endpoint.requests[0].get("l5d-dtab") is None
    assert endpoint.requests[0].get("x_y") is None
    assert (lost.status, bytes(lost.body[:14])) == (502, b"request failed")
    world.check()


def test_retries_of_a_classified_failure() -> None:
    """The classifiers of an h2 router look at the status and retry what may be repeated."""
    answers = iter([500, 200])
    world = World(h2_config(service="responseClassifier: {kind: io.l5d.h2.retryableRead5XX}"))
    (endpoint,) = world.serving(lambda received: received.answer(next(answers)))
    call = caller(world).request()
    finish(world, call)

    assert call.status == 200
    assert len(endpoint) == 2
    assert world.metric("rt/out/service/svc/web/retries/total") == 1
    world.check()


def test_status_service_answers_in_http2() -> None:
    """/$/io.buoyant.http.status needs no endpoint."""
    world = World(h2_config().replace("/#/lit", "/$/io.buoyant.http.status/418"))
    call = caller(world).request()
    finish(world, call)

    assert (call.status, call.done) == (418, True)
    world.check()


def test_timeouts_are_answers() -> None:
    """A total timeout is a 503 with its reason, where Linkerd 1 reset the stream."""
    world = World(h2_config(service="totalTimeoutMs: 100"))
    world.serving(silent)
    call = caller(world).request()
    finish(world, call)

    assert (call.status, call.reason) == (503, "total-timeout")
    assert 0.1 <= call.elapsed < 0.2
    world.check()


@pytest.mark.parametrize("max_forwards", ["0", "1"])
def test_diagnostic_trace(max_forwards: str) -> None:
    """A TRACE that asks where it goes is told so in HTTP/2, too."""
    world = World(http_config())
    (endpoint,) = world.serving(answering(body=b"traced"))
    fields = (("max-forwards", max_forwards), ("l5d-add-context", "true"))
    call = caller(world).request(method="TRACE", fields=fields)
    finish(world, call)

    assert (call.status, call.done) == (200, True)
    assert b"--- Router: out ---" in call.body
    assert b"service name: /svc/web" in call.body
    assert len(endpoint) == int(max_forwards)
    world.check()
