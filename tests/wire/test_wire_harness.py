"""The wire harness itself, without a proxy between caller and endpoint."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.wire.harness import (
    Answer,
    EndpointProcess,
    EndpointServer,
    Malformed,
    RawClient,
    compose,
    free_port,
)

BuildEndpoint = Callable[..., EndpointServer]


def test_endpoint_answers_its_name_and_what_it_saw(endpoint: BuildEndpoint) -> None:
    """The default answer carries the endpoint's name and the request fields in their original spelling."""
    server = endpoint("web-1")

    with RawClient(server.port) as client:
        response = client.request("GET", "/a?b=c", fields=(("L5d-Dst-Service", "/svc/web"),))

    assert response.status == 200
    assert response.endpoint == "web-1"
    assert response.seen("l5d-dst-service") == "/svc/web"
    assert server.requests[0].target == "/a?b=c"


def test_endpoint_records_raw_bytes(endpoint: BuildEndpoint) -> None:
    """Every byte received on a connection is kept, over several requests."""
    server = endpoint()
    first, second = compose("POST", "/1", body=b"hello"), compose("POST", "/2", body=b"", chunked=True)

    with RawClient(server.port) as client:
        client.send(first + second)
        client.response("POST")
        client.response("POST")

    assert bytes(server.raw[0]) == first + second
    assert [(r.connection, r.nth) for r in server.requests] == [(0, 0), (0, 1)]


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_framings_carry_the_same_body(endpoint: BuildEndpoint, framing: str) -> None:
    """A body arrives whole however it is framed, and the client says how."""
    server = endpoint()
    server.script.append(Answer(body=b"x" * 100_000, framing=framing))

    with RawClient(server.port) as client:
        response = client.request()

    assert response.body == b"x" * 100_000
    assert response.framing == framing


def test_chunked_request_with_trailers(endpoint: BuildEndpoint) -> None:
    """Chunk framing and trailers of a request are on record beside the decoded body."""
    server = endpoint()
    framed = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n"

    with RawClient(server.port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n" + framed)
        client.response("POST")

    request = server.requests[0]
    assert (request.body, request.wire_body, request.trailers) == (b"abcde", framed, [("X-Sum", "5")])


def test_chunked_answer_with_trailers(endpoint: BuildEndpoint) -> None:
    """Trailers of an answer reach the client apart from its fields."""
    server = endpoint()
    server.script.append(Answer(body=[b"ab", b"c"], framing="chunked", trailers=(("X-End", "1"),)))

    with RawClient(server.port) as client:
        response = client.request()

    assert (response.body, response.trailers) == (b"abc", [("X-End", "1")])


def test_close_before_answering(endpoint: BuildEndpoint) -> None:
    """cut_after=0 closes without a byte."""
    server = endpoint()
    server.script.append(Answer(cut_after=0))

    with RawClient(server.port) as client:
        client.send(compose())
        rest = client.read_until_close()

    assert rest == b""
    assert server.requests[0].complete


def test_half_an_answer(endpoint: BuildEndpoint) -> None:
    """cut_after=n sends n bytes and closes; the strict client refuses the stump."""
    server = endpoint()
    server.script.append(Answer(body=b"0123456789", cut_after=45))

    with RawClient(server.port) as client, pytest.raises(Malformed, match="before the end of the body"):
        client.request()


def test_reset_is_not_a_clean_end(endpoint: BuildEndpoint) -> None:
    """reset=True ends the connection with RST."""
    server = endpoint()
    server.script.append(Answer(cut_after=0, reset=True))

    with RawClient(server.port) as client:
        client.send(compose())
        with pytest.raises(ConnectionResetError):
            client.response()


def test_early_answer_before_the_body(endpoint: BuildEndpoint) -> None:
    """early=True answers while the upload is still outstanding."""
    server = endpoint()
    server.script.append(Answer(status=413, early=True, read_body=False, close=True))

    with RawClient(server.port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 1000\r\n\r\n")
        response = client.response("POST")

    assert response.status == 413
    assert not server.requests[0].complete


def test_informational_answers_come_first(endpoint: BuildEndpoint) -> None:
    """1xx messages are sent as given and skipped by the client unless it asks for them."""
    server = endpoint()
    server.script.append(Answer(informational=(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",)))

    with RawClient(server.port) as client:
        client.send(compose())
        first = client.response(informational=True)
        second = client.response()

    assert (first.status, second.status) == (103, 200)


def test_answer_waits_for_the_test(endpoint: BuildEndpoint) -> None:
    """With wait set, the answer starts when the test says so."""
    server = endpoint()
    go = threading.Event()
    server.script.append(Answer(wait=go))

    with RawClient(server.port, timeout=0.05) as client:
        client.send(compose())
        with pytest.raises(TimeoutError):
            client.response()
        go.set()
        client.socket.settimeout(10)
        response = client.response()

    assert response.status == 200


def test_server_comes_back_on_its_port(endpoint: BuildEndpoint) -> None:
    """stop refuses connections, start listens on the same port again."""
    server = endpoint()
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        RawClient(server.port)

    server.start()

    with RawClient(server.port) as client:
        assert client.request().status == 200


def test_large_bodies_are_hashed_not_kept(endpoint: BuildEndpoint) -> None:
    """keep_bodies=False keeps size and checksum only, for streamed bodies of any size."""
    server = endpoint(keep_bodies=False)
    payload = b"z" * 1_000_000

    with RawClient(server.port) as client:
        client.request("PUT", "/", body=payload)

    request = server.requests[0]
    assert (request.body, request.body_bytes) == (b"", 1_000_000)
    assert request.body_sha256 == hashlib.sha256(payload).hexdigest()
    assert bytes(server.raw[0]) == b""


def test_connections_closed_by_the_caller_are_noticed(endpoint: BuildEndpoint) -> None:
    """A caller that leaves shows up in `closed`."""
    server = endpoint()
    client = RawClient(server.port)
    client.request()

    client.reset()

    server.wait_for(lambda: server.closed == [0])
    assert server.open_connections == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    ],
    ids=["bare LF", "length and chunked", "space before colon", "folding", "chunk too long"],
)
def test_client_refuses_what_is_not_strict(endpoint: BuildEndpoint, answer: bytes) -> None:
    """The client raises Malformed for responses that RFC 9112 does not allow."""
    server = endpoint()
    server.script.append(Answer(raw=answer, close=True))

    with RawClient(server.port) as client, pytest.raises(Malformed):
        client.request()


def test_killed_process_leaves_its_record(tmp_path: Path) -> None:
    """What an endpoint process had received is known after SIGKILL, and it can come back on its port."""
    with EndpointProcess(tmp_path, "web-1", free_port()) as process:
        with RawClient(process.port) as client:
            client.request("POST", "/1", fields=(("X-Id", "a"),), body=b"x")
        process.kill()
        process.start()
        with RawClient(process.port) as client:
            client.request("GET", "/2", fields=(("X-Id", "b"),))

        assert [(r["method"], r["id"]) for r in process.requests()] == [("POST", "a"), ("GET", "b")]
