"""2,000 SRV records with 20 endpoints each on a real name server: what hostmesh needs for the 200 in use, and for all.

``python -m tests.servers.dns_many`` prints; nothing is asserted but that requests are answered.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path

from tests.servers.fetch import nsd
from tests.servers.nsd import name_server
from tests.servers.observer import Observer, Prober
from tests.wire.harness import Hostmesh

SERVICES = 2_000
ENDPOINTS = 20
IN_USE = 200

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@}
namers:
- kind: io.l5d.dnssrv
  experimental: true
  dnsHosts: [127.0.0.1]
  port: @dns@
- kind: io.l5d.rewrite
  prefix: /srv
  pattern: "/{name}"
  name: "/#/io.l5d.dnssrv/_http._tcp.{name}.example"
routers:
- protocol: http
  dtab: /svc => /#/srv;
  bindingCache: {paths: 4000, trees: 4000, bounds: 4000, clients: 4000}
  servers:
  - {port: @port@, ip: 127.0.0.1}
"""


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def report(mesh: Hostmesh, what: str, *, idle_s: float = 15.0) -> None:
    """Print what the process needs now, and while nothing is asked of it."""
    threads = len(list(Path(f"/proc/{mesh.pid}/task").iterdir()))
    begin, used = time.monotonic(), cpu_s(mesh.pid)
    threading.Event().wait(idle_s)
    share = (cpu_s(mesh.pid) - used) / (time.monotonic() - begin)
    metrics = mesh.metrics()
    print(
        f"{what}: {mesh.resident_bytes() / 1e6:.0f} MB resident, {threads} threads, {mesh.open_descriptors()} "
        f"descriptors, {metrics['namer/#/io.l5d.dnssrv/names']:.0f} names watched, idle {share:.1%} of a core, oldest "
        f"age {metrics['namer/#/io.l5d.dnssrv/max_age_ms'] / 1000:.1f} s",
        flush=True,
    )


def main() -> None:
    # One observer only for its endpoints: all services have the same twenty.
    with (
        tempfile.TemporaryDirectory() as folder,
        name_server(nsd(), Path(folder) / "nsd") as server,
        Observer(1, paused=True) as seen,
    ):
        ends = [seen.endpoint() for _ in range(ENDPOINTS)]
        lines = [f"h{i} 30 IN A 127.0.0.1" for i in range(ENDPOINTS)]
        for number in range(SERVICES):
            lines += [f"_http._tcp.s{number} 30 IN SRV 0 1 {e.port} h{i}" for i, e in enumerate(ends)]
        server.put(lines)
        with Hostmesh(Path(folder), CONFIG, ports={"dns": server.port}, start=False) as mesh:
            mesh.start()
            begin = time.monotonic()
            for number in range(SERVICES):
                with Prober(mesh.port, f"s{number}") as prober:
                    assert prober.ask() is not None, f"s{number}"
                if number == 0:
                    print(f"first route {time.monotonic() - begin:.3f} s after the first request")
                if number + 1 == IN_USE:
                    report(mesh, f"{IN_USE} of {SERVICES} in use")
            report(mesh, f"all {SERVICES} in use")


if __name__ == "__main__":
    main()
