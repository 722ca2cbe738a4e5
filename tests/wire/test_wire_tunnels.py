"""Tunnels of a running hostmesh that stand still: half-closed, held back, reset while nobody reads. None of them costs
anything (a level-triggered loop spins on a condition that it cannot consume), and none is forgotten."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.wire.harness import ROUTING, Hostmesh

HANDSHAKE = (
    b"GET /chat HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
TUNNELS = 20
LOOK_S = 0.5
SPIN_S = 0.2
"""CPU in that time above which something spins: a loop that does takes all of it, one at rest some milliseconds."""


class Tunnels:
    """Some tunnels through one hostmesh: pairs of (caller's socket, endpoint's socket)."""

    def __init__(self, mesh: Hostmesh, listener: socket.socket, count: int = TUNNELS) -> None:
        self.mesh = mesh
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        for _ in range(count):
            caller = socket.create_connection(("127.0.0.1", mesh.port), timeout=10)
            caller.sendall(HANDSHAKE)
            endpoint, _ = listener.accept()
            endpoint.settimeout(10)
            head_of(endpoint)
            endpoint.sendall(SWITCH)
            assert head_of(caller).startswith(b"HTTP/1.1 101 ")
            self.pairs.append((caller, endpoint))

    def metric(self, name: str) -> str:
        return f"rt/http/server/127.0.0.1/{self.mesh.port}/{name}"

    def rests(self) -> bool:
        """Whether the process does next to nothing for a while."""
        process = self.mesh.process
        assert process is not None
        before = cpu_seconds(self.mesh.pid)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(LOOK_S)
        return cpu_seconds(self.mesh.pid) - before < SPIN_S

    def wait_open(self, wanted: int) -> None:
        self.mesh.wait_metric(self.metric("tunnels/open"), lambda value: value == wanted)

    def close(self) -> None:
        for pair in self.pairs:
            for each in pair:
                each.close()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process; the number is the kernel's clock id of another process."""
    return time.clock_gettime((~pid << 3) | 2)


def head_of(sock: socket.socket) -> bytes:
    got = b""
    while not got.endswith(b"\r\n\r\n"):
        got += sock.recv(1)
    return got


def fill(sock: socket.socket) -> int:
    """Write until nothing more goes for a while; how much went."""
    sock.settimeout(0.2)
    total = 0
    with contextlib.suppress(TimeoutError):
        while True:
            total += sock.send(b"x" * 65536)
    sock.settimeout(10)
    return total


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@contextlib.contextmanager
def opened(folder: Path, count: int = TUNNELS, config: str = ROUTING) -> Iterator[Tunnels]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        services: dict[str, Any] = {"web": [f"127.0.0.1 {listener.getsockname()[1]}"]}
        with Hostmesh.routing(folder, config, **services) as mesh:
            made = Tunnels(mesh, listener, count)
            try:
                yield made
            finally:
                made.close()


@pytest.fixture
def tunnels(tmp_path: Path) -> Iterator[Tunnels]:
    with opened(tmp_path) as made:
        yield made


def test_silent_and_half_closed_tunnels_rest(tunnels: Tunnels) -> None:
    """A FIN is met once; the other direction goes on when there is something to say."""
    silent = tunnels.rests()
    for number, (caller, endpoint) in enumerate(tunnels.pairs):
        (caller if number % 2 else endpoint).shutdown(socket.SHUT_WR)
    for number, (caller, endpoint) in enumerate(tunnels.pairs):
        assert (endpoint if number % 2 else caller).recv(1) == b""
    half_closed = tunnels.rests()
    for number, (caller, endpoint) in enumerate(tunnels.pairs):
        one, other = (endpoint, caller) if number % 2 else (caller, endpoint)
        one.sendall(b"still")
        assert other.recv(5) == b"still"
        one.shutdown(socket.SHUT_WR)
        assert other.recv(1) == b""

    assert (silent, half_closed) == (True, True)
    tunnels.wait_open(0)


def test_tunnels_whose_readers_do_not_read_rest(tunnels: Tunnels) -> None:
    """Held back in both directions; then somebody reads, and all of it comes."""
    sent = [(fill(caller), fill(endpoint)) for caller, endpoint in tunnels.pairs[:3]]
    held_back = tunnels.rests()
    for (caller, endpoint), (from_caller, from_endpoint) in zip(tunnels.pairs, sent, strict=False):
        for sock, size in ((endpoint, from_caller), (caller, from_endpoint)):
            while size:
                data = sock.recv(1 << 20)
                assert data
                size -= len(data)

    assert held_back
    assert tunnels.rests()
    tunnels.wait_open(TUNNELS)


def test_resets_of_tunnels_whose_readers_do_not_read_rest(tunnels: Tunnels) -> None:
    """A reset behind bytes that nobody takes cannot be handed on: it waits without being asked about, and not for
    ever."""
    for caller, _endpoint in tunnels.pairs[:3]:
        fill(caller)
        reset(caller)
    waiting = tunnels.rests()
    for _caller, endpoint in tunnels.pairs[:3]:
        reset(endpoint)

    assert waiting
    tunnels.wait_open(TUNNELS - 3)
    assert tunnels.rests()


def test_r2_a_caller_that_takes_nothing_is_cut(tmp_path: Path) -> None:
    """R2: ``writeTimeoutMs`` holds in tunnels, though the other direction is in use all the time."""
    config = ROUTING.replace(
        "    ip: 127.0.0.1\n", "    ip: 127.0.0.1\n    socketOptions: {writeTimeoutMs: 1500}\n"
    )
    with opened(tmp_path, 1, config) as made:
        ((caller, endpoint),) = made.pairs

        def go_on() -> None:
            fill(endpoint)
            while True:
                caller.sendall(b"x")
                assert endpoint.recv(1) == b"x"

        # Where the machine is busy it can happen while the last buffers fill.
        with pytest.raises(ConnectionError):
            go_on()
        made.wait_open(0)
        metrics = made.mesh.metrics()

    assert metrics[made.metric("failures/reset-by-caller")] == 1
