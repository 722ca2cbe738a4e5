"""Three builders for tests on real sockets: an endpoint, a hostmesh, a caller.

    with EndpointServer("web-1") as web, Hostmesh.routing(tmp_path, web=[web]) as mesh:
        assert mesh.get("/").endpoint == "web-1"

The hostmesh is the installed command in a process of its own, started on a file as a user would start it,
on ports that the harness picks. Nothing sleeps: every wait is for an event or a condition, and bounded.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from tests.wire.client import RawClient, Response, compose
from tests.wire.endpoint import Answer, EndpointProcess, EndpointServer, Malformed, Received

__all__ = [
    "Answer",
    "EndpointProcess",
    "EndpointServer",
    "Hostmesh",
    "Malformed",
    "RawClient",
    "Received",
    "Response",
    "compose",
    "free_port",
]

COMMAND = Path(sys.executable).parent / "hostmesh"
START_SECONDS = 30.0
POLL_SECONDS = 0.02

ROUTING = """\
admin:
  ip: 127.0.0.1
  port: @admin@
  shutdownGraceMs: 5000
namers:
- kind: io.l5d.fs
  rootDir: @dir@/disco
routers:
- protocol: http
  dtab: |
    /svc => /#/io.l5d.fs;
  servers:
  - port: @port@
    ip: 127.0.0.1
