"""The rows of the hardening list that the HTTP/1 codec answers for, each named by its id."""

from __future__ import annotations

import pytest

from hostmesh.base.errors import Side
from hostmesh.base.reasons import Reason
from hostmesh.protocol.h1_head import CHUNKED, BadMessage, parse_request
from hostmesh.protocol.h1_message import RequestHead, ResponseHead
from hostmesh.protocol.h1_write import request_head
from hostmesh.protocol.limits import Limits
from tests.feeding import bytewise, read, read_three_ways, refuse_three_ways

LIMITS = Limits()


def request(*lines: bytes, body: bytes = b"", first: bytes = b"POST / HTTP/1.1") -> bytes:
    return b"\r\n".join([first, b"Host: web", *lines, b"", b""]) + body


def response(*lines: bytes, body: bytes = b"", first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([first, *lines, b"", b""]) + body


CL5 = b"Content-Length: 5"
TE = b"Transfer-Encoding: chunked"

REFUSED_REQUESTS = [
    ("F1-length-and-coding", request(CL5, TE), 400, Reason.BAD_FRAMING, "both Content-Length and"),
    ("F1-coding-and-length", request(TE, CL5), 400, Reason.BAD_FRAMING, "both Content-Length and"),
    ("F2-conflicting-lengths", request(CL5, b"content-length: 6"), 400, Reason.BAD_FRAMING, "conflicting"),
    ("F2-list-of-lengths", request(b"Content-Length: 5, 5"), 400, Reason.BAD_FRAMING, "not a decimal"),
    ("F3-plus", request(b"Content-Length: +5"), 400, Reason.BAD_FRAMING, "not a decimal"),
    ("F3-minus", request(b"Content-Length: -1"), 400, Reason.BAD_FRAMING, "not a decimal"),
    ("F3-hex", request(b"Content-Length: 0x5"), 400, Reason.BAD_FRAMING, "not a decimal"),
    ("F3-underscore", request(b"Content-Length: 5_0"), 400, Reason.BAD_FRAMING, "not a decimal"),
    ("F3-inner-space", request(b"Content-Length: 5 0"), 400, Reason.BAD_FRAMING, "not a decimal"),
    ("F3-20-digits", request(b"Content-Length: " + b"1" * 20), 400, Reason.BAD_FRAMING, "19 digits"),
    ("F3-other-digits", request(b"Content-Length: \xd9\xa5"), 400, Reason.BAD_FRAMING, "not a decimal"),
    ("F4-twice", request(b"Transfer-Encoding: chunked, chunked"), 501, Reason.UNSUPPORTED, "only chunked"),
    ("F4-xchunked", request(b"Transfer-Encoding: xchunked"), 501, Reason.UNSUPPORTED, "only chunked"),
    ("F4-parameter", request(b"Transfer-Encoding: chunked;q=1"), 501, Reason.UNSUPPORTED, "only chunked"),
    ("F4-gzip", request(b"Transfer-Encoding: gzip, chunked"), 501, Reason.UNSUPPORTED, "only chunked"),
    ("F4-identity", request(b"Transfer-Encoding: identity"), 501, Reason.UNSUPPORTED, "only chunked"),
    ("F4-empty", request(b"Transfer-Encoding:"), 501, Reason.UNSUPPORTED, "only chunked"),
    ("F4-vertical-tab", request(b"Transfer-Encoding: \x0bchunked"), 400, Reason.BAD_REQUEST, "0x0b"),
    ("F4-two-fields", request(TE, TE), 400, Reason.BAD_FRAMING, "two Transfer-Encoding"),
    ("F4-http10", request(TE, first=b"POST / HTTP/1.0"), 400, Reason.BAD_FRAMING, "HTTP/1.0"),
    ("F6-bare-lf-line", b"GET / HTTP/1.1\nHost: web\r\n\r\n", 400, Reason.BAD_REQUEST, "line feed without"),
    ("F6-bare-lf-field", b"GET / HTTP/1.1\r\nHost: web\nA: b\r\n\r\n", 400, Reason.BAD_REQUEST, "line feed"),
    ("F6-bare-lf-end", b"GET / HTTP/1.1\r\nHost: web\r\n\n", 400, Reason.BAD_REQUEST, "line feed without"),
    ("F6-all-bare-lf", b"GET / HTTP/1.1\nHost: web\n\n", 400, Reason.BAD_REQUEST, "line feed without"),
    ("F6-bare-cr", request(b"A: b\rc: d"), 400, Reason.BAD_REQUEST, "carriage return without"),
    ("F6-double-cr", request(b"A: b\r"), 400, Reason.BAD_REQUEST, "carriage return without"),
    ("F7-folded-value", request(b"A: b", b" c"), 400, Reason.BAD_REQUEST, "folded"),
    ("F7-folded-tab", request(b"A: b", b"\tc"), 400, Reason.BAD_REQUEST, "folded"),
    ("F7-folded-coding", request(b"Transfer-Encoding:", b" chunked"), 400, Reason.BAD_REQUEST, "folded"),
    ("F7-space-led-first-field", b"GET / HTTP/1.1\r\n Host: web\r\n\r\n", 400, Reason.BAD_REQUEST, "folded"),
    (
        "F9-space-before-colon",
        request(b"Content-Length : 5"),
        400,
        Reason.BAD_REQUEST,
        "space before the colon",
    ),
    ("F9-empty-name", request(b": x"), 400, Reason.BAD_REQUEST, "without a name"),
    ("F9-no-colon", request(b"Content-Length"), 400, Reason.BAD_REQUEST, "without a colon"),
    ("F9-not-a-token", request(b"A(b): x"), 400, Reason.BAD_REQUEST, "not a token"),
    ("F9-not-ascii", request(b"\xc3\xa4: x"), 400, Reason.BAD_REQUEST, "not a token"),
    ("F10-empty", request(b"Content-Length:"), 400, Reason.BAD_FRAMING, "not a decimal"),
    ("F10-blank", request(b"Content-Length: "), 400, Reason.BAD_FRAMING, "not a decimal"),
    ("F10-empty-then-good", request(b"Content-Length:", CL5), 400, Reason.BAD_FRAMING, "not a decimal"),
    ("F12-other-expectation", request(b"Expect: 200-ok"), 417, Reason.UNSUPPORTED, "100-continue"),
    ("F18-two-hosts", request(b"Host: web"), 400, Reason.BAD_REQUEST, "two Host"),
    ("F18-two-different-hosts", request(b"hOST: other"), 400, Reason.BAD_REQUEST, "two Host"),
    ("F18-no-host", b"GET / HTTP/1.1\r\nA: b\r\n\r\n", 400, Reason.BAD_REQUEST, "no Host"),
    ("F18-no-fields", b"GET / HTTP/1.1\r\n\r\n", 400, Reason.BAD_REQUEST, "no Host"),
    ("F20-connect", request(first=b"CONNECT web:443 HTTP/1.1"), 405, Reason.UNSUPPORTED, "CONNECT"),
    ("F20-connect-path", request(first=b"CONNECT / HTTP/1.1"), 405, Reason.UNSUPPORTED, "CONNECT"),
    ("F21-http09", b"GET /\r\n\r\n", 400, Reason.BAD_REQUEST, "HTTP/0.9"),
    ("F21-http20", request(first=b"GET / HTTP/2.0"), 505, Reason.UNSUPPORTED, "HTTP/2.0"),
    ("F21-http12", request(first=b"GET / HTTP/1.2"), 505, Reason.UNSUPPORTED, "HTTP/1.2"),
    ("F21-http2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, Reason.UNSUPPORTED, "HTTP/2.0"),
    ("F21-tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, Reason.BAD_REQUEST, "control byte"),
    ("F21-lower-case-http", request(first=b"GET / http/1.1"), 400, Reason.BAD_REQUEST, "request line"),
    ("F21-two-spaces", request(first=b"GET  / HTTP/1.1"), 400, Reason.BAD_REQUEST, "request line"),
    ("F21-space-in-target", request(first=b"GET /a b HTTP/1.1"), 400, Reason.BAD_REQUEST, "request line"),
    ("F21-trailing-space", request(first=b"GET / HTTP/1.1 "), 400, Reason.BAD_REQUEST, "request line"),
    ("F21-two-empty-lines", b"\r\n\r\n" + request(), 400, Reason.BAD_REQUEST, "request line"),
    ("P2-fragment", request(first=b"GET /a#b HTTP/1.1"), 400, Reason.BAD_REQUEST, "fragment"),
    (
        "P2-fragment-absolute",
        request(first=b"GET http://web/a#b HTTP/1.1"),
        400,
        Reason.BAD_REQUEST,
        "fragment",
    ),
    ("P3-userinfo", b"GET / HTTP/1.1\r\nHost: user@web\r\n\r\n", 400, Reason.BAD_REQUEST, "Host 'user@web'"),
    ("P3-empty", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, Reason.BAD_REQUEST, "Host ''"),
    ("P3-space", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, Reason.BAD_REQUEST, "Host 'a b'"),
    ("P3-slash", b"GET / HTTP/1.1\r\nHost: web/x\r\n\r\n", 400, Reason.BAD_REQUEST, "Host 'web/x'"),
    ("P3-comma", b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400, Reason.BAD_REQUEST, "Host 'a,b'"),
    ("P3-not-ascii", b"GET / HTTP/1.1\r\nHost: w\xc3\xa4b\r\n\r\n", 400, Reason.BAD_REQUEST, "Host"),
    ("P3-bad-port", b"GET / HTTP/1.1\r\nHost: web:80a\r\n\r\n", 400, Reason.BAD_REQUEST, "Host"),
    ("P3-only-port", b"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", 400, Reason.BAD_REQUEST, "Host"),
    (
        "P3-userinfo-absolute",
        request(first=b"GET http://u@web/ HTTP/1.1"),
        400,
        Reason.BAD_REQUEST,
        "authority",
    ),
    ("P3-empty-absolute", request(first=b"GET http:///x HTTP/1.1"), 400, Reason.BAD_REQUEST, "authority"),
    ("P3-relative-target", request(first=b"GET x HTTP/1.1"), 400, Reason.BAD_REQUEST, "neither a path"),
    ("P3-other-scheme", request(first=b"GET ftp://web/ HTTP/1.1"), 400, Reason.BAD_REQUEST, "neither a path"),
]


@pytest.mark.parametrize(
    ("raw", "status", "reason", "words"),
    [row[1:] for row in REFUSED_REQUESTS],
    ids=[r[0] for r in REFUSED_REQUESTS],
)
def test_request_is_refused(raw: bytes, status: int, reason: Reason, words: str) -> None:
    """The request is refused with this status, whichever way it arrives, and the message names what was
    found.
    """
    error = refuse_three_ways(raw)

    assert (status, reason, Side.CALLER) == (error.status, error.reason, error.side)
    assert words in error.message


# F8: every control byte but HTAB, in every place; CR and LF have their own rows.
CONTROLS = [bytes([c]) for c in range(32) if c not in (9, 10, 13)] + [b"\x7f"]
PLACES = {
    "value": lambda c: request(b"A: b" + c + b"d"),
    "name": lambda c: request(b"A" + c + b": b"),
    "method": lambda c: request(first=b"G" + c + b"T / HTTP/1.1"),
    "target": lambda c: request(first=b"GET /" + c + b" HTTP/1.1"),
    "host": lambda c: b"GET / HTTP/1.1\r\nHost: w" + c + b"\r\n\r\n",
    "version": lambda c: request(first=b"GET / HTTP/1.1" + c),
}


@pytest.mark.parametrize("place", list(PLACES))
def test_f8_control_bytes_in_a_request_are_refused(place: str) -> None:
    """No control byte but HTAB passes in any part of a request head."""
    for control in CONTROLS:
        error = refuse_three_ways(PLACES[place](control))

        assert (error.status, error.reason) == (400, Reason.BAD_REQUEST), control


def test_f8_control_bytes_in_a_response_are_refused() -> None:
    """No control byte but HTAB passes in reason phrase, names and values."""
    for control in CONTROLS:
        for raw in (
            response(b"A: " + control, CL5),
            response(b"A" + control + b": b"),
            response(first=b"HTTP/1.1 200 O" + control),
        ):
            error = refuse_three_ways(raw, b"GET")

            assert (error.status, error.reason) == (502, Reason.BAD_RESPONSE), control


def test_f8_tab_and_obs_text_in_values_pass() -> None:
    """HTAB and bytes from 0x80 are legal in values and come out as they went in."""
    head = read_three_ways(request(b"A: b\tc", b"B: \xff\x80")).head

    assert (head.get(b"a"), head.get(b"b")) == (b"b\tc", b"\xff\x80")


REFUSED_RESPONSES = [
    ("F1-length-and-coding", response(CL5, TE), Reason.BAD_FRAMING, "both Content-Length and"),
    ("F2-conflicting-lengths", response(CL5, b"Content-Length: 6"), Reason.BAD_FRAMING, "conflicting"),
    ("F3-plus", response(b"Content-Length: +5"), Reason.BAD_FRAMING, "not a decimal"),
    ("F4-gzip", response(b"Transfer-Encoding: gzip"), Reason.BAD_FRAMING, "only chunked"),
    ("F4-two-fields", response(TE, TE), Reason.BAD_FRAMING, "two Transfer-Encoding"),
    ("F4-http10", response(TE, first=b"HTTP/1.0 200 OK"), Reason.BAD_FRAMING, "HTTP/1.0"),
    ("F6-bare-lf", b"HTTP/1.1 200 OK\nA: b\n\n", Reason.BAD_RESPONSE, "line feed without"),
    ("F7-folded", response(b"A: b", b" c", CL5), Reason.BAD_RESPONSE, "folded"),
    ("F9-space-before-colon", response(b"A : b"), Reason.BAD_RESPONSE, "space before the colon"),
    ("F14-switch-unasked", response(first=b"HTTP/1.1 101 Switching Protocols"), Reason.BAD_RESPONSE, "101"),
    ("F21-version", response(first=b"HTTP/2.0 200 OK"), Reason.BAD_RESPONSE, "HTTP/2.0"),
    ("F21-status", response(first=b"HTTP/1.1 099 Low"), Reason.BAD_RESPONSE, "status 099"),
    ("F21-not-http", b"220 mail ready\r\n\r\n", Reason.BAD_RESPONSE, "status line"),
    ("F21-leading-crlf", b"\r\n" + response(CL5), Reason.BAD_RESPONSE, "status line"),
    ("F21-tls", b"\x15\x03\x01\x00\x02\x02\x46", Reason.TLS_UNEXPECTED, "a TLS alert"),
]


@pytest.mark.parametrize(
    ("raw", "reason", "words"), [row[1:] for row in REFUSED_RESPONSES], ids=[r[0] for r in REFUSED_RESPONSES]
)
def test_response_is_refused(raw: bytes, reason: Reason, words: str) -> None:
    """The response becomes a 502 that blames the endpoint and names what was found."""
    error = refuse_three_ways(raw, b"GET")

    assert (502, reason, Side.CALLEE) == (error.status, error.reason, error.side)
    assert words in error.message


def test_f2_identical_lengths_become_one() -> None:
    """Equal Content-Length fields are accepted and forwarded as one."""
    message = read_three_ways(request(CL5, b"content-length: 5", body=b"12345"))

    assert isinstance(message.head, RequestHead)
    assert (message.head.content_length, message.body, message.head.plain) == (5, b"12345", False)
    assert request_head(message.head) == b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\n"


def test_f4_coding_in_any_case_is_chunked() -> None:
    """Transfer-Encoding compares without case, and padding does not hide it."""
    message = read_three_ways(request(b"tRANSFER-eNCODING: \tChunked \t", body=b"1\r\na\r\n0\r\n\r\n"))

    assert (message.head.content_length, message.body) == (CHUNKED, b"a")


REFUSED_CHUNKS = [
    ("F5-data-without-crlf", b"5\r\nhelloXX0\r\n\r\n", "not followed by CRLF"),
    ("F5-data-with-lf", b"5\r\nhello\n0\r\n\r\n", "not followed by CRLF"),
    ("F5-data-with-cr", b"5\r\nhello\r0\r\n\r\n", "not followed by CRLF"),
    ("F5-longer-than-said", b"4\r\nhello\r\n0\r\n\r\n", "not followed by CRLF"),
    ("F5-lf-after-size", b"5\nhello\r\n0\r\n\r\n", "malformed chunk size"),
    ("F5-lf-in-extension", b"5;a\nb\r\nhello\r\n0\r\n\r\n", "malformed chunk size"),
    ("F5-lf-ends-extension", b"5;a=b\nhello\r\n0\r\n\r\n", "malformed chunk size"),
    ("F5-cr-in-extension", b"5;a\rb\r\nhello\r\n0\r\n\r\n", "malformed chunk size"),
    ("F5-control-in-extension", b"5;\x00\r\nhello\r\n0\r\n\r\n", "malformed chunk size"),
    ("F5-no-size", b"\r\nhello\r\n0\r\n\r\n", "malformed chunk size"),
    ("F5-only-extension", b";a\r\nhello\r\n0\r\n\r\n", "malformed chunk size"),
    ("F5-negative", b"-5\r\nhello\r\n0\r\n\r\n", "malformed chunk size"),
    ("F5-prefix", b"0x5\r\nhello\r\n0\r\n\r\n", "malformed chunk size"),
    ("F5-underscore", b"0_5\r\nhello\r\n0\r\n\r\n", "malformed chunk size"),
    ("F5-leading-space", b" 5\r\nhello\r\n0\r\n\r\n", "malformed chunk size"),
    ("F5-17-digits", b"00000000000000005\r\nhello\r\n0\r\n\r\n", "malformed chunk size"),
    ("F5-trailer-with-lf", b"0\r\nA: b\n\r\n", "malformed trailer"),
    ("F5-end-with-lf", b"0\r\n\n", "malformed trailer"),
    ("F5-folded-trailer", b"0\r\nA: b\r\n c\r\n\r\n", "malformed trailer"),
    ("F8-control-in-trailer", b"0\r\nA: \x01\r\n\r\n", "malformed trailer"),
    ("F9-space-in-trailer", b"0\r\nA : b\r\n\r\n", "malformed trailer"),
]


@pytest.mark.parametrize(
    ("body", "words"), [row[1:] for row in REFUSED_CHUNKS], ids=[r[0] for r in REFUSED_CHUNKS]
)
def test_chunked_body_is_refused(body: bytes, words: str) -> None:
    """The body is refused in a request with 400, in a response with 502, whichever way it arrives."""
    bad_request = refuse_three_ways(request(TE, body=body))
    bad_response = refuse_three_ways(response(TE, body=body), b"GET")

    assert (bad_request.status, bad_response.status) == (400, 502)
    assert (bad_request.side, bad_response.side) == (Side.CALLER, Side.CALLEE)
    assert words in bad_request.message


def test_f5_extensions_are_dropped_and_counted() -> None:
    """Chunk extensions never come out, and a body made of them is refused."""
    message = read_three_ways(request(TE, body=b'5;a=b;c="d"\r\nhello\r\n0;last\r\n\r\n'))
    assert (message.body, message.complete) == (b"hello", True)

    line = b"1;" + b"x" * 250 + b"\r\na\r\n"
    error = refuse_three_ways(request(TE, body=line * 300))
    assert (error.status, error.reason) == (400, Reason.BAD_FRAMING)
    assert "chunk extensions of more than 65536 bytes" in error.message


def test_f5_chunk_line_has_a_limit() -> None:
    """A size line longer than the limit is refused before it ends."""
    error = refuse_three_ways(request(TE, body=b"5;" + b"x" * 300))

    assert "chunk line longer than 256 bytes" in error.message


def test_f11_a_refused_message_leaves_nothing_to_parse() -> None:
    """The error says nothing about where a next request would begin."""
    with pytest.raises(BadMessage) as caught:
        parse_request(request(CL5, TE) + request(), LIMITS)

    assert not hasattr(caught.value, "end")


def test_f12_expect_is_seen_and_cut_unless_forwarded() -> None:
    """Expect: 100-continue is reported; it leaves only when the endpoint is to answer it."""
    head = read_three_ways(request(b"Expect: 100-Continue", CL5, body=b"12345")).head

    assert isinstance(head, RequestHead)
    assert (head.expect_continue, head.plain) == (True, False)
    assert b"Expect" not in request_head(head)
    assert b"Expect: 100-Continue\r\n" in request_head(head, expect=True)


def test_f12_expect_from_http10_is_ignored() -> None:
    """RFC 9110 10.1.1: an expectation in an HTTP/1.0 request does not count."""
    head = read_three_ways(request(b"Expect: 100-continue", first=b"GET / HTTP/1.0")).head

    assert isinstance(head, RequestHead)
    assert head.expect_continue is False
    assert b"Expect" not in request_head(head)


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        (b"HEAD", response(CL5)),
        (b"HEAD", response(TE)),
        (b"HEAD", response()),
        (b"GET", response(CL5, first=b"HTTP/1.1 304 Not Modified")),
        (b"GET", response(CL5, first=b"HTTP/1.1 204 No Content")),
        (b"GET", response(TE, first=b"HTTP/1.1 204 No Content")),
        (b"GET", response(b"Content-Length: 0")),
        (b"GET", response(CL5, first=b"HTTP/1.1 103 Early Hints")),
    ],
)
def test_f14_responses_without_body_leave_the_rest_alone(method: bytes, raw: bytes) -> None:
    """HEAD, 1xx, 204 and 304 have no body whatever they declare; bytes after them are surplus."""
    message = read_three_ways(raw, method)

    assert isinstance(message.head, ResponseHead)
    assert (message.head.has_body, message.complete, message.head.keep_alive) == (False, True, True)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (response(CL5, body=b"1234"), "after 4 of 5"),
        (response(TE, body=b"5\r\nhello\r\n"), "chunked"),
        (response(TE, body=b"5\r\nhello\r\n0\r\n"), "chunked"),
    ],
)
def test_f14_a_truncated_response_is_never_a_clean_end(raw: bytes, words: str) -> None:
    """The end of the stream before the end of the body is an error of the endpoint."""
    for pieces in ([raw], bytewise(raw)):
        with pytest.raises(BadMessage, match=words) as caught:
            read(pieces, b"GET", eof=True)

        assert (caught.value.reason, caught.value.side) == (Reason.RESET_BY_ENDPOINT, Side.CALLEE)


