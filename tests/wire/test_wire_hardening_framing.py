"""Rows F1-F14 and F18-F21 of the threat model, request side and response side, by the bytes the endpoint received."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire.endpoint import Answer
from tests.wire.harness import Malformed, RawClient, Response
from tests.wire.lab import Lab, lab


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One lab for all rows: a desync left behind by one would show in the next."""
    with lab(tmp_path_factory.mktemp("hardening")) as built:
        yield built


def get(*lines: bytes, line: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"\r\n".join((line, b"Host: web", *lines, b"", b""))


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return get(*lines, line=b"POST / HTTP/1.1") + body


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: web\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"


def assert_refused(lab: Lab, data: bytes, status: int, reason: str) -> None:
    """Refused with that status and reason, the connection closed, and not a byte of it at the endpoint."""
    # SMUGGLED comes along: after a refusal nothing is parsed any more (F11).
    outcome = lab.send(data + SMUGGLED)

    assert (outcome.statuses, outcome.reason, outcome.closed) == ([status], reason, True)
    assert outcome.answers[0].get("connection") == "close"
    assert outcome.requests == []


@pytest.mark.parametrize(
    "lines",
    [
        (b"Content-Length: 6", CHUNKED),
        (CHUNKED, b"Content-Length: 6"),
        (b"content-length: 0", b"TRANSFER-ENCODING: Chunked"),
    ],
    ids=["length first", "chunked first", "zero length"],
)
def test_f1_length_and_chunked_request_is_refused(hostile: Lab, lines: tuple[bytes, ...]) -> None:
    """F1: Content-Length with Transfer-Encoding is 400 and nothing reaches the endpoint."""
    assert_refused(hostile, post(*lines, body=b"0\r\n\r\n"), 400, "bad-framing")


def test_f1_length_and_chunked_response_is_bad_gateway(hostile: Lab) -> None:
    """F1: the same in a response is 502, and its connection carries nothing more."""
    hostile.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")

    outcome = hostile.send(get(), answers=1)

    assert (outcome.statuses, outcome.reason) == ([502], "bad-framing")
    used = outcome.requests[0].connection
    hostile.endpoint.wait_for(lambda: used in hostile.endpoint.closed)


@pytest.mark.parametrize(
    "lines",
    [
        (b"Content-Length: 5", b"Content-Length: 6"),
        (b"Content-Length: 5, 5",),
        (b"Content-Length: 05", b"Content-Length: 5"),
    ],
    ids=["different", "list", "same number, other digits"],
)
def test_f2_differing_lengths_are_refused(hostile: Lab, lines: tuple[bytes, ...]) -> None:
    """F2: two lengths that somebody could read differently are 400."""
    assert_refused(hostile, post(*lines, body=b"hello"), 400, "bad-framing")


def test_f2_identical_lengths_are_forwarded_once(hostile: Lab) -> None:
    """F2: identical duplicates reach the endpoint as one header."""
    outcome = hostile.send(post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"), answers=1)

    assert outcome.statuses == [200]
    assert (outcome.requests[0].get_all("content-length"), outcome.requests[0].body) == (["5"], b"hello")


@pytest.mark.parametrize(
    "value",
    [b"+5", b"-1", b"0x5", b"5_0", b"5 0", b"99999999999999999999", b"5;", b"\xb2", b"5.0"],
)
def test_f3_length_that_is_no_number_is_refused(hostile: Lab, value: bytes) -> None:
    """F3: Content-Length is 1*DIGIT of at most 19 digits, else 400."""
    assert_refused(hostile, post(b"Content-Length: " + value, body=b"hello"), 400, "bad-framing")


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((b"Transfer-Encoding: chunked, chunked",), 501),
        ((b"Transfer-Encoding: xchunked",), 501),
        ((b"Transfer-Encoding: chunked;q=1",), 501),
        ((b"Transfer-Encoding: identity",), 501),
        ((b"Transfer-Encoding: gzip, chunked",), 501),
        ((b"Transfer-Encoding:",), 501),
        ((b"Transfer-Encoding: \x0bchunked",), 400),
        ((CHUNKED, CHUNKED), 400),
        ((CHUNKED, b"Transfer-Encoding: identity"), 400),
    ],
    ids=[
        "twice",
        "xchunked",
        "parameter",
        "identity",
        "gzip",
        "empty",
        "VT",
        "two headers",
        "two different headers",
    ],
)
def test_f4_odd_transfer_encodings_are_refused(hostile: Lab, lines: tuple[bytes, ...], status: int) -> None:
    """F4: only a single plain ``chunked`` is known; nothing else is forwarded or taken for no body."""
    outcome = hostile.send(post(*lines, body=b"0\r\n\r\n") + SMUGGLED)

    assert (outcome.statuses, outcome.closed, outcome.requests) == ([status], True, [])


