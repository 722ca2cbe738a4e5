"""Huffman-coded strings of HPACK, read by zlib.

HPACK's code (RFC 7541, appendix B) is canonical: within one length the codes ascend with the symbol. So is every
code of DEFLATE (RFC 1951, 3.2.2), only that DEFLATE allows at most 15 bits and fills bytes from the low end. All
characters of a usual field have at most 15 bits, and the longer codes share one prefix of 15 ones, which is also
where a string's padding points. Hence a DEFLATE block whose literals have HPACK's lengths and whose end-of-block
symbol has 15 bits reads an HPACK string, bits reversed in each byte, and stops at its padding or at the first
long code. Such a string (control characters, bytes from 0x80 on, a few more) goes to hpack's own decoder, as does
whatever ends oddly. The block's header is read once; each string starts with a copy of that state.

A table walk in Python costs 0.1 us per byte, this 0.7 us per string. Nothing but literals exists in the block,
so that no input can copy, and 5 bits are the shortest code, so that output is at most 1.6 times the input.
"""

from __future__ import annotations

import zlib
from collections import Counter
from itertools import combinations
from typing import Final

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_constants import REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman

_LONGEST: Final = 15
_LENGTHS: Final = [bits if bits <= _LONGEST else 0 for bits in REQUEST_CODES_LENGTH[:256]]
# How many bits each byte takes, for one check by translate() and sum(). Long ones never get there.
_BITS: Final = bytes(_LENGTHS)
_REVERSED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
# 15 ones end the block wherever padding began. The zero keeps an incomplete last code, finished by one of these
# ones, from finding 15 more.
_TAIL: Final = bytes([0xFF, 0xFE]).translate(_REVERSED)
_SMALLEST_WINDOW: Final = -9
_MAX_PADDING: Final = 7


class _Bits:
    """Bits in DEFLATE's order: numbers from their low end, codes from their high end."""

    def __init__(self) -> None:
        self._bits: list[int] = []

    def number(self, value: int, width: int) -> None:
        self._bits += [value >> place & 1 for place in range(width)]

    def code(self, value: int, width: int) -> None:
        self._bits += [value >> place & 1 for place in reversed(range(width))]

    def packed(self) -> bytes:
        # Not a whole number of bytes would put the first string off by some bits.
        assert len(self._bits) % 8 == 0
        eights = [self._bits[start : start + 8] for start in range(0, len(self._bits), 8)]
        return bytes(sum(bit << place for place, bit in enumerate(eight)) for eight in eights)


# RFC 1951, 3.2.7: the order in which a block says how long the codes for its lengths are.
_ORDER: Final = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)


def _block_header() -> bytes:
    """The header of a last, dynamic block with HPACK's code lengths, a whole number of bytes long."""
    # 256 literals, end of block, and one distance code of no bits, which says that there are none.
    lengths = [*_LENGTHS, _LONGEST, 0]
    counts = Counter(lengths)
    # 11 different lengths: five get a code of three bits, six one of four; that fills the code space. Which five
    # decides only how long the header becomes.
    fixed = 3 + 5 + 5 + 4 + 3 * len(_ORDER)
    for short in combinations(sorted(counts), 5):
        widths = {length: 3 if length in short else 4 for length in counts}
        if (fixed + sum(counts[length] * width for length, width in widths.items())) % 8 == 0:
            break
    ranked = sorted(widths, key=lambda length: (widths[length], length))
    codes = {length: rank if rank < 5 else 10 + rank - 5 for rank, length in enumerate(ranked)}
    bits = _Bits()
    bits.number(1, 1)
    bits.number(2, 2)
    bits.number(len(lengths) - 258, 5)
    bits.number(0, 5)
    bits.number(len(_ORDER) - 4, 4)
    for length in _ORDER:
        bits.number(widths.get(length, 0), 3)
    for length in lengths:
        bits.code(codes[length], widths[length])
    return bits.packed()


_at_first_string: Final = zlib.decompressobj(_SMALLEST_WINDOW)
_at_first_string.decompress(_block_header())
_start: Final = _at_first_string.copy


def huffman_decoded(data: bytes) -> bytes:
    """The bytes that this Huffman-coded string stands for. ValueError if it is not one (RFC 7541, 5.2)."""
    reader = _start()
    text = reader.decompress(data.translate(_REVERSED) + _TAIL)
    if reader.eof:
        if not reader.unused_data:
            return text
        # Seven bits of padding end the block one byte early, as do eight or more, which are an error, and a
        # long code near the end. Counting tells them apart.
        if len(reader.unused_data) == 1 and sum(text.translate(_BITS)) == 8 * len(data) - _MAX_PADDING:
            return text
    try:
        return bytes(decode_huffman(data))
    except HPACKDecodingError as error:
        raise ValueError(str(error)) from error
