"""Go's net/http as caller and as server, through a hostmesh on real sockets: HTTP/1.1, HTTP/2 with prior knowledge
(golang.org/x/net/http2) and by ALPN (net/http's own), each with each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.go_peers import GoPeer, GoServer
from tests.servers.fetch import required
from tests.servers.fetch_go_peers import go_peers
from tests.tls_files import TlsFiles
from tests.wire.harness import Hostmesh
from tests.wire.tls_peers import client_tls, config, server_tls

CALLERS = ["h1", "h2c", "tls", "tls1"]
SERVERS = ["h1", "h2c", "tls", "tls1"]
PROTO = {"h1": "HTTP/1.1", "h2c": "HTTP/2.0", "tls": "HTTP/2.0", "tls1": "HTTP/1.1"}
SIZE = 3_000_000


def configuration(files: TlsFiles) -> str:
    """A router for each kind of endpoint, with a plain port and one with TLS: ``h1``, ``h1_tls``, ``h2c``, ..."""
    routers: list[dict[str, Any]] = []
    for kind in SERVERS:
        whole = json.loads(
            config(
                "h2" if PROTO[kind] == "HTTP/2.0" else "http",
                client=client_tls(files) if kind.startswith("tls") else None,
            )
            .replace("@admin@", "1")
            .replace("@port@", "1")
        )
        (router,) = whole["routers"]
        router["label"] = kind
        router["servers"] = [
            {"ip": "127.0.0.1", "port": f"@{kind}@"},
            {"ip": "127.0.0.1", "port": f"@{kind}_tls@", "tls": server_tls(files)},
        ]
        router["dtab"] = f"/svc/web => /#/io.l5d.fs/{kind}"
        router.setdefault("client", {})["failureAccrual"] = {"kind": "none"}
        routers.append(router)
    whole["admin"]["port"] = "@admin@"
    whole["routers"] = routers
    return json.dumps(whole, indent=1)


@pytest.fixture(scope="module")
def program() -> Path:
    return required(go_peers)


@pytest.fixture(scope="module")
def servers(program: Path, tls_files: TlsFiles) -> Iterator[dict[str, GoServer]]:
    """One of each kind."""
    files = {"cert": str(tls_files.web.chain), "key": str(tls_files.web.key)}
    running = {kind: GoServer(program, "web", kind=kind, **files) for kind in SERVERS}
    yield running
    for server in running.values():
        server.close()


@pytest.fixture(scope="module")
def mesh(
    tmp_path_factory: pytest.TempPathFactory, servers: dict[str, GoServer], tls_files: TlsFiles
) -> Iterator[Hostmesh]:
    text = configuration(tls_files)
    for name in ("admin", *SERVERS, *(f"{kind}_tls" for kind in SERVERS)):
        text = text.replace(f'"@{name}@"', f"@{name}@")
    with Hostmesh(tmp_path_factory.mktemp("go"), text, start=False) as running:
        for kind, server in servers.items():
            running.set_endpoints(kind, [server])
        running.start()
        yield running


@pytest.fixture(params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    """Of the server."""
    found: str = request.param
    return found


@pytest.fixture
def server(servers: dict[str, GoServer], kind: str) -> GoServer:
    return servers[kind]


@pytest.fixture(params=CALLERS)
def speaks(request: pytest.FixtureRequest) -> str:
    """What the caller speaks."""
    found: str = request.param
    return found


@pytest.fixture
def caller(program: Path, mesh: Hostmesh, tls_files: TlsFiles, speaks: str, kind: str) -> Iterator[GoPeer]:
    port = mesh.ports[f"{kind}_tls" if speaks.startswith("tls") else kind]
    options = {"kind": speaks, "ports": [port], "authority": "web", "ca": str(tls_files.ca)}
    with GoPeer(program, "fetch", **options) as running:
        yield running


def spoken(caller: dict[str, Any]) -> dict[str, Any]:
    assert "error" not in caller, caller
    return caller


def test_bodies_stream_both_ways_with_trailers(caller: GoPeer, kind: str, speaks: str) -> None:
    """Twenty pieces, each sent when the one before has come back; trailers at both ends."""
    found = spoken(caller.ask("talk", path="/echo", number=20, trailer={"X-Request-Sum": "12"}))

    assert (found["status"], found["proto"]) == (200, PROTO[speaks])
    assert found["header"]["X-Proto"] == [PROTO[kind]]
    assert {name: found["trailer"].get(name) for name in ("X-Sum", "X-Echo-X-Request-Sum")} == {
        "X-Sum": found["trailer"]["X-Sum"],
        "X-Echo-X-Request-Sum": ["12"],
    }
    assert len(found["trailer"]["X-Sum"][0]) == 64


@pytest.mark.parametrize("length", [True, False], ids=["length", "no length"])
@pytest.mark.parametrize("expect", [False, True], ids=["at once", "expect"])
def test_large_uploads(caller: GoPeer, kind: str, length: bool, expect: bool) -> None:
    """3 MB, with and without a length, at once and after a 100."""
    order = {"path": "/upload", "size": SIZE, "number": 0 if length else -1}
    found = spoken(caller.ask("upload", **order, header={"Expect": "100-continue"} if expect else {}))

    assert found["status"] == 200
    assert found["text"] == f"{PROTO[kind]} {SIZE} {found['sum']}"
    assert found["continued"] == expect


def test_large_bodies_both_ways(caller: GoPeer) -> None:
    """3 MB that come back while they are sent."""
    found = spoken(caller.ask("upload", path="/echo", size=SIZE, number=-1))

    assert (found["status"], found["size"], found["same"]) == (200, SIZE, True)


@pytest.mark.parametrize("expect", [False, True], ids=["at once", "expect"])
def test_a_refusal_that_comes_before_the_end_of_the_upload(caller: GoPeer, expect: bool) -> None:
    """413 without reading: the caller has it, and its next request is served."""
    size = 1 << 36
    found = caller.ask(
        "upload", path="/refuse", size=size, header={"Expect": "100-continue"} if expect else {}
    )

    assert (found.get("status"), found.get("text")) == (413, "too much for me\n"), found
    assert found["sent"] < (1 if expect else size)
    assert spoken(caller.ask("upload", path="/upload", size=5))["status"] == 200


def test_a_cancelled_request_ends_at_the_server(caller: GoPeer, server: GoServer) -> None:
    """In the middle of an upload and of its answer."""
    before = server.wait()
    id = caller.ask("start", path="/echo", size=1 << 40)["id"]
    server.wait(started=before.get("started", 0) + 1)
    assert "canceled" in caller.ask("cancel", id=id)["error"]

    def ended(counts: dict[str, int]) -> int:
        return counts.get("cancelled", 0) + counts.get("broken", 0)

    server.wait(ended=before.get("ended", 0) + 1)
    assert ended(server.wait()) == ended(before) + 1


def test_a_cancelled_wait_ends_at_the_server(caller: GoPeer, server: GoServer) -> None:
    """The caller leaves while nothing has been answered."""
    before = server.wait()
    id = caller.ask("start", path="/hold", method="GET")["id"]
    server.wait(started=before.get("started", 0) + 1)
    caller.ask("cancel", id=id)

    server.wait(cancelled=before.get("cancelled", 0) + 1)


@pytest.mark.parametrize("speaks", ["h1", "tls1"], indirect=True)
@pytest.mark.parametrize("kind", ["h1", "tls1"], indirect=True)
@pytest.mark.parametrize("path", ["/switch", "/proxied/switch"])
def test_connections_that_switch_protocols(caller: GoPeer, server: GoServer, path: str) -> None:
    """Upgrade, also through httputil.ReverseProxy: lines go back and forth, and the end goes through."""
    before = server.wait()
    found = caller.ask("switch", method="GET", path=path, header={"Upgrade": "websocket"}, number=20)

    assert (found["status"], found["upgrade"]) == (101, "websocket")
    assert found["lines"] == [f"LINE {number}" for number in range(20)]
    server.wait(**{"hung up": before.get("hung up", 0) + 1})


@pytest.mark.parametrize("kind", ["h1", "h2c"], indirect=True)
def test_a_reverse_proxy_as_endpoint(caller: GoPeer, kind: str) -> None:
    """httputil.ReverseProxy passes bodies and trailers on, and so do we."""
    found = spoken(caller.ask("upload", path="/proxied/upload", size=100_000, number=-1))

    assert (found["status"], found["text"]) == (200, f"HTTP/1.1 100000 {found['sum']}")
    assert found["trailer"]["X-Sum"] == [found["sum"]]
