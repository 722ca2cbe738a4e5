"""Linkerd's example configurations for Kubernetes run unchanged, and the shipped one on free ports."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers.fetch import required
from tests.servers.fetch_kube import etcd, kube_apiserver, kubectl
from tests.servers.kube_server import READ_SLICES, KubeServer, kube_server
from tests.servers.running import eventually
from tests.wire.endpoint import ROOT, EndpointServer
from tests.wire.harness import Hostmesh, Response
from tests.wire.network import own_network

EXAMPLES = Path(os.environ.get("HOSTMESH_EXAMPLES", ROOT.parent / "shared/reference/linkerd-examples"))
SIOCSIFADDR = 0x8916

POD, ROUTER, FAR = "10.50.1.7", "10.50.1.2", "10.50.2.7"
"""Two addresses of one node, and one of another on which no router runs."""

examples = pytest.mark.skipif(not (EXAMPLES / "k8s.yaml").exists(), reason=f"no examples in {EXAMPLES}")


def add_addresses(*addresses: str) -> None:
    """Give the loopback interface of this network what an API server takes for pods."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for number, address in enumerate(addresses):
            name = f"lo:{number + 1}".encode()
            sockaddr = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
            fcntl.ioctl(probe, SIOCSIFADDR, struct.pack("16s16s8x", name, sockaddr))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[KubeServer]:
    """An API server in a network of the test's own, with pods' addresses."""
    if os.geteuid() != 0:
        pytest.skip("addresses for pods take root")
    (tmp_path / "kube").mkdir()
    for fetch in (etcd, kube_apiserver, kubectl):
        required(fetch)  # before there is a network from which nothing can be fetched
    with own_network():
        add_addresses(POD, ROUTER, FAR)
        with kube_server(tmp_path / "kube") as found:
            yield found


def run(folder: Path, file: Path, stack: ExitStack, **environment: str) -> Hostmesh:
    mesh = Hostmesh(folder, start=False, environment=environment)
    mesh.file = file
    mesh.ports = {"port": 4140, "admin": 9990}
    mesh.start()
    return stack.enter_context(mesh)


def answered(mesh: Hostmesh, host: str = "web", target: str = "/") -> Response:
    """The first answer of an endpoint."""

    def ask() -> Response | None:
        response = mesh.get(target, host=host)
        return response if response.status == 200 else None

    return eventually(ask)


@examples
def test_k8s_yaml(server: KubeServer, tmp_path: Path) -> None:
    """Through ``kubectl proxy`` on port 8001, a Host is a service of namespace foo with a port called http."""
    server.start_kubectl_proxy(8001)
    with ExitStack() as stack:
        endpoint = stack.enter_context(EndpointServer("web-1", host=POD))
        server.put_slice("web-1", "web", [(POD, endpoint.port)], namespace="foo")
        mesh = run(tmp_path, EXAMPLES / "k8s.yaml", stack)

        response = answered(mesh)

        assert response.endpoint == "web-1"
        assert mesh.get(host="other").status == 502


@examples
def test_k8s_servicemesh_yaml(server: KubeServer, tmp_path: Path) -> None:
    """A request goes to the router on the pod's node, and from there to the pod on that node."""
    server.start_kubectl_proxy(8001)
    with ExitStack() as stack:
        near = stack.enter_context(EndpointServer("near", host=POD))
        stack.enter_context(EndpointServer("far", host=FAR, port=near.port))
        server.put_slice("web-1", "web", [(POD, near.port), (FAR, near.port)])
        server.put_slice("l5d-1", "l5d", [(ROUTER, 4141)], port_name="incoming")
        mesh = run(tmp_path, EXAMPLES / "k8s-servicemesh.yaml", stack, POD_IP=ROUTER)

        responses = [answered(mesh), *(mesh.get() for _ in range(10))]

        assert {response.endpoint for response in responses} == {"near"}
        assert {len(response.seen_all("via")) for response in responses} == {2}
        metrics = mesh.metrics()
        client = (
            "rt/outgoing/client/%/io.l5d.k8s.daemonset/default/incoming/l5d/#/io.l5d.k8s/default/http/web"
        )
        assert metrics[f"{client}/requests"] >= 11
        assert metrics["rt/incoming/server/0.0.0.0/4141/requests"] >= 11


