"""Streams of an engine, driven by raw frames: heads, bodies, trailers, ends, resets, GOAWAY, on both sides."""

from __future__ import annotations

import pytest
from hpack import Decoder, NeverIndexedHeaderTuple

from hostmesh.protocol.h2.engine import (
    CANCEL,
    COMPRESSION_ERROR,
    FRAME_SIZE_ERROR,
    INTERNAL_ERROR,
    MAX_STREAM,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    Pairs,
)
from hostmesh.protocol.h2.heads import H2RequestHead, request_pairs
from tests import h2_raw as raw
from tests.h2_raw import block, data, get, headers, literal, raw_frame, rst, settings
from tests.h2_world import Connection, EngineClass

OK = [(b":status", b"200")]
GET = get()
POST = get(method=b"POST")
TRAILERS = [(b"grpc-status", b"0")]


def server(engine_class: EngineClass, **more: object) -> Connection:
    return Connection(engine_class, **more)  # type: ignore[arg-type]


def client(engine_class: EngineClass, *entries: tuple[int, int], **more: object) -> Connection:
    """A connection to an endpoint that has sent these settings."""
    connection = Connection(engine_class, client_side=True, **more)  # type: ignore[arg-type]
    if entries:
        connection.feed(settings(*entries))
        connection.frames()
        connection.heard.events.clear()
    return connection


# -- the beginning ----------------------------------------------------------------------------------------------------


def test_a_server_greets_with_its_settings(engine_class: EngineClass) -> None:
    """What is announced is what the settings say; extended CONNECT only where it is enabled."""
    plain = server(engine_class)
    rich = server(engine_class, enable_connect_protocol=True, initial_window=1000, max_concurrent_streams=7)

    def announced(connection: Connection) -> dict[int, int]:
        payload = connection.greeting[0].payload
        return {
            int.from_bytes(payload[at : at + 2], "big"): int.from_bytes(payload[at + 2 : at + 6], "big")
            for at in range(0, len(payload), 6)
        }

    assert announced(plain) | {raw.MAX_HEADER_LIST_SIZE: 65536, raw.MAX_CONCURRENT_STREAMS: 100} == announced(
        plain
    )
    assert raw.ENABLE_CONNECT_PROTOCOL not in announced(plain)
    assert announced(rich) | {
        8: 1,
        raw.INITIAL_WINDOW_SIZE: 1000,
        raw.MAX_CONCURRENT_STREAMS: 7,
    } == announced(rich)


def test_h10_a_client_disables_push(engine_class: EngineClass) -> None:
    """H10: the preface, then SETTINGS with ENABLE_PUSH 0."""
    connection = Connection(engine_class, client_side=True, started=False)
    connection.engine.start()
    sent = connection.engine.take()

    assert sent.startswith(raw.PREFACE)
    assert b"\x00\x02\x00\x00\x00\x00" in connection.peer.read(sent)[0].payload


def test_settings_are_acknowledged_and_pings_answered(engine_class: EngineClass) -> None:
    """Every SETTINGS gets its ACK and every PING its payload back; our own PING comes back to the listener."""
    connection = server(engine_class)
    connection.feed(settings((raw.MAX_FRAME_SIZE, 20000)), raw.ping(b"abcdefgh"))
    answers = connection.frames()
    connection.engine.ping(b"87654321")
    asked = connection.frames()
    connection.feed(raw.ping(b"87654321", flags=1))

    assert [(each.kind, each.flags, each.payload) for each in answers] == [
        (raw.SETTINGS, 1, b""),
        (raw.PING, 1, b"abcdefgh"),
    ]
    assert [(each.kind, each.flags, each.payload) for each in asked] == [(raw.PING, 0, b"87654321")]
    assert connection.heard.said("pong") == [("pong", b"87654321")]


