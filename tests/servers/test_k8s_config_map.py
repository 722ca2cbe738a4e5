"""The dtab in a ConfigMap of a real API server, followed by a running hostmesh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.servers.kube_server import KubeServer, kube_server
from tests.wire.harness import EndpointServer, Hostmesh

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@}
routers:
- protocol: http
  label: web
  interpreter:
    kind: io.l5d.k8s.configMap
    experimental: true
    name: dtabs
    filename: web.dtab
    namespace: mesh
    HOW
  servers:
  - {port: @port@, ip: 127.0.0.1}
"""

MAPS = "/api/v1/namespaces/mesh/configmaps"


def put(server: KubeServer, **data: str) -> None:
    """Make or replace the ConfigMap, as ``kubectl apply`` does."""
    body: dict[str, Any] = {"metadata": {"name": "dtabs"}, "data": data}
    if server.http.put(f"{MAPS}/dtabs", json=body).status_code == 404:
        server.call("POST", MAPS, body)


def test_config_map_dtab_is_followed(tmp_path: Path) -> None:
    """Through ``kubectl proxy`` and directly: a change, a bad dtab, a restart of the server, a deletion."""
    (tmp_path / "kube").mkdir()
    with (
        kube_server(tmp_path / "kube") as server,
        EndpointServer("one") as one,
        EndpointServer("two") as two,
    ):
        to = {each.name: {"web.dtab": f"/svc => /$/inet/127.0.0.1/{each.port};"} for each in (one, two)}
        proxy = server.start_kubectl_proxy()
        hows = {"proxied": f"port: {proxy}", "direct": f"api: {{kubeconfig: {server.folder / 'kubeconfig'}}}"}
        meshes = {}
        for name, how in hows.items():
            (tmp_path / name).mkdir()
            meshes[name] = Hostmesh(tmp_path / name, CONFIG.replace("HOW", how))
        try:
            for mesh in meshes.values():
                assert mesh.get().status == 502  # no namespace, no ConfigMap, and so an empty dtab
            server.namespace("mesh")
            put(server, **to["one"])
            for mesh in meshes.values():
                mesh.wait(lambda mesh=mesh: mesh.get().endpoint == "one", "the ConfigMap is followed")
            put(server, **to["two"])
            for mesh in meshes.values():
                mesh.wait(lambda mesh=mesh: mesh.get().endpoint == "two", "the change is followed")
            put(server, **{"web.dtab": "/svc =>"})
            for mesh in meshes.values():
                mesh.wait_log("interpreter.bad_dtab")
                assert mesh.get().endpoint == "two"
            direct = meshes["direct"]
            server.kill("api")
            assert direct.get().endpoint == "two"
            server.start_api()
            put(server, **to["one"])
            direct.wait(lambda: direct.get().endpoint == "one", "the server is back", within=30)
            page = direct.admin("/web/interpreter_state/io.l5d.k8s.configmap.json").json()
            assert (page["configMap"], page["error"], page["missing"]) == ("mesh/dtabs:web.dtab", None, False)
            server.call("DELETE", f"{MAPS}/dtabs")
            direct.wait(lambda: direct.get().status == 502, "the deletion is believed")
        finally:
            for mesh in meshes.values():
                mesh.close()
