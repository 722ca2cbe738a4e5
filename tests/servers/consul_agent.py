"""A real Consul, in a process of its own with private ports, and the test's own client for it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.servers.far_network import Link
from tests.servers.fetch import consul, required
from tests.servers.running import eventually
from tests.wire.harness import free_port


class ConsulServer:
    """One agent that is also the only server of data centre dc1. A context manager; ``with`` starts it.

    ``extra`` is configuration in JSON, ``dev=True`` keeps all in memory, else data survive :meth:`kill`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        dev: bool = True,
        max_connections: int = 2000,
        extra: Mapping[str, Any] | None = None,
        token: str | None = None,
        link: Link | None = None,
    ) -> None:
        self.program = required(consul)
        self.folder = folder
        self.dev = dev
        self.token = token
        self.port = free_port()
        self.prefix = () if link is None else link.prefix
        self.host = "127.0.0.1" if link is None else link.direct
        self.process: subprocess.Popen[bytes] | None = None
        self.config: dict[str, Any] = {
            "node_name": "t1",
            "disable_host_node_id": True,
            "disable_update_check": True,
            "log_level": "warn",
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1" if link is None else link.listen,
            "ports": {
                "http": self.port,
                "https": -1,
                "grpc": -1,
                "dns": free_port(),
                "server": free_port(),
                "serf_lan": free_port(),
                "serf_wan": free_port(),
            },
            "limits": {"http_max_conns_per_client": max_connections},
            # The fastest that a single server may be: it elects itself in about a second.
            "performance": {"raft_multiplier": 1, "leave_drain_time": "0s"},
            **(extra or {}),
        }
        if not dev:
            self.config |= {"server": True, "bootstrap_expect": 1, "data_dir": str(folder / "data")}

    def __enter__(self) -> ConsulServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it and wait until it can be read."""
        file = self.folder / "consul.json"
        file.write_text(json.dumps(self.config))
        command = [
            *self.prefix,
            str(self.program),
            "agent",
            *(["-dev"] if self.dev else []),
            f"-config-file={file}",
        ]
        with open(self.folder / "consul.log", "ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT, env=_clean_environment()
            )
        eventually(self._is_ready)

    def _is_ready(self) -> bool | None:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "consul.log").read_text()[-2000:]
        try:
            has_leader = bool(self.call("GET", "/v1/status/leader"))
            nodes = self.call("GET", "/v1/catalog/nodes")
        except (AssertionError, http.client.HTTPException):
            return None
        # The agent registers itself a moment after the election.
        return True if has_leader and nodes else None

    def kill(self) -> None:
        """SIGKILL, as a crash does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def limit_connections(self, count: int) -> None:
        """``limits.http_max_conns_per_client`` from now on."""
        self.config["limits"]["http_max_conns_per_client"] = count
        (self.folder / "consul.json").write_text(json.dumps(self.config))
        self.call("PUT", "/v1/agent/reload")

    def forget(self) -> None:
        """While it is down: lose all data."""
        shutil.rmtree(self.folder / "data", ignore_errors=True)

    # The test's own client.

    def call(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, **query: str
    ) -> Any:
        """The JSON of an answer; AssertionError unless it is 200."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=5)
        token = token or self.token
        try:
            connection.request(
                method,
                path + (f"?{urlencode(query)}" if query else ""),
                None if body is None else json.dumps(body),
                {"X-Consul-Token": token} if token else {},
            )
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 200, f"{answer.status} {text[:200]!r}"
        finally:
            connection.close()
        return json.loads(text) if text.strip() else None

    def register(self, service: str, host: str, port: int, **more: Any) -> None:
        """Register an instance with the agent, without checks."""
        body = {"ID": f"{service}-{host}-{port}", "Name": service, "Address": host, "Port": port, **more}
        self.call("PUT", "/v1/agent/service/register", body)

    def deregister(self, service: str, host: str, port: int) -> None:
        self.call("PUT", f"/v1/agent/service/deregister/{service}-{host}-{port}")

    def catalog(self, node: str, service: str, host: str, port: int, **more: Any) -> None:
        """Write an instance on a node of its own straight into the catalog."""
        instance = {"ID": f"{service}-{host}-{port}", "Service": service, "Address": host, "Port": port}
        body = {"Node": node, "Address": host, "Service": instance | more}
        self.call("PUT", "/v1/catalog/register", body)

    def instances(self, service: str) -> set[str]:
        """What the catalog has of a service, as ``ip:port``."""
        found = self.call("GET", f"/v1/catalog/service/{service}")
        return {f"{entry['ServiceAddress']}:{entry['ServicePort']}" for entry in found}


def _clean_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("CONSUL_")}