def test_f14_a_response_until_close_is_complete_at_its_end() -> None:
    """Without a length the body ends with the stream, and the connection with it."""
    message = read([response(body=b"abc")], b"GET", eof=True)

    assert message is not None
    assert (message.body, message.head.keep_alive) == (b"abc", False)


def test_f18_absolute_target_wins_over_host() -> None:
    """The authority of an absolute-form target is the one host, and Host is rewritten to it."""
    head = read_three_ways(b"GET http://real:81/a?b HTTP/1.1\r\nHost: lie\r\nA: b\r\n\r\n").head

    assert isinstance(head, RequestHead)
    assert (head.host, head.target) == (b"real:81", b"/a?b")
    assert request_head(head) == b"GET /a?b HTTP/1.1\r\nHost: real:81\r\nA: b\r\n\r\n"


@pytest.mark.parametrize(
    ("line", "target"),
    [
        (b"GET http://web HTTP/1.1", b"/"),
        (b"GET HTTPS://web?x HTTP/1.1", b"/?x"),
        (b"OPTIONS http://web HTTP/1.1", b"*"),
        (b"OPTIONS * HTTP/1.1", b"*"),
        (b"GET http://web//x HTTP/1.1", b"//x"),
    ],
)
def test_f18_absolute_targets_become_origin_form(line: bytes, target: bytes) -> None:
    """RFC 9112 3.2: without a path it is the root, for OPTIONS the asterisk."""
    head = read_three_ways(request(first=line)).head

    assert isinstance(head, RequestHead)
    assert (target, b"web") == (head.target, head.host)


