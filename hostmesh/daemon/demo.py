"""``hostmesh demo``: two small services with two replicas each, and a router in front of them, on this
machine.

The replicas are processes of their own, so that killing one is what it would be in earnest: connections
reset and refused, the endpoint still registered. Everything lives in a temporary folder and ends with the
demo.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio
from attrs import frozen

SERVICES = ("web", "users")
REPLICAS = 2
FAULT_SECONDS = 0.5
"""How slow ``--fault`` makes the last replica of ``web``: five hundred times the others, and still
bearable.
"""

ROUTER_PORT = 4140
ADMIN_PORT = 9990

CONFIG = """\
# The configuration of `hostmesh demo`: every service is a file of endpoints under rootDir.
#   curl -H 'Host: web' http://127.0.0.1:{port}/
admin:
  ip: 127.0.0.1
  port: {admin}

telemetry:
- kind: io.l5d.prometheus
- kind: io.l5d.recentRequests
  sampleRate: 1.0
  capacity: 50

namers:
- kind: io.l5d.fs
  rootDir: {root_dir}

routers:
- protocol: http
  label: demo
  dtab: |
    /svc => /#/io.l5d.fs;
  service:
    totalTimeoutMs: 10000
    responseClassifier:
      kind: io.l5d.http.retryableRead5XX
  client:
    loadBalancer:
      kind: ewma
  servers:
  - ip: 127.0.0.1
    port: {port}
"""


def demo_config(root_dir: str, *, port: int = ROUTER_PORT, admin: int = ADMIN_PORT) -> str:
    """The configuration text of the demo for a folder of endpoint files."""
    return CONFIG.format(root_dir=root_dir, port=port, admin=admin)


@frozen
class Replica:
    """A running replica process and where it listens."""

    name: str
    process: trio.Process
    port: int

    @property
    def pid(self) -> int:
        return self.process.pid


async def start_replica(name: str, delay: float) -> Replica:
    """Start one replica and wait for its port.

    It gets a session of its own: Ctrl-C in the terminal must reach the router first, whose drain still
    needs endpoints. Raises RuntimeError when it exits before it listens.
    """
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "hostmesh.daemon.replica", name, str(delay)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        more = await process.stdout.receive_some()
        if not more:
            raise RuntimeError(f"{name} ended before it listened")
        line += more
    return Replica(name, process, int(line))


async def watch_replica(replica: Replica, say: Callable[[str], object]) -> None:
    """Say when a replica has ended, which nothing but the user's own kill should cause."""
    await replica.process.wait()
    say(
        f"\n{replica.name} (pid {replica.pid}) has stopped. It is still registered; ask again and see who answers.\n"
    )


def register(folder: Path, replicas: list[Replica]) -> None:
    """Write the endpoint files that the file namer watches."""
    for service in SERVICES:
        mine = [replica for replica in replicas if replica.name.startswith(f"{service}-")]
        lines = (f"127.0.0.1 {replica.port}\n" for replica in mine)
        (folder / service).write_text("".join(lines))


def banner(replicas: list[Replica], *, fault: bool, port: int, admin: int, folder: Path) -> str:
    """What to try."""
    running = "\n".join(
        f"  {replica.name:8} pid {replica.pid}, 127.0.0.1:{replica.port}" for replica in replicas
    )
    victim = replicas[0]
    slow = f"web-{REPLICAS}"
    lines = [
        "",
        f"hostmesh demo: router on 127.0.0.1:{port}, admin on http://127.0.0.1:{admin}/",
        running,
        f"  their endpoint files are in {folder}",
        "",
        "Try, in another terminal:",
        f"  curl -H 'Host: web' http://127.0.0.1:{port}/                who answers, and which l5d-* headers it saw",
        f"  http_proxy=http://127.0.0.1:{port} curl http://users/        the same, entered as a proxy",
        f"  curl -H 'Host: web' -H 'l5d-dtab: /svc/web => /svc/users' http://127.0.0.1:{port}/   only this request",
        f"  kill {victim.pid}                                                stop {victim.name}, then ask again",
        f"  curl 'http://127.0.0.1:{admin}/delegator.json?namespace=demo&path=/svc/web&dtab=/svc=>/%23/io.l5d.fs'",
        f"  curl 'http://127.0.0.1:{admin}/admin/metrics.json?pretty=true'",
    ]
    if fault:
        loop = f"for i in $(seq 100); do curl -s -H 'Host: web' http://127.0.0.1:{port}/ | head -1; done"
        lines += [
            "",
            f"{slow} answers {FAULT_SECONDS:g} s late. Watch it being avoided, and tried again now and then:",
            f"  ({loop}) | cut -d' ' -f1 | uniq -c",
        ]
    lines += ["", "Ctrl-C ends it.", "", ""]
    return "\n".join(lines)


async def demo(
    serve: Callable[[str, str, Callable[[], object]], Awaitable[object]],
    *,
    fault: bool = False,
    port: int = ROUTER_PORT,
    admin: int = ADMIN_PORT,
    say: Callable[[str], object] = sys.stdout.write,
) -> None:
    """Run the demo until ``serve`` returns.

    ``serve(text, filename, ready)`` runs a linker on that configuration: it calls ``ready`` once when its
    ports answer, and returns when it has drained. The replicas end with this call, whichever way it ends.
    """
    with tempfile.TemporaryDirectory(prefix="hostmesh-demo-") as name:
        folder = Path(name)
        replicas: list[Replica] = []
        async with trio.open_nursery() as nursery:
            try:
                for service in SERVICES:
                    for n in range(1, REPLICAS + 1):
                        delay = FAULT_SECONDS if fault and (service, n) == (SERVICES[0], REPLICAS) else 0.0
                        replicas.append(await start_replica(f"{service}-{n}", delay))
                register(folder, replicas)
                for replica in replicas:
                    nursery.start_soon(watch_replica, replica, say)
                text = demo_config(str(folder), port=port, admin=admin)
                hello = banner(replicas, fault=fault, port=port, admin=admin, folder=folder)
                await serve(text, "demo.yaml", lambda: say(hello))
            finally:
                nursery.cancel_scope.cancel()
                for replica in replicas:
                    await end_replica(replica)


async def end_replica(replica: Replica) -> None:
    """Kill one replica and reap it; one that has ended already is no error."""
    with trio.CancelScope(shield=True):  # SIGKILL cannot be refused, so this wait is short
        replica.process.kill()
        await replica.process.wait()
        for stream in (replica.process.stdin, replica.process.stdout):
            if stream is not None:
                await stream.aclose()