@pytest.mark.parametrize("value", [b"chunked\t", b"\tchunked", b"CHUNKED"])
def test_f4_padded_chunked_is_forwarded_clean(hostile: Lab, value: bytes) -> None:
    """F4: HTAB around the value and its case are legal; the endpoint sees the one plain spelling."""
    outcome = hostile.send(post(b"Transfer-Encoding:" + value, body=b"2\r\nhi\r\n0\r\n\r\n"), answers=1)

    assert outcome.statuses == [200]
    assert b"\r\nTransfer-Encoding: chunked\r\n" in outcome.requests[0].head
    assert outcome.requests[0].body == b"hi"


def test_f4_chunked_in_http_1_0_is_refused(hostile: Lab) -> None:
    """F4: HTTP/1.0 has no transfer codings: 400."""
    data = b"POST / HTTP/1.0\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert_refused(hostile, data, 400, "bad-framing")


@pytest.mark.parametrize(
    "body",
    [
        b"5\r\nhelloXX0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        b"5 ;\x00\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"\r\n5\r\nhello\r\n0\r\n\r\n",
        b"10000000000000005\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: y\nZ: w\r\n\r\n",
        b"5;" + b"x" * 300 + b"\r\nhello\r\n0\r\n\r\n",
        b"1;" + b"x" * 250 + b"\r\na\r\n" + (b"1;" + b"x" * 250 + b"\r\na\r\n") * 300 + b"0\r\n\r\n",
    ],
    ids=[
        "no CRLF after data",
        "LF after data",
        "LF after size",
        "LF in extension",
        "CR in extension",
        "NUL in extension",
        "hex prefix",
        "plus",
        "minus",
        "empty line first",
        "17 digits",
        "LF in trailers",
        "long extension",
        "many extensions",
    ],
)
def test_f5_bad_chunks_never_complete_a_request(hostile: Lab, body: bytes) -> None:
    """F5: what is no clean chunk is 400, and the endpoint never sees an end of that body."""
    outcome = hostile.send(post(CHUNKED, body=body) + SMUGGLED)

    assert (outcome.statuses, outcome.reason, outcome.closed) in (
        ([400], "bad-framing", True),
        ([400], "bad-request", True),
    )
    assert [r.target for r in outcome.requests] in ([], ["/"])
    assert not any(r.complete for r in outcome.requests)


def test_f5_chunks_are_made_anew(hostile: Lab) -> None:
    """F5: extensions and odd size lines do not reach the endpoint: the body is chunked again."""
    body = b"005;x=y\r\nhello\r\n1;z\r\n!\r\n0;last\r\n\r\n"

    outcome = hostile.send(post(CHUNKED, body=body), answers=1)

    request = outcome.requests[0]
    assert request.body == b"hello!"
    assert request.wire_body in (b"6\r\nhello!\r\n0\r\n\r\n", b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\nHost: web\n\n",
        b"GET / HTTP/1.1\r\nHost: web\n\r\n",
        b"GET / HTTP/1.1\nHost: web\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: web\r\nA: b\nX: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: web\r\nA: b\rX: y\r\n\r\n",
        b"GET / HTTP/1.1\rHost: web\r\n\r\n",
        b"\nGET / HTTP/1.1\r\nHost: web\r\n\r\n",
    ],
    ids=[
        "LF only",
        "LF after Host",
        "LF after line",
        "LF in header",
        "CR in header",
        "CR after line",
        "LF first",
    ],
)
def test_f6_bare_line_ends_are_refused(hostile: Lab, data: bytes) -> None:
    """F6: a line feed or carriage return alone is 400."""
    assert_refused(hostile, data, 400, "bad-request")


@pytest.mark.parametrize("fold", [b"\r\n b", b"\r\n\tb", b"\r\n "], ids=["space", "tab", "empty"])
def test_f7_folded_headers_are_refused(hostile: Lab, fold: bytes) -> None:
    """F7: obs-fold is 400."""
    assert_refused(hostile, get(b"A: a" + fold), 400, "bad-request")


