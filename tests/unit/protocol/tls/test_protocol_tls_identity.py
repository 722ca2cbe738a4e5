"""Whom a certificate is for: names that match, names that do not, and what is told about them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtensionOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.protocol.tls.identity import (
    MAX_HEADER_NAMES,
    MAX_NAME_CHARS,
    MAX_TOLD_CHARS,
    NameMismatch,
    PeerIdentity,
    told_name,
    verify_name,
)
from tests.tls_making import Authority

CA = Authority("mesh CA")
PLAIN = PeerIdentity(fingerprint="ab", serial=1, not_after=datetime(2030, 1, 1, tzinfo=UTC))


def peer(*dns_names: str, **more: tuple[str, ...] | str) -> PeerIdentity:
    return evolve(PLAIN, dns_names=dns_names, **more)  # type: ignore[arg-type]


def mismatch(identity: PeerIdentity, name: str, *, from_subject: bool = False) -> str:
    with pytest.raises(NameMismatch) as caught:
        verify_name(identity, name, from_subject=from_subject)
    return str(caught.value)


def test_an_identity_holds_all_names_of_a_certificate() -> None:
    """By kind, with what else identifies the certificate."""
    leaf = CA.leaf("Web.mesh", "10.0.0.1", "::1", "spiffe://mesh/web", common_name="web")

    found = PeerIdentity.of(leaf.certificate)

    assert found.dns_names == ("web.mesh",)
    assert found.ips == ("10.0.0.1", "::1")
    assert found.uris == ("spiffe://mesh/web",)
    assert (found.subject, found.common_names) == ("CN=web", ("web",))
    assert found.serial == leaf.serial
    assert found.not_after == leaf.certificate.not_valid_after_utc
    assert len(found.fingerprint) == 64
    assert found.name == "spiffe://mesh/web"


def test_the_one_name_is_the_most_telling_one() -> None:
    """URI, DNS name, address, subject; something is always said."""
    assert peer("a.mesh", ips=("10.0.0.1",)).name == "a.mesh"
    assert peer(ips=("10.0.0.1",), subject="CN=a").name == "10.0.0.1"
    assert peer(subject="CN=a").name == "CN=a"
    assert peer().name == "(no name)"


@pytest.mark.parametrize(
    ("of_certificate", "name"),
    [
        ("web.mesh", "web.mesh"),
        ("web.mesh", "WEB.mesh"),
        ("web.mesh", "web.mesh."),
        ("*.prod.mesh", "web.prod.mesh"),
        ("my_web.mesh", "my_web.mesh"),
        ("10.0.0.1", "10.0.0.1"),
        ("fd00::1", "fd00:0:0:0:0:0:0:1"),
        ("spiffe://mesh/ns/prod/sa/web", "spiffe://mesh/ns/prod/sa/web"),
    ],
)
def test_x1_names_that_match(of_certificate: str, name: str) -> None:
    """DNS names in any case, one label for a star, addresses by value, SPIFFE ids by letter."""
    verify_name(CA.leaf(of_certificate).certificate, name)


@pytest.mark.parametrize(
    ("of_certificate", "name"),
    [
        ("web-v1.mesh", "web.mesh"),
        ("*.prod.mesh", "a.b.prod.mesh"),
        ("*.prod.mesh", "prod.mesh"),
        ("*.prod.mesh", ".prod.mesh"),
        ("*.mesh", "web.mesh"),
        ("web.mesh", "web.mesh.evil.example"),
        ("web.mesh", "*.mesh"),
        ("web.mesh", ""),
        ("10.0.0.1", "10.0.0.2"),
        ("10.0.0.1", "10.0.0.1.mesh"),
        ("web.mesh", "10.0.0.1"),
        ("web.mesh", "12345"),
        ("spiffe://mesh/web", "spiffe://mesh/web2"),
        ("spiffe://mesh/web", "spiffe://mesh/"),
        ("spiffe://mesh/web", "spiffe://mesh"),
        ("spiffe://mesh/web", "mesh"),
        ("mesh", "spiffe://mesh/web"),
        ("https://web.mesh:8443/a:b", "web.mesh"),
    ],
)
def test_x1_names_that_do_not_match(of_certificate: str, name: str) -> None:
    """Also a SPIFFE id with another path, which comparing by host alone would take."""
    with pytest.raises(NameMismatch):
        verify_name(CA.leaf(of_certificate).certificate, name)


def test_x1_the_text_says_what_was_found_and_expected() -> None:
    """Both names, so that one look tells which side is wrong."""
    assert (
        mismatch(peer("web-v1.mesh"), "web.mesh")
        == "peer certificate is for web-v1.mesh, expected web.mesh; see docs/tls.md"
    )
    many = peer("a", "b", "c", "d", uris=("spiffe://m/e",), ips=("10.0.0.1",))
    assert "is for spiffe://m/e, a, b, c, d, 1 more, expected" in mismatch(many, "web.mesh")
    assert "is for spiffe://m/e, a" in mismatch(many, "spiffe://m/f")
    assert "'a b' is no name that a certificate can be for" in mismatch(many, "a b")


def test_x1_a_certificate_without_names_is_for_nobody() -> None:
    """The common name is told, and the key that would make it count if that were enough."""
    old = peer(subject="CN=web.mesh", common_names=("web.mesh",))

    assert "does not count without commonNameFromSubject" in mismatch(old, "web.mesh")
    assert "only a common name, web.mesh" in mismatch(old, "other.mesh")
    assert "is for no name, expected" in mismatch(peer(), "web.mesh")


def test_x1_a_common_name_counts_when_asked_and_nothing_else_is_there() -> None:
    """RFC 6125 6.4.4: a certificate with alternative names has said whom it is for."""
    old = peer(subject="CN=web.mesh", common_names=("web.mesh",))

    verify_name(old, "web.mesh", from_subject=True)
    assert "expected other.mesh" in mismatch(old, "other.mesh", from_subject=True)
    for named in ("x", "spiffe://m/x", "1.1.1.1"):
        issued = CA.leaf(named, common_name="web.mesh").certificate
        assert "expected web.mesh" in mismatch(PeerIdentity.of(issued), "web.mesh", from_subject=True)


@pytest.mark.parametrize(
    "alternatives",
    [b"\x30\x0c\x81\x0aa@web.mesh", b"\x30\x00", b"\x30\x02\xa3\x00", b"\x30\x03\x82\x01\xff"],
    ids=["an e-mail address", "none", "an X.400 address", "not ASCII"],
)
def test_x1_a_common_name_does_not_count_beside_alternative_names_of_any_kind(alternatives: bytes) -> None:
    """Those that are no names of hosts, and those that cannot be parsed, say as well that the subject does not."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    issued = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "web.mesh")]))
        .issuer_name(CA.certificate.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, alternatives), critical=False
        )
        .sign(CA.key, SHA256())
    )

    assert "expected web.mesh" in mismatch(PeerIdentity.of(issued), "web.mesh", from_subject=True)


