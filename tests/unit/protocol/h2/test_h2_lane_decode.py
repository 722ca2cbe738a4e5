"""Header blocks read by the lane's decoder."""

from __future__ import annotations

import random
import re

import pytest
from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError

from hostmesh.protocol.h2.lane_decode import (
    MAX_INTEGER_BYTES,
    MAX_KNOWN_NAMES,
    MAX_REMEMBERED_BLOCKS,
    MAX_REMEMBERED_SIZE,
    HeaderBlockError,
    HeaderDecoder,
    _names,
    list_size,
)
from hostmesh.protocol.h2.lane_pair import NeverIndexedPair


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("82868441 0f 7777 772e 6578 616d 706c 652e 636f 6d", "C.3.1"),
        ("828684418cf1e3c2e5f23a6ba0ab90f4ff", "C.4.1"),
    ],
    ids=["plain", "huffman"],
)
def test_the_first_request_of_the_specification_is_read(block: str, expected: str) -> None:
    """RFC 7541, appendix C.3.1 and C.4.1."""
    decoder = HeaderDecoder()

    pairs = decoder.decode(bytes.fromhex(block))

    assert pairs == (
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"www.example.com"),
    ), expected
    assert repr(decoder) == "<HeaderDecoder 1 entries, 57/4096 bytes>"


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ("80", "index 0"),
        ("be", "an index of no entry"),
        ("ff00", "an index of no entry"),
        ("ff", "truncated"),
        ("40", "truncated"),
        ("0001", "longer than its block"),
        ("000261", "longer than its block"),
        ("00016105", "longer than its block"),
        ("7e0161", "an index of no entry"),
        ("0f800161", "truncated"),
        ("ff808080808000", "too many bytes"),
        ("3fe21f", "more than the 4096 allowed"),
        ("8220", "after a field"),
        ("000081ff", "a bad Huffman string"),
        ("0081ff00", "a bad Huffman string"),
    ],
)
def test_a_block_that_no_encoder_may_write_is_refused(block: str, why: str) -> None:
    """Bad indexes, truncation, overlong integers, misplaced or excessive table sizes, bad Huffman: all are errors."""
    with pytest.raises(HeaderBlockError, match=re.escape(why)):
        HeaderDecoder().decode(bytes.fromhex(block))


def test_an_integer_of_the_most_bytes_allowed_is_still_read() -> None:
    """Five bytes after the prefix are an integer; the sixth is refused, as by hpack."""
    longest = b"\x00\x00\x7f" + b"\x80" * (MAX_INTEGER_BYTES - 1) + b"\x00" + b"v" * 127

    assert HeaderDecoder().decode(longest) == ((b"", b"v" * 127),)


def test_a_field_never_to_be_indexed_stays_marked_but_equals_the_plain_pair() -> None:
    """A proxy must write such a field in the same form (RFC 7541, 6.2.3), so look-ups must not find its twin."""
    ((name, value),) = pairs = HeaderDecoder().decode(bytes.fromhex("1003616263 0178".replace(" ", "")))

    assert pairs == ((b"abc", b"x"),)
    assert NeverIndexedPair is type(pairs[0])
    assert hash((name, value)) != hash(pairs[0])


def test_a_lowered_table_needs_an_update_in_the_next_block() -> None:
    """Once the peer has acknowledged a smaller table, a block without the update is an error (RFC 7541, 4.2)."""
    decoder = HeaderDecoder()
    decoder.allowed = 100

    with pytest.raises(HeaderBlockError, match="after the setting was lowered"):
        decoder.decode(b"\x82")


def test_an_entry_larger_than_the_table_empties_it() -> None:
    """It is no error, and the next block finds nothing (RFC 7541, 4.4)."""
    decoder = HeaderDecoder()
    decoder.decode(b"\x40\x01a\x01b")
    decoder.decode(b"\x40\x01a\x7f\x81\x1f" + b"v" * 4096)

    assert repr(decoder) == "<HeaderDecoder 0 entries, 0/4096 bytes>"


def test_only_a_few_short_blocks_are_remembered_and_none_after_a_change() -> None:
    """Remembered blocks are bounded in number and size, and forgotten when the table changes."""
    decoder = HeaderDecoder()
    for number in range(MAX_REMEMBERED_BLOCKS + 1):
        decoder.decode(b"\x00\x01a\x01" + bytes((97 + number,)))
    remembered = len(decoder._blocks)
    decoder.decode(b"\x00\x01a\x7f\x81\x03" + b"v" * MAX_REMEMBERED_SIZE)
    after_long = len(decoder._blocks)
    decoder.decode(b"\x40\x01a\x01b")

    assert remembered == 1
    assert after_long == 1
    assert decoder._blocks == {}


def test_known_names_are_bounded() -> None:
    """Callers choose names, so the names the process keeps for their Huffman forms are cleared when full."""
    encoder, decoder = Encoder(), HeaderDecoder()
    for number in range(MAX_KNOWN_NAMES + 10):
        decoder.decode(encoder.encode([(b"x-%d" % number, b"1")]))

    assert len(_names) <= MAX_KNOWN_NAMES


def test_a_list_is_over_exactly_when_its_size_is() -> None:
    """The cheap bound never hides a list over the limit, and the exact size decides near it."""
    decoder = HeaderDecoder()
    block = b"\x40\x01a\x7f\x85\x06" + b"v" * 900 + b"\xbe" * 9
    pairs = decoder.decode(block)

    assert list_size(pairs) == 10 * (1 + 900 + 32)
    assert decoder.is_over(pairs, block, 9329)
    assert not decoder.is_over(pairs, block, 9330)
    assert not decoder.is_over(pairs, block, 1 << 20)


def judged(decoder: Decoder, block: bytes) -> list[tuple[bytes, bytes]] | None:
    """What hpack reads; None when it refuses."""
    try:
        return [tuple(pair) for pair in decoder.decode(block, raw=True)]
    except (HPACKError, IndexError):
        return None


def test_random_dialogues_and_damaged_blocks_are_read_as_by_hpack() -> None:
    """Seeded encoders with changing tables and values, one block in eight damaged: same fields or same refusal."""
    rng = random.Random(9113)
    blocks = refused = 0
    while blocks < 20_000:
        encoder, mine, judge = Encoder(), HeaderDecoder(), Decoder()
        judge.max_header_list_size = 1 << 30
        for _ in range(rng.randrange(1, 60)):
            if rng.random() < 0.05:
                encoder.header_table_size = rng.choice((0, 60, 200, 1000, 4096))
            fields = [
                (
                    b"name-%d" % rng.randrange(20),
                    b"%x" % rng.getrandbits(rng.choice((1, 4, 64, 600))),
                    rng.random() < 0.2,
                )
                for _ in range(rng.randrange(8))
            ]
            fields += [
                (b":path", b"/%d" % rng.randrange(9)),
                (b"cookie", bytes(rng.choices(range(256), k=9))),
            ]
            block = bytearray(encoder.encode(fields, huffman=rng.random() < 0.5))
            damaged = rng.random() < 0.125
            if damaged:
                for _ in range(rng.randrange(1, 4)):
                    block[rng.randrange(len(block))] = rng.randrange(256)
                if rng.random() < 0.3:
                    del block[rng.randrange(len(block)) :]
            blocks += 1
            expected = judged(judge, bytes(block))
            try:
                found = [tuple(pair) for pair in mine.decode(bytes(block))]
            except HeaderBlockError:
                found = None
            assert expected == found, bytes(block).hex()
            if expected is None:
                refused += 1
            if damaged:
                break
    assert refused > 500
