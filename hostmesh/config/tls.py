"""The ``tls`` objects of clients, servers and the admin interface (linkerd1.md 11)."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from attrs import frozen

TLS_LATER: Final = "TLS arrives in a later version; leave tls out to use plain text"
"""What ``run`` says about a ``tls`` object."""

TlsVersion = Literal["TLSv1.2", "TLSv1.3"]
"""Older ones are refused: they are broken."""


@frozen(kw_only=True)
class ClientAuthConfig:
    """The certificate that we show to an endpoint."""

    cert_path: str
    """PEM file of our certificate."""
    key_path: str
    """PEM file of its private key."""
    intermediate_certs_path: str | None = None
    """PEM file of the certificates between ours and a root."""


@frozen(kw_only=True)
class ClientTlsConfig:
    """TLS towards endpoints."""

    place: ClassVar[str] = "client tls"

    enabled: bool = True
    """``false`` turns TLS off for the names that a prefix matches."""
    disable_validation: bool = False
    """``true`` takes any certificate: ``commonName`` then only sets the server name that we ask for."""
    common_name: str | None = None
    """The name that the certificate must carry (subjectAltName), also sent as SNI; ``{var}`` from the prefix."""
    trust_certs_bundle: str | None = None
    """PEM file of any number of CAs. Default: the system's."""
    trust_certs: tuple[str, ...] = ()
    """Several PEM files of CAs; deprecated, write one ``trustCertsBundle``."""
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
        if self.trust_certs and self.trust_certs_bundle is not None:
            problems.append("trustCerts: found beside trustCertsBundle, expected only one of them")
        return problems


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
    require_client_auth: bool = False
    """``true`` ends the handshake of a caller without a valid certificate."""
    ciphers: tuple[str, ...] = ()
    """OpenSSL names. Default: OpenSSL's."""
    protocols: tuple[TlsVersion, ...] = ()
    """Versions to accept. Default: 1.2 and 1.3."""


TLS_METADATA: Final = {"unavailable": TLS_LATER}
"""Metadata of every field that holds one of these objects, for as long as they cannot run."""