def test_f19_trailers_cannot_smuggle_headers() -> None:
    """Names that frame, route, authenticate or are vouched for by proxies are dropped, twins included."""
    smuggled = [
        b"Content-Length: 1",
        b"content_length: 1",
        b"Transfer-Encoding: chunked",
        b"Host: evil",
        b"Authorization: x",
        b"Cookie: x",
        b"L5d-Dtab: /svc=>/$/inet/169.254.169.254/80",
        b"l5d_ctx_dtab: x",
        b"X-Forwarded-For: x",
        b"X_Forwarded_For: x",
        b"Connection: close",
        b"Trailer: x",
        b"Set-Cookie: x",
    ]
    body = b"\r\n".join([b"0", b"X-Sum: 1 ", *smuggled, b"Grpc-Status:0", b"", b""])

    message = read_three_ways(request(TE, body=body))

    assert message.trailers == b"X-Sum: 1\r\nGrpc-Status: 0\r\n"
    assert message.head.get(b"authorization") is None


def test_f20_upgrade_is_seen_and_not_forwarded() -> None:
    """An Upgrade is reported only when Connection asks for it, and the writer never forwards it by itself."""
    asked = read_three_ways(request(b"Connection: Upgrade", b"Upgrade: h2c", b"HTTP2-Settings: x")).head
    unasked = read_three_ways(request(b"Upgrade: h2c")).head

    assert isinstance(asked, RequestHead)
    assert isinstance(unasked, RequestHead)
    assert (asked.upgrade, unasked.upgrade) == (b"h2c", None)
    for head in (asked, unasked):
        assert b"pgrade" not in request_head(head)


