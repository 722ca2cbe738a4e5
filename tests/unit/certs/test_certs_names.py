"""What may stand in a certificate."""

from __future__ import annotations

import pytest

from hostmesh.base.errors import ConfigError
from hostmesh.certs.names import names_of, read_dns, read_holder, read_ip, read_spiffe, read_trust_domain


def test_a_holder_has_a_dns_name_and_a_spiffe_id_of_its_own() -> None:
    """Without options the names are made of the holder and the trust domain."""
    names = names_of("web", "prod.mesh")

    assert (names.dns, names.spiffe, names.ips) == (("web.prod.mesh",), "spiffe://prod.mesh/web", ())


def test_options_add_names_and_replace_the_spiffe_id() -> None:
    """DNS names and addresses come on top, once each; the SPIFFE ID is replaced, since there may be only one."""
    names = names_of(
        "host-b",
        "mesh",
        dns=("Users.mesh.", "web.mesh", "users.mesh"),
        spiffe="ns/prod/sa/web",
        ips=("192.0.2.1", "2001:DB8::1"),
    )

    assert names.dns == ("host-b.mesh", "users.mesh", "web.mesh")
    assert names.spiffe == "spiffe://mesh/ns/prod/sa/web"
    assert names.ips == ("192.0.2.1", "2001:db8::1")


def test_a_holder_named_in_full_is_not_doubled() -> None:
    """NAME may have the trust domain at its end already."""
    names = names_of("web.mesh", "mesh")

    assert (names.dns, names.spiffe) == (("web.mesh",), "spiffe://mesh/web")


@pytest.mark.parametrize(
    "text", ["", "Web", "a/b", "..", "a..b", ".a", "a.", "-a", "a b", "a\n", "ü", "x" * 64]
)
def test_holders_that_cannot_be_directories_or_names(text: str) -> None:
    """A holder names a directory and a DNS name, so most characters are refused, and the message says which are not."""
    with pytest.raises(ConfigError, match=r"NAME: found .* expected at most 63 of a-z"):
        read_holder(text)


@pytest.mark.parametrize(
    "text",
    ["", "*", "*.mesh", "web.*.mesh", "w*.a.mesh", "a..b", "-a.b", "a b", "bücher.mesh", "a\n", "x." * 130],
)
def test_dns_names_that_verifiers_refuse(text: str) -> None:
    """Too wide or misplaced wildcards, empty labels, other alphabets and overlong names are refused."""
    with pytest.raises(ConfigError, match="--dns: found"):
        read_dns(text)


def test_a_wildcard_of_a_subdomain() -> None:
    """A star with two labels behind it is fine."""
    assert read_dns("*.Web.mesh") == "*.web.mesh"


@pytest.mark.parametrize(
    "text",
    [
        *("", "/", "spiffe://mesh", "spiffe://mesh/", "spiffe://other/web", "spiffe://mesh.evil/web", "a//b"),
        *("a/../b", "./a", "a b", "a%2fb", "web?x", "https://mesh/web", "a" * 2048),
    ],
)
def test_spiffe_ids_of_other_domains_or_shapes(text: str) -> None:
    """Only IDs of the CA's own trust domain, with a plain path (SPIFFE-ID 2.1, 2.2)."""
    with pytest.raises(ConfigError, match="--spiffe: found"):
        read_spiffe(text, "mesh")


@pytest.mark.parametrize("text", ["", "Mesh", "a_b", "a b", "*.mesh", "mesh/", "spiffe://mesh", "x" * 127])
def test_trust_domains_that_cannot_end_a_dns_name(text: str) -> None:
    """The trust domain is also the end of DNS names."""
    with pytest.raises(ConfigError, match="--trust-domain: found"):
        read_trust_domain(text)


def test_an_address_that_is_none() -> None:
    """A name where an address belongs is refused."""
    with pytest.raises(ConfigError, match="--ip: found 'localhost', expected an IPv4 or IPv6 address"):
        read_ip("localhost")
