"""What only the lane has: its short cuts, and that none of them is taken where it would change the outcome."""

from __future__ import annotations

from functools import partial

import pytest

from hostmesh.protocol.h2.budgets import Budgets
from hostmesh.protocol.h2.engines import DEFAULT_ENGINE, ENGINES, make_engine
from hostmesh.protocol.h2.lane_decode import MAX_REMEMBERED_BLOCKS
from hostmesh.protocol.h2.settings import H2Settings
from tests import h2_raw as raw
from tests.h2_raw import data, get, settings
from tests.h2_world import Connection, Recorder

OK = [(b":status", b"200")]
lane = partial(make_engine, "lane")
# How an RST_STREAM begins; in a body it means nothing.
LOOKS_LIKE_A_RESET = bytes((0, 0, 4, raw.RST_STREAM, 0, 0, 0, 0, 1, 0, 0, 0, 8))


def test_an_engine_that_does_not_exist_is_named() -> None:
    """A wrong name is an error that says the right ones; the default is one of them."""
    with pytest.raises(ValueError, match="'nghttp2', only lane and library"):
        make_engine("nghttp2", H2Settings(client_side=False), Recorder())

    assert DEFAULT_ENGINE in ENGINES


def test_octets_in_a_body_that_look_like_a_reset_reset_nothing() -> None:
    """The search for resets in a read finds them anywhere; only frames count."""
    connection = Connection(lane)
    connection.feed(
        connection.peer.headers(1, get(method=b"POST"), False),
        data(1, LOOKS_LIKE_A_RESET),
        data(1, b"", True),
    )

    assert connection.heard.said() == [
        ("head", 1, get(method=b"POST"), False),
        ("data", 1, LOOKS_LIKE_A_RESET, False),
        ("data", 1, b"", True),
    ]


def test_nothing_that_follows_a_flood_in_the_same_read_is_reported() -> None:
    """Control frames end the connection where they exceed the budget, also within one read (H6)."""
    connection = Connection(lane, budgets=Budgets(control_burst=20, control_rate=0.0))
    connection.feed(
        connection.peer.headers(1, get(), True), raw.ping() * 30, connection.peer.headers(3, get(), True)
    )

    assert connection.fault is not None
    assert connection.fault.code == 11
    assert [event[1] for event in connection.heard.said("head")] == [1]


def test_a_frame_whose_listener_failed_is_not_read_again() -> None:
    """An exception of the proxy's own leaves the connection at the next frame."""
    connection = Connection(lane)

    def fail_on_first(event: tuple[object, ...]) -> None:
        if event[:2] == ("head", 1):
            raise RuntimeError("a bug")

    connection.heard.on_event = fail_on_first
    with pytest.raises(RuntimeError):
        connection.feed(connection.peer.headers(1, get(), True), connection.peer.headers(3, get(), True))
    connection.feed(connection.peer.headers(5, get(), True))

    assert [event[1] for event in connection.heard.said("head")] == [1, 3, 5]


def test_a_head_larger_than_a_frame_goes_out_in_several() -> None:
    """HEADERS and CONTINUATION with nothing between them, END_HEADERS on the last."""
    connection = Connection(lane)
    connection.request(1)
    connection.engine.send_head(1, [*OK, (b"x-large", b"v" * 40_000)], True)
    out = connection.engine.take()

    kinds = []
    at = 0
    while at < len(out):
        size = int.from_bytes(out[at : at + 3], "big")
        kinds.append((out[at + 3], out[at + 4], size))
        at += 9 + size
    assert [(kind, flags) for kind, flags, _size in kinds] == [(1, 1), (9, 0), (9, 4)]
    assert kinds[0][2] == kinds[1][2] == 16384


def test_a_repeated_head_is_judged_anew_when_its_stream_ends_otherwise() -> None:
    """The proof of the last head is for the same list with the same end: a length with no body is still refused."""
    connection = Connection(lane)
    block = raw.block([*get(method=b"POST"), (b"content-length", b"3")])
    connection.feed(raw.headers(1, block, False), data(1, b"abc", True))
    connection.feed(raw.headers(3, block, True))
    connection.feed(raw.headers(5, block, False), data(5, b"abcd"))

    heard = [event[:2] for event in connection.heard.said()]
    assert heard == [("head", 1), ("data", 1), ("fault", 3), ("head", 5), ("fault", 5)]


def test_a_repeated_answer_is_judged_by_the_request_it_is_for() -> None:
    """The same 200 with a length ends a GET's stream wrongly and a HEAD's rightly."""
    connection = Connection(lane, client_side=True)
    head, other = [connection.engine.open(get(method=method), True) for method in (b"HEAD", b"GET")]
    block = raw.block([*OK, (b"content-length", b"3")])
    connection.feed(raw.headers(head, block), raw.headers(other, block))

    assert [event[:2] for event in connection.heard.said()] == [("head", head), ("fault", other)]


def test_a_connection_stays_small_however_many_streams_it_had() -> None:
    """20,000 requests that differ leave what a thousand leave: bounded memories, no streams (H9)."""
    connection = Connection(lane, budgets=Budgets(max_streams=10**9))
    engine = connection.engine
    for number in range(20_000):
        stream = 2 * number + 1
        connection.feed(connection.peer.headers(stream, [*get(), (b"x-trace", b"%x" % number)], True))
        engine.send_head(stream, [*OK, (b"x-number", b"%d" % number)], True)
        engine.take()
        connection.heard.events.clear()

    assert engine.open_streams == 0
    assert len(engine._closed) == Budgets().max_known_resets  # type: ignore[attr-defined]
    assert len(engine._decoder._blocks) <= MAX_REMEMBERED_BLOCKS  # type: ignore[attr-defined]
    assert len(engine._encoder._names) == 4  # type: ignore[attr-defined]


def test_its_state_can_be_read() -> None:
    """repr says side, streams and windows; a stream says what it still may do."""
    connection = Connection(lane)
    connection.feed(settings(), connection.peer.headers(1, get(method=b"POST"), False))

    assert repr(connection.engine) == "<LaneEngine server streams=1 window=65535 room=65535>"
    assert (
        repr(connection.engine._streams[1])  # type: ignore[attr-defined]
        == "<LaneStream receiving sending window=65535 room=65535>"
    )
