"""A TCP connection in the pump, on loopback sockets and the real clock."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct

import pytest
from pump_world import World

from hostmesh.pump import output
from hostmesh.pump import transport as module
from hostmesh.pump.marks import HIGH_MARK, LINGER_READ, LOW_MARK


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_data_and_end_are_told_in_order(world: World) -> None:
    """What the peer sends and its FIN arrive in that order, once each."""
    transport, session, far = world.pair()

    far.sendall(b"hello")
    far.shutdown(socket.SHUT_WR)
    world.until(lambda: "eof" in session.events)

    assert (session.data, session.events, transport.bytes_in) == (b"hello", ["data", "eof"], 5)
    assert world.wake_ups() == 0


def test_a_paused_transport_delivers_nothing_and_does_not_spin(world: World) -> None:
    """Data, then FIN, while paused: no wake-up at all; resumed, both are delivered."""
    transport, session, far = world.pair()
    transport.pause()

    far.sendall(b"hello")
    assert world.wake_ups() == 0
    far.shutdown(socket.SHUT_WR)
    assert world.wake_ups() == 0
    assert session.events == []

    transport.resume()
    world.until(lambda: "eof" in session.events)
    assert session.data == b"hello"


def test_a_reset_while_paused_is_remembered(world: World) -> None:
    """RST while paused: one wake-up, and then none; the data in front of it and the loss come on resume."""
    transport, session, far = world.pair()
    transport.pause()

    far.sendall(b"hello")
    reset(far)

    assert world.wake_ups() <= 1
    assert world.wake_ups() == 0
    assert session.events == []
    transport.resume()
    world.until(lambda: "lost" in session.events)
    assert (session.data, session.events[-1]) == (b"hello", "lost")
    assert session.error is not None
    assert session.error.errno == errno.ECONNRESET


def test_both_directions_ended_while_paused_does_not_spin(world: World) -> None:
    """Our FIN and theirs while paused make a HUP that nothing can consume: it is set aside."""
    transport, session, far = world.pair()
    transport.pause()
    transport.shutdown_write()
    far.shutdown(socket.SHUT_WR)

    assert world.wake_ups() <= 1
    assert world.wake_ups() == 0
    transport.resume()
    world.until(lambda: bool(session.events))
    assert session.events[0] == "eof"


def test_a_half_closed_peer_does_not_spin(world: World) -> None:
    """After the peer's FIN nothing is reported until we write or it resets."""
    transport, session, far = world.pair()
    far.shutdown(socket.SHUT_WR)
    world.until(lambda: session.events == ["eof"])

    assert world.wake_ups() == 0
    transport.write(b"answer")
    world.pump.step(wait=False)
    assert far.recv(100) == b"answer"
    reset(far)
    world.until(lambda: "lost" in session.events)
    assert world.wake_ups() == 0


def test_a_peer_that_stops_reading_does_not_spin(world: World) -> None:
    """A full socket and a full write buffer cost no wake-ups."""
    transport, session, _far = world.pair(buffer=8192)
    while not transport.blocked:
        transport.write(b"x" * 16384)

    assert world.wake_ups() <= 1
    assert world.wake_ups() == 0
    assert "writable" not in session.events


def test_write_marks(world: World) -> None:
    """Blocked from the high mark on; writable once, when what is left is below the low mark."""
    transport, session, far = world.pair(buffer=8192)
    total = 0
    while not transport.blocked:
        transport.write(b"x" * 10_000)
        total += 10_000
    assert transport.unsent
    assert total - transport.bytes_out >= HIGH_MARK

    received = 0
    left_when_told = None
    while received < total:
        received += len(far.recv(65536))
        world.pump.step(wait=False)
        if "writable" in session.events and left_when_told is None:
            left_when_told = total - transport.bytes_out
    assert session.events.count("writable") == 1
    assert left_when_told is not None
    assert left_when_told <= LOW_MARK
    assert (transport.blocked, transport.unsent) == (False, False)