BAD_SETTINGS = [
    ("push-2", (raw.ENABLE_PUSH, 2), PROTOCOL_ERROR),
    ("window", (raw.INITIAL_WINDOW_SIZE, 2**31), 3),
    ("small-frame", (raw.MAX_FRAME_SIZE, 16383), PROTOCOL_ERROR),
    ("large-frame", (raw.MAX_FRAME_SIZE, 2**24), PROTOCOL_ERROR),
    ("connect-2", (raw.ENABLE_CONNECT_PROTOCOL, 2), PROTOCOL_ERROR),
]


@pytest.mark.parametrize(
    ("entry", "code"), [case[1:] for case in BAD_SETTINGS], ids=[case[0] for case in BAD_SETTINGS]
)
def test_impossible_settings_end_the_connection(
    engine_class: EngineClass, entry: tuple[int, int], code: int
) -> None:
    """RFC 9113 6.5.2 names a code for each value that cannot be."""
    connection = server(engine_class)
    connection.feed(settings(entry))

    assert [each.code for each in connection.sent(raw.GOAWAY)] == [code]


def test_h10_an_endpoint_that_enables_push_is_refused(engine_class: EngineClass) -> None:
    """H10: a server may not set ENABLE_PUSH to 1 (RFC 9113 6.5.2)."""
    connection = Connection(engine_class, client_side=True)
    connection.feed(settings((raw.ENABLE_PUSH, 1)))

    assert [each.code for each in connection.sent(raw.GOAWAY)] == [PROTOCOL_ERROR]


# -- requests ---------------------------------------------------------------------------------------------------------


def test_a_request_without_a_body_is_one_event(engine_class: EngineClass) -> None:
    """HEADERS with END_STREAM: a head that ends; its answer ends the stream."""
    connection = server(engine_class)
    connection.request(1)
    open_before = connection.engine.open_streams
    connection.engine.send_head(1, [*OK, (b"server", b"x")], False)
    connection.engine.send_data(1, b"body", True)
    answer = connection.frames()

    assert connection.heard.events == [("head", 1, GET, True)]
    assert [(each.kind, each.end) for each in answer] == [(raw.HEADERS, False), (raw.DATA, True)]
    assert (answer[0].fields, answer[1].payload) == (((b":status", b"200"), (b"server", b"x")), b"body")
    assert (open_before, connection.engine.open_streams, connection.engine.last_peer_stream) == (1, 0, 1)


def test_a_body_and_trailers_are_events_in_order(engine_class: EngineClass) -> None:
    """DATA in pieces, padding taken off, then trailers that end the stream."""
    connection = server(engine_class)
    connection.request(1, POST, end=False)
    connection.feed(data(1, b"one"), data(1, b"two", padding=7), connection.peer.headers(1, TRAILERS))

    assert connection.heard.events == [
        ("head", 1, POST, False),
        ("data", 1, b"one", False),
        ("data", 1, b"two", False),
        ("trailers", 1, TRAILERS),
    ]


def test_an_empty_last_data_frame_ends_the_body(engine_class: EngineClass) -> None:
    """DATA without octets and with END_STREAM is the end; without it, it is nothing."""
    connection = server(engine_class)
    connection.request(1, POST, end=False)
    connection.feed(data(1, b""), data(1, b"", end=True))

    assert connection.heard.events == [("head", 1, POST, False), ("data", 1, b"", True)]


def test_frames_byte_by_byte_give_the_same_events(engine_class: EngineClass) -> None:
    """No event depends on how the bytes were cut."""
    events = []
    for size in (10_000, 1):
        connection = server(engine_class)
        sent = b"".join(
            [
                connection.peer.headers(1, POST, end=False),
                data(1, b"one", padding=3),
                connection.peer.headers(1, TRAILERS),
                connection.peer.headers(3, GET),
            ]
        )
        for at in range(0, len(sent), size):
            connection.feed(sent[at : at + size])
        events.append(connection.heard.events)

    assert events[0] == events[1]
    assert len(events[0]) == 4


