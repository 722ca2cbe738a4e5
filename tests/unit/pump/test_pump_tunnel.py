"""Tunnels on loopback sockets: what is true of those that splice, those that cannot, and those over transports."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import random
import socket
import struct
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pump_world import World

from hostmesh.pump import pipes as pipes_module
from hostmesh.pump import splice as splice_module
from hostmesh.pump.pipes import MAX_PIPES, PIPE_SIZE, PipePool
from hostmesh.pump.splice import SMALL_SPLICES, SpliceTunnel
from hostmesh.pump.transport import SocketTransport
from hostmesh.pump.tunnel import CopyTunnel, Side, Tunnel

BUFFER = 256 * 1024
"""Bytes of a socket's buffer: on loopback a smaller one is no multiple of a segment, and opens by slow timers only."""


class Joined:
    """Two connections with a tunnel between: ``near`` and ``far`` are the peers' ends."""

    def __init__(self, world: World, kind: str, *, buffer: int | None = None, first: bytes = b"") -> None:
        self.world = world
        self.ends: list[tuple[Side | None, OSError | None]] = []
        near, _, self.near = world.pair(buffer=buffer)
        far, _, self.far = world.pair(buffer=buffer)
        self.tunnel: Tunnel
        if kind == "transports":
            self.tunnel = CopyTunnel(near, far, first, lambda *end: self.ends.append(end))
        else:
            self.tunnel = SpliceTunnel(world.pump, near, far, first, lambda *end: self.ends.append(end))
        for each in (self.near, self.far):
            each.setblocking(False)

    @property
    def resident(self) -> int:
        """Bytes on their way out that wait in this process or in a pipe of its."""
        if isinstance(self.tunnel, SpliceTunnel):
            flow = self.tunnel._flows[0]
            return flow.held + (0 if flow.rest is None else len(flow.rest))
        assert isinstance(self.tunnel, CopyTunnel)
        return int(self.tunnel._far.transport._out_bytes)  # type: ignore[attr-defined]

    def read(self, sock: socket.socket, size: int) -> bytes:
        """So many bytes, or what came before the end."""
        got = bytearray()

        def enough() -> bool:
            while len(got) < size:
                try:
                    data = sock.recv(65536)
                except BlockingIOError:
                    return False
                if not data:
                    return True
                got.extend(data)
            return True

        self.world.until(enough)
        return bytes(got)

    def fill(self, sock: socket.socket) -> int:
        """Write until nothing more goes; how much went."""
        total = 0
        quiet = 0
        while quiet < 3:
            try:
                total += sock.send(b"x" * 65536)
                quiet = 0
            except BlockingIOError:
                quiet += 1
                self.world.wake_ups(0.01)
        return total

    def is_quiet(self) -> bool:
        """Whether wake-ups end soon: the kernel may still move a little, and a loop that spins never rests."""
        return any(self.world.wake_ups(0.05) == 0 for _ in range(10))

    def ended(self) -> tuple[Side | None, OSError | None]:
        self.world.until(lambda: bool(self.ends))
        self.world.pump.step(wait=False)
        return self.ends[0]


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture(params=["splice", "copy", "transports"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the bytes are moved."""
    if request.param == "copy":
        monkeypatch.setattr(splice_module, "can_splice", False)
    return str(request.param)


@pytest.fixture
def join(world: World, kind: str) -> Iterator[Callable[..., Joined]]:
    made: list[Joined] = []

    def build(**options: object) -> Joined:
        made.append(Joined(world, kind, **options))  # type: ignore[arg-type]
        return made[-1]

    yield build
    for joined in made:
        joined.tunnel.abort()
    world.pump.step(wait=False)


def test_small_messages_go_both_ways(join: Callable[..., Joined]) -> None:
    """What one peer says the other one hears, and the bytes are counted by direction."""
    joined = join()

    for n in range(20):
        joined.near.send(b"question %02d" % n)
        assert joined.read(joined.far, 11) == b"question %02d" % n
        joined.far.send(b"answer %02d" % n)
        assert joined.read(joined.near, 9) == b"answer %02d" % n

    assert (joined.tunnel.sent_far, joined.tunnel.sent_near) == (220, 180)
    assert joined.is_quiet()


@pytest.mark.parametrize("direction", ["out", "back"])
def test_a_stream_arrives_whole(join: Callable[..., Joined], direction: str) -> None:
    """Some megabytes come out as they went in, whatever mixture of sizes they were written in."""
    joined = join()
    source, reader = (joined.near, joined.far) if direction == "out" else (joined.far, joined.near)
    data = os.urandom(1 << 20) * 5
    digest = hashlib.sha256()
    sent = received = 0

    over: list[None] = []
    joined.world.pump.call_at(joined.world.pump.now() + 20, over.append, None)
    while received < len(data):
        assert not over, "never"
        with contextlib.suppress(BlockingIOError):
            sent += source.send(data[sent : sent + 100_001])
        with contextlib.suppress(BlockingIOError):
            piece = reader.recv(90_000)
            digest.update(piece)
            received += len(piece)
        joined.world.pump.step(wait=False)

    assert digest.digest() == hashlib.sha256(data).digest()
    assert {joined.tunnel.sent_far, joined.tunnel.sent_near} == {0, len(data)}


def test_messages_to_a_reader_that_stops(join: Callable[..., Joined]) -> None:
    """Message after message until one does not fit whole: none is lost, and the direction goes on afterwards."""
    joined = join(buffer=BUFFER)
    sent = bytearray()
    quiet = 0
    while quiet < 3:
        message = b"%09d" % len(sent) * 111
        try:
            sent += message[: joined.near.send(message)]
            quiet = 0
        except BlockingIOError:
            quiet += 1
        joined.world.pump.step(wait=False)
    got = joined.read(joined.far, len(sent))

    joined.near.send(b"one more")

    assert got == bytes(sent)
    assert joined.read(joined.far, 8) == b"one more"
    assert joined.tunnel.sent_far == len(sent) + 8


def test_what_was_read_before_goes_first(join: Callable[..., Joined]) -> None:
    """``first`` reaches the far peer before what the near one sends then."""
    joined = join(first=b"hello ")

    joined.near.send(b"world")

    assert joined.read(joined.far, 11) == b"hello world"


@pytest.mark.parametrize("who", ["near", "far"])
def test_half_closed_both_ways_round(join: Callable[..., Joined], who: str) -> None:
    """One peer ends; the other hears it and goes on for as long as it likes; then both are closed."""
    joined = join()
    one, other = (joined.near, joined.far) if who == "near" else (joined.far, joined.near)

    one.send(b"all of it")
    one.shutdown(socket.SHUT_WR)
    assert joined.read(other, 100) == b"all of it"
    assert joined.tunnel.half_closed
    assert joined.is_quiet()
    other.send(b"the answer")
    assert joined.read(one, 10) == b"the answer"
    assert joined.ends == []
    other.shutdown(socket.SHUT_WR)

    assert joined.read(one, 100) == b""
    assert joined.ended() == (None, None)
    assert joined.is_quiet()


def test_an_end_waits_for_what_is_in_front_of_it(join: Callable[..., Joined]) -> None:
    """FIN behind bytes that a slow reader has not taken: it arrives after the last of them."""
    joined = join(buffer=BUFFER)
    total = joined.fill(joined.near)
    joined.near.shutdown(socket.SHUT_WR)
    assert joined.is_quiet()
    joined.far.shutdown(socket.SHUT_WR)
    assert joined.is_quiet()

    assert len(joined.read(joined.far, 1 << 30)) == total
    assert joined.ended() == (None, None)


def test_a_slow_reader_holds_its_writer_back(join: Callable[..., Joined]) -> None:
    """What is resident is bounded, and waiting costs no wake-ups."""
    joined = join(buffer=BUFFER)

    total = joined.fill(joined.near)

    assert 0 < joined.resident <= PIPE_SIZE
    assert joined.is_quiet()
    assert len(joined.read(joined.far, total)) == total
    assert joined.resident == 0


def test_the_other_direction_does_not_wait(join: Callable[..., Joined]) -> None:
    """A direction that is held back leaves the other one alone."""
    joined = join(buffer=BUFFER)
    joined.fill(joined.near)

    joined.far.send(b"still here")

    assert joined.read(joined.near, 10) == b"still here"


@pytest.mark.parametrize("who", ["near", "far"])
def test_a_reset_goes_on_as_a_reset(join: Callable[..., Joined], who: Side) -> None:
    """A peer that breaks its connection breaks the other one too: a stream that was cut must not look complete."""
    joined = join()
    one, other = (joined.near, joined.far) if who == "near" else (joined.far, joined.near)
    one.send(b"half of it")
    assert joined.read(other, 10) == b"half of it"

    reset(one)

    side, error = joined.ended()
    assert side == who
    assert error is not None
    with pytest.raises(ConnectionResetError):
        joined.read(other, 1)


def test_a_reset_while_held_back_does_not_spin(join: Callable[..., Joined]) -> None:
    """HUP and ERR on a connection that is not read cannot be consumed, and are set aside."""
    joined = join(buffer=BUFFER)
    joined.fill(joined.near)

    reset(joined.near)

    assert joined.is_quiet()


def test_a_reader_that_breaks_ends_the_writer(join: Callable[..., Joined]) -> None:
    """Nobody takes the rest: the writer is told."""
    joined = join(buffer=BUFFER)
    joined.fill(joined.near)

    reset(joined.far)

    side, _error = joined.ended()
    assert side == "far"
    with pytest.raises(ConnectionResetError):
        joined.read(joined.near, 1)
    assert joined.is_quiet()


def test_abort_resets_both(join: Callable[..., Joined]) -> None:
    """Both peers see a reset, and nobody is told of an end that was asked for."""
    joined = join()

    joined.tunnel.abort()
    joined.world.pump.step(wait=False)

    for sock in (joined.near, joined.far):
        with pytest.raises(ConnectionResetError):
            joined.read(sock, 1)
    assert joined.ends == []
    joined.tunnel.abort()


def test_nothing_is_left_open(world: World, kind: str) -> None:
    """Descriptors and epoll entries after many tunnels, ended in every way, are as many as before."""
    Joined(world, kind).tunnel.abort()
    world.pump.step(wait=False)
    before = world.pump.statistics()["descriptors"]
    open_before = descriptors() - world.pump.pipes.open * 2
    for turn in range(12):
        joined = Joined(world, kind, buffer=BUFFER)
        if turn % 2:
            joined.fill(joined.near)
        if turn % 3 == 0:
            joined.tunnel.abort()
        elif turn % 3 == 1:
            reset(joined.near)
            joined.far.close()
            joined.ended()
        else:
            joined.far.close()
            joined.near.close()
            joined.ended()
        joined.near.close()
        joined.far.close()
        world.pump.step(wait=False)

    assert world.pump.statistics()["descriptors"] == before
    assert descriptors() - world.pump.pipes.open * 2 == open_before


@pytest.mark.parametrize("how", ["end", "reset", "abort"])
def test_nothing_is_left_for_the_collector(world: World, kind: str, how: str) -> None:
    """What is over is freed at once: rings would pile up until a collection stops the loop."""
    joined = Joined(world, kind)
    joined.near.send(b"hello")
    joined.read(joined.far, 5)
    tunnel = weakref.ref(joined.tunnel)
    gc.collect()
    gc.disable()
    try:
        if how == "abort":
            joined.tunnel.abort()
        else:
            for sock in (joined.near, joined.far):
                reset(sock) if how == "reset" else sock.shutdown(socket.SHUT_WR)
            joined.ended()
        del joined
        for _ in range(3):
            world.pump.step(wait=False)
        world.transports.clear()

        assert tunnel() is None
    finally:
        gc.enable()


# -- splicing ---------------------------------------------------------------------------------------------------------


def spliced(world: World, **options: object) -> Joined:
    return Joined(world, "splice", **options)  # type: ignore[arg-type]


def test_the_pump_splices_sockets_only(world: World) -> None:
    """Plain sockets are spliced; whatever else a transport is, its bytes have to be seen."""

    class Codec:
        """Stands for TLS: a transport like any other, and no socket."""

        def __init__(self, *arguments: object) -> None:
            self.__dict__["inner"] = SocketTransport(*arguments)  # type: ignore[arg-type]

        def __getattr__(self, name: str) -> object:
            return getattr(self.__dict__["inner"], name)

        def __setattr__(self, name: str, value: object) -> None:
            setattr(self.__dict__["inner"], name, value)

    tunnels = []
    for make in (SocketTransport, Codec):
        plain, _, _ = world.pair()
        sock, _ = plain.detach()
        near = make(world.pump, sock, plain.peer, plain.local)
        near.open()
        far, _, _ = world.pair()
        tunnels.append(world.pump.tunnel(near, far, b"", lambda *_end: None))

    assert [type(each) for each in tunnels] == [SpliceTunnel, CopyTunnel]
    for each in tunnels:
        each.abort()
    world.pump.step(wait=False)


def test_a_reset_comes_after_what_was_read(world: World) -> None:
    """A slow reader gets all that was in front of the reset, and then the reset."""
    joined = spliced(world, buffer=BUFFER)
    total = joined.fill(joined.near)
    reset(joined.near)
    world.wake_ups()
    got = 0

    def all_of_it() -> bool:
        nonlocal got
        while True:
            try:
                piece = joined.far.recv(65536)
            except BlockingIOError:
                return False
            except ConnectionResetError:
                return True
            assert piece, "an end that looks like a good one"
            got += len(piece)

    world.until(all_of_it)

    # What had not been read when the reset came is the kernel's to keep or drop.
    assert PIPE_SIZE // 4 < got <= total
    assert joined.ended()[0] == "near"


def test_an_answer_in_front_of_a_reset_is_read(world: World) -> None:
    """An endpoint that answers early and closes resets the upload: its answer still reaches the caller."""
    joined = spliced(world, buffer=BUFFER)
    joined.fill(joined.near)
    joined.far.send(b"no, thank you")

    assert joined.read(joined.near, 13) == b"no, thank you"
    joined.far.close()

    assert joined.ended()[0] == "far"
    with pytest.raises(ConnectionResetError):
        joined.read(joined.near, 1)


def test_a_reader_that_never_reads_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a broken connection had sent waits for its reader no longer than a stalled write may."""
    monkeypatch.setattr(splice_module, "WRITE_STALL", 0.1)
    joined = spliced(world, buffer=BUFFER)
    joined.fill(joined.near)

    reset(joined.near)

    side, error = joined.ended()
    assert (side, type(error)) == ("near", TimeoutError)
    assert world.pump.pipes.open == len(world.pump.pipes._idle)


def test_a_slow_reader_of_a_broken_connection_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it takes something."""
    monkeypatch.setattr(splice_module, "WRITE_STALL", 0.1)
    joined = spliced(world, buffer=BUFFER)
    joined.fill(joined.near)
    moved, held = joined.tunnel.sent_far, joined.resident
    reset(joined.near)

    got = 0
    with contextlib.suppress(ConnectionResetError):
        while True:
            with contextlib.suppress(BlockingIOError):
                got += len(joined.far.recv(100_000))
            world.wake_ups(0.02)

    assert got >= moved + held
    assert joined.ended()[0] == "near"


def test_an_ended_connection_may_have_a_very_slow_reader(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended both ways is a hang-up, too, but not broken: whoever reads the rest takes the time it takes."""
    monkeypatch.setattr(splice_module, "WRITE_STALL", 0.05)
    joined = spliced(world, buffer=BUFFER)
    total = 0
    # No more than is needed: the end has to get as far as the tunnel.
    while not joined.resident:
        total += joined.near.send(b"x" * 65536)
        world.wake_ups(0.01)
    joined.near.shutdown(socket.SHUT_WR)
    joined.far.shutdown(socket.SHUT_WR)
    world.wake_ups(0.3)

    assert joined.tunnel._near.hung  # type: ignore[attr-defined]
    assert joined.ends == []
    assert len(joined.read(joined.far, 1 << 30)) == total
    assert joined.ended() == (None, None)


def test_a_write_that_fails_first(world: World) -> None:
    """A message in front of the news that its reader has broken takes that news away from the kernel: what then looks
    like an end is none."""
    joined = spliced(world)
    joined.near.send(b"hello")
    joined.read(joined.far, 5)

    joined.near.send(b"more")
    reset(joined.far)

    side, _error = joined.ended()
    assert side == "far"
    with pytest.raises(ConnectionResetError):
        joined.read(joined.near, 1)


def test_a_pipe_that_held_something_is_not_used_again(world: World) -> None:
    """What nobody took of one tunnel never gets into another."""
    joined = spliced(world, buffer=BUFFER)
    joined.fill(joined.near)
    assert joined.tunnel._flows[0].held > 0  # type: ignore[attr-defined]
    joined.tunnel.abort()
    other = spliced(world)

    for n in range(10):
        other.near.send(bytes([n]) * 60_000)
        assert other.read(other.far, 60_000) == bytes([n]) * 60_000

    assert other.tunnel._flows[0].bulk  # type: ignore[attr-defined]
    other.tunnel.abort()


def test_streams_use_pipes_and_messages_do_not(world: World) -> None:
    """A pipe is taken for a stream only, is empty when it is given back, and a few serve all."""
    joined = spliced(world)
    joined.near.send(b"small")
    joined.read(joined.far, 5)
    assert world.pump.pipes.open == 0

    # Both directions of several tunnels, one after the other.
    for _ in range(3):
        other = spliced(world)
        for source, reader in ((other.near, other.far), (other.far, other.near)):
            for _ in range(20):
                source.send(b"x" * 60_000)
                other.read(reader, 60_000)
        other.tunnel.abort()

    assert world.pump.pipes.open == 1
    joined.tunnel.abort()


def test_a_stream_that_became_messages_is_copied_again(world: World) -> None:
    """Small splices in a row end the splicing: two calls on a pipe cost more than a small copy."""
    joined = spliced(world)
    flow = joined.tunnel._flows[0]  # type: ignore[attr-defined]
    while not flow.bulk:
        joined.near.send(b"x" * 60_000)
        joined.read(joined.far, 60_000)

    for _ in range(SMALL_SPLICES + 1):
        joined.near.send(b"tiny")
        joined.read(joined.far, 4)

    assert not flow.bulk
    joined.tunnel.abort()


def test_without_a_pipe_bytes_are_copied(world: World) -> None:
    """At MAX_PIPES streams go on, a little dearer."""
    world.pump.pipes = PipePool(max_pipes=0)
    joined = spliced(world)

    for _ in range(5):
        joined.near.send(b"x" * 60_000)
        assert len(joined.read(joined.far, 60_000)) == 60_000

    assert world.pump.pipes.exhausted > 0
    joined.tunnel.abort()


def test_where_splice_is_refused_bytes_are_copied(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel or sandbox that answers EINVAL is asked once."""
    asked = []

    def refuse(*_args: object, **_options: object) -> int:
        asked.append(None)
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(splice_module.os, "splice", refuse)
    joined = spliced(world)

    for _ in range(5):
        joined.near.send(b"x" * 60_000)
        assert len(joined.read(joined.far, 60_000)) == 60_000

    assert len(asked) == 1
    joined.tunnel.abort()


@pytest.mark.parametrize("seed", range(4))
def test_whatever_peers_do_bytes_stay_in_order(world: World, kind: str, seed: int) -> None:
    """Many tunnels at once, with pauses, ends and resets at any time: what arrives is a prefix of what was sent, all of
    it after an orderly end, and nothing stays open."""
    dice = random.Random(seed)
    before = world.pump.statistics()["descriptors"]
    streams = [Stream(world, kind, dice, chance) for chance in range(12)]
    over: list[None] = []
    world.pump.call_at(world.pump.now() + 30, over.append, None)
    alive = streams
    while alive and not over:
        before_step = sum(each.progress for each in streams)
        alive = [each for each in alive if each.step()]
        if sum(each.progress for each in streams) > before_step:
            world.pump.step(wait=False)
        else:
            # The kernel's turn: a window that was closed may take a timer of its to open.
            world.wake_ups(0.005)
    for each in streams:
        each.finish()
    for _ in range(50):
        world.pump.step(wait=False)

    assert [each.problem for each in streams if each.problem] == []
    assert world.pump.statistics()["descriptors"] == before
    assert world.pump.pipes.open == len(world.pump.pipes._idle)


class Stream:
    """A tunnel whose peers send, read and end as dice say. ``chance`` 0 to 3 in 12 break their connection."""

    def __init__(self, world: World, kind: str, dice: random.Random, chance: int) -> None:
        self.joined = Joined(world, kind, buffer=dice.choice((None, BUFFER)))
        self.dice = dice
        self.breaks = chance < 4
        self.problem = ""
        self.ways = [
            Way(self.joined.near, self.joined.far, dice),
            Way(self.joined.far, self.joined.near, dice),
        ]

    @property
    def progress(self) -> int:
        return sum(way.sent + len(way.got) + way.over for way in self.ways)

    def step(self) -> bool:
        """Do something; whether there is more to do."""
        if self.breaks and self.dice.random() < 0.003:
            reset(self.dice.choice((self.joined.near, self.joined.far)))
            for way in self.ways:
                way.broken = True
        for way in self.ways:
            way.step()
            if way.got != way.data[: len(way.got)]:
                self.problem = f"other bytes within {len(way.got)}"
        return not all(way.over for way in self.ways)

    def finish(self) -> None:
        for way in self.ways:
            if not way.broken and (not way.over or way.got != way.data):
                self.problem = f"{len(way.got)} of {len(way.data)} bytes"
        self.joined.near.close()
        self.joined.far.close()
        if not self.joined.ends:
            self.joined.tunnel.abort()


class Way:
    """One direction of such a stream."""

    def __init__(self, source: socket.socket, reader: socket.socket, dice: random.Random) -> None:
        self.source = source
        self.reader = reader
        self.dice = dice
        self.data = dice.randbytes(dice.choice((0, 10, 50_000, 2_000_000)))
        self.sent = 0
        self.got = bytearray()
        self.ended = False
        self.over = False
        self.broken = False

    def step(self) -> None:
        if self.over or self.broken:
            self.over = True
            return
        try:
            if self.sent < len(self.data):
                self.sent += self.source.send(
                    self.data[self.sent : self.sent + self.dice.randrange(1, 200_000)]
                )
            elif not self.ended:
                self.ended = True
                self.source.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        if self.dice.random() < 0.5:
            try:
                piece = self.reader.recv(self.dice.randrange(1, 300_000))
            except BlockingIOError:
                return
            self.got += piece
            self.over = not piece


# -- pipes ------------------------------------------------------------------------------------------------------------


def test_pipes_are_reused_and_bounded() -> None:
    """No more than ``max_pipes`` are open, no more than ``max_idle`` are kept, and discarded ones make room."""
    pool = PipePool(max_pipes=3, max_idle=1)
    taken = [pool.take() for _ in range(4)]

    assert [each is not None for each in taken] == [True, True, True, False]
    assert (pool.open, pool.exhausted) == (3, 1)
    first, second, third = taken[:3]
    assert first is not None
    assert second is not None
    assert third is not None
    assert first.size >= 65536
    pool.give(first)
    pool.give(second)
    assert pool.open == 2
    assert pool.take() is first
    pool.discard(third)
    pool.give(first)
    pool.close()
    assert pool.open == 0
    assert MAX_PIPES * PIPE_SIZE <= 128 << 20


@pytest.mark.parametrize(("size", "used"), [(65536, True), (4096, False)])
def test_pipes_that_may_not_grow(monkeypatch: pytest.MonkeyPatch, size: int, used: bool) -> None:
    """The user's share of pipe memory may be used up: the kernel's usual size moves bytes, a page does not."""

    def answer(_fd: int, command: int, *_size: int) -> int:
        if command == pipes_module.F_SETPIPE_SZ:
            raise PermissionError(1, "Operation not permitted")
        return size

    monkeypatch.setattr(pipes_module.fcntl, "fcntl", answer)
    pool = PipePool()
    pipe = pool.take()

    assert (pipe is not None, pool.open, pool.exhausted) == (used, int(used), int(not used))
    if pipe is not None:
        assert pipe.size == size
        pool.discard(pipe)


def test_no_descriptor_for_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """EMFILE is no error: there is another way."""

    def refuse(_flags: int) -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(pipes_module.os, "pipe2", refuse)
    pool = PipePool()

    assert pool.take() is None
    assert (pool.open, pool.exhausted) == (0, 1)
