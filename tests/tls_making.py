"""Certificates for tests: a CA that makes good and bad ones, quickly (ECDSA P-256)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TypeAlias

from attrs import define, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


def pem(*things: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    return b"".join(thing.public_bytes(Encoding.PEM) for thing in things)


def key_pem(key: Key) -> bytes:
    """PKCS#8, not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@frozen(kw_only=True)
class Leaf:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Key = field(repr=False)
    chain: tuple[x509.Certificate, ...] = ()
    """What a peer that knows only the root has to be sent besides."""

    @property
    def cert_pem(self) -> bytes:
        """With the intermediates."""
        return pem(self.certificate, *self.chain)

    @property
    def key_pem(self) -> bytes:
        return key_pem(self.key)

    @property
    def serial(self) -> int:
        return self.certificate.serial_number


def _subject(common_name: str | None) -> x509.Name:
    parts = [] if common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    return x509.Name(parts)


def _alternative(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@define
class Authority:
    """A CA. ``Authority("mesh")`` is a root; ``authority.child("lower")`` an intermediate."""

    name: str = "mesh"
    key: ec.EllipticCurvePrivateKey = field(
        factory=lambda: ec.generate_private_key(ec.SECP256R1()), repr=False
    )
    parent: Authority | None = None
    not_before: datetime | None = None
    days: float = 3650
    certificate: x509.Certificate = field(init=False)

    def __attrs_post_init__(self) -> None:
        signer = self.parent or self
        builder = (
            self._builder(signer, _subject(self.name), self.key, self.not_before, self.days)
            .add_extension(
                x509.BasicConstraints(ca=True, path_length=None if self.parent is None else 0), critical=True
            )
            .add_extension(_usage(signs=True), critical=True)
        )
        self.certificate = builder.sign(signer.key, SHA256())

    @property
    def pem(self) -> bytes:
        return pem(self.certificate)

    def child(self, name: str) -> Authority:
        return Authority(name, parent=self)

    def leaf(
        self,
        *names: str,
        common_name: str | None = None,
        not_before: datetime | None = None,
        days: float = 30,
        usage: Sequence[x509.ObjectIdentifier] = BOTH,
        key: Key | None = None,
    ) -> Leaf:
        """A certificate for DNS names, IP addresses and URIs, told apart by their looks.

        ``days`` is how long it is valid from now, or from ``not_before``; below 0 it ended so long ago.
        """
        key = key or ec.generate_private_key(ec.SECP256R1())
        builder = (
            self._builder(self, _subject(common_name), key, not_before, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(enciphers=isinstance(key, rsa.RSAPrivateKey)), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        )
        if names:
            alternative = x509.SubjectAlternativeName([_alternative(name) for name in names])
            builder = builder.add_extension(alternative, critical=common_name is None)
        chain = (self.certificate,) if self.parent is not None else ()
        return Leaf(certificate=builder.sign(self.key, SHA256()), key=key, chain=chain)

    def crl(
        self, *revoked: Leaf | int, days: float = 30, key: ec.EllipticCurvePrivateKey | None = None
    ) -> bytes:
        """A revocation list (PEM) of these leaves or serial numbers."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(min(now, now + timedelta(days=days)) - timedelta(hours=1))
            .next_update(now + timedelta(days=days))
        )
        for one in revoked:
            serial = one if isinstance(one, int) else one.serial
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(entry)
        return pem(builder.sign(key or self.key, SHA256()))

    @staticmethod
    def _builder(
        signer: Authority,
        subject: x509.Name,
        key: Key,
        not_before: datetime | None,
        days: float,
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        end = (not_before or now) + timedelta(days=days)
        start = not_before or min(now, end) - timedelta(hours=1)
        issuer = _subject(signer.name)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False
            )
        )


def _usage(*, signs: bool = False, enciphers: bool = False) -> x509.KeyUsage:
    """Of a CA, or of a leaf; ``enciphers`` is for the key exchange with RSA that TLS 1.3 no longer has."""
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=enciphers,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