def test_the_shipped_configuration(server: KubeServer, tmp_path: Path) -> None:
    """``config/k8s.yaml`` as a pod would run it, but for where the kubelet puts the account's files."""
    account = tmp_path / "account"
    account.mkdir()
    server.account("hostmesh")
    server.allow("hostmesh", "hostmesh", READ_SLICES)
    (account / "token").write_text(server.token("hostmesh"))
    (account / "ca.crt").write_bytes((server.folder / "ca.crt").read_bytes())
    text = (ROOT / "config" / "k8s.yaml").read_text()
    file = tmp_path / "k8s.yaml"
    file.write_text(re.sub("( +)inCluster: true", rf"\1inCluster: true\n\1serviceAccount: {account}", text))
    with ExitStack() as stack:
        endpoint = stack.enter_context(EndpointServer("web-1", host=POD))
        server.put_slice("web-1", "web", [(POD, endpoint.port)], namespace="shop")
        server.put_slice(
            "hostmesh-1", "hostmesh", [(ROUTER, 4141)], port_name="incoming", namespace="hostmesh"
        )
        where = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.port)}
        mesh = run(tmp_path, file, stack, POD_IP=ROUTER, **where)

        response = answered(mesh, host="web.shop")

        assert (response.endpoint, len(response.seen_all("via"))) == ("web-1", 2)


INGRESS = """\
admin: {ip: 127.0.0.1, port: @admin@}
namers:
- kind: io.l5d.k8s
  api: {kubeconfig: KUBECONFIG}
routers:
- protocol: http
  identifier: {kind: io.l5d.ingress, api: {kubeconfig: KUBECONFIG}}
  dtab: |
    /svc => /#/io.l5d.k8s;
  servers:
  - {port: @port@, ip: 127.0.0.1}
"""


def test_ingress_resources_route(server: KubeServer, tmp_path: Path) -> None:
    """Rules are followed as they are made, changed and deleted; what no rule matches is 400."""
    path = "/apis/networking.k8s.io/v1/namespaces/shop/ingresses"

    def body(route: str) -> dict[str, object]:
        web = {"service": {"name": "web", "port": {"number": 80}}}
        paths = [{"path": route, "pathType": "Prefix", "backend": web}]
        rules = [{"host": "web.example", "http": {"paths": paths}}]
        return {"metadata": {"name": "web"}, "spec": {"rules": rules}}

    with ExitStack() as stack:
        endpoint = stack.enter_context(EndpointServer("web-1", host=POD))
        server.put_service("web", [{"name": "http", "port": 80}], namespace="shop")
        server.put_slice("web-1", "web", [(POD, endpoint.port)], namespace="shop")
        text = INGRESS.replace("KUBECONFIG", str(server.folder / "kubeconfig"))
        mesh = stack.enter_context(Hostmesh(tmp_path, text))
        eventually(lambda: mesh.get("/a", host="web.example").status == 400 or None)
        server.call("POST", path, body("/a"))

        response = answered(mesh, host="web.example", target="/a/b")
        missed = mesh.get("/b", host="web.example")
        server.call("PUT", f"{path}/web", body("/b"))
        moved = answered(mesh, host="web.example", target="/b")
        server.call("DELETE", f"{path}/web")
        eventually(lambda: mesh.get("/b", host="web.example").status == 400 or None)

        assert (response.endpoint, moved.endpoint) == ("web-1", "web-1")
        assert (missed.status, b"no ingress rule matches" in missed.body) == (400, True)
