"""Reading one path, and finding out what must be watched to learn that it has changed.

A path depends on more than its last directory: every symlink on the way, and every directory those pass
through. In a Kubernetes ConfigMap volume ``web`` is a link to ``..data/web`` and ``..data`` a link to a
directory with a time stamp; an update replaces the middle one. So the walk resolves a path by hand, one
component after the other, and watches each directory *before* it looks inside: whatever changes after the
look has an event.

Everything here blocks and is called in a thread (or before the daemon serves).
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TypeAlias

from attrs import define, field, frozen

from hostmesh.registry import inotify

MAX_LINKS = 40
"""Symlinks followed before giving up, as the kernel does (path_resolution(7))."""

READS = 3
"""A file that changes while it is read is read again this often; then its writer's events decide."""


@frozen
class Missing:
    """Nothing is there; ``where`` is the part of the asked path at which it ends."""

    where: str


@frozen
class Directory:
    """A directory is there."""


@frozen
class File:
    """A regular file, whole."""

    text: str


@frozen
class Unreadable:
    """It cannot be known what is there, or its content cannot be used. Never the same thing as Missing."""

    cause: str
    is_file: bool = False
    """It is certain that a file is there."""


Found: TypeAlias = Missing | Directory | File | Unreadable

Signature: TypeAlias = tuple[int, ...]


@define
class Look:
    """The result of a walk."""

    found: Found
    signature: Signature | None = None
    """Equal signatures mean that nothing has happened to the file; None: cannot tell."""
    changed: float = 0.0
    """When the file was last written to, in seconds since the epoch by the clock of its file system."""
    chain: list[tuple[int, str]] = field(factory=list)
    """(watch descriptor, entry name) of all that the result depends on."""
    unwatched: OSError | None = None
    """Why a directory that matters could not be watched."""


def signature(path: str) -> Signature | None:
    """What identifies the present content of a path; None when there is none or it cannot be seen."""
    try:
        return _signature(os.stat(path))
    except (OSError, ValueError):
        return None


def look(path: str, max_bytes: int, watcher: inotify.Inotify | None = None) -> Look:
    """Read ``path`` (absolute) and watch what it depends on.

    Never raises for what the file system says; that is in the result.
    """
    result = Look(Missing(path))
    try:
        target = _walk(path, watcher, result)
        if target is not None:
            _read(target, max_bytes, result)
    except FileNotFoundError:
        # It was there a moment ago: the event that says so is on its way.
        result.found = Missing(path)
    except OSError as error:
        result.found = Unreadable(f"{path}: {error.strerror or error}")
    except ValueError as error:  # a zero byte, or text that has no encoding
        result.found = Unreadable(f"{path!r}: {error}")
    return result


def _walk(path: str, watcher: inotify.Inotify | None, result: Look) -> str | None:
    """Follow a path to its end; None after having stored in ``result`` why there is none."""
    asked = [part for part in path.split("/") if part]
    # Components still to take, last first. Those of a link carry the position of the component that led to
    # them.
    todo = [(part, at) for at, part in reversed(list(enumerate(asked)))]
    here = "/"
    links = 0
    _watch(watcher, result, here, "", inotify.SELF)
    while todo:
        part, at = todo.pop()
        if part == "..":
            here = os.path.dirname(here)
            continue
        full = os.path.join(here, part)
        info = _lstat(full)
        if info is None or not todo or not stat.S_ISDIR(info.st_mode):
            # An entry that may appear, is the end, or may be swapped: the entries of this directory matter.
            _watch(watcher, result, here, part, inotify.ENTRIES)
            info = _lstat(full)
        if info is None or (todo and not stat.S_ISDIR(info.st_mode) and not stat.S_ISLNK(info.st_mode)):
            result.found = Missing("/" + "/".join(asked[: at + 1]))
            return None
        if stat.S_ISLNK(info.st_mode):
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            target = os.readlink(full)
            if target.startswith("/"):
                here = "/"
            todo.extend((step, at) for step in reversed(target.split("/")) if step not in ("", "."))
            continue
        here = full
        if stat.S_ISDIR(info.st_mode):
            _watch(watcher, result, here, "", inotify.SELF)
    return here


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None  # no file can have that name
        raise


def _watch(watcher: inotify.Inotify | None, result: Look, path: str, entry: str, mask: int) -> None:
    if watcher is None:
        return
    try:
        result.chain.append((watcher.add(path, mask), entry))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return  # gone while we walked; its parent was watched before and has the event
        if error.errno == errno.EACCES and mask == inotify.SELF:
            return  # a directory one may pass through and not list, /root for many: left to the resync
        result.unwatched = error


def _read(path: str, max_bytes: int, result: Look) -> None:
    info = os.stat(path)
    if stat.S_ISDIR(info.st_mode):
        result.found = Directory()
        result.signature = (info.st_dev, info.st_ino)
        return
    if not stat.S_ISREG(info.st_mode):
        result.found = Unreadable(f"{path}: expected a regular file or a directory")
        return
    try:
        # Not blocking, in case it has become a pipe since the stat.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except PermissionError as error:
        result.found = Unreadable(f"{path}: {error.strerror}", is_file=True)
        return
    try:
        data, info = _read_whole(fd, max_bytes)
    finally:
        os.close(fd)
    result.signature = _signature(info)
    result.changed = info.st_mtime
    if len(data) > max_bytes:
        result.found = Unreadable(f"{path}: expected at most {max_bytes} bytes, found more", is_file=True)
        return
    try:
        result.found = File(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        result.found = Unreadable(f"{path}: byte {error.start} is not UTF-8", is_file=True)


def _read_whole(fd: int, max_bytes: int) -> tuple[bytes, os.stat_result]:
    for _attempt in range(READS):
        before = os.fstat(fd)
        data = os.pread(fd, max_bytes + 1, 0)
        after = os.fstat(fd)
        if _signature(before) == _signature(after):
            break
    return data, after


def _signature(info: os.stat_result) -> Signature:
    if stat.S_ISDIR(info.st_mode):
        return (info.st_dev, info.st_ino)
    return (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
