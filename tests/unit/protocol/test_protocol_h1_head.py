"""Heads: what is accepted and what it means. What is refused is in test_protocol_h1_hardening.py."""

from __future__ import annotations

import pytest

from hostmesh.protocol.h1_head import (
    CHUNKED,
    UNTIL_CLOSE,
    RequestHead,
    ResponseHead,
    find_end,
    parse_request,
    parse_response,
    without_context,
)
from hostmesh.protocol.limits import Limits
from tests.feeding import read_three_ways, refuse_three_ways

LIMITS = Limits()


def request(raw: bytes) -> RequestHead:
    head = read_three_ways(raw).head
    assert isinstance(head, RequestHead)
    return head


def response(raw: bytes, method: bytes = b"GET") -> ResponseHead:
    head = read_three_ways(raw, method).head
    assert isinstance(head, ResponseHead)
    return head


def test_request_without_anything_special_is_plain() -> None:
    """A request with Host and ordinary fields may be forwarded as it came."""
    head = request(b"GET /a?b=1 HTTP/1.1\r\nHost: web:80\r\nAccept: */*\r\n\r\n")

    assert (head.method, head.target, head.host, head.version) == (b"GET", b"/a?b=1", b"web:80", 11)
    assert (head.content_length, head.has_body, head.keep_alive, head.plain) == (0, False, True, True)
    assert head.block == b"Host: web:80\r\nAccept: */*\r\n"
    assert list(head.special) == [(b"host", b"web:80")]


@pytest.mark.parametrize(
    "fields",
    [
        b"Host: web\r\nContent-Length: 0\r\n",
        b"Content-Length: 0\r\nA: b\r\nhost: web\r\n",
        b"Host: web\r\nVia: 1.1 a\r\nForwarded: for=x\r\nMax-Forwards: 3\r\n",
        b"Host: web\r\nCookie: a=b; l5d-x=1\r\nHostess: x\r\nTea: y\r\n",
    ],
)
def test_plain_requests(fields: bytes) -> None:
    """Host, Content-Length, Via, Forwarded and Max-Forwards may stay where they are."""
    assert request(b"GET / HTTP/1.1\r\n" + fields + b"\r\n").plain


@pytest.mark.parametrize(
    "field",
    [
        b"Connection: keep-alive",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: close",
        b"Proxy-Authorization: x",
        b"TE: trailers",
        b"Transfer-Encoding: chunked",
        b"Upgrade: h2c",
        b"Expect: 100-continue",
        b"L5D-CTX-TRACE: x",
        b"l5d-anything: x",
        b"l5d_anything: x",
        b"dtab-local: x",
        b"X-Forwarded-Client-Cert: x",
        b"X_Forwarded_Client_Cert: x",
        b"Content-Length: 00",
        b"Content-Length: 0 ",
        b"Content_Length: 3",
    ],
)
def test_requests_that_are_not_plain(field: bytes) -> None:
    """A field that ends here, that we own or that must be written anew makes the block unfit to forward."""
    head = parse_request(b"GET / HTTP/1.1\r\nHost: web\r\n" + field + b"\r\n\r\n", LIMITS)

    assert head is not None
    assert head.plain is False
    assert field.partition(b":")[0].lower() in dict(head.special)


def test_fields_are_read_without_case_and_in_order() -> None:
    """get finds the first, get_all every one, fields keeps names as received."""
    head = request(b"GET / HTTP/1.1\r\nhOsT:web\r\nX-A: \t1 2 \r\nx-a:\r\n\r\n")

    assert (head.get(b"x-a"), head.get(b"x-b"), head.get_all(b"x-a")) == (b"1 2", None, [b"1 2", b""])
    assert head.fields == (
        (b"host", b"web", b"hOsT"),
        (b"x-a", b"1 2", b"X-A"),
        (b"x-a", b"", b"x-a"),
    )


@pytest.mark.parametrize(
    ("version", "connection", "expected"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: keep-alive, CLOSE\r\n", False),
        (b"1.1", b"Connection: x\r\nconnection: Close\r\n", False),
        (b"1.1", b"Connection: \r\n", True),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
        (b"1.0", b"Connection: keep-alive, close\r\n", False),
    ],
)
def test_keep_alive_follows_version_and_connection(version: bytes, connection: bytes, expected: bool) -> None:
    """HTTP/1.1 stays unless told to close, HTTP/1.0 closes unless told to stay; for both sides."""
    asked = request(b"GET / HTTP/" + version + b"\r\nHost: web\r\n" + connection + b"\r\n")
    answered = response(b"HTTP/" + version + b" 200 OK\r\nContent-Length: 0\r\n" + connection + b"\r\n")

    assert (expected, expected) == (asked.keep_alive, answered.keep_alive)


def test_http10_needs_no_host() -> None:
    """Only HTTP/1.1 must name the host; without one it is empty and nothing of the block is taken for it."""
    head = request(b"GET / HTTP/1.0\r\nA: b\r\n\r\n")

    assert (head.host, head.version, head.plain) == (b"", 10, False)
    assert request(b"GET / HTTP/1.0\r\n\r\n").host == b""


def test_one_empty_line_before_a_request_is_skipped() -> None:
    """RFC 9112 2.2: old clients end a body with a CRLF that nobody counted."""
    raw = b"\r\nGET / HTTP/1.1\r\nHost: web\r\n\r\n"

    head = request(raw)

    assert (b"GET", len(raw)) == (head.method, head.end)


