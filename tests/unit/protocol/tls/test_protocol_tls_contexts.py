"""Contexts: who is believed, what is shown to whom, and the reasons for refusing the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hostmesh.base.reasons import Reason
from hostmesh.protocol.tls.contexts import ClientContext, ServerContexts
from hostmesh.protocol.tls.credentials import CredentialError, Pem, Trust
from hostmesh.protocol.tls.failures import TlsFailure
from tests import tls_pairs
from tests.tls_files import Issued, TlsFiles
from tests.tls_pairs import key_pair, shake, trust


@pytest.mark.parametrize(
    ("pair", "reason", "words"),
    [
        ("other", Reason.TLS_UNTRUSTED, "is not among the trusted ones"),
        ("expired", Reason.TLS_EXPIRED, "has expired"),
        ("not_yet", Reason.TLS_EXPIRED, "is not valid yet"),
        ("client_only", Reason.TLS_WRONG_USAGE, "extendedKeyUsage"),
        ("shop", Reason.TLS_NAME_MISMATCH, "peer certificate is for .*shop.mesh, shop, expected web.mesh"),
        ("subject_only", Reason.TLS_NAME_MISMATCH, "expected web.mesh"),
    ],
)
def test_an_endpoint_is_refused_with_its_reason(
    tls_files: TlsFiles, pair: str, reason: Reason, words: str
) -> None:
    """X1, X5: in words that a person can act on, and the endpoint is sent an alert."""
    server = tls_pairs.server(tls_files, getattr(tls_files, pair)).connection()
    with pytest.raises(TlsFailure, match=words) as caught:
        shake(server, tls_pairs.client(tls_files).connection("web.mesh", "web.mesh"))

    assert caught.value.reason is reason
    assert caught.value.farewell[0] == 21


@pytest.mark.parametrize(
    ("pair", "reason", "words"),
    [
        (None, Reason.TLS_NO_CERTIFICATE, "has shown no certificate"),
        ("other", Reason.TLS_UNTRUSTED, "is not among the trusted ones"),
        ("expired", Reason.TLS_EXPIRED, "has expired"),
        ("revoked", Reason.TLS_REVOKED, "has been revoked"),
        ("server_only", Reason.TLS_WRONG_USAGE, "extendedKeyUsage"),
    ],
)
def test_a_caller_is_refused_with_its_reason(
    tls_files: TlsFiles, pair: str | None, reason: Reason, words: str
) -> None:
    """X5: and is told so by an alert, which hostmesh as a caller would understand."""
    contexts = ServerContexts([key_pair(tls_files.web)], trust(tls_files, crl=True), require_client_auth=True)
    server = contexts.connection()
    issued = None if pair is None else getattr(tls_files, pair)
    client = tls_pairs.client(tls_files, issued).connection("web.mesh", "web.mesh")
    with pytest.raises(TlsFailure, match=words) as caught:
        shake(server, client)

    assert caught.value.reason is reason
    with pytest.raises(TlsFailure, match="the endpoint sent the alert") as told:
        client.decrypt(caught.value.farewell)
    assert told.value.reason is Reason.TLS_REJECTED


def test_a_certificate_off_the_list_passes(tls_files: TlsFiles) -> None:
    """A revocation list refuses whom it names."""
    contexts = ServerContexts([key_pair(tls_files.web)], trust(tls_files, crl=True), require_client_auth=True)
    server = contexts.connection()
    shake(server, tls_pairs.client(tls_files, tls_files.client).connection("web.mesh", "web.mesh"))

    assert server.identity is not None
    assert server.identity.uris == ("spiffe://mesh.test/ns/default/sa/caller",)


def test_x5_a_revoked_intermediate_is_refused(tmp_path: Path) -> None:
    """With all that it has signed, on both sides; an intermediate of whose issuer there is no list is none."""
    files = TlsFiles(tmp_path)
    between = files.mesh.intermediate("between")
    leaf = between.issue("leaf", ["web.mesh"])
    of_between = between.revoke()
    spoilt = Issued(name="between", cert=between.path, key=leaf.key, chain=leaf.chain, intermediates=None)
    of_root = files.mesh.revoke(spoilt)

    def trusting(*lists: Path) -> Trust:
        return Trust.read(
            *([Pem(str(path), path.read_bytes()) for path in paths] for paths in ([files.ca], lists))
        )

    def meet_caller(trusted: Trust) -> None:
        contexts = ServerContexts([key_pair(files.web)], trusted, require_client_auth=True)
        shake(contexts.connection(), tls_pairs.client(files, leaf).connection("web.mesh"))

    def meet_endpoint(trusted: Trust) -> None:
        shake(tls_pairs.server(files, leaf).connection(), ClientContext(trusted).connection("web.mesh"))

    for meet in (meet_caller, meet_endpoint):
        meet(trusting(of_between))
        with pytest.raises(TlsFailure, match="level 1: CN=between CA has been revoked") as caught:
            meet(trusting(of_between, of_root))
        assert caught.value.reason is Reason.TLS_REVOKED
        with pytest.raises(TlsFailure, match="no list of its CA"):
            meet(trusting(of_root))


def test_a_certificate_may_be_optional(tls_files: TlsFiles) -> None:
    """Without requireClientAuth a caller without one comes in, one with a wrong one does not."""
    contexts = ServerContexts([key_pair(tls_files.web)], trust(tls_files))
    server = contexts.connection()
    shake(server, tls_pairs.client(tls_files).connection("web.mesh", "web.mesh"))
    assert server.identity is None

    client = tls_pairs.client(tls_files, tls_files.other).connection("web.mesh", "web.mesh")
    with pytest.raises(TlsFailure):
        shake(contexts.connection(), client)


@pytest.mark.parametrize(
    "name", ["web.mesh", "WEB.mesh", "127.0.0.1", "spiffe://mesh.test/ns/default/sa/web"]
)
def test_every_kind_of_name_is_believed(tls_files: TlsFiles, name: str) -> None:
    """DNS names in any case, addresses, SPIFFE ids."""
    shake(
        tls_pairs.server(tls_files).connection(),
        tls_pairs.client(tls_files).connection(name),
    )


def test_a_name_in_the_subject_counts_only_if_asked_for(tls_files: TlsFiles) -> None:
    """X1: commonNameFromSubject."""
    shake(
        tls_pairs.server(tls_files, tls_files.subject_only).connection(),
        tls_pairs.client(tls_files).connection("web.mesh", from_subject=True),
    )


def test_anybody_is_believed_without_validation(tls_files: TlsFiles) -> None:
    """disableValidation."""
    client = ClientContext(validate=False).connection(None, "web.mesh")
    shake(tls_pairs.server(tls_files, tls_files.other).connection(), client)

    assert client.identity is not None


def test_nobody_is_validated_without_a_name(tls_files: TlsFiles) -> None:
    """X1: a context that validates cannot be used without whom to look for."""
    with pytest.raises(ValueError, match="without a name"):
        tls_pairs.client(tls_files).connection(None)


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("web.mesh", "web.mesh"),
        ("shop.mesh", "shop.mesh"),
        ("SHOP.mesh", "shop.mesh"),
        ("unknown.mesh", "web.mesh"),
        (None, "web.mesh"),
    ],
)
def test_a_certificate_is_chosen_by_the_name_that_is_asked_for(
    tls_files: TlsFiles, asked: str | None, shown: str
) -> None:
    """The first one for names that none carries, and for who asks for none."""
    contexts = tls_pairs.server(tls_files, tls_files.web, tls_files.shop)
    client = ClientContext(validate=False).connection(None, asked)
    shake(contexts.connection(), client)

    assert client.identity is not None
    assert client.identity.dns_names[0] == shown


def test_the_root_is_not_shown(tls_files: TlsFiles) -> None:
    """The peer has it or does not believe it: neither side sends more than is in its files."""
    server = tls_pairs.server(tls_files, callers=True).connection()
    client = tls_pairs.client(tls_files, tls_files.shop).connection("web.mesh", "web.mesh")
    shake(server, client)

    by_server, by_client = client._connection, server._connection
    assert by_server is not None
    assert by_client is not None
    assert len(by_server.get_peer_cert_chain() or ()) == 1
    # OpenSSL leaves the certificate itself out of what a client has sent
    assert len(by_client.get_peer_cert_chain() or ()) == 0


def test_an_intermediate_is_shown(tls_files: TlsFiles) -> None:
    """Who knows only the root can follow the chain."""
    shake(
        tls_pairs.server(tls_files, tls_files.between).connection(),
        tls_pairs.client(tls_files).connection("web.mesh"),
    )


@pytest.mark.parametrize(
    ("served", "offered", "agreed"),
    [
        ((b"h2", b"http/1.1"), (b"http/1.1", b"h2"), b"h2"),
        ((b"h2", b"http/1.1"), (b"http/1.1",), b"http/1.1"),
        ((b"h2", b"http/1.1"), (), b""),
        ((), (b"h2",), b""),
    ],
)
def test_a_protocol_is_agreed_on(
    tls_files: TlsFiles, served: tuple[bytes, ...], offered: tuple[bytes, ...], agreed: bytes
) -> None:
    """The server's preference decides; who names none has none."""
    server = tls_pairs.server(tls_files).connection(served)
    client = tls_pairs.client(tls_files).connection("web.mesh", alpn=offered)
    shake(server, client)

    assert (server.protocol, client.protocol) == (agreed, agreed)


