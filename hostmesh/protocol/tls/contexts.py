"""What the TLS connections of one side have in common: certificates, trust, versions, ciphers.

A context never changes: new files make a new one. So a rotation is one assignment, and with the old context go its
ticket keys and its remembered sessions: who connects after a new CA or revocation list is checked against it, resumed
or not (hardening X5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cryptography import x509
from OpenSSL import SSL, crypto

from hostmesh.protocol.tls.alpn import choose_by_notes
from hostmesh.protocol.tls.codec import Notes, TlsCodec
from hostmesh.protocol.tls.credentials import CredentialError, KeyPair, Trust
from hostmesh.protocol.tls.identity import NameMismatch, PeerIdentity, is_allowed, told_name, verify_name

CIPHERS: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
"""TLS 1.2: forward secrecy and authenticated encryption only, as in Mozilla's intermediate list."""

CIPHERS_13: Final = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
"""TLS 1.3. The cheapest first: all three are beyond attack (RFC 8446 section 9.1)."""

GROUPS: Final = (b"?*X25519MLKEM768 / ?*X25519:?secp256r1 / ?secp384r1", b"X25519:P-256:P-384")
"""Of key exchange: as in Mozilla's intermediate list, with the hybrid that a quantum computer does not break where
OpenSSL has it (3.5), which is also the first that takes the notation. A slash parts what is better from what is worse,
a star says for which a client sends a key unasked."""

SESSION_TIME: Final = 3600
"""Seconds for which a session may be resumed. A certificate that expires meanwhile is not looked at again."""

MODE_NO_AUTO_CHAIN: Final = 0x8
"""``SSL_MODE_NO_AUTO_CHAIN`` of ssl.h. Without it every handshake looks for the rest of our chain in the trusted CAs,
verifies it and sends the root, which the peer has or does not believe: 65 us for each side that shows a certificate.
What is to be sent is in the files, as in Linkerd 1."""

UNREADABLE: Final = "somebody whose certificate cannot be read"

NO_LIST: Final = 3
"""``X509_V_ERR_UNABLE_TO_GET_CRL`` of x509_vfy.h."""

_VERSIONS: Final = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}


class ServerContexts:
    """What a listener presents, and whom it lets in.

    ``pairs`` are our certificates: the first is shown to who asks for no name, or for one that none of them carries.
    ``trust`` is who may sign callers' certificates; None asks for none. ``require_client_auth`` ends the handshake of
    a caller without one. ``ciphers`` are OpenSSL's names, of TLS 1.2 and 1.3, and ``protocols`` as in the
    configuration; empty for our own choice. ``allowed`` are the callers who may come in (:func:`is_allowed`); empty for
    everybody.

    Raises :class:`CredentialError` if the parts do not fit or OpenSSL refuses them.
    """

    def __init__(
        self,
        pairs: Sequence[KeyPair],
        trust: Trust | None = None,
        *,
        require_client_auth: bool = False,
        ciphers: Sequence[str] = (),
        protocols: Sequence[str] = (),
        allowed: Sequence[str] = (),
    ) -> None:
        if not pairs:
            raise CredentialError("a server needs a certificate")
        self.pairs = tuple(pairs)
        self.trust = trust
        self._allowed = tuple(allowed)
        self._contexts = [
            self._context(pair, trust, require_client_auth, ciphers, protocols) for pair in pairs
        ]
        self._by_name: dict[str, SSL.Context] = {}
        for pair, context in zip(pairs, self._contexts, strict=True):
            for name in pair.names:
                self._by_name.setdefault(name, context)

    def _context(
        self,
        pair: KeyPair,
        trust: Trust | None,
        require_client_auth: bool,
        ciphers: Sequence[str],
        protocols: Sequence[str],
    ) -> SSL.Context:
        context = _new(SSL.TLS_SERVER_METHOD, ciphers, protocols)
        _show(context, pair)
        if trust is not None:
            _trust(context, trust)
            for ca in trust.cas:
                context.add_client_ca(ca)
            mode = SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if require_client_auth else 0)
            context.set_verify(mode, _check_caller)
        elif require_client_auth:
            raise CredentialError("requireClientAuth needs caCertPath: who may sign callers' certificates")
        # Tickets are bound to the listener that gave them; without this a server that asks for certificates cannot
        # resume at all.
        context.set_session_id(b"hostmesh")
        context.set_timeout(SESSION_TIME)
        choose_by_notes(context)
        if len(self.pairs) > 1:
            context.set_tlsext_servername_callback(self._select_certificate)
        return context

    def _select_certificate(self, connection: SSL.Connection) -> None:
        asked = connection.get_servername()
        if asked is None:
            return
        name = asked.decode("ascii", "replace").lower()
        found = self._by_name.get(name) or self._by_name.get("*." + name.partition(".")[2])
        if found is not None:
            connection.set_context(found)

    def connection(self, alpn: tuple[bytes, ...] = ()) -> TlsCodec:
        """The codec of one accepted connection. ``alpn`` are the protocols served, the preferred first; who offers
        none of them is refused, who offers nothing at all is not."""
        connection = SSL.Connection(self._contexts[0])
        connection.set_accept_state()
        notes = Notes(alpn=alpn, allowed=self._allowed, asks=self.trust is not None)
        return TlsCodec(connection, notes, server_side=True)


