"""Pairs written as header blocks: HPACK (RFC 7541) for the lane engine, one encoder per connection.

Requests that differ share most of their fields. What repeats goes into the dynamic table, once, and is found by one
look-up of the pair from then on; a value that varies (path, trace id, cookie, length) is never added, for an entry
that is not used again costs both sides the adding and shifts the index of all others. Which is which is learned per
name: a value seen twice among the last few is worth an entry, a name that brings new values again and again is not.
Entries are never pushed out by others, so indexes stay and their encodings are kept. Nothing is Huffman-coded: it
saves a quarter of the octets and costs the peer and us more than the kernel takes for those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hpack.table import HeaderTable

from hostmesh.protocol.h2.lane_decode import ENTRY_OVERHEAD, FIRST_DYNAMIC

if TYPE_CHECKING:
    from hostmesh.protocol.h2.engine import Pair, Pairs

MAX_TABLE: Final = 4096
"""Octets of the peer's table that we fill, whatever it offers: the default, and enough for what repeats."""
RECENT_VALUES: Final = 4
"""Values of one name that are remembered while it is not known whether it varies."""
VARIES_AFTER: Final = 12
"""New values of one name that were not among the recent ones, after which it counts as varying."""
MAX_LEARNED_NAMES: Final = 256
"""Names of one connection about which something is remembered. The rest is written literally."""
MAX_LITERAL_NAMES: Final = 1024
"""Names whose literal form the process keeps; cleared when full, as names come from callers."""
MAX_KNOWN_NAME: Final = 64
"""Bytes of the longest name about which anything is remembered."""

# Credentials must not be found by trying (RFC 7541, 7.1.3). Cookies only as short as a guess needs them, as h2.
_SECRET_NAMES: Final = (b"authorization", b"proxy-authorization")
_SHORT_COOKIE: Final = 20

_INDEXED: Final = 0x80, 0x7F
_ADDED: Final = 0x40, 0x3F
_UPDATE: Final = 0x20, 0x1F
_NEVER: Final = 0x10, 0x0F
_PLAIN: Final = 0x00, 0x0F


def _integer(form: tuple[int, int], number: int) -> bytes:
    """``number`` after a prefix: (pattern of the form, largest prefix). RFC 7541, 5.1."""
    pattern, limit = form
    if number < limit:
        return bytes((pattern | number,))
    out = bytearray((pattern | limit,))
    number -= limit
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_STATIC_NAMES: Final[dict[bytes, int]] = {
    name: found[0] for name, found in HeaderTable.STATIC_TABLE_MAPPING.items()
}
_STATIC_PAIRS: Final[dict[Pair, bytes]] = {
    pair: _integer(_INDEXED, index) for index, pair in enumerate(HeaderTable.STATIC_TABLE, 1)
}
_KNOWN_LENGTHS: Final = 1024
LENGTHS: Final = tuple(_integer((0, 0x7F), length) for length in range(_KNOWN_LENGTHS))
"""How the lengths of usual strings are written."""
_literal_names: Final[dict[bytes, bytes]] = {}


def _length(value: bytes) -> bytes:
    size = len(value)
    return LENGTHS[size] if size < _KNOWN_LENGTHS else _integer((0, 0x7F), size)


def _named(form: tuple[int, int], name: bytes) -> bytes:
    """The beginning of a literal: its form and its name."""
    index = _STATIC_NAMES.get(name)
    return _integer(form, index) if index else bytes((form[0],)) + _length(name) + name


_SECRETS: Final = {name: _named(_NEVER, name) for name in _SECRET_NAMES}


def _plainly_named(name: bytes) -> bytes:
    known = _literal_names.get(name)
    if known is None:
        known = _named(_PLAIN, name)
        if len(name) <= MAX_KNOWN_NAME:
            if len(_literal_names) >= MAX_LITERAL_NAMES:
                _literal_names.clear()
            _literal_names[name] = known
    return known


class _Name:
    """What a connection knows of one name."""

    __slots__ = ("literal", "marks", "misses", "part", "value")

    def __init__(self, literal: bytes = b"") -> None:
        self.literal = literal
        """How the name begins where its values are always written literally, since they vary or are secret; else
        b""."""
        self.value = b""
        """A value, and what is written for it at this state of the table; b"" if nothing is known."""
        self.part = b""
        self.misses = 0
        """New values that it brought."""
        self.marks: tuple[int, ...] = ()
        """The hashes of the last: values may be long, and a collision only spends an entry."""


