"""Flow control of an engine: windows both ways, credit, padding, and settings that change them."""

from __future__ import annotations

import pytest

from hostmesh.protocol.h2.engine import FLOW_CONTROL_ERROR, MAX_WINDOW, PROTOCOL_ERROR
from tests import h2_raw as raw
from tests.h2_raw import data, get, settings, window_update
from tests.h2_world import Connection, EngineClass

OK = [(b":status", b"200")]
POST = get(method=b"POST")


def updates(connection: Connection) -> list[tuple[int, int]]:
    """(stream, increment) of each WINDOW_UPDATE that the engine wants to send."""
    return [(each.stream, each.code) for each in connection.sent(raw.WINDOW_UPDATE)]


def answering(engine_class: EngineClass, *entries: tuple[int, int], **more: object) -> Connection:
    """A server connection with stream 1 open and its response head sent, after these settings of the peer."""
    connection = Connection(engine_class, **more)  # type: ignore[arg-type]
    connection.feed(settings(*entries))
    connection.request(1)
    connection.engine.send_head(1, OK, False)
    connection.frames()
    connection.heard.events.clear()
    return connection


# -- what we send -----------------------------------------------------------------------------------------------------


def test_the_window_is_the_smaller_of_stream_and_connection(engine_class: EngineClass) -> None:
    """What may be sent is bounded by the stream and by the connection; both are used up together."""
    connection = answering(engine_class, (raw.INITIAL_WINDOW_SIZE, 100_000))
    engine = connection.engine
    first = engine.window(1)
    engine.send_data(1, bytes(60_000), False)
    second = engine.window(1)
    connection.feed(window_update(0, 1_000_000))
    third = engine.window(1)

    assert (first, second, third) == (65535, 5535, 40_000)
    assert connection.heard.said("window") == [("window", 0)]


def test_data_is_cut_into_frames_the_peer_takes(engine_class: EngineClass) -> None:
    """Frames are as large as MAX_FRAME_SIZE allows, no larger; END_STREAM is on the last."""
    connection = answering(engine_class, (raw.MAX_FRAME_SIZE, 20_000))
    connection.engine.send_data(1, bytes(50_000), True)

    sent = connection.frames()
    assert [(len(each.payload), each.end) for each in sent] == [
        (20_000, False),
        (20_000, False),
        (10_000, True),
    ]


def test_sending_more_than_the_window_is_a_mistake(engine_class: EngineClass) -> None:
    """The engine never overruns a window: it says so instead."""
    connection = answering(engine_class, (raw.INITIAL_WINDOW_SIZE, 10))

    with pytest.raises(ValueError, match="window"):
        connection.engine.send_data(1, bytes(11), False)


def test_an_empty_end_needs_no_window(engine_class: EngineClass) -> None:
    """END_STREAM without octets passes a closed window."""
    connection = answering(engine_class, (raw.INITIAL_WINDOW_SIZE, 0))
    window = connection.engine.window(1)
    connection.engine.send_data(1, b"", True)

    assert (window, [(each.payload, each.end) for each in connection.frames()]) == (0, [(b"", True)])


def test_a_window_update_of_a_stream_is_heard(engine_class: EngineClass) -> None:
    """The listener learns which stream may go on."""
    connection = answering(engine_class, (raw.INITIAL_WINDOW_SIZE, 0))
    connection.feed(window_update(1, 1))

    assert (connection.heard.events, connection.engine.window(1)) == ([("window", 1)], 1)


def test_a_new_initial_window_changes_open_streams(engine_class: EngineClass) -> None:
    """RFC 9113 6.9.2: by the difference, also below zero; the listener hears that any stream may be concerned."""
    connection = answering(engine_class, (raw.INITIAL_WINDOW_SIZE, 1000))
    engine = connection.engine
    engine.send_data(1, bytes(800), False)
    connection.feed(settings((raw.INITIAL_WINDOW_SIZE, 100)))
    below = engine.window(1)
    connection.feed(window_update(1, 650))
    still = engine.window(1)
    connection.feed(settings((raw.INITIAL_WINDOW_SIZE, 1100)))

    assert (below, still, engine.window(1)) == (0, 0, 950)
    assert ("window", 0) in connection.heard.events


def test_overflow_of_a_stream_window_resets_the_stream(engine_class: EngineClass) -> None:
    """RFC 9113 6.9.1: beyond 2**31-1 on a stream: FLOW_CONTROL_ERROR, and the connection lives."""
    connection = answering(engine_class)
    connection.feed(window_update(1, MAX_WINDOW))

    assert connection.heard.said("fault") == [("fault", 1, "bad-framing", 400, FLOW_CONTROL_ERROR)]
    assert connection.resets() == [(1, FLOW_CONTROL_ERROR)]
    assert (connection.engine.open_streams, connection.fault) == (0, None)


