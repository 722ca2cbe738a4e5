"""The memory loop tells sessions what sockets would tell them: the same script on both, event for event."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hostmesh.naming.addr import Endpoint
from hostmesh.pump.clock import SystemEnv
from hostmesh.pump.listen import Listener, ListenOptions, open_listener
from hostmesh.pump.marks import LINGER_TIME, WRITE_STALL
from hostmesh.pump.memory import START, MemoryLoop, VirtualEnv
from hostmesh.pump.pump import Pump

BIG = b"x" * (8 << 20)


class Side:
    """One end: what it was told, and hands to act with."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.size = 0
        self.transport: Any = None

    def data_received(self, data: bytes) -> None:
        self.size += len(data)
        if self.events[-1:] != ["data"]:
            self.events.append("data")

    def eof_received(self) -> None:
        self.events.append("eof")

    def connection_lost(self, error: OSError | None) -> None:
        kind = "" if error is None else f" {errno.errorcode.get(error.errno or 0, '?')}"
        self.events.append("lost" + kind)

    def writable(self) -> None:
        self.events.append("writable")


class Sockets:
    """A pair of ends over loopback."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.pump = Pump(SystemEnv(1), self.errors.append)
        self.a, self.b = Side(), Side()
        sock = open_listener("127.0.0.1", 0, ListenOptions())
        self.listener = Listener(self.pump, sock, ListenOptions(), self._accept)
        self.listener.start()
        self.pump.connect(
            Endpoint("127.0.0.1", self.listener.address[1]), 5.0, self._connected, self.errors.append
        )
        while self.a.transport is None or self.b.transport is None:
            self.pump.step()

    def _accept(self, transport: Any) -> Side:
        self.b.transport = transport
        return self.b

    def _connected(self, transport: Any) -> Side:
        self.a.transport = transport
        return self.a

    def settle(self) -> None:
        # On loopback what one end sends is there when the call returns: some rounds are enough, and no waiting.
        quiet = 0
        while quiet < 10:
            before = self.pump.events
            self.pump.step(wait=False)
            quiet = 0 if self.pump.events > before or self.pump.turn else quiet + 1

    def close(self) -> None:
        self.a.transport.abort()
        self.b.transport.abort()
        self.listener.close()
        self.settle()
        self.pump.close()


class Memory:
    """The same in a memory loop."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.loop = MemoryLoop(latency=0.0001, report=self.errors.append)
        self.a, self.b = Side(), Side()
        self.loop.open_listener("10.0.0.1", 80, ListenOptions()).serve(self._accept).start()
        self.loop.connect(Endpoint("10.0.0.1", 80), 5.0, self._connected, self.errors.append)
        self.settle()

    def _accept(self, transport: Any) -> Side:
        self.b.transport = transport
        return self.b

    def _connected(self, transport: Any) -> Side:
        self.a.transport = transport
        return self.a

    def settle(self) -> None:
        self.loop.run_for(0.5)

    def close(self) -> None:
        pass


def write(size: int = 3) -> Callable[[Side], None]:
    return lambda side: side.transport.write(BIG[:size])


def pause(side: Side) -> None:
    side.transport.pause()


def resume(side: Side) -> None:
    side.transport.resume()


def shut(side: Side) -> None:
    side.transport.shutdown_write()


def close(side: Side) -> None:
    side.transport.close()


def abort(side: Side) -> None:
    side.transport.abort()


def reset(side: Side) -> None:
    side.transport.reset()


def impatient(side: Side) -> None:
    side.transport.patient = False


A, B = "a", "b"
SCRIPTS: dict[str, list[tuple[str, Callable[[Side], None]]]] = {
    "data both ways": [(A, write()), (B, write())],
    "half-close and an answer": [(A, write()), (A, shut), (B, write()), (B, close)],
    "both shut": [(A, shut), (B, shut)],
    "close": [(A, write()), (A, close), (B, close)],
    "close while the peer writes on": [(A, close), (B, write()), (B, write()), (B, close)],
    "close with unread input": [(B, write()), (A, pause), (B, write()), (A, close), (B, close)],
    "close behind a large write": [(B, pause), (A, write(len(BIG))), (A, close), (B, resume), (B, close)],
    "abort": [(A, write()), (A, abort), (B, write()), (B, write())],
    "abort with unread input": [(A, pause), (B, write()), (A, abort)],
    "reset": [(A, write()), (A, reset), (B, write())],
    "reset while paused": [(B, pause), (A, write()), (A, reset), (B, resume)],
    "reset while paused, impatient": [(B, impatient), (B, pause), (A, write()), (A, reset), (B, resume)],
    "reset before a blocked writer": [(B, pause), (A, write(len(BIG))), (B, reset)],
    "end while paused": [(B, pause), (A, write()), (A, close), (B, resume), (B, close)],
    "blocked and writable": [(B, pause), (A, write(len(BIG))), (B, resume)],
    "answer in front of a reset": [(A, pause), (B, write()), (B, reset), (A, write()), (A, resume)],
    "write after shut": [(A, shut), (A, write()), (B, write()), (B, close), (A, close)],
    "write after close": [(A, close), (A, write()), (B, close)],
    "abort twice": [(A, abort), (A, abort), (A, close), (B, abort)],
}


