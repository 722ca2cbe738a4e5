"""Five protocols, each plain, with TLS from callers, with TLS to endpoints, and with certificates on both sides."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tls_files import TlsFiles
from tests.wire.harness import Hostmesh
from tests.wire.tls_peers import config
from tests.wire.tls_protocols import PROTOCOLS, ROUTERS, WAYS, Way, halves, seen


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_call_arrives_as_its_way_says(tmp_path: Path, tls_files: TlsFiles, protocol: str, way: Way) -> None:
    """A real caller's request is answered by a real endpoint, which has seen TLS, or our certificate, or neither."""
    text = config(**ROUTERS[protocol], **halves(tls_files, way))
    with PROTOCOLS[protocol](tls_files, way, tmp_path) as ends, Hostmesh(tmp_path, text, start=False) as mesh:
        mesh.set_endpoints("web", [f"127.0.0.1 {ends.port}"])
        mesh.start()

        assert ends.call(mesh.port) == seen(way)


@pytest.mark.parametrize("way", [WAYS[0], WAYS[3]], ids=["plain", "mtls"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_peers_themselves_agree(tmp_path: Path, tls_files: TlsFiles, protocol: str, way: Way) -> None:
    """Without hostmesh between them the same caller and endpoint do the same."""
    with PROTOCOLS[protocol](tls_files, way, tmp_path) as ends:
        assert ends.call(ends.port) == seen(way)