class HeaderEncoder:
    """The writing half of a connection's header compression. Source: RFC 7541."""

    __slots__ = ("_capacity", "_known", "_least", "_names", "_newest", "_numbers", "_offered", "_size")

    def __init__(self) -> None:
        self._capacity = HeaderTable.DEFAULT_SIZE
        # Set when the peer's setting changed since the last block: the smallest size meanwhile, and the last.
        self._least: int | None = None
        self._offered = HeaderTable.DEFAULT_SIZE
        self._size = 0
        # The dynamic table: each entry's number, oldest first; the index follows from the newest number.
        self._numbers: dict[Pair, int] = {}
        self._newest = 0
        # What is written for a pair at this state of the table.
        self._known: dict[Pair, bytes] = dict(_STATIC_PAIRS)
        self._names = {name: _Name(literal) for name, literal in _SECRETS.items()}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._numbers)} entries, {self._size}/{self._capacity} bytes>"

    def offer(self, size: int) -> None:
        """The peer's SETTINGS_HEADER_TABLE_SIZE, bytes."""
        size = min(size, MAX_TABLE)
        if size != self._offered or self._least is not None:
            self._least = size if self._least is None else min(self._least, size)
            self._offered = size

    def encode(self, pairs: Pairs) -> bytes:
        """One whole header block."""
        out: list[bytes] = []
        if self._least is not None:
            out.append(self._resized())
        names = self._names
        for pair in pairs:
            name, value = pair
            # By name first: a pair's hash costs more than all the rest, and that of a value that varies is in vain.
            known = names.get(name)
            if known is None or type(pair) is not tuple:
                out.append(self._first(pair, name, value, known))
            elif known.literal:
                out.append(known.literal)
                size = len(value)
                out.append(LENGTHS[size] if size < _KNOWN_LENGTHS else _integer((0, 0x7F), size))
                out.append(value)
            elif known.part and value == known.value:
                out.append(known.part)
            else:
                part = self._known.get(pair)
                if part is None:
                    part = self._written(pair, name, value, known)
                else:
                    known.value = value
                    known.part = part
                out.append(part)
        return b"".join(out)

    def _first(self, pair: Pair, name: bytes, value: bytes, known: _Name | None) -> bytes:
        """What is written for a pair whose name was not seen before, or which is more than a pair."""
        if known is None and len(self._names) < MAX_LEARNED_NAMES and len(name) <= MAX_KNOWN_NAME:
            known = self._names[name] = _Name()
        return self._known.get(pair) or self._written(pair, name, value, known)

    def _written(self, pair: Pair, name: bytes, value: bytes, known: _Name | None) -> bytes:
        number = self._numbers.get(pair)
        if number is not None:
            part = self._known[pair] = _integer(_INDEXED, FIRST_DYNAMIC + self._newest - number)
            return part
        if (
            # NeverIndexedPair, or hpack's own class of that meaning.
            (pair.__class__ is not tuple and not getattr(pair, "indexable", True))
            or name in _SECRETS
            or (name == b"cookie" and len(value) < _SHORT_COOKIE)
        ):
            return _named(_NEVER, name) + _length(value) + value
        if self._repeats(name, value, known):
            size = len(name) + len(value) + ENTRY_OVERHEAD
            if self._size + size <= self._capacity:
                self._size += size
                self._newest += 1
                self._numbers[name, value] = self._newest
                # Every other dynamic entry has a new index now.
                self._forget()
                return _named(_ADDED, name) + _length(value) + value
        return _plainly_named(name) + _length(value) + value

    def _forget(self) -> None:
        """The table has changed: nothing is known of what is written."""
        self._known.clear()
        self._known.update(_STATIC_PAIRS)
        for known in self._names.values():
            known.part = b""

    def _repeats(self, name: bytes, value: bytes, known: _Name | None) -> bool:
        """Whether this value was among the last of its name; learns it."""
        if known is None:
            return False
        mark = hash(value)
        if not known.marks:
            known.marks = (mark,)
            return False
        if mark in known.marks:
            return True
        if known.misses == VARIES_AFTER:
            # A cookie may be short some day.
            known.literal = _named(_NEVER, name) if name == b"cookie" else _plainly_named(name)
        else:
            known.misses += 1
            known.marks = (*known.marks, mark)[-RECENT_VALUES:]
        return False

    def _resized(self) -> bytes:
        """The updates that a block after a change of the setting must begin with (RFC 7541, 4.2)."""
        least = self._least
        assert least is not None
        self._least = None
        out = b""
        if least < self._capacity:
            while self._size > least:
                name, value = oldest = next(iter(self._numbers))
                del self._numbers[oldest]
                self._size -= len(name) + len(value) + ENTRY_OVERHEAD
            self._forget()
            out = _integer(_UPDATE, least)
            self._capacity = least
        if self._offered != self._capacity:
            self._capacity = self._offered
            out += _integer(_UPDATE, self._offered)
        return out
