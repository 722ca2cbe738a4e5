"""OpenSSL's client, curl, nginx, HAProxy and Envoy as TLS peers of a hostmesh, on either side of it."""

from __future__ import annotations

import os
import shutil
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bench.proxies import Absent, Proxy
from tests.bench.tls_load import Way
from tests.bench.tls_proxies import AnyTls, TlsEnvoy, TlsHaproxy, TlsNginx
from tests.servers.fetch import envoy, nginx, required
from tests.tls_files import TlsFiles
from tests.wire.harness import EndpointServer, Hostmesh, compose
from tests.wire.tls_peers import (
    TlsClient,
    client_tls,
    config,
    curl,
    s_client,
    server_tls,
    tls_mesh,
    trusting,
)

LAST = compose(fields=(("Connection", "close"),))


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, tls_files: TlsFiles) -> Iterator[Hostmesh]:
    """Server certificates for web and shop; ``rsa`` has an RSA one, ``chain`` one below an intermediate CA."""
    more = [{"certPath": str(tls_files.shop.cert), "keyPath": str(tls_files.shop.key)}]
    text = config(
        server=server_tls(tls_files, certificates=more),
        more={
            "rsa": server_tls(tls_files, tls_files.web_rsa),
            "chain": server_tls(tls_files, tls_files.between),
            "old": server_tls(tls_files, protocols=["TLSv1.2"]),
            "new": server_tls(tls_files, protocols=["TLSv1.3"]),
        },
    )
    with EndpointServer() as endpoint, tls_mesh(tmp_path_factory.mktemp("peers"), text, endpoint) as running:
        yield running


# -- openssl s_client -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", ["port", "rsa", "chain"])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_s_client(mesh: Hostmesh, tls_files: TlsFiles, version: str, port: str) -> None:
    """Both versions, with ECDSA, RSA and a chain: verified, forward secret, and the request is answered."""
    options = [f"-tls{version.replace('.', '_')}", "-CAfile", str(tls_files.ca), "-verify_return_error"]
    options += ["-verify_hostname", "web.mesh", "-servername", "web.mesh"]

    seen = s_client(mesh.ports[port], *options, request=LAST)

    assert (seen.version, seen.verified) == (f"TLSv{version}", True), seen.text
    assert "HTTP/1.1 200" in seen.text
    assert seen.cipher.startswith("TLS_" if version == "1.3" else "ECDHE-")
    assert "GCM" in seen.cipher or "CHACHA20" in seen.cipher


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ("h2,http/1.1", "h2"),
        ("http/1.1,h2", "h2"),
        ("http/1.1", "http/1.1"),
        ("spdy/3,http/1.1", "http/1.1"),
        ("", ""),
    ],
)
def test_alpn(mesh: Hostmesh, offered: str, chosen: str) -> None:
    """The listener takes the best protocol that both sides have, and none from a caller that offers none."""
    options = ["-alpn", offered] if offered else []

    assert s_client(mesh.port, *options).alpn == chosen


@pytest.mark.parametrize(
    ("name", "shown"),
    [("web.mesh", "web"), ("shop.mesh", "shop"), ("SHOP.Mesh", "shop"), ("other.mesh", "web"), (None, "web")],
)
def test_sni(mesh: Hostmesh, name: str | None, shown: str) -> None:
    """The certificate that carries the name asked for, else the first."""
    options = ["-noservername"] if name is None else ["-servername", name]

    assert s_client(mesh.port, *options).subject == f"CN = {shown}"


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_resumption(mesh: Hostmesh, tmp_path: Path, version: str) -> None:
    """A session is resumed from its ticket, and the request on it is answered."""
    file = str(tmp_path / "session")

    first = s_client(mesh.port, version, "-sess_out", file, request=LAST)
    again = s_client(mesh.port, version, "-sess_in", file, request=LAST)

    assert (first.reused, again.reused) == (False, True), again.text
    assert "HTTP/1.1 200" in again.text


@pytest.mark.parametrize(
    ("port", "spoken", "refused"),
    [("old", "1_2", "1_3"), ("new", "1_3", "1_2")],
    ids=["only-1.2", "only-1.3"],
)
def test_protocols(mesh: Hostmesh, port: str, spoken: str, refused: str) -> None:
    """``protocols`` leaves one version."""
    assert s_client(mesh.ports[port], f"-tls{spoken}").version == f"TLSv{spoken.replace('_', '.')}"
    assert s_client(mesh.ports[port], f"-tls{refused}").alert == "protocol version"


@pytest.mark.parametrize("group", ["X25519", "P-256", "P-384"])
def test_groups(mesh: Hostmesh, group: str) -> None:
    """The groups of key exchange that everybody has."""
    seen = s_client(mesh.port, "-groups", group)

    assert seen.version == "TLSv1.3"
    key = {"X25519": "X25519, 253 bits", "P-256": "ECDH, prime256v1", "P-384": "ECDH, secp384r1"}[group]
    assert f"Server Temp Key: {key}" in seen.text


@pytest.mark.parametrize("group", ["X448", "P-521"])
def test_other_groups(mesh: Hostmesh, group: str) -> None:
    """Groups that few have, and that cost several times as much, are not taken."""
    assert s_client(mesh.port, "-groups", group).alert == "handshake failure"


