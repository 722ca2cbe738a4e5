"""The ``tls`` objects of clients, servers and the admin interface (linkerd1.md 11)."""

from __future__ import annotations

import re
from typing import ClassVar, Final, Literal

from attrs import field, frozen

TlsVersion = Literal["TLSv1.2", "TLSv1.3"]
"""Older ones are refused: they are broken."""


SPIFFE: Final = "spiffe://"

_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
"""A DNS name, or an IPv4 address; underscores are in names of services, and in certificates for them."""
_IPV6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_SPIFFE_ID = re.compile(r"spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)+")
"""SPIFFE-ID section 2. The trust domain alone names no workload."""
_CALLER = re.compile(
    r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)*/([A-Za-z0-9._-]+|\*)"
)
"""What ``allowedCallers`` may have."""
_VARIABLE = re.compile(r"\{[^{}]*\}")


@frozen(kw_only=True)
class CertificateFiles:
    """One more certificate of a server, for the names that it carries."""

    cert_path: str
    """PEM file of our certificate, or of its chain."""
    key_path: str
    """PEM file of its private key."""
    intermediate_certs_path: str | None = None
    """PEM file of the certificates between ours and a root."""


@frozen(kw_only=True)
class ClientAuthConfig(CertificateFiles):
    """The certificate that we show to an endpoint."""


@frozen(kw_only=True)
class ClientTlsConfig:
    """TLS towards endpoints."""

    place: ClassVar[str] = "client tls"

    enabled: bool = True
    """``false`` turns TLS off for the names that a prefix matches."""
    disable_validation: bool = False
    """``true`` takes any certificate: ``commonName`` then only sets the server name that we ask for."""
    common_name: str | None = None
    """The name that the certificate must carry (subjectAltName), also sent as SNI; ``{var}`` from the prefix. Ours:
    ``spiffe://domain/path`` for the certificate's only URI; then no SNI is sent."""
    common_name_from_subject: bool = field(default=False, metadata={"extension": True})
    """``true`` also takes a certificate that carries the name only as its subject's CN, which old CAs made. One with
    any alternative name is not judged by its subject."""
    trust_certs_bundle: str | None = None
    """PEM file of any number of CAs. Default: the system's."""
    trust_certs: tuple[str, ...] = ()
    """Several PEM files of CAs; deprecated, write one ``trustCertsBundle``."""
    crl_path: str | None = field(default=None, metadata={"extension": True})
    """PEM file of revocation lists, one for each CA that signs endpoints' certificates."""
    client_auth: ClientAuthConfig | None = None
    """Our own certificate. Default: none is shown."""
    protocols: tuple[TlsVersion, ...] = ()
    """Versions to offer. Default: 1.2 and 1.3."""

    def check(self) -> list[str]:
        """What the types cannot say; rule X1 of docs/threat-model.md: never unverified by accident."""
        if not self.enabled:
            return []
        problems = []
        if self.disable_validation and self.client_auth is not None:
            problems.append(
                "disableValidation: found true together with clientAuth, expected only one of them"
            )
        if not self.disable_validation and not self.common_name:
            problems.append(
                "commonName: found nothing, expected the name that the endpoint's certificate must carry, "
                "or disableValidation: true to accept any"
            )
        if self.common_name:
            problems += self._check_name(self.common_name)
        if self.trust_certs and self.trust_certs_bundle is not None:
            problems.append("trustCerts: found beside trustCertsBundle, expected only one of them")
        if self.crl_path is not None and not self.authorities:
            problems.append(
                "crlPath: found without trustCertsBundle, expected both: the CA and what it has revoked"
            )
        if self.crl_path is not None and self.disable_validation:
            problems.append("crlPath: found beside disableValidation: true, expected only one of them")
        return problems

    def _check_name(self, name: str) -> list[str]:
        """A name that no certificate can carry would refuse every endpoint, but only when it is called."""
        filled = _VARIABLE.sub("x", name)
        if name.startswith(SPIFFE):
            if not _SPIFFE_ID.fullmatch(filled):
                return [f"commonName: found {name!r}, expected spiffe://trust-domain/path"]
            if self.common_name_from_subject:
                return [
                    "commonNameFromSubject: found true for a SPIFFE id, expected a DNS name in commonName"
                ]
        elif not (_NAME.fullmatch(filled) or _IPV6.fullmatch(filled)):
            return [
                f"commonName: found {name!r}, expected a DNS name (in its ASCII form, without *), an IP address or "
                "spiffe://trust-domain/path"
            ]
        return []

    @property
    def authorities(self) -> tuple[str, ...]:
        """Files of the CAs; empty for the system's."""
        return (self.trust_certs_bundle,) if self.trust_certs_bundle is not None else self.trust_certs