def test_overflow_of_the_connection_window_ends_it(engine_class: EngineClass) -> None:
    """RFC 9113 6.9.1: the same on stream 0 is an error of the connection."""
    connection = answering(engine_class)
    connection.feed(window_update(0, MAX_WINDOW))

    assert [each.code for each in connection.sent(raw.GOAWAY)] == [FLOW_CONTROL_ERROR]


def test_overflow_by_a_new_initial_window_ends_the_connection(engine_class: EngineClass) -> None:
    """RFC 9113 6.9.2: a setting that makes a stream's window overflow is an error of the connection."""
    connection = answering(engine_class)
    connection.feed(window_update(1, MAX_WINDOW - 65535))
    connection.feed(settings((raw.INITIAL_WINDOW_SIZE, 65536)))

    assert [each.code for each in connection.sent(raw.GOAWAY)] == [FLOW_CONTROL_ERROR]


def test_a_window_update_of_zero_is_an_error(engine_class: EngineClass) -> None:
    """RFC 9113 6.9: of the stream on a stream, of the connection on stream 0; the reserved bit does not count."""
    on_stream = answering(engine_class)
    on_stream.feed(window_update(1, 0x80000000))
    on_connection = answering(engine_class)
    on_connection.feed(window_update(0, 0))

    assert on_stream.resets() == [(1, PROTOCOL_ERROR)]
    assert on_stream.fault is None
    assert [each.code for each in on_connection.sent(raw.GOAWAY)] == [PROTOCOL_ERROR]


def test_the_reserved_bit_of_a_window_update_is_ignored(engine_class: EngineClass) -> None:
    """RFC 9113 6.9: the increment has 31 bits."""
    connection = answering(engine_class, (raw.INITIAL_WINDOW_SIZE, 0))
    connection.feed(window_update(1, 0x80000005))

    assert (connection.engine.window(1), connection.fault) == (5, None)


def test_a_window_update_after_the_end_is_ignored(engine_class: EngineClass) -> None:
    """It may have been on its way when we ended the stream."""
    connection = answering(engine_class)
    connection.engine.send_data(1, b"x", True)
    connection.frames()
    connection.feed(window_update(1, 5))

    assert (connection.heard.events, connection.frames(), connection.fault) == ([], [], None)


# -- what we receive --------------------------------------------------------------------------------------------------


def test_the_connection_is_credited_on_receipt_and_the_stream_when_the_bytes_have_left(
    engine_class: EngineClass,
) -> None:
    """One slow stream must not stop the others; the slow one itself is held by its own window."""
    connection = Connection(engine_class)
    connection.request(1, POST, end=False)
    connection.feed(*[data(1, bytes(16384))] * 3)
    received = updates(connection)
    connection.engine.credit(1, 3 * 16384)
    left = updates(connection)

    assert received == [(0, 3 * 16384)]
    assert left == [(1, 3 * 16384)]


def test_small_pieces_are_given_back_together(engine_class: EngineClass) -> None:
    """``window_update_ratio``: nothing is said before that part of the window has been used."""
    connection = Connection(engine_class, window_update_ratio=0.5, initial_window=10_000)
    connection.request(1, POST, end=False)
    seen = []
    for _ in range(4):
        connection.feed(data(1, bytes(1500)))
        connection.engine.credit(1, 1500)
        seen.append(updates(connection))

    assert seen == [[], [], [], [(1, 6000)]]


def test_no_window_is_given_back_before_an_eighth_of_it_is_used(engine_class: EngineClass) -> None:
    """``LEAST_UPDATE``: small messages do not cost a WINDOW_UPDATE each, whatever the ratio asks for."""
    connection = Connection(engine_class, window_update_ratio=0.99)
    connection.request(1, POST, end=False)
    connection.feed(data(1, bytes(8000)))
    connection.engine.credit(1, 8000)
    before = updates(connection)
    connection.feed(data(1, bytes(191)))
    connection.engine.credit(1, 191)

    assert before == []
    assert updates(connection) == [(0, 8191), (1, 8191)]


def test_the_stream_is_not_credited_after_its_end(engine_class: EngineClass) -> None:
    """Nobody will send more on it: one frame less."""
    connection = Connection(engine_class)
    connection.request(1, POST, end=False)
    connection.feed(data(1, bytes(10_000), end=True))
    updates(connection)
    connection.engine.credit(1, 10_000)

    assert updates(connection) == []


def test_padding_is_credited_by_the_engine(engine_class: EngineClass) -> None:
    """Padding counts for both windows and nobody will credit it (RFC 9113 6.9.1): a client that pads everything
    does not stall.
    """
    connection = Connection(engine_class)
    connection.request(1, POST, end=False)
    used = {0: 0, 1: 0}
    for _ in range(2000):
        connection.feed(data(1, b"x", padding=255))
        connection.engine.credit(1, 1)
        used[0] += 257
        used[1] += 257
        for stream, increment in updates(connection):
            used[stream] -= increment

    assert (used[0] < 9000, used[1] < 9000, connection.fault) == (True, True, None)


