"""2,000 services with 20 endpoints each in a real Consul, and what hostmesh needs for them.

``python -m tests.servers.consul_scale`` prints time to the first route, memory, idle cost, threads, descriptors, and
how old the oldest answer became: with 200 names in use and everything as it comes (150 watches, an agent that closes
what is above 200 connections of a client), then with all 2,000 names in use; and both again with both limits raised.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import tempfile
import time
from pathlib import Path

from tests.servers.consul_agent import ConsulServer
from tests.wire.harness import Answer, EndpointServer, Hostmesh

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@}
namers:
- kind: io.l5d.consul
  host: 127.0.0.1
  port: @consul@
  maxWatches: WATCHES
routers:
- protocol: http
  bindingCache: {paths: 3000, trees: 3000, bounds: 3000, clients: 3000, idleTtlSecs: 600}
  dtab: |
    /svc => /#/io.l5d.consul/dc1;
  servers:
  - {port: @port@, ip: 127.0.0.1}
"""


def fill(consul: ConsulServer, services: int, endpoints: int, port: int) -> None:
    """One catalog transaction per node: node n has one instance of every service, at 127.0.n.1."""
    connection = http.client.HTTPConnection("127.0.0.1", consul.port, timeout=30)
    for number in range(services):
        for node in range(endpoints):
            host = f"127.0.{node}.1"
            instance = {"ID": f"s{number}-{node}", "Service": f"s{number}", "Address": host, "Port": port}
            body = {"Node": f"node{node}", "Address": host, "Service": instance, "SkipNodeUpdate": number > 0}
            connection.request("PUT", "/v1/catalog/register", json.dumps(body))
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
    connection.close()


def _closing() -> EndpointServer:
    """An endpoint that keeps no connection, so that descriptors are those of names."""
    return EndpointServer("any", host="0.0.0.0", respond=lambda _request: Answer(close=True))


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def measure(
    consul: ConsulServer, folder: Path, *, in_use: int, watches: int, limit: int, idle_s: float
) -> str:
    folder.mkdir()
    consul.limit_connections(limit)
    config = CONFIG.replace("WATCHES", str(watches))
    with Hostmesh(folder, config, ports={"consul": consul.port}) as mesh:
        begin = time.monotonic()
        assert mesh.get("/", host="s0").status == 200
        first = time.monotonic() - begin
        with mesh.client() as client:
            for number in range(in_use):
                answer = client.request("GET", "/", host=f"s{number}")
                assert answer.status == 200, f"s{number}: {answer}"
        all_s = time.monotonic() - begin
        # The first half minute after a start is another thing: see Rotation.begin_after_another.
        waiting = max(0, in_use - watches)
        mesh.wait_metric("namer/#/io.l5d.consul/waiting", lambda value: value == waiting, within=60)
        state = json.loads(mesh.admin("/namer_state/io.l5d.consul.json", timeout=60).body)
        before, at = cpu_s(mesh.pid), time.monotonic()
        # The process exits never: this waits for the time to be over.
        deadline = at + idle_s
        mesh.wait(lambda: time.monotonic() > deadline, "idle", within=idle_s + 5)
        idle = (cpu_s(mesh.pid) - before) / (time.monotonic() - at)
        ages, errors = [], 0.0
        for second in range(10):
            mesh.wait(lambda end=deadline + second: time.monotonic() > end, "a look at the ages", within=20)
            metrics = mesh.metrics()
            ages.append(metrics["namer/#/io.l5d.consul/max_age_ms"])
            errors = metrics["namer/#/io.l5d.consul/service/errors"]
        period = metrics["namer/#/io.l5d.consul/rotation_period_ms"]
        return (
            f"{in_use} names in use, at most {watches} watches and {limit} connections: "
            f"first route {first * 1000:.0f} ms, "
            f"all after {all_s:.1f} s, "
            f"{mesh.resident_bytes() / 1e6:.0f} MB, idle {idle * 100:.2f} % of a core, {threads(mesh.pid)} threads, "
            f"{mesh.open_descriptors()} descriptors, {state['watches']} watches held and {state['waiting']} waiting, "
            f"a turn every {period / 1000:.0f} s, oldest answer {max(ages) / 1000:.1f} s, {errors:.0f} errors"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=2000)
    parser.add_argument("--endpoints", type=int, default=20)
    parser.add_argument("--only", type=int, help="which of the four measurements")
    parser.add_argument("--idle", type=float, default=30.0, help="seconds over which idle cost is measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, _closing() as endpoint:
        folder = Path(name)
        (folder / "consul").mkdir()
        with ConsulServer(folder / "consul", max_connections=4000) as consul:
            begin = time.monotonic()
            fill(consul, options.services, options.endpoints, endpoint.port)
            print(
                f"{options.services} x {options.endpoints} registered in {time.monotonic() - begin:.0f} s",
                flush=True,
            )
            few = options.services // 10
            # A limit is never lowered: the agent still counts the watches of the measurement before.
            for number, (in_use, watches, limit) in enumerate(
                [
                    (few, few * 3 // 4, few),
                    (options.services, few * 3 // 4, few),
                    (few, few, few * 2),
                    (options.services, options.services, options.services * 2),
                ]
            ):
                if options.only is not None and number != options.only:
                    continue
                print(
                    measure(
                        consul,
                        folder / f"mesh{number}",
                        in_use=in_use,
                        watches=watches,
                        limit=limit,
                        idle_s=options.idle,
                    ),
                    flush=True,
                )


if __name__ == "__main__":
    main()
