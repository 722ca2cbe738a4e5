"""Listening and dialling: EMFILE, refused and timed-out connects, cancelling."""

from __future__ import annotations

import errno
import os
import select
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest
from pump_world import Told, World

from hostmesh.base.errors import ConfigError
from hostmesh.naming.addr import Endpoint
from hostmesh.pump.listen import Listener, ListenOptions, open_listener
from hostmesh.pump.loop import Transport


def listen(
    world: World, sessions: list[Told], capacity: list[int] | None = None, ip: str = "127.0.0.1"
) -> Listener:
    sock = world.own(open_listener(ip, 0, ListenOptions()))

    def make(transport: Transport) -> Told:
        world.transports.append(transport)
        sessions.append(Told())
        return sessions[-1]

    listener = Listener(
        world.pump, sock, ListenOptions(), make, (lambda: capacity[0]) if capacity is not None else lambda: 16
    )
    listener.start()
    return listener


def test_accepts_and_serves(world: World) -> None:
    """A burst of connections is accepted, each with a session that gets its data."""
    sessions: list[Told] = []
    listener = listen(world, sessions)
    callers = [world.own(socket.create_connection(listener.address)) for _ in range(40)]
    for caller in callers:
        caller.sendall(b"hi")

    world.until(lambda: len(sessions) == 40 and all(session.data == b"hi" for session in sessions))

    assert (listener.accepted, listener.refused) == (40, 0)
    listener.close()


@pytest.mark.parametrize("ip", ["0.0.0.0", "127.0.0.1"])
def test_a_connection_knows_both_its_addresses(world: World, ip: str) -> None:
    """Its own is the one that was dialled, also where the listener has none of its own."""
    sessions: list[Told] = []
    listener = listen(world, sessions, ip=ip)
    caller = world.own(socket.create_connection(("127.0.0.1", listener.address[1])))
    world.until(lambda: len(sessions) == 1)

    (transport,) = world.transports
    assert transport.local == caller.getpeername()
    assert transport.peer == caller.getsockname()
    listener.close()


def test_at_capacity_the_queue_waits_without_spinning(world: World) -> None:
    """R3: no room means no accept and no busy loop; room is noticed after a while."""
    sessions: list[Told] = []
    capacity = [0]
    listener = listen(world, sessions, capacity)
    world.own(socket.create_connection(listener.address))

    assert world.wake_ups(0.25) <= 4
    assert sessions == []
    capacity[0] = 1
    world.until(lambda: len(sessions) == 1)
    listener.close()


def test_a_stopped_listener_keeps_its_queue(world: World) -> None:
    """Connections that arrive while stopped are served after start."""
    sessions: list[Told] = []
    listener = listen(world, sessions)
    listener.stop()
    world.own(socket.create_connection(listener.address))
    assert world.wake_ups() == 0

    listener.start()
    world.until(lambda: len(sessions) == 1)
    listener.close()


def test_a_session_that_cannot_be_made_closes_its_connection(world: World) -> None:
    """An exception in make_session ends that connection only, and is reported."""
    sock = world.own(open_listener("127.0.0.1", 0, ListenOptions()))

    def broken(_transport: Transport) -> Told:
        raise RuntimeError("no session")

    listener = Listener(world.pump, sock, ListenOptions(), broken)
    listener.start()
    caller = world.own(socket.create_connection(listener.address))
    caller.settimeout(5)
    world.until(lambda: bool(world.errors))
    world.pump.step(wait=False)

    assert caller.recv(1) == b""
    assert [str(error) for error in world.errors] == ["no session"]
    world.errors.clear()
    listener.close()


def test_port_in_use_is_said(world: World) -> None:
    """X15: a second listener on one port is refused with the address and the hint."""
    sock = world.own(open_listener("127.0.0.1", 0, ListenOptions()))
    port = sock.getsockname()[1]

    with pytest.raises(
        ConfigError, match=rf"cannot listen on 127\.0\.0\.1:{port}: .*another process listens there"
    ):
        open_listener("127.0.0.1", port, ListenOptions())


