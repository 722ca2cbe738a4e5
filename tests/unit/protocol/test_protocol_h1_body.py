"""Body readers take what is theirs and nothing else, from any place in the data."""

from __future__ import annotations

import pytest

from hostmesh.base.reasons import Reason
from hostmesh.protocol.h1_body import ChunkedBody, CloseBody, LengthBody, chunk, last_chunk
from hostmesh.protocol.h1_head import BadMessage
from hostmesh.protocol.limits import Limits

LIMITS = Limits()


def test_length_body_takes_exactly_its_bytes() -> None:
    """Bytes before ``pos`` and after the length are left alone, and whole data is not copied."""
    body = LengthBody(8, request=True)
    data = b"1234"

    assert body.feed(b"xxab", 2) == (b"ab", 4)
    piece, used = body.feed(data)
    assert piece is data
    assert (used, body.done) == (4, False)
    assert body.feed(b"xcdNEXT", 1) == (b"cd", 3)
    assert body.done
    assert body.feed(b"NEXT") == (b"", 0)


def test_length_body_of_nothing_is_done() -> None:
    """No byte is needed for an empty body."""
    body = LengthBody(0, request=True)

    body.eof()
    assert body.done


def test_cut_short_request_is_the_callers_fault() -> None:
    """The message says how much was there."""
    body = LengthBody(5, request=True)
    body.feed(b"123")

    with pytest.raises(BadMessage, match="after 3 of 5") as caught:
        body.eof()
    assert (caught.value.reason, caught.value.status) == (Reason.RESET_BY_CALLER, 400)


def test_close_body_ends_with_the_stream() -> None:
    """Everything belongs to it."""
    body = CloseBody()

    assert body.feed(b"abc", 1) == (b"bc", 3)
    assert body.done is False
    body.eof()
    assert body.done


CHUNKED_RAW = b'5\r\nhello\r\n6;a="b"\r\n world\r\n0;x\r\nX-T: 1\r\nHost: no\r\n\r\n'


@pytest.mark.parametrize("size", range(1, len(CHUNKED_RAW) + 1))
def test_chunked_body_in_pieces_of_any_size(size: int) -> None:
    """Payload, trailers and end are the same for all pieces, also when each lies inside other data."""
    body = ChunkedBody(LIMITS, request=True)
    out = b""
    for start in range(0, len(CHUNKED_RAW), size):
        piece = CHUNKED_RAW[start : start + size]
        last = start + size >= len(CHUNKED_RAW)
        data, used = body.feed(b"##" + piece + (b"NEXT" if last else b""), 2)
        out += data
        assert 2 + len(piece) == used
        assert last == body.done

    assert (out, body.trailers) == (b"hello world", b"X-T: 1\r\n")
    assert body.feed(b"NEXT") == (b"", 0)
    body.eof()


def test_what_a_chunked_body_keeps_is_bounded() -> None:
    """Payload is handed on at once; an endless size line or trailer is refused, not kept."""
    body = ChunkedBody(LIMITS, request=True)
    body.feed(b"fffff\r\n")
    for _ in range(10):
        assert len(body.feed(b"x" * 4096)[0]) == 4096
        assert body._partial == b""

    for start in (b"5;", b"0\r\na: "):
        body = ChunkedBody(LIMITS, request=True)
        body.feed(start)
        with pytest.raises(BadMessage):
            feed_many(body, b"x", 10_000)
        assert len(body._partial) <= LIMITS.max_trailer_bytes + 3


def feed_many(body: ChunkedBody, piece: bytes, times: int) -> None:
    for _ in range(times):
        body.feed(piece)


def test_chunks_are_written_in_hex_and_never_empty() -> None:
    """An empty chunk would end the body."""
    assert chunk(b"x" * 31) == b"1f\r\n" + b"x" * 31 + b"\r\n"
    assert chunk(b"") == b""
    assert last_chunk(b"A: b\r\n") == b"0\r\nA: b\r\n\r\n"