class ClientContext:
    """What we show to endpoints, and which of them we believe.

    ``trust`` None means the CAs of the system; ``pair`` is our own certificate. ``validate`` False takes any
    certificate of any name.
    """

    def __init__(
        self,
        trust: Trust | None = None,
        pair: KeyPair | None = None,
        *,
        validate: bool = True,
        protocols: Sequence[str] = (),
    ) -> None:
        self.pair = pair
        self.trust = trust
        self.validate = validate
        context = self._ssl = _new(SSL.TLS_CLIENT_METHOD, (), protocols)
        if pair is not None:
            _show(context, pair)
        if not validate:
            context.set_verify(SSL.VERIFY_NONE)
        else:
            if trust is None:
                context.set_default_verify_paths()
            else:
                _trust(context, trust)
            context.set_verify(SSL.VERIFY_PEER, _check_endpoint)

    def connection(
        self,
        name: str | None,
        server_name: str | None = None,
        *,
        from_subject: bool = False,
        alpn: tuple[bytes, ...] = (),
        session: SSL.Session | None = None,
    ) -> TlsCodec:
        """The codec of one dialled connection.

        ``name`` is what the certificate must be for (:func:`verify_name`); ``server_name`` the host name that we ask
        for (SNI), None for none. ``session`` was remembered from an earlier connection of this context to the same
        endpoint with the same ``name``. Raises ValueError for a context that validates and has no name to look for.
        """
        if self.validate and not name:
            raise ValueError("a certificate cannot be validated without a name")
        connection = SSL.Connection(self._ssl)
        connection.set_connect_state()
        if server_name:
            connection.set_tlsext_host_name(server_name.encode("ascii"))
        if alpn:
            connection.set_alpn_protos(list(alpn))
        if session is not None:
            connection.set_session(session)
        notes = Notes(alpn=alpn, name=name if self.validate else None, from_subject=from_subject)
        return TlsCodec(connection, notes, server_side=False)


def _new(method: int, ciphers: Sequence[str], protocols: Sequence[str]) -> SSL.Context:
    context = SSL.Context(method)
    versions = [_VERSIONS[each] for each in protocols or _VERSIONS]
    context.set_min_proto_version(min(versions))
    context.set_max_proto_version(max(versions))
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    # An idle connection gives back its two record buffers of 16 KiB.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS | MODE_NO_AUTO_CHAIN)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    _limit_groups(context)
    new = [each for each in ciphers if each.startswith("TLS_")]
    old = [each for each in ciphers if not each.startswith("TLS_")]
    try:
        if old or not new:
            context.set_cipher_list(":".join(old or CIPHERS).encode("ascii"))
        context.set_tls13_ciphersuites(":".join(new or CIPHERS_13).encode("ascii"))
    except SSL.Error as error:
        raise CredentialError(f"ciphers: OpenSSL knows none of {', '.join(ciphers)}") from error
    return context


