"""A pair that must not be compressed. In a module of its own: it inherits from tuple, so it is never compiled."""

from __future__ import annotations

from hpack.struct import NeverIndexedHeaderTuple


class NeverIndexedPair(NeverIndexedHeaderTuple):
    """A field that came with the order never to index it, which a proxy must pass on (RFC 7541, 6.2.3).

    It equals the plain pair but hashes differently, so that an encoder which looks pairs up does not find an equal
    one that is indexed, without asking each pair for its class.
    """

    __slots__ = ()

    def __hash__(self) -> int:
        return ~tuple.__hash__(self)
