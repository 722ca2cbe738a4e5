"""Rows X1 and X2 of the threat model for endpoints: one that is not who it must be gets no byte of a request, the
caller is told why, and the endpoint's own library says what was wrong with it.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from tests.tls_files import TlsFiles
from tests.wire.harness import EndpointServer, Hostmesh
from tests.wire.tls_peers import TlsEndpoint, client_tls, config

V11, V12, V13 = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@frozen(kw_only=True)
class Case:
    """An endpoint that must not be believed."""

    id: str
    pair: str
    reason: str
    alert: str
    """What the endpoint's OpenSSL is told, or finds out itself."""
    says: str
    """A part of the body that the caller gets."""
    newest: ssl.TLSVersion = V13
    ciphers: str = ""
    demands: bool = False
    """A certificate of us, who have none."""


CASES = [
    Case(
        id="X1-wrong-ca",
        pair="other",
        reason="tls-untrusted",
        alert="UNKNOWN_CA",
        says="is signed by a CA that is not among the trusted ones",
    ),
    Case(
        id="X1-wrong-name",
        pair="shop",
        reason="tls-name-mismatch",
        alert="ALERT",
        says="shop.mesh, shop, expected web.mesh; see docs/tls.md",
    ),
    Case(
        id="X1-name-in-the-subject-only",
        pair="subject_only",
        reason="tls-name-mismatch",
        alert="ALERT",
        says="expected web.mesh",
    ),
    Case(
        id="X1-expired",
        pair="expired",
        reason="tls-expired",
        alert="CERTIFICATE_EXPIRED",
        says="has expired",
    ),
    Case(
        id="X1-not-yet-valid",
        pair="not_yet",
        reason="tls-expired",
        alert="BAD_CERTIFICATE",
        says="is not valid yet",
    ),
    Case(
        id="X1-revoked",
        pair="revoked",
        reason="tls-revoked",
        alert="CERTIFICATE_REVOKED",
        says="has been revoked",
    ),
    Case(
        id="X1-wrong-usage",
        pair="client_only",
        reason="tls-wrong-usage",
        alert="UNSUPPORTED_CERTIFICATE",
        says="extendedKeyUsage",
    ),
    Case(
        id="X1-no-certificate-of-ours",
        pair="web",
        reason="tls-rejected",
        alert="PEER_DID_NOT_RETURN_A_CERTIFICATE",
        says="wants a certificate",
        demands=True,
    ),
    Case(
        id="X1-no-certificate-of-ours-1.2",
        pair="web",
        reason="tls-rejected",
        alert="PEER_DID_NOT_RETURN_A_CERTIFICATE",
        says="wants a certificate",
        demands=True,
        newest=V12,
    ),
    Case(
        id="X2-tls-1.1",
        pair="web",
        reason="tls-version",
        alert="UNSUPPORTED_PROTOCOL",
        says="version",
        newest=V11,
        ciphers="ALL:@SECLEVEL=0",
    ),
    Case(
        id="X2-no-shared-cipher",
        pair="web_rsa",
        reason="tls-rejected",
        alert="NO_SHARED_CIPHER",
        says="no cipher",
        newest=V12,
        ciphers="AES128-SHA",
    ),
]


def endpoint_of(files: TlsFiles, case: Case) -> TlsEndpoint:
    context = files.server_context(getattr(files, case.pair), callers=case.demands, newest=case.newest)
    if case.newest is V11:
        context.minimum_version = V11
    if case.ciphers:
        context.set_ciphers(case.ciphers)
    return TlsEndpoint(context)