def test_no_protocol_in_common_is_refused(tls_files: TlsFiles) -> None:
    """X2: with the alert that says so, no_application_protocol (RFC 7301 section 3.2)."""
    server = tls_pairs.server(tls_files).connection((b"h2",))
    client = tls_pairs.client(tls_files).connection("web.mesh", alpn=(b"spdy/3",))
    with pytest.raises(TlsFailure, match="offers only spdy/3") as caught:
        shake(server, client)
    with pytest.raises(TlsFailure, match="no application protocol"):
        client.handshake(caught.value.farewell)


def test_what_a_caller_offers_cannot_fill_a_log(tls_files: TlsFiles) -> None:
    """Neither with thousands of protocols nor with the lines of another log."""
    offers = (b"spdy/3\r\nx", *(b"%0200d" % number for number in range(50)))
    client = tls_pairs.client(tls_files).connection("web.mesh", alpn=offers)
    with pytest.raises(TlsFailure, match=r"offers only spdy/3\?\?x, 0+ \(ALPN\)") as caught:
        shake(tls_pairs.server(tls_files).connection((b"h2",)), client)
    assert len(caught.value.message) < 200


def test_no_version_in_common_is_refused(tls_files: TlsFiles) -> None:
    """X2: with a reason of its own on both sides."""
    server = tls_pairs.server(tls_files, protocols=["TLSv1.3"]).connection()
    client = tls_pairs.client(tls_files, protocols=["TLSv1.2"]).connection("web.mesh")
    with pytest.raises(TlsFailure) as caught:
        shake(server, client)
    assert caught.value.reason is Reason.TLS_VERSION
    with pytest.raises(TlsFailure) as told:
        client.handshake(caught.value.farewell)
    assert told.value.reason is Reason.TLS_VERSION


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ciphers": ["NO-SUCH-CIPHER"]}, "knows none of NO-SUCH-CIPHER"),
        ({"require_client_auth": True}, "requireClientAuth needs caCertPath"),
    ],
)
def test_parts_that_do_not_fit_are_refused(tls_files: TlsFiles, options: dict[str, Any], words: str) -> None:
    """When the context is made, not when a caller comes."""
    with pytest.raises(CredentialError, match=words):
        ServerContexts([key_pair(tls_files.web)], **options)


def test_ciphers_are_those_that_were_asked_for(tls_files: TlsFiles) -> None:
    """Of both versions; what is left out is not offered."""
    names = ["TLS_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"]
    for version, expected in (("TLSv1.3", names[0]), ("TLSv1.2", names[1])):
        server = tls_pairs.server(tls_files, ciphers=names, protocols=[version]).connection()
        shake(server, tls_pairs.client(tls_files).connection("web.mesh"))
        assert server.cipher == expected