def test_f20_switching_protocols_is_read_when_asked_for() -> None:
    """101 is a head like any other once the request carried an Upgrade."""
    head = read_three_ways(
        response(b"Upgrade: websocket", first=b"HTTP/1.1 101 Switching Protocols"), b"GET", upgrade=True
    ).head

    assert isinstance(head, ResponseHead)
    assert (head.status, head.has_body) == (101, False)


# R4: limits on bytes, line and count


@pytest.mark.parametrize(
    ("raw", "status", "reason", "words"),
    [
        (request(b"A: " + b"x" * 8192), 431, Reason.LIMIT_HEADER_BYTES, "8192 bytes (maxHeadersKB)"),
        (request(*[b"A: " + b"x" * 90] * 90), 431, Reason.LIMIT_HEADER_BYTES, "8192 bytes (maxHeadersKB)"),
        (request(*[b"a:"] * 100), 431, Reason.LIMIT_HEADER_COUNT, "101 request headers"),
        (
            request(first=b"GET /" + b"x" * 4096 + b" HTTP/1.1"),
            414,
            Reason.LIMIT_INITIAL_LINE,
            "4096 bytes (maxInitialLineKB)",
        ),
    ],
    ids=["R4-one-long-field", "R4-bytes", "R4-count", "R4-line"],
)
def test_request_over_a_limit_is_refused(raw: bytes, status: int, reason: Reason, words: str) -> None:
    """The refusal names the limit and its configuration key."""
    error = refuse_three_ways(raw)

    assert (status, reason) == (error.status, error.reason)
    assert words in error.message


