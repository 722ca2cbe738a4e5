"""Header blocks read into pairs: HPACK (RFC 7541) for the lane engine, one decoder per connection.

Measured on heads of 12 fields, three of them new in each request: what costs is Huffman (see lane_huffman) and calls,
so strings of usual length are cut out in line. A block that changes nothing in the table is remembered whole until the
table changes; peers that repeat themselves then cost one look-up.
"""

from __future__ import annotations

from typing import Final

from hpack.table import HeaderTable

from hostmesh.protocol.h2.engine import Pair
from hostmesh.protocol.h2.lane_huffman import huffman_decoded
from hostmesh.protocol.h2.lane_pair import NeverIndexedPair

ENTRY_OVERHEAD: Final = 32
"""What RFC 7541, 4.1 counts for each field besides its octets."""
STATIC: Final[tuple[Pair, ...]] = ((b"", b""), *HeaderTable.STATIC_TABLE)
"""The static table, from index 1."""
FIRST_DYNAMIC: Final = len(STATIC)
_STATIC_NAMES: Final = tuple(name for name, _value in STATIC)

MAX_REMEMBERED_BLOCKS: Final = 16
"""Blocks of one connection that are known whole: a few routes and answers. More would mean that they vary."""
MAX_REMEMBERED_SIZE: Final = 512
"""Bytes of the largest of them: repeated blocks are short, by the dynamic table."""
MAX_KNOWN_NAMES: Final = 1024
"""Huffman-coded names that the process knows; cleared when full."""
MAX_INTEGER_BYTES: Final = 5
"""Bytes after the prefix, as hpack: 35 bits. More is an attack (RFC 7541, 5.1)."""

# entries[_NEWEST - index] is the dynamic entry with this index.
_NEWEST: Final = FIRST_DYNAMIC - 1
_SHORT: Final = 0x7F
_HUFFMAN: Final = 0x80

_names: Final[dict[bytes, bytes]] = {}


class HeaderBlockError(ValueError):
    """A block that no encoder may write. The table is out of step now: the connection must end (RFC 9113, 4.3).

    ``pairs`` are the fields before the mistake.
    """

    pairs: list[Pair] | tuple[Pair, ...] = ()


def list_size(pairs: list[Pair] | tuple[Pair, ...]) -> int:
    """The size of a list as SETTINGS_MAX_HEADER_LIST_SIZE counts it (RFC 9113, 6.5.2), bytes."""
    return sum([len(name) + len(value) for name, value in pairs]) + ENTRY_OVERHEAD * len(pairs)


