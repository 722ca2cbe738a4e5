"""Which header lists are proved, and what a field is to the proxy (F15-F18)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.base.reasons import Reason
from hostmesh.protocol.h1_head import parse_request
from hostmesh.protocol.h1_message import BadMessage
from hostmesh.protocol.h2 import fields
from hostmesh.protocol.h2.fields import (
    Malformed,
    is_special,
    kind_of,
    prove_request,
    prove_response,
    prove_trailers,
)
from hostmesh.protocol.limits import Limits
from tests.h2_raw import get

GET = get()


def without(name: bytes) -> list[tuple[bytes, bytes]]:
    return [pair for pair in GET if pair[0] != name]


def instead(name: bytes, value: bytes) -> list[tuple[bytes, bytes]]:
    return [(each, value if each == name else old) for each, old in GET]


MALFORMED = [
    # F15: what would split or smuggle in HTTP/1.
    ("F15-cr-in-value", [*GET, (b"x", b"a\rb")], True),
    ("F15-lf-in-value", [*GET, (b"x", b"a\nb")], True),
    ("F15-crlf-in-value", [*GET, (b"x", b"a\r\nevil: 1")], True),
    ("F15-lf-ends-value", [*GET, (b"x", b"a\n"), (b"y", b"b")], True),
    ("F15-nul-in-value", [*GET, (b"x", b"a\0b")], True),
    ("F15-del-in-value", [*GET, (b"x", b"a\x7fb")], True),
    ("F15-control-in-value", [*GET, (b"x", b"a\x01b")], True),
    ("F15-space-before-value", [*GET, (b"x", b" a")], True),
    ("F15-tab-after-value", [*GET, (b"x", b"a\t")], True),
    ("F15-space-only-value", [*GET, (b"x", b" ")], True),
    ("F15-space-in-name", [*GET, (b"x y", b"1")], True),
    ("F15-colon-in-name", [*GET, (b"x:y", b"1")], True),
    ("F15-crlf-in-name", [*GET, (b"x\r\ny", b"1")], True),
    ("F15-nul-in-name", [*GET, (b"x\0", b"1")], True),
    ("F15-high-byte-in-name", [*GET, (b"x\xe9", b"1")], True),
    ("F15-empty-name", [*GET, (b"", b"1")], True),
    ("F15-upper-case-name", [*GET, (b"X-Up", b"1")], True),
    ("F15-space-in-path", instead(b":path", b"/a b"), True),
    ("F15-crlf-in-path", instead(b":path", b"/ HTTP/1.1\r\nHost: evil\r\n\r\n"), True),
    ("F15-nul-in-path", instead(b":path", b"/\0"), True),
    ("F15-high-byte-in-path", instead(b":path", b"/\xc3\xa9"), True),
    ("F15-fragment-in-path", instead(b":path", b"/a#b"), True),
    ("F15-relative-path", instead(b":path", b"a"), True),
    ("F15-empty-path", instead(b":path", b""), True),
    ("F15-asterisk-for-GET", instead(b":path", b"*"), True),
    ("F15-absolute-path", instead(b":path", b"http://web/"), True),
    ("F15-space-in-method", instead(b":method", b"GET /x"), True),
    ("F15-crlf-in-method", instead(b":method", b"GET\r\n"), True),
    ("F15-empty-method", instead(b":method", b""), True),
    ("F15-crlf-in-authority", instead(b":authority", b"web\r\nx: y"), True),
    ("F15-userinfo-in-authority", instead(b":authority", b"me@web"), True),
    ("F15-empty-authority", instead(b":authority", b""), True),
    ("F15-list-in-authority", instead(b":authority", b"a,b"), True),
    ("F15-other-scheme", instead(b":scheme", b"ftp"), True),
    ("F15-crlf-in-scheme", instead(b":scheme", b"http\r\n"), True),
    ("no-method", without(b":method"), True),
    ("no-scheme", without(b":scheme"), True),
    ("no-path", without(b":path"), True),
    ("no-authority-and-no-host", without(b":authority"), True),
    ("two-paths", [*GET, (b":path", b"/b")], True),
    ("pseudo-after-regular", [GET[0], (b"x", b"1"), *GET[1:]], True),
    ("unknown-pseudo", [*GET, (b":x", b"1")], True),
    ("status-in-request", [*GET, (b":status", b"200")], True),
    ("protocol-not-announced", [(b":method", b"CONNECT"), *GET[1:], (b":protocol", b"websocket")], True),
    ("protocol-without-connect", [*GET, (b":protocol", b"websocket")], True),
    ("connect-with-path", [(b":method", b"CONNECT"), (b":path", b"/"), (b":authority", b"a:1")], True),
    ("connect-without-authority", [(b":method", b"CONNECT")], True),
    ("nothing", [], True),
    # F16, and the grammar of F2 and F3 for HTTP/2.
    ("F16-length-and-no-body", [*GET, (b"content-length", b"1")], True),
    ("F16-signed-length", [*GET, (b"content-length", b"+1")], False),
    ("F16-length-with-space", [*GET, (b"content-length", b"1 1")], False),
    ("F16-empty-length", [*GET, (b"content-length", b"")], False),
    ("F16-long-length", [*GET, (b"content-length", b"1" * 20)], False),
    ("F16-two-lengths", [*GET, (b"content-length", b"1"), (b"content-length", b"2")], False),
    ("F16-same-number-two-ways", [*GET, (b"content-length", b"5"), (b"content-length", b"05")], False),
    # F17
    ("F17-connection", [*GET, (b"connection", b"close")], True),
    ("F17-keep-alive", [*GET, (b"keep-alive", b"1")], True),
    ("F17-proxy-connection", [*GET, (b"proxy-connection", b"close")], True),
    ("F17-transfer-encoding", [*GET, (b"transfer-encoding", b"chunked")], False),
    ("F17-upgrade", [*GET, (b"upgrade", b"websocket")], True),
    ("F17-te-gzip", [*GET, (b"te", b"gzip")], True),
    ("F17-te-list", [*GET, (b"te", b"trailers, deflate")], True),
    # F18
    ("F18-bad-host", [*without(b":authority"), (b"host", b"a b")], True),
    ("F18-empty-host", [*GET, (b"host", b"")], True),
]


@pytest.mark.parametrize(
    ("pairs", "end"), [case[1:] for case in MALFORMED], ids=[case[0] for case in MALFORMED]
)
def test_malformed_requests_are_refused(pairs: list[tuple[bytes, bytes]], end: bool) -> None:
    """F15, F16, F17, F18: a malformed request is an error of its stream, and the caller's."""
    with pytest.raises(Malformed) as caught:
        prove_request(pairs, end)

    assert (caught.value.status, caught.value.reason) in [
        (400, Reason.BAD_REQUEST),
        (400, Reason.BAD_FRAMING),
    ]