def _limit_groups(context: SSL.Context) -> None:
    """Take and offer GROUPS only. pyOpenSSL has no call for it; where its binding is another than we know OpenSSL's
    own choice stays, which is safe and has X448 and P-521 besides."""
    try:
        library: Any = SSL._lib  # type: ignore[attr-defined]  # not documented, as the text says
        handle = context._context
        for groups in GROUPS:
            if library.SSL_CTX_set1_curves_list(handle, groups) == 1:
                return
            library.ERR_clear_error()
    except AttributeError:
        return


def _show(context: SSL.Context, pair: KeyPair) -> None:
    try:
        context.use_certificate(pair.certificate)
        for each in pair.intermediates:
            context.add_extra_chain_cert(each)
        context.use_privatekey(pair.key)
        context.check_privatekey()
    except (SSL.Error, crypto.Error, TypeError, ValueError) as error:
        raise CredentialError(f"{pair.path}: OpenSSL refuses this certificate or its key: {error}") from error


def _trust(context: SSL.Context, trust: Trust) -> None:
    store = context.get_cert_store()
    assert store is not None
    # A trusted certificate is an anchor whether it is a root or not: so it is in Java, and so in Linkerd 1.
    flags = crypto.X509StoreFlags.PARTIAL_CHAIN
    try:
        for ca in trust.cas:
            store.add_cert(crypto.X509.from_cryptography(ca))
        for crl in trust.crls:
            store.add_crl(crl)
    except (crypto.Error, TypeError, ValueError) as error:
        raise CredentialError(f"OpenSSL refuses a CA or a revocation list: {error}") from error
    if trust.crls:
        flags |= crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL
    store.set_flags(flags)


def _may_lack(code: int, depth: int) -> bool:
    """Whether all that is wrong is that there is no revocation list for a CA. Who has signed a peer's own certificate
    must have one; intermediates are refused if they are on a list, and need none that says they are not."""
    return code == NO_LIST and depth > 0


def _check_caller(
    connection: SSL.Connection, certificate: crypto.X509, code: int, depth: int, ok: int
) -> bool:
    if not ok and not _may_lack(code, depth):
        _note_problem(connection, certificate, code, depth)
        return False
    notes: Notes = connection.get_app_data()
    if depth == 0 and notes.allowed:
        # Here and not behind the handshake: so the caller is told, and a session that is resumed has passed it.
        readable = _readable(certificate)
        identity = None if readable is None else PeerIdentity.of(readable)
        if identity is None or not is_allowed(identity, notes.allowed):
            notes.stranger = UNREADABLE if identity is None else told_name(identity)
            return False
    return True


def _check_endpoint(
    connection: SSL.Connection, certificate: crypto.X509, code: int, depth: int, ok: int
) -> bool:
    notes: Notes = connection.get_app_data()
    notes.verified = True
    if not ok and not _may_lack(code, depth):
        _note_problem(connection, certificate, code, depth)
        return False
    if depth == 0 and notes.name is not None:
        # Here and not after the handshake: so the endpoint gets an alert, and never a byte of ours.
        readable = _readable(certificate)
        if readable is None:
            notes.mismatch = f"peer certificate is for {UNREADABLE}, expected {notes.name}"
            return False
        try:
            verify_name(readable, notes.name, from_subject=notes.from_subject)
        except NameMismatch as mismatch:
            notes.mismatch = str(mismatch)
            return False
    return True


def _note_problem(connection: SSL.Connection, certificate: crypto.X509, code: int, depth: int) -> None:
    notes: Notes = connection.get_app_data()
    readable = _readable(certificate)
    notes.problem = (code, depth, UNREADABLE if readable is None else told_name(PeerIdentity.of(readable)))


def _readable(certificate: crypto.X509) -> x509.Certificate | None:
    """Anybody's bytes: OpenSSL has parsed them, and cryptography, which is stricter, refuses some in many ways."""
    try:
        return certificate.to_cryptography()
    except Exception:  # noqa: BLE001 - see above; not all of them are ValueErrors
        return None
