"""A network of the test's own, for configurations with fixed ports."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP_RUNNING = 0x41
HERE = "/proc/thread-self/ns/net"


@contextmanager
def own_network() -> Iterator[None]:
    """Sockets, threads and processes made inside see a loopback interface that nobody else uses.

    That takes root. Anybody else waits for a lock instead, and shares the machine's ports with what is no test.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open(HERE, os.O_RDONLY)
    try:
        if libc.unshare(CLONE_NEWNET) != 0:
            with (Path(tempfile.gettempdir()) / "hostmesh-fixed-ports.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
            return
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                fcntl.ioctl(probe, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP_RUNNING))
            yield
        finally:
            if libc.setns(before, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "cannot leave the test's network")
    finally:
        os.close(before)