@pytest.mark.parametrize(
    "host", [b"web", b"WEB.:80", b"10.0.0.1:8080", b"[::1]", b"[fe80::1]:80", b"a_b", b"x:"]
)
def test_hosts_that_pass(host: bytes) -> None:
    """Names, addresses and a port; case, dots and underscores are left as they are."""
    assert host == request(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n").host


def test_methods_that_the_lane_does_not_know() -> None:
    """Any token is a method."""
    assert request(b"M-search! / HTTP/1.1\r\nHost: web\r\n\r\n").method == b"M-search!"


def test_parsing_starts_where_it_is_told() -> None:
    """A pipelined head is read in place, and its end counts from the start of the buffer."""
    first = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 2\r\n\r\nab"
    second = b"GET /two HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n"
    third = b"GET http://x/ HTTP/1.1\r\nHost: other\r\n\r\n"
    buf = first + second + third

    two = parse_request(buf, LIMITS, len(first))
    three = parse_request(bytearray(buf), LIMITS, len(first) + len(second))

    assert two is not None
    assert three is not None
    assert (b"/two", b"other", len(first) + len(second)) == (two.target, two.host, two.end)
    assert (b"/", b"x", len(buf)) == (three.target, three.host, three.end)


def test_find_end_goes_on_where_the_last_search_stopped() -> None:
    """The empty line is found although its first bytes were there before."""
    raw = b"GET / HTTP/1.1\r\nHost: web\r\n\r\nbody"
    end = raw.index(b"body")

    assert [end] * end == [find_end(raw, start) for start in range(end)]
    assert find_end(raw[: end - 1]) == -1


def test_limits_are_per_object() -> None:
    """A listener's own limits hold for its heads."""
    raw = b"GET /abcdef HTTP/1.1\r\nHost: web\r\n" + b"A: b\r\n" * 200 + b"\r\n"

    head = parse_request(raw, Limits(max_fields=201, max_head_bytes=len(raw)))

    assert head is not None
    assert len(head.fields) == 201


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        (Limits(max_fields=2), 431),
        (Limits(max_head_bytes=20), 431),
        (Limits(max_initial_line=13), 414),
    ],
)
def test_small_limits_hold_for_small_heads(limits: Limits, status: int) -> None:
    """No head is too short to be counted."""
    raw = b"GET / HTTP/1.1\r\nHost: web\r\na:\r\nb: c\r\n\r\n"

    assert status == refuse_three_ways(raw, limits=limits).status
    assert refuse_three_ways(b"HTTP/1.1 200 OK" + raw[14:], b"GET", limits).status == 502


@pytest.mark.parametrize(
    ("method", "raw", "length", "has_body", "keep_alive"),
    [
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", 3, True, True),
        (b"GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", CHUNKED, True, True),
        (b"GET", b"HTTP/1.1 200 OK\r\n\r\n", UNTIL_CLOSE, True, False),
        (b"GET", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", UNTIL_CLOSE, True, False),
        (b"GET", b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", 3, True, False),
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0, False, True),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", 3, False, True),
        (b"HEAD", b"HTTP/1.1 200 OK\r\n\r\n", 0, False, True),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", 3, False, True),
        (b"GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n", 0, False, True),
        (b"GET", b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", 0, False, False),
    ],
)
def test_how_a_response_is_framed(
    method: bytes, raw: bytes, length: int, has_body: bool, keep_alive: bool
) -> None:
    """Length, coding or the end of the connection; none at all for HEAD, 204 and 304."""
    head = response(raw, method)

    assert (length, has_body, keep_alive) == (head.content_length, head.has_body, head.keep_alive)


def test_a_response_until_close_is_not_plain() -> None:
    """Its block alone would leave a caller who stays without an end of the body."""
    assert response(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n").plain is False


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        (b"HTTP/1.1 200 OK", 200, b"OK"),
        (b"HTTP/1.1 200 ", 200, b""),
        (b"HTTP/1.1 404", 404, b""),
        (b"HTTP/1.0 599 caf\xe9 au lait", 599, b"caf\xe9 au lait"),
        (b"HTTP/1.1 999 Odd", 999, b"Odd"),
    ],
)
def test_status_lines(line: bytes, status: int, reason: bytes) -> None:
    """The reason phrase may be empty, missing or not ASCII."""
    head = response(line + b"\r\nContent-Length: 0\r\n\r\n")

    assert (status, reason) == (head.status, head.reason)


def test_an_informational_response_is_followed_by_another_head() -> None:
    """1xx heads end where the next head begins."""
    raw = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    head = parse_response(raw + final, LIMITS, b"GET")

    assert head is not None
    assert (True, len(raw)) == (head.informational, head.end)
    last = parse_response(raw + final, LIMITS, b"GET", head.end)
    assert last is not None
    assert (last.informational, last.status) == (False, 200)


def test_t1_an_untrusted_caller_has_no_context() -> None:
    """Nobody, identifiers included, can read l5d-*, dtab-local or names with underscores from such a head."""
    raw = (
        b"GET / HTTP/1.1\r\nl5d-dtab: /svc=>/$/inet/169.254.169.254/80\r\nHost: web\r\nL5D-Name: x\r\n"
        b"X_Forwarded_For: 1\r\ndtab-local: x\r\nA: b_c: d\r\nVia: 1.1 a\r\n\r\n"
    )

    head = without_context(request(raw))

    assert head.block == b"Host: web\r\nA: b_c: d\r\nVia: 1.1 a\r\n"
    assert ([name for name, _value in head.special], head.plain) == ([b"host", b"via"], True)
    assert (head.get(b"l5d-name"), head.get(b"host")) == (None, b"web")
    assert len(raw) == head.end


def test_t1_a_head_with_nothing_to_hide_stays_as_it_is() -> None:
    """Hop-by-hop fields are no context."""
    plain = request(b"GET /a_b HTTP/1.1\r\nHost: web\r\nCookie: a_b=1\r\n\r\n")
    other = request(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")

    assert without_context(plain) is plain
    assert without_context(other) is other