def test_f7_space_before_the_first_header_is_refused(hostile: Lab) -> None:
    """F7: a line that begins with a space is 400 also where there is nothing to fold."""
    assert_refused(hostile, b"GET / HTTP/1.1\r\n Host: web\r\nHost: web\r\n\r\n", 400, "bad-request")


CONTROLS = [0x00, 0x01, 0x08, 0x0B, 0x0C, 0x1B, 0x1F, 0x7F]


@pytest.mark.parametrize("byte", CONTROLS, ids=hex)
def test_f8_control_bytes_are_refused(hostile: Lab, byte: int) -> None:
    """F8: control bytes in value, name, target or method are 400."""
    c = bytes([byte])
    for data in (
        get(b"A: x" + c + b"y"),
        get(b"A" + c + b": x"),
        get(line=b"GET /" + c + b" HTTP/1.1"),
        get(line=b"G" + c + b"T / HTTP/1.1"),
    ):
        assert_refused(hostile, data, 400, "bad-request")


@pytest.mark.parametrize("byte", CONTROLS, ids=hex)
def test_f8_control_bytes_in_a_response_are_bad_gateway(hostile: Lab, byte: int) -> None:
    """F8: a response with control bytes in a value or the reason phrase is 502."""
    c = bytes([byte])
    for raw in (
        b"HTTP/1.1 200 OK\r\nA: x%by\r\nContent-Length: 0\r\n\r\n" % c,
        b"HTTP/1.1 200 O%bK\r\nContent-Length: 0\r\n\r\n" % c,
    ):
        hostile.answer(raw)
        outcome = hostile.send(get(), answers=1)
        assert (outcome.statuses, outcome.reason) == ([502], "bad-response")


@pytest.mark.parametrize(
    "line",
    [b"Content-Length : 5", b": value", b"A B: c", b"no colon", b"A\xe9: b", b"(A): b", b"A\t: b", b"[A]: b"],
)
def test_f9_bad_header_names_are_refused(hostile: Lab, line: bytes) -> None:
    """F9: a name that is no token, empty, or followed by a space is 400."""
    assert_refused(hostile, get(line), 400, "bad-request")


@pytest.mark.parametrize("line", [b"Content-Length:", b"Content-Length: ", b"Content-Length:\t"])
def test_f10_empty_length_is_refused(hostile: Lab, line: bytes) -> None:
    """F10: an empty Content-Length is 400."""
    assert_refused(hostile, post(line), 400, "bad-framing")


def test_f11_nothing_is_parsed_after_an_error(hostile: Lab) -> None:
    """F11: good, bad, good in one packet: the first is served, the second refused, the third never seen."""
    data = get(line=b"GET /first HTTP/1.1") + get(b"A : b") + SMUGGLED

    outcome = hostile.send(data)

    assert (outcome.statuses, outcome.closed) == ([200, 400], True)
    assert [r.target for r in outcome.requests] == ["/first"]


def test_f11_bytes_behind_an_upgrade_are_no_request(hostile: Lab) -> None:
    """F11: what a caller sends behind a request for an upgrade, before any 101, is not parsed as HTTP."""
    data = get(b"Connection: Upgrade", b"Upgrade: websocket", line=b"GET /chat HTTP/1.1") + SMUGGLED

    outcome = hostile.send(data)

    assert (outcome.statuses, outcome.closed) == ([200], True)
    assert [r.target for r in outcome.requests] == ["/chat"]


def test_f12_expect_is_forwarded_once_and_answered_by_the_endpoint(hostile: Lab) -> None:
    """F12: the endpoint's 100 reaches the caller, once, and then the body goes the other way."""
    hostile.endpoint.script.append(Answer(informational=(b"HTTP/1.1 100 Continue\r\n\r\n",), early=True))
    first = len(hostile.endpoint.requests)

    with hostile.mesh.client() as client:
        client.send(post(b"Content-Length: 100000", b"Expect: 100-continue"))
        interim = client.response("POST", informational=True)
        client.send(b"x" * 100_000)
        final = client.response("POST")

    assert (interim.status, final.status) == (100, 200)
    request = hostile.requests_since(first)[0]
    assert request.get_all("expect") == ["100-continue"]


