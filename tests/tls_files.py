"""Keys, certificates and a revocation list for every test with TLS, made once per session: the fixture ``tls_files``.

    files.web.cert, files.web.key, files.ca                   # what works
    files.expired, files.not_yet, files.revoked, files.other  # what must not
    context = files.server_context(files.web, callers=True)   # Python's own ssl, as a peer

Everything is a PEM file in one folder whose names never change: ``NAME.crt``, ``NAME.key`` (PKCS#8), ``NAME-chain.crt``
(the leaf and then its intermediates), ``mesh.crt`` and ``other.crt`` (the CAs), ``mesh.crl`` (revokes ``revoked``).
"""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from attrs import define, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests import tls_making as making

DAY = dt.timedelta(days=1)
TRUST_DOMAIN = "spiffe://mesh.test"
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


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


@frozen(kw_only=True)
class Authority:
    """A CA that writes what it makes into a folder: itself as ``NAME.crt``."""

    folder: Path
    name: str
    ca: making.Authority

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.crt"

    @classmethod
    def root(cls, folder: Path, name: str) -> Authority:
        """A CA that signs itself."""
        since = dt.datetime.now(dt.UTC) - 30 * DAY
        return cls(
            folder=folder, name=name, ca=making.Authority(f"{name} CA", not_before=since, days=330)
        )._written()

    def intermediate(self, name: str) -> Authority:
        """A CA below this one."""
        return Authority(folder=self.folder, name=name, ca=self.ca.child(f"{name} CA"))._written()

    def _written(self) -> Authority:
        self.path.write_bytes(self.ca.pem)
        return self

    def issue(
        self,
        name: str,
        names: Sequence[str],
        *,
        uses: Sequence[x509.ObjectIdentifier] = making.BOTH,
        since: dt.timedelta = -DAY,
        until: dt.timedelta = 30 * DAY,
        rsa_bits: int | None = None,
        common_name: str | None = None,
    ) -> Issued:
        """A certificate for DNS names, addresses and URIs, valid between two moments counted from now."""
        leaf = self.ca.leaf(
            *names,
            common_name=common_name or name,
            not_before=dt.datetime.now(dt.UTC) + since,
            days=(until - since) / DAY,
            usage=uses,
            key=None
            if rsa_bits is None
            else rsa.generate_private_key(public_exponent=65537, key_size=rsa_bits),
        )
        above = making.pem(*leaf.chain)
        issued = Issued(
            name=name,
            cert=self.folder / f"{name}.crt",
            key=self.folder / f"{name}.key",
            chain=self.folder / f"{name}-chain.crt",
            intermediates=self.folder / f"{name}-intermediates.crt" if above else None,
        )
        issued.cert.write_bytes(making.pem(leaf.certificate))
        issued.chain.write_bytes(leaf.cert_pem)
        if issued.intermediates is not None:
            issued.intermediates.write_bytes(above)
        issued.key.touch(mode=0o600)
        issued.key.write_bytes(leaf.key_pem)
        return issued

    def revoke(self, *revoked: Issued, file: Path | None = None) -> Path:
        """A revocation list with these certificates, valid for a week: ``NAME.crl`` unless a file is given."""
        path = file or self.folder / f"{self.name}.crl"
        path.write_bytes(self.ca.crl(*(each.serial for each in revoked), days=7))
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
