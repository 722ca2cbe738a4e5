"""Which form of the data path runs, and that it is the one that can be read."""

from __future__ import annotations

import os
import runpy
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader
from pathlib import Path

import pytest

from hostmesh import cli, core
from hostmesh.proxy import exchange

ROOT = Path(__file__).parents[2]


def test_the_kind_is_what_the_modules_are() -> None:
    """Where the library is there, the exchange is loaded from it."""
    assert exchange.__spec__ is not None
    compiled = isinstance(exchange.__spec__.loader, ExtensionFileLoader)

    assert core.kind() == ("compiled" if compiled else "pure")


def test_the_version_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    """So that a report of a bug says it, too."""
    with pytest.raises(SystemExit):
        cli.main(["--version"])

    assert f"{core.kind()} core" in capsys.readouterr().out


def test_a_source_that_changed_is_stale(tmp_path: Path) -> None:
    """A module is stale if its source is younger than what was made of it; sources that are not compiled are not."""
    suffix = EXTENSION_SUFFIXES[0]
    for name, age in (("old", 0), ("young", 20)):
        for file, time in ((f"{name}.py", 10 + age), (f"{name}{suffix}", 20)):
            (tmp_path / file).touch()
            os.utime(tmp_path / file, (time, time))
    (tmp_path / "plain.py").touch()

    assert core.stale(tmp_path) == ["young.py"]


def test_what_is_compiled_exists() -> None:
    """The list of the build names modules that there are."""
    modules = runpy.run_path(str(ROOT / "setup.py"), run_name="listed")["modules"]()

    assert [name for name in modules if not (ROOT / name).is_file()] == []
    assert len(modules) == len(set(modules)) > 50
