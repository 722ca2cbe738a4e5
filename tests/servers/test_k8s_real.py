"""The Kubernetes namers against a real kube-apiserver."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from hostmesh.base.var import Failed
from hostmesh.registry.k8s_client import K8sClient
from tests.k8s_world import K8sApi, K8sWorld, in_folder
from tests.servers.kube_server import READ_CORE, READ_SLICES, KubeServer, kube_server
from tests.tls_files import TlsFiles


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    with kube_server(tmp_path_factory.mktemp("kube")) as found:
        yield found


def api(server: KubeServer) -> K8sApi:
    return K8sApi(kubeconfig=str(server.folder / "kubeconfig"))


def test_a_slice_is_followed_from_its_creation_to_its_deletion(server: KubeServer, tmp_path: Path) -> None:
    """A name that does not exist is Neg, comes when its slice comes, follows each change, and goes after the hold."""
    world = K8sWorld(tmp_path, api=api(server), hold_ms=200)

    async def test(_world: object) -> None:
        name = world.follow("/default/http/follow/residual")
        await world.until(lambda: name.is_neg)
        server.put_slice("follow-1", "follow", [("10.1.1.1", 8080), ("10.1.1.2", 8080)])
        await world.until(lambda: name.ports == [8080, 8080])
        server.put_slice("follow-2", "follow", [("10.1.1.2", 9090)])
        await world.until(lambda: name.ports == [8080, 8080, 9090])
        server.delete_slice("follow-1")
        await world.until(lambda: name.ports == [9090])
        server.delete_slice("follow-2")
        await world.until(lambda: name.is_neg)
        name.close()

    world.run(test)

    journal = world.journal("/default/http/follow")
    assert [action for action, _what in journal] == ["absent", *["add"] * 3, *["remove"] * 3, "absent"]
    everybody = {"10.1.1.1:8080", "10.1.1.2:8080", "10.1.1.2:9090"}
    assert {what for action, what in journal if action == "remove"} == everybody


def test_nothing_is_left_when_nobody_follows(server: KubeServer, tmp_path: Path) -> None:
    """Watches equal names in use: with the last follower the watch, the pulse and the client go."""
    world = K8sWorld(tmp_path, api=api(server))
    server.put_slice("left-1", "left", [("10.1.2.1", 80)])

    async def test(_world: object) -> None:
        first, second = world.follow("/default/http/left"), world.follow("/default/admin/left")
        await world.until(lambda: first.ports == [80] and second.is_neg)

        assert len(world.kube.client().watches) == 1

        first.close()
        second.close()
        with trio.fail_after(5):
            while world.shared.tasks.count:
                await trio.lowlevel.checkpoint()
        assert not world.shared.clients

    world.run(test)


def test_a_numbered_port_goes_by_the_service(server: KubeServer, tmp_path: Path) -> None:
    """The number of a service's port finds the endpoints' port of the same name, whatever its number there."""
    world = K8sWorld(tmp_path, api=api(server))
    ports = [
        {"name": "http", "port": 80, "targetPort": 8080},
        {"name": "admin", "port": 81, "targetPort": "adm"},
    ]
    server.put_service("numbered", ports)
    server.put_slice("numbered-1", "numbered", [("10.1.3.1", 8080)])

    async def test(_world: object) -> None:
        http, admin, other = (world.follow(f"/default/{port}/numbered") for port in (80, 81, 82))
        await world.until(lambda: http.ports == [8080] and admin.is_neg and other.is_neg)
        server.put_slice("numbered-2", "numbered", [("10.1.3.1", 9990)], port_name="admin")
        await world.until(lambda: admin.ports == [9990])

    world.run(test)


def test_a_label_is_one_more_segment(server: KubeServer, tmp_path: Path) -> None:
    """With labelSelector the path's last segment chooses among the slices."""
    world = K8sWorld(tmp_path, api=api(server), label_selector="version")
    server.put_slice("label-1", "label", [("10.1.4.1", 1001)], labels={"version": "v1"})
    server.put_slice("label-2", "label", [("10.1.4.1", 1002)], labels={"version": "v2"})

    async def test(_world: object) -> None:
        one, two, three = (world.follow(f"/default/http/label/v{n}") for n in (1, 2, 3))
        await world.until(lambda: one.ports == [1001] and two.ports == [1002] and three.is_neg)

    world.run(test)


def test_load_balancers_are_found_by_the_external_namer(server: KubeServer, tmp_path: Path) -> None:
    """The addresses of a Service's load balancer, with the number of the service port."""
    world = K8sWorld(tmp_path, api=api(server), external=True)
    server.put_service("outside", [{"name": "http", "port": 8088}], kind="LoadBalancer")

    async def test(_world: object) -> None:
        named, numbered = world.follow("/default/http/outside"), world.follow("/default/8088/outside")
        await world.until(lambda: named.is_neg)
        path = "/api/v1/namespaces/default/services/outside/status"
        service = server.call("GET", path)
        service["status"] = {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}
        server.call("PUT", path, service)
        await world.until(lambda: named.ports == [8088] and numbered.ports == [8088])

    world.run(test)


