"""Certificates, CAs and revocation lists with bytes changed: refused with a reason, or good for a handshake.

The libraries parse lazily and disagree about what can be parsed, so what one of them took may surprise the other later,
in the middle of somebody's handshake. No exception but our own may come of any bytes.
"""

from __future__ import annotations

import contextlib
from base64 import b64encode
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL, crypto

from hostmesh.daemon.pem_content import read_pair, read_trust
from hostmesh.protocol.tls.contexts import ClientContext, ServerContexts
from hostmesh.protocol.tls.credentials import CredentialError, KeyPair, Pem
from hostmesh.protocol.tls.failures import TlsFailure
from hostmesh.protocol.tls.identity import NameMismatch, PeerIdentity, verify_name
from tests.tls_making import Authority

CA = Authority("mesh CA")
LEAF = CA.leaf("web.mesh", "10.0.0.1", "spiffe://mesh/web", common_name="web")
CERT = LEAF.certificate.public_bytes(Encoding.DER)
ROOT = CA.certificate.public_bytes(Encoding.DER)
CRL = x509.load_pem_x509_crl(CA.crl(LEAF)).public_bytes(Encoding.DER)
SERVER = ServerContexts(
    [KeyPair.read(Pem("/c", LEAF.cert_pem), Pem("/k", LEAF.key_pem))],
    read_trust(["/ca"], None)(lambda path: Pem(path, CA.pem)).value,
    require_client_auth=True,
)

Changes: TypeAlias = list[tuple[float, int]]
"""Where in the bytes, from 0 to 1, and what is written there."""

changes = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4)


def changed(der: bytes, what: Changes) -> bytes:
    data = bytearray(der)
    for at, byte in what:
        data[int(at * len(data))] = byte
    return bytes(data)


def pem(der: bytes, label: bytes) -> bytes:
    return b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (label, b64encode(der), label)


@given(changes)
@settings(max_examples=500, deadline=None)
def test_a_changed_pair_is_refused_or_shown(what: Changes) -> None:
    """CredentialError is the only way to say no, when it is read or when OpenSSL is given it."""
    files = {"/c": pem(changed(CERT, what), b"CERTIFICATE"), "/k": LEAF.key_pem}
    with contextlib.suppress(CredentialError):
        content = read_pair("/c", "/k", None)(lambda path: Pem(path, files[path]))
        assert content.items[0].label
        ServerContexts([content.value])


@given(changes, changes)
@settings(max_examples=500, deadline=None)
def test_changed_cas_and_lists_are_refused_or_trusted(of_ca: Changes, of_crl: Changes) -> None:
    """Both files at once, and each with the other as it should be."""
    ca, crl = pem(changed(ROOT, of_ca), b"CERTIFICATE"), pem(changed(CRL, of_crl), b"X509 CRL")
    for files in (
        {"/ca": ca, "/crl": crl},
        {"/ca": ca, "/crl": CA.crl()},
        {"/ca": CA.pem, "/crl": crl},
    ):
        with contextlib.suppress(CredentialError):
            content = read_trust(["/ca"], "/crl")(lambda path, files=files: Pem(path, files[path]))  # type: ignore[misc]
            assert content.items[0].label
            ClientContext(content.value)


@given(changes)
@settings(max_examples=500, deadline=None)
def test_a_changed_certificate_has_an_identity_that_proves_nothing_else(what: Changes) -> None:
    """Names that cannot be parsed are none; reading them never raises."""
    try:
        certificate = x509.load_der_x509_certificate(changed(CERT, what))
    except Exception:
        return
    identity = PeerIdentity.of(certificate)
    assert identity.name
    assert b"\n" not in identity.client_cert_header()
    for name in ("web.mesh", "spiffe://mesh/web", "10.0.0.1"):
        with contextlib.suppress(NameMismatch):
            verify_name(identity, name)


@given(changes)
@settings(max_examples=500, deadline=None)
def test_x5_a_caller_with_a_changed_certificate_is_refused(what: Changes) -> None:
    """By an alert with a reason, whatever its certificate is: that a stranger sends it is enough to parse it."""
    der = changed(CERT, what)
    if der == CERT:
        return
    caller = SSL.Context(SSL.TLS_METHOD)
    try:
        caller.use_certificate(crypto.load_certificate(crypto.FILETYPE_ASN1, der))
        caller.use_privatekey(LEAF.key)
    except Exception:
        return  # nobody can show what OpenSSL cannot load
    connection = SSL.Connection(caller)
    connection.set_connect_state()
    codec = SERVER.connection()
    refusal = None
    for _flight in range(4):
        with contextlib.suppress(SSL.WantReadError):
            connection.do_handshake()
        try:
            connection.bio_write(codec.handshake(connection.bio_read(1 << 16)))
        except SSL.WantReadError:
            continue
        except TlsFailure as failure:
            refusal = failure
            break
        assert not codec.established
    assert refusal is not None
    assert refusal.farewell
