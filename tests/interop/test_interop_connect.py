"""CONNECT by other people's callers, Node's HTTP/2 and curl's HTTP/1.1, with and without TLS to us."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import find_program
from tests.tls_files import TlsFiles
from tests.wire.harness import Hostmesh
from tests.wire.test_wire_tcp import Acceptor, echo
from tests.wire.tls_peers import NAME, config, server_tls

SCRIPT = Path(__file__).with_name("node_connect.js")
SIZE = 3_000_000


@pytest.fixture
def mesh(tmp_path: Path, tls_files: TlsFiles) -> Iterator[Hostmesh]:
    text = config(more={"tls": server_tls(tls_files)})
    text = text.replace(
        '"ip": "127.0.0.1",\n     "port"', '"ip": "127.0.0.1", "allowConnect": ["db:5432"], "port"'
    )
    assert text.count("allowConnect") == 2
    with Acceptor(echo) as endpoint, Hostmesh(tmp_path, text, start=False) as running:
        running.set_endpoints("db:5432", [endpoint.line])
        running.start()
        yield running


def node(mesh: Hostmesh, port: str, authority: str, ca: Path | None, data: bytes) -> dict[str, object]:
    program = find_program("node")
    assert program is not None
    done = subprocess.run(
        [str(program), str(SCRIPT), str(mesh.ports[port]), authority, *([] if ca is None else [str(ca)])],
        input=data,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stdout, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.server("node")
@pytest.mark.parametrize("port", ["port", "tls"])
def test_node_gets_back_what_it_sent(mesh: Hostmesh, tls_files: TlsFiles, port: str) -> None:
    """Some megabytes there and back, then an end both ways; the counters say so."""
    data = os.urandom(SIZE)
    found = node(mesh, port, "db:5432", tls_files.ca if port == "tls" else None, data)

    assert found == {"status": 200, "body": base64.b64encode(data).decode("ascii")}
    tunnels = f"rt/r/server/127.0.0.1/{mesh.ports[port]}/tunnels"
    mesh.wait_metric(f"{tunnels}/open", lambda value: value == 0)
    metrics = mesh.metrics()
    assert [metrics[f"{tunnels}/{name}_bytes"] for name in ("received", "sent")] == [SIZE, SIZE]
    assert metrics[f"rt/r/server/127.0.0.1/{mesh.ports[port]}/open_streams"] == 0


@pytest.mark.server("node")
def test_node_is_told_what_it_may_not(mesh: Hostmesh) -> None:
    """A status, and no tunnel."""
    assert node(mesh, "port", "other:1", None, b"")["status"] == 403


@pytest.mark.parametrize("port", ["port", "tls"])
def test_curl_speaks_through_us(mesh: Hostmesh, tls_files: TlsFiles, port: str) -> None:
    """curl takes us for its proxy, over TLS as well, and speaks HTTP to an endpoint that we do not look at."""

    def serve(sock: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nbehind")

    proxy = f"http://127.0.0.1:{mesh.ports[port]}"
    trust: list[str] = []
    if port == "tls":
        proxy = f"https://{NAME}:{mesh.ports[port]}"
        trust = ["--proxy-cacert", str(tls_files.ca), "--resolve", f"{NAME}:{mesh.ports[port]}:127.0.0.1"]
    with Acceptor(serve) as endpoint:
        mesh.set_endpoints("db:5432", [endpoint.line])
        mesh.wait(lambda: _asks(proxy, trust) == "behind", "curl reads the answer through the tunnel")


def _asks(proxy: str, trust: list[str]) -> str:
    done = subprocess.run(
        ["curl", "-sS", "--proxytunnel", "-x", proxy, *trust, "http://db:5432/x"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return done.stdout
