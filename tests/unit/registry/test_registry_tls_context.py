"""TLS towards registries: what a context believes and shows, and when its files are read again."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from hostmesh.config.tls import ClientAuthConfig, ClientTlsConfig
from hostmesh.protocol.tls.server_name import server_name_of
from hostmesh.registry.tls_context import (
    ClientContexts,
    TlsFileError,
    VerifyingContext,
    client_context,
)
from hostmesh.registry.tls_trouble import objection, tls_error, told
from tests.tls_files import Issued, TlsFiles


class Peer:
    """A server on a socket that shakes hands once; ``got`` is the certificate that it was shown, and its chain."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.got: dict[str, Any] | None = None
        self.error: OSError | None = None
        self._context = context
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        sock, _address = self.listener.accept()
        try:
            with self._context.wrap_socket(sock, server_side=True) as secured:
                self.got = secured.getpeercert()
                secured.recv(1)
        except OSError as error:
            self.error = error

    def asked(self, context: ssl.SSLContext) -> str | None:
        """What is found out about why there is no TLS with it."""
        host, port = self.listener.getsockname()
        try:
            return trio.run(objection, context, host, port, "web.mesh", "the agent")
        finally:
            self.listener.close()
            self._thread.join(10)

    def meet(self, context: ssl.SSLContext, name: str | None = None) -> None:
        """Raises what the handshake raises."""
        try:
            with socket.create_connection(self.listener.getsockname()) as raw:
                context.wrap_socket(raw, server_hostname=name).close()
        finally:
            self._thread.join(10)
            self.listener.close()


def config(files: TlsFiles, **keys: Any) -> ClientTlsConfig:
    return ClientTlsConfig(**{"common_name": "web.mesh", "trust_certs_bundle": str(files.ca), **keys})


def auth(pair: Issued) -> ClientAuthConfig:
    more = None if pair.intermediates is None else str(pair.intermediates)
    return ClientAuthConfig(cert_path=str(pair.cert), key_path=str(pair.key), intermediate_certs_path=more)


def test_intermediates_are_shown(tls_files: TlsFiles) -> None:
    """A server that knows only the root accepts a certificate from an intermediate CA."""
    server = Peer(tls_files.server_context(tls_files.web, callers=True))
    context = client_context(config(tls_files, client_auth=auth(tls_files.between)), "web.mesh")

    server.meet(context, "web.mesh")

    assert server.got is not None
    assert (("commonName", "between"),) in server.got["subject"]


def test_an_intermediate_can_be_what_is_trusted(tls_files: TlsFiles) -> None:
    """As for endpoints: without the root."""
    server = Peer(tls_files.server_context(tls_files.between))
    bundle = str(tls_files.between.intermediates)

    server.meet(client_context(config(tls_files, trust_certs_bundle=bundle), "web.mesh"), "web.mesh")


@pytest.mark.parametrize(
    ("who", "said"),
    [
        ("other", "the agent sent the alert"),
        (None, "the agent sent the alert"),
        ("client", None),
    ],
)
def test_x1_an_objection_is_heard_on_a_connection_without_a_request(
    tls_files: TlsFiles, who: str | None, said: str | None
) -> None:
    """In TLS 1.3 a request that is on its way when our certificate is refused costs the alert; a server that does not
    object waits for a request, and nothing is said after the bound."""
    server = Peer(tls_files.server_context(tls_files.web, callers=True))
    pair = {} if who is None else {"client_auth": auth(getattr(tls_files, who))}
    context = client_context(config(tls_files, **pair), "web.mesh")

    found = server.asked(context)

    assert (found is None) == (said is None)
    assert said is None or (found is not None and found.startswith(said))


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("web.mesh", True),
        ("127.0.0.1", True),
        ("spiffe://mesh.test/ns/default/sa/web", True),
        ("shop.mesh", False),
        ("127.0.0.2", False),
        ("spiffe://mesh.test/ns/default/sa/shop", False),
    ],
)
def test_x1_the_name_is_verified_whatever_was_asked_for(
    tls_files: TlsFiles, name: str, accepted: bool
) -> None:
    """Also when the one who connects gives no name, or another one, as some libraries do."""
    context = client_context(config(tls_files), name)
    for asked in (None, "web.mesh", server_name_of(name)):
        server = Peer(tls_files.server_context(tls_files.web))
        if accepted:
            server.meet(context, asked)
        else:
            with pytest.raises(ssl.SSLCertVerificationError, match=f"expected {name}; see docs/tls.md"):
                server.meet(context, asked)


