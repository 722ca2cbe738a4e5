"""Making certificates and revocation lists: keys, serial numbers and the time of day are arguments.

The profile is that of RFC 5280 (4.1, 4.2, 5.2) as strict verifiers read it (OpenSSL's X509_V_FLAG_X509_STRICT, on
by default in Python 3.13): key identifiers everywhere, critical constraints and usages, and of SPIFFE's X.509-SVID.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Final

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hostmesh.certs.names import Names

BACKDATED: Final = timedelta(minutes=5)
"""Certificates are valid from a little before they are made: the clocks of hosts differ."""

DEFAULT_LIFE: Final = timedelta(days=7)
"""Of a leaf certificate. Short, since whoever stole a key can use it for so long where no CRL is read."""

MIN_LIFE: Final = timedelta(hours=1)
"""Renewal begins 20 minutes before the end then, four looks of ``rotate --watch``."""

MAX_LIFE: Final = timedelta(days=90)

CA_LIFE: Final = timedelta(days=3650)
MAX_CA_LIFE: Final = timedelta(days=7300)

CRL_LIFE: Final = timedelta(days=30)
"""A verifier that reads a CRL refuses every certificate once the list is past its nextUpdate."""

MAX_CN: Final = 64


@frozen(kw_only=True)
class Authority:
    """A CA that can sign."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def serial(self) -> int:
        return self.certificate.serial_number


@frozen(kw_only=True)
class Revocation:
    """A certificate that is no longer to be believed."""

    serial: int
    authority: int
    """Serial number of the CA that issued it."""
    at: datetime
    not_after: datetime
    """When it ends by itself, and need not be listed any more."""


def make_authority(
    key: ec.EllipticCurvePrivateKey,
    *,
    name: str,
    trust_domain: str,
    serial: int,
    now: datetime,
    life: timedelta,
) -> Authority:
    """A CA that signs itself and nothing but leaves (path length 0)."""
    # The subject says which one it is, so that two generations in one bundle are never confused.
    generation = f"{now:%Y-%m-%d} {serial & 0xFFFF:04x}"
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain[:MAX_CN]),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{name} CA {generation}"),
        ]
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate=certificate, key=key)


def issue(
    authority: Authority,
    public_key: ec.EllipticCurvePublicKey,
    names: Names,
    *,
    serial: int,
    now: datetime,
    life: timedelta,
) -> x509.Certificate:
    """A leaf certificate for both sides of a connection. It never outlives the CA."""
    end = min(now + life, authority.certificate.not_valid_after_utc)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names.holder)]))
        .issuer_name(authority.certificate.subject)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(now - BACKDATED)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(
            # A proxy is a server to its callers and a client to endpoints, often with one certificate.
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    *(x509.DNSName(name) for name in names.dns),
                    x509.UniformResourceIdentifier(names.spiffe),
                    *(x509.IPAddress(ip_address(address)) for address in names.ips),
                ]
            ),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(_issuer_identifier(authority), critical=False)
        .sign(authority.key, hashes.SHA256())
    )


def revocation_list(
    authority: Authority,
    revocations: Iterable[Revocation],
    *,
    number: int,
    now: datetime,
    life: timedelta = CRL_LIFE,
) -> x509.CertificateRevocationList:
    """The CRL of one CA, with those revocations that are of its certificates. ``number`` must grow."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now - BACKDATED)
        .next_update(now + life)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_issuer_identifier(authority), critical=False)
    )
    for revocation in revocations:
        if revocation.authority == authority.serial:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(revocation.serial)
                .revocation_date(revocation.at)
                .build()
            )
    return builder.sign(authority.key, hashes.SHA256())


def _issuer_identifier(authority: Authority) -> x509.AuthorityKeyIdentifier:
    found = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found.value)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,  # of RSA key exchange, which TLS 1.3 and ECDSA do not have
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
