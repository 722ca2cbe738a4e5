"""Rows R1-R7 of the threat model, and what misbehaving callers and endpoints may leave behind: nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.wire.big_bodies import cpu_seconds
from tests.wire.harness import Answer, EndpointServer, Hostmesh, Malformed, RawClient, Received
from tests.wire.lab import CONFIG, Lab, lab

BuildEndpoint = Callable[..., EndpointServer]
BuildHostmesh = Callable[..., Hostmesh]

SHORT = CONFIG.replace(
    "    clearContext: true\n", "    socketOptions: {readTimeoutMs: 1000, writeTimeoutMs: 500}\n"
)


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path, SHORT) as built:
        yield built


def get(target: str = "/", *lines: str) -> bytes:
    return "\r\n".join((f"GET {target} HTTP/1.1", "Host: web", *lines, "", "")).encode()


def test_r1_half_sent_heads_are_ended_and_delay_nobody(hostile: Lab) -> None:
    """R1: three hundred heads that never end get 408 when their time is over; others are served meanwhile."""
    with ExitStack() as stack:
        slow = [stack.enter_context(hostile.mesh.client("edge")) for _ in range(300)]
        for client in slow:
            client.send(b"GET / HTTP/1.1\r\nHost: web\r\nX-Slow: ")
        began = time.monotonic()
        with hostile.mesh.client("edge") as other:
            for _ in range(100):
                assert other.request().status == 200
        assert time.monotonic() - began < 5
        for client in slow:
            response = client.response()
            assert (response.status, client.read_until_close()) == (408, b"")


def test_r1_dribbling_does_not_extend_the_time(hostile: Lab) -> None:
    """R1: a byte now and then does not keep a head open: its time counts from the first byte."""
    with hostile.mesh.client("edge") as client:
        began = time.monotonic()
        client.send(b"GET / HTTP/1.1\r\nHost: web\r\nX-Slow: ")
        client.socket.settimeout(0.05)
        received = b""
        while not received:
            assert time.monotonic() - began < 4
            client.send(b"x")
            try:
                received = client.socket.recv(1000)
            except TimeoutError:
                continue
    assert received.startswith(b"HTTP/1.1 408 ")
    assert 0.9 < time.monotonic() - began < 3


def test_r2_body_that_stops_is_ended(hostile: Lab) -> None:
    """R2: an upload of which nothing comes any more is 408, and its endpoint sees no end of it."""
    with hostile.mesh.client("edge") as client:
        client.send(b"POST /stopped HTTP/1.1\r\nHost: web\r\nContent-Length: 100000\r\n\r\n" + b"x" * 1000)
        response = client.response()
        assert (response.status, client.read_until_close()) == (408, b"")

    request = next(r for r in hostile.endpoint.requests if r.target == "/stopped")
    hostile.endpoint.wait_for(lambda: request.connection in hostile.endpoint.closed)
    assert not request.complete


def test_r2_slow_body_that_moves_is_served(hostile: Lab) -> None:
    """R2: a body that keeps coming, however slowly, may take longer than the time of one pause."""
    with hostile.mesh.client("edge") as client:
        client.send(b"POST /moving HTTP/1.1\r\nHost: web\r\nContent-Length: 100000\r\n\r\n")
        began = time.monotonic()
        sent = 0
        client.socket.settimeout(0.1)
        while time.monotonic() - began < 2.2:
            client.send(b"x" * 100)
            sent += 100
            with pytest.raises(TimeoutError):
                client.socket.recv(1)
        client.socket.settimeout(10)
        client.send(b"x" * (100_000 - sent))
        assert client.response("POST").json()["body_bytes"] == 100_000


def test_r2_caller_that_does_not_read_is_cut(hostile: Lab) -> None:
    """R2: an answer of which nothing can be written for ``writeTimeoutMs`` (60 s unless set) ends with its caller."""
    pieces = (b"x" * 65536 for _ in range(2000))
    hostile.endpoint.script.append(Answer(body=pieces, framing="chunked"))
    with RawClient(hostile.mesh.ports["edge"], receive_buffer=4096) as client:
        client.send(get("/unread"))
        hostile.mesh.wait_metric(
            f"rt/out/server/127.0.0.1/{hostile.mesh.ports['edge']}/failures/reset-by-caller", lambda n: n == 1
        )
        request = next(r for r in hostile.endpoint.requests if r.target == "/unread")
        hostile.endpoint.wait_for(lambda: request.connection in hostile.endpoint.closed)
        with pytest.raises((Malformed, ConnectionError)):
            client.response()


def test_r3_crowd_at_the_limit_waits_without_harm(endpoint: BuildEndpoint, tmp_path: Path) -> None:
    """R3: beyond the connections that its descriptors allow the daemon serves who is in, admin too, and does not spin;
    the others wait in the kernel's queue and are served when somebody leaves.
    """
    web = endpoint()
    with (
        Hostmesh(tmp_path, CONFIG, prefix=["prlimit", "--nofile=340", "--"], start=False) as mesh,
        ExitStack() as stack,
    ):
        mesh.set_endpoints("web", [web])
        mesh.start()
        inside = [stack.enter_context(mesh.client()) for _ in range(84)]
        for client in inside:
            assert client.request().status == 200
        crowd = [stack.enter_context(mesh.client()) for _ in range(30)]
        for client in crowd:
            client.send(get("/crowd"))
        for client in inside:
            assert client.request().status == 200
        cpu, began = cpu_seconds(mesh.pid), time.monotonic()
        crowd[0].socket.settimeout(1)
        with pytest.raises(TimeoutError):
            crowd[0].socket.recv(1)
        assert (cpu_seconds(mesh.pid) - cpu) / (time.monotonic() - began) < 0.3
        assert mesh.is_ready()

        crowd[0].socket.settimeout(10)
        for client in inside[:40]:
            client.close()
        assert [client.response().status for client in crowd] == [200] * 30


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (get("/" + "x" * 4090), 414, "limit-initial-line"),
        (b"GET /" + b"x" * 5000, 414, "limit-initial-line"),
        (get("/", "A: " + "x" * 8200), 431, "limit-header-bytes"),
        (b"GET / HTTP/1.1\r\nHost: web\r\nA: " + b"x" * 9000, 431, "limit-header-bytes"),
        (get("/", *["A: b"] * 100), 431, "limit-header-count"),
        (b"GET / HTTP/1.1\r\nHost: web\r\n" + b"A:\r\n" * 2500, 431, "limit-header-bytes"),
    ],
    ids=["line", "line without end", "head", "head without end", "count", "count without end"],
)
def test_r4_heads_over_a_limit_are_refused(hostile: Lab, data: bytes, status: int, reason: str) -> None:
    """R4: line, bytes and count have each its own limit, which holds before the head is complete."""
    outcome = hostile.send(data)

    assert (outcome.statuses, outcome.reason, outcome.requests) == ([status], reason, [])


def test_r4_head_at_the_limits_is_served(hostile: Lab) -> None:
    """R4: 99 fields and close to 8 KiB pass, also byte by byte."""
    data = get("/full", *[f"A-{n:02}: " + "x" * 72 for n in range(98)])
    assert 7800 < len(data) < 8192

    whole = hostile.send(data, answers=1)
    with hostile.mesh.client() as client:
        for n in range(len(data)):
            client.send(data[n : n + 1])
        response = client.response()

    assert (whole.statuses, response.status) == ([200], 200)


FAILING = CONFIG.replace(
    "  servers:\n",
    "  service:\n    responseClassifier: {kind: io.l5d.http.retryableRead5XX}\n  servers:\n",
    1,
)


def test_r6_failing_endpoint_gets_few_more_attempts_than_requests(tmp_path: Path) -> None:
    """R6: with everything failing, retries stay within the budget: 20 % and ten per second."""
    with lab(tmp_path, FAILING) as built:
        fail = [True]
        built.endpoint.respond = lambda _request: Answer(status=500 if fail[0] else 200)
        began = time.monotonic()
        with built.mesh.client() as client:
            for _ in range(500):
                assert client.request("GET", "/failing").status == 500
        seconds = time.monotonic() - began
        attempts = sum(r.target == "/failing" for r in built.endpoint.requests)
        fail[0] = False

    # The budget starts with what ten per second make in its ten seconds.
    assert 500 < attempts <= 500 * 1.2 + 10 * (10 + seconds) + 1


CHAIN = """\
admin: {ip: 127.0.0.1, port: @admin@}
routers:
- protocol: http
  label: far
  dtab: /svc => /$/inet/127.0.0.1/@dead@;
  servers: [{port: @far@, ip: 127.0.0.1}]
