"""Linkerd's example configurations with TLS, against certificates that are made for them.

The files are used as they are. Those that name ``/foo/cert.pem`` and the like run in a mount namespace where ``/foo``
is the folder of the certificates, and those that call hosts of the internet in one whose ``/etc/hosts`` has them on
loopback (:mod:`tests.wire.other_root`). Where no such namespace can be had, ``/foo`` in a copy of the file is replaced
by that folder, which is then the only difference; tests that need the hosts are skipped. Where a file names no CAs,
those of the system count: OpenSSL's ``SSL_CERT_FILE`` says that it is the test's CA.

``HOSTMESH_EXAMPLES`` names the folder of the examples as for tests/wire/test_wire_examples.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.servers.fetch import required, zookeeper
from tests.servers.zookeeper_server import ZooKeeperServer, member
from tests.tls_files import Issued, TlsFiles
from tests.wire.harness import EndpointServer, Hostmesh, RawClient
from tests.wire.network import own_network
from tests.wire.other_root import with_files
from tests.wire.test_wire_examples import ADMIN, DOG, EXAMPLES, PORT
from tests.wire.tls_admin import TlsAdminMesh
from tests.wire.tls_peers import TlsClient, TlsEndpoint, alert_of

pytestmark = pytest.mark.skipif(not (EXAMPLES / "tls.yaml").exists(), reason=f"no examples in {EXAMPLES}")

Run = Callable[..., Hostmesh]


@pytest.fixture
def network() -> Iterator[ExitStack]:
    """What is entered here lives in the test's own network, and ends before it."""
    with own_network(), ExitStack() as stack:
        yield stack


@pytest.fixture
def foo(tmp_path: Path) -> Path:
    """What the daemon sees as ``/foo``."""
    folder = tmp_path / "foo"
    folder.mkdir()
    return folder


@pytest.fixture
def example(network: ExitStack, tmp_path: Path, foo: Path, tls_files: TlsFiles) -> Run:
    """Runs the file of that name from a folder where ``linkerd/examples`` is what it expects."""

    def run(name: str, *, hosts: dict[str, str] | None = None) -> Hostmesh:
        (tmp_path / "linkerd").mkdir()
        (tmp_path / "linkerd" / "examples").symlink_to(EXAMPLES)
        mesh = Hostmesh(tmp_path, start=False, environment={"SSL_CERT_FILE": str(tls_files.ca)})
        mesh.file = Path("linkerd/examples") / name
        mesh.ports = {"port": PORT, "admin": ADMIN}
        prefix = with_files(tmp_path, foo, hosts or {})
        if prefix is not None:
            mesh.prefix = prefix
        elif hosts:
            pytest.skip("needs a mount namespace for /etc/hosts")
        else:
            mesh.file = tmp_path / name
            mesh.file.write_text((EXAMPLES / name).read_text().replace("/foo/", f"{foo}/"))
        mesh.start()
        return network.enter_context(mesh)

    return run


@pytest.fixture
def secure(network: ExitStack, tls_files: TlsFiles) -> Callable[..., TlsEndpoint]:
    """Builds endpoints behind TLS: ``secure(443, pair)``."""

    def build(port: int, pair: Issued, name: str = "web-1", *, callers: bool = False) -> TlsEndpoint:
        context = tls_files.server_context(pair, callers=callers)
        return network.enter_context(TlsEndpoint(context, name, port=port))

    return build


@pytest.fixture
def endpoint(network: ExitStack) -> Callable[..., EndpointServer]:
    """Builds endpoints in plain text: ``endpoint(7777)``."""

    def build(port: int, name: str = "web-1") -> EndpointServer:
        return network.enter_context(EndpointServer(name, port=port))

    return build


def asked(endpoint: TlsEndpoint) -> list[str]:
    """The targets of the requests that have arrived."""
    return [request.target for request in endpoint.requests]


