"""Files that change together: a reader sees all of the old ones or all of the new ones, whenever we are killed.

A certificate and its key are two files, and no rename replaces two at once. So each set is a directory of its own,
and one symbolic link says which of them counts, as Kubernetes does it for Secrets::

    web/
      cert.pem -> current/cert.pem
      key.pem -> current/key.pem
      current -> 20261123T120000Z-5be1c0de
      20261123T120000Z-5be1c0de/      cert.pem key.pem ca.pem crl.pem
      20261118T080000Z-77d2a610/      the set before: a reader may be halfway through it

A set is written and flushed to the disk before the link is replaced (rename(2) is atomic).
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from attrs import frozen

from hostmesh.base.errors import ConfigError

CURRENT: Final = "current"
VERSION: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
TEMPORARY: Final = re.compile(r"\.new-[0-9a-f]{16}")

PRIVATE_DIRECTORY: Final = 0o700
PRIVATE_FILE: Final = 0o600
PUBLIC_FILE: Final = 0o644

MAX_FILE: Final = 4 * 1024 * 1024
"""Bytes; a CRL of 50,000 entries is smaller."""


@frozen
class Content:
    """What a file is to hold, and its mode."""

    data: bytes
    mode: int = PUBLIC_FILE


def make_folder(folder: Path, *, owner: tuple[int, int] | None = None) -> None:
    """Make a directory, and those above it that are missing, for their owner only.

    ``owner`` (uid, gid): who gets the last one, whether it was there or not.
    """
    missing = [folder, *folder.parents]
    for each in reversed([each for each in missing if not each.exists()]):
        each.mkdir(PRIVATE_DIRECTORY)
    if owner is not None:
        os.chown(folder, *owner)


def publish(
    folder: Path, files: Mapping[str, Content], now: datetime, *, links: Collection[str] | None = None
) -> None:
    """Replace the set of files in a directory that exists. They get the directory's owner, if we are root.

    ``links``: which of the files have a name in the directory itself (default: all).
    OSError when the disk or a permission says no: the set before stays. ConfigError, before anything is written,
    when a file that is not ours has one of the names.
    """
    linked = files if links is None else links
    refuse_foreign(folder, linked)
    with _opened(folder) as at:
        version = f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        before = current_version(folder)
        os.mkdir(version, PRIVATE_DIRECTORY, dir_fd=at)
        # Through descriptors from here on: the owner of the directory may be another, less trusted user, who must not
        # be able to send what root writes somewhere else by exchanging a name.
        with _opened(version, at) as inside:
            owner = _owner_to_give(at)
            for name, content in files.items():
                _write(inside, name, content, owner)
            if owner is not None:
                os.fchown(inside, *owner)
            os.fsync(inside)
        _link(at, version, CURRENT)
        os.fsync(at)
        for name in linked:
            if _link_text(at, name) != f"{CURRENT}/{name}":
                _link(at, f"{CURRENT}/{name}", name)
        os.fsync(at)
        _remove_leftovers(at, keep={version, before})


def current_version(folder: Path) -> str | None:
    """The name of the set that counts; None if there is none. Reading its files by it gives one set for sure."""
    try:
        found = os.readlink(folder / CURRENT)
    except OSError:
        return None
    return found if VERSION.fullmatch(found) else None


def holds_only_leftovers(folder: Path) -> bool:
    """Whether all there is was left by a first :func:`publish` that did not get to its end."""
    return all(VERSION.fullmatch(name) or TEMPORARY.fullmatch(name) for name in os.listdir(folder))


def read_regular(path: Path) -> bytes:
    """The bytes of a file; ConfigError, naming it, when it cannot be read or is something else than a file.

    Never waits: whoever owns the directory could have put a pipe there.
    """
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"{path}: expected a file, found something else")
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_FILE:
        raise ConfigError(f"{path}: expected at most {MAX_FILE} bytes, found more")
    return data


@contextmanager
def _opened(path: str | Path, at: int | None = None) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    try:
        yield fd
    finally:
        os.close(fd)


def refuse_foreign(folder: Path, names: Iterable[str]) -> None:
    """ConfigError if one of the names is taken by something else than a link."""
    for name in (CURRENT, *names):
        path = folder / name
        if os.path.lexists(path) and not path.is_symlink():
            raise ConfigError(
                f"{path}: expected nothing or a link of hostmesh certs, found a file of its own; "
                "move it away, or choose another directory"
            )


def _owner_to_give(at: int) -> tuple[int, int] | None:
    status = os.fstat(at)
    owner = (status.st_uid, status.st_gid)
    # Only root can give files away. To others a directory of somebody else is theirs to explain.
    return owner if os.geteuid() == 0 and owner != (0, os.getegid()) else None


def _write(at: int, name: str, content: Content, owner: tuple[int, int] | None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, PRIVATE_FILE, dir_fd=at)
    try:
        rest = memoryview(content.data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fchmod(fd, content.mode)  # the umask may have taken some
        if owner is not None:
            os.fchown(fd, *owner)
        os.fsync(fd)
    finally:
        os.close(fd)


def _link(at: int, target: str, name: str) -> None:
    temporary = f".new-{secrets.token_hex(8)}"
    os.symlink(target, temporary, dir_fd=at)
    os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)


def _link_text(at: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=at)
    except OSError:
        return None


def _remove_leftovers(at: int, keep: set[str | None]) -> None:
    for name in os.listdir(at):
        if VERSION.fullmatch(name) and name not in keep:
            shutil.rmtree(name, dir_fd=at)
        elif TEMPORARY.fullmatch(name):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=at)