ANSWERED = [
    ("F18-host-is-not-authority", [*GET, (b"host", b"other")]),
    ("F18-host-in-another-case", [*GET, (b"host", b"Web")]),
    ("F18-two-hosts", [*without(b":authority"), (b"host", b"a"), (b"host", b"a")]),
    ("F18-two-hosts-and-authority", [*GET, (b"host", b"web"), (b"host", b"web")]),
]


@pytest.mark.parametrize("pairs", [case[1] for case in ANSWERED], ids=[case[0] for case in ANSWERED])
def test_f18_two_hosts_are_answered_with_400(pairs: list[tuple[bytes, bytes]]) -> None:
    """F18: where the routing host is in doubt the request is answered with 400; as HTTP/2 it is well formed."""
    with pytest.raises(BadMessage) as caught:
        prove_request(pairs, True)

    assert (caught.value.status, isinstance(caught.value, Malformed)) == (400, False)


PROVED = [
    ("plain", GET, True, 0),
    ("body-of-unknown-length", GET, False, -1),
    ("body-of-known-length", [*GET, (b"content-length", b"7")], False, 7),
    ("same-length-twice", [*GET, (b"content-length", b"7"), (b"content-length", b"7")], False, 7),
    ("declared-empty", [*GET, (b"content-length", b"0")], True, 0),
    ("te-trailers", [*GET, (b"te", b"trailers")], True, 0),
    ("te-trailers-in-capitals", [*GET, (b"te", b"Trailers")], True, 0),
    ("host-instead-of-authority", [*without(b":authority"), (b"host", b"web:80")], True, 0),
    ("host-as-authority", [*GET, (b"host", b"web")], True, 0),
    ("ipv6-authority", instead(b":authority", b"[::1]:80"), True, 0),
    ("https", instead(b":scheme", b"https"), True, 0),
    ("empty-value", [*GET, (b"x", b"")], True, 0),
    ("tab-and-latin-1-in-value", [*GET, (b"x", b"a\tb \xe9")], True, 0),
    ("options-asterisk", [(b":method", b"OPTIONS"), (b":path", b"*"), GET[1], GET[3]], True, 0),
    ("extension-method", instead(b":method", b"M-SEARCH"), True, 0),
    ("connect", [(b":method", b"CONNECT"), (b":authority", b"a:1")], False, -1),
]