def test_r4_a_request_at_the_limits_passes() -> None:
    """The limits are what is allowed, not one more or less."""
    line = b"GET /" + b"x" * (4096 - 14) + b" HTTP/1.1"
    fields = [b"a:"] * 98
    used = len(b"Host: web\r\n") + 98 * 4
    fields.append(b"b: " + b"y" * (8192 - used - 5))

    head = read_three_ways(request(*fields, first=line)).head

    assert (len(line), len(head.block), len(head.fields)) == (4096, 8192, 100)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /" + b"x" * 4200, 414),
        (b"x" * 5000, 414),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 8300, 431),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1400, 431),
    ],
    ids=["R4-line", "R4-no-spaces", "R4-one-field", "R4-many-fields"],
)
def test_an_incomplete_head_over_a_limit_is_refused_at_once(raw: bytes, status: int) -> None:
    """Nobody waits for the end of a head that is already too long."""
    assert status == refuse_three_ways(raw).status


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (response(b"A: " + b"x" * 8192), Reason.LIMIT_HEADER_BYTES),
        (response(*[b"a:"] * 101), Reason.LIMIT_HEADER_COUNT),
        (response(first=b"HTTP/1.1 200 " + b"x" * 4096), Reason.LIMIT_INITIAL_LINE),
        (b"HTTP/1.1 200 " + b"x" * 5000, Reason.LIMIT_INITIAL_LINE),
    ],
    ids=["R4-bytes", "R4-count", "R4-line", "R4-incomplete"],
)
def test_response_over_a_limit_is_a_502(raw: bytes, reason: Reason) -> None:
    """Limits hold for endpoints, too."""
    error = refuse_three_ways(raw, b"GET")

    assert (502, reason) == (error.status, error.reason)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"0\r\n" + b"a: " + b"x" * 8300, 431, Reason.LIMIT_HEADER_BYTES),
        (b"0\r\n" + b"a: " + b"x" * 8200 + b"\r\n\r\n", 431, Reason.LIMIT_HEADER_BYTES),
        (b"0\r\n" + b"a:\r\n" * 101 + b"\r\n", 431, Reason.LIMIT_HEADER_COUNT),
    ],
    ids=["R4-incomplete-bytes", "R4-bytes", "R4-count"],
)
def test_trailers_over_a_limit_are_refused(body: bytes, status: int, reason: Reason) -> None:
    """Trailers have the limits of headers."""
    error = refuse_three_ways(request(TE, body=body))

    assert (status, reason) == (error.status, error.reason)


