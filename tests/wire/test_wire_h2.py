"""HTTP/2 callers of other people's making, curl, nghttp and h2load, on a running hostmesh."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import frozen

from tests.servers.fetch import nghttp2_tools, required
from tests.wire.harness import Answer, EndpointServer, Hostmesh

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@, shutdownGraceMs: 5000}
namers:
- {kind: io.l5d.fs, rootDir: @dir@/disco}
routers:
- protocol: http
  dtab: /svc => /#/io.l5d.fs
  servers: [{port: @port@, ip: 127.0.0.1}]
- protocol: h2
  h2AccessLog: @dir@/access.log
  dtab: /svc => /#/io.l5d.fs
  client: {protocol: http}
  servers: [{port: @h2@, ip: 127.0.0.1}]
"""
"""One router of each protocol. Both ports take both versions; endpoints speak HTTP/1.1."""

PORTS = ("port", "h2")
LARGE = 5_000_000
HUGE = 64 * 1024 * 1024


@frozen
class Tools:
    """nghttp2's programs."""

    nghttp_path: Path
    h2load_path: Path
    libraries: str

    def nghttp(self, *arguments: str) -> str:
        """What ``nghttp`` prints; it must succeed."""
        return self._run(self.nghttp_path, *arguments)

    def h2load(self, *arguments: str) -> str:
        return self._run(self.h2load_path, *arguments)

    def _run(self, program: Path, *arguments: str) -> str:
        environment = dict(os.environ)
        if self.libraries:
            environment["LD_LIBRARY_PATH"] = self.libraries
        done = subprocess.run(
            [str(program), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def tools() -> Tools:
    return Tools(*required(nghttp2_tools))


@pytest.fixture
def web(endpoint: Callable[..., EndpointServer]) -> EndpointServer:
    return endpoint("web-1")


@pytest.fixture
def mesh(tmp_path: Path, web: EndpointServer) -> Iterator[Hostmesh]:
    with Hostmesh.routing(tmp_path, CONFIG, web=[web]) as running:
        yield running


def curl(mesh: Hostmesh, port: str, target: str, *arguments: str, host: str = "web") -> tuple[str, bytes]:
    """(version and status, body) of curl's answer."""
    assert shutil.which("curl")
    url = f"http://127.0.0.1:{mesh.ports[port]}{target}"
    # The body's end is found by what is written behind it.
    done = subprocess.run(
        ["curl", "-sS", "-H", f"Host: {host}", "-w", "\n%{http_version} %{http_code}", *arguments, url],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    body, _, seen = done.stdout.rpartition(b"\n")
    return seen.decode(), body


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("how", ["--http2-prior-knowledge", "--http2", "--http1.1"])
def test_curl(mesh: Hostmesh, port: str, how: str) -> None:
    """One port takes HTTP/2 at once and HTTP/1.1, and that of an h2 router HTTP/2 after an upgrade."""
    seen, body = curl(mesh, port, "/a?b=c", how, "-H", "Cookie: a=1; b=2", "-H", "X-Small: 1")

    described = json.loads(body)
    fields = {name.lower(): value for name, value in described["fields"]}
    one = how == "--http1.1" or (how, port) == ("--http2", "port")
    assert seen == ("1.1 200" if one else "2 200")
    assert (described["method"], described["target"]) == ("GET", "/a?b=c")
    assert (fields["host"], fields["cookie"], fields["x-small"]) == ("web", "a=1; b=2", "1")
    assert fields["via"] == ("h2 hostmesh" if how == "--http2-prior-knowledge" else "1.1 hostmesh")
    assert "upgrade" not in fields
    assert "http2-settings" not in fields


def test_curl_uploads_and_downloads(mesh: Hostmesh, web: EndpointServer, tmp_path: Path) -> None:
    """Bodies of some megabytes pass both ways, whole."""
    file = tmp_path / "body"
    file.write_bytes(os.urandom(LARGE))
    pieces = [file.read_bytes()[at : at + 65536] for at in range(0, LARGE, 65536)]
    web.script.append(Answer(body=b"got it"))
    web.script.append(Answer(body=pieces, framing="chunked"))

    up = curl(mesh, "h2", "/up", "--http2-prior-knowledge", "-T", str(file))
    down, body = curl(mesh, "h2", "/down", "--http2-prior-knowledge")

    assert up == ("2 200", b"got it")
    assert web.requests[0].body_bytes == LARGE
    assert down == "2 200"
    assert body == file.read_bytes()


def test_large_bodies_are_not_held(mesh: Hostmesh, web: EndpointServer, tmp_path: Path) -> None:
    """What passes through leaves the memory as it was: bodies of 64 MB, in both directions, within 16 MB."""
    file = tmp_path / "body"
    with file.open("wb") as out:
        out.truncate(HUGE)
    piece = bytes(65536)
    curl(mesh, "h2", "/", "--http2-prior-knowledge")
    before = mesh.resident_bytes()
    web.script.append(Answer(body=b"got it"))
    web.script.append(Answer(body=(piece for _ in range(HUGE // len(piece))), length=HUGE))

    up = curl(mesh, "h2", "/up", "--http2-prior-knowledge", "-T", str(file))
    down, _ = curl(mesh, "h2", "/down", "--http2-prior-knowledge", "-o", "/dev/null")

    status = Path(f"/proc/{mesh.pid}/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]
    assert (up, down) == (("2 200", b"got it"), "2 200")
    assert web.requests[-2].body_bytes == HUGE
    assert peak - before < 16_000_000


def test_curl_head_and_errors(mesh: Hostmesh) -> None:
    """HEAD has no body; what leads nowhere is a 502 that says why."""
    head = subprocess.run(
        [
            "curl",
            "-sSI",
            "--http2-prior-knowledge",
            "-H",
            "Host: web",
            f"http://127.0.0.1:{mesh.ports['h2']}/",
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    seen, body = curl(mesh, "h2", "/", "--http2-prior-knowledge", host="nowhere")

    assert head.stdout.startswith("HTTP/2 200")
    assert "content-length" in head.stdout
    assert seen == "2 502"
    assert body.startswith(b"Unable to route request!")


@pytest.mark.parametrize("size", [100_000, LARGE])
def test_f13_curl_reads_an_answer_that_comes_before_its_upload_has_ended(
    mesh: Hostmesh, tmp_path: Path, size: int
) -> None:
    """curl 7.88 takes a reset that it meets while it writes for an error, whatever its code: it has time to read."""
    file = tmp_path / "body"
    file.write_bytes(bytes(size))

    seen, body = curl(mesh, "h2", "/up", "--http2-prior-knowledge", "-T", str(file), host="nowhere")

    assert seen == "2 502"
    assert body.startswith(b"Unable to route request!")


def test_nghttp_with_every_kind_of_frame(
    mesh: Hostmesh, tools: Tools, web: EndpointServer, tmp_path: Path
) -> None:
    """Priorities, padding, small windows, trailers, an upgrade, and many streams of one connection."""
    file = tmp_path / "body"
    file.write_bytes(b"x" * 100_000)
    url = f"http://127.0.0.1:{mesh.ports['h2']}/n"
    authority = "-H:authority: web"

    shown = tools.nghttp("-v", "--padding=50", authority, url)
    posted = tools.nghttp(
        "-v",
        "-d",
        str(file),
        "--trailer=x-sum: 1",
        "--no-content-length",
        authority,
        "-H",
        "te: trailers",
        url,
    )
    upgraded = tools.nghttp("-nsu", "-H", "host: web", url)
    small = tools.nghttp("-nv", "--window-bits=10", "--connection-window-bits=16", "-m", "20", authority, url)

    assert ":status: 200" in shown
    assert "recv SETTINGS" in shown
    assert ":status: 200" in posted
    assert re.search(r" 200 ", upgraded)
    assert small.count(":status: 200") == 20
    requests = web.requests
    assert len(requests) == 23
    assert (requests[1].body_bytes, requests[1].trailers) == (100_000, [("x-sum", "1")])
    assert mesh.metrics()[f"rt/h2/server/127.0.0.1/{mesh.ports['h2']}/open_streams"] == 0


@pytest.mark.parametrize("port", PORTS)
def test_h2load(mesh: Hostmesh, tools: Tools, port: str) -> None:
    """Thousands of streams on a few connections, none lost."""
    load = tools.h2load(
        "-n", "2000", "-c", "4", "-m", "10", "-H:authority: web", f"http://127.0.0.1:{mesh.ports[port]}/l"
    )

    assert "2000 succeeded, 0 failed, 0 errored, 0 timeout" in load, load
    assert "2000 2xx" in load
    label = "http" if port == "port" else "h2"
    server = f"rt/{label}/server/127.0.0.1/{mesh.ports[port]}"
    metrics = mesh.metrics()
    assert (metrics[f"{server}/requests"], metrics[f"{server}/success"]) == (2000, 2000)
    assert (metrics[f"{server}/open_streams"], metrics[f"{server}/connects"]) == (0, 4)


def test_h2load_asks_more_than_ten_thousand_times(mesh: Hostmesh, tools: Tools) -> None:
    """H8: h2load does not connect again after a GOAWAY, so there is none that it could meet by chance."""
    load = tools.h2load(
        "-n", "12000", "-c", "1", "-m", "20", "-H:authority: web", f"http://127.0.0.1:{mesh.ports['h2']}/l"
    )

    assert "12000 succeeded, 0 failed, 0 errored, 0 timeout" in load, load


def test_reload_under_load(mesh: Hostmesh, tools: Tools) -> None:
    """Reloads cut no connection and lose no stream: the same four connections carry all of them."""
    url = f"http://127.0.0.1:{mesh.ports['h2']}/r"
    loads: list[str] = []
    asking = threading.Thread(
        target=lambda: loads.append(
            tools.h2load("-n", "8000", "-c", "4", "-m", "4", "-H:authority: web", url)
        )
    )
    asking.start()
    server = f"rt/h2/server/127.0.0.1/{mesh.ports['h2']}"
    mesh.wait_metric(f"{server}/requests", lambda value: value > 100)
    for number in range(4):
        mesh.write_config(
            CONFIG.replace("/svc => /#/io.l5d.fs", f"/x{number} => /nothing; /svc => /#/io.l5d.fs")
        )
        mesh.wait(lambda wanted=number + 1: mesh.log().count('"reloaded"') >= wanted, "a reload")  # type: ignore[misc]
    asking.join(60)

    assert "8000 succeeded, 0 failed, 0 errored, 0 timeout" in loads[0], loads
    assert mesh.metrics()[f"{server}/connects"] == 4


def test_stop_while_a_stream_is_open(mesh: Hostmesh, web: EndpointServer) -> None:
    """SIGTERM lets a request by HTTP/2 finish, and then the process ends."""
    go = threading.Event()
    web.script.append(Answer(body=b"late", wait=go))
    answers: list[tuple[str, bytes]] = []
    asking = threading.Thread(
        target=lambda: answers.append(curl(mesh, "h2", "/", "--http2-prior-knowledge", "--max-time", "30"))
    )
    asking.start()
    mesh.wait_metric(f"rt/h2/server/127.0.0.1/{mesh.ports['h2']}/pending", lambda value: value == 1)
    mesh.terminate()
    mesh.wait_log('"stopping"')
    go.set()
    asking.join(30)

    assert answers == [("2 200", b"late")]
    assert mesh.wait_exit() == 0


def test_access_log(mesh: Hostmesh) -> None:
    """The h2 access log has Linkerd's lines: the zone a number, HTTP/2, no length."""
    curl(mesh, "h2", "/logged", "--http2-prior-knowledge", "-A", "agent/1")
    curl(mesh, "h2", "/", "--http2-prior-knowledge", host="nowhere")
    mesh.terminate()
    assert mesh.wait_exit() == 0

    lines = (mesh.folder / "access.log").read_text().splitlines()
    assert len(lines) == 1
    assert re.fullmatch(
        r'web 127\.0\.0\.1 - - \[\d\d/\d\d/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /logged HTTP/2" 200 - "-" "agent/1"',
        lines[0],
    )