def test_informational_heads_come_before_the_final_one(engine_class: EngineClass) -> None:
    """A server may send several 1xx, then the final head, data and trailers."""
    connection = server(engine_class)
    connection.request(1)
    engine = connection.engine
    engine.send_head(1, [(b":status", b"103"), (b"link", b"x")], False)
    engine.send_head(1, [(b":status", b"103")], False)
    engine.send_head(1, OK, False)
    engine.send_data(1, b"x", False)
    engine.send_trailers(1, TRAILERS)
    answer = connection.frames()

    assert [each.get(b":status") for each in answer] == [b"103", b"103", b"200", None, None]
    assert [each.end for each in answer] == [False, False, False, False, True]
    assert engine.open_streams == 0


def test_trailers_without_fields_are_an_empty_end(engine_class: EngineClass) -> None:
    """No trailers, no header block: the end is an empty DATA frame."""
    connection = server(engine_class)
    connection.request(1)
    connection.engine.send_head(1, OK, False)
    connection.engine.send_trailers(1, [])

    assert [(each.kind, each.end) for each in connection.frames()] == [(raw.HEADERS, False), (raw.DATA, True)]


def test_fields_that_must_not_be_indexed_are_sent_on_so(engine_class: EngineClass) -> None:
    """RFC 7541 6.2.3: a secret that a caller keeps out of tables is kept out of those towards the endpoint."""
    caller = server(engine_class)
    endpoint = client(engine_class)
    secret = b"\x10" + literal(b"authorization", b"secret")[1:]
    got: list[Pairs] = []
    caller.heard.on_head = lambda stream, pairs, end: got.append(pairs)  # type: ignore[method-assign]
    caller.feed(headers(1, block(GET) + secret))
    endpoint.engine.open(request_pairs(H2RequestHead(got[0], True)), True)
    sent = endpoint.engine.take()

    field = Decoder().decode(sent[9:], raw=True)[-1]
    assert tuple(field) == (b"authorization", b"secret")
    assert isinstance(field, NeverIndexedHeaderTuple)


def test_a_large_header_block_is_cut_into_continuations(engine_class: EngineClass) -> None:
    """A block beyond the peer's frame size goes on in CONTINUATION frames."""
    connection = server(engine_class)
    connection.request(1)
    long = [*OK, *[(b"x-%d" % n, bytes(range(33, 127)) * 40) for n in range(12)]]
    connection.engine.send_head(1, long, True)
    answer = connection.frames()

    assert [each.kind for each in answer][:2] == [raw.HEADERS, raw.CONTINUATION]
    assert answer[-1].fields == tuple(long)
    assert max(len(each.payload) for each in answer) <= 16384


def test_extended_connect_is_a_head_like_others(engine_class: EngineClass) -> None:
    """RFC 8441: with :protocol, where it was announced."""
    connect = [(b":method", b"CONNECT"), *GET[1:], (b":protocol", b"websocket")]
    taken = server(engine_class, enable_connect_protocol=True)
    taken.request(1, connect, end=False)
    refused = server(engine_class)
    refused.request(1, connect, end=False)

    assert taken.heard.events == [("head", 1, connect, False)]
    assert refused.resets() == [(1, PROTOCOL_ERROR)]


def test_sending_on_a_stream_that_is_gone_is_ignored(engine_class: EngineClass) -> None:
    """A session may be late: after a reset nothing of that stream leaves any more."""
    connection = server(engine_class)
    connection.request(1)
    connection.feed(rst(1))
    engine = connection.engine
    connection.frames()
    engine.send_head(1, OK, False)
    engine.send_data(1, b"x", True)
    engine.send_trailers(1, TRAILERS)
    engine.credit(1, 5)
    engine.reset(1, CANCEL)
    engine.reset(99, CANCEL)

    assert (engine.window(1), engine.take()) == (0, b"")