def test_admin_tls(network: ExitStack, tmp_path: Path, tls_files: TlsFiles, example: Run) -> None:
    """Pages come over TLS only, whoever shows a certificate must show a good one, and the router that leads to the
    admin, in plain text, is told that it is https."""
    del example
    resources = tmp_path / "finagle/h2/src/e2e/resources"
    resources.mkdir(parents=True)
    for source, name in (
        (tls_files.web.cert, "linkerd-tls-e2e-cert.pem"),
        (tls_files.web.key, "linkerd-tls-e2e-key.pem"),
        (tls_files.ca, "cacert.pem"),
    ):
        shutil.copy(source, resources / name)
    mesh = TlsAdminMesh(tmp_path, "", tls_files.client_context(), start=False)
    mesh.file, mesh.ports = EXAMPLES / "admin-tls.yaml", {"port": PORT, "admin": ADMIN}
    mesh.start()
    network.enter_context(mesh)

    assert mesh.admin("/admin/ping").body == b"pong"
    assert mesh.serial() == tls_files.web.serial
    wrong = tls_files.client_context(tls_files.other)
    assert "UNKNOWN_CA" in alert_of(ADMIN, wrong, "localhost", request=b"GET / HTTP/1.1\r\n\r\n")
    with RawClient(ADMIN) as plain:
        assert plain.request("GET", "/admin/ping", host="localhost").status == 400
    through = mesh.get("/admin/ping", host="anything")
    assert (through.status, "https://" in through.text) == (400, True)
    with TlsClient(ADMIN, tls_files.client_context(tls_files.client), "localhost") as client:
        assert client.request("GET", "/requests", host="localhost").status == 200


def test_tls(example: Run, secure: Callable[..., TlsEndpoint], foo: Path, tls_files: TlsFiles) -> None:
    """Callers see the certificate and its intermediate, endpoints must be who the name in the path says."""
    shutil.copy(tls_files.between.cert, foo / "cert.pem")
    shutil.copy(tls_files.between.key, foo / "key.pem")
    shutil.copy(str(tls_files.between.intermediates), foo / "ca-chain.pem")
    shutil.copy(tls_files.ca, foo / "caCert.pem")
    dog = secure(DOG, tls_files.mesh.issue("dog", ["dog"]), "dog-1")
    example("tls.yaml")

    with TlsClient(PORT, tls_files.client_context(), "web.mesh") as client:
        found = client.request("GET", "/bone", host="dog")
        assert (found.status, found.endpoint) == (200, "dog-1")
        # The same address, and not the same name.
        refused = client.request("GET", "/milk", host="cat")
        assert refused.status == 502
        assert "certificate is for dog, expected cat" in refused.text
    assert asked(dog) == ["/bone"]


def test_mutual_tls(example: Run, secure: Callable[..., TlsEndpoint], foo: Path, tls_files: TlsFiles) -> None:
    """Both hops with certificates on both sides; ours towards endpoints comes with its intermediate."""
    for source, name in (
        (tls_files.web.cert, "cert.pem"),
        (tls_files.web.key, "key.pem"),
        (tls_files.ca, "cacert.pem"),
        (tls_files.between.cert, "clientCert.pem"),
        (tls_files.between.key, "clientKey.pem"),
        (tls_files.between.intermediates, "intermediateCa.pem"),
    ):
        shutil.copy(str(source), foo / name)
    dog = secure(DOG, tls_files.mesh.issue("foo", ["foo"]), "dog-1", callers=True)
    example("mutualTls.yaml")

    with TlsClient(PORT, tls_files.client_context(tls_files.client), "web.mesh") as client:
        assert client.request("GET", "/bone", host="dog").endpoint == "dog-1"
        assert client.request("GET", "/milk", host="cat").endpoint == "dog-1"
    assert set(dog.callers) == {"web.mesh"}
    request = b"GET /no HTTP/1.1\r\nHost: dog\r\n\r\n"
    assert "CERTIFICATE_REQUIRED" in alert_of(PORT, tls_files.client_context(), request=request)
    stranger = tls_files.client_context(tls_files.other)
    assert "UNKNOWN_CA" in alert_of(PORT, stranger, request=request)
    assert asked(dog) == ["/bone", "/milk"]


def test_disable_tls(
    example: Run,
    secure: Callable[..., TlsEndpoint],
    endpoint: Callable[..., EndpointServer],
    tls_files: TlsFiles,
) -> None:
    """TLS to an outside host, verified by the system's CAs; none to localhost, for which the file switches it off."""
    google = secure(443, tls_files.mesh.issue("google", ["www.google.com"]), "outside")
    local = endpoint(7777, "local")
    mesh = example("disable-tls.yaml", hosts={"www.google.com": "127.0.0.1"})

    assert mesh.get("/search", host="foo").endpoint == "outside"
    assert mesh.get("/near", host="bar").endpoint == "local"
    assert asked(google) == ["/search"]
    assert local.requests[0].target == "/near"