def test_a_record_at_a_time(mesh: Hostmesh, tls_files: TlsFiles) -> None:
    """A handshake and a request that arrive byte by byte are a handshake and a request."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    engine = tls_files.client_context().wrap_bio(incoming, outgoing, server_hostname="web.mesh")
    with mesh.client() as client:

        def push() -> None:
            for byte in outgoing.read():
                client.send(bytes([byte]))

        while True:
            try:
                engine.do_handshake()
                break
            except ssl.SSLWantReadError:
                push()
                incoming.write(client.socket.recv(65536))
        engine.write(LAST)
        push()
        answer = b""
        while b"\r\n\r\n" not in answer:
            try:
                answer += engine.read(65536)
            except ssl.SSLWantReadError:
                incoming.write(client.socket.recv(65536))

    assert answer.startswith(b"HTTP/1.1 200 ")


def test_keep_alive_and_pipelining(mesh: Hostmesh, tls_files: TlsFiles) -> None:
    """Many requests on one connection, alone and several in one record."""
    with TlsClient(mesh.port, tls_files.client_context()) as client:
        for _ in range(20):
            assert client.request().status == 200
        client.send(compose(target="/a") + compose(target="/b") + compose(target="/c"))
        targets = [client.response().json()["target"] for _ in range(3)]

    assert targets == ["/a", "/b", "/c"]


def test_close_notify_is_sent(mesh: Hostmesh, tls_files: TlsFiles) -> None:
    """The end of a connection is said in TLS, so that nobody can cut an answer short unseen."""
    context = tls_files.client_context()
    with mesh.client() as client:
        sock = context.wrap_socket(client.socket, server_hostname="web.mesh", suppress_ragged_eofs=False)
        sock.sendall(LAST)
        answer = b""
        while data := sock.recv(65536):
            answer += data
        sock.close()

    assert answer.startswith(b"HTTP/1.1 200 ")


# -- curl -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.1", "2"])
@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_curl(mesh: Hostmesh, tls_files: TlsFiles, tls: str, version: str) -> None:
    """HTTP/1.1 and HTTP/2 on one port, by ALPN."""
    options = [f"--http{version}", f"--tlsv{tls}", "--tls-max", tls, *trusting(tls_files)]

    got = curl(mesh.port, *options)

    assert (got.code, got.status, got.version) == (0, 200, version), got


# -- proxies ----------------------------------------------------------------------------------------------------------


def haproxy() -> Path:
    found = shutil.which("haproxy", path="/usr/sbin:/usr/bin")
    if found is None:
        why = "HAProxy is not installed: apt-get install haproxy"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    return Path(found)


PROXIES: dict[str, tuple[Callable[[], object], type[AnyTls]]] = {
    "nginx": (lambda: required(nginx), TlsNginx),
    "haproxy": (haproxy, TlsHaproxy),
    "envoy": (lambda: required(envoy), TlsEnvoy),
}

MUTUAL = pytest.mark.parametrize("mutual", [False, True], ids=["tls", "mtls"])


def started(stack: ExitStack, folder: Path, files: TlsFiles, kind: str, way: Way, port: int) -> Proxy:
    """A proxy of that kind, whose service ``web`` is at the port."""
    have, make = PROXIES[kind]
    have()
    proxy = make(folder, 0)
    proxy.use(files, way)
    if way.callers:
        proxy.ready_context = files.client_context(files.client)
    try:
        proxy.start({"web": [("127.0.0.1", port)]})
    except Absent as why:
        pytest.fail(str(why))
    stack.callback(proxy.stop)
    return proxy


@MUTUAL
@pytest.mark.parametrize("kind", PROXIES)
def test_a_proxy_as_caller(tmp_path: Path, tls_files: TlsFiles, kind: str, mutual: bool) -> None:
    """A proxy that speaks TLS to its endpoints, of which hostmesh is one: verified, and with a certificate."""
    text = config(server=server_tls(tls_files, callers=mutual))
    way = Way(callers=False, endpoints=True, mutual=mutual)
    with ExitStack() as stack:
        endpoint = stack.enter_context(EndpointServer())
        mesh = stack.enter_context(tls_mesh(tmp_path, text, endpoint))
        proxy = started(stack, tmp_path, tls_files, kind, way, mesh.port)

        for _ in range(5):
            got = curl(proxy.port, scheme="http")
            assert (got.code, got.status) == (0, 200), got


@MUTUAL
@pytest.mark.parametrize("kind", PROXIES)
def test_a_proxy_as_endpoint(tmp_path: Path, tls_files: TlsFiles, kind: str, mutual: bool) -> None:
    """A proxy that demands TLS, and with ``mtls`` a certificate, is an endpoint like any other."""
    text = config(client=client_tls(tls_files, tls_files.client if mutual else None))
    way = Way(callers=True, endpoints=False, mutual=mutual)
    with ExitStack() as stack:
        endpoint = stack.enter_context(EndpointServer())
        proxy = started(stack, tmp_path, tls_files, kind, way, endpoint.port)
        mesh = stack.enter_context(Hostmesh(tmp_path, text, start=False))
        mesh.set_endpoints("web", [f"127.0.0.1 {proxy.port}"])
        mesh.start()

        for _ in range(5):
            assert mesh.get().status == 200