def test_the_upgraded_request_is_stream_1(engine_class: EngineClass) -> None:
    """After Upgrade: h2c the stream is half-closed, the client's settings hold, and its preface follows."""
    connection = Connection(engine_class, started=False)
    payload = settings((raw.INITIAL_WINDOW_SIZE, 3))[9:]
    connection.engine.start_upgraded(payload)
    window = connection.engine.window(1)
    connection.engine.send_head(1, OK, False)
    connection.engine.send_data(1, b"abc", False)
    connection.feed(raw.PREFACE, settings((raw.INITIAL_WINDOW_SIZE, 10)))
    connection.engine.send_data(1, b"defg", True)
    sent = connection.frames()

    assert (window, connection.engine.open_streams, connection.engine.last_peer_stream) == (3, 0, 1)
    assert [each.kind for each in sent] == [raw.SETTINGS, raw.HEADERS, raw.DATA, raw.SETTINGS, raw.DATA]


@pytest.mark.parametrize("payload", [b"12345", settings((raw.INITIAL_WINDOW_SIZE, 2**31))[9:]])
def test_bad_settings_in_an_upgrade_are_a_fault(engine_class: EngineClass, payload: bytes) -> None:
    """HTTP2-Settings that could not stand in a SETTINGS frame end the connection before it began."""
    connection = Connection(engine_class, started=False)

    with pytest.raises(Exception, match="HTTP2-Settings") as caught:
        connection.engine.start_upgraded(payload)

    assert caught.value.status == 400  # type: ignore[attr-defined]


# -- responses --------------------------------------------------------------------------------------------------------


def test_a_client_sends_requests_and_hears_answers(engine_class: EngineClass) -> None:
    """Odd stream ids, 1xx, head, data and trailers of each in their order."""
    connection = client(engine_class)
    first = connection.engine.open(GET, True)
    second = connection.engine.open(POST, False)
    connection.engine.send_data(second, b"body", True)
    sent = connection.frames()
    peer = connection.peer
    connection.feed(
        peer.headers(1, [(b":status", b"103")], end=False),
        peer.headers(3, OK, end=False),
        data(3, b"three", end=True),
        peer.headers(1, OK, end=False),
        data(1, b"one"),
        peer.headers(1, TRAILERS),
    )

    assert (first, second) == (1, 3)
    assert [(each.kind, each.stream, each.end) for each in sent] == [
        (raw.HEADERS, 1, True),
        (raw.HEADERS, 3, False),
        (raw.DATA, 3, True),
    ]
    assert connection.heard.events == [
        ("informational", 1, [(b":status", b"103")]),
        ("head", 3, OK, False),
        ("data", 3, b"three", True),
        ("head", 1, OK, False),
        ("data", 1, b"one", False),
        ("trailers", 1, TRAILERS),
    ]
    assert connection.engine.open_streams == 0


def test_a_trailers_only_response_is_a_head_that_ends(engine_class: EngineClass) -> None:
    """gRPC errors: HEADERS with END_STREAM."""
    connection = client(engine_class)
    connection.engine.open(POST, True)
    connection.feed(connection.peer.headers(1, [*OK, (b"grpc-status", b"5")]))

    assert connection.heard.events == [("head", 1, [*OK, (b"grpc-status", b"5")], True)]


def test_an_early_answer_leaves_our_half_open(engine_class: EngineClass) -> None:
    """The endpoint may answer and reset with NO_ERROR before the upload ended (RFC 9113 8.1)."""
    connection = client(engine_class)
    connection.engine.open(POST, False)
    connection.feed(connection.peer.headers(1, OK))
    open_between = connection.engine.open_streams
    connection.feed(rst(1, NO_ERROR))

    assert connection.heard.events == [("head", 1, OK, True), ("reset", 1, NO_ERROR)]
    assert (open_between, connection.engine.open_streams) == (1, 0)


def test_capacity_is_what_the_peer_allows(engine_class: EngineClass) -> None:
    """MAX_CONCURRENT_STREAMS minus those open; a stream that ends or is reset makes room."""
    connection = client(engine_class, (raw.MAX_CONCURRENT_STREAMS, 2))
    engine = connection.engine
    before = engine.capacity
    engine.open(GET, True)
    engine.open(GET, True)
    full = engine.capacity
    with pytest.raises(ValueError, match="no stream"):
        engine.open(GET, True)
    engine.reset(1, CANCEL)
    connection.feed(connection.peer.headers(3, OK))
    after = engine.capacity
    connection.feed(settings((raw.MAX_CONCURRENT_STREAMS, 0)))

    assert (before, full, after, engine.capacity) == (2, 0, 2, 0)
    assert connection.heard.said("settings") == [("settings",)]


