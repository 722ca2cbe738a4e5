"""Real HTTP/2 servers as endpoints: nghttp2's nghttpd and grpcio behind HTTP/1.1 and HTTP/2 callers, nginx behind the
latter."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.grpc_peers import GrpcCaller, GrpcServers
from tests.servers.fetch import nghttp2_tools, nghttpd, nginx, required
from tests.servers.running import free_port, running
from tests.wire.harness import Hostmesh

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@}
namers:
- {kind: io.l5d.fs, rootDir: @dir@/disco}
routers:
- protocol: http
  label: mixed
  dtab: /svc => /#/io.l5d.fs
  client: {protocol: h2}
  servers:
  - {port: @port@, ip: 127.0.0.1}
- protocol: h2
  label: h2
  dtab: /svc => /#/io.l5d.fs
  servers:
  - {port: @h2@, ip: 127.0.0.1}
- protocol: h2
  label: back
  dtab: /svc => /#/io.l5d.fs
  client: {protocol: http}
  servers:
  - {port: @back@, ip: 127.0.0.1}
"""
CLIENT = "rt/mixed/client/#/io.l5d.fs/web"
BIG = bytes(range(251)) * 40_000
SECONDS = 60


@contextmanager
def served(folder: Path, *options: str, port: int | None = None) -> Iterator[int]:
    """The port of an nghttpd with these options, which serves ``small``, ``big`` and echoes uploads."""
    program, libraries = required(nghttpd)
    htdocs = folder / "htdocs"
    htdocs.mkdir(exist_ok=True)
    (htdocs / "small").write_bytes(b"small file")
    (htdocs / "big").write_bytes(BIG)
    port = port or free_port()
    command = [
        str(program),
        "--no-tls",
        "-a",
        "127.0.0.1",
        "-d",
        str(htdocs),
        "--echo-upload",
        *options,
        str(port),
    ]
    with running(command, folder, port, {"LD_LIBRARY_PATH": libraries}):
        yield port


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Hostmesh]:
    with Hostmesh(tmp_path, CONFIG) as running_mesh:
        yield running_mesh


def put(mesh: Hostmesh, *ports: int, name: str = "web") -> None:
    """Make these the endpoints of ``name``, and wait until it serves."""
    mesh.set_endpoints(name, [f"127.0.0.1 {port}" for port in ports])


def settled(mesh: Hostmesh, client: str = CLIENT) -> None:
    """No stream is open, nothing waits (hardening H12)."""
    for name in ("open_streams", "buffered_bytes", "pool_waiters", "pending"):
        mesh.wait_metric(f"{client}/{name}", lambda value: value == 0)


def test_files_and_uploads(mesh: Hostmesh, tmp_path: Path) -> None:
    """Heads, statuses and bodies of 10 MB in both directions, on one connection."""
    with served(tmp_path, "--trailer", "x-sum: 7") as port:
        put(mesh, port)
        small = mesh.get("/small")
        head = mesh.send("HEAD", "/small")
        missing = mesh.get("/missing")
        big = mesh.get("/big")
        declared = mesh.send("POST", "/echo", body=BIG)
        chunked = mesh.send("POST", "/echo", body=BIG, chunked=True)
        settled(mesh)
        connects = mesh.metrics()[f"{CLIENT}/connects"]

    assert (small.status, small.body) == (200, b"small file")
    assert (head.status, head.body, head.get("content-length")) == (200, b"", "10")
    assert missing.status == 404
    assert hashlib.sha256(big.body).digest() == hashlib.sha256(BIG).digest()
    assert [declared.body == BIG, chunked.body == BIG] == [True, True]
    assert connects == 1


@pytest.mark.parametrize("options", [("-b", "255"), ("-w", "10", "-W", "10"), ("-c", "0")])
def test_odd_peers(mesh: Hostmesh, tmp_path: Path, options: tuple[str, ...]) -> None:
    """Padding on everything; windows of 1023 bytes; no header table."""
    with served(tmp_path, *options) as port:
        put(mesh, port)
        big = mesh.get("/big")
        echoed = mesh.send("POST", "/echo", body=BIG[:500_000])
        settled(mesh)

    assert big.body == BIG
    assert echoed.body == BIG[:500_000]


