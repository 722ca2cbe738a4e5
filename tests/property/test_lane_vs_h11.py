"""What the HTTP/1 codec accepts is what h11 reads, and what well-behaved peers write is accepted."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostmesh.protocol.h1_body import ChunkedBody, chunk, last_chunk
from hostmesh.protocol.h1_head import BadMessage, RequestHead, ResponseHead
from hostmesh.protocol.limits import DEFAULT_LIMITS
from tests.feeding import facts, read
from tests.fuzz import lane_vs_h11

TOKEN_CHARS = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
SPECIAL = {
    b"host",
    b"content-length",
    b"content_length",
    b"transfer-encoding",
    b"connection",
    b"expect",
    b"te",
    b"upgrade",
}

names = (
    st.text(TOKEN_CHARS, min_size=1, max_size=12).map(str.encode).filter(lambda n: n.lower() not in SPECIAL)
)
values = st.binary(max_size=20).map(
    lambda data: bytes(b for b in data if b == 9 or 32 <= b < 127 or b >= 128).strip(b" \t")
)
fields = st.lists(st.tuples(names, values), max_size=8)
targets = st.text("".join(chr(c) for c in range(0x21, 0x7F) if chr(c) != "#"), max_size=20).map(
    lambda text: b"/" + text.encode()
)
methods = st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"M-SEARCH", b"x"])
bodies = st.binary(max_size=60)
cuts = st.lists(st.integers(0, 400), max_size=6)


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    at = sorted({min(place, len(raw)) for place in places})
    return [raw[a:b] for a, b in zip([0, *at], [*at, len(raw)], strict=True)]


def lines(pairs: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % pair for pair in pairs)


@given(methods, targets, fields, bodies, cuts)
def test_a_well_formed_request_is_read_as_written(
    method: bytes, target: bytes, pairs: list[tuple[bytes, bytes]], body: bytes, places: list[int]
) -> None:
    """Whatever the pieces, method, target, fields and body come out as they were written, and h11 agrees."""
    pairs = [(b"Host", b"web:80"), *pairs, (b"Content-Length", b"%d" % len(body))]
    raw = b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method, target, lines(pairs), body)

    message = read(cut(raw, places))

    assert message is not None
    head = message.head
    assert isinstance(head, RequestHead)
    assert (method, target, b"web:80", body, True) == (
        head.method,
        head.target,
        head.host,
        message.body,
        message.complete,
    )
    assert [(name, value) for name, value in pairs] == [
        (raw_name, value) for _n, value, raw_name in head.fields
    ]
    lane_vs_h11.compare(raw, message, None)
    lane_vs_h11.compare_forwarded(message, None, clear=False)
    lane_vs_h11.compare_forwarded(message, None, clear=True)


@given(st.integers(200, 999), fields, bodies, cuts)
def test_a_well_formed_response_is_read_as_written(
    status: int, pairs: list[tuple[bytes, bytes]], body: bytes, places: list[int]
) -> None:
    """Status, fields and body come out as they were written, and h11 agrees."""
    if status in (204, 304):
        body = b""
    pairs = [*pairs, (b"Content-Length", b"%d" % len(body))]
    raw = b"HTTP/1.1 %d Some Reason\r\n%b\r\n%b" % (status, lines(pairs), body)

    message = read(cut(raw, places), b"GET")

    assert message is not None
    assert isinstance(message.head, ResponseHead)
    assert (status, b"Some Reason", body) == (message.head.status, message.head.reason, message.body)
    lane_vs_h11.compare(raw, message, b"GET")
    lane_vs_h11.compare_forwarded(message, b"GET", clear=False)


fragments = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n",
        b"POST /x HTTP/1.1\r\nHost: a\r\n",
        b"Host: web\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: x-a, close\r\n",
        b"x-a: 1\r\n",
        b"X_A: 1\r\n",
        b"l5d-ctx-trace: 1\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b":",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"0\r\nX-T: 1\r\n\r\n",
        b";x",
    ]
)


@given(st.lists(fragments | st.binary(max_size=3), max_size=12).map(b"".join), cuts)
@settings(max_examples=300)
def test_whatever_is_accepted_h11_reads_the_same(raw: bytes, places: list[int]) -> None:
    """Fragments in any order: accepted or refused whole as in pieces, and never read otherwise than by
    h11.
    """
    try:
        whole = read([raw])
    except BadMessage:
        with pytest.raises(BadMessage):
            read(cut(raw, places))
        return

    assert facts(whole) == facts(read(cut(raw, places)))
    if whole is not None:
        lane_vs_h11.compare(raw, whole, None)
        lane_vs_h11.compare_forwarded(whole, None, clear=False)


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=5), st.sampled_from([b"", b";a=b", b" "]), cuts)
def test_a_chunked_body_does_not_depend_on_its_pieces(
    payloads: list[bytes], extension: bytes, places: list[int]
) -> None:
    """The payload comes out whole, and as chunks of ours it reads the same again."""
    raw = b"".join(b"%x%b\r\n%b\r\n" % (len(data), extension, data) for data in payloads) + last_chunk()

    reader = ChunkedBody(DEFAULT_LIMITS, True)
    out = []
    for piece in cut(raw, places):
        data, used = reader.feed(piece)
        assert len(piece) == used
        out.append(chunk(data))

    assert reader.done
    again = ChunkedBody(DEFAULT_LIMITS, True)
    assert b"".join(payloads) == again.feed(b"".join(out) + last_chunk())[0]
    assert again.done


@pytest.mark.parametrize("seed", [20160223, 20211207])
def test_generated_and_mutated_messages_agree_with_h11(seed: int) -> None:
    """25,000 messages per seed; `python -m tests.fuzz.lane_vs_h11` runs as many as you like."""
    totals: Counter[str] = lane_vs_h11.run(seed, 25_000)

    assert totals.total() == 25_000
    assert totals["by the lane"] > 5_000
    assert totals["by the judge"] > 300
    assert totals["refused"] > 5_000


def test_the_comparison_notices_a_difference() -> None:
    """The property is not vacuous: a message read wrongly is a disagreement."""
    message = read([b"GET /a HTTP/1.1\r\nHost: web\r\n\r\n"])
    assert message is not None

    with pytest.raises(lane_vs_h11.Disagreement, match="target"):
        lane_vs_h11.compare(b"GET /b HTTP/1.1\r\nHost: web\r\n\r\n", message, None)
    with pytest.raises(lane_vs_h11.Disagreement, match="fields"):
        lane_vs_h11.compare(b"GET /a HTTP/1.1\r\nHost: other\r\n\r\n", message, None)
