"""Extended CONNECT and Upgrade, each said in the words of the other (RFC 8441)."""

from __future__ import annotations

from random import Random

import pytest

from hostmesh.protocol.h1_head import parse_request, parse_response
from hostmesh.protocol.h1_message import BadMessage, RequestHead, ResponseHead
from hostmesh.protocol.h2.connect import (
    accept_of,
    as_upgrade,
    check_accept,
    connect_pairs,
    key_lines,
    new_key,
    switch_lines,
    switch_pairs,
)
from hostmesh.protocol.h2.message import H2RequestHead, H2ResponseHead
from hostmesh.protocol.limits import DEFAULT_LIMITS

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def h1_request(*lines: bytes) -> RequestHead:
    head = parse_request(
        b"\r\n".join([b"GET /chat HTTP/1.1", b"Host: web", *lines, b"", b""]), DEFAULT_LIMITS
    )
    assert head is not None
    return head


def h1_switch(*lines: bytes) -> ResponseHead:
    data = b"\r\n".join([b"HTTP/1.1 101 X", b"Connection: Upgrade", b"Upgrade: websocket", *lines, b"", b""])
    head = parse_response(data, DEFAULT_LIMITS, b"GET", upgrade=True)
    assert head is not None
    return head


def h2_connect(*fields: tuple[bytes, bytes]) -> H2RequestHead:
    pseudo = [
        (b":method", b"CONNECT"),
        (b":protocol", b"websocket"),
        (b":scheme", b"https"),
        (b":path", b"/chat?a"),
        (b":authority", b"web"),
    ]
    return H2RequestHead([*pseudo, *fields], False)


def h2_ok(*fields: tuple[bytes, bytes]) -> H2ResponseHead:
    return H2ResponseHead([(b":status", b"200"), *fields], False, b"CONNECT")


def test_the_rfc_s_own_example() -> None:
    """RFC 6455 1.3."""
    assert accept_of(KEY) == ACCEPT


def test_keys_are_sixteen_bytes_and_differ() -> None:
    """Base64 of them, as RFC 6455 4.1 asks."""
    rng = Random(1)
    keys = {new_key(rng) for _ in range(100)}

    assert len(keys) == 100
    assert {len(key) for key in keys} == {24}


def test_an_extended_connect_is_a_request_for_an_upgrade() -> None:
    """GET, no body, the fields as they were."""
    head = as_upgrade(h2_connect((b"origin", b"x"), (b"sec-websocket-version", b"13")))

    assert (head.method, head.target, head.host, head.upgrade) == (b"GET", b"/chat?a", b"web", b"websocket")
    assert (head.content_length, head.scheme, head.protocol) == (0, b"https", None)
    assert list(head.pairs) == [(b"origin", b"x"), (b"sec-websocket-version", b"13")]


@pytest.mark.parametrize("field", [(b"content-length", b"5"), (b"expect", b"100-continue")])
def test_f15_a_tunnel_has_no_body(field: tuple[bytes, bytes]) -> None:
    """F15: what would make a body of its first bytes in HTTP/1.1 is left out."""
    head = as_upgrade(h2_connect((b"origin", b"x"), field))

    assert head.pairs == [(b"origin", b"x")]
    assert (head.content_length, head.expect_continue) == (0, False)