def test_a_hundred_streams_are_opened_before_the_peer_has_spoken(engine_class: EngineClass) -> None:
    """Until its SETTINGS have come an endpoint is taken to allow what every endpoint should."""
    connection = Connection(engine_class, client_side=True, started=False)
    connection.engine.start()
    before = connection.engine.capacity
    connection.feed(settings())

    assert (before, connection.engine.capacity > 100_000) == (100, True)


def test_extended_connect_of_an_endpoint_is_known(engine_class: EngineClass) -> None:
    """RFC 8441: an endpoint says whether it takes it."""
    connection = client(engine_class)
    before = connection.engine.connect_protocol
    connection.feed(settings((raw.ENABLE_CONNECT_PROTOCOL, 1)))

    assert (before, connection.engine.connect_protocol) == (False, True)


# -- resets and closed streams ----------------------------------------------------------------------------------------


def test_a_reset_of_the_peer_is_heard_once(engine_class: EngineClass) -> None:
    """RST_STREAM ends the stream; another one for it is nothing."""
    connection = server(engine_class)
    connection.request(1, POST, end=False)
    connection.feed(data(1, b"x"))
    connection.feed(rst(1, CANCEL))
    connection.feed(rst(1, CANCEL))

    assert connection.heard.said("reset") == [("reset", 1, CANCEL)]
    assert (connection.engine.open_streams, connection.fault) == (0, None)


def test_a_reset_of_ours_is_sent_once_and_late_frames_are_dropped(engine_class: EngineClass) -> None:
    """What was on its way when we reset is no error; its octets go back to the connection's window."""
    connection = server(engine_class)
    connection.request(1, POST, end=False)
    connection.engine.reset(1, INTERNAL_ERROR)
    connection.engine.reset(1, INTERNAL_ERROR)
    resets = connection.resets()
    connection.feed(
        data(1, bytes(700)), connection.peer.headers(1, TRAILERS), raw.window_update(1, 5), rst(1, CANCEL)
    )
    answer = connection.frames()

    assert resets == [(1, INTERNAL_ERROR)]
    assert [(each.kind, each.stream, each.code) for each in answer] == [(raw.WINDOW_UPDATE, 0, 700)]
    assert (connection.heard.events, connection.fault) == ([("head", 1, POST, False)], None)


def test_late_header_blocks_still_move_the_table(engine_class: EngineClass) -> None:
    """HPACK goes on: a dropped block is decoded, or the next head would be read wrong."""
    connection = server(engine_class)
    connection.request(1, POST, end=False)
    connection.engine.reset(1, CANCEL)
    connection.feed(connection.peer.headers(1, [(b"x-late", b"value")]))
    connection.request(3, [*GET, (b"x-late", b"value")])

    assert connection.heard.events[-1] == ("head", 3, [*GET, (b"x-late", b"value")], True)


IDLE = [
    ("data", data(1, b"x")),
    ("rst", rst(1)),
    ("window-update", raw.window_update(1, 1)),
    ("data-on-even", data(2, b"x")),
    ("headers-on-even", headers(2, block(GET))),
    ("huge-window-update", raw.window_update(2**31 - 1, 1)),
]


@pytest.mark.parametrize("sent", [case[1] for case in IDLE], ids=[case[0] for case in IDLE])
def test_frames_on_idle_streams_end_the_connection(engine_class: EngineClass, sent: bytes) -> None:
    """RFC 9113 5.1: on a stream that was never opened only HEADERS and PRIORITY may come."""
    connection = server(engine_class)
    connection.feed(sent)

    assert [each.code for each in connection.sent(raw.GOAWAY)] == [PROTOCOL_ERROR]
    assert connection.heard.events == []