def test_x1_a_spiffe_certificate_with_two_uris_is_refused() -> None:
    """X509-SVID 5.2: which of them would be believed must not depend on who reads it."""
    two = peer(uris=("spiffe://mesh/web", "spiffe://mesh/admin"))

    assert "has 2 URIs, expected spiffe://mesh/web alone" in mismatch(two, "spiffe://mesh/web")


def test_a_name_that_is_no_pattern_does_not_spoil_the_others() -> None:
    """A star alone, stars inside, an address among the DNS names: they match nothing."""
    odd = peer("*", "w*.*.mesh", "10.0.0.9", "web.mesh")

    verify_name(odd, "web.mesh")
    assert "expected 10.0.0.9" in mismatch(odd, "10.0.0.9")
    assert "expected a.mesh" in mismatch(odd, "a.mesh")


def test_a_star_before_one_label_is_explained() -> None:
    """As for OpenSSL and browsers it would be a certificate for a whole top-level domain."""
    assert "(a * counts only before two labels or more), expected web.mesh" in mismatch(
        peer("*.mesh"), "web.mesh"
    )


def test_hostile_names_cannot_write_into_logs() -> None:
    """Line ends and terminal sequences of a certificate are not repeated, and no name is longer than a line."""
    text = mismatch(peer("a\r\nx: y\x1b[31m", "n" * 5000), "web.mesh")

    assert "a??x: y?[31m" in text
    assert len(text) < 3 * MAX_TOLD_CHARS


