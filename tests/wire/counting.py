"""An endpoint that counts, in a process of its own, made to be loaded and to be killed.

Each request carries an ``X-Id``. Its line ``METHOD ID`` is in the record before a byte of the answer leaves, so what
had been delivered is known exactly even after SIGKILL; the answer repeats the id, so a caller can tell that it got
its own. One thread and one epoll set, because a thousand requests a second of a thread each would be the load.

``python -m tests.wire.counting NAME PORT RECORD DELAY_MS STATUS`` runs one; SIGUSR1 makes it answer 200 from now on.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAD_END = b"\r\n\r\n"


class CountingEndpoint:
    """One such process. A context manager; ``start`` after ``kill`` brings it back on its port."""

    def __init__(
        self,
        folder: Path,
        name: str,
        port: int,
        *,
        delay_ms: float = 0.0,
        status: int = 200,
    ) -> None:
        self.name = name
        self.port = port
        self.host = "127.0.0.1"
        self.record = folder / f"{name}.ids"
        self.arguments = [name, str(port), str(self.record), str(delay_ms), str(status)]
        self.start()

    @property
    def line(self) -> str:
        """What a file of endpoints says of it."""
        return f"{self.host} {self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.wire.counting", *self.arguments], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        ready = self.process.stdout.readline()
        assert ready == b"ready\n", f"{self.name}: {ready!r}"

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.close()

    def heal(self) -> None:
        """Answer 200 from now on."""
        self.process.send_signal(signal.SIGUSR1)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        if self.process.stdout:
            self.process.stdout.close()

    def delivered(self) -> list[str]:
        """``METHOD ID`` of every request whose head arrived, in order, over all its lives."""
        return self.record.read_text().splitlines() if self.record.exists() else []

    @property
    def count(self) -> int:
        """How many have arrived."""
        return self.record.read_bytes().count(b"\n") if self.record.exists() else 0

    def __enter__(self) -> CountingEndpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def deliveries(endpoints: list[CountingEndpoint]) -> Counter[str]:
    """How often each ``METHOD ID`` was delivered, anywhere."""
    return Counter(line for endpoint in endpoints for line in endpoint.delivered())


class Connection:
    """A peer, what has arrived of its next request, and whether that one's head is on record."""

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer
        self.buffer = b""
        self.noted = False


class Serve:
    """The process's loop."""

    def __init__(self, name: bytes, port: int, record: str, delay: float, status: int) -> None:
        self.name = name
        self.delay = delay
        self.status = status
        self.log = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.listener.setblocking(False)
        self.epoll = select.epoll()
        self.epoll.register(self.listener.fileno(), select.EPOLLIN)
        self.open: dict[int, Connection] = {}
        self.due: deque[tuple[float, Connection, bytes]] = deque()

    def heal(self, *_: object) -> None:
        self.status = 200

    def run(self) -> None:
        signal.signal(signal.SIGUSR1, self.heal)
        print("ready", flush=True)
        while True:
            wait = max(0.0, self.due[0][0] - time.monotonic()) if self.due else -1
            for fd, _mask in self.epoll.poll(wait):
                if fd == self.listener.fileno():
                    self.accept()
                else:
                    self.readable(fd)
            now = time.monotonic()
            while self.due and self.due[0][0] <= now:
                _when, connection, answer = self.due.popleft()
                self.send(connection, answer)

    def accept(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except BlockingIOError:
                return
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.open[peer.fileno()] = Connection(peer)
            self.epoll.register(peer.fileno(), select.EPOLLIN)

    def readable(self, fd: int) -> None:
        connection = self.open[fd]
        try:
            data = connection.peer.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            del self.open[fd]
            connection.peer.close()
            return
        connection.buffer += data
        while (end := connection.buffer.find(HEAD_END)) >= 0:
            head = connection.buffer[: end + 2]
            words = head.split(b" ", 2)
            ident = value_of(head, b"\r\nX-Id: ")
            if not connection.noted:
                connection.noted = True
                os.write(self.log, b"%b %b\n" % (words[0], ident))
            whole = end + 4 + int(value_of(head, b"\r\nContent-Length: ") or b"0")
            if len(connection.buffer) < whole:
                return
            body = connection.buffer[end + 4 : whole]
            connection.buffer = connection.buffer[whole:]
            connection.noted = False
            # A body is its id over and over: one that was mixed up with another's does not pass.
            good = body == (ident * (len(body) // (len(ident) or 1) + 1))[: len(body)]
            status = self.status if good else 422
            text = b"%b %b" % (self.name, ident)
            answer = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(text), text)
            if self.delay:
                self.due.append((time.monotonic() + self.delay, connection, answer))
            else:
                self.send(connection, answer)

    def send(self, connection: Connection, answer: bytes) -> None:
        # If it has gone, reading says so too.
        with contextlib.suppress(OSError):
            connection.peer.send(answer)


def value_of(head: bytes, start: bytes) -> bytes:
    """The value of the field that is introduced by ``start``, in any case (HTTP/2 has lower case only); empty without
    it.
    """
    at = head.lower().find(start.lower())
    return b"" if at < 0 else head[at + len(start) :].partition(b"\r\n")[0]


if __name__ == "__main__":
    Serve(
        sys.argv[1].encode(), int(sys.argv[2]), sys.argv[3], float(sys.argv[4]) / 1000, int(sys.argv[5])
    ).run()