@pytest.mark.parametrize(
    ("pairs", "end", "length"), [case[1:] for case in PROVED], ids=[case[0] for case in PROVED]
)
def test_good_requests_are_proved(pairs: list[tuple[bytes, bytes]], end: bool, length: int) -> None:
    """A good request is proved, and says how long its body is."""
    assert length == prove_request(pairs, end)


def test_te_is_looked_at_in_every_request() -> None:
    """gRPC sends it always, so it has a way of its own beside names that were proved before."""
    known = [*GET, (b"x-known", b"1")]
    for _ in range(2):
        assert prove_request([*known, (b"te", b"trailers")], True) == 0
        assert prove_request([*known, (b"te", b"trailers"), (b"content-length", b"3")], False) == 3
        for wrong in ([(b"te", b"gzip")], [(b"te", b"trailers"), (b"te", b"gzip")], [(b"te", b"trailers ")]):
            with pytest.raises(Malformed):
                prove_request([*known, *wrong], True)


def test_extended_connect_is_proved_where_it_was_announced() -> None:
    """RFC 8441: CONNECT with :protocol has :scheme, :path and :authority, once the listener has announced it."""
    pairs = [(b":method", b"CONNECT"), *GET[1:], (b":protocol", b"websocket")]

    assert prove_request(pairs, False, True) == -1


RESPONSES = [
    ("no-status", [(b"x", b"1")], False, b"GET"),
    ("nothing", [], False, b"GET"),
    ("status-second", [(b"x", b"1"), (b":status", b"200")], False, b"GET"),
    ("status-twice", [(b":status", b"200"), (b":status", b"200")], False, b"GET"),
    ("status-of-two-digits", [(b":status", b"20")], False, b"GET"),
    ("status-with-plus", [(b":status", b"+20")], False, b"GET"),
    ("status-below-100", [(b":status", b"099")], False, b"GET"),
    ("path-in-response", [(b":status", b"200"), (b":path", b"/")], False, b"GET"),
    ("F17-connection", [(b":status", b"200"), (b"connection", b"close")], False, b"GET"),
    ("F17-transfer-encoding", [(b":status", b"200"), (b"transfer-encoding", b"chunked")], False, b"GET"),
    ("F15-lf-in-value", [(b":status", b"200"), (b"x", b"a\nb")], False, b"GET"),
    ("F16-length-and-no-body", [(b":status", b"200"), (b"content-length", b"1")], True, b"GET"),
    ("informational-that-ends", [(b":status", b"103")], True, b"GET"),
    ("switching-protocols", [(b":status", b"101")], False, b"GET"),
]


@pytest.mark.parametrize(
    ("pairs", "end", "method"), [case[1:] for case in RESPONSES], ids=[case[0] for case in RESPONSES]
)
def test_malformed_responses_are_refused(pairs: list[tuple[bytes, bytes]], end: bool, method: bytes) -> None:
    """F15-F17: a malformed response is the endpoint's fault, 502."""
    with pytest.raises(Malformed) as caught:
        prove_response(pairs, end, method)

    assert caught.value.status == 502


GOOD_RESPONSES = [
    ("plain", [(b":status", b"200")], False, b"GET", (200, -1)),
    ("declared", [(b":status", b"200"), (b"content-length", b"5")], False, b"GET", (200, 5)),
    ("ends", [(b":status", b"204")], True, b"GET", (204, 0)),
    ("informational", [(b":status", b"103")], False, b"GET", (103, -1)),
    ("head", [(b":status", b"200"), (b"content-length", b"5")], True, b"HEAD", (200, 0)),
    ("not-modified", [(b":status", b"304"), (b"content-length", b"5")], True, b"GET", (304, 0)),
    ("head-ended-later", [(b":status", b"200"), (b"content-length", b"5")], False, b"HEAD", (200, 0)),
]


