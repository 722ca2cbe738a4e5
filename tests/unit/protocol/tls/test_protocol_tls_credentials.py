"""Files of keys, certificates, CAs and revocation lists: what is read, and what is said about bad ones."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.utils import CryptographyDeprecationWarning

from hostmesh.protocol.tls.credentials import MAX_BLOCKS, CredentialError, KeyPair, Pem, Trust
from tests.tls_making import Authority, key_pem, pem

CA = Authority("mesh CA")
LEAF = CA.leaf("web.mesh", "*.Web.mesh", "10.0.0.1", "spiffe://mesh/web")


def pair(cert: bytes = LEAF.cert_pem, key: bytes = LEAF.key_pem, more: bytes | None = None) -> KeyPair:
    intermediates = Pem("/etc/more.pem", more) if more is not None else None
    return KeyPair.read(Pem("/etc/web.pem", cert), Pem("/etc/web.key", key), intermediates)


def refusal(cert: bytes = LEAF.cert_pem, key: bytes = LEAF.key_pem, more: bytes | None = None) -> str:
    with pytest.raises(CredentialError) as caught:
        pair(cert, key, more)
    return str(caught.value)


def test_a_pair_tells_what_its_certificate_says() -> None:
    """Serial number, life, and the DNS names to choose it by, in lower case."""
    found = pair()

    assert found.certificate == LEAF.certificate
    assert found.serial == LEAF.serial
    assert found.not_after - found.not_before == timedelta(days=30, hours=1)
    assert found.not_before < datetime.now(UTC) < found.not_after
    assert found.names == ("web.mesh", "*.web.mesh")
    assert not found.is_ca
    assert found.path == "/etc/web.pem"


def test_a_chain_comes_from_either_file_and_is_shown_once() -> None:
    """Intermediates follow the certificate or have a file of their own; in both they are one."""
    lower = CA.child("lower CA")
    leaf = lower.leaf("web.mesh")

    together = pair(leaf.cert_pem, leaf.key_pem)
    apart = pair(pem(leaf.certificate), leaf.key_pem, lower.pem)
    both = pair(leaf.cert_pem, leaf.key_pem, lower.pem)

    assert together.intermediates == apart.intermediates == both.intermediates == (lower.certificate,)


def test_a_common_name_chooses_only_without_alternative_names() -> None:
    """An old certificate has nothing else to be chosen by."""
    old = CA.leaf(common_name="Old.mesh")
    new = CA.leaf("spiffe://mesh/new", common_name="new.mesh")

    assert pair(old.cert_pem, old.key_pem).names == ("old.mesh",)
    assert pair(new.cert_pem, new.key_pem).names == ()


def test_a_ca_says_that_it_is_one() -> None:
    """Whoever shows a CA's certificate as its own should hear about it."""
    assert pair(CA.pem, key_pem(CA.key)).is_ca