def test_order_is_kept_across_the_buffer(world: World) -> None:
    """Small and large writes arrive in order, whatever the kernel takes at once."""
    transport, _session, far = world.pair(buffer=8192)
    sent = bytearray()
    for n in range(200):
        piece = bytes([n]) * (1 + n * 37 % 4000)
        sent += piece
        transport.write(piece)

    received = bytearray()
    while len(received) < len(sent):
        received += far.recv(3000)
        world.pump.step(wait=False)
    assert received == sent


def test_close_sends_everything_first(world: World) -> None:
    """close flushes the buffer, then FIN; the session hears of it when the peer has closed."""
    transport, session, far = world.pair(buffer=8192)
    transport.write(b"x" * 300_000)
    transport.close()

    received = 0
    while piece := far.recv(65536):
        received += len(piece)
        world.pump.step(wait=False)
    far.close()
    world.until(lambda: "lost" in session.events)
    assert received == 300_000
    assert session.error is None


def test_upload_behind_a_close_does_not_cut_the_answer(world: World) -> None:
    """A peer that goes on sending while our last bytes wait gets all of them: reading away begins after them."""
    transport, session, far = world.pair(buffer=8192)
    transport.write(b"x" * 300_000)
    transport.close()
    far.setblocking(False)

    received = uploaded = 0
    ended = False
    poll = select.poll()
    poll.register(far, select.POLLIN)
    while not ended:
        if uploaded < LINGER_READ * 4 and received < 100_000:
            with contextlib.suppress(BlockingIOError):
                uploaded += far.send(b"u" * 65536)
        for _ in range(3):
            world.pump.step(wait=False)
        if poll.poll(1):
            piece = far.recv(4096)
            received += len(piece)
            ended = not piece
    assert received == 300_000
    assert session.data == b""