@pytest.mark.parametrize(
    ("pairs", "end", "method", "expected"),
    [case[1:] for case in GOOD_RESPONSES],
    ids=[case[0] for case in GOOD_RESPONSES],
)
def test_good_responses_are_proved(
    pairs: list[tuple[bytes, bytes]], end: bool, method: bytes, expected: tuple[int, int]
) -> None:
    """A good response says its status and how long its body is; none follows a HEAD, a 204 or a 304."""
    assert expected == prove_response(pairs, end, method)


@pytest.mark.parametrize(
    "pair", [(b":path", b"/"), (b"X", b"1"), (b"x", b"\n"), (b"transfer-encoding", b"chunked")]
)
def test_malformed_trailers_are_refused(pair: tuple[bytes, bytes]) -> None:
    """Trailers have no pseudo fields, no connection-specific fields and legal bytes."""
    with pytest.raises(Malformed):
        prove_trailers([(b"grpc-status", b"0"), pair], True)


@given(st.lists(st.tuples(st.binary(max_size=6), st.binary(max_size=6)), max_size=4))
def test_f15_what_is_proved_is_one_http1_line_each(pairs: list[tuple[bytes, bytes]]) -> None:
    """F15: whatever is proved reads in HTTP/1 as the same fields: no more, no fewer, no others."""
    pairs = [(name, value) for name, value in pairs if name not in (b"host", b"te")]
    try:
        prove_request([*GET, *pairs], False)
    except BadMessage:
        return

    lines = b"".join(b"%b: %b\r\n" % pair for pair in pairs)
    head = parse_request(b"GET / HTTP/1.1\r\nHost: web\r\n" + lines + b"\r\n", Limits())

    assert head is not None
    assert pairs == [(name, value) for name, value, _raw in head.fields][1:]


KINDS = [
    (b"accept", fields.KEEP),
    (b"cookie", fields.COOKIE),
    (b"via", fields.LOOK),
    (b"host", fields.HOST),
    (b"content-length", fields.LENGTH),
    (b"content_length", fields.HOP),
    (b"transfer_encoding", fields.HOP),
    (b"proxy-authorization", fields.HOP),
    (b"trailer", fields.KEEP),
    (b"te", fields.TE),
    (b"expect", fields.EXPECT),
    (b"x-forwarded-client-cert", fields.XFCC),
    (b"x_forwarded_client_cert", fields.XFCC),
    (b"l5d-ctx-trace", fields.CONTEXT),
    (b"l5d-dst-client", fields.CONTEXT),
    (b"l5d-dtab", fields.CONTEXT),
    (b"l5d_dtab", fields.CONTEXT),
    (b"l5d-retryable", fields.L5D),
    (b"dtab-local", fields.L5D),
    (b"x_custom", fields.TWIN),
]


@pytest.mark.parametrize(("name", "kind"), KINDS, ids=[name.decode() for name, _kind in KINDS])
def test_a_field_has_one_kind_and_so_has_its_underscore_twin(name: bytes, kind: int) -> None:
    """T5, T6: what is cut is decided by the name as a CGI endpoint would read it."""
    assert kind == kind_of(name)


def test_special_fields_are_those_of_http1() -> None:
    """A head lists the same fields as special in either version."""
    names = [b"via", b"l5d-x", b"proxy-x", b"te", b"x_custom", b"accept"]

    assert [is_special(name) for name in names] == [True, True, True, True, False, False]


def test_kinds_of_invented_names_are_not_remembered_for_ever() -> None:
    """The memory of names is bounded by MAX_KNOWN_NAMES, whatever callers invent."""
    for number in range(fields.MAX_KNOWN_NAMES + 10):
        kind_of(b"x-invented-%d" % number)

    assert len(fields._kinds) <= fields.MAX_KNOWN_NAMES
    assert kind_of(b"x-invented-%d" % (fields.MAX_KNOWN_NAMES + 9)) == fields.KEEP
