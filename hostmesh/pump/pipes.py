"""Pipes for ``splice(2)``, kept for reuse: a pipe is needed only while bytes are between two sockets."""

from __future__ import annotations

import fcntl
import os

PIPE_SIZE = 512 * 1024
"""Bytes that a pipe takes: what one direction of a tunnel may hold back for a slow reader, and what one pair of system
calls moves. A 1 GB stream costs a fifth less CPU than at 64 KiB and a tenth less than at 256 KiB; at 1 MiB the reader
waits for the writer and nothing is gained."""

MAX_PIPES = 256
"""Pipes at once, two descriptors each. A direction needs one only while its reader is slower than its writer, so this
is the number of such directions; further ones are copied, some 16 KiB held for each."""

MAX_IDLE = 32
"""Empty pipes kept open: an event needs one, so a few serve all tunnels that are not held up."""

MIN_SIZE = 32 * 1024
"""Bytes below which a pipe is worth less than a copy."""

F_SETPIPE_SZ = 1031
F_GETPIPE_SZ = 1032
"""``fcntl`` has names for them since Python 3.10, on Linux only."""


class Pipe:
    """An empty pipe. ``size`` is what it takes at most, in bytes."""

    __slots__ = ("read_fd", "size", "write_fd")

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self.size = fcntl.fcntl(self.write_fd, F_SETPIPE_SZ, PIPE_SIZE)
        except OSError:
            # The system allows no such size, or the user has had its share of pipe memory (pipe-user-pages-soft), and
            # then the kernel makes tiny ones.
            self.size = fcntl.fcntl(self.write_fd, F_GETPIPE_SZ)

    def close(self) -> None:
        os.close(self.read_fd)
        os.close(self.write_fd)


class PipePool:
    """Gives pipes out, one user at a time. Nothing is opened before the first is asked for."""

    def __init__(self, max_pipes: int = MAX_PIPES, max_idle: int = MAX_IDLE) -> None:
        self._idle: list[Pipe] = []
        self._max_pipes = max_pipes
        self._max_idle = max_idle
        self.open = 0
        self.exhausted = 0
        """Times that none could be had."""

    def take(self) -> Pipe | None:
        """A pipe, or None when there are too many or no descriptor for one."""
        if self._idle:
            return self._idle.pop()
        if self.open < self._max_pipes:
            try:
                pipe = Pipe()
            except OSError:
                self.exhausted += 1
                return None
            if pipe.size < MIN_SIZE:
                pipe.close()
                self.exhausted += 1
                return None
            self.open += 1
            return pipe
        self.exhausted += 1
        return None

    def give(self, pipe: Pipe) -> None:
        """Take back a pipe, which must be empty."""
        if len(self._idle) < self._max_idle:
            self._idle.append(pipe)
        else:
            self.discard(pipe)

    def discard(self, pipe: Pipe) -> None:
        """Close a pipe: the way back for one that still holds bytes."""
        self.open -= 1
        pipe.close()

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self.discard(self._idle.pop())