def test_it_works_through_kubectl_proxy(server: KubeServer, tmp_path: Path) -> None:
    """Linkerd's own way to the API: plain HTTP to ``kubectl proxy``."""
    port = server.start_kubectl_proxy()
    world = K8sWorld(tmp_path, host="localhost", port=port)
    server.put_slice("proxied-1", "proxied", [("10.1.5.1", 80)])

    async def test(_world: object) -> None:
        name = world.follow("/default/http/proxied")
        await world.until(lambda: name.ports == [80])
        server.put_slice("proxied-1", "proxied", [("10.1.5.1", 81)])
        await world.until(lambda: name.ports == [80, 81])

    world.run(test)


def test_a_denied_account_is_an_error_and_no_empty_answer(server: KubeServer, tmp_path: Path) -> None:
    """Without rights the name is Failed with the server's words; with them it is there within a second."""
    server.account("denied")
    in_folder(tmp_path, server.token("denied"))
    (tmp_path / "ca.crt").write_bytes((server.folder / "ca.crt").read_bytes())
    pod = K8sApi(tls=True, ca_file=str(tmp_path / "ca.crt"), token_file=str(tmp_path / "token"))
    world = K8sWorld(tmp_path, api=pod, host="127.0.0.1", port=server.port, endpoints="slices")
    server.put_slice("denied-1", "denied", [("10.1.6.1", 80)])

    async def test(_world: object) -> None:
        name = world.follow("/default/http/denied")
        await world.until(lambda: isinstance(name.tree, Failed))
        assert isinstance(name.tree, Failed)
        assert "403" in name.tree.cause
        server.allow("denied", "denied", READ_SLICES)
        await world.until(lambda: name.ports == [80])

    world.run(test)


def test_roles_written_for_linkerd_are_enough(server: KubeServer, tmp_path: Path) -> None:
    """An account that may read Endpoints and not EndpointSlices resolves names by Endpoints, and that is reported."""
    server.account("older")
    server.allow("older", "older", READ_CORE)
    in_folder(tmp_path, server.token("older"))
    pod = K8sApi(tls=True, ca_file=str(server.folder / "ca.crt"), token_file=str(tmp_path / "token"))
    world = K8sWorld(tmp_path, api=pod, host="127.0.0.1", port=server.port)
    body = {
        "metadata": {"name": "older"},
        "subsets": [
            {
                "addresses": [{"ip": "10.1.7.1", "nodeName": "n"}],
                "notReadyAddresses": [{"ip": "10.1.7.2"}],
                "ports": [{"name": "http", "port": 8080}],
            }
        ],
    }
    server.call("POST", "/api/v1/namespaces/default/endpoints", body)

    async def test(_world: object) -> None:
        name = world.follow("/default/http/older")
        await world.until(lambda: name.ports == [8080])

    world.run(test)

    assert "k8s.no_endpoint_slices" in world.reported()