def test_lingering_close_reads_away_a_bounded_amount(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an early close the rest of an upload is thrown away, but not for ever."""
    monkeypatch.setattr(module, "LINGER_TIME", 0.2)
    transport, session, far = world.pair()
    transport.write(b"answer")
    transport.close()
    far.setblocking(False)

    sent = 0
    while "lost" not in session.events:
        try:
            sent += far.send(b"u" * 65536)
        except BlockingIOError:
            pass
        except ConnectionError:
            break
        world.pump.step(wait=False)
    assert sent < LINGER_READ + 16 * 1024 * 1024
    assert session.data == b""


def test_an_upload_behind_a_close_is_read_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that sends 20 MB before it reads gets them rid, and then our answer."""
    monkeypatch.setattr(module, "LINGER_TIME", 1e6)
    transport, session, far = world.pair()
    transport.write(b"answer")
    transport.close()
    far.setblocking(False)

    sent = stalled = 0
    while sent < 20_000_000:
        try:
            sent += far.send(b"u" * 65536)
            stalled = 0
        except BlockingIOError:
            stalled += 1
            assert stalled < 1000
        world.pump.step(wait=False)
    assert (far.recv(10), far.recv(10)) == (b"answer", b"")
    assert session.data == b""


def test_lingering_ends_by_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that never closes is left after the linger time."""
    monkeypatch.setattr(module, "LINGER_TIME", 0.05)
    transport, session, far = world.pair()

    transport.close()
    world.until(lambda: "lost" in session.events)

    assert (far.recv(10), session.error) == (b"", None)


def test_a_close_need_not_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a peer that has said its last word in its own way nothing is read away; what was written arrives."""
    monkeypatch.setattr(module, "LINGER_TIME", 1e6)
    transport, session, far = world.pair()

    transport.write(b"answer")
    transport.close(wait=False)
    world.until(lambda: "lost" in session.events)

    assert (far.recv(10), far.recv(10), session.error) == (b"answer", b"", None)


def test_r2_stalled_write_is_cut(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No progress in writing for the stall time ends the connection; progress starts the time anew."""
    monkeypatch.setattr(output, "WRITE_STALL", 0.05)
    transport, session, _far = world.pair(buffer=8192)
    while not transport.blocked:
        transport.write(b"x" * 16384)

    world.until(lambda: "lost" in session.events)

    assert isinstance(session.error, TimeoutError)
    assert world.wake_ups() == 0


def test_abort_tells_the_session_later(world: World) -> None:
    """abort closes at once and calls the session in a later turn, never inside the call."""
    transport, session, far = world.pair()

    transport.abort()
    assert session.events == []
    world.until(lambda: session.events == ["lost"])

    assert far.recv(10) == b""
    transport.write(b"nobody")
    transport.close()
    transport.abort()


def test_reset_is_a_reset(world: World) -> None:
    """reset ends the connection with RST even when nothing is unread."""
    transport, session, far = world.pair()

    transport.reset()
    world.until(lambda: session.events == ["lost"])

    with pytest.raises(ConnectionResetError):
        far.recv(10)


def test_answer_in_front_of_a_reset_is_read(world: World) -> None:
    """A write that fails leaves what the peer had said before it broke off; then the write's error is told."""
    transport, session, far = world.pair()
    far.sendall(b"413 too large")
    reset(far)
    transport.write(b"x")
    transport.write(b"upload" * 1000)
    transport.write(b"upload" * 1000)

    world.until(lambda: "lost" in session.events)

    assert session.data in (
        b"413 too large",
        b"",
    )  # a kernel that drops its queue on RST may have nothing to read
    assert session.events[-1] == "lost"
    assert session.error is not None


def test_broken_write_is_no_clean_end(world: World) -> None:
    """Where a write has failed, the end of the stream is told as that failure and never as an end."""
    transport, session, far = world.pair()
    reset(far)
    world.pump._epoll.poll(1)
    transport.write(b"x")
    transport.write(b"x")

    world.until(lambda: "lost" in session.events)

    assert "eof" not in session.events
    assert session.error is not None


def test_blocked_writer_whose_peer_resets_is_told(world: World) -> None:
    """Paused and blocked at once, as both halves of a stuck exchange are: a reset ends it without a wait."""
    transport, session, far = world.pair(buffer=8192)
    transport.pause()
    while not transport.blocked:
        transport.write(b"x" * 16384)

    reset(far)

    world.until(lambda: "lost" in session.events)
    assert world.wake_ups() == 0


def test_a_session_may_close_while_it_is_told(world: World) -> None:
    """Closing, aborting or pausing inside data_received is safe, also with output waiting."""
    for act in ("close", "abort", "reset", "pause"):
        transport, session, far = world.pair()
        transport.write(b"waiting")
        session.on_data = lambda _data, act=act, transport=transport: getattr(transport, act)()  # type: ignore[misc]
        far.sendall(b"go")
        world.until(lambda session=session: session.data == b"go")  # type: ignore[misc]
        far.close()
        transport.resume()
        world.until(lambda session=session: "lost" in session.events or "eof" in session.events)  # type: ignore[misc]


def test_reused_descriptor_gets_no_event_of_a_stranger(world: World) -> None:
    """A connection closed in a batch keeps its number until the batch is over."""
    first, one, far_one = world.pair()
    second, two, far_two = world.pair()
    numbers = {first._fd, second._fd}

    def swap(_data: bytes) -> None:
        # Whichever is told first aborts both and opens another connection, which must not get either number.
        first.abort()
        second.abort()
        fresh = world.own(socket.socket())
        assert fresh.fileno() not in numbers

    one.on_data = two.on_data = swap
    far_one.sendall(b"1")
    far_two.sendall(b"2")
    world.until(lambda: one.events[-1:] == ["lost"] and two.events[-1:] == ["lost"])

    assert sorted(one.data + two.data) in ([ord("1")], [ord("2")])
