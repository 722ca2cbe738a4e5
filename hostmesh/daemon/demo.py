"""``hostmesh demo``: two small services with two replicas each, and a router in front of them, on this
machine.

The replicas are processes of their own, so that killing one is what it would be in earnest: connections
reset and refused, the endpoint still registered. Everything lives in a temporary folder and ends with the
demo.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

from attrs import frozen

from hostmesh.base.errors import ConfigError

SERVICES = ("web", "users")
REPLICAS = 2
FAULT_SECONDS = 0.5
"""How slow ``--fault`` makes the last replica of ``web``: five hundred times the others, and still
bearable.
"""

ROUTER_PORT = 4140
ADMIN_PORT = 9990

Serve: TypeAlias = Callable[[Path, Callable[[], None]], int]
"""Runs a linker on a configuration file: calls its second argument once when its ports answer, and returns an exit
status when it has drained.
"""

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
    process: subprocess.Popen[bytes]
    port: int

    @property
    def pid(self) -> int:
        return self.process.pid

    def close(self) -> None:
        """Kill it and reap it; one that has ended already is no error."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


def start_replica(name: str, delay: float) -> Replica:
    """Start one replica and wait for its port.

    It gets a session of its own: Ctrl-C in the terminal must reach the router first, whose drain still needs
    endpoints. Raises RuntimeError when it exits before it listens.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "hostmesh.daemon.replica", name, str(delay)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait()
        raise RuntimeError(f"{name} ended before it listened")
    return Replica(name, process, int(line))


class Watch:
    """Says when a replica ends before the demo does, which only the user's own kill should cause."""

    def __init__(self, replicas: list[Replica], say: Callable[[str], object]) -> None:
        self.over = False
        self.say = say
        # A thread each: they do nothing but wait for a process, and the event loop is not ours.
        self.threads = [
            threading.Thread(target=self._wait, args=(replica,), daemon=True) for replica in replicas
        ]
        for thread in self.threads:
            thread.start()

    def _wait(self, replica: Replica) -> None:
        replica.process.wait()
        if not self.over:
            self.say(
                f"\n{replica.name} (pid {replica.pid}) has stopped. It is still registered; "
                "ask again and see who answers.\n"
            )

    def close(self) -> None:
        """No more messages; the threads end with the processes."""
        self.over = True


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
        f"  configuration and endpoint files, to edit while it runs: {folder}",
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


def run_replicas(
    stack: ExitStack, endpoints: Path, say: Callable[[str], object], *, fault: bool = False
) -> list[Replica]:
    """Start the replicas of all services and write their endpoint files into a new directory.

    They end with ``stack``; ``say`` hears of one that ends before. With ``fault`` the last one of ``web`` is slow.
    """
    endpoints.mkdir()
    replicas: list[Replica] = []
    for service in SERVICES:
        for n in range(1, REPLICAS + 1):
            delay = FAULT_SECONDS if fault and (service, n) == (SERVICES[0], REPLICAS) else 0.0
            replicas.append(start_replica(f"{service}-{n}", delay))
            stack.callback(replicas[-1].close)
    register(endpoints, replicas)
    stack.callback(Watch(replicas, say).close)
    return replicas


def demo(
    serve: Serve,
    *,
    fault: bool = False,
    port: int = ROUTER_PORT,
    admin: int = ADMIN_PORT,
    say: Callable[[str], object] = print,
) -> int:
    """Run the demo until ``serve`` returns, and return what it returned.

    The replicas end with this call, whichever way it ends.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hostmesh-demo-")))
        endpoints = folder / "disco"
        replicas = run_replicas(stack, endpoints, say, fault=fault)
        file = folder / "demo.yaml"
        file.write_text(demo_config(str(endpoints), port=port, admin=admin))
        hello = banner(replicas, fault=fault, port=port, admin=admin, folder=folder)

        def ready() -> None:
            say(hello)

        return serve(file, ready)


def main_demo(args: argparse.Namespace) -> int:
    """The command: ``--fault`` or ``--mtls``, ``--port``, ``--incoming-port`` and ``--admin-port``."""
    from hostmesh.config.load import load, read_file
    from hostmesh.daemon.run import run_config

    def serve(file: Path, ready: Callable[[], None]) -> int:
        config, report = load(read_file(str(file)), str(file))
        if config is None:  # the text above is wrong: ours to mend, but say how
            raise ConfigError("\n".join(report.mistake_lines()))
        return run_config(config, str(file), on_ready=ready)

    if args.mtls:
        from hostmesh.daemon.demo_mtls import demo_mtls

        return demo_mtls(serve, port=args.port, incoming=args.incoming_port, admin=args.admin_port, say=tell)
    return demo(serve, fault=args.fault, port=args.port, admin=args.admin_port, say=tell)


def tell(text: str) -> None:
    """To standard output at once, also when that is a pipe."""
    sys.stdout.write(text)
    sys.stdout.flush()