- protocol: http
  label: near
  dtab: /svc => /$/inet/127.0.0.1/@far@;
  service:
    responseClassifier: {kind: io.l5d.http.retryableAll5XX}
  servers: [{port: @port@, ip: 127.0.0.1}]
"""


def test_r6_retryable_answers_do_not_multiply_over_two_hops(tmp_path: Path) -> None:
    """R6: ``l5d-retryable`` of the hop behind is obeyed within the budget of the hop in front."""
    with Hostmesh(tmp_path, CHAIN) as mesh:
        began = time.monotonic()
        with mesh.client() as client:
            for _ in range(300):
                response = client.request()
                assert (response.status, response.get("l5d-retryable")) == (502, "true")
        seconds = time.monotonic() - began
        metrics = mesh.metrics()

    reached = metrics[f"rt/far/server/127.0.0.1/{mesh.ports['far']}/requests"]
    assert 300 <= reached <= 300 * 1.2 + 10 * (10 + seconds) + 1


POOL = CONFIG.replace(
    "  servers:\n",
    "  client: {hostConnectionPool: {maxSize: 2, maxWaiters: 3}}\n  servers:\n",
    1,
)


def test_r7_a_full_queue_answers_at_once(tmp_path: Path) -> None:
    """R7: two requests in progress, three waiting, and all others are 503 while the endpoint says nothing."""
    with lab(tmp_path, POOL) as built, ExitStack() as stack:
        go = threading.Event()
        built.endpoint.respond = lambda r: Answer(wait=go) if r.target == "/hang" else Answer()
        clients = [stack.enter_context(built.mesh.client()) for _ in range(20)]
        for client in clients[:5]:
            client.send(get("/hang"))
        built.mesh.wait_metric(f"rt/out/server/127.0.0.1/{built.mesh.port}/pending", lambda n: n == 5)
        built.mesh.wait_metric("rt/out/client/#/io.l5d.fs/web/pool_waiters", lambda n: n == 3)
        began = time.monotonic()
        for client in clients[5:]:
            client.send(get("/hang"))
            response = client.response()
            assert response.status == 503
            assert (response.get("l5d-err") or "").startswith("limit-pool-waiters")
        each = (time.monotonic() - began) / 15
        go.set()

        assert [client.response().status for client in clients[:5]] == [200] * 5
        assert each < 0.5
        assert max(r.connection for r in built.endpoint.requests) <= 1


def states(client: RawClient, web: EndpointServer) -> Iterator[Callable[[], None]]:
    """Ways to get a connection into a state in which it can be left."""
    count = len(web.requests)

    def arrived() -> None:
        web.wait_for(lambda: len(web.requests) > count)

    yield lambda: None
    yield lambda: client.send(b"GET / HT")
    yield lambda: client.send(b"GET / HTTP/1.1\r\nHost: web\r\nA: ")
    yield lambda: (client.send(get("/hang")), arrived())  # type: ignore[func-returns-value]
    yield lambda: (client.send(get("/hang") + get("/two") + b"GET / "), arrived())  # type: ignore[func-returns-value]
    yield lambda: client.send(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 10\r\n\r\nhalf")
    yield lambda: (  # type: ignore[func-returns-value]
        client.send(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100000\r\n\r\nhalf"),
        arrived(),
    )
    yield lambda: (  # type: ignore[func-returns-value]
        client.send(b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
        arrived(),
    )
    yield lambda: client.send(
        b"POST / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
    )
    yield lambda: client.send(get("/", "Connection: close") + get("/more"))
    yield lambda: (client.send(get("/stream")), client.socket.recv(1000))  # type: ignore[func-returns-value]
    yield lambda: client.send(b"\x16\x03\x01" * 100)
    yield lambda: client.send(get("/") * 50)


@pytest.mark.parametrize("how", ["reset", "close", "half-close and reset"])
def test_leaving_in_any_state_leaves_nothing(
    endpoint: BuildEndpoint, hostmesh: BuildHostmesh, how: str
) -> None:
    """A caller may go at any moment: its exchange, connections and descriptors go with it."""
    go = threading.Event()

    def respond(request: Received) -> Answer:
        if request.target == "/hang":
            return Answer(wait=go)
        if request.target == "/stream":
            return Answer(body=(b"x" * 65536 for _ in range(200)), framing="chunked")
        return Answer()

    web = endpoint(respond=respond, keep_bodies=False)
    mesh = hostmesh(web=[web])
    mesh.get("/")
    baseline = mesh.open_descriptors()
    with mesh.client() as idle:
        count = sum(1 for _ in states(idle, web))

    for _ in range(3):
        for n in range(count):
            client = mesh.client()
            list(states(client, web))[n]()
            if how == "half-close and reset":
                client.half_close()
            if how == "close":
                client.close()
            else:
                client.reset()
    go.set()

    server = f"rt/http/server/127.0.0.1/{mesh.port}"
    mesh.wait_metric(f"{server}/pending", lambda n: n == 0)
    mesh.wait_metric(f"{server}/connections", lambda n: n <= 1)
    mesh.wait_metric("rt/http/client/#/io.l5d.fs/web/pending", lambda n: n == 0)
    mesh.wait_metric("rt/http/client/#/io.l5d.fs/web/pool_waiters", lambda n: n == 0)
    web.wait_for(lambda: web.open_connections <= 4)
    mesh.wait(lambda: mesh.open_descriptors() <= baseline + 6, "descriptors given back")
    assert mesh.get("/").status == 200


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_endpoint_that_closes_idle_connections_costs_no_request(
    endpoint: BuildEndpoint, hostmesh: BuildHostmesh, reset: bool
) -> None:
    """An idle connection that its endpoint closes is not used again, whatever the method."""
    web = endpoint()
    mesh = hostmesh(web=[web])

    for n in range(10):
        with mesh.client() as client:
            assert client.request("POST", f"/{n}", body=b"x").status == 200
        web.close_connections(reset=reset)
        web.wait_for(lambda: web.open_connections == 0)
    assert web.connections == 10


def test_keep_alive_race_repeats_idempotent_requests_only(
    endpoint: BuildEndpoint, hostmesh: BuildHostmesh
) -> None:
    """A reused connection closed before any answer: GET is repeated elsewhere, POST is 502 and delivered once."""
    web = endpoint()
    mesh = hostmesh(web=[web])
    mesh.get("/warm")
    web.script.append(Answer(cut_after=0))
    repeated = mesh.get("/get")
    web.script.append(Answer(cut_after=0))
    refused = mesh.send("POST", "/post", body=b"x")

    assert (repeated.status, refused.status) == (200, 502)
    assert [r.target for r in web.requests] == ["/warm", "/get", "/get", "/post"]


def test_fresh_connection_that_closes_is_not_repeated(
    endpoint: BuildEndpoint, hostmesh: BuildHostmesh
) -> None:
    """A new connection that closes without an answer is the endpoint's failure: 502, sent once."""
    web = endpoint()
    mesh = hostmesh(web=[web])
    web.script.append(Answer(cut_after=0))

    response = mesh.get("/once")

    assert (response.status, len(web.requests)) == (502, 1)
    assert (response.get("l5d-err") or "").startswith("reset-by-endpoint")