class Street:
    """A hostmesh that wants ``web.mesh`` of the mesh, not revoked, from every endpoint."""

    def __init__(self, folder: Path, files: TlsFiles) -> None:
        self.files = files
        self.mesh = Hostmesh(folder, config(client=client_tls(files, crlPath=str(files.crl))))

    def failures(self, reason: str) -> float:
        name = f"rt/r/server/127.0.0.1/{self.mesh.port}/failures/{reason}"
        return self.mesh.metrics().get(name, 0)

    def refuses(self, name: str, endpoint: EndpointServer, reason: str, says: str) -> None:
        """A request for an endpoint is a 502 for that reason, and counted and logged so."""
        self.mesh.set_endpoints(name, [endpoint])
        before = self.failures(reason)

        with self.mesh.client(timeout=60) as client:
            got = client.request("POST", "/secret", host=name, body=b"secret")

        assert got.status == 502, got
        assert (got.get("l5d-err") or "").startswith(reason), got.get("l5d-err")
        assert says in got.text, got.text
        self.mesh.wait(lambda: self.failures(reason) == before + 1, f"{reason} is counted")
        self.mesh.wait(
            lambda: any(
                (e.get("reason"), e.get("host")) == (reason, name) or reason == e.get("reason")
                for e in self.mesh.log_entries()
            ),
            f"{reason} is logged",
        )


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory, tls_files: TlsFiles) -> Iterator[Street]:
    built = Street(tmp_path_factory.mktemp("street"), tls_files)
    with built.mesh:
        yield built


# OpenSSL's Python warns of versions that these tests are about.
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_an_endpoint_that_is_not_to_be_believed(street: Street, case: Case) -> None:
    """It is told why with the alert for it, and gets no byte of the request; the caller is told in words."""
    with endpoint_of(street.files, case) as endpoint:
        street.refuses(case.id.lower(), endpoint, case.reason, case.says)

        endpoint.wait_for(lambda: bool(endpoint.failures))
        assert all(case.alert in failure for failure in endpoint.failures), endpoint.failures
        assert (endpoint.received, endpoint.requests) == (b"", [])


def test_x1_plain_endpoint(street: Street) -> None:
    """X1: an endpoint that speaks no TLS gets a ClientHello, and nothing that could be read."""
    heard: list[bytes] = []

    def serve(sock: socket.socket) -> None:
        heard.append(sock.recv(65536))
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        while data := sock.recv(65536):
            heard.append(data)

    with listening(serve) as endpoint:
        street.refuses("plain", endpoint, "tls-not-spoken", "it does not speak TLS")

    assert heard[0][:2] == b"\x16\x03"
    assert b"secret" not in b"".join(heard)


def test_x2_endpoint_with_tls_that_is_not_expected(tmp_path: Path) -> None:
    """X2: an endpoint that answers plain text with an alert is one that the configuration has no TLS for."""
    decode_error = bytes((21, 3, 3, 0, 2, 2, 50))

    def serve(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(decode_error)

    with listening(serve) as endpoint, Hostmesh(tmp_path, config()) as mesh:
        mesh.set_endpoints("web", [endpoint])
        got = mesh.get()

    assert (got.status, (got.get("l5d-err") or "").partition("%3A")[0]) == (502, "tls-unexpected")
    assert "its client has no tls" in got.text


def test_x1_endpoint_that_hangs_up(street: Street) -> None:
    """X1: an endpoint that closes within the handshake."""
    with listening(lambda sock: sock.recv(1)) as endpoint:
        street.refuses("closing", endpoint, "tls-handshake", "")


@pytest.mark.slow
def test_x3_endpoint_that_says_nothing(street: Street) -> None:
    """X3: an endpoint that takes the connection and is silent is given up after the time for a handshake."""
    release = threading.Event()
    with listening(lambda _: release.wait(60)) as endpoint:
        try:
            street.refuses("silent", endpoint, "tls-timeout", "")
        finally:
            release.set()


@pytest.mark.parametrize("newest", [V12, V13], ids=["1.2", "1.3"])
@pytest.mark.parametrize("pair", ["web", "web_rsa"])
def test_x1_an_endpoint_that_is_believed(street: Street, pair: str, newest: ssl.TLSVersion) -> None:
    """X1: the same hostmesh trusts the right endpoint, ECDSA or RSA."""
    name = f"good-{pair}-{newest.name.lower()}".replace("_", "-")
    with TlsEndpoint(street.files.server_context(getattr(street.files, pair), newest=newest)) as endpoint:
        street.mesh.set_endpoints(name, [endpoint])

        assert street.mesh.get(host=name).status == 200


class listening:
    """A port whose connections are given to a function, each once, and then closed."""

    host = "127.0.0.1"

    def __init__(self, serve: Any) -> None:
        self.serve = serve
        self.listener = socket.create_server((self.host, 0))
        self.port = self.listener.getsockname()[1]
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self.one, args=(sock,))
            thread.start()
            self.threads.append(thread)

    def one(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            self.serve(sock)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(20)