def test_f12_small_body_is_continued_by_us(hostile: Lab) -> None:
    """F12: a body small enough to be read before it is forwarded is asked for by hostmesh; Expect ends here."""
    first = len(hostile.endpoint.requests)

    with hostile.mesh.client() as client:
        client.send(post(b"Content-Length: 5", b"Expect: 100-continue"))
        interim = client.response("POST", informational=True)
        client.send(b"hello")
        final = client.response("POST")

    assert (interim.status, final.status) == (100, 200)
    request = hostile.requests_since(first)[0]
    assert (request.get("expect"), request.body) == (None, b"hello")


def test_f12_final_answer_instead_of_continue_ends_both_connections(hostile: Lab) -> None:
    """F12: the endpoint refuses instead of continuing: the body, if it comes, is no request to anybody."""
    raw = b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n"
    hostile.endpoint.script.append(Answer(raw=raw, early=True, read_body=False))
    first = len(hostile.endpoint.requests)

    with hostile.mesh.client() as client:
        client.send(post(b"Content-Length: %d" % (6000 + len(SMUGGLED)), b"Expect: 100-continue"))
        final = client.response("POST")
        client.send(b"x" * 6000 + SMUGGLED)
        rest = client.read_until_close()

    assert (final.status, final.get("connection"), rest) == (417, "close", b"")
    requests = hostile.requests_since(first)
    assert [r.method for r in requests] == ["POST"]
    hostile.endpoint.wait_for(lambda: requests[0].connection in hostile.endpoint.closed)


def test_f13_early_answer_is_delivered_and_its_connection_not_reused(hostile: Lab) -> None:
    """F13: an answer in the middle of an upload reaches the caller; that connection serves no one else."""
    hostile.endpoint.script.append(Answer(status=413, body=b"too large", early=True, read_body=False))
    first = len(hostile.endpoint.requests)

    with hostile.mesh.client() as client:
        client.send(post(b"Content-Length: 1000000") + b"x" * 100_000)
        response = client.response("POST")
        rest = client.read_until_close()

    assert (response.status, response.body, rest) == (413, b"too large", b"")
    requests = hostile.requests_since(first)
    hostile.endpoint.wait_for(lambda: requests[0].connection in hostile.endpoint.closed)
    hostile.mesh.wait_metric(f"rt/out/server/127.0.0.1/{hostile.mesh.port}/pending", lambda n: n == 0)


def test_f13_early_answer_survives_the_reset_behind_it(hostile: Lab) -> None:
    """F13: an endpoint that answers early and closes resets the upload; its answer lies in front of the reset."""
    for _ in range(5):
        answer = Answer(status=413, body=b"z" * 20_000, early=True, read_body=False, close=True)
        hostile.endpoint.script.append(answer)
        with hostile.mesh.client() as client:
            client.send(post(b"Content-Length: 5000000") + b"x" * 1_000_000)
            response = client.response("POST")
        assert (response.status, len(response.body)) == (413, 20_000)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil",
    ],
    ids=["length", "chunked", "204", "304"],
)
def test_f14_surplus_of_an_endpoint_answers_nobody(hostile: Lab, raw: bytes) -> None:
    """F14: bytes behind a response are counted and thrown away with their connection."""
    hostile.answer(raw)
    name = "rt/out/client/#/io.l5d.fs/web/surplus_responses"
    before = hostile.mesh.metrics().get(name, 0)

    with hostile.mesh.client() as client:
        first = hostile.ask(client)
        second = hostile.ask(client, "/second")

    assert first.body in (b"ok", b"")
    assert second.json()["target"] == "/second"
    assert hostile.mesh.metrics()[name] == before + 1


def test_f14_body_of_a_head_response_answers_nobody(hostile: Lab) -> None:
    """F14: a body sent in answer to HEAD is surplus."""
    hostile.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")

    with hostile.mesh.client() as client:
        head = client.request("HEAD", "/")
        second = hostile.ask(client, "/second")

    assert (head.status, head.get("content-length")) == (200, "4")
    assert second.json()["target"] == "/second"


def test_f14_flood_of_interim_responses_is_bad_gateway(hostile: Lab) -> None:
    """F14: more than ten 1xx are 502."""
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    hostile.endpoint.script.append(Answer(informational=(hint * 1000,), close=True))

    with hostile.mesh.client() as client:
        client.send(get())
        seen = [client.response(informational=True) for _ in range(11)]

    assert [r.status for r in seen] == [103] * 10 + [502]
    assert (seen[-1].get("l5d-err") or "").startswith("limit-informational")


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
    ],
    ids=["length", "between chunks", "inside a chunk", "before the last line"],
)
def test_f14_truncated_response_never_looks_complete(hostile: Lab, raw: bytes) -> None:
    """F14: a body that breaks off reaches the caller broken."""
    hostile.answer(raw, close=True)

    with hostile.mesh.client() as client:
        client.send(get())
        with pytest.raises((Malformed, ConnectionError)):
            client.response()


