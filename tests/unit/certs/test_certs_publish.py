"""Sets of files that change together, whenever somebody is killed."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostmesh.base.errors import ConfigError
from hostmesh.certs import publish as module
from hostmesh.certs.publish import (
    MAX_FILE,
    VERSION,
    Content,
    current_version,
    make_folder,
    publish,
    read_regular,
)
from tests.certs_world import NOON

FILES = ("cert.pem", "key.pem")


def set_of(text: str) -> dict[str, Content]:
    return {"cert.pem": Content(text.encode()), "key.pem": Content(text.encode(), 0o600)}


def read_set(folder: Path) -> set[str]:
    """What both files hold: one element if they belong together."""
    return {(folder / name).read_text() for name in FILES}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


class Killed(BaseException):
    """As if by SIGKILL: nothing catches it."""


class DyingOs:
    """The module os, that kills at its nth call of a function that changes the disk."""

    CHANGES = ("mkdir", "open", "write", "fsync", "fchmod", "symlink", "rename", "unlink", "listdir")

    def __init__(self, dies_at: int) -> None:
        self.left = dies_at
        self.calls = 0

    def __getattr__(self, name: str) -> object:
        real = getattr(os, name)
        if name not in self.CHANGES:
            return real

        def counted(*args: object, **options: object) -> object:
            self.calls += 1
            if self.calls == self.left:
                raise Killed(name)
            return real(*args, **options)

        return counted


def calls_of_one_publish(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    counting = DyingOs(0)
    with monkeypatch.context() as patch:
        patch.setattr(module, "os", counting)
        publish(folder, set_of("new"), NOON)
    return counting.calls


def publish_until_killed(folder: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "os", DyingOs(step))
        with pytest.raises(Killed):
            publish(folder, set_of("new"), NOON)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "web"
    make_folder(made)
    return made


def steps(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy, symlinks=True)
    yield from range(1, calls_of_one_publish(copy, monkeypatch) + 1)


@pytest.mark.parametrize("umask", [0, 0o077])
def test_files_and_directories_are_for_their_owner(folder: Path, umask: int) -> None:
    """0600 keys in 0700 directories, whatever the umask; certificates may be read."""
    before = os.umask(umask)
    try:
        publish(folder, set_of("one"), NOON)
    finally:
        os.umask(before)

    assert mode(folder) == mode(folder / str(current_version(folder))) == 0o700
    assert mode((folder / "key.pem").resolve()) == 0o600
    assert mode((folder / "cert.pem").resolve()) == 0o644


def test_missing_parents_are_for_their_owner_too(tmp_path: Path) -> None:
    """All directories that are made are 0700; those that exist stay as they are."""
    (tmp_path / "there").mkdir(0o755)

    make_folder(tmp_path / "there" / "a" / "b")

    assert [mode(tmp_path / "there" / rest) for rest in (".", "a", "a/b")] == [0o755, 0o700, 0o700]


def test_killed_at_any_step_the_set_is_the_old_or_the_new_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever call does not happen any more, both files are of one set, and the next publish works and tidies."""
    publish(folder, set_of("old"), NOON)
    seen = set()

    for step in steps(folder, monkeypatch):
        publish_until_killed(folder, monkeypatch, step)
        found = read_set(folder)
        assert len(found) == 1, step
        seen |= found
        publish(folder, set_of("old"), NOON)
        assert read_set(folder) == {"old"}

    assert seen == {"old", "new"}
    assert len([name for name in os.listdir(folder) if VERSION.fullmatch(name)]) == 2
    assert not [name for name in os.listdir(folder) if name.startswith(".new-")]


def test_killed_in_the_first_publish_there_is_nothing_or_all_of_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first set appears with one link; names that are still missing come with the next publish."""
    for step in steps(folder, monkeypatch):
        publish_until_killed(folder, monkeypatch, step)
        version = current_version(folder)
        if version is not None:
            assert read_set(folder / version) == {"new"}
        shutil.rmtree(folder)
        make_folder(folder)


def test_a_failing_disk_leaves_the_set_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OSError passes through, and the old set is untouched."""
    publish(folder, set_of("old"), NOON)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        publish(folder, set_of("new"), NOON)

    assert read_set(folder) == {"old"}


def test_one_set_before_is_kept(folder: Path) -> None:
    """Who opened the link a moment ago finds its files; older keys are gone."""
    for text in ("one", "two", "three"):
        publish(folder, set_of(text), NOON)

    sets = [folder / name for name in os.listdir(folder) if VERSION.fullmatch(name)]
    assert sorted((each / "key.pem").read_text() for each in sets) == ["three", "two"]


def test_a_file_of_somebody_else_is_not_replaced(folder: Path) -> None:
    """A key that a person put there stays; nothing is written."""
    (folder / "key.pem").write_text("mine")

    with pytest.raises(ConfigError, match=r"key\.pem: expected nothing or a link of hostmesh certs"):
        publish(folder, set_of("new"), NOON)

    assert os.listdir(folder) == ["key.pem"]


def test_a_link_in_place_of_the_directory_is_not_followed(tmp_path: Path) -> None:
    """Whoever may rename in the parent cannot send keys elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "web").symlink_to("elsewhere")

    with pytest.raises(OSError, match="Not a directory"):
        publish(tmp_path / "web", set_of("new"), NOON)

    assert os.listdir(tmp_path / "elsewhere") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_gives_the_files_to_the_owner_of_the_directory(folder: Path) -> None:
    """A daemon without privileges reads keys that a timer of root renews."""
    make_folder(folder, owner=(65534, 65534))

    publish(folder, set_of("new"), NOON)

    version = folder / str(current_version(folder))
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in (version, *version.iterdir())}
    assert owners == {(65534, 65534)}


def test_reading_does_not_wait_for_a_pipe(tmp_path: Path) -> None:
    """A pipe, a directory, nothing and too much are refused by their names."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(bytes(MAX_FILE + 1))

    for name, why in (
        ("pipe", "expected a file"),
        ("none", "cannot be read: No such file"),
        ("large", "expected at most"),
    ):
        with pytest.raises(ConfigError, match=f"{tmp_path / name}: {why}"):
            read_regular(tmp_path / name)