@frozen(kw_only=True)
class ServerTlsConfig:
    """TLS towards callers."""

    place: ClassVar[str] = "server tls"

    cert_path: str
    """PEM file of the certificate, or of its chain."""
    key_path: str
    """PEM file of the private key."""
    intermediate_certs_path: str | None = None
    """PEM file of the certificates between ours and a root."""
    ca_cert_path: str | None = None
    """PEM file of the CAs that may sign callers' certificates."""
    crl_path: str | None = field(default=None, metadata={"extension": True})
    """PEM file of revocation lists, one for each CA that signs callers' certificates."""
    certificates: tuple[CertificateFiles, ...] = field(default=(), metadata={"extension": True})
    """More certificates. A caller is shown the one that carries the name it asks for (SNI), else that of
    ``certPath``."""
    require_client_auth: bool = False
    """``true`` ends the handshake of a caller without a valid certificate."""
    allowed_callers: tuple[str, ...] = field(default=(), metadata={"extension": True})
    """Who may come in, of those whose certificate is valid: DNS names (``*.prod.mesh`` for any one label) and SPIFFE
    ids (``spiffe://mesh/ns/prod/*`` for all below). Default: everybody."""
    ciphers: tuple[str, ...] = ()
    """Names as OpenSSL (``ECDHE-RSA-AES128-GCM-SHA256``) or Java has them (``TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256``);
    those of TLS 1.2 and 1.3 are chosen apart. Default: all with forward secrecy and authenticated encryption."""
    protocols: tuple[TlsVersion, ...] = ()
    """Versions to accept. Default: 1.2 and 1.3."""

    def check(self) -> list[str]:
        """What the types cannot say; rule X1 of docs/threat-model.md: nobody let in by accident."""
        problems = []
        if self.require_client_auth and self.ca_cert_path is None:
            problems.append(
                "requireClientAuth: found true without caCertPath, expected the CAs that may sign callers' certificates"
            )
        if self.allowed_callers and not self.require_client_auth:
            problems.append(
                "allowedCallers: found without requireClientAuth: true, expected both: who shows nothing is nobody"
            )
        problems += [
            f"allowedCallers: found {name!r}, expected a DNS name or a SPIFFE id, with a star as its first label or "
            "its last segment at most"
            for name in self.allowed_callers
            if _CALLER.fullmatch(name) is None
        ]
        if self.crl_path is not None and self.ca_cert_path is None:
            problems.append(
                "crlPath: found without caCertPath, expected both: the CA and what it has revoked"
            )
        if self.ciphers:
            # Only who names ciphers needs OpenSSL to read a configuration.
            from hostmesh.protocol.tls.ciphers import openssl_ciphers

            for name in self.ciphers:
                if not openssl_ciphers(name):
                    problems.append(f"ciphers: found {name!r}, expected a safe cipher that OpenSSL has")
        return problems

    @property
    def own(self) -> tuple[CertificateFiles, ...]:
        """The files of all our certificates, the default one first."""
        first = CertificateFiles(
            cert_path=self.cert_path,
            key_path=self.key_path,
            intermediate_certs_path=self.intermediate_certs_path,
        )
        return (first, *self.certificates)
