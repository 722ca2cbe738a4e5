"""The same proxies with HTTP/2 to their endpoints; callers may come with either version."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.bench.proxies import Envoy, Haproxy, Hostmesh, Proxy, Topology

ENVOY_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


class H2Haproxy(Haproxy):
    def command(self, topology: Topology) -> list[str]:
        command = super().command(topology)
        file = self.folder / "haproxy.cfg"
        lines = file.read_text().splitlines()
        file.write_text(
            "".join(f"{line} proto h2\n" if "  server " in line else f"{line}\n" for line in lines)
        )
        return command


class H2Envoy(Envoy):
    def replica_set(self, name: str, endpoints: list[tuple[str, int]]) -> dict[str, object]:
        return {
            **super().replica_set(name, endpoints),
            "typed_extension_protocol_options": {
                ENVOY_OPTIONS: {
                    "@type": f"type.googleapis.com/{ENVOY_OPTIONS}",
                    "explicit_http_config": {"http2_protocol_options": {}},
                }
            },
        }


class H2Hostmesh(Hostmesh):
    engine: str | None = None
    """``h2Engine``; None is the default."""

    def command(self, topology: Topology) -> list[str]:
        self.write_endpoints(topology)
        router = {
            "protocol": "h2",
            "dtab": "/svc => /#/io.l5d.fs",
            "servers": [{"ip": "127.0.0.1", "port": self.port}],
            **({} if self.engine is None else {"h2Engine": self.engine}),
        }
        config = {
            "admin": {"ip": "127.0.0.1", "port": self.admin},
            "namers": [{"kind": "io.l5d.fs", "rootDir": f"{self.folder}/disco"}],
            "routers": [router],
        }
        file = self.folder / "hostmesh.json"
        file.write_text(json.dumps(config))
        return [str(Path(sys.executable).parent / "hostmesh"), "run", str(file)]


H2_KINDS: dict[str, type[Proxy]] = {kind.name: kind for kind in (H2Haproxy, H2Envoy, H2Hostmesh)}
"""nginx is not among them: it speaks HTTP/2 to callers only."""