@pytest.fixture
def both() -> Iterator[tuple[Sockets, Memory]]:
    sockets = Sockets()
    yield sockets, Memory()
    sockets.close()


@pytest.mark.parametrize("script", list(SCRIPTS.values()), ids=list(SCRIPTS))
def test_the_same_script_is_told_alike(
    both: tuple[Sockets, Memory], script: list[tuple[str, Callable[[Side], None]]]
) -> None:
    """After each step both ends of both kinds have heard the same, and are in the same state."""
    histories = []
    for kind in both:
        history = []
        for name, action in script:
            action(getattr(kind, name))
            kind.settle()
            history.append(
                [
                    (side.events[:], side.size, side.transport.closed, side.transport.blocked)
                    for side in (kind.a, kind.b)
                ]
            )
        assert kind.errors == []
        histories.append(history)

    assert histories[1] == histories[0]


def test_a_lingering_close_ends_by_time() -> None:
    """The peer never ends its side: two virtual seconds."""
    memory = Memory()
    close(memory.a)
    memory.loop.run_for(LINGER_TIME - 1)
    assert memory.a.events == []

    memory.loop.run_for(1)

    assert memory.a.events == ["lost"]


def test_a_write_that_makes_no_progress_is_cut() -> None:
    """After the same time as on a socket, and not while some of it leaves."""
    memory = Memory()
    pause(memory.b)
    write(len(BIG))(memory.a)
    memory.loop.run_for(WRITE_STALL - 1)
    assert memory.a.events == []

    memory.loop.run_for(2)

    assert memory.a.events == ["lost ETIMEDOUT"]


def test_timers_fire_in_order_of_their_times() -> None:
    """Equal times in the order in which they were set; cancelled ones never; the clock is theirs."""
    loop = MemoryLoop()
    fired: list[tuple[str, float]] = []

    def note(name: str) -> None:
        fired.append((name, loop.now() - START))

    loop.call_at(START + 2, note, "c")
    loop.call_at(START + 1, note, "a")
    loop.call_at(START + 1, note, "b")
    loop.call_at(START + 1.5, note, "never").cancel()
    loop.run_for(1.75)

    assert fired == [("a", 1.0), ("b", 1.0)]
    assert loop.now() == START + 1.75
    loop.run_for(1)
    assert fired[2:] == [("c", 2.0)]


def test_a_timer_for_the_past_does_not_turn_the_clock_back() -> None:
    """It fires next."""
    loop = MemoryLoop()
    loop.run_for(5)
    fired: list[float] = []

    loop.call_at(START, lambda: fired.append(loop.now()))
    loop.settle()

    assert fired == [START + 5]


def test_dials_end_as_they_would() -> None:
    """Nobody listens, nobody answers, and an error of our own choice."""
    loop = MemoryLoop(latency=0.25)
    failures: list[tuple[float, OSError]] = []
    loop.link("10.0.0.2", 80).silent = True
    loop.link("10.0.0.3", 80).error = OSError(errno.EHOSTUNREACH, "no route")

    for host in ("10.0.0.1", "10.0.0.2", "10.0.0.3"):
        loop.connect(
            Endpoint(host, 80),
            1.0,
            lambda _transport: Side(),
            lambda error: failures.append((loop.now() - START, error)),
        )
    cancelled = loop.connect(
        Endpoint("10.0.0.1", 80), 1.0, lambda _transport: Side(), lambda error: failures.append((0.0, error))
    )
    cancelled.cancel()
    loop.run_for(5)

    assert [(at, error.errno) for at, error in failures] == [
        (0.5, errno.ECONNREFUSED),
        (0.5, errno.EHOSTUNREACH),
        (1.0, errno.ETIMEDOUT),
    ]


def test_generators_are_their_names() -> None:
    """The same seed and name draw the same; another name or seed something else."""
    loop = MemoryLoop()
    first, same, other = VirtualEnv(loop, 1), VirtualEnv(loop, 1), VirtualEnv(loop, 2)

    assert first.rng("a").random() == same.rng("a").random()
    assert first.rng("a").random() != first.rng("b").random()
    assert first.rng("a").random() != other.rng("a").random()