@pytest.mark.parametrize("format_", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_keys_may_be_pkcs8_or_traditional(kind: str, format_: PrivateFormat) -> None:
    """Linkerd 1 wanted PKCS#8; what openssl writes by default works as well, parameters included."""
    key = (
        ec.generate_private_key(ec.SECP256R1()) if kind == "ecdsa" else rsa.generate_private_key(65537, 2048)
    )
    leaf = CA.leaf("web.mesh", key=key)  # type: ignore[arg-type]
    text = key.private_bytes(Encoding.PEM, format_, NoEncryption())
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"

    assert pair(leaf.cert_pem, text).serial == leaf.serial
    if kind == "ecdsa" and format_ is PrivateFormat.TraditionalOpenSSL:
        assert pair(leaf.cert_pem, parameters + text).serial == leaf.serial


def test_ed25519_keys_are_taken() -> None:
    """TLS 1.2 and 1.3 both sign with them."""
    leaf = CA.leaf("web.mesh", key=ed25519.Ed25519PrivateKey.generate())  # type: ignore[arg-type]

    assert pair(leaf.cert_pem, leaf.key_pem).serial == leaf.serial


def test_text_around_the_blocks_is_passed_over() -> None:
    """openssl writes what it prints above the block, and a key may stand in the same file."""
    bundle = b"subject=web\n" + LEAF.key_pem + b"Certificate:\n  Data:\n" + LEAF.cert_pem + b"\n\n"

    assert pair(bundle, bundle).serial == LEAF.serial


def test_each_kind_of_wrong_file_has_its_own_text() -> None:
    """The file is named first, then what is in it, then what should be."""
    der = LEAF.certificate.public_bytes(Encoding.DER)

    assert refusal(b"") == "/etc/web.pem: found an empty file, expected CERTIFICATE in PEM"
    assert refusal(b"hello") == "/etc/web.pem: found no PEM, expected CERTIFICATE in PEM"
    assert refusal(LEAF.key_pem) == "/etc/web.pem: found PRIVATE KEY, expected CERTIFICATE in PEM"
    assert refusal(LEAF.cert_pem[:200]).startswith("/etc/web.pem: found PEM that ends too early")
    assert refusal(der).startswith("/etc/web.pem: found DER")
    assert "a certificate in it cannot be parsed" in refusal(LEAF.cert_pem.replace(b"MII", b"AAA", 1))
    assert refusal(key=LEAF.cert_pem) == "/etc/web.key: found CERTIFICATE, expected PRIVATE KEY in PEM"
    assert refusal(key=b"").startswith("/etc/web.key: found an empty file")
    assert refusal(more=b"").startswith("/etc/more.pem: found an empty file")


def test_a_key_of_another_certificate_is_refused() -> None:
    """Both files are named: nobody can know which one is old."""
    other = CA.leaf("web.mesh")

    text = refusal(key=other.key_pem)

    assert text.startswith("/etc/web.key: this is not the key of the certificate in /etc/web.pem")


def test_a_chain_in_the_wrong_order_is_told_from_a_wrong_key() -> None:
    """The certificate is there, only not first."""
    lower = CA.child("lower CA")
    leaf = lower.leaf("web.mesh")

    text = refusal(lower.pem + pem(leaf.certificate), leaf.key_pem)

    assert text == "/etc/web.pem: the certificate of the key /etc/web.key must be the first one in the file"


def test_an_encrypted_key_is_refused_with_a_way_out() -> None:
    """Nobody is there to type a passphrase when a host starts."""
    text = LEAF.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))

    assert "the private key is encrypted" in refusal(key=text)


