"""Plugins in files that the configuration names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hostmesh.config import plugin_files
from hostmesh.config.load import load
from hostmesh.config.plugin_files import loaded

PLUGIN = """\
from attrs import frozen
from hostmesh.plugin import NamerConfig

@frozen(kw_only=True)
class MineConfig(NamerConfig):
    kind: str = "mine"
    url: str
"""

CONFIG = """\
plugins: [{file}]
namers:
- kind: mine
  url: http://x
routers:
- protocol: http
  servers:
  - port: 4140
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    file.chmod(0o644)
    return file


def mistakes(folder: Path, text: str = CONFIG.format(file="mine.py")) -> list[str]:
    config, report = load(text, str(folder / "mesh.yaml"))
    assert (config is None) is bool(report.mistakes)
    return [finding.message.replace(str(folder), "DIR") for finding in report.mistakes]


def test_a_class_of_the_file_is_a_kind(plugin: Path) -> None:
    """Its keys are checked as any other's, and its prefix is its kind."""
    config, report = load(CONFIG.format(file="mine.py"), str(plugin.parent / "mesh.yaml"))

    assert report.mistake_lines() == []
    assert config is not None
    assert config.namers[0].url == "http://x"  # type: ignore[attr-defined]
    assert config.namers[0].prefix_in_force.show() == "/mine"
    assert mistakes(plugin.parent, CONFIG.format(file=plugin).replace("url", "ulr")) != []


def test_a_file_is_run_again_only_if_it_has_changed(plugin: Path) -> None:
    """The class stays the same across reloads, and is another one after a change."""

    def cls() -> type:
        config, _report = load(CONFIG.format(file="mine.py"), str(plugin.parent / "mesh.yaml"))
        assert config is not None
        return type(config.namers[0])

    before = cls()
    assert cls() is before
    plugin.write_text(PLUGIN + "# changed\n")
    assert cls() is not before


def test_x13_files_are_listed_by_hash(plugin: Path) -> None:
    """Whoever looks at a running daemon sees which code runs."""
    assert mistakes(plugin.parent) == []

    (entry,) = [entry for entry in loaded() if entry["file"] == str(plugin)]
    assert len(entry["sha256"]) == 64


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_x13_a_file_that_others_may_write_is_refused(plugin: Path, mode: int) -> None:
    """Its group, or everybody."""
    plugin.chmod(mode)

    assert mistakes(plugin.parent)[0] == (
        f"DIR/mine.py: expected a file that only its owner may write to, found mode {mode:04o}; chmod go-w it"
    )


def test_x13_a_file_of_another_user_is_refused(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root's and our own count."""
    if os.getuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(plugin, 12345, -1)

    assert (
        mistakes(plugin.parent)[0]
        == "DIR/mine.py: expected a file of root or of user 0, found one of user 12345"
    )


def test_x13_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A missing one, a directory, a pipe: nothing is waited for."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")

    assert mistakes(tmp_path)[0] == "DIR/mine.py: No such file or directory"
    assert mistakes(tmp_path, CONFIG.format(file="folder"))[0] == "DIR/folder: Is a directory"
    assert (
        mistakes(tmp_path, CONFIG.format(file="pipe"))[0] == "DIR/pipe: expected a file, found something else"
    )


def test_x13_a_file_is_bounded(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large one is a slip of the path."""
    monkeypatch.setattr(plugin_files, "MAX_BYTES", 10)

    assert mistakes(plugin.parent)[0] == "DIR/mine.py: expected at most 10 bytes, found more"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\n", "expected a config class with a kind, found none"),
        ("x = 1\nraise KeyError('k')\n", "cannot be run: line 2: KeyError: 'k'"),
        ("x = (\n", "cannot be run: SyntaxError: '(' was never closed (mine.py, line 1)"),
        (PLUGIN.replace('"mine"', '"fs"'), "MineConfig: there is a namer 'fs' already"),
        (PLUGIN.replace('"mine"', '"io.l5d.fs"'), "MineConfig: there is a namer 'io.l5d.fs' already"),
        (
            PLUGIN.replace("NamerConfig", "PluginConfig"),
            "MineConfig: expected the config of a namer or another plugin",
        ),
    ],
    ids=["no class", "raises", "no Python", "short kind", "full kind", "no slot"],
)
def test_a_file_that_is_no_plugin_is_a_mistake(plugin: Path, source: str, message: str) -> None:
    """With its path and what is wrong, beside the other mistakes of the file."""
    plugin.write_text(source)

    assert mistakes(plugin.parent)[0].startswith(f"DIR/mine.py: {message}")


def test_plugins_of_a_wrong_shape_are_a_mistake(tmp_path: Path) -> None:
    """Like any other key's."""
    assert mistakes(tmp_path, CONFIG.format(file="{a: b}")) != []
    assert mistakes(tmp_path, CONFIG.replace("[{file}]", "mine.py")) != []
