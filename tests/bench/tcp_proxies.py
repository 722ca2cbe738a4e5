"""The same proxies as proxies of connections: one port to the endpoints that answer, one to the source of streams."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.bench.proxies import (
    Absent,
    Direct,
    Envoy,
    Haproxy,
    Hostmesh,
    Nginx,
    Proxy,
    Topology,
    address,
    envoy_binary,
    installed,
)
from tests.servers.fetch import Unavailable, _debian
from tests.wire.harness import free_port

ANSWER, STREAM = "web", "stream"
"""The two names of the topology."""


class TcpNginx(Nginx):
    def command(self, topology: Topology) -> list[str]:
        binary = installed("nginx", "nginx-light")
        try:
            module = _debian("libnginx-mod-stream", "usr/lib/nginx/modules/ngx_stream_module.so")
        except Unavailable as why:
            raise Absent(str(why)) from why
        self.streams = free_port()
        pools = "".join(
            f"upstream {name} {{ least_conn; "
            + "".join(f"server {host}:{port}; " for host, port in endpoints)
            + "}\n"
            for name, endpoints in topology.items()
        )
        file = self.folder / "nginx.conf"
        file.write_text(
            f"""{"user root;" if os.getuid() == 0 else ""}
load_module {module};
worker_processes 1;
worker_rlimit_nofile 20000;
pid {self.folder}/nginx.pid;
error_log {self.folder}/error.log;
events {{ worker_connections 19000; }}
stream {{
  {pools}
  server {{ listen 127.0.0.1:{self.port} backlog=8192; proxy_pass {ANSWER}; }}
  server {{ listen 127.0.0.1:{self.streams}; proxy_pass {STREAM}; }}
}}
"""
        )
        return [binary, "-p", str(self.folder), "-c", str(file), "-g", "daemon off;"]


class TcpHaproxy(Haproxy):
    """Always splicing, through pipes of our size: twice as good at streams as ``option splice-auto`` alone."""

    def command(self, topology: Topology) -> list[str]:
        binary = installed("haproxy", "haproxy")
        self.streams = free_port()
        ports = {ANSWER: self.port, STREAM: self.streams}
        services = "".join(
            f"listen {name}\n  bind 127.0.0.1:{ports[name]} backlog 8192\n  balance leastconn\n"
            + "".join(f"  server s{n} {host}:{port}\n" for n, (host, port) in enumerate(endpoints))
            for name, endpoints in topology.items()
        )
        file = self.folder / "haproxy.cfg"
        file.write_text(
            f"""global
  nbthread 1
  maxconn 8000
  maxpipes 500
  tune.pipesize 524288
defaults
  mode tcp
  option splice-auto
  option splice-request
  option splice-response
  timeout connect 5s
  timeout client 600s
  timeout server 600s
{services}"""
        )
        return [binary, "-f", str(file), "-db"]


class TcpEnvoy(Envoy):
    def command(self, topology: Topology) -> list[str]:
        self.streams = free_port()
        ports = {ANSWER: self.port, STREAM: self.streams}
        package = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
        config = {
            "admin": {"address": address("127.0.0.1", self.admin)},
            "static_resources": {
                "listeners": [
                    {
                        "name": name,
                        "address": address("127.0.0.1", ports[name]),
                        "filter_chains": [
                            {
                                "filters": [
                                    {
                                        "name": "envoy.filters.network.tcp_proxy",
                                        "typed_config": {
                                            "@type": package,
                                            "stat_prefix": name,
                                            "cluster": name,
                                        },
                                    }
                                ]
                            }
                        ],
                    }
                    for name in topology
                ],
                "clusters": [self.replica_set(name, endpoints) for name, endpoints in topology.items()],
            },
        }
        file = self.folder / "envoy.json"
        file.write_text(json.dumps(config, indent=1))
        options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
        return [str(envoy_binary()), "-c", str(file), *options]


class TcpHostmesh(Hostmesh):
    def command(self, topology: Topology) -> list[str]:
        self.write_endpoints(topology)
        self.streams = free_port()
        routers = "".join(
            f"- protocol: tcp\n  label: {name}\n  dtab: /svc => /#/io.l5d.fs\n"
            f"  identifier: {{kind: io.l5d.tcp.static, path: /{name}}}\n"
            f"  servers: [{{ip: 127.0.0.1, port: {port}}}]\n"
            for name, port in ((ANSWER, self.port), (STREAM, self.streams))
        )
        file = self.folder / "hostmesh.yaml"
        file.write_text(
            f"""admin:
  ip: 127.0.0.1
  port: {self.admin}
namers:
- kind: io.l5d.fs
  rootDir: {self.folder}/disco
routers:
{routers}"""
        )
        return [str(Path(sys.executable).parent / "hostmesh"), "run", str(file)]


class TcpDirect(Direct):
    def start(self, topology: Topology) -> None:
        self.port = topology[ANSWER][0][1]
        self.streams = topology[STREAM][0][1]


TCP_KINDS: dict[str, type[Proxy]] = {
    kind.name: kind for kind in (TcpDirect, TcpNginx, TcpHaproxy, TcpEnvoy, TcpHostmesh)
}