def test_f16_a_tunnel_declares_no_length() -> None:
    """F16: an HTTP/1.1 caller's ``Content-Length: 0`` would be wrong for all that follows."""
    head = h1_request(b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 0")

    pairs = connect_pairs(head, b"websocket", b"", target=None, host=None, clear=False, drop=frozenset())

    assert b"content-length" not in [name for name, _value in pairs]


@pytest.mark.parametrize("version", ["h1", "h2"])
def test_what_an_http2_endpoint_is_asked(version: str) -> None:
    """CONNECT with the first protocol of the list, pseudo fields in front, nothing that belongs to one hop."""
    if version == "h1":
        head = h1_request(
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Version: 13",
        )
    else:
        head = as_upgrade(h2_connect((b"sec-websocket-version", b"13")))

    pairs = connect_pairs(
        head,
        b"websocket, other",
        b"l5d-x: 1\r\n",
        target=b"/new",
        host=None,
        clear=False,
        drop=frozenset(),
    )

    assert pairs == [
        (b":method", b"CONNECT"),
        (b":protocol", b"websocket"),
        (b":scheme", b"http"),
        (b":path", b"/new"),
        (b":authority", b"web"),
        (b"sec-websocket-version", b"13"),
        (b"l5d-x", b"1"),
    ]


def test_what_an_http1_endpoint_is_sent_for_a_caller_in_http2() -> None:
    """A key, and a version if the caller gave none; nothing for those who have sent one, and for other protocols."""
    rng = Random(1)
    with_version = as_upgrade(h2_connect((b"sec-websocket-version", b"13")))
    without = as_upgrade(h2_connect())

    key, lines = key_lines(with_version, b"websocket", rng)
    other_key, other_lines = key_lines(without, b"websocket", rng)

    assert lines == b"Sec-WebSocket-Key: %b\r\n" % key
    assert other_lines == b"Sec-WebSocket-Key: %b\r\nSec-WebSocket-Version: 13\r\n" % other_key
    assert key_lines(with_version, b"spdy/3.1", rng) == (b"", b"")
    assert key_lines(as_upgrade(h2_connect((b"sec-websocket-key", KEY))), b"websocket", rng) == (b"", b"")
    assert key_lines(h1_request(b"Sec-WebSocket-Key: " + KEY), b"websocket", rng) == (b"", b"")


@pytest.mark.parametrize(
    "lines",
    [
        (),
        (b"Sec-WebSocket-Accept: nonsense",),
        (b"Sec-WebSocket-Accept: " + ACCEPT, b"Sec-WebSocket-Accept: " + ACCEPT),
    ],
)
def test_an_accept_that_does_not_answer_is_refused(lines: tuple[bytes, ...]) -> None:
    """502: the other end may not be a WebSocket server at all (RFC 6455 4.1)."""
    check_accept(h1_switch(b"Sec-WebSocket-Accept: " + ACCEPT), KEY)

    with pytest.raises(BadMessage) as raised:
        check_accept(h1_switch(*lines), KEY)

    assert raised.value.status == 502


def test_the_answer_to_a_caller_in_http1() -> None:
    """Of an HTTP/2 endpoint the accept is made here, and a length or an accept of its own is left out."""
    asked = h1_request(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: " + KEY)
    ok = h2_ok(
        (b"sec-websocket-protocol", b"chat"), (b"sec-websocket-accept", b"x"), (b"content-length", b"5")
    )

    lines = switch_lines(asked, ok, b"websocket", b"Via: 1.1 us\r\n", clear=False)

    assert lines.split(b"\r\n") == [
        b"HTTP/1.1 101 Switching Protocols",
        b"sec-websocket-protocol: chat",
        b"Sec-WebSocket-Accept: " + ACCEPT,
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Via: 1.1 us",
        b"",
        b"",
    ]


def test_the_answer_of_an_http1_endpoint_passes() -> None:
    """Its accept answers the caller's own key."""
    head = h1_switch(b"Sec-WebSocket-Accept: " + ACCEPT, b"X-A: b")

    lines = switch_lines(h1_request(), head, b"websocket", b"", clear=False)

    assert lines == (
        b"HTTP/1.1 101 X\r\nSec-WebSocket-Accept: %b\r\nX-A: b\r\n"
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n" % ACCEPT
    )


def test_the_answer_to_a_caller_in_http2() -> None:
    """200, without what proves or frames anything in HTTP/1.1; a key that came in HTTP/2 is answered."""
    asked = as_upgrade(h2_connect())
    with_key = as_upgrade(h2_connect((b"sec-websocket-key", KEY)))
    h1 = h1_switch(b"Sec-WebSocket-Accept: " + ACCEPT, b"Sec-WebSocket-Protocol: chat", b"l5d-x: 1")
    h2 = h2_ok((b"sec-websocket-protocol", b"chat"), (b"content-length", b"5"))

    assert switch_pairs(asked, h1, b"websocket", clear=False) == [
        (b":status", b"200"),
        (b"sec-websocket-protocol", b"chat"),
        (b"l5d-x", b"1"),
    ]
    assert switch_pairs(asked, h1, b"websocket", clear=True) == [
        (b":status", b"200"),
        (b"sec-websocket-protocol", b"chat"),
    ]
    assert switch_pairs(asked, h2, b"websocket", clear=False) == [
        (b":status", b"200"),
        (b"sec-websocket-protocol", b"chat"),
    ]
    for head in (h1, h2):
        assert switch_pairs(with_key, head, b"websocket", clear=False)[-1] == (
            b"sec-websocket-accept",
            ACCEPT,
        )
