"""Heads between HTTP/2 and HTTP/1.1, both ways, and what is cut on the way (F15-F19, T1, T5, T6)."""

from __future__ import annotations

import pytest
from hpack import NeverIndexedHeaderTuple
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.protocol.h1_head import CHUNKED, RequestHead, ResponseHead, parse_request, parse_response
from hostmesh.protocol.h1_write import request_head, response_head
from hostmesh.protocol.h2 import heads
from hostmesh.protocol.h2.engine import Pairs
from hostmesh.protocol.h2.fields import prove_request
from hostmesh.protocol.h2.heads import (
    H2RequestHead,
    H2ResponseHead,
    answer_pairs,
    line_pairs,
    request_pairs,
    response_pairs,
    trailer_lines,
    trailer_pairs,
)
from hostmesh.protocol.limits import Limits
from tests.h2_raw import get

GET = get(b"/a?b=c")
VIA = b"Via: 1.1 linkerd\r\n"


def h2_request(*more: tuple[bytes, bytes], end: bool = True, pseudo: Pairs = GET) -> H2RequestHead:
    pairs = [*pseudo, *more]
    prove_request(pairs, end, True)
    return H2RequestHead(pairs, end)


def h1_request(*lines: bytes, first: bytes = b"GET /a?b=c HTTP/1.1") -> RequestHead:
    head = parse_request(b"\r\n".join([first, b"Host: web", *lines, b"", b""]), Limits())
    assert head is not None
    return head