def test_client_options(example: Run, secure: Callable[..., TlsEndpoint], tls_files: TlsFiles) -> None:
    """Whatever the namer, a service must prove ``<service>.linkerd.io``, on top of each service's own options."""
    both = secure(DOG, tls_files.mesh.issue("pets", ["cat.linkerd.io", "dog.linkerd.io"]), "pet-1")
    mesh = example("client-options.yaml")

    assert mesh.get("/bone", host="dog").endpoint == "pet-1"
    assert mesh.get("/milk", host="cat").endpoint == "pet-1"
    assert sorted(asked(both)) == ["/bone", "/milk"]
    # The file ``default`` leads to the admin, which has no TLS here.
    refused = mesh.get("/", host="default")
    assert (refused.status, "does not speak TLS" in refused.text or "without TLS" in refused.text) == (
        502,
        True,
    )


def test_client_options_refuse_another_name(
    example: Run, secure: Callable[..., TlsEndpoint], tls_files: TlsFiles
) -> None:
    """An endpoint that is dog only is no cat."""
    dog = secure(DOG, tls_files.mesh.issue("only-dog", ["dog.linkerd.io"]), "dog-1")
    mesh = example("client-options.yaml")

    assert mesh.get("/bone", host="dog").endpoint == "dog-1"
    refused = mesh.get("/milk", host="cat")
    assert refused.status == 502
    assert "certificate is for dog.linkerd.io, expected cat.linkerd.io" in refused.text
    assert asked(dog) == ["/bone"]


def test_proxy(
    example: Run,
    secure: Callable[..., TlsEndpoint],
    endpoint: Callable[..., EndpointServer],
    tls_files: TlsFiles,
) -> None:
    """Any host by its name: https where the port is 443, else plain text, by default to port 80."""
    outside = secure(443, tls_files.mesh.issue("outside", ["www.example.com"]), "https")
    plain, other = endpoint(80, "http"), endpoint(8080, "other")
    hosts = {"www.example.com": "127.0.0.1", "www.example.net": "127.0.0.1"}
    mesh = example("proxy.yaml", hosts=hosts)

    assert mesh.get("/s", host="www.example.com:443").endpoint == "https"
    assert mesh.get("/p", host="www.example.com").endpoint == "http"
    assert mesh.get("/o", host="www.example.com:8080").endpoint == "other"
    refused = mesh.get("/x", host="www.example.net:443")
    assert refused.status == 502
    assert "certificate is for www.example.com, expected www.example.net" in refused.text
    assert asked(outside) == ["/s"]
    assert [request.target for request in (*plain.requests, *other.requests)] == ["/p", "/o"]


@pytest.fixture(scope="session")
def zookeeper_command() -> list[str]:
    """Fetched before any test has a network of its own, from which nothing can be fetched."""
    return required(zookeeper)


def test_serversets(
    zookeeper_command: list[str],
    network: ExitStack,
    example: Run,
    secure: Callable[..., TlsEndpoint],
    endpoint: Callable[..., EndpointServer],
    tmp_path: Path,
    tls_files: TlsFiles,
) -> None:
    """``/host/www.example.com`` is the additional endpoint ``https`` of a member in a real ZooKeeper, and gets TLS with
    that name; ``/host/www.example2.com``, without ``:https``, gets none."""
    del zookeeper_command
    (tmp_path / "zookeeper").mkdir()
    server = network.enter_context(ZooKeeperServer(tmp_path / "zookeeper", 2181))
    outside = secure(8443, tls_files.mesh.issue("www", ["www.example.com"]), "https")
    endpoint(8080, "http")
    more: dict[str, Any] = {"additionalEndpoints": {"https": {"host": "127.0.0.1", "port": 8443}}}
    for name in ("example", "example2"):
        node = json.dumps(member("127.0.0.1", 8080, **more)).encode()
        server.put_raw(f"/discovery/prod/www/{name}", node)
    server.put("/web", "127.0.0.1", 8080)
    mesh = example("serversets.yaml")

    assert mesh.get("/", host="web").endpoint == "http"

    def routed(host: str) -> str:
        # The example's own rules want methodAndHost; the request says which of its names it means.
        answer = mesh.get("/", host=host, l5d_dtab=f"/svc => /host/{host}; /svc/{host} => /host/{host}")
        return answer.endpoint if answer.status == 200 else answer.text

    assert routed("www.example.com") == "https"
    assert routed("www.example2.com") == "http"
    assert asked(outside) == ["/"]
    # Its server listens on all interfaces, and here there is none but loopback.
    mesh.wait_log("announcement.impossible")