def test_f14_bad_chunk_beside_the_head_is_bad_gateway(hostile: Lab) -> None:
    """F14: a body that is broken before the head was passed on is 502."""
    hostile.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nZZ\r\n")

    outcome = hostile.send(get(), answers=1)

    assert (outcome.statuses, outcome.reason) == ([502], "bad-framing")


def test_f14_reset_of_a_close_delimited_body_is_no_clean_end(hostile: Lab) -> None:
    """F14: where the end of the connection is the end of the body, a reset is not that end."""
    raw = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf"
    hostile.endpoint.script.append(Answer(raw=raw, close=True, reset=True))

    with hostile.mesh.client() as client:
        client.send(get())
        with pytest.raises((Malformed, ConnectionError)):
            client.response()


@pytest.mark.parametrize("other", [b"Host: other", b"host: web", b"Host: "])
def test_f18_two_hosts_are_refused(hostile: Lab, other: bytes) -> None:
    """F18: more than one Host is 400, equal or not."""
    assert_refused(hostile, get(other), 400, "bad-request")


def test_f18_no_host_is_refused(hostile: Lab) -> None:
    """F18: HTTP/1.1 without Host is 400."""
    assert_refused(hostile, b"GET / HTTP/1.1\r\nA: b\r\n\r\n", 400, "bad-request")


def test_f18_authority_of_the_target_is_the_host(hostile: Lab) -> None:
    """F18: of an absolute-form target the authority wins for routing and is the Host that the endpoint sees."""
    data = b"GET http://web/a?b HTTP/1.1\r\nHost: other\r\n\r\n"

    outcome = hostile.send(data, answers=1)

    assert outcome.statuses == [200]
    request = outcome.requests[0]
    assert (request.target, request.get_all("host"), request.get("l5d-dst-service")) == (
        "/a?b",
        ["web"],
        "/svc/web",
    )


def test_f19_trailers_are_no_headers(hostile: Lab) -> None:
    """F19: framing, routing and credentials in trailers are dropped, the rest stays a trailer."""
    body = (
        b"2\r\nhi\r\n0\r\nX-Sum: 5\r\nContent-Length: 99\r\nTransfer-Encoding: x\r\nHost: evil\r\nAuthorization: a\r\n"
        b"Cookie: a\r\nl5d-dtab: /a=>/b\r\nX-Forwarded-For: 1.2.3.4\r\nX_Forwarded_For: 1.2.3.4\r\n"
        b"Connection: X-Sum\r\n\r\n"
    )

    outcome = hostile.send(post(CHUNKED, body=body), answers=1)

    request = outcome.requests[0]
    assert request.trailers == [("X-Sum", "5")]
    assert request.get("x-sum") is None
    assert request.get_all("host") == ["web"]


def test_f19_trailers_of_a_response_are_filtered(hostile: Lab) -> None:
    """F19: the same towards the caller."""
    hostile.answer(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 5\r\nSet-Cookie: a\r\n"
        b"Content-Length: 7\r\nl5d-err: x\r\n\r\n"
    )

    outcome = hostile.send(get(), answers=1)

    assert (outcome.answers[0].body, outcome.answers[0].trailers) == (b"hi", [("X-Sum", "5")])
    assert outcome.answers[0].get("set-cookie") is None


def test_f20_connect_is_refused(hostile: Lab) -> None:
    """F20: CONNECT is 405 and nothing is tunnelled."""
    for line in (b"CONNECT web:80 HTTP/1.1", b"CONNECT / HTTP/1.1"):
        assert_refused(hostile, get(line=line), 405, "unsupported")


@pytest.mark.parametrize("token", [b"h2", b"WebSocket/13", b"TLS/1.0", b"h2c, raw"])
def test_f20_upgrades_are_not_forwarded(hostile: Lab, token: bytes) -> None:
    """F20: no Upgrade, Connection or HTTP2-Settings reaches the endpoint; the request is an ordinary one."""
    lines = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + token, b"HTTP2-Settings: AAMAAABk")

    outcome = hostile.send(get(*lines), answers=1)

    assert outcome.statuses == [200]
    head = outcome.requests[0].head.lower()
    assert b"upgrade" not in head
    assert b"http2-settings" not in head
    assert b"connection:" not in head


