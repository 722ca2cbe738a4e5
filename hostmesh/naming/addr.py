"""Addresses: the state of a bound name's replica set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

from attrs import field, frozen


class Endpoint(NamedTuple):
    """One address to dial. A tuple, so that sets of ten thousands sort and compare fast."""

    host: str
    """A numeric IPv4 or IPv6 address in canonical form, never a name."""
    port: int
    weight: float = 1.0
    """Its share of traffic relative to the others of the same set."""
    meta: tuple[tuple[str, str], ...] = ()
    """What the registry says about it, sorted by key."""


def _in_order(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    # Sorted and without duplicates, so that equal sets are equal whatever order a registry told them in, and
    # observers are not woken for nothing. Sorting what is sorted already costs one pass.
    return tuple(dict.fromkeys(sorted(endpoints)))


@frozen
class AddrPending:
    """Not known yet."""


@frozen
class AddrNeg:
    """The name is bound and its replica set does not exist (any more)."""


@frozen
class AddrFailed:
    """Cannot be known now; ``cause`` is for people."""

    cause: str


@frozen
class AddrBound:
    """The replica set, sorted, without duplicates; it may be empty."""

    endpoints: tuple[Endpoint, ...] = field(converter=_in_order)


Addr: TypeAlias = AddrPending | AddrNeg | AddrFailed | AddrBound

ADDR_PENDING: Final = AddrPending()
ADDR_NEG: Final = AddrNeg()
