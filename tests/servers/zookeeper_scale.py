"""What many services in ZooKeeper cost: ``python -m tests.servers.zookeeper_scale``.

2,000 services of 20 members each; 200 of them are asked for, then all. Printed are the time to the first route, memory,
threads, descriptors, watches at the server, the processor time of an idle minute, and what a reconnect takes.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from tests.servers.zookeeper_server import ZooKeeperServer, member
from tests.wire.harness import EndpointServer, Hostmesh

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@}
namers:
- kind: io.l5d.serversets
  zkAddrs: [{host: 127.0.0.1, port: @zookeeper@}]
routers:
- protocol: http
  bindingCache: {paths: 3000, trees: 3000, bounds: 3000, clients: 3000, idleTtlSecs: 3600}
  dtab: |
    /svc => /#/io.l5d.serversets/discovery/prod;
  servers:
  - {port: @port@, ip: 127.0.0.1}
"""


def fill(server: ZooKeeperServer, services: int, members: int, endpoint: EndpointServer) -> None:
    """Members are addresses of one real endpoint: 127.0.0.1 to 127.0.0.20 are all this machine."""
    client = server.client
    client.ensure_path("/discovery/prod")
    for number in range(services):
        path = f"/discovery/prod/s{number}"
        results = [client.create_async(path)]
        for each in range(members):
            content = json.dumps(member(f"127.0.0.{each + 1}", endpoint.port)).encode()
            results.append(client.create_async(f"{path}/member_", content, sequence=True))
        for result in results:
            result.get(timeout=30)


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def shown(mesh: Hostmesh, server: ZooKeeperServer) -> str:
    threads = len(list(Path(f"/proc/{mesh.pid}/task").iterdir()))
    return (
        f"{mesh.resident_bytes() / 1e6:.0f} MB resident, {threads} threads, {mesh.open_descriptors()} descriptors, "
        f"{server.watches()} watches at the server"
    )


def ask(mesh: Hostmesh, first: int, last: int) -> None:
    """One request to each of the services."""
    with mesh.client(timeout=30) as client:
        for number in range(first, last):
            response = client.request("GET", "/", host=f"s{number}")
            assert response.status == 200, (number, response.status, response.text)


def idle(mesh: Hostmesh, seconds: float) -> str:
    """Share of a core in a time without requests."""
    before, begin = processor_s(mesh.pid), time.monotonic()
    time.sleep(seconds)  # noqa: TID251 - this is the measurement
    return f"{100 * (processor_s(mesh.pid) - before) / (time.monotonic() - begin):.2f} % of a core"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=2000)
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--used", type=int, default=200)
    parser.add_argument("--idle", type=float, default=30.0, help="seconds of each idle measurement")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, EndpointServer("many", host="0.0.0.0") as endpoint:
        folder = Path(name)
        for each in ("zookeeper", "mesh"):
            (folder / each).mkdir()
        with ZooKeeperServer(folder / "zookeeper") as server:
            fill(server, options.services, options.members, endpoint)
            begin = time.monotonic()
            with Hostmesh(folder / "mesh", CONFIG, ports={"zookeeper": server.port}) as mesh:
                ready = time.monotonic()
                ask(mesh, 0, 1)
                routed = time.monotonic()
                print(
                    f"ready {ready - begin:.2f} s after the start, the first route {routed - ready:.3f} s later; "
                    f"{processor_s(mesh.pid):.2f} s of processor until then",
                    flush=True,
                )
                for count in (options.used, options.services):
                    begin = time.monotonic()
                    ask(mesh, 1, count)
                    print(
                        f"{count} in use, {time.monotonic() - begin:.1f} s of requests one after the other:"
                    )
                    print(f"  {shown(mesh, server)}; idle {idle(mesh, options.idle)}")
                    reconnect(mesh, server, count)


def reconnect(mesh: Hostmesh, server: ZooKeeperServer, count: int) -> None:
    """What a lost session costs: every watch is armed again."""
    before = processor_s(mesh.pid)
    state = json.loads(mesh.admin("/namer_state/io.l5d.serversets.json").body)
    server.expire(state["zookeeper"]["session"])
    begin = time.monotonic()
    while server.watches() < count:
        assert time.monotonic() < begin + 60, server.watches()
    print(
        f"  new session: {count} watches armed after {time.monotonic() - begin:.2f} s and "
        f"{processor_s(mesh.pid) - before:.2f} s of processor; {shown(mesh, server)}"
    )


if __name__ == "__main__":
    main()