def test_a_rotated_token_is_read_again(
    server: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file's new token is used at the next request; the old one may be dead by then."""
    monkeypatch.setattr(K8sClient, "watch_s", 1)
    server.account("rotated")
    server.allow("rotated", "rotated", READ_SLICES)
    (tmp_path / "ca.crt").write_bytes((server.folder / "ca.crt").read_bytes())
    in_folder(tmp_path, server.token("rotated", secret="first"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    world = K8sWorld(tmp_path, api=K8sApi(in_cluster=True, service_account=str(tmp_path)))
    server.put_slice("rotated-1", "rotated", [("10.1.8.1", 80)])

    async def test(_world: object) -> None:
        name = world.follow("/default/http/rotated")
        await world.until(lambda: name.ports == [80])
        in_folder(tmp_path, server.token("rotated", secret="second"))
        server.call("DELETE", "/api/v1/namespaces/default/secrets/first")
        watch = next(iter(world.kube.client().watches.values()))
        began = watch.begun
        # Two watches later the first token has not been sent for a while.
        with trio.fail_after(10):
            while watch.begun < began + 3:  # noqa: ASYNC110 - the end of a watch is the server's to tell
                await trio.sleep(0.05)
        server.put_slice("rotated-1", "rotated", [("10.1.8.1", 81)])
        await world.until(lambda: name.ports == [80, 81])
        assert not name.had_a_gap

    world.run(test)

    assert "error" not in [action for action, _what in world.journal("/default/http/rotated")]


def test_a_kubeconfig_names_a_program_for_its_token(server: KubeServer, tmp_path: Path) -> None:
    """Its token is used, and a refused one is replaced by what the program says later."""
    server.put_slice("exec-1", "exec", [("10.1.9.1", 8080)])
    (tmp_path / "token").write_text("wrong")
    program = tmp_path / "login"
    program.write_text(
        f'#!/bin/sh\nprintf \'{{"status": {{"token": "%s"}}}}\' "$(cat {tmp_path / "token"})"\n'
    )
    program.chmod(0o755)
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./login"}}
    config = server.write_kubeconfig(tmp_path / "kubeconfig", user)
    config.chmod(0o600)
    world = K8sWorld(tmp_path, api=K8sApi(kubeconfig=str(config)))

    async def test(_world: object) -> None:
        name = world.follow("/default/http/exec")
        await world.until(lambda: isinstance(name.tree, Failed) and "401" in name.tree.cause)
        (tmp_path / "token").write_text("admin-token")
        await world.until(lambda: name.ports == [8080], seconds=30)
        name.close()

    world.run(test)


# A handshake that is cancelled leaves its socket to the collector (httpcore), and here handshakes follow each other.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("wrong-ca", "the API server's certificate is signed by a CA that is not among the trusted ones"),
        ("wrong-name", "expected shop.mesh; see docs/tls.md"),
        ("wrong-certificate", "401"),
        ("no-ca-file", "nowhere.crt"),
    ],
    ids=["X1-wrong-ca", "X1-wrong-name", "X1-wrong-certificate", "X1-no-ca-file"],
)
def test_a_server_is_not_taken_unverified(
    server: KubeServer, tmp_path: Path, tls_files: TlsFiles, case: str, said: str
) -> None:
    """The name is Failed, with a cause that says what is wrong."""
    entry = {"server": server.url, "certificate-authority": str(server.folder / "ca.crt")}
    user = {
        "client-certificate": str(server.folder / "client.crt"),
        "client-key": str(server.folder / "client.key"),
    }
    match case:
        case "wrong-ca":
            entry["certificate-authority"] = str(tls_files.other_ca)
        case "wrong-name":
            entry["tls-server-name"] = "shop.mesh"
        case "wrong-certificate":
            user = {
                "client-certificate": str(tls_files.other.cert),
                "client-key": str(tls_files.other.key),
            }
        case _:
            entry["certificate-authority"] = str(tmp_path / "nowhere.crt")
    config = server.write_kubeconfig(tmp_path / "kubeconfig", user)
    config.write_text(config.read_text().replace(json.dumps(cluster_of(config)), json.dumps(entry)))
    world = K8sWorld(tmp_path, api=K8sApi(kubeconfig=str(config)))

    async def test(_world: object) -> None:
        name = world.follow("/default/http/unverified")
        await world.until(lambda: isinstance(name.tree, Failed) and said in name.tree.cause)
        name.close()

    world.run(test)
    gc.collect()


def cluster_of(config: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(config.read_text())["clusters"][0]["cluster"]
    return found


# A handshake that is cancelled leaves its socket to the collector (httpcore), and here handshakes follow each other.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_client_certificate_rotates(server: KubeServer, tmp_path: Path, tls_files: TlsFiles) -> None:
    """A pair that the server refuses is replaced, and the CA that was wrong; both are used without a restart."""
    server.put_slice("rotating-1", "rotating", [("10.1.9.7", 8080)])
    ca, certificate, key = tmp_path / "ca.crt", tmp_path / "client.crt", tmp_path / "client.key"
    for source, target in (
        (tls_files.other_ca, ca),
        (tls_files.other.cert, certificate),
        (tls_files.other.key, key),
    ):
        shutil.copy(source, target)
    user = {"client-certificate": str(certificate), "client-key": str(key)}
    config = server.write_kubeconfig(tmp_path / "kubeconfig", user)
    entry = {"server": server.url, "certificate-authority": str(ca)}
    config.write_text(config.read_text().replace(json.dumps(cluster_of(config)), json.dumps(entry)))
    world = K8sWorld(tmp_path, api=K8sApi(kubeconfig=str(config)))

    async def test(_world: object) -> None:
        name = world.follow("/default/http/rotating")
        await world.until(lambda: isinstance(name.tree, Failed) and "among the trusted" in name.tree.cause)
        shutil.copy(server.folder / "ca.crt", ca)
        await world.until(lambda: isinstance(name.tree, Failed) and "401" in name.tree.cause)
        shutil.copy(server.folder / "client.key", key)
        shutil.copy(server.folder / "client.crt", certificate)
        await world.until(lambda: name.ports == [8080], seconds=10)
        name.close()

    world.run(test)
    gc.collect()
