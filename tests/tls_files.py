"""Keys, certificates and a revocation list for every test with TLS, made once per session: the fixture ``tls_files``.

    files.web.cert, files.web.key, files.ca                   # what works
    files.expired, files.not_yet, files.revoked, files.other  # what must not
    context = files.server_context(files.web, callers=True)   # Python's own ssl, as a peer

Everything is a PEM file in one folder whose names never change: ``NAME.crt``, ``NAME.key`` (PKCS#8), ``NAME-chain.crt``
(the leaf and then its intermediates), ``mesh.crt`` and ``other.crt`` (the CAs), ``mesh.crl`` (revokes ``revoked``).
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from attrs import define, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = dt.timedelta(days=1)
TRUST_DOMAIN = "spiffe://mesh.test"
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
BOTH = (SERVER, CLIENT)


@frozen(kw_only=True)
class Issued:
    """The files of one certificate."""

    name: str
    cert: Path
    """The leaf alone."""
    key: Path
    chain: Path
    """The leaf and its intermediates: what servers of other kinds want in one file."""
    intermediates: Path | None
    """The intermediates alone."""

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.cert.read_bytes())

    @property
    def serial(self) -> int:
        return self.certificate.serial_number


@define(kw_only=True)
class Authority:
    """A CA, and the CAs between it and a root."""

    folder: Path
    name: str
    key: CertificateIssuerPrivateKeyTypes
    certificate: x509.Certificate
    above: tuple[x509.Certificate, ...] = ()
    """What a peer that knows only the root has to be sent besides the leaf."""

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.crt"

    @classmethod
    def root(cls, folder: Path, name: str) -> Authority:
        """A CA that signs itself, written as ``NAME.crt``."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _named(f"{name} CA")
        made = cls(folder=folder, name=name, key=key, certificate=_ca(subject, key, subject, key, None))
        made.path.write_bytes(_pem(made.certificate))
        return made

    def intermediate(self, name: str) -> Authority:
        """A CA below this one, written as ``NAME.crt``."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _ca(_named(f"{name} CA"), key, self.certificate.subject, self.key, 0)
        made = Authority(
            folder=self.folder, name=name, key=key, certificate=certificate, above=(certificate, *self.above)
        )
        made.path.write_bytes(_pem(certificate))
        return made

    def issue(
        self,
        name: str,
        names: Sequence[str],
        *,
        uses: Sequence[x509.ObjectIdentifier] = BOTH,
        since: dt.timedelta = -DAY,
        until: dt.timedelta = 30 * DAY,
        rsa_bits: int | None = None,
        common_name: str | None = None,
    ) -> Issued:
        """A certificate for DNS names, addresses and URIs, valid between two moments counted from now."""
        key: CertificateIssuerPrivateKeyTypes
        if rsa_bits is None:
            key = ec.generate_private_key(ec.SECP256R1())
        else:
            key = rsa.generate_private_key(public_exponent=65537, key_size=rsa_bits)
        now = dt.datetime.now(dt.UTC)
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=rsa_bits is not None,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(_named(common_name or name))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + since)
            .not_valid_after(now + until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
        )
        if names:
            alternatives = x509.SubjectAlternativeName([_alternative(each) for each in names])
            builder = builder.add_extension(alternatives, critical=False)
        leaf = _pem(builder.sign(self.key, hashes.SHA256()))
        above = b"".join(map(_pem, self.above))
        issued = Issued(
            name=name,
            cert=self.folder / f"{name}.crt",
            key=self.folder / f"{name}.key",
            chain=self.folder / f"{name}-chain.crt",
            intermediates=self.folder / f"{name}-intermediates.crt" if above else None,
        )
        issued.cert.write_bytes(leaf)
        issued.chain.write_bytes(leaf + above)
        if issued.intermediates is not None:
            issued.intermediates.write_bytes(above)
        issued.key.touch(mode=0o600)
        issued.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return issued

    def revoke(self, *revoked: Issued, file: Path | None = None) -> Path:
        """A revocation list with these certificates, valid for a week: ``NAME.crl`` unless a file is given."""
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - DAY)
            .next_update(now + 7 * DAY)
        )
        for each in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(each.serial).revocation_date(now - DAY).build()
            )
        path = file or self.folder / f"{self.name}.crl"
        path.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path


@define(eq=False)
class TlsFiles:
    """The folder, and what is in it. Each certificate is made when it is first asked for."""

    folder: Path
    mesh: Authority = field(init=False)
    """The CA that the tests' hostmesh trusts."""
    stranger: Authority = field(init=False)
    """A CA that nobody trusts."""

    def __attrs_post_init__(self) -> None:
        self.mesh = Authority.root(self.folder, "mesh")
        self.stranger = Authority.root(self.folder, "other")

    @property
    def ca(self) -> Path:
        return self.mesh.path

    @property
    def other_ca(self) -> Path:
        return self.stranger.path

    @cached_property
    def web(self) -> Issued:
        """A service: for both uses, ECDSA P-256."""
        names = ["web.mesh", "web", "localhost", "127.0.0.1", f"{TRUST_DOMAIN}/ns/default/sa/web"]
        return self.mesh.issue("web", names)

    @cached_property
    def web_rsa(self) -> Issued:
        """The same names with RSA 2048."""
        return self.mesh.issue("web-rsa", ["web.mesh", "web", "localhost", "127.0.0.1"], rsa_bits=2048)

    @cached_property
    def shop(self) -> Issued:
        """Another service of the same mesh, for a choice by SNI, or for a wrong name."""
        return self.mesh.issue("shop", ["shop.mesh", "shop", f"{TRUST_DOMAIN}/ns/default/sa/shop"])

    @cached_property
    def client(self) -> Issued:
        """A caller."""
        names = ["caller.mesh", f"{TRUST_DOMAIN}/ns/default/sa/caller"]
        return self.mesh.issue("client", names, uses=[CLIENT])

    @cached_property
    def client_rsa(self) -> Issued:
        return self.mesh.issue("client-rsa", ["caller.mesh"], uses=[CLIENT], rsa_bits=2048)

    @cached_property
    def between(self) -> Issued:
        """Signed by an intermediate CA, for both uses."""
        return self.mesh.intermediate("mesh-intermediate").issue("between", ["web.mesh", "web", "localhost"])

    @cached_property
    def other(self) -> Issued:
        """The right names from the wrong CA."""
        return self.stranger.issue("other-web", ["web.mesh", "web", "localhost", "caller.mesh"])

    @cached_property
    def expired(self) -> Issued:
        return self.mesh.issue("expired", ["web.mesh"], since=-10 * DAY, until=-DAY)

    @cached_property
    def not_yet(self) -> Issued:
        return self.mesh.issue("not-yet", ["web.mesh"], since=2 * DAY)

    @cached_property
    def revoked(self) -> Issued:
        return self.mesh.issue("revoked", ["web.mesh"])

    @cached_property
    def crl(self) -> Path:
        """The list that revokes ``revoked``."""
        return self.mesh.revoke(self.revoked)

    @cached_property
    def server_only(self) -> Issued:
        """Must not pass as a caller's."""
        return self.mesh.issue("server-only", ["web.mesh"], uses=[SERVER])

    @cached_property
    def client_only(self) -> Issued:
        """Must not pass as an endpoint's."""
        return self.mesh.issue("client-only", ["web.mesh"], uses=[CLIENT])

    @cached_property
    def subject_only(self) -> Issued:
        """No alternative name at all: the name is in the subject only."""
        return self.mesh.issue("subject-only", [], common_name="web.mesh")

    def server_context(
        self,
        pair: Issued,
        *,
        callers: bool = False,
        alpn: Sequence[str] = (),
        newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> ssl.SSLContext:
        """Python's ssl as a server that shows ``pair`` and, with ``callers``, demands a certificate of the mesh."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = newest
        context.load_cert_chain(pair.chain, pair.key)
        if callers:
            context.load_verify_locations(self.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    def client_context(
        self,
        pair: Issued | None = None,
        *,
        alpn: Sequence[str] = (),
        oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
        newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> ssl.SSLContext:
        """Python's ssl as a client that trusts the mesh and shows ``pair`` if there is one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ca)
        context.minimum_version, context.maximum_version = oldest, newest
        if pair is not None:
            context.load_cert_chain(pair.chain, pair.key)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _ca(
    subject: x509.Name,
    key: CertificateIssuerPrivateKeyTypes,
    issuer: x509.Name,
    signing: CertificateIssuerPrivateKeyTypes,
    path_length: int | None,
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 30 * DAY)
        .not_valid_after(now + 300 * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False
        )
        .sign(signing, hashes.SHA256())
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
