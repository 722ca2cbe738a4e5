"""The namer of docs/namers.md, written to files as the page says and used as it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.wire.harness import COMMAND, Answer, EndpointServer, Hostmesh, Received
from tests.wire.network import own_network

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "namers.md").read_text()
CHAPTER = PAGE[PAGE.index("## A namer of your own") :]


def block(language: str) -> str:
    """The first block of that language in the chapter."""
    found = re.search(rf"```{language}\n(.*?)```", CHAPTER, re.DOTALL)
    assert found is not None
    return found[1]


class Catalogue:
    """An HTTP endpoint that tells who is where."""

    def __init__(self) -> None:
        self.services: dict[str, list[EndpointServer]] = {}
        self.status = 200
        self.server = EndpointServer("catalogue", respond=self.respond)

    def respond(self, request: Received) -> Answer:
        (name,) = parse_qs(urlsplit(request.target).query)["name"]
        if self.status != 200:
            return Answer(status=self.status, body=b"broken")
        if name not in self.services:
            return Answer(status=404, body=b"")
        endpoints = [{"ip": each.host, "port": each.port} for each in self.services[name]]
        return Answer(body=json.dumps({"endpoints": endpoints}).encode())


def test_the_example_is_about_forty_lines() -> None:
    """Short enough to be read."""
    lines = [line for line in block("python").splitlines() if line.strip()]

    assert len(lines) <= 45


def test_the_commands_of_the_page_do_what_it_says(tmp_path: Path) -> None:
    """Two files and a shell are all it takes: the page's own configuration, ports and commands."""
    (tmp_path / "http_json.py").write_text(block("python"))
    (tmp_path / "hostmesh.yaml").write_text(block("yaml"))
    script = block("sh").replace("python3", sys.executable)

    with own_network():
        ran = subprocess.run(
            ["bash", "-m", "-c", script],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PATH": f"{COMMAND.parent}:{os.environ['PATH']}"},
        )

    assert '{"endpoints": [{"ip": "127.0.0.1", "port": 8000}]}' in ran.stdout, ran
    assert "add        127.0.0.1:8000  /#/example.httpJson/web" in ran.stdout
    assert "hostmesh.yaml: fine" in ran.stdout


def test_the_example_namer_routes_as_written(
    tmp_path: Path,
    endpoint: Callable[..., EndpointServer],
    request: pytest.FixtureRequest,
) -> None:
    """The file and the configuration of the page carry requests; errors and absences do what the page says."""
    catalogue = Catalogue()
    request.addfinalizer(catalogue.server.stop)
    one, two = endpoint("web-1"), endpoint("web-2")
    catalogue.services["web"] = [one]
    (tmp_path / "http_json.py").write_text(block("python"))
    (tmp_path / "http_json.py").chmod(0o644)
    text = block("yaml").replace(":8000/", f":{catalogue.server.port}/").replace("4140", "@port@")
    text += "admin: {ip: 127.0.0.1, port: @admin@}\n"

    with Hostmesh(tmp_path, text) as mesh:
        answer = mesh.get("/")
        assert (answer.status, answer.endpoint) == (200, "web-1")
        assert mesh.get("/", host="nobody").status == 502

        catalogue.status = 500
        mesh.wait_metric("namer/#/example.httpJson/errors", lambda count: count > 0)
        assert mesh.get("/").endpoint == "web-1"

        catalogue.status = 200
        catalogue.services["web"] = [two]
        mesh.wait(lambda: mesh.get("/").endpoint == "web-2", "the second endpoint")
        state = json.loads(mesh.admin("/namer_state/example.httpJson.json").body)
        assert state["state"]["/web"]["ageMs"] < 5000
        assert [entry["file"] for entry in json.loads(mesh.admin("/admin/server_info").body)["plugins"]] == [
            str(tmp_path / "http_json.py")
        ]

        log = subprocess.run(
            [str(COMMAND), "names", "log", "web", "--admin", f"127.0.0.1:{mesh.ports['admin']}"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout
        assert f"add        127.0.0.1:{one.port}  /#/example.httpJson/web" in log


def test_the_example_namer_in_an_installed_package(tmp_path: Path) -> None:
    """The same class under the page's entry point is a kind, without ``plugins``."""
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "http_json.py").write_text(block("python"))
    info = tmp_path / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    entry_point = block("toml").replace('[project.entry-points."hostmesh.namer"]', "[hostmesh.namer]")
    (info / "entry_points.txt").write_text(entry_point.replace('"', ""))
    (tmp_path / "mesh.yaml").write_text(block("yaml").replace("plugins: [http_json.py]\n", ""))

    done = subprocess.run(
        [str(COMMAND), "check", str(tmp_path / "mesh.yaml")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "namers /#/example.httpJson" in done.stdout