def test_priority_on_any_stream_is_ignored(engine_class: EngineClass) -> None:
    """RFC 9113 5.3 leaves PRIORITY without a meaning; CVE-2019-9513 was about giving it one."""
    connection = server(engine_class)
    connection.request(1)
    connection.feed(*[raw_frame(raw.PRIORITY, 0, stream, bytes(5)) for stream in (1, 3, 99, 2)])

    assert (connection.frames(), connection.fault) == ([], None)


def test_a_priority_of_the_wrong_size_is_an_error_of_its_stream(engine_class: EngineClass) -> None:
    """RFC 9113 6.3; without a stream to reset it is the connection's."""
    connection = server(engine_class)
    connection.request(1)
    connection.feed(raw_frame(raw.PRIORITY, 0, 1, bytes(4)))
    resets = connection.resets()
    connection.feed(raw_frame(raw.PRIORITY, 0, 9, bytes(4)))

    assert resets == [(1, FRAME_SIZE_ERROR)]
    assert [each.code for each in connection.sent(raw.GOAWAY)] == [FRAME_SIZE_ERROR]


@pytest.mark.parametrize("late", [data(1, b"x"), headers(1, block(TRAILERS))], ids=["data", "headers"])
def test_frames_after_end_stream_reset_a_half_closed_stream(engine_class: EngineClass, late: bytes) -> None:
    """RFC 9113 5.1: half-closed (remote), STREAM_CLOSED as an error of the stream."""
    connection = server(engine_class)
    connection.request(1)
    connection.feed(late)

    assert connection.heard.said("fault") == [("fault", 1, "bad-request", 400, STREAM_CLOSED)]
    assert (1, STREAM_CLOSED) in connection.resets()


@pytest.mark.parametrize("late", [data(1, b"x"), headers(1, block(GET))], ids=["data", "headers"])
def test_frames_after_both_ends_end_the_connection(engine_class: EngineClass, late: bytes) -> None:
    """RFC 9113 5.1: closed by END_STREAM on both sides, STREAM_CLOSED as an error of the connection."""
    connection = server(engine_class)
    connection.request(1)
    connection.engine.send_head(1, OK, True)
    connection.frames()
    connection.feed(late)

    assert [each.code for each in connection.sent(raw.GOAWAY)] == [STREAM_CLOSED]


@pytest.mark.parametrize("late", [data(1, b"x"), headers(1, block(TRAILERS))], ids=["data", "headers"])
def test_frames_after_the_peers_own_reset_are_errors_of_the_stream(
    engine_class: EngineClass, late: bytes
) -> None:
    """RFC 9113 5.1: after its RST_STREAM a peer may send nothing but PRIORITY."""
    connection = server(engine_class)
    connection.request(1, POST, end=False)
    connection.feed(rst(1))
    connection.feed(late)

    assert connection.resets() == [(1, STREAM_CLOSED)]
    assert connection.fault is None


def test_h8_stream_ids_must_grow(engine_class: EngineClass) -> None:
    """H8: a lower id than before, never used or used, ends the connection."""
    connection = server(engine_class)
    connection.request(5)
    connection.request(3)

    assert [(each.code, each.last) for each in connection.sent(raw.GOAWAY)] == [(PROTOCOL_ERROR, 5)]


def test_h8_the_largest_stream_id_is_served(engine_class: EngineClass) -> None:
    """H8: 2**31-1 is an id like others, and the last."""
    connection = server(engine_class)
    connection.request(MAX_STREAM)
    connection.engine.send_head(MAX_STREAM, OK, True)
    answer = connection.frames()
    connection.request(1)

    assert (answer[0].stream, answer[0].get(b":status")) == (MAX_STREAM, b"200")
    assert [each.code for each in connection.sent(raw.GOAWAY)] == [PROTOCOL_ERROR]


def test_the_reserved_bit_of_a_stream_id_is_ignored(engine_class: EngineClass) -> None:
    """RFC 9113 4.1: its value is undefined and must be ignored."""
    connection = server(engine_class)
    connection.feed(headers(0x80000001, block(GET)))

    assert connection.heard.events == [("head", 1, GET, True)]


