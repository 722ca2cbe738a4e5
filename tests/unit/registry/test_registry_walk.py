"""Reading a path and knowing what it depends on; and the records of inotify."""

from __future__ import annotations

import os
import struct
from pathlib import Path as FilePath

import pytest

from hostmesh.registry import inotify, walk
from hostmesh.registry.walk import Directory, File, Missing, Unreadable, look, signature

LIMIT = 1000


@pytest.fixture
def kernel() -> inotify.Inotify:
    kernel = inotify.Inotify()
    yield kernel
    kernel.close()
    kernel.close()


def names(kernel: inotify.Inotify, path: FilePath) -> list[str]:
    """The entries that a path depends on, in the order of the walk."""
    return [name for _wd, name in look(str(path), LIMIT, kernel).chain if name]


def test_what_is_at_a_path(tmp_path: FilePath) -> None:
    """Nothing, a directory, a file; links are followed."""
    (tmp_path / "file").write_text("\ufeffhé\n", "utf-8")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nowhere/file")

    assert File("hé\n") == look(f"{tmp_path}/file", LIMIT).found
    assert File("hé\n") == look(f"{tmp_path}/./x/../link".replace("x/..", "."), LIMIT).found
    assert Directory() == look(str(tmp_path), LIMIT).found
    assert Missing(f"{tmp_path}/no") == look(f"{tmp_path}/no/such/file", LIMIT).found
    assert Missing(f"{tmp_path}/dangling") == look(f"{tmp_path}/dangling", LIMIT).found
    assert Missing(f"{tmp_path}/file") == look(f"{tmp_path}/file/below", LIMIT).found
    assert Missing(f"{tmp_path}/{'x' * 256}") == look(f"{tmp_path}/{'x' * 256}", LIMIT).found


def test_what_cannot_be_used(tmp_path: FilePath) -> None:
    """Each says where and why, and whether a file is certainly there."""
    (tmp_path / "large").write_text("x" * (LIMIT + 1))
    (tmp_path / "binary").write_bytes(b"ok \xff")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")

    assert Unreadable(f"{tmp_path}/large: expected at most 1000 bytes, found more", True) == (
        look(f"{tmp_path}/large", LIMIT).found
    )
    assert (
        Unreadable(f"{tmp_path}/binary: byte 3 is not UTF-8", True) == look(f"{tmp_path}/binary", LIMIT).found
    )
    assert Unreadable(f"{tmp_path}/loop: Too many levels of symbolic links") == (
        look(f"{tmp_path}/loop", LIMIT).found
    )
    assert Unreadable(f"{tmp_path}/pipe: expected a regular file or a directory") == (
        look(f"{tmp_path}/pipe", LIMIT).found
    )
    assert isinstance(look(f"{tmp_path}/a\0b", LIMIT).found, Unreadable)
    assert signature(f"{tmp_path}/a\0b") is None


def test_the_signature_changes_with_the_content(tmp_path: FilePath) -> None:
    """And is the same for look and signature."""
    (tmp_path / "file").write_text("a")
    before = look(f"{tmp_path}/file", LIMIT).signature

    assert before == signature(f"{tmp_path}/file")
    (tmp_path / "file").write_text("ab")
    assert before != signature(f"{tmp_path}/file")
    assert signature(str(tmp_path)) == look(str(tmp_path), LIMIT).signature


def test_a_plain_file_depends_on_its_entry_only(tmp_path: FilePath, kernel: inotify.Inotify) -> None:
    """Directories on the way are watched for their own fate, not for what else happens in them."""
    (tmp_path / "file").write_text("")

    assert names(kernel, tmp_path / "file") == ["file"]


def test_a_link_makes_a_path_depend_on_all_it_passes(tmp_path: FilePath, kernel: inotify.Inotify) -> None:
    """As in a ConfigMap volume: the link, the link in the middle, and the file behind both."""
    (tmp_path / "..v1").mkdir()
    (tmp_path / "..v1" / "web").write_text("")
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "web").symlink_to("..data/web")

    assert names(kernel, tmp_path / "web") == ["web", "..data", "web"]


def test_an_absolute_link_and_a_link_upwards_are_followed(
    tmp_path: FilePath, kernel: inotify.Inotify
) -> None:
    """Links may lead anywhere."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "file").write_text("x")
    (tmp_path / "a" / "up").symlink_to("../b/file")
    (tmp_path / "a" / "far").symlink_to(tmp_path / "a" / "up")

    assert File("x") == look(f"{tmp_path}/a/far", LIMIT).found
    assert names(kernel, tmp_path / "a" / "far") == ["far", "up", "file"]


def test_a_missing_path_depends_on_where_it_ends(tmp_path: FilePath, kernel: inotify.Inotify) -> None:
    """The last directory that is there is watched for the entry that is not."""
    assert names(kernel, tmp_path / "no" / "such" / "file") == ["no"]


def test_a_file_that_changes_while_it_is_read_is_read_again(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No mixture of old and new is returned while there is hope of a whole one."""
    path = tmp_path / "file"
    path.write_text("old")
    pread = os.pread
    reads = []

    def pread_and_change(fd: int, count: int, offset: int) -> bytes:
        data = pread(fd, count, offset)
        reads.append(data)
        if len(reads) == 1:
            path.write_text("newer")
        return data

    monkeypatch.setattr(walk.os, "pread", pread_and_change)

    assert File("newer") == look(str(path), LIMIT).found
    assert reads == [b"old", b"newer"]


def test_an_entry_that_appears_is_told(tmp_path: FilePath, kernel: inotify.Inotify) -> None:
    """The kernel's records carry the watch, the kind and the name."""
    assert kernel.read() == []
    wd = kernel.add(str(tmp_path), inotify.ENTRIES)
    assert wd == kernel.add(str(tmp_path), inotify.SELF)
    (tmp_path / "file").write_text("x")

    events = kernel.read()

    assert [(wd, "create", "file"), (wd, "close-write", "file")] == [(e.wd, e.kind, e.name) for e in events]


def test_a_directory_that_cannot_be_watched_raises(tmp_path: FilePath, kernel: inotify.Inotify) -> None:
    """With the path and the reason."""
    with pytest.raises(FileNotFoundError):
        kernel.add(f"{tmp_path}/no", inotify.SELF)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        kernel.add(f"{tmp_path}/file", inotify.SELF)


def test_records_are_decoded_one_after_the_other() -> None:
    """Names are padded with zeros, records about a directory itself have none."""
    data = struct.pack("iIII16s", 1, inotify.MOVED_TO, 7, 16, b"web") + struct.pack("iIII", -1, 0x4000, 0, 0)

    assert [inotify.Event(1, inotify.MOVED_TO, "web"), inotify.Event(-1, inotify.Q_OVERFLOW, "")] == (
        inotify.parse(data)
    )
    assert inotify.parse(data[:10]) == []
    assert inotify.Event(1, 1, "").kind == "0x1"
