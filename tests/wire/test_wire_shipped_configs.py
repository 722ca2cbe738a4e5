"""Every file in config/ that needs no registry carries a request, with its ports and folders replaced by ones that are
free here. The others do so in tests/servers, with the registry."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.wire.harness import EndpointServer, Hostmesh

CONFIG = Path(__file__).resolve().parents[2] / "config"
REGISTRY = re.compile(r"kind: io\.l5d\.(consul|k8s|serversets|zkLeader|dns|dnssrv|marathon)\b")
FILES = sorted(file.name for file in CONFIG.glob("*.yaml") if not REGISTRY.search(file.read_text()))
FOLDER = re.compile(r"(?<=rootDir: )\S+")
PORT = re.compile(r"(?<=port: )(9990|4[1-3]4[01])\b")
NAMES = {"9990": "@admin@", "4140": "@port@"}


def adapted(name: str) -> str:
    """The shipped text on free ports, loopback, and the folder of the test."""
    text = FOLDER.sub("@dir@/disco", (CONFIG / name).read_text())
    text = PORT.sub(lambda match: NAMES.get(match[1], f"@port{match[1]}@"), text)
    return text.replace("ip: 0.0.0.0", "ip: 127.0.0.1")


@pytest.mark.parametrize("name", FILES)
def test_shipped_file_carries_a_request(
    name: str, endpoint: Callable[..., EndpointServer], hostmesh: Callable[..., Hostmesh]
) -> None:
    """A request for a registered name reaches its endpoint through every router of the file."""
    mesh = hostmesh(adapted(name), web=[endpoint("web-1")])

    response = mesh.get("/")

    assert (response.status, response.endpoint) == (200, "web-1")
    assert len(response.seen_all("via")) == (2 if name in ("vm.yaml", "node-protocols.yaml") else 1)


def test_node_file_falls_back_to_addresses(
    endpoint: Callable[..., EndpointServer], hostmesh: Callable[..., Hostmesh]
) -> None:
    """The node's configuration takes host:port for a name that no file knows, as a forward proxy would."""
    server = endpoint("direct")
    mesh = hostmesh(adapted("kubernetes-node.yaml"))

    response = mesh.get("/", host=f"127.0.0.1:{server.port}")

    assert (response.status, response.endpoint) == (200, "direct")