def test_a_key_that_tls_cannot_use_is_refused() -> None:
    """DSA is not in TLS 1.3."""
    text = dsa.generate_private_key(2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    assert refusal(key=text) == "/etc/web.key: found a DSAPrivateKey, expected ECDSA, RSA or EdDSA"


def test_a_damaged_key_is_refused() -> None:
    """Its modulus is that of the certificate and its exponent is not: every handshake would fail."""
    whole = rsa.generate_private_key(65537, 2048)
    numbers = whole.private_numbers()
    damaged = rsa.RSAPrivateNumbers(
        p=numbers.p,
        q=numbers.q,
        d=numbers.d + 2,
        dmp1=numbers.dmp1 + 2,
        dmq1=numbers.dmq1,
        iqmp=numbers.iqmp,
        public_numbers=numbers.public_numbers,
    ).private_key(unsafe_skip_rsa_key_validation=True)
    leaf = CA.leaf("web.mesh", key=whole)  # type: ignore[arg-type]
    text = damaged.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    assert (
        refusal(leaf.cert_pem, text)
        == "/etc/web.key: the private key in it is damaged: its signatures are wrong"
    )


def test_old_roots_in_a_bundle_are_no_news() -> None:
    """Of the system's bundle one has the serial number 0, about which the library would write to stderr."""
    root = Authority("old root")
    builder = (
        x509.CertificateBuilder()
        .subject_name(root.certificate.subject)
        .issuer_name(root.certificate.subject)
        .public_key(root.key.public_key())
        .serial_number(1)
        .not_valid_before(root.certificate.not_valid_before_utc)
        .not_valid_after(root.certificate.not_valid_after_utc)
    )
    # The builder refuses 0, so it is put into the DER: an INTEGER of one byte behind the version.
    der = builder.sign(root.key, SHA256()).public_bytes(Encoding.DER)
    at = der.index(b"\xa0\x03\x02\x01\x02\x02\x01\x01") + 7
    text = b64encode(der[:at] + b"\0" + der[at + 1 :])
    lines = b"\n".join(text[n : n + 64] for n in range(0, len(text), 64))

    trust = Trust.read(
        [Pem("/ca", b"-----BEGIN CERTIFICATE-----\n" + lines + b"\n-----END CERTIFICATE-----\n")]
    )

    with pytest.warns(CryptographyDeprecationWarning):
        assert x509.load_der_x509_certificate(der[:at] + b"\0" + der[at + 1 :])
    assert len(trust.cas) == 1


def test_x7_no_text_contains_a_part_of_a_key() -> None:
    """Neither errors about a damaged key nor the reprs of what was read."""
    lines = LEAF.key_pem.decode().splitlines()
    damaged = LEAF.key_pem.replace(b"MIG", b"AAA", 1)

    texts = [
        refusal(key=damaged),
        refusal(key=CA.leaf("x").key_pem),
        repr(pair()),
        repr(Pem("p", LEAF.key_pem)),
    ]

    for text in texts:
        assert not any(line in text for line in lines[1:-1])
        assert "PrivateKey object" not in text


def test_equal_pairs_are_those_that_show_the_same() -> None:
    """A file that was only touched is not a new pair."""
    other = CA.leaf("web.mesh")

    assert pair() == pair()
    assert pair() != pair(other.cert_pem, other.key_pem)
    assert hash(pair()) == hash(pair())


def test_trust_is_of_all_cas_in_all_files_once() -> None:
    """A bundle during a rotation holds the old and the new CA; a file may be given twice."""
    other = Authority("other CA")

    trust = Trust.read([Pem("/a", CA.pem + other.pem), Pem("/b", CA.pem)])

    assert trust.cas == (CA.certificate, other.certificate)
    assert trust == Trust.read([Pem("/c", CA.pem + other.pem)])


def test_trust_without_a_ca_is_refused() -> None:
    """An empty file would mean to trust nobody, and looks like a file that is being written."""
    with pytest.raises(CredentialError, match="/ca: found an empty file"):
        Trust.read([Pem("/ca", b" \n")])


def test_revocation_lists_of_several_cas_may_be_in_one_file() -> None:
    """What openssl ca -gencrl writes, one after another."""
    other = Authority("other CA")
    text = CA.crl(LEAF) + other.crl()

    trust = Trust.read([Pem("/ca", CA.pem)], [Pem("/crl", text)])

    assert len(trust.crls) == 2
    assert trust.crls[0].get_revoked_certificate_by_serial_number(LEAF.serial) is not None


def test_a_list_that_a_trusted_ca_did_not_sign_is_refused() -> None:
    """A wrong signature would make OpenSSL refuse everybody; another CA's list is nobody's business here."""
    impostor = Authority("mesh CA")

    with pytest.raises(
        CredentialError, match=r"/crl: the revocation list of CN=mesh CA is not signed by the CA"
    ):
        Trust.read([Pem("/ca", CA.pem)], [Pem("/crl", impostor.crl())])
    assert Trust.read([Pem("/ca", CA.pem + impostor.pem)], [Pem("/crl", impostor.crl())]).crls
    with pytest.raises(CredentialError, match="/crl: found CERTIFICATE, expected X509 CRL in PEM"):
        Trust.read([Pem("/ca", CA.pem)], [Pem("/crl", CA.pem)])


def test_the_number_of_blocks_in_a_file_is_bounded() -> None:
    """A file that is no bundle of CAs by any measure is not parsed."""
    with pytest.raises(CredentialError, match=f"found {MAX_BLOCKS + 1} of CERTIFICATE"):
        Trust.read([Pem("/ca", CA.pem * (MAX_BLOCKS + 1))])