EMFILE = """
import os, resource, socket, sys
sys.path[:0] = sys.argv[1:]
from pump_world import Told, World
from hostmesh.naming.addr import Endpoint
from hostmesh.pump.listen import Listener, ListenOptions, open_listener
world = World()
pump = world.pump
listener = Listener(pump, open_listener("127.0.0.1", 0, ListenOptions()), ListenOptions(), lambda _t: Told())
listener.start()
callers = []
for _ in range(20):
    caller = socket.socket()
    caller.connect(listener.address)
    callers.append(caller)
# The highest number in use and four more: some are accepted, the rest must wait.
used = max(int(n) for n in os.listdir("/proc/self/fd"))
resource.setrlimit(resource.RLIMIT_NOFILE, (used + 4, used + 4))
wake_ups = world.wake_ups(0.35)
print("accepted", listener.accepted, "refused", listener.refused >= 2, "spun", wake_ups > 20)
failures = []
connecting = pump.connect(Endpoint("127.0.0.1", listener.address[1]), 1.0, lambda _t: Told(), failures.append)
world.until(lambda: bool(failures))
print("connect", failures[0].errno)
for caller in callers[:18]:
    caller.close()
resource.setrlimit(resource.RLIMIT_NOFILE, (used + 4, used + 4))
world.until(lambda: listener.accepted == 20)
print("all accepted")
print("errors", world.errors)
"""


def test_r3_out_of_descriptors_does_not_spin() -> None:
    """R3: at EMFILE the listener waits, connects fail as our own failure, and accepting goes on when there is room."""
    here = os.path.dirname(__file__)
    done = subprocess.run(
        [sys.executable, "-c", EMFILE, here], capture_output=True, text=True, timeout=30, check=False
    )

    lines = done.stdout.splitlines()
    assert lines[1:] == [f"connect {errno.EMFILE}", "all accepted", "errors []"], done.stderr
    assert lines[0].endswith("refused True spun False")
    assert 0 < int(lines[0].split()[1]) < 20


def dial(world: World, endpoint: Endpoint, timeout: float = 1.0) -> tuple[list[Transport], list[OSError]]:
    connected: list[Transport] = []
    failed: list[OSError] = []

    def made(transport: Transport) -> Told:
        world.transports.append(transport)
        connected.append(transport)
        return Told()

    world.pump.connect(endpoint, timeout, made, failed.append)
    assert (connected, failed) == ([], [])
    return connected, failed


def test_refused_connect(world: World) -> None:
    """Nobody listens: ECONNREFUSED, told later and once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    connected, failed = dial(world, Endpoint("127.0.0.1", port))
    world.until(lambda: bool(failed))

    assert ([error.errno for error in failed], connected) == ([errno.ECONNREFUSED], [])
    assert world.wake_ups() == 0


def test_connect_that_nobody_answers(world: World) -> None:
    """A full queue drops the SYN: TimeoutError after the time allowed, and no wake-up meanwhile."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        connected, failed = dial(world, Endpoint("127.0.0.1", listener.getsockname()[1]), 0.2)
        events = world.pump.events
        world.until(lambda: bool(failed))

    assert isinstance(failed[0], TimeoutError)
    assert (connected, world.pump.events - events) == ([], 0)


def test_cancelled_connect_calls_nobody(world: World) -> None:
    """After cancel neither callback runs, and the socket is gone."""
    sock = world.own(open_listener("127.0.0.1", 0, ListenOptions()))
    told: list[object] = []
    before = len(os.listdir("/proc/self/fd"))

    connecting = world.pump.connect(
        Endpoint("127.0.0.1", sock.getsockname()[1]), 1.0, lambda t: told.append(t) or Told(), told.append
    )
    connecting.cancel()
    world.pump.step(wait=False)

    assert (told, world.wake_ups()) == ([], 0)
    assert len(os.listdir("/proc/self/fd")) == before


def test_unusable_address_fails_later(world: World) -> None:
    """An address that connect(2) refuses at once is told in a later turn like every other failure."""
    connected, failed = dial(world, Endpoint("255.255.255.255", 80))
    world.until(lambda: bool(failed))

    assert connected == []
    assert select.epoll is not None
