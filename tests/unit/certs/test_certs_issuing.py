"""What the certificates and revocation lists say, and what OpenSSL and Python make of them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from hostmesh.certs.issuing import (
    BACKDATED,
    CRL_LIFE,
    Authority,
    Revocation,
    issue,
    make_authority,
    revocation_list,
)
from hostmesh.certs.names import names_of
from hostmesh.certs.work import new_serial
from tests.certs_world import NOON, openssl_says

WEEK = timedelta(days=7)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def authority() -> Authority:
    return make_authority(
        new_key(), name="test", trust_domain="mesh", serial=0xCA, now=NOON, life=timedelta(days=3650)
    )


def leaf_of(authority: Authority, *, life: timedelta = WEEK) -> x509.Certificate:
    names = names_of("web", "mesh", dns=("www.example",), ips=("192.0.2.1",))
    return issue(authority, new_key().public_key(), names, serial=0x1EAF, now=NOON, life=life)


def write(folder: Path, name: str, thing: x509.Certificate | x509.CertificateRevocationList) -> Path:
    file = folder / name
    file.write_bytes(thing.public_bytes(serialization.Encoding.PEM))
    return file


def test_the_ca_may_sign_leaves_and_lists_only(authority: Authority) -> None:
    """Critical constraints with path length 0, critical usages, key identifiers."""
    extensions = authority.certificate.extensions

    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    identifier = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.crl_sign) == (True, True, True)
    assert not usage.value.digital_signature
    by = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert by.key_identifier == identifier.digest


def test_a_leaf_serves_and_calls_and_signs_nothing(authority: Authority) -> None:
    """No CA, digital signature, server and client authentication, all its names, the identifier of its issuer."""
    leaf = leaf_of(authority)
    extensions = leaf.extensions

    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    by = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    issuer = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert (constraints.critical, constraints.value.ca) == (True, False)
    assert (usage.critical, usage.value.digital_signature, usage.value.key_cert_sign) == (True, True, False)
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    ]
    assert names.get_values_for_type(x509.DNSName) == ["web.mesh", "www.example"]
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://mesh/web"]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.1"]
    assert by.key_identifier == issuer.digest
    assert extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest != issuer.digest
    assert leaf.version == x509.Version.v3
    assert isinstance(leaf.signature_hash_algorithm, hashes.SHA256)
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)


def test_a_leaf_is_valid_from_before_it_was_made(authority: Authority) -> None:
    """Five minutes for clocks that are late; the life counts from now."""
    leaf = leaf_of(authority)

    assert (leaf.not_valid_before_utc, leaf.not_valid_after_utc) == (NOON - timedelta(minutes=5), NOON + WEEK)
    assert timedelta(minutes=5) == BACKDATED


def test_a_leaf_never_outlives_its_ca(authority: Authority) -> None:
    """A longer life is cut to that of the CA."""
    assert leaf_of(authority, life=timedelta(days=9999)).not_valid_after_utc == NOON + timedelta(days=3650)


def test_two_generations_of_a_ca_have_different_subjects() -> None:
    """A verifier that finds the issuer by its name alone finds the right one."""
    one, two = (
        make_authority(new_key(), name="test", trust_domain="mesh", serial=serial, now=NOON, life=WEEK)
        for serial in (0x10001, 0x10002)
    )

    assert one.certificate.subject != two.certificate.subject


def test_serial_numbers_are_positive_long_and_different() -> None:
    """16 bytes with 126 random bits, and never negative as DER."""
    serials = {new_serial() for _ in range(1000)}

    assert len(serials) == 1000
    assert {serial.bit_length() for serial in serials} == {127}


@pytest.mark.server("openssl")
@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
def test_openssl_accepts_a_leaf_for_both_sides(authority: Authority, tmp_path: Path, purpose: str) -> None:
    """``openssl verify -x509_strict`` with the revocation list is content."""
    leaf = write(tmp_path, "cert.pem", leaf_of(authority))
    bundle = write(tmp_path, "ca.pem", authority.certificate)
    crl = write(tmp_path, "crl.pem", revocation_list(authority, (), number=1, now=NOON))

    assert openssl_says(leaf, bundle, crl, NOON, purpose) == f"{leaf}: OK"


@pytest.mark.server("openssl")
def test_openssl_refuses_what_is_over_revoked_or_of_another_ca(authority: Authority, tmp_path: Path) -> None:
    """The same leaf after its end, on the list, and with another CA of the same name."""
    leaf = leaf_of(authority)
    file = write(tmp_path, "cert.pem", leaf)
    bundle = write(tmp_path, "ca.pem", authority.certificate)
    revoked = Revocation(
        serial=leaf.serial_number, authority=authority.serial, at=NOON, not_after=leaf.not_valid_after_utc
    )
    crl = write(tmp_path, "crl.pem", revocation_list(authority, (revoked,), number=2, now=NOON))
    other = make_authority(new_key(), name="test", trust_domain="mesh", serial=0xCA, now=NOON, life=WEEK)
    strange = write(tmp_path, "other.pem", other.certificate)

    assert "certificate has expired" in openssl_says(file, bundle, None, NOON + WEEK * 2, "sslserver")
    assert "certificate revoked" in openssl_says(file, bundle, crl, NOON, "sslserver")
    assert "unable to get local issuer" in openssl_says(file, strange, None, NOON, "sslserver")


def test_a_revocation_list_has_a_number_and_only_its_own(authority: Authority) -> None:
    """CRL number, identifier of the CA, an end; certificates of another CA are not on it."""
    mine = Revocation(serial=7, authority=authority.serial, at=NOON, not_after=NOON + WEEK)
    strange = Revocation(serial=8, authority=0xBAD, at=NOON, not_after=NOON + WEEK)

    crl = revocation_list(authority, (mine, strange), number=41, now=NOON)

    assert [each.serial_number for each in crl] == [7]
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 41
    assert crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert (crl.last_update_utc, crl.next_update_utc) == (NOON - BACKDATED, NOON + CRL_LIFE)
    assert crl.is_signature_valid(authority.key.public_key())
