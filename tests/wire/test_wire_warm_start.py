"""A hostmesh that starts while its registry is away routes what it routed before, whatever the registry."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.wire.harness import EndpointServer, Hostmesh

CONFIG = """\
admin: {{ip: 127.0.0.1, port: @admin@}}
warmStart: {{path: "@dir@/names.json"}}
namers:
- {namer}
routers:
- protocol: http
  dtab: /svc/web => {name};
  servers:
  - {{port: @port@, ip: 127.0.0.1}}
"""

NAMERS = {
    "consul": ("{kind: io.l5d.consul, host: 127.0.0.1, port: @closed@}", "/#/io.l5d.consul/dc1/web"),
    "serversets": (
        "{kind: io.l5d.serversets, zkAddrs: [{host: 127.0.0.1, port: @closed@}]}",
        "/#/io.l5d.serversets/discovery/web",
    ),
    "k8s": ("{kind: io.l5d.k8s, host: 127.0.0.1, port: @closed@}", "/#/io.l5d.k8s/default/http/web"),
    "dnssrv": (
        "{kind: io.l5d.dnssrv, experimental: true, dnsHosts: [127.0.0.1], port: @closed@}",
        "/#/io.l5d.dnssrv/_http._tcp.web",
    ),
    "fs": ("{kind: io.l5d.fs, rootDir: /nonexistent}", "/#/io.l5d.fs/web"),
}


@pytest.mark.parametrize("namer", NAMERS)
def test_x9_names_from_before_the_start_are_routed(
    tmp_path: Path, endpoint: Callable[..., EndpointServer], namer: str
) -> None:
    """The registry's port is closed from the start; the cache file says where the name was."""
    server = endpoint("web-1")
    config, name = NAMERS[namer]
    entry = {"at": time.time(), "endpoints": [[server.host, server.port, 1.0, []]]}
    cache = tmp_path / "names.json"
    cache.write_text(json.dumps({"version": 1, "names": {name: entry}}))
    cache.chmod(0o600)

    with Hostmesh(tmp_path, CONFIG.format(namer=config, name=name)) as mesh:
        answer = mesh.get("/")

        assert (answer.status, answer.endpoint) == (200, "web-1"), answer.text