def test_endpoint_that_never_answers_is_let_go(tmp_path: Path) -> None:
    """The caller of a silent endpoint may leave; the connection is closed with it and not given to another."""
    with lab(tmp_path) as built:
        go = threading.Event()
        built.endpoint.respond = lambda r: Answer(wait=go) if r.target == "/hang" else Answer()
        client = built.mesh.client()
        client.send(get("/hang"))
        built.endpoint.wait_for(lambda: len(built.endpoint.requests) == 1)
        client.reset()
        go.set()

        assert built.mesh.get("/next").json()["target"] == "/next"
        assert built.endpoint.requests[-1].connection != built.endpoint.requests[0].connection


def test_status_name_answers_without_an_endpoint(hostile: Lab) -> None:
    """``/$/io.buoyant.http.status`` answers of every class, and the connection stays usable where it may."""
    for status in (200, 204, 304, 404, 503):
        with hostile.mesh.client() as client:
            client.send(get("/", f"l5d-dtab: /svc/web => /$/io.buoyant.http.status/{status}"))
            assert client.response().status == status
            assert client.request().status == 200


def test_interim_status_name_is_no_answer(hostile: Lab) -> None:
    """A 1xx cannot be the answer to a request: nobody would ever read another."""
    with hostile.mesh.client() as client:
        client.send(get("/", "l5d-dtab: /svc/web => /$/io.buoyant.http.status/101"))
        assert client.response(informational=True).status >= 400


def test_x15_killed_daemon_starts_again(hostile: Lab) -> None:
    """X15: SIGKILL under load leaves nothing that blocks a restart on the same ports."""
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(hostile.mesh.client()).send(get("/"))
        hostile.mesh.kill()
        hostile.mesh.start()

    assert hostile.mesh.get("/").status == 200


def test_x15_second_daemon_on_one_port_is_refused(
    hostile: Lab, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """X15: a port in use is an error that names it, and the exit status is not zero."""
    other = Hostmesh(
        tmp_path_factory.mktemp("second"), CONFIG, ports={"port": hostile.mesh.port}, start=False
    )
    with pytest.raises(AssertionError, match=f"127.0.0.1:{hostile.mesh.port}: Address already in use"):
        other.start()
    with pytest.raises((OSError, Malformed)):
        other.admin("/admin/ping", timeout=1)
