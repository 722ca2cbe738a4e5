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

    assert AddrBound([two, one, two]).endpoints == (one, two)
    assert AddrBound((two, one)) == AddrBound((one, two))
    assert AddrBound((two,)) != AddrBound((one,))


def test_addr_states_differ() -> None:
    """No state is another."""
    states = [ADDR_PENDING, ADDR_NEG, AddrFailed("x"), AddrFailed("y"), AddrBound(())]

    assert len(set(states)) == len(states)


def test_bound_name_equality_ignores_the_address() -> None:
    """The same id with the same residual is the same name."""
    assert name("/#/fs/a") == name("/#/fs/a")
    assert name("/#/fs/a", "/x") != name("/#/fs/a")
    assert hash(name("/#/fs/a")) == hash(name("/#/fs/a"))


def test_shares_of_a_nested_union() -> None:
    """A union inside a union is one draw with multiplied shares, and an empty branch keeps its own."""
    a, b = name("/a"), name("/b")
    tree = split((3, BoundLeaf(a)), (1, split((1, BoundLeaf(b)), (1, EMPTY))))

    assert shares(tree) == ((0.75, a), (0.125, b), (0.125, None))
    assert list(bound_names(tree)) == [a, b]


def test_shares_of_zero_weights() -> None:
    """A union of zero weights is split evenly."""
    a, b = name("/a"), name("/b")

    assert shares(split((0, BoundLeaf(a)), (0, BoundLeaf(b)))) == ((0.5, a), (0.5, b))


def test_shares_of_one() -> None:
    """A leaf takes all; what is bound to nothing fails all."""
    a = name("/a")

    assert shares(BoundLeaf(a)) == ((1.0, a),)
    assert shares(NEG) == ((1.0, None),)
    assert list(bound_names(NEG)) == []