def test_x1_a_subject_counts_only_where_it_is_asked_for(tls_files: TlsFiles) -> None:
    """With ``commonNameFromSubject``."""
    for from_subject in (False, True):
        server = Peer(tls_files.server_context(tls_files.subject_only))
        context = client_context(config(tls_files, common_name_from_subject=from_subject), "web.mesh")
        if from_subject:
            server.meet(context)
        else:
            with pytest.raises(ssl.SSLCertVerificationError, match="commonNameFromSubject"):
                server.meet(context)


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("other", "the agent's certificate is signed by a CA that is not among the trusted ones"),
        ("expired", "the agent's certificate has expired"),
        ("revoked", "the agent's certificate has been revoked"),
        ("client_only", "the agent's certificate may not be used for this side of a connection"),
    ],
)
def test_x1_a_wrong_certificate_is_refused_with_its_reason(
    tls_files: TlsFiles, shown: str, said: str
) -> None:
    """Each in words of its own; lists of what was revoked are obeyed."""
    server = Peer(tls_files.server_context(getattr(tls_files, shown)))
    context = client_context(config(tls_files, crl_path=str(tls_files.crl)), "web.mesh")

    with pytest.raises(ssl.SSLError) as raised:
        server.meet(context, "web.mesh")

    assert told(raised.value, "the agent").startswith(said)


def test_disabled_validation_takes_anything(tls_files: TlsFiles) -> None:
    """As it says."""
    server = Peer(tls_files.server_context(tls_files.other))
    server.meet(
        client_context(ClientTlsConfig(disable_validation=True), "shop.mesh"),
        "shop.mesh",
    )


def test_a_context_for_no_name_trusts_the_given_name_only(tls_files: TlsFiles) -> None:
    """One that was made without CAs refuses everybody."""
    server = Peer(tls_files.server_context(tls_files.web))

    with pytest.raises(ssl.SSLCertVerificationError):
        server.meet(VerifyingContext.of("web.mesh"), "web.mesh")


def test_files_are_read_again_when_they_change(tls_files: TlsFiles, tmp_path: Path) -> None:
    """One context as long as they stay; a broken file leaves the old one in use and is reported once."""
    reports: list[tuple[str, Mapping[str, Any]]] = []
    bundle = tmp_path / "ca.crt"
    shutil.copy(tls_files.ca, bundle)
    contexts = ClientContexts(
        config(tls_files, trust_certs_bundle=str(bundle)),
        "web.mesh",
        lambda event, facts: reports.append((event, facts)),
        registry="consul:8501",
    )

    first = contexts.current()
    assert contexts.current() is first
    bundle.write_text("nothing of use")
    assert contexts.current() is first
    assert contexts.current() is first
    replacement = tmp_path / "new"
    shutil.copy(tls_files.other_ca, replacement)
    os.replace(replacement, bundle)
    assert contexts.current() is not first

    assert reports == [
        (
            "tls.files_refused",
            {"registry": "consul:8501", "cause": f"{bundle}: found no PEM, expected CERTIFICATE in PEM"},
        ),
        ("tls.files_renewed", {"registry": "consul:8501"}),
    ]


def test_without_a_good_file_there_is_no_context(tls_files: TlsFiles, tmp_path: Path) -> None:
    """The error names the file, and the next attempt reads it again."""
    bundle = tmp_path / "ca.crt"
    contexts = ClientContexts(
        config(tls_files, trust_certs_bundle=str(bundle)), "web.mesh", lambda _event, _facts: None
    )

    with pytest.raises(TlsFileError, match=f"{bundle}: expected a file"):
        contexts.current()
    shutil.copy(tls_files.ca, bundle)

    assert contexts.current().expected == "web.mesh"


def test_an_error_is_found_below_what_libraries_make_of_it() -> None:
    """Causes and contexts are followed, and not for ever."""
    inner = ssl.SSLError(1, "inner")
    outer = OSError("outer")
    outer.__cause__ = ValueError("between")
    outer.__cause__.__context__ = inner
    loop = OSError("loop")
    loop.__cause__ = loop

    assert tls_error(outer) is inner
    assert tls_error(loop) is None
    assert tls_error(None) is None