def test_few_streams_per_connection(mesh: Hostmesh, tmp_path: Path) -> None:
    """nghttpd takes 3 at once and refuses the rest: 200 requests of 20 callers all succeed."""
    with served(tmp_path, "-m", "3") as port:
        put(mesh, port)
        with ThreadPoolExecutor(20) as pool:
            bodies = list(pool.map(lambda _: mesh.get("/big").body == BIG, range(60)))
        settled(mesh)
        connects = mesh.metrics()[f"{CLIENT}/connects"]

    assert bodies == [True] * 60
    assert 1 <= connects <= 32


def test_an_early_response_ends_the_upload(mesh: Hostmesh, tmp_path: Path) -> None:
    """The server answers at the head and never reads the body."""
    with served(tmp_path, "--early-response") as port:
        put(mesh, port)
        answer = mesh.send("POST", "/small", body=BIG)
        settled(mesh)

    assert answer.status == 200


def test_push_is_refused(mesh: Hostmesh, tmp_path: Path) -> None:
    """SETTINGS_ENABLE_PUSH 0: a server that would push does not."""
    with served(tmp_path, "-p", "/small=/big") as port:
        put(mesh, port)

        assert mesh.get("/small").body == b"small file"
        settled(mesh)


def test_a_server_that_is_killed_and_comes_back(mesh: Hostmesh, tmp_path: Path) -> None:
    """502 while nobody listens, 200 when it is there again: the dead connection is not kept."""
    with served(tmp_path) as port:
        put(mesh, port)
        before = mesh.get("/small").status
    away = mesh.get("/small")
    with served(tmp_path, port=port):
        mesh.wait(lambda: mesh.get("/small").status == 200, "the server is back")
        settled(mesh)

    assert before == 200
    assert (away.status, away.get("l5d-err")) == (502, away.get("l5d-err"))
    assert "connect-refused" in (away.get("l5d-err") or "")


@pytest.mark.parametrize(("clients", "streams"), [(1, 1), (8, 16)])
def test_h2load_over_shared_connections(mesh: Hostmesh, tmp_path: Path, clients: int, streams: int) -> None:
    """HTTP/2 on both sides, every response complete, few connections to the endpoints."""
    count = 2000 if clients > 1 else 200
    _nghttp, h2load, libraries = required(nghttp2_tools)
    command = [str(h2load), f"-n{count}", f"-c{clients}", f"-m{streams}", "-H", ":authority: web"]
    with served(tmp_path) as port:
        put(mesh, port)
        done = subprocess.run(
            [*command, url(mesh, "h2", "/small")],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
            env={**os.environ, "LD_LIBRARY_PATH": libraries},
        )
        settled(mesh, CLIENT.replace("mixed", "h2"))
        connects = mesh.metrics()[f"{CLIENT.replace('mixed', 'h2')}/connects"]

    assert f"{count} succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout
    assert connects <= 2


def url(mesh: Hostmesh, port: str, target: str) -> str:
    return f"http://127.0.0.1:{mesh.ports[port]}{target}"


def test_nginx_behind_http_2_callers(mesh: Hostmesh, tmp_path: Path) -> None:
    """curl with prior knowledge, nginx in HTTP/1.1: a file and an upload."""
    port = free_port()
    (tmp_path / "nginx").mkdir()
    (tmp_path / "nginx" / "big").write_bytes(BIG)
    (tmp_path / "nginx.conf").write_text(
        "daemon off; master_process off; pid nginx.pid; error_log stderr;\n"
        "events {}\n"
        "http { access_log off; client_max_body_size 100m; client_body_temp_path body;\n"
        f" server {{ listen 127.0.0.1:{port}; root {tmp_path}/nginx;\n"
        "  location = /upload { proxy_pass http://127.0.0.1:%d/size; }\n"
        % port
        + '  location = /size { return 200 "$content_length"; } } }\n'
    )
    command = [str(required(nginx)), "-p", str(tmp_path), "-c", "nginx.conf"]
    with running(command, tmp_path, port):
        put(mesh, port)
        big = curl(mesh, "/big")
        upload = curl(mesh, "/upload", "--data-binary", f"@{tmp_path}/nginx/big")
        missing = curl(mesh, "/missing", "-o", "/dev/null", "-w", "%{http_version} %{http_code}")

    assert big == BIG
    assert upload == str(len(BIG)).encode()
    assert missing == b"2 404"