class HeaderDecoder:
    """The reading half of a connection's header compression.

    ``allowed`` is the largest table that our acknowledged settings permit, bytes. After a HeaderBlockError the object
    is of no use. Source: RFC 7541.
    """

    __slots__ = ("_blocks", "_capacity", "_entries", "_size", "_widest", "allowed")

    def __init__(self, allowed: int = HeaderTable.DEFAULT_SIZE) -> None:
        self.allowed = allowed
        self._capacity = min(allowed, HeaderTable.DEFAULT_SIZE)
        # Oldest first, so that index 62 is entries[-1] and adding moves nothing.
        self._entries: list[Pair] = []
        self._size = 0
        self._widest = 0
        self._blocks: dict[bytes, tuple[Pair, ...]] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._entries)} entries, {self._size}/{self._capacity} bytes>"

    def is_over(self, pairs: tuple[Pair, ...], block: bytes, limit: int) -> bool:
        """Whether ``pairs``, just decoded from ``block``, count for more than ``limit`` bytes."""
        # No field is larger than the largest entry plus what its literal strings hold: usually proof enough.
        at_most = len(pairs) * (self._widest + 128) + 2 * len(block)
        return at_most > limit and list_size(pairs) > limit

    def decode(self, block: bytes) -> tuple[Pair, ...]:
        """The fields of one whole header block, in order. The result may be shared. Raises HeaderBlockError."""
        known = self._blocks.get(block)
        if known is not None:
            return known
        entries = self._entries
        pairs: list[Pair] = []
        at = 0
        size = len(block)
        changed = False
        try:
            while at < size:
                first = block[at]
                at += 1
                if first >= 0x80:
                    if first > 0xBD:
                        if first == 0xFF:
                            index, at = self._integer(block, at, 0x7F)
                            pairs.append(entries[_NEWEST - index])
                        else:
                            pairs.append(entries[_NEWEST + 0x80 - first])
                    elif first != 0x80:
                        pairs.append(STATIC[first & 0x7F])
                    else:
                        raise HeaderBlockError("index 0")
                    continue
                if first >= 0x40:
                    index = first & 0x3F
                    if index == 0x3F:
                        index, at = self._integer(block, at, 0x3F)
                elif first >= 0x20:
                    if pairs:
                        raise HeaderBlockError("a table size update after a field")
                    capacity = first & 0x1F
                    if capacity == 0x1F:
                        capacity, at = self._integer(block, at, 0x1F)
                    self._resize(capacity)
                    changed = True
                    continue
                else:
                    index = first & 0x0F
                    if index == 0x0F:
                        # Most names of the static table, all of the dynamic one: usually one octet more.
                        if block[at] < 0x80:
                            index += block[at]
                            at += 1
                        else:
                            index, at = self._integer(block, at, 0x0F)
                if not index:
                    name, at = self._name(block, at)
                elif index < FIRST_DYNAMIC:
                    name = _STATIC_NAMES[index]
                else:
                    name = entries[_NEWEST - index][0]
                length = block[at]
                at += 1
                stop = at + (length & _SHORT)
                if length & _SHORT == _SHORT:
                    if block[at] < 0x80:
                        # Up to 254 octets: credentials, cookies.
                        stop += 1 + block[at]
                        at += 1
                    else:
                        stop, at = self._integer(block, at, _SHORT)
                        stop += at
                value = block[at:stop]
                at = stop
                if at > size:
                    raise HeaderBlockError("a string longer than its block")
                if length >= _HUFFMAN:
                    value = huffman_decoded(value)
                if first >= 0x40:
                    pair = (name, value)
                    self._add(pair)
                    changed = True
                    pairs.append(pair)
                elif first >= 0x10:
                    pairs.append(NeverIndexedPair(name, value))
                else:
                    pairs.append((name, value))
        except (IndexError, ValueError) as error:
            raise _refused(error, pairs) from None
        if self._capacity > self.allowed:
            # We lowered the setting and the peer has acknowledged it: the block had to start with an update.
            raise _refused(HeaderBlockError("no table size update after the setting was lowered"), pairs)
        done = tuple(pairs)
        if changed:
            self._blocks.clear()
        elif size <= MAX_REMEMBERED_SIZE:
            if len(self._blocks) >= MAX_REMEMBERED_BLOCKS:
                self._blocks.clear()
            self._blocks[block] = done
        return done

    @staticmethod
    def _integer(block: bytes, at: int, prefix: int) -> tuple[int, int]:
        """An integer whose prefix was full, and where it ends (RFC 7541, 5.1)."""
        number = prefix
        shift = 0
        for place in range(at, at + MAX_INTEGER_BYTES):
            octet = block[place]
            number += (octet & 0x7F) << shift
            if octet < 0x80:
                return number, place + 1
            shift += 7
        raise HeaderBlockError("an integer of too many bytes")

    def _name(self, block: bytes, at: int) -> tuple[bytes, int]:
        length = block[at]
        at += 1
        stop = length & _SHORT
        if stop == _SHORT:
            stop, at = self._integer(block, at, _SHORT)
        stop += at
        name = block[at:stop]
        if stop > len(block):
            raise HeaderBlockError("a string longer than its block")
        if length >= _HUFFMAN:
            known = _names.get(name)
            if known is None:
                known = huffman_decoded(name)
                if len(_names) >= MAX_KNOWN_NAMES:
                    _names.clear()
                if len(name) <= MAX_REMEMBERED_SIZE:
                    _names[name] = known
            name = known
        return name, stop

    def _add(self, pair: Pair) -> None:
        size = len(pair[0]) + len(pair[1]) + ENTRY_OVERHEAD
        entries = self._entries
        if size > self._capacity:
            # Not an error: it empties the table (RFC 7541, 4.4).
            entries.clear()
            self._size = self._widest = 0
            return
        entries.append(pair)
        if size > self._widest:
            self._widest = size
        self._size += size
        if self._size > self._capacity:
            self._evict()

    def _evict(self) -> None:
        entries = self._entries
        excess = self._size - self._capacity
        count = 0
        while excess > 0:
            name, value = entries[count]
            excess -= len(name) + len(value) + ENTRY_OVERHEAD
            count += 1
        del entries[:count]
        self._size = self._capacity + excess

    def _resize(self, capacity: int) -> None:
        if capacity > self.allowed:
            raise HeaderBlockError(f"a table of {capacity} bytes, more than the {self.allowed} allowed")
        self._capacity = capacity
        if self._size > capacity:
            self._evict()


def _refused(error: Exception, pairs: list[Pair]) -> HeaderBlockError:
    if isinstance(error, IndexError):
        refused = HeaderBlockError("an index of no entry, or a truncated block")
    elif isinstance(error, HeaderBlockError):
        refused = error
    else:
        refused = HeaderBlockError(f"a bad Huffman string: {error}")
    refused.pairs = pairs
    return refused
