"""Addresses and bound trees."""

from __future__ import annotations

from hostmesh.base.var import Turn, Var
from hostmesh.naming.addr import ADDR_NEG, ADDR_PENDING, Addr, AddrBound, AddrFailed, Endpoint
from hostmesh.naming.bound import (
    EMPTY,
    NEG,
    BoundLeaf,
    BoundName,
    BoundTree,
    BoundUnion,
    BoundWeighted,
    bound_names,
    shares,
)
from hostmesh.naming.path import Path

TURN = Turn()


def name(text: str, residual: str = "/") -> BoundName:
    addr: Var[Addr] = Var(TURN, ADDR_PENDING)
    return BoundName(Path.read(text), addr, Path.read(residual))


def split(*branches: tuple[float, BoundTree]) -> BoundTree:
    return BoundUnion(tuple(BoundWeighted(weight, tree) for weight, tree in branches))


def test_endpoints_are_a_sorted_set() -> None:
    """Equal sets are equal whatever order they came in."""
    one, two = Endpoint("10.0.0.1", 80), Endpoint("10.0.0.2", 80, weight=2.0)

    assert (one, two) == AddrBound([two, one, two]).endpoints
    assert AddrBound((one, two)) == AddrBound((two, one))
    assert AddrBound((one,)) != AddrBound((two,))


def test_addr_states_differ() -> None:
    """No state is another."""
    states = [ADDR_PENDING, ADDR_NEG, AddrFailed("x"), AddrFailed("y"), AddrBound(())]

    assert len(states) == len(set(states))


def test_bound_name_equality_ignores_the_address() -> None:
    """The same id with the same residual is the same name."""
    assert name("/#/fs/a") == name("/#/fs/a")
    assert name("/#/fs/a") != name("/#/fs/a", "/x")
    assert hash(name("/#/fs/a")) == hash(name("/#/fs/a"))


def test_shares_of_a_nested_union() -> None:
    """A union inside a union is one draw with multiplied shares, and an empty branch keeps its own."""
    a, b = name("/a"), name("/b")
    tree = split((3, BoundLeaf(a)), (1, split((1, BoundLeaf(b)), (1, EMPTY))))

    assert ((0.75, a), (0.125, b), (0.125, None)) == shares(tree)
    assert [a, b] == list(bound_names(tree))


def test_shares_of_zero_weights() -> None:
    """A union of zero weights is split evenly."""
    a, b = name("/a"), name("/b")

    assert ((0.5, a), (0.5, b)) == shares(split((0, BoundLeaf(a)), (0, BoundLeaf(b))))


def test_shares_of_one() -> None:
    """A leaf takes all; what is bound to nothing fails all."""
    a = name("/a")

    assert ((1.0, a),) == shares(BoundLeaf(a))
    assert ((1.0, None),) == shares(NEG)
    assert [] == list(bound_names(NEG))