def curl(mesh: Hostmesh, target: str, *options: str) -> bytes:
    """What curl prints for a request in HTTP/2."""
    command = [
        "curl",
        "-sS",
        "--http2-prior-knowledge",
        "-H",
        "Host: web",
        *options,
        url(mesh, "back", target),
    ]
    environment = {**os.environ, "no_proxy": "*"}
    return subprocess.run(command, capture_output=True, timeout=SECONDS, check=True, env=environment).stdout


# -- grpcio -----------------------------------------------------------------------------------------------------------

GRPC = """\
admin: {ip: 127.0.0.1, port: @admin@}
namers:
- {kind: io.l5d.fs, rootDir: @dir@/disco}
routers:
- protocol: h2
  label: grpc
  identifier: {kind: io.l5d.header.path, segments: 1}
  dtab: /svc => /#/io.l5d.fs
  servers:
  - {port: @port@, ip: 127.0.0.1}
"""
GRPC_CLIENT = "rt/grpc/client/#/io.l5d.fs/test.Echo"


@contextmanager
def grpc_mesh(folder: Path, servers: GrpcServers) -> Iterator[Hostmesh]:
    found = Hostmesh(folder, GRPC, start=False)
    found.set_endpoints("test.Echo", [f"{each.host} {each.port}" for each in servers.all])
    found.start()
    with found:
        yield found


def test_max_connection_age_costs_no_call(tmp_path: Path) -> None:
    """Servers that end their connections every 300 ms: calls go on, on new ones, and none fails."""
    age = {"grpc.max_connection_age_ms": 300, "grpc.max_connection_age_grace_ms": 2000}
    with GrpcServers("a", "b", options=age) as servers, grpc_mesh(tmp_path, servers) as mesh:
        over = threading.Event()
        codes: Counter[int] = Counter()

        def call_on() -> None:
            with GrpcCaller(mesh.port, authority="test.Echo") as caller:
                while not over.is_set():
                    codes[caller.call("unary", [b"x"]).code] += 1

        with ThreadPoolExecutor(4) as pool:
            calling = [pool.submit(call_on) for _ in range(4)]
            mesh.wait_metric(f"{GRPC_CLIENT}/connects", lambda count: count >= 12, within=SECONDS)
            over.set()
            for each in calling:
                each.result(SECONDS)
        settled(mesh, GRPC_CLIENT)

    assert set(codes) == {0}
    assert sum(codes.values()) > 20


def test_streams_outlive_the_age_of_their_connection(tmp_path: Path) -> None:
    """A server stream that lasts longer than its connection's age ends well within the grace, message by message."""
    age = {"grpc.max_connection_age_ms": 200, "grpc.max_connection_age_grace_ms": 60_000}
    with GrpcServers("a", options=age) as servers, grpc_mesh(tmp_path, servers) as mesh:
        with GrpcCaller(mesh.port, authority="test.Echo") as caller:
            metadata: list[tuple[str, str | bytes]] = [("x-count", "20"), ("x-pause-ms", "50")]
            outcome = caller.call("server", [b"m"], metadata=metadata)
        settled(mesh, GRPC_CLIENT)

    assert (outcome.code, len(outcome.messages)) == (0, 20)


def test_calls_of_one_connection_spread_evenly(tmp_path: Path) -> None:
    """Five servers, one channel: 20 % of the calls each, within three."""
    with GrpcServers(*"abcde") as servers, grpc_mesh(tmp_path, servers) as mesh:
        with GrpcCaller(mesh.port, authority="test.Echo") as caller:
            outcomes = caller.calls(1000, "unary", [b"x"], at_once=16)
        settled(mesh, GRPC_CLIENT)

    assert Counter(outcome.code for outcome in outcomes) == {0: 1000}
    shares = Counter(str(outcome.served_by) for outcome in outcomes)
    assert [shares[name] for name in "abcde"] == pytest.approx([200] * 5, abs=30)


def test_each_answer_belongs_to_its_request(mesh: Hostmesh, tmp_path: Path) -> None:
    """Varying paths on shared connections: each answer belongs to its request."""
    with served(tmp_path) as port:
        for number in range(20):
            (tmp_path / "htdocs" / f"file{number}").write_text(f"content {number}")
        put(mesh, port)
        with ThreadPoolExecutor(10) as pool:
            found = list(pool.map(lambda number: mesh.get(f"/file{number % 20}").body, range(200)))
        settled(mesh)

    assert [int(re.sub(rb"\D", b"", body)) for body in found] == [number % 20 for number in range(200)]
