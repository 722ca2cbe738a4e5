"""TLS towards registries, with the standard library's engine: control connections are few and long."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Protocol


class ClientAuth(Protocol):
    """The certificate that we show; paths of PEM files."""

    @property
    def cert_path(self) -> str: ...
    @property
    def key_path(self) -> str: ...
    @property
    def intermediate_certs_path(self) -> str | None: ...


class TlsSettings(Protocol):
    """What a ``tls`` object of the configuration says."""

    @property
    def disable_validation(self) -> bool: ...
    @property
    def trust_certs_bundle(self) -> str | None: ...
    @property
    def trust_certs(self) -> Sequence[str]: ...
    @property
    def client_auth(self) -> ClientAuth | None: ...
    @property
    def protocols(self) -> Sequence[str]: ...


_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


def client_context(tls: TlsSettings) -> ssl.SSLContext:
    """A context for ``tls``; reads the files, so it belongs before a connection and not into ``mk``.

    OSError and ssl.SSLError, which is one, if a file is missing or malformed. The name to verify is given with the
    connection, as ``server_hostname``; only subjectAltName counts.
    """
    if tls.trust_certs:
        # The system's CAs have no say where CAs are named.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for path in tls.trust_certs:
            context.load_verify_locations(cafile=path)
    else:
        context = ssl.create_default_context(cafile=tls.trust_certs_bundle)
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.protocols:
        offered = [_VERSIONS[name] for name in tls.protocols]
        context.minimum_version, context.maximum_version = min(offered), max(offered)
    if tls.disable_validation:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.client_auth is not None:
        context.load_cert_chain(tls.client_auth.cert_path, tls.client_auth.key_path)
    return context
