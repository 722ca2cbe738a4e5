"""hostmesh as a wheel, installed in a folder of its own: what images and virtual machines run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hostmesh import core
from tests.wire.harness import EndpointServer, Hostmesh

ROOT = Path(__file__).resolve().parents[2]
BUILD_S = 120.0


def run(*command: str, **more: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=BUILD_S, env={**os.environ, **more}, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The compiled core is in a wheel already, since `make compiled` takes it from there; the other is made here."""
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    if core.kind() == "compiled":
        (wheel,) = (ROOT / "build" / "dist").glob("*.whl")
    else:
        source = tmp_path / "source"
        source.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        for name in ("hostmesh", "namer"):
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source))
        (wheel,) = tmp_path.glob("*.whl")
    run(*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel))
    return tmp_path / "site"


def test_a_wheel_has_all_that_runs(tmp_path: Path, installed: Path) -> None:
    """The same core as this checkout's, none of it stale, all plugins, and a request goes through."""
    environment = {"PYTHONPATH": str(installed)}
    where = "import hostmesh.core as core; print(core.__file__, core.kind(), core.stale())"
    said = run(sys.executable, "-P", "-c", where, **environment)
    assert said == f"{installed}/hostmesh/core.py {core.kind()} []\n"

    mesh = Hostmesh(tmp_path, environment=environment, start=False)
    with EndpointServer("web-1") as web:
        mesh.set_endpoints("web", [web])
        mesh.start()
        with mesh:
            assert mesh.get("/").endpoint == "web-1"
            (started,) = (entry for entry in mesh.log_entries() if entry.get("event") == "started")
            assert started["core"] == core.kind()