def test_f20_switching_protocols_unasked_is_bad_gateway(hostile: Lab) -> None:
    """F20: an endpoint that answers 101 although nothing was asked of it is 502, and no tunnel."""
    hostile.answer(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nraw")

    outcome = hostile.send(get(), answers=1)

    assert (outcome.statuses, outcome.reason) == ([502], "bad-response")


OTHER_PROTOCOLS = [
    (b"GET /\r\n\r\n", 400),
    (b"GET / HTTP/2.0\r\nHost: web\r\n\r\n", 505),
    (b"GET / HTTP/1.2\r\nHost: web\r\n\r\n", 505),
    (b"GET / HTP/1.1\r\nHost: web\r\n\r\n", 400),
    (b"get / http/1.1\r\nHost: web\r\n\r\n", 400),
    (b"GET  / HTTP/1.1\r\nHost: web\r\n\r\n", 400),
    (b"GET / HTTP/1.1 \r\nHost: web\r\n\r\n", 400),
    (b" GET / HTTP/1.1\r\nHost: web\r\n\r\n", 400),
]


@pytest.mark.parametrize(
    ("data", "status"),
    OTHER_PROTOCOLS,
    ids=[
        "0.9",
        "2.0",
        "1.2",
        "HTP",
        "lower case",
        "two spaces",
        "trailing space",
        "leading space",
    ],
)
def test_f21_other_protocols_are_refused(hostile: Lab, data: bytes, status: int) -> None:
    """F21: what is not HTTP/1 gets a clean answer, one log line, and the end of the connection."""
    # An address of its own: the log may have a line of an earlier caller with the same port.
    source = f"127.8.0.{OTHER_PROTOCOLS.index((data, status)) + 1}"
    with hostile.mesh.client(source=source) as client:
        caller = f"{source}:{client.local_port}"
        client.send(data)
        response = client.response()
        assert client.read_until_close() == b""

    assert response.status == status
    hostile.mesh.wait_log(f'"caller": "{caller}"')
    assert hostile.mesh.log().count(f'"caller": "{caller}"') == 1


def test_f21_a_tls_caller_gets_an_alert(hostile: Lab) -> None:
    """F21: TLS on a port without is refused in its own language: handshake_failure, one log line, the end."""
    source = "127.8.1.1"
    with hostile.mesh.client(source=source) as client:
        caller = f"{source}:{client.local_port}"
        client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(32)))
        assert client.read_until_close() == b"\x15\x03\x01\x00\x02\x02\x28"

    hostile.mesh.wait_log(f'"caller": "{caller}"')
    assert hostile.mesh.log().count(f'"caller": "{caller}"') == 1


def test_pipelined_requests_are_answered_in_order(hostile: Lab) -> None:
    """Forty requests in one packet, bodies among them, are answered one by one, in order."""
    data = b"".join(
        get(line=b"GET /%d HTTP/1.1" % n)
        if n % 3
        else b"POST /%d HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\nabc" % n
        for n in range(40)
    )

    outcome = hostile.send(data, answers=40)

    assert [answer.json()["target"] for answer in outcome.answers] == [f"/{n}" for n in range(40)]


def test_http_1_0_caller_gets_no_chunks(hostile: Lab) -> None:
    """An HTTP/1.0 caller gets a chunked answer as bytes up to the end of the connection."""
    hostile.endpoint.script.append(Answer(body=b"x" * 1000, framing="chunked"))

    outcome = hostile.send(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n", answers=1)

    answer: Response = outcome.answers[0]
    assert (answer.framing, answer.body, answer.get("transfer-encoding")) == ("close", b"x" * 1000, None)
    assert outcome.requests[0].version == "HTTP/1.1"


def test_http_1_0_caller_may_keep_its_connection(hostile: Lab) -> None:
    """HTTP/1.0 with Connection: keep-alive is answered with the same, and served again."""
    with RawClient(hostile.mesh.port) as client:
        for _ in range(2):
            client.send(b"GET / HTTP/1.0\r\nHost: web\r\nConnection: keep-alive\r\n\r\n")
            response = client.response()
            assert (response.status, response.get("connection")) == (200, "keep-alive")