def h1_response(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK", method: bytes = b"GET") -> ResponseHead:
    head = parse_response(b"\r\n".join([first, *lines, b"", b""]), Limits(), method)
    assert head is not None
    return head


def test_an_h2_request_reads_as_any_other() -> None:
    """Method, target, host, fields, special and body length are those of the same request in HTTP/1.1."""
    more = [(b"accept", b"*/*"), (b"via", b"2 edge"), (b"content-length", b"5"), (b"l5d-dtab", b"/a=>/b")]
    other = h1_request(*[b"%b: %b" % pair for pair in more], first=b"POST /a?b=c HTTP/1.1")
    head = h2_request(*more, end=False, pseudo=[(b":method", b"POST"), *GET[1:]])

    for name in ("method", "target", "host", "content_length", "keep_alive", "expect_continue", "upgrade"):
        assert getattr(other, name) == getattr(head, name), name
    assert [(name, value) for name, value, _raw in other.fields] == [
        (name, value) for name, value, _raw in head.fields
    ]
    assert list(other.special) == list(head.special)
    assert (other.get(b"host"), other.get(b"via"), other.get(b"nope")) == (
        head.get(b"host"),
        head.get(b"via"),
        head.get(b"nope"),
    )
    assert head.get_all(b"via") == [b"2 edge"]
    assert (head.version, head.plain, head.protocol) == (20, False, None)


def test_an_h2_request_is_written_for_an_h1_endpoint() -> None:
    """HTTP/2 to HTTP/1.1: request line, Host first, the fields, framing, our own lines; nothing else."""
    head = h2_request((b"accept", b"*/*"), (b"te", b"trailers"), end=False)

    written = request_head(head, VIA)

    expected = (
        b"GET /a?b=c HTTP/1.1\r\nHost: web\r\naccept: */*\r\nTransfer-Encoding: chunked\r\n" + VIA + b"\r\n"
    )
    assert expected == written


@pytest.mark.parametrize(
    ("more", "end", "framing"),
    [
        ([], True, b""),
        ([(b"content-length", b"0")], True, b"content-length: 0\r\n"),
        ([(b"content-length", b"7")], False, b"content-length: 7\r\n"),
        ([(b"content-length", b"7"), (b"content-length", b"7")], False, b"content-length: 7\r\n"),
        ([], False, b"Transfer-Encoding: chunked\r\n"),
    ],
    ids=["no-body", "declared-empty", "declared", "F2-declared-twice", "of-unknown-length"],
)
def test_f16_a_body_is_framed_once_for_an_h1_endpoint(more: Pairs, end: bool, framing: bytes) -> None:
    """F16: the endpoint reads exactly one framing, the one that the stream's end says."""
    written = request_head(h2_request(*more, end=end))

    assert b"GET /a?b=c HTTP/1.1\r\nHost: web\r\n" + framing + b"\r\n" == written


def test_cookie_crumbs_become_one_cookie() -> None:
    """RFC 9113 8.2.3: crumbs are joined in order, where the first of them was."""
    head = h2_request(
        (b"a", b"1"), (b"cookie", b"x=1"), (b"b", b"2"), (b"cookie", b"y=2"), (b"cookie", b"z=3")
    )

    assert list(head.pairs) == [(b"a", b"1"), (b"cookie", b"x=1; y=2; z=3"), (b"b", b"2")]
    assert head.get(b"cookie") == b"x=1; y=2; z=3"


def test_empty_cookie_crumbs_leave_no_blank_behind() -> None:
    """A joined cookie never ends with a space, which the next hop would have to refuse."""
    some = h2_request((b"cookie", b""), (b"cookie", b"a=1"), (b"cookie", b""))
    none = h2_request((b"cookie", b""), (b"cookie", b""))

    assert (some.get(b"cookie"), none.get(b"cookie")) == (b"a=1", b"")


def test_a_cookie_stays_out_of_tables_if_one_of_its_crumbs_has_to() -> None:
    """RFC 7541 6.2.3: the order never to index a field is passed on, also when crumbs are joined."""
    head = h2_request((b"cookie", b"a=1"), NeverIndexedHeaderTuple(b"cookie", b"b=2"))
    plain = h2_request((b"cookie", b"a=1"), (b"cookie", b"b=2"))

    assert (head.pairs[0], plain.pairs[0]) == ((b"cookie", b"a=1; b=2"), (b"cookie", b"a=1; b=2"))
    assert isinstance(head.pairs[0], NeverIndexedHeaderTuple)
    assert type(plain.pairs[0]) is tuple


def test_f18_host_stands_in_for_authority_and_is_the_one_value() -> None:
    """F18: Host without :authority is the routing host, and the endpoint of either version gets that one."""
    pseudo = [pair for pair in GET if pair[0] != b":authority"]
    head = h2_request((b"host", b"shop:80"), pseudo=pseudo)

    assert head.host == b"shop:80"
    assert head.block == b"Host: shop:80\r\n"
    hosts = [pair for pair in request_pairs(head) if pair[0] in (b":authority", b"host")]
    assert hosts == [(b":authority", b"shop:80")]


def test_between_h2_halves_pairs_pass_and_ours_are_added() -> None:
    """HTTP/2 to HTTP/2: fields pass as they came, te: trailers with them; no HTTP/1 text is made."""
    head = h2_request((b"te", b"trailers"), (b"grpc-timeout", b"1S"))

    pairs = request_pairs(head, VIA)

    assert [*GET, (b"te", b"trailers"), (b"grpc-timeout", b"1S"), (b"via", b"1.1 linkerd")] == pairs
    with pytest.raises(AttributeError):
        head.__getattribute__("_block")


CUT = [
    ("T5-context", (b"l5d-ctx-trace", b"x"), True, True),
    ("T5-dst", (b"l5d-dst-client", b"x"), True, True),
    ("T1-other-l5d", (b"l5d-retryable", b"true"), False, True),
    ("T1-dtab-local", (b"dtab-local", b"/a=>/b"), False, True),
    ("T3-client-cert", (b"x-forwarded-client-cert", b"x"), True, True),
    ("T6-underscore", (b"x_custom", b"x"), False, True),
    ("T6-twin-of-context", (b"l5d_ctx_trace", b"x"), True, True),
    ("T6-twin-of-length", (b"content_length", b"9"), True, True),
    ("T6-twin-of-coding", (b"transfer_encoding", b"chunked"), True, True),
    ("T5-proxy-authorization", (b"proxy-authorization", b"x"), True, True),
    ("expect", (b"expect", b"100-continue"), True, True),
    ("plain-field", (b"x-custom", b"x"), False, False),
    ("trailer", (b"trailer", b"x-sum"), False, False),
    ("via", (b"via", b"2 edge"), False, False),
]


@pytest.mark.parametrize(
    ("pair", "trusted", "clear"), [case[1:] for case in CUT], ids=[case[0] for case in CUT]
)
def test_both_versions_cut_the_same_fields(pair: tuple[bytes, bytes], trusted: bool, clear: bool) -> None:
    """T1, T3, T5, T6: what is cut towards the endpoint does not depend on the version of either half."""
    h2_head = h2_request(pair)
    h1_head = h1_request(b"%b: %b" % pair)

    for cleared, cut in ((False, trusted), (True, clear)):
        assert cut == (pair not in request_pairs(h2_head, clear=cleared)), cleared
        assert cut == (pair not in request_pairs(h1_head, clear=cleared)), cleared
        assert cut == (b"%b: %b" % pair not in request_head(h2_head, clear=cleared)), cleared


def test_expect_is_left_to_the_endpoint_when_asked() -> None:
    """``expect`` lets the endpoint answer 100-continue itself."""
    head = h2_request((b"expect", b"100-continue"), end=False)

    assert head.expect_continue
    assert (b"expect", b"100-continue") in request_pairs(head, expect=True)


def test_named_fields_are_dropped() -> None:
    """``drop`` names further fields that another propagator owns."""
    head = h2_request((b"b3", b"x"), (b"a", b"1"))

    assert [*GET, (b"a", b"1")] == request_pairs(head, drop=frozenset({b"b3"}))


def test_method_target_host_and_scheme_can_be_replaced() -> None:
    """What an identifier consumed or a policy rewrote replaces what came."""
    head = h2_request((b"a", b"1"))

    pairs = request_pairs(head, method=b"HEAD", target=b"/z", host=b"other", scheme=b"https")

    pseudo = [(b":method", b"HEAD"), (b":scheme", b"https"), (b":path", b"/z"), (b":authority", b"other")]
    assert pairs == [*pseudo, (b"a", b"1")]


def test_an_h1_request_is_sent_as_h2() -> None:
    """HTTP/1.1 to HTTP/2: names lower-cased, hop-by-hop and nominated fields gone, te: trailers kept."""
    head = h1_request(
        b"Accept: */*",
        b"Connection: TE, X-Mine, close",
        b"X-Mine: 1",
        b"TE: gzip, trailers",
        b"Keep-Alive: 5",
        b"Upgrade: h2c",
        b"Transfer-Encoding: chunked",
        first=b"POST /a?b=c HTTP/1.1",
    )

    pairs = request_pairs(head, VIA)

    assert [
        (b":method", b"POST"),
        *GET[1:],
        (b"accept", b"*/*"),
        (b"te", b"trailers"),
        (b"via", b"1.1 linkerd"),
    ] == pairs
    assert prove_request(pairs, False) == -1


def test_extended_connect_passes_its_protocol() -> None:
    """RFC 8441: :protocol, :scheme and :path go on with CONNECT."""
    pseudo = [(b":method", b"CONNECT"), *GET[1:], (b":protocol", b"websocket")]
    head = h2_request(pseudo=pseudo, end=False)

    assert (head.protocol, head.content_length) == (b"websocket", CHUNKED)
    assert pseudo == request_pairs(head)


def test_plain_connect_has_its_authority_as_target() -> None:
    """A plain CONNECT names a host and nothing else."""
    pseudo = [(b":method", b"CONNECT"), (b":authority", b"db:5432")]
    head = h2_request(pseudo=pseudo, end=False)

    assert (head.target, head.host) == (b"db:5432", b"db:5432")
    assert pseudo == request_pairs(head)


def test_t1_without_context_hides_what_an_untrusted_caller_says() -> None:
    """T1, T6: l5d-*, dtab-local and names with ``_`` are gone before anything reads the head."""
    head = h2_request(
        (b"l5d-dtab", b"/a=>/b"), (b"a", b"1"), (b"x_y", b"2"), (b"content-length", b"3"), end=False
    )

    clean = head.without_context()

    assert list(clean.pairs) == [(b"a", b"1"), (b"content-length", b"3")]
    assert (clean.host, clean.target, clean.content_length) == (b"web", b"/a?b=c", 3)
    assert clean is clean.without_context()


def test_an_h2_response_is_written_for_an_h1_caller() -> None:
    """HTTP/2 to HTTP/1.1: a status line with a phrase, the fields, and framing that ends the body."""
    streamed = H2ResponseHead([(b":status", b"404"), (b"server", b"x")], False, b"GET")
    declared = H2ResponseHead([(b":status", b"200"), (b"content-length", b"5")], False, b"GET")
    empty = H2ResponseHead([(b":status", b"200"), (b"server", b"x")], True, b"GET")

    assert (
        response_head(streamed)
        == b"HTTP/1.1 404 Not Found\r\nserver: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert response_head(declared, VIA) == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n" + VIA + b"\r\n"
    assert (
        response_head(empty).replace(b"content-length", b"Content-Length")
        == b"HTTP/1.1 200 OK\r\nserver: x\r\nContent-Length: 0\r\n\r\n"
    )
    assert [(head.has_body, head.content_length) for head in (streamed, declared, empty)] == [
        (True, CHUNKED),
        (True, 5),
        (False, 0),
    ]


@pytest.mark.parametrize("status", [b"103", b"204", b"304"])
def test_responses_that_have_no_body_declare_none(status: bytes) -> None:
    """1xx and 204 say no length, 304 says that of the body it stands for; none has one."""
    pairs = [(b":status", status), (b"content-length", b"5"), (b"a", b"1")]
    head = H2ResponseHead(pairs, status != b"103", b"GET")

    declared = status == b"304"
    assert not head.has_body
    assert declared == (b"content-length: 5" in response_head(head))
    assert declared == ((b"content-length", b"5") in response_pairs(head))
    assert (status == b"103") == head.informational


def test_a_head_response_keeps_its_length() -> None:
    """The answer to HEAD declares what GET would have had, and has no body."""
    head = H2ResponseHead([(b":status", b"200"), (b"content-length", b"5")], True, b"HEAD")

    assert (head.has_body, head.content_length) == (False, 5)
    assert response_head(head) == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"


def test_an_h1_response_is_sent_as_h2() -> None:
    """HTTP/1.1 to HTTP/2: hop-by-hop and nominated fields gone, names lower-cased, ours added."""
    head = h1_response(
        b"Server: x",
        b"Connection: X-Mine, close",
        b"X-Mine: 1",
        b"Keep-Alive: 5",
        b"Transfer-Encoding: chunked",
    )

    assert response_pairs(head, VIA) == [(b":status", b"200"), (b"server", b"x"), (b"via", b"1.1 linkerd")]


def test_a_declared_length_is_said_once_or_replaced() -> None:
    """A repeated Content-Length goes on once; ``framing`` replaces it, or leaves the end to the stream."""
    head = h1_response(b"Content-Length: 5", b"Content-Length: 5")

    assert response_pairs(head) == [(b":status", b"200"), (b"content-length", b"5")]
    assert response_pairs(head, framing=9) == [(b":status", b"200"), (b"content-length", b"9")]
    assert response_pairs(head, framing=CHUNKED) == [(b":status", b"200")]


@pytest.mark.parametrize("clear", [False, True])
def test_t8_responses_lose_l5d_and_via_at_the_edge(clear: bool) -> None:
    """T8: towards an untrusted caller l5d-* and Via of the endpoint's side are cut, from heads of either version."""
    lines = [(b"l5d-err", b"x"), (b"via", b"2 x"), (b"l5d-success-class", b"1.0"), (b"a", b"1")]
    heads = [
        H2ResponseHead([(b":status", b"200"), *lines], False, b"GET"),
        h1_response(*[b"%b: %b" % pair for pair in lines]),
    ]

    kept = [(b"a", b"1")] if clear else [(b"l5d-err", b"x"), (b"via", b"2 x"), (b"a", b"1")]
    assert [[(b":status", b"200"), *kept]] * 2 == [response_pairs(head, clear=clear) for head in heads]


def test_f19_trailers_that_smuggle_are_dropped_both_ways() -> None:
    """F19: framing, routing, credentials and what proxies vouch for never pass as trailers."""
    bad = [b"content-length", b"transfer-encoding", b"host", b"authorization", b"cookie", b"l5d-dtab"]
    bad += [b"x-forwarded-for", b"connection", b"l5d_dtab", b"content_length", b"set-cookie", b"te"]
    pairs = [(name, b"1") for name in bad] + [(b"grpc-status", b"0"), (b"x-checksum", b"ab")]

    assert trailer_lines(pairs) == b"grpc-status: 0\r\nx-checksum: ab\r\n"
    assert trailer_pairs(trailer_lines(pairs)) == [(b"grpc-status", b"0"), (b"x-checksum", b"ab")]
    assert trailer_pairs(b"X-Sum: 1\r\n") == [(b"x-sum", b"1")]


def test_our_lines_become_pairs() -> None:
    """Lines of ours are lower-cased and cut of blanks; none are none."""
    assert line_pairs(b"Via: 1.1 x\r\nl5d-reqid:  7 \r\n") == [(b"via", b"1.1 x"), (b"l5d-reqid", b"7")]
    assert line_pairs(b"") == []


def test_answers_of_our_own_declare_their_body() -> None:
    """An answer made here has status, type, length and our lines; one without a body no type."""
    assert answer_pairs(503, b"no", b"l5d-err: x\r\n") == [
        (b":status", b"503"),
        (b"content-type", b"text/plain"),
        (b"content-length", b"2"),
        (b"l5d-err", b"x"),
    ]
    assert answer_pairs(204, b"") == [(b":status", b"204")]
    assert answer_pairs(200, b"") == [(b":status", b"200"), (b"content-length", b"0")]


NAMES = st.sampled_from(
    [
        *[b"accept", b"x-custom", b"via", b"te", b"cookie", b"x_custom", b"content_length", b"l5d-dtab"],
        *[
            b"l5d-retryable",
            b"l5d-success-class",
            b"l5d_success-class",
            b"l5d-err",
            b"l5d_ctx_trace",
            b"expect",
        ],
        *[b"proxy-authorization", b"forwarded", b"x-forwarded-client-cert", b"trailer", b"dtab-local", b"b3"],
        *[b"max-forwards", b"transfer_encoding", b"grpc-timeout"],
    ]
)
VALUES = st.text(
    st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), max_size=8
).map(lambda text: text.encode("latin-1", "ignore").translate(None, bytes(range(0x7F, 0xA0))))


@given(
    st.lists(st.tuples(NAMES, VALUES), max_size=8),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 0, 5]),
)
def test_f15_both_ways_to_an_endpoint_say_the_same(
    pairs: list[tuple[bytes, bytes]], end: bool, clear: bool, expect: bool, length: int | None
) -> None:
    """F15, T5, T6: a request sent on as HTTP/1.1 reads as the one sent on as HTTP/2, whatever its fields."""
    pairs = [(n, b"trailers" if n == b"te" else b"100-continue" if n == b"expect" else v) for n, v in pairs]
    if length is not None and not (end and length):
        pairs.append((b"content-length", b"%d" % length))
    head = h2_request(*pairs, end=end)

    as_h2 = request_pairs(head, VIA, clear=clear, expect=expect)
    as_h1 = parse_request(request_head(head, VIA, clear=clear, expect=expect), Limits())

    assert as_h1 is not None
    fields = [
        (name, value) for name, value, _raw in as_h1.fields if name not in (b"host", b"transfer-encoding")
    ]
    kept = [pair for pair in as_h2[4:] if pair[0] != b"te"]
    assert sorted(fields) == sorted(kept)
    assert (as_h1.method, as_h1.target, as_h1.host) == (b"GET", b"/a?b=c", b"web")
    if length is not None or not end:
        assert as_h1.content_length == head.content_length


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8), st.booleans(), st.booleans())
def test_t8_both_ways_to_a_caller_say_the_same(
    pairs: list[tuple[bytes, bytes]], end: bool, clear: bool
) -> None:
    """T5, T8: a response sent on as HTTP/1.1 reads as the one sent on as HTTP/2, whatever its fields."""
    pairs = [(n, b"trailers" if n == b"te" else v) for n, v in pairs]
    head = H2ResponseHead([(b":status", b"200"), *pairs], end, b"GET")

    as_h2 = response_pairs(head, VIA, clear=clear)
    as_h1 = parse_response(response_head(head, VIA, clear=clear), Limits(), b"GET")

    assert as_h1 is not None
    ours = (b"content-length", b"transfer-encoding")
    assert sorted((n, v) for n, v, _raw in as_h1.fields if n not in ours) == sorted(as_h2[1:])
    assert as_h1.content_length == (0 if end else CHUNKED)


def test_known_trailers_are_bounded() -> None:
    """Trailers that were seen before are not read again, whoever makes up new ones does not fill the memory, and what
    one reader does to its list harms no other."""
    for number in range(10 * heads.MAX_KNOWN_TRAILERS):
        lines = trailer_lines([(b"x-number", b"%d" % number)])
        trailer_pairs(lines).append((b"x", b"y"))
        assert trailer_pairs(lines) == [(b"x-number", b"%d" % number)]
    long = trailer_lines([(b"x-long", b"v" * heads.MAX_KNOWN_TRAILER_BYTES)])

    assert trailer_pairs(long) == [(b"x-long", b"v" * heads.MAX_KNOWN_TRAILER_BYTES)]
    assert long not in heads._pairs
    assert max(len(heads._forwardable), len(heads._pairs)) <= heads.MAX_KNOWN_TRAILERS
