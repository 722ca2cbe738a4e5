"""Huffman-coded strings through zlib: the same strings, and the same refusals, as hpack's decoder."""

from __future__ import annotations

import random

import pytest
from hpack.exceptions import HPACKDecodingError
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman

from hostmesh.protocol.h2.lane_huffman import huffman_decoded

encode = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode


def read(data: bytes) -> bytes | None:
    """What the lane reads; None when it refuses."""
    try:
        return huffman_decoded(data)
    except ValueError:
        return None


def judged(data: bytes) -> bytes | None:
    """What hpack reads; None when it refuses."""
    try:
        return bytes(decode_huffman(data))
    except HPACKDecodingError:
        return None


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_is_read_at_every_offset_within_an_octet(byte: int) -> None:
    """A string of one byte, after and before others that shift it by 0 to 7 bits, is read as it was written."""
    for before in range(8):
        text = b"0" * before + bytes((byte,)) + b"a"

        assert text == huffman_decoded(encode(text))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"\x7f",
        b"\xff\xff",
        b"\xff\xff\xff\xff",
        b"\x07\xff",
        encode(b"0") + b"\xff",
        encode(b"01234567") + b"\xff",
        encode(b"\\") + b"\xff",
        b"\x00",
        b"\x1c",
        b"\xf8",
        b"\x18",
        b"\xff\xfe",
        b"\xff\xfc\x3f",
    ],
    ids=lambda data: data.hex() or "empty",
)
def test_padding_at_its_edges_is_judged_as_by_hpack(data: bytes) -> None:
    """Seven ones are padding; eight, zeros, and a code cut short are refused (RFC 7541, 5.2)."""
    assert judged(data) == read(data)


def test_random_and_damaged_strings_are_judged_as_by_hpack() -> None:
    """20,000 seeded strings, some with a flipped bit, a lost octet or more padding: same text or same refusal."""
    rng = random.Random(7541)
    alphabets = (bytes(range(256)), bytes(range(32, 127)), b"0123456789abcdef", b"<{`\\^}&\xff")
    for _ in range(20_000):
        alphabet = rng.choice(alphabets)
        data = bytearray(encode(bytes(rng.choices(alphabet, k=rng.randrange(24)))))
        damage = rng.randrange(6)
        if data and damage == 0:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif data and damage == 1:
            del data[-1]
        elif damage == 2:
            data += b"\xff" * rng.randrange(4)
        assert judged(bytes(data)) == read(bytes(data)), bytes(data).hex()
