"""Outgoing heads: exactly what ends at this hop is cut, the rest goes on byte for byte."""

from __future__ import annotations

import pytest

from hostmesh.protocol.h1_head import CHUNKED, UNTIL_CLOSE, parse_request, parse_response
from hostmesh.protocol.h1_message import RequestHead, ResponseHead
from hostmesh.protocol.h1_write import answer, request_head, response_head
from hostmesh.protocol.limits import DEFAULT_LIMITS

OURS = b"l5d-dst-service: /svc/web\r\nVia: 1.1 hostmesh\r\n"


def request(fields: bytes, line: bytes = b"GET /a HTTP/1.1") -> RequestHead:
    head = parse_request(line + b"\r\n" + fields + b"\r\n", DEFAULT_LIMITS)
    assert head is not None
    return head


def response(fields: bytes, line: bytes = b"HTTP/1.1 200 OK", method: bytes = b"GET") -> ResponseHead:
    head = parse_response(line + b"\r\n" + fields + b"\r\n", DEFAULT_LIMITS, method)
    assert head is not None
    return head


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b"Host: web\r\nA:b \r\n", b"Host: web\r\nA:b \r\n" + OURS),
        (b"Connection: keep-alive\r\nHost: web\r\nA: b\r\n", b"Host: web\r\nA: b\r\n" + OURS),
        (
            b"Host: web\r\nKeep-Alive: x\r\nProxy-Connection: x\r\nA: b\r\nTE: x\r\n",
            b"Host: web\r\nA: b\r\n" + OURS,
        ),
        (b"Host: web\r\nProxy-Authorization: x\r\nProxy-Authenticate: y\r\n", b"Host: web\r\n" + OURS),
        (b"Host: web\r\nProxy-Custom: x\r\n", b"Host: web\r\nProxy-Custom: x\r\n" + OURS),
        (
            b"Host: web\r\nTrailer: x\r\nTransfer-Encoding: chunked\r\nA: b\r\n",
            b"Host: web\r\nTrailer: x\r\nA: b\r\nTransfer-Encoding: chunked\r\n" + OURS,
        ),
        (
            b"Host: web\r\nConnection: x-a, X-B\r\nX-A: 1\r\nx-b: 2\r\nX-C: 3\r\n",
            b"Host: web\r\nX-C: 3\r\n" + OURS,
        ),
        (b"Host: web\r\nX-Forwarded-Client-Cert: x\r\n", b"Host: web\r\n" + OURS),
        (
            b"A: b\r\nHost: web \r\nContent-Length: 05\r\n",
            b"Host: web\r\nA: b\r\nContent-Length: 5\r\n" + OURS,
        ),
        (b"Host: web\r\nContent-Length: 0\r\nTE: x\r\n", b"Host: web\r\nContent-Length: 0\r\n" + OURS),
        (b"Host: web \r\nContent-Length: 0\r\n", b"Host: web\r\nContent-Length: 0\r\n" + OURS),
        (
            b"Host: web\r\nVia: 1.1 a\r\nDtab-Local: x\r\n",
            b"Host: web\r\nVia: 1.1 a\r\nDtab-Local: x\r\n" + OURS,
        ),
        (
            b"Host: web\r\nl5d-ctx-trace: a\r\nL5d-Ctx-Dtab: a\r\nl5d-dtab: a\r\nl5d-sample: 1\r\n"
            b"l5d-reqid: a\r\nl5d-dst-service: a\r\nl5d-dst-client: a\r\nl5d_dst_residual: a\r\nl5d-name: n\r\n",
            b"Host: web\r\nl5d-name: n\r\n" + OURS,
        ),
    ],
)
def test_request_from_a_trusted_caller(fields: bytes, expected: bytes) -> None:
    """What ends here is cut, context that we rewrite too, other l5d-* fields pass."""
    assert b"GET /a HTTP/1.1\r\n" + expected + b"\r\n" == request_head(request(fields), OURS)


def test_request_from_an_untrusted_caller() -> None:
    """All l5d-*, dtab-local and underscored names go; what we add stays."""
    head = request(b"l5d-name: n\r\nHost: web\r\nDtab-Local: x\r\nA_B: c\r\nA: b_c\r\nConnection: close\r\n")

    assert (
        request_head(head, OURS, clear=True) == b"GET /a HTTP/1.1\r\nHost: web\r\nA: b_c\r\n" + OURS + b"\r\n"
    )


def test_method_target_and_host_can_be_replaced() -> None:
    """A path that an identifier consumed and a host that a namer sets."""
    head = request(b"Host: web\r\nA: b\r\n")

    assert (
        request_head(head, method=b"PUT", target=b"/x", host=b"real:80")
        == b"PUT /x HTTP/1.1\r\nHost: real:80\r\nA: b\r\n\r\n"
    )
    assert request_head(head, host=b"web") == b"GET /a HTTP/1.1\r\nHost: web\r\nA: b\r\n\r\n"


def test_further_names_can_be_dropped() -> None:
    """The fields that a trace propagator owns go before it writes its own."""
    head = request(b"Host: web\r\nX-B3-TraceId: 1\r\nA: b\r\n")

    out = request_head(head, b"x-b3-traceid: 2\r\n", drop=frozenset({b"x-b3-traceid"}))

    assert out == b"GET /a HTTP/1.1\r\nHost: web\r\nA: b\r\nx-b3-traceid: 2\r\n\r\n"


