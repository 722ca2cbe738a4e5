"""Where a request's own dtab may not lead (T2)."""

from __future__ import annotations

import pytest

from hostmesh.base.var import Turn, Var
from hostmesh.naming.addr import ADDR_PENDING, Addr, Endpoint
from hostmesh.naming.bound import NEG, BoundLeaf, BoundName, BoundTree, BoundUnion, BoundWeighted
from hostmesh.naming.path import Path
from hostmesh.naming.trust import introduced, refusal
from tests.fakes_naming import endpoints

ADMIN = frozenset({("10.0.0.1", 9990), ("127.0.0.1", 9990)})


def leaf(id_: str, addr: Addr) -> BoundLeaf:
    return BoundLeaf(BoundName(Path.read(id_), Var(Turn(), addr)))


@pytest.mark.parametrize(
    ("host", "port", "from_loopback", "from_elsewhere"),
    [
        ("10.0.0.2", 80, "", ""),
        ("10.0.0.2", 9990, "", ""),
        ("2001:db8::1", 80, "", ""),
        ("169.254.169.254", 80, "link-local", "link-local"),
        ("fe80::1", 80, "link-local", "link-local"),
        ("fe80::1%eth0", 80, "link-local", "link-local"),
        ("fd00:ec2::254", 80, "link-local", "link-local"),
        ("::ffff:169.254.169.254", 80, "link-local", "link-local"),
        ("64:ff9b::a9fe:a9fe", 80, "link-local", "link-local"),
        ("2002:a9fe:a9fe::", 80, "link-local", "link-local"),
        ("127.0.0.1", 80, "", "loopback"),
        ("127.9.9.9", 80, "", "loopback"),
        ("::1", 80, "", "loopback"),
        ("0.0.0.0", 80, "", "loopback"),
        ("::", 80, "", "loopback"),
        ("::ffff:127.0.0.1", 80, "", "loopback"),
        ("10.0.0.1", 9990, "the router's own", "the router's own"),
        ("127.0.0.1", 9990, "the router's own", "the router's own"),
        ("::ffff:10.0.0.1", 9990, "the router's own", "the router's own"),
    ],
)  # fmt: skip
def test_t2_refusal(host: str, port: int, from_loopback: str, from_elsewhere: str) -> None:
    """Link-local and the admin address never, loopback only for callers on loopback."""
    endpoint = Endpoint(host, port)

    for local, why in ((True, from_loopback), (False, from_elsewhere)):
        found = refusal([endpoint], local, ADMIN)
        assert (found is None) == (why == "")
        assert why in (found or "")


def test_t2_one_of_many_is_enough() -> None:
    """One endpoint that may not be reached refuses the whole tree."""
    tree: BoundTree = BoundUnion(
        (
            BoundWeighted(1, leaf("/a", endpoints("10.0.0.2:80", "10.0.0.3:80"))),
            BoundWeighted(1, leaf("/b", endpoints("10.0.0.4:80", "169.254.169.254:80"))),
        )
    )

    assert "169.254.169.254:80 is link-local" in (refusal(tree, True, ADMIN) or "")


def test_t2_unknown_addresses_are_not_refused_yet() -> None:
    """A tree without known addresses passes; the endpoint that is picked later will not."""
    assert refusal(leaf("/a", ADDR_PENDING), False, ADMIN) is None
    assert refusal(NEG, False, ADMIN) is None


@pytest.mark.parametrize("everywhere", ["0.0.0.0", "::"])
def test_t2_a_port_of_every_address(everywhere: str) -> None:
    """An admin server on all addresses is forbidden on all addresses."""
    assert refusal([Endpoint("10.9.9.9", 9990)], True, {(everywhere, 9990)}) is not None
    assert refusal([Endpoint("10.9.9.9", 9991)], True, {(everywhere, 9990)}) is None


def test_introduced() -> None:
    """Only names that the base dtab does not lead to anyway are the request's doing."""
    ours, theirs = leaf("/a", ADDR_PENDING), leaf("/b", ADDR_PENDING)
    both = BoundUnion((BoundWeighted(1, ours), BoundWeighted(1, theirs)))

    assert introduced(both, ours) == [theirs.name]
    assert introduced(both, both) == []
    assert introduced(NEG, ours) == []
