"""TLS towards registries, with the standard library's engine: control connections are few and long.

The name that a server must prove is a part of the context and checked when the handshake is over, by the same rules as
for endpoints (:mod:`hostmesh.protocol.tls.identity`): so every library that is given a context verifies it, those that
would forget to, too, and an error tells whose certificate came instead.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Protocol

# Namers see registries and nothing below.
from hostmesh.protocol.tls.server_name import server_name_of as server_name_of

if TYPE_CHECKING:
    from hostmesh.protocol.tls.credentials import KeyPair, Trust


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
    def common_name_from_subject(self) -> bool: ...
    @property
    def authorities(self) -> Sequence[str]: ...
    @property
    def crl_path(self) -> str | None: ...
    @property
    def client_auth(self) -> ClientAuth | None: ...
    @property
    def protocols(self) -> Sequence[str]: ...


_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}

MFD_NOEXEC_SEAL: Final = 8
"""memfd_create(2): not executable, which hardened systems insist on."""

HTTP: Final = ("http/1.1",)
"""ALPN of registries that speak it."""


class TlsFileError(OSError):
    """A file that cannot be used; the text names it."""


class VerifyingContext(ssl.SSLContext):
    """A context for connections to one name. Without one it verifies no name: only for ``disableValidation``."""

    expected: str | None = None
    from_subject: bool = False

    @classmethod
    def of(cls, expected: str | None, *, from_subject: bool = False) -> VerifyingContext:
        """One that trusts nobody yet."""
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        # What the engine would check is the name that is asked for (SNI), which a SPIFFE id cannot be.
        context.check_hostname = False
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # A trusted certificate is an anchor whether it is a root or not, as it is for endpoints.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if expected is None:
            context.verify_mode = ssl.CERT_NONE
        context.expected = expected
        context.from_subject = from_subject
        context.sslobject_class = _VerifyingObject
        context.sslsocket_class = _VerifyingSocket
        return context

    def verify(self, certificate: bytes | None) -> None:
        """Raise SSLCertVerificationError unless this certificate (DER, its chain verified) has the name."""
        if self.expected is None:
            return
        from cryptography import x509

        from hostmesh.protocol.tls.identity import NameMismatch, verify_name

        assert certificate is not None, "the engine has verified one"
        try:
            verify_name(
                x509.load_der_x509_certificate(certificate), self.expected, from_subject=self.from_subject
            )
        except (NameMismatch, ValueError) as error:
            raise ssl.SSLCertVerificationError(ssl.SSL_ERROR_SSL, str(error)) from error


def prepare() -> None:
    """Import what verification needs, which takes a tenth of a second: for a thread, before the first handshake."""
    from hostmesh.protocol.tls import failures, identity  # noqa: F401


class _VerifyingObject(ssl.SSLObject):
    def do_handshake(self) -> None:
        super().do_handshake()
        assert isinstance(self.context, VerifyingContext)
        self.context.verify(self.getpeercert(binary_form=True))


class _VerifyingSocket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        assert isinstance(self.context, VerifyingContext)
        self.context.verify(self.getpeercert(binary_form=True))


def client_context(tls: TlsSettings, name: str, alpn: Sequence[str] = HTTP) -> VerifyingContext:
    """A context for ``tls`` that verifies ``name``; reads the files, so it belongs before a connection and not into
    ``mk``.

    :class:`TlsFileError` if a file is missing or malformed.
    """
    from hostmesh.protocol.tls.credentials import CredentialError, KeyPair, Trust
    from hostmesh.registry.pem import read_pem

    prepare()
    context = VerifyingContext.of(
        None if tls.disable_validation else name,
        from_subject=tls.common_name_from_subject,
    )
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if tls.protocols:
        offered = [_VERSIONS[name] for name in tls.protocols]
        context.minimum_version, context.maximum_version = min(offered), max(offered)
    try:
        if tls.authorities:
            # The system's CAs have no say where CAs are named.
            revoked = () if tls.crl_path is None else (read_pem(tls.crl_path),)
            load_trust(context, Trust.read([read_pem(path) for path in tls.authorities], revoked))
        elif not tls.disable_validation:
            context.load_default_certs()
        if tls.client_auth is not None:
            auth = tls.client_auth
            more = auth.intermediate_certs_path
            pair = KeyPair.read(
                read_pem(auth.cert_path), read_pem(auth.key_path), None if more is None else read_pem(more)
            )
            load_pair(context, pair)
    except CredentialError as error:
        raise TlsFileError(str(error)) from error
    return context


def load_trust(context: ssl.SSLContext, trust: Trust) -> None:
    """Make ``context`` believe the CAs of ``trust``, and its revocation lists."""
    from cryptography.hazmat.primitives.serialization import Encoding

    der = b"".join(ca.public_bytes(Encoding.DER) for ca in trust.cas)
    context.load_verify_locations(cadata=der)
    if trust.crls:
        lists = b"".join(crl.public_bytes(Encoding.PEM) for crl in trust.crls)
        with_file(lists, lambda path: context.load_verify_locations(cafile=path))
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def load_pair(context: ssl.SSLContext, pair: KeyPair) -> None:
    """Make ``context`` show ``pair`` with all its intermediates."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = pair.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain = b"".join(each.public_bytes(Encoding.PEM) for each in (pair.certificate, *pair.intermediates))
    with_file(key + chain, context.load_cert_chain)


def with_file(data: bytes, load: Callable[[str], object]) -> None:
    """Call ``load`` with a path under which it finds ``data``, which is never on a disk: some of OpenSSL's doors take
    paths only, and what has been checked must be what is loaded."""
    try:
        descriptor = os.memfd_create("hostmesh-pem", os.MFD_CLOEXEC | MFD_NOEXEC_SEAL)
    except OSError:
        descriptor = os.memfd_create("hostmesh-pem")  # Linux before 6.3
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        load(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


Report = Callable[[str, Mapping[str, Any]], None]


class ClientContexts:
    """The context of one ``tls`` object, made anew for the next connection when one of its files has changed."""

    def __init__(
        self, tls: TlsSettings, name: str, report: Report, *, alpn: Sequence[str] = HTTP, registry: str = ""
    ) -> None:
        self._tls = tls
        self._name = name
        self._report = report
        self._alpn = alpn
        self._registry = registry or name
        self._context: VerifyingContext | None = None
        self._seen: tuple[object, ...] = ()
        self._lock = Lock()
        auth = tls.client_auth
        named = (
            *tls.authorities,
            tls.crl_path,
            *(() if auth is None else (auth.cert_path, auth.key_path, auth.intermediate_certs_path)),
        )
        self._paths = tuple(path for path in named if path is not None)

    def current(self) -> VerifyingContext:
        """Blocks for the files: for a thread. TlsFileError if there has never been a good one; later a file that is
        broken is reported, and what was good stays in use."""
        with self._lock:
            return self._current()

    def _current(self) -> VerifyingContext:
        seen = tuple(map(_signature, self._paths))
        if self._context is not None and seen == self._seen:
            return self._context
        try:
            self._context = client_context(self._tls, self._name, self._alpn)
        except OSError as error:
            if self._context is None:
                raise
            self._report("tls.files_refused", {"registry": self._registry, "cause": str(error)})
        else:
            if self._seen:
                self._report("tls.files_renewed", {"registry": self._registry})
        self._seen = seen
        return self._context


def _signature(path: str) -> object:
    try:
        status = os.stat(path)
    except OSError as error:
        return error.errno
    return status.st_ino, status.st_size, status.st_mtime_ns
