"""What leaves an HTTP/2 connection, in which order, and what is given up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hostmesh.base.reasons import Reason
from hostmesh.proxy.h2_sending import (
    CAP,
    CROWDED,
    FRAME,
    HARD_CAP,
    MAX_STALLS,
    STALL,
    STALL_OVER_CAP,
)
from hostmesh.pump.marks import HIGH_MARK, LOW_MARK
from tests.unit.proxy.h2_sending_world import Connection

TRAILERS = [(b"grpc-status", b"0")]


@pytest.fixture
def connection() -> Iterator[Connection]:
    made = Connection()
    yield made
    made.sending.close()
    assert made.sending.size == 0


def test_h7_a_head_does_not_wait_for_the_window_of_its_body(connection: Connection) -> None:
    """H7: what the engine has framed before a body that must wait is written all the same."""
    connection.engine.streams[1] = 0
    connection.engine.out = b"head"
    connection.sending.write(1, b"a" * 100, True)

    connection.loop.settle()

    assert (connection.peer.size, connection.sending.pending(1)) == (len(b"head"), True)
    connection.sending.forget(1)


def test_a_piece_goes_at_once_when_nobody_waits(connection: Connection) -> None:
    """It reaches the socket in the same turn, with what else there is to write."""
    connection.sending.write(1, b"a" * 100, False)
    connection.sending.write(3, b"b" * 100, True)
    assert connection.transport.bytes_out == 0

    connection.loop.settle()

    assert connection.engine.sent == [(1, 100, False), (3, 100, True)]
    assert connection.peer.size == 200
    assert not connection.sending.pending(1)


def test_an_end_without_bytes_needs_no_window(connection: Connection) -> None:
    """END_STREAM alone passes a closed window; so do trailers."""
    connection.engine.connection = 0

    connection.sending.write(1, b"", True)
    connection.sending.trailers(3, TRAILERS)

    assert connection.engine.sent == [(1, 0, True)]
    assert connection.engine.ended == [(3, TRAILERS)]


def test_streams_take_turns_of_one_frame(connection: Connection) -> None:
    """A large body stands in front of nobody: one frame of each stream, in the order in which they began to wait."""
    connection.clog()
    for stream, size in ((1, 4 * FRAME), (3, FRAME // 2), (5, 2 * FRAME)):
        connection.sending.write(stream, b"x" * size, True)
    assert connection.engine.sent == []

    connection.far.resume()
    connection.loop.settle()

    assert connection.engine.sent == [
        (1, FRAME, False),
        (3, FRAME // 2, True),
        (5, FRAME, False),
        (1, FRAME, False),
        (5, FRAME, True),
        (1, FRAME, False),
        (1, FRAME, True),
    ]


def test_a_closed_stream_window_delays_its_own_stream_only(connection: Connection) -> None:
    """The others pass it; when the window opens it goes on where it was."""
    connection.engine.streams[1] = 10

    connection.sending.write(1, b"x" * 30, False)
    connection.sending.write(3, b"y" * 30, True)
    connection.engine.streams[1] = 15
    connection.sending.window_opened(1)
    connection.engine.streams[1] = 15
    connection.sending.window_opened(1)

    assert connection.engine.sent == [(1, 10, False), (3, 30, True), (1, 15, False), (1, 5, False)]


def test_an_opened_connection_window_is_shared_in_turns(connection: Connection) -> None:
    """Whoever waits longest is first, and goes to the end of the row with what it has left."""
    connection.engine.connection = 0
    for stream in (1, 3, 5):
        connection.sending.write(stream, b"x" * 2 * FRAME, True)

    for _ in range(2):
        connection.engine.connection = 2 * FRAME
        connection.sending.window_opened(0)

    assert [stream for stream, _size, _end in connection.engine.sent] == [1, 3, 5, 1]


def test_trailers_wait_for_the_body(connection: Connection) -> None:
    """They end the stream, the last DATA does not."""
    connection.engine.streams[1] = 0
    connection.sending.write(1, b"x" * 20, False)
    connection.sending.trailers(1, TRAILERS)
    assert connection.engine.ended == []

    connection.engine.streams[1] = 100
    connection.sending.window_opened(1)

    assert connection.engine.sent == [(1, 20, False)]
    assert connection.engine.ended == [(1, TRAILERS)]
    assert not connection.sending.pending(1)


def test_a_full_stream_is_blocked_until_it_has_drained(connection: Connection) -> None:
    """At the high mark its writer stops, below the low mark it is told to go on, once."""
    connection.engine.streams[1] = 0
    connection.sending.write(1, b"x" * (HIGH_MARK - 1), False)
    assert not connection.sending.blocked(1)
    connection.sending.write(1, b"x", False)
    assert connection.sending.blocked(1)

    connection.engine.streams[1] = HIGH_MARK - LOW_MARK - 1
    connection.sending.window_opened(1)
    assert connection.writable_streams == []
    connection.engine.streams[1] = 1
    connection.sending.window_opened(1)

    assert connection.writable_streams == [1]
    assert not connection.sending.blocked(1)
    assert connection.sending.size == LOW_MARK


def test_on_a_crowded_connection_little_is_much(connection: Connection) -> None:
    """With much waiting in all every stream that has to wait is blocked, and goes on once its own has left."""
    connection.engine.connection = 0
    for stream in range(1, 9, 2):
        connection.sending.write(stream, b"x" * (CROWDED // 4), False)
    connection.sending.write(9, b"x" * 100, False)
    assert connection.sending.blocked(9)

    connection.engine.streams = {1: 0, 3: 0, 5: 0, 7: 0}
    connection.engine.connection = 100
    connection.sending.window_opened(0)

    assert connection.writable_streams == [9]


def test_what_is_forgotten_is_not_sent(connection: Connection) -> None:
    """A reset stream leaves nothing behind, wherever it waited."""
    connection.clog()
    connection.sending.write(1, b"x" * FRAME, True)
    connection.engine.streams[3] = 0
    connection.sending.write(3, b"x" * FRAME, True)

    connection.sending.forget(1)
    connection.sending.forget(3)
    connection.far.resume()
    connection.loop.settle()

    assert connection.engine.sent == []
    assert connection.sending.size == 0


def test_h7_a_stream_that_takes_nothing_for_30_s_is_given_up(connection: Connection) -> None:
    """With a zero window and no progress; a stream beside it that moves stays."""
    connection.engine.streams = {1: 0, 3: 0}
    connection.sending.write(1, b"x" * 100, True)
    connection.sending.write(3, b"x" * 100, True)

    for _ in range(4):
        connection.loop.run_for(STALL / 3)
        connection.engine.streams[3] = 1
        connection.sending.window_opened(3)

    assert [(stream, error.reason) for stream, error in connection.overdue] == [(1, Reason.LIMIT_STALLED)]
    assert not connection.sending.pending(1)
    assert connection.sending.pending(3)
    connection.loop.run_for(2 * STALL)
    assert [stream for stream, _error in connection.overdue] == [1, 3]


def test_who_waits_for_a_turn_does_not_stand_still(connection: Connection) -> None:
    """A slow connection window: each stream moves once in a hundred seconds, the connection every second."""
    connection.engine.connection = 0
    streams = [2 * n + 1 for n in range(100)]
    for stream in streams:
        connection.sending.write(stream, b"x" * 2000, True)

    for _ in range(200):
        connection.loop.run_for(1.0)
        connection.engine.connection = 1000
        connection.sending.window_opened(0)

    assert connection.overdue == []
    assert connection.sending.size == 0


def test_who_waits_for_a_slow_socket_does_not_stand_still(connection: Connection) -> None:
    """The peer reads a little now and then: the socket moves, and that is progress for everybody behind it."""
    connection.clog()
    connection.sending.write(1, b"x" * 100, True)

    for _ in range(6):
        connection.loop.run_for(STALL / 2)
        connection.loop.read_size = 1000
        connection.far.resume()
        connection.far._read()
        connection.far.pause()

    assert connection.overdue == []
    assert connection.sending.pending(1)


def test_h7_above_its_cap_a_connection_gives_up_who_stands_still_sooner(connection: Connection) -> None:
    """The largest first, until it is below; streams that move keep what they have."""
    size = CAP // 4
    sizes = {1: size, 3: size + 1, 5: size, 7: size, 9: size}
    connection.engine.streams = dict.fromkeys(sizes, 0)
    for stream, many in sizes.items():
        connection.sending.write(stream, b"x" * many, False)

    connection.loop.run_for(STALL_OVER_CAP - 0.1)
    assert connection.overdue == []
    connection.engine.streams[9] = 1
    connection.sending.window_opened(9)
    connection.loop.run_for(0.2)

    assert [(stream, error.reason) for stream, error in connection.overdue] == [(3, Reason.LIMIT_BUFFERED)]
    assert connection.sending.size <= CAP


def test_h7_nothing_makes_a_connection_hold_more_than_its_hard_cap(connection: Connection) -> None:
    """The largest stream goes at once, moving or not."""
    connection.engine.connection = 0
    connection.sending.write(1, b"x" * (HARD_CAP // 2), False)
    connection.sending.write(3, b"x" * (HARD_CAP // 2 + 1), False)

    connection.loop.settle()

    assert [(stream, error.reason) for stream, error in connection.overdue] == [(3, Reason.LIMIT_BUFFERED)]
    assert connection.sending.size == HARD_CAP // 2


def test_h5_a_peer_that_stalls_everybody_loses_its_connection(connection: Connection) -> None:
    """One stream more than may be given up."""
    for number in range(MAX_STALLS + 5):
        connection.engine.streams[2 * number + 1] = 0
        connection.sending.write(2 * number + 1, b"x", True)

    connection.loop.run_for(STALL + 0.1)

    assert len(connection.overdue) == MAX_STALLS - 1
    assert connection.over is not None
    assert connection.over.reason is Reason.LIMIT_STALLED


def test_h6_who_makes_us_answer_and_does_not_read_is_not_read(connection: Connection) -> None:
    """Answers that the socket does not take add up to one mark; then reading waits until the socket has drained."""
    connection.clog()
    frames = 0
    while not connection.transport._paused and frames < 10_000:
        connection.engine.out += b"p" * 17
        connection.sending.flush_soon()
        connection.loop.settle()
        frames += 1

    assert frames * 17 == pytest.approx(HIGH_MARK, abs=17)
    connection.far.resume()
    connection.loop.settle()
    assert not connection.transport._paused


def test_the_timer_ends_with_the_last_that_waits(connection: Connection) -> None:
    """Nothing is watched, nothing reported, after everything has left or the connection has ended."""
    connection.engine.streams[1] = 0
    connection.sending.write(1, b"x", True)
    connection.engine.streams[1] = 1
    connection.sending.window_opened(1)
    connection.sending.write(3, b"x", True)
    connection.loop.run_for(2 * STALL)
    assert connection.overdue == []

    connection.engine.streams[5] = 0
    connection.sending.write(5, b"x", True)
    connection.sending.close()
    connection.loop.run_for(2 * STALL)

    assert connection.overdue == []
