"""Writes to peers that do not read. The rest of serving needs sockets: tests/wire/test_admin_serve.py."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from hostmesh.admin.serve import WRITE_PIECE_BYTES, WRITE_STALL_S, _hypercorn_config, _PatientStream


class Stream:
    """A stream whose peer takes ``pieces`` pieces, each after ``delay`` seconds, and then nothing."""

    def __init__(self, pieces: int, delay: float) -> None:
        self.pieces = pieces
        self.delay = delay
        self.sent: list[int] = []
        self.closed = False
        self.socket = self

    async def send_all(self, data: memoryview) -> None:
        if len(self.sent) >= self.pieces:
            await trio.sleep_forever()
        await trio.sleep(self.delay)
        self.sent.append(len(data))

    def close(self) -> None:
        self.closed = True


def run(test: Any) -> None:
    trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_slow_reader_gets_everything() -> None:
    """Each piece may take nearly WRITE_STALL_S; the whole may take much longer."""
    stream = Stream(pieces=3, delay=WRITE_STALL_S * 0.9)

    async def test() -> None:
        await _PatientStream(stream).send_all(b"x" * (2 * WRITE_PIECE_BYTES + 1))

    run(test)
    assert stream.sent == [WRITE_PIECE_BYTES, WRITE_PIECE_BYTES, 1]
    assert not stream.closed


def test_a_peer_that_stops_reading_is_cut() -> None:
    """WRITE_STALL_S after the last piece it took, even inside a shielded scope."""
    stream = Stream(pieces=1, delay=0)

    async def test() -> None:
        start = trio.current_time()
        with pytest.raises(trio.BrokenResourceError), trio.CancelScope(shield=True):
            await _PatientStream(stream).send_all(b"x" * (2 * WRITE_PIECE_BYTES))
        assert trio.current_time() - start == WRITE_STALL_S

    run(test)
    assert stream.closed


def test_plain_connections_have_no_handshake() -> None:
    """hypercorn asks for it and takes the AttributeError for an answer."""
    assert not hasattr(_PatientStream(Stream(0, 0)), "do_handshake")


def test_hypercorn_says_nothing_on_its_own() -> None:
    """No access log, no Server header."""
    config = _hypercorn_config()

    assert (config.accesslog, config.include_server_header) == (None, False)