def test_second_headers_that_do_not_end_are_malformed(engine_class: EngineClass) -> None:
    """RFC 9113 8.1: trailers must end the stream."""
    connection = server(engine_class)
    connection.request(1, POST, end=False)
    connection.feed(connection.peer.headers(1, TRAILERS, end=False))

    assert connection.heard.said("fault") == [("fault", 1, "bad-request", 400, PROTOCOL_ERROR)]
    assert connection.resets() == [(1, PROTOCOL_ERROR)]


def test_an_endpoint_may_not_open_streams(engine_class: EngineClass) -> None:
    """HEADERS on a stream we did not open, odd or even, end the connection."""
    for stream in (1, 2, 7):
        connection = client(engine_class)
        connection.feed(headers(stream, block(OK)))

        assert [each.code for each in connection.sent(raw.GOAWAY)] == [PROTOCOL_ERROR], stream


def test_data_before_the_head_resets_the_stream(engine_class: EngineClass) -> None:
    """An endpoint's DATA without HEADERS is malformed; its octets go back to the connection."""
    connection = client(engine_class)
    connection.engine.open(GET, True)
    connection.feed(data(1, bytes(900)))

    sent = connection.frames()
    assert connection.heard.said() == [("fault", 1, "bad-response", 502, PROTOCOL_ERROR)]
    assert [(each.kind, each.stream) for each in sent if each.kind != raw.HEADERS] == [
        (raw.WINDOW_UPDATE, 0),
        (raw.RST_STREAM, 1),
    ]


def test_h10_push_promise_ends_the_connection(engine_class: EngineClass) -> None:
    """H10: push is disabled, so a PUSH_PROMISE is a connection error."""
    connection = client(engine_class)
    connection.engine.open(GET, True)
    connection.feed(raw_frame(raw.PUSH_PROMISE, 4, 1, b"\0\0\0\2" + block(GET)))

    assert [each.code for each in connection.sent(raw.GOAWAY)] == [PROTOCOL_ERROR]
    assert connection.fault is not None
    assert connection.fault.status == 502


def test_bad_hpack_ends_the_connection(engine_class: EngineClass) -> None:
    """A block that cannot be decoded leaves the table unknown: COMPRESSION_ERROR (RFC 9113 4.3)."""
    for encoded in (
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x80",
        b"\x40\x85abc",
        b"\x3f\xe2\x1f\x82",
    ):
        connection = server(engine_class)
        connection.feed(headers(1, encoded))

        assert [each.code for each in connection.sent(raw.GOAWAY)] == [COMPRESSION_ERROR], encoded


# -- too many streams, and GOAWAY -------------------------------------------------------------------------------------


def test_a_stream_over_the_limit_is_refused_and_others_go_on(engine_class: EngineClass) -> None:
    """Over MAX_CONCURRENT_STREAMS: REFUSED_STREAM, nothing reported, its DATA ignored, the table in step."""
    connection = server(engine_class, max_concurrent_streams=2)
    for stream in (1, 3):
        connection.request(stream, POST, end=False)
    connection.feed(connection.peer.headers(5, [*POST, (b"x-new", b"1")], end=False), data(5, b"x"))
    refused = connection.resets()
    connection.feed(data(1, b"", end=True))
    connection.engine.send_head(1, OK, True)
    connection.request(7, [*GET, (b"x-new", b"1")])

    assert refused == [(5, REFUSED_STREAM)]
    assert [event[1] for event in connection.heard.said("head")] == [1, 3, 7]
    assert (connection.engine.last_peer_stream, connection.fault) == (7, None)