def test_a_long_upload_never_stalls(engine_class: EngineClass) -> None:
    """Ten megabytes through a default window, credited as they leave."""
    connection = Connection(engine_class)
    connection.request(1, POST, end=False)
    windows = {0: 65535, 1: 65535}
    for _ in range(640):
        size = min(16384, *windows.values())
        connection.feed(data(1, bytes(size)))
        windows = {stream: left - size for stream, left in windows.items()}
        connection.engine.credit(1, size)
        for stream, increment in updates(connection):
            windows[stream] += increment

    assert connection.fault is None
    assert sum(len(event[2]) for event in connection.heard.said("data")) > 10_000_000


def test_h7_more_than_the_stream_window_ends_the_connection(engine_class: EngineClass) -> None:
    """H7: a peer that ignores a window is not buffered for."""
    connection = Connection(engine_class, initial_window=1000)
    connection.request(1, POST, end=False)
    connection.feed(data(1, bytes(1000)))
    before = connection.fault
    connection.feed(data(1, b"x"))

    assert before is None
    assert [each.code for each in connection.sent(raw.GOAWAY)] == [FLOW_CONTROL_ERROR]


def test_h7_more_than_the_connection_window_ends_the_connection(engine_class: EngineClass) -> None:
    """H7: many streams together may not send more than the connection's window, in one read."""
    connection = Connection(engine_class)
    for stream in (1, 3, 5, 7, 9):
        connection.request(stream, POST, end=False)
    connection.feed(*[data(stream, bytes(16384)) for stream in (1, 3, 5, 7, 9)])

    assert [each.code for each in connection.sent(raw.GOAWAY)] == [FLOW_CONTROL_ERROR]


def test_a_smaller_window_holds_only_after_the_acknowledgement(engine_class: EngineClass) -> None:
    """RFC 9113 6.5.3: until it has acknowledged our SETTINGS a peer may use the default window."""
    connection = Connection(engine_class, started=False, initial_window=10)
    connection.engine.start()
    connection.feed(
        raw.PREFACE, settings(), connection.peer.headers(1, POST, end=False), data(1, bytes(5000))
    )
    early = connection.fault
    connection.engine.credit(1, 5000)
    connection.feed(raw.SETTINGS_ACK, connection.peer.headers(3, POST, end=False), data(3, bytes(11)))

    assert early is None
    assert connection.fault is not None
    assert connection.fault.code == FLOW_CONTROL_ERROR


def test_a_larger_window_holds_from_the_acknowledgement(engine_class: EngineClass) -> None:
    """A stream may use the window that we announced."""
    connection = Connection(engine_class, initial_window=300_000)
    connection.request(1, POST, end=False)
    for _ in range(12):
        connection.feed(data(1, bytes(16384)))

    assert (connection.fault, sum(len(event[2]) for event in connection.heard.said("data"))) == (
        None,
        12 * 16384,
    )


def test_a_smaller_table_must_be_kept_to(engine_class: EngineClass) -> None:
    """RFC 7541 4.2: after the acknowledgement the peer's encoder has to shrink its table, or cannot be read."""
    connection = Connection(engine_class, header_table=0)
    connection.request(1, [*POST, (b"x-indexed", b"1")])

    assert connection.fault is not None
    assert connection.fault.code == 9


def test_a_peer_that_shrinks_its_table_is_read(engine_class: EngineClass) -> None:
    """RFC 7541 4.2: with the size update in front of the first block all is well."""
    connection = Connection(engine_class, header_table=0)
    connection.peer.encoder.header_table_size = 0
    connection.request(1, [*POST, (b"x-plain", b"1")])

    assert connection.heard.said("head") == [("head", 1, [*POST, (b"x-plain", b"1")], True)]


def test_our_encoder_keeps_to_the_peers_table(engine_class: EngineClass) -> None:
    """A peer without a table reads what we send; one with a huge table does not make us fill it."""
    for size in (0, 100, 2**32 - 1):
        connection = Connection(engine_class)
        connection.peer.decoder.max_allowed_table_size = size
        connection.feed(settings((raw.HEADER_TABLE_SIZE, size)))
        for stream in range(1, 41, 2):
            connection.request(stream)
            connection.engine.send_head(stream, [*OK, (b"x-stream", b"%d" % stream), (b"server", b"x")], True)
        heads = connection.sent(raw.HEADERS)

        assert [each.get(b"x-stream") for each in heads] == [b"%d" % stream for stream in range(1, 41, 2)]
        assert connection.peer.decoder.header_table_size <= min(size, 65536)
