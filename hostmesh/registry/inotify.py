"""inotify(7) through the C library: one descriptor that reports changes of directories.

The libraries for it either are no longer kept or bring threads of their own; the three calls needed are bound
here.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import NamedTuple

ATTRIB = 0x0004
CLOSE_WRITE = 0x0008
MOVED_FROM = 0x0040
MOVED_TO = 0x0080
CREATE = 0x0100
DELETE = 0x0200
DELETE_SELF = 0x0400
MOVE_SELF = 0x0800
UNMOUNT = 0x2000
Q_OVERFLOW = 0x4000
IGNORED = 0x8000
ONLYDIR = 0x01000000
MASK_ADD = 0x20000000
ISDIR = 0x40000000

SELF = DELETE_SELF | MOVE_SELF | ATTRIB
"""For a directory that is only passed through: its own fate, and permissions."""
ENTRIES = SELF | CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE
"""For a directory one of whose entries matters. Without MODIFY: a file is read when its writer has closed it,
and a busy log beside it does not wake us at each line."""

NAMES = {
    ATTRIB: "attrib",
    CLOSE_WRITE: "close-write",
    MOVED_FROM: "moved-from",
    MOVED_TO: "moved-to",
    CREATE: "create",
    DELETE: "delete",
    DELETE_SELF: "delete-self",
    MOVE_SELF: "move-self",
    UNMOUNT: "unmount",
    Q_OVERFLOW: "overflow",
    IGNORED: "ignored",
}

_HEAD = struct.Struct("iIII")
_READ_BYTES = 64 * 1024
"""About 1,500 events with usual names; what is left stays readable."""


class Event(NamedTuple):
    """``name`` is empty when the event is about the directory itself; ``wd`` is -1 for an overflow."""

    wd: int
    mask: int
    name: str

    @property
    def kind(self) -> str:
        return next((name for bit, name in NAMES.items() if self.mask & bit), hex(self.mask))


class Inotify:
    """One inotify instance. ``add`` may be called from any thread, everything else belongs to one.

    Raises OSError from the constructor where the kernel has no inotify (ENOSYS) or no instance left (EMFILE).
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self.fd = fd

    def add(self, path: str, mask: int) -> int:
        """Watch a directory, for these kinds of events besides those it is already watched for.

        Returns its watch descriptor, the same one for the same directory. OSError: ENOSPC (out of watches),
        EACCES, ENOENT, ENOTDIR.
        """
        wd: int = self._libc.inotify_add_watch(self.fd, os.fsencode(path), mask | ONLYDIR | MASK_ADD)
        if wd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
        return wd

    def remove(self, wd: int) -> None:
        """Stop watching; a watch that the kernel has already removed is no error."""
        self._libc.inotify_rm_watch(self.fd, wd)

    def read(self) -> list[Event]:
        """What has happened since the last read; empty when nothing has."""
        try:
            data = os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return []
        return parse(data)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def parse(data: bytes) -> list[Event]:
    """Decode ``struct inotify_event`` records; the kernel never splits one over two reads."""
    events = []
    at = 0
    while at + _HEAD.size <= len(data):
        wd, mask, _cookie, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        events.append(Event(wd, mask, os.fsdecode(data[at : at + length].rstrip(b"\0"))))
        at += length
    return events
