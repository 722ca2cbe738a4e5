"""Linkerd's example configurations for HTTP/2, unchanged, with nghttp2's server behind them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers.fetch import nghttpd, required
from tests.servers.running import running
from tests.wire.endpoint import ROOT
from tests.wire.harness import Hostmesh
from tests.wire.network import own_network

EXAMPLES = Path(os.environ.get("HOSTMESH_EXAMPLES", ROOT.parent / "shared/reference/linkerd-examples"))

pytestmark = pytest.mark.skipif(not (EXAMPLES / "h2.yaml").exists(), reason=f"no examples in {EXAMPLES}")

ADMIN = 9990

Run = Callable[[str], Hostmesh]
Serve = Callable[[int], None]


@pytest.fixture(scope="session")
def server_command() -> tuple[Path, str]:
    """Fetched before any test has a network of its own, from which nothing can be fetched."""
    return required(nghttpd)


@pytest.fixture
def network(server_command: tuple[Path, str]) -> Iterator[ExitStack]:
    """What is entered here lives in the test's own network, and ends before it."""
    with own_network(), ExitStack() as stack:
        yield stack


@pytest.fixture
def serve(network: ExitStack, server_command: tuple[Path, str], tmp_path: Path) -> Serve:
    """Starts nghttpd on a port, with a file called ``hello``."""

    def start(port: int) -> None:
        folder = tmp_path / f"nghttpd-{port}"
        folder.mkdir()
        (folder / "hello").write_text("hello from nghttpd\n")
        program, libraries = server_command
        environment = {"LD_LIBRARY_PATH": libraries}
        command = [str(program), "--no-tls", "-a", "127.0.0.1", "-d", str(folder), str(port)]
        network.enter_context(running(command, folder, port, environment))

    return start


@pytest.fixture
def example(network: ExitStack, tmp_path: Path) -> Run:
    """Runs the file of that name from a folder where ``linkerd/examples`` is what it expects."""
    (tmp_path / "linkerd").mkdir()
    (tmp_path / "linkerd" / "examples").symlink_to(EXAMPLES)

    def run(name: str) -> Hostmesh:
        mesh = Hostmesh(tmp_path, start=False)
        mesh.file = Path("linkerd/examples") / name
        mesh.ports = {"admin": ADMIN}
        mesh.start()
        return network.enter_context(mesh)

    return run


def get(port: int, target: str, *arguments: str) -> tuple[str, str]:
    """(version and status, body) of what curl gets by HTTP/2."""
    done = subprocess.run(
        [
            "curl",
            "-sS",
            "--http2-prior-knowledge",
            "-w",
            "\n%{http_version} %{http_code}",
            *arguments,
            f"http://localhost:{port}{target}",
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    body, _, seen = done.stdout.rpartition("\n")
    return seen, body


def test_h2(example: Run, serve: Serve, tmp_path: Path) -> None:
    """The token identifier reads :authority; one dentry names an address, the other files; the log is Linkerd's."""
    serve(8888)
    mesh = example("h2.yaml")

    by_address = get(4142, "/hello", "-A", "test")
    by_file = get(4142, "/hello", "-H", "Host: dog")
    nowhere = get(4142, "/hello", "-H", "Host: nobody")
    settings = subprocess.run(
        ["curl", "-sSv", "--http2-prior-knowledge", "http://localhost:4142/hello"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert by_address == ("2 200", "hello from nghttpd\n")
    assert by_file == ("2 200", "hello from nghttpd\n")
    assert nowhere[0] == "2 502"
    assert "HTTP/2 200" in settings.stderr
    metrics = mesh.metrics()
    assert metrics["rt/h2/server/127.0.0.1/4142/requests"] == 4
    assert metrics["rt/h2/client/#/io.l5d.fs/dog/requests"] == 1
    assert metrics["rt/h2/client/$/inet/127.1/8888/requests"] == 2
    mesh.terminate()
    assert mesh.wait_exit() == 0
    lines = (tmp_path / "logs" / "access.log").read_text().splitlines()
    assert [line.split(" ")[0] for line in lines] == ["localhost:4142", "dog", "localhost:4142"]
    assert lines[0].endswith('"GET /hello HTTP/2" 200 - "-" "test"')


def test_h2spec(example: Run, serve: Serve) -> None:
    """Every name goes to port 8080, on a router with nothing but defaults."""
    serve(8080)
    mesh = example("h2spec.yaml")

    answers = [get(4140, "/hello", "-H", f"Host: {host}") for host in ("a", "b", "c.example:81")]
    missing = get(4140, "/no-such-file")

    assert answers == [("2 200", "hello from nghttpd\n")] * 3
    assert missing[0] == "2 404"
    assert mesh.metrics()["rt/h2/server/0.0.0.0/4140/requests"] == 4