"""
"""One http router on the file namer: ``/svc/NAME`` is the file ``disco/NAME``."""


_PORTS = random.SystemRandom()
"""Not the generator that is seeded anew for each test: runs side by side would all choose the same."""

_given: deque[int] = deque(maxlen=1000)
"""Ports that may have been given away and are not listened on yet."""


def free_port() -> int:
    """A port nobody listens on, below the range from which the kernel picks ports for outgoing
    connections, and none of the last thousand that were returned.
    """
    for _ in range(2000):
        port = _PORTS.randrange(11_000, 32_000)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _given.append(port)
            return port
    raise AssertionError("no free port found")


class Hostmesh:
    """A running ``hostmesh run FILE``.

    In the configuration text ``@dir@`` stands for the folder given and any other ``@name@`` for a free
    port, the same one wherever the name occurs: ``ports["name"]``. ``@admin@`` must be the admin port;
    :meth:`get` uses ``@port@``. ``prefix`` comes before the command (``unshare`` and the like, that exec it).
    """

    def __init__(
        self,
        folder: Path,
        config: str = ROUTING,
        *,
        ports: dict[str, int] | None = None,
        environment: dict[str, str] | None = None,
        prefix: list[str] | None = None,
        start: bool = True,
    ) -> None:
        self.folder = folder
        self.ports = dict(ports or {})
        self.file = folder / "hostmesh.yaml"
        self.log_file = folder / "hostmesh.log"
        self.disco = folder / "disco"
        self.disco.mkdir(exist_ok=True)
        self.environment = environment or {}
        self.prefix = prefix or []
        self.process: subprocess.Popen[bytes] | None = None
        self.write_config(config)
        if start:
            self.start()

    @classmethod
    def routing(cls, folder: Path, config: str = ROUTING, **services: list[EndpointServer]) -> Hostmesh:
        """A hostmesh whose file namer knows the given services: ``routing(tmp_path, web=[first,
        second])``.
        """
        mesh = cls(folder, config, start=False)
        for name, servers in services.items():
            mesh.set_endpoints(name, servers)
        mesh.start()
        return mesh

    def write_config(self, config: str) -> None:
        """Replace the file atomically, as an editor or a ConfigMap would; a running hostmesh may reload
        it.
        """

        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name == "dir":
                return str(self.folder)
            if name not in self.ports:
                self.ports[name] = free_port()
            return str(self.ports[name])

        replace_file(self.file, re.sub(r"@(\w+)@", value, config))

    def set_endpoints(self, name: str, servers: list[EndpointServer] | list[str]) -> None:
        """Replace the file of a name atomically; a string is a line as it stands (``"127.0.0.1 80 * 2"``)."""
        lines = [s if isinstance(s, str) else f"{s.host} {s.port}" for s in servers]
        replace_file(self.disco / name, "".join(line + "\n" for line in lines))

    def start(self) -> None:
        """Start the process and wait until ``/admin/ping`` answers.

        Raises AssertionError with the log when it exits or is not ready within 30 s.
        """
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, str(COMMAND), "run", str(self.file)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                env={**os.environ, **self.environment},
            )
        try:
            self.wait(self.is_ready, "ready", within=START_SECONDS)
        except BaseException:
            self.close()
            raise

    def is_ready(self) -> bool:
        """Whether the admin port answers pong now."""
        try:
            return self.admin("/admin/ping", timeout=5).body.strip() == b"pong"
        except (OSError, Malformed):
            return False

    def wait(self, condition: Callable[[], bool], what: str, *, within: float = 10.0) -> None:
        """Wait until the condition holds. Raises AssertionError when the time is over or the process
        exits.
        """
        assert self.process is not None, "not started"
        deadline = time.monotonic() + within
        while not condition():
            # waiting for the exit of the process is the pause between two looks
            try:
                code = self.process.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                code = None
            if code is not None and not condition():
                raise AssertionError(f"hostmesh exited with {code} while waiting for: {what}\n{self.log()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {within} s: {what}\n{self.log()}")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def port(self) -> int:
        return self.ports["port"]

    def client(
        self,
        port: str = "port",
        *,
        timeout: float = 10.0,
        receive_buffer: int | None = None,
        source: str | None = None,
    ) -> RawClient:
        """A new connection to the server whose port has that name, from the loopback address ``source``."""
        return RawClient(self.ports[port], timeout=timeout, receive_buffer=receive_buffer, source=source)

    def get(self, target: str = "/", *, host: str = "web", port: str = "port", **fields: str) -> Response:
        """One GET on its own connection; ``fields`` in Python spelling: ``l5d_dtab="..."``."""
        return self.send("GET", target, host=host, port=port, fields=spelled(fields))

    def send(
        self,
        method: str,
        target: str = "/",
        *,
        host: str = "web",
        port: str = "port",
        fields: tuple[tuple[str, str], ...] = (),
        body: bytes | None = None,
        chunked: bool = False,
    ) -> Response:
        """One request on its own connection."""
        with self.client(port) as client:
            return client.request(method, target, host=host, fields=fields, body=body, chunked=chunked)

    def admin(
        self, target: str, method: str = "GET", *, body: bytes | None = None, timeout: float = 10.0
    ) -> Response:
        """One request to the admin port."""
        port = self.ports["admin"]
        with RawClient(port, timeout=timeout) as client:
            fields = (("Connection", "close"),)
            return client.request(method, target, host=f"127.0.0.1:{port}", fields=fields, body=body)

    def metrics(self) -> dict[str, float]:
        """``/admin/metrics.json`` as a flat dictionary."""
        loaded = json.loads(self.admin("/admin/metrics.json").body)
        assert isinstance(loaded, dict)
        return loaded

    def wait_metric(self, name: str, wanted: Callable[[float], bool], *, within: float = 10.0) -> None:
        """Wait until the metric exists and its value is as wanted."""
        self.wait(lambda: name in (m := self.metrics()) and wanted(m[name]), name, within=within)

    def log(self) -> str:
        """Everything written to stdout and stderr so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def log_entries(self) -> list[dict[str, object]]:
        """The lines of the log that are JSON objects."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    def wait_log(self, text: str, *, within: float = 10.0) -> None:
        self.wait(lambda: text in self.log(), f"{text!r} in the log", within=within)

    def resident_bytes(self) -> int:
        """Resident memory of the process now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def open_descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def hup(self) -> None:
        """SIGHUP: reload."""
        self.signal(signal.SIGHUP)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def terminate(self) -> None:
        """SIGTERM, without waiting: the drain begins."""
        self.signal(signal.SIGTERM)

    def wait_exit(self, *, within: float = 15.0) -> int:
        """The exit code, once the process has ended."""
        assert self.process is not None
        return self.process.wait(within)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def close(self) -> None:
        """End the process whatever its state; idempotent."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)

    def __enter__(self) -> Hostmesh:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close()
        # An exception of ours that no test asked for is a failure, wherever it happened.
        if kind is None and "Traceback (most recent call last)" in self.log():
            raise AssertionError(f"hostmesh logged a traceback\n{self.log()[-8000:]}")


def spelled(fields: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name.replace("_", "-"), value) for name, value in fields.items())


def replace_file(file: Path, text: str) -> None:
    """Write beside and rename over, so that no reader sees half a file."""
    fresh = file.with_name(f".{file.name}.new")
    fresh.write_text(text)
    fresh.rename(file)