def test_a_graceful_goaway_refuses_nothing_yet(engine_class: EngineClass) -> None:
    """RFC 9113 6.8: the first notice names 2**31-1, the second the last stream; streams above it are ignored."""
    connection = server(engine_class)
    connection.request(1)
    connection.engine.goaway(NO_ERROR, b"draining", MAX_STREAM)
    first = connection.sent(raw.GOAWAY)[0]
    connection.request(3)
    connection.engine.goaway(NO_ERROR)
    second = connection.sent(raw.GOAWAY)[0]
    connection.request(5, POST, end=False)
    connection.feed(data(5, b"late"), rst(5))
    for stream in (1, 3):
        connection.engine.send_head(stream, OK, True)

    assert (first.last, first.payload[8:], second.last) == (MAX_STREAM, b"draining", 3)
    assert [event[1] for event in connection.heard.said("head")] == [1, 3]
    assert [each.stream for each in connection.sent(raw.HEADERS)] == [1, 3]
    assert (connection.engine.open_streams, connection.fault) == (0, None)


def test_the_last_stream_of_a_goaway_never_grows(engine_class: EngineClass) -> None:
    """RFC 9113 6.8: a later GOAWAY may not name a higher stream."""
    connection = server(engine_class)
    connection.request(1)
    connection.engine.goaway(NO_ERROR)
    connection.request(3)
    connection.engine.goaway(INTERNAL_ERROR, last=7)

    assert [each.last for each in connection.sent(raw.GOAWAY)] == [1, 1]


def test_after_a_goaway_of_the_endpoint_streams_finish_and_none_is_opened(engine_class: EngineClass) -> None:
    """Streams up to ``last`` go on; those above are closed at once; capacity is 0."""
    connection = client(engine_class)
    for _ in range(3):
        connection.engine.open(GET, True)
    connection.feed(raw.goaway(3, NO_ERROR, b"bye"))
    open_after = connection.engine.open_streams
    connection.feed(
        connection.peer.headers(1, OK), connection.peer.headers(3, OK), connection.peer.headers(5, OK)
    )

    assert connection.heard.said("goaway", "head") == [
        ("goaway", 3, NO_ERROR, b"bye"),
        ("head", 1, OK, True),
        ("head", 3, OK, True),
    ]
    assert (open_after, connection.engine.open_streams, connection.engine.capacity) == (2, 0, 0)
    assert connection.fault is None


def test_a_callers_goaway_changes_nothing_for_its_own_streams(engine_class: EngineClass) -> None:
    """A caller's GOAWAY is about streams we would open; its requests are still answered."""
    connection = server(engine_class)
    connection.request(1)
    connection.feed(raw.goaway(0, NO_ERROR))
    connection.engine.send_head(1, OK, True)

    assert connection.heard.events[-1] == ("goaway", 0, NO_ERROR, b"")
    assert [each.get(b":status") for each in connection.frames()] == [b"200"]


def test_after_a_fault_nothing_more_is_taken(engine_class: EngineClass) -> None:
    """One GOAWAY, and then silence, whatever still comes."""
    connection = server(engine_class)
    connection.request(1)
    connection.feed(data(9, b"x"))
    connection.request(3)
    connection.feed(data(9, b"x"))

    assert [(each.code, each.last) for each in connection.sent(raw.GOAWAY)] == [(PROTOCOL_ERROR, 1)]
    assert [event[0] for event in connection.heard.events] == ["head"]


def test_a_listener_may_act_from_within_its_calls(engine_class: EngineClass) -> None:
    """Answering, resetting and opening from inside a call is how sessions work."""
    connection = server(engine_class)

    def answer(event: tuple[object, ...]) -> None:
        if event[0] == "head":
            stream = event[1]
            assert isinstance(stream, int)
            if stream == 1:
                connection.engine.send_head(stream, OK, True)
            else:
                connection.engine.reset(stream, CANCEL)

    connection.heard.on_event = answer
    connection.feed(
        connection.peer.headers(1, GET), connection.peer.headers(3, POST, end=False), data(3, b"x", end=True)
    )

    sent = [(each.kind, each.stream) for each in connection.frames() if each.kind != raw.WINDOW_UPDATE]
    assert sent == [(raw.HEADERS, 1), (raw.RST_STREAM, 3)]
    assert (connection.engine.open_streams, connection.fault) == (0, None)
