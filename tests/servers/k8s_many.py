"""2,000 services with 20 endpoints each in a real API server, 200 of them (or all) in use: what hostmesh needs for it.

``python -m tests.servers.k8s_many [IN_USE ...]``, as root: its pods have addresses in a network of its own.
"""

from __future__ import annotations

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.servers.kube_server import SLICES, KubeServer, kube_server
from tests.servers.observer import Observer, Prober
from tests.servers.test_k8s_examples import add_addresses
from tests.wire.harness import Hostmesh
from tests.wire.network import own_network

SERVICES = 2000
PODS = [f"10.50.1.{number}" for number in range(1, 21)]

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@}
namers:
- kind: io.l5d.k8s
  api: {kubeconfig: KUBECONFIG}
routers:
- protocol: http
  bindingCache: {paths: 3000, bounds: 3000, clients: 3000}
  dtab: |
    /svc => /#/io.l5d.k8s/default/http;
  servers:
  - {port: @port@, ip: 127.0.0.1}
"""


def fill(server: KubeServer, port: int) -> None:
    """The services."""

    def one(number: int) -> None:
        body = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"svc-{number}-1",
                "labels": {"kubernetes.io/service-name": f"svc-{number}"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": port}],
            "endpoints": [{"addresses": [ip], "nodeName": "node-1"} for ip in PODS],
        }
        server.call("POST", SLICES.format("default"), body)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(SERVICES)))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def threads(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())


def measure(in_use: int, idle_s: float = 30.0) -> dict[str, float]:
    """What hostmesh needs with that many of the names in use."""
    with own_network(), tempfile.TemporaryDirectory() as folder:
        add_addresses(*PODS)
        root = Path(folder)
        (root / "kube").mkdir()
        with kube_server(root / "kube") as server, Observer(0, paused=True) as seen:
            endpoint = seen.endpoint(host="0.0.0.0")
            fill(server, endpoint.port)
            config = server.write_kubeconfig(root / "kubeconfig", {"token": "admin-token"})
            with Hostmesh(root, CONFIG.replace("KUBECONFIG", str(config))) as mesh:
                began = time.monotonic()
                with Prober(mesh.port, "svc-0") as prober:
                    assert prober.ask() is not None
                first = time.monotonic() - began
                began = time.monotonic()

                def use(number: int) -> None:
                    with Prober(mesh.port, f"svc-{number}") as prober:
                        assert prober.ask() is not None, number

                with ThreadPoolExecutor(16) as pool:
                    list(pool.map(use, range(in_use)))
                all_routed = time.monotonic() - began
                before = cpu_seconds(mesh.pid)
                seen.run_for(idle_s)
                return {
                    "names in use": in_use,
                    "watches": mesh.metrics()["namer/#/io.l5d.k8s/watches"],
                    "first route after start, s": round(first, 3),
                    "all routed, s": round(all_routed, 2),
                    "resident, MB": round(mesh.resident_bytes() / 1e6, 1),
                    "idle, % of a core": round((cpu_seconds(mesh.pid) - before) / idle_s * 100, 2),
                    "threads": threads(mesh.pid),
                    "descriptors": mesh.open_descriptors(),
                }


if __name__ == "__main__":
    for count in [int(each) for each in sys.argv[1:]] or [200, 2000]:
        print(", ".join(f"{what} {value:g}" for what, value in measure(count).items()), flush=True)