def test_t5_connection_cannot_nominate_what_others_rely_on() -> None:
    """Nominated fields go before ours are added; framing, credentials and proxy-owned fields stay."""
    raw = request(
        b"Connection: X-Private, x-forwarded-for, L5D-CTX-TRACE, authorization, content-length, host, cookie",
        b"x-private: 1",
        b"X-Forwarded-For: 1.2.3.4",
        b"Authorization: a",
        b"Cookie: c",
        CL5,
        body=b"12345",
    )
    head = read_three_ways(raw).head
    assert isinstance(head, RequestHead)

    out = request_head(head, b"l5d-ctx-trace: ours\r\nX-Private: ours\r\n")

    assert frozenset({b"x-private"}) == head.nominated
    assert out == (
        b"POST / HTTP/1.1\r\nHost: web\r\nX-Forwarded-For: 1.2.3.4\r\nAuthorization: a\r\nCookie: c\r\n"
        b"Content-Length: 5\r\nl5d-ctx-trace: ours\r\nX-Private: ours\r\n\r\n"
    )


def test_t6_underscore_twins_are_special_and_cut() -> None:
    """A name that a CGI endpoint would read as a field we cut or rewrite does not pass either."""
    raw = request(
        b"l5d_ctx_trace: x",
        b"Content_Length: 9",
        b"Transfer_Encoding: chunked",
        b"My_Own: 1",
        CL5,
        body=b"12345",
    )
    head = read_three_ways(raw).head
    assert isinstance(head, RequestHead)

    assert (head.content_length, head.plain, head.has_underscore_names()) == (5, False, True)
    assert request_head(head) == b"POST / HTTP/1.1\r\nHost: web\r\nMy_Own: 1\r\nContent-Length: 5\r\n\r\n"
    assert request_head(head, clear=True) == b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\n"


def test_t6_underscores_in_values_do_not_count() -> None:
    """Only names are looked at."""
    head = read_three_ways(request(b"Cookie: _ga=1; a_b: c", first=b"GET /a_b: HTTP/1.1")).head

    assert (head.has_underscore_names(), head.plain) == (False, True)
    assert isinstance(head, RequestHead)
    assert head.block in request_head(head, clear=True)


def test_t6_underscore_in_the_first_name_is_seen() -> None:
    """The first line is a line, too."""
    head = read_three_ways(b"GET / HTTP/1.1\r\nX_A: b\r\nHost: web\r\n\r\n").head

    assert head.has_underscore_names()