def test_http10_leaves_as_http11() -> None:
    """Endpoints always get HTTP/1.1, with a Host even if the caller sent none."""
    head = request(b"Connection: Keep-Alive\r\nA: b\r\n", b"GET /a HTTP/1.0")

    assert request_head(head) == b"GET /a HTTP/1.1\r\nHost: \r\nA: b\r\n\r\n"


@pytest.mark.parametrize(
    ("fields", "options", "expected"),
    [
        (b"A: b\r\nContent-Length: 3\r\n", {}, b"A: b\r\nContent-Length: 3\r\nx: y\r\n"),
        (
            b"Content-Length: 3\r\n",
            {"connection": b"close"},
            b"Content-Length: 3\r\nx: y\r\nConnection: close\r\n",
        ),
        (b"Content-Length: 03\r\n", {}, b"Content-Length: 3\r\nx: y\r\n"),
        (b"Content-Length: 00\r\n", {}, b"Content-Length: 0\r\nx: y\r\n"),
        (
            b"Connection: keep-alive\r\nKeep-Alive: x\r\nContent-Length: 3\r\n",
            {},
            b"Content-Length: 3\r\nx: y\r\n",
        ),
        (
            b"Upgrade: h2\r\nConnection: x-a\r\nX-A: 1\r\nContent-Length: 3\r\n",
            {},
            b"Content-Length: 3\r\nx: y\r\n",
        ),
        (b"Transfer-Encoding: chunked\r\nA: b\r\n", {}, b"A: b\r\nTransfer-Encoding: chunked\r\nx: y\r\n"),
        (b"Transfer-Encoding: chunked\r\n", {"framing": UNTIL_CLOSE}, b"x: y\r\n"),
        (b"Transfer-Encoding: chunked\r\n", {"framing": 7}, b"Content-Length: 7\r\nx: y\r\n"),
        (b"Content-Length: 3\r\n", {"framing": CHUNKED}, b"Transfer-Encoding: chunked\r\nx: y\r\n"),
        (b"Content-Length: 3\r\n", {"framing": 3}, b"Content-Length: 3\r\nx: y\r\n"),
        (b"A: b\r\n", {"framing": CHUNKED}, b"A: b\r\nTransfer-Encoding: chunked\r\nx: y\r\n"),
        (b"A: b\r\n", {}, b"A: b\r\nx: y\r\n"),
        (
            b"l5d-err: e\r\nl5d-success-class: 1.0\r\nVia: 1.1 a\r\n",
            {},
            b"l5d-err: e\r\nVia: 1.1 a\r\nx: y\r\n",
        ),
        (b"l5d-err: e\r\nl5d-success-class: 1.0\r\nVia: 1.1 a\r\n", {"clear": True}, b"x: y\r\n"),
    ],
)
def test_response_heads(fields: bytes, options: dict[str, object], expected: bytes) -> None:
    """Hop-by-hop fields go, the framing is the one asked for, l5d-success-class is ours to say."""
    out = response_head(response(fields), b"x: y\r\n", **options)  # type: ignore[arg-type]

    assert b"HTTP/1.1 200 OK\r\n" + expected + b"\r\n" == out


@pytest.mark.parametrize(
    ("line", "method", "fields", "expected"),
    [
        (b"HTTP/1.1 204 No Content", b"GET", b"Content-Length: 0\r\n", b""),
        (b"HTTP/1.1 103 Early Hints", b"GET", b"Content-Length: 5\r\nLink: x\r\n", b"Link: x\r\n"),
        (b"HTTP/1.1 304 Not Modified", b"GET", b"Content-Length: 05\r\n", b"Content-Length: 5\r\n"),
        (b"HTTP/1.1 200 OK", b"HEAD", b"Content-Length: 5\r\n", b"Content-Length: 5\r\n"),
        (b"HTTP/1.1 200 OK", b"HEAD", b"Transfer-Encoding: chunked\r\n", b""),
        (b"HTTP/1.1 200 OK", b"HEAD", b"Connection: x\r\n", b""),
    ],
)
def test_response_heads_without_body(line: bytes, method: bytes, fields: bytes, expected: bytes) -> None:
    """1xx and 204 never declare a length; HEAD and 304 keep what the body would have had."""
    out = response_head(response(fields, line, method))

    assert line + b"\r\n" + expected + b"\r\n" == out


def test_status_line_is_written_anew() -> None:
    """HTTP/1.1 whatever the endpoint speaks; the reason phrase stays, and its space even if it is empty."""
    fields = b"Content-Length: 3\r\n"

    assert response_head(response(fields, b"HTTP/1.0 404 Gone Fishing")).startswith(
        b"HTTP/1.1 404 Gone Fishing\r\n"
    )
    assert response_head(response(fields, b"HTTP/1.1 404")).startswith(b"HTTP/1.1 404 \r\n")


def test_answers_of_our_own() -> None:
    """Status, length, our lines, and no body for HEAD."""
    assert answer(502, b"no", b"l5d-err: x\r\n", connection=b"close") == (
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nl5d-err: x\r\n"
        b"Connection: close\r\n\r\nno"
    )
    assert answer(502, b"no", head_only=True).endswith(b"Content-Length: 2\r\n\r\n")
    assert answer(204, b"") == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert answer(418, b"") == b"HTTP/1.1 418 Unknown\r\nContent-Length: 0\r\n\r\n"