def test_the_one_name_cannot_write_into_logs_or_metrics() -> None:
    """Whatever a CA has signed: one line of visible characters, bounded; the names themselves are as they are."""
    hostile = peer(uris=('spiffe://mesh/a\r\n# TYPE evil counter "x"\x1b',))
    assert hostile.name == 'spiffe://mesh/a??# TYPE evil counter "x"?'
    assert hostile.uris == ('spiffe://mesh/a\r\n# TYPE evil counter "x"\x1b',)
    assert peer("n" * 5000).name == "n" * MAX_NAME_CHARS


def test_whatever_a_stranger_calls_itself_is_cut_and_made_visible() -> None:
    """In texts that end in logs and answers."""
    assert told_name(peer("web.mesh", subject="CN=a")) == "web.mesh"
    assert told_name(peer(subject="CN=a\r\nb")) == "CN=a??b"
    assert len(told_name(peer(subject="CN=" + "a" * 5000))) == MAX_TOLD_CHARS + 1


def test_the_header_is_as_linkerd_wrote_it() -> None:
    """Hash, then URIs, DNS names and the subject; only what is known."""
    full = peer("web.mesh", "www.mesh", uris=("spiffe://mesh/web",), subject="CN=web,O=Mesh")

    assert full.client_cert_header() == (
        b'Hash=ab;SAN=spiffe://mesh/web;DNS=web.mesh;DNS=www.mesh;Subject="CN=web,O=Mesh"'
    )
    assert peer().client_cert_header() == b"Hash=ab"


def test_the_header_keeps_its_structure_whatever_a_certificate_says() -> None:
    """Items cannot be added, quotes cannot be closed, lines cannot be ended."""
    evil = peer(
        'a;SAN="b',
        uris=("spiffe://m/x;DNS=admin", "spiffe://m/\r\nhost: y", "spiffe://m/ü,"),
        subject='CN=a\\"b\n\u00fc',
    )

    assert evil.client_cert_header() == (
        b'Hash=ab;SAN="spiffe://m/x;DNS=admin";SAN="spiffe://m/%0D%0Ahost: y";SAN="spiffe://m/%C3%BC,"'
        b';DNS="a;SAN=\\"b";Subject="CN=a\\\\\\"b\\\\0A\\\\C3\\\\BC"'
    )


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4), st.text())
def test_the_header_is_one_line_that_reads_back(dns: list[str], uris: list[str], subject: str) -> None:
    """For any names: visible ASCII, and splitting it gives as many items as were put in."""
    value = peer(*dns, uris=tuple(uris), subject=subject).client_cert_header()

    assert all(0x20 <= byte <= 0x7E for byte in value)
    items, quoted, escaped = 1, False, False
    for byte in value.decode():
        if escaped:
            escaped = False
        elif quoted and byte == "\\":
            escaped = True
        elif byte == '"':
            quoted = not quoted
        elif byte == ";" and not quoted:
            items += 1
    assert not quoted
    assert items == 1 + len(dns) + len(uris) + bool(subject)


def test_the_header_repeats_a_bounded_number_of_names() -> None:
    """A certificate with a thousand names must not make a head that endpoints refuse."""
    value = peer(*(f"{n}.mesh" for n in range(1000))).client_cert_header()

    assert value.count(b"DNS=") == MAX_HEADER_NAMES
