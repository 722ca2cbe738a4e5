"""The rows of the hardening list that an HTTP/2 engine answers for, each named by its id (H1-H10, F15-F19)."""

from __future__ import annotations

import tracemalloc

import pytest

from hostmesh.protocol.h2.budgets import DEFAULT_BUDGETS, Budgets
from hostmesh.protocol.h2.engine import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    INTERNAL_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
)
from tests import h2_raw as raw
from tests.h2_raw import block, data, get, headers, literal, raw_frame, rst, settings, window_update
from tests.h2_world import Connection, EngineClass

OK = [(b":status", b"200")]
GET = get()
POST = get(method=b"POST")
LIMIT = DEFAULT_BUDGETS.max_fields


def calmed(connection: Connection, reason: str) -> bool:
    """The connection ended for this reason, with ENHANCE_YOUR_CALM."""
    assert connection.fault is not None
    assert [each.code for each in connection.sent(raw.GOAWAY)] == [ENHANCE_YOUR_CALM]
    return connection.fault.reason.value == reason


# -- H1 and H2: resets ------------------------------------------------------------------------------------------------


def test_h1_headers_and_rst_in_one_read_are_not_reported(engine_class: EngineClass) -> None:
    """H1: what is reset in the same read was never asked for; others of that read are served."""
    connection = Connection(engine_class)
    peer = connection.peer
    connection.feed(
        peer.headers(1, GET),
        peer.headers(3, POST, end=False),
        data(3, b"body"),
        rst(3),
        peer.headers(5, GET),
        rst(1),
    )

    assert connection.heard.events == [("head", 5, GET, True)]
    assert (connection.engine.open_streams, connection.fault) == (1, None)


def test_h1_a_reset_in_a_later_read_is_reported(engine_class: EngineClass) -> None:
    """H1: what had been reported is also reported as reset."""
    connection = Connection(engine_class)
    connection.request(1)
    connection.feed(rst(1))

    assert connection.heard.events == [("head", 1, GET, True), ("reset", 1, CANCEL)]


@pytest.mark.parametrize("together", [True, False], ids=["one-read", "many-reads"])
def test_h1_rapid_reset_ends_the_connection(engine_class: EngineClass, together: bool) -> None:
    """H1: CVE-2023-44487: the 101st stream that is reset unanswered within 10 s."""
    connection = Connection(engine_class)
    parts = [connection.peer.headers(stream, GET) + rst(stream) for stream in range(1, 1001, 2)]
    if together:
        connection.feed(*parts)
    else:
        for part in parts:
            connection.feed(part)

    assert calmed(connection, "limit-resets")
    assert (connection.heard.said("head"), connection.engine.last_peer_stream) == ([], 201)


def test_h1_resets_after_the_answer_began_are_free(engine_class: EngineClass) -> None:
    """H1: leaving a stream whose answer has begun is how streaming calls end."""
    connection = Connection(engine_class)
    for stream in range(1, 1001, 2):
        connection.request(stream)
        connection.engine.send_head(stream, OK, False)
        connection.feed(rst(stream))

    assert (connection.fault, connection.engine.open_streams) == (None, 0)


def test_h1_resets_spread_over_time_are_free(engine_class: EngineClass) -> None:
    """H1: deadlines of some callers pass; nine a second among many answered streams are no attack."""
    connection = Connection(engine_class)
    for stream in range(1, 2001, 2):
        connection.now += 0.05
        connection.request(stream)
        if stream % 3:
            connection.engine.send_head(stream, OK, True)
        else:
            connection.feed(rst(stream))

    assert connection.fault is None


def test_h1_deadlines_that_pass_are_free(engine_class: EngineClass) -> None:
    """H1: behind a proxy the deadlines of all callers end on one connection: ninety a second, each a second old."""
    connection = Connection(engine_class)
    for stream in range(1, 2001, 2):
        connection.now += 0.011
        connection.request(stream)
        if stream > 190:
            connection.feed(rst(stream - 190))

    assert (connection.fault, len(connection.heard.said("reset"))) == (None, 905)


def test_h1_a_slow_flood_of_resets_ends_the_connection(engine_class: EngineClass) -> None:
    """H1: below the rate, but more than half of more than 200 streams."""
    connection = Connection(engine_class)
    stream = -1
    while connection.fault is None and stream < 2000:
        stream += 2
        connection.now += 1.0
        connection.request(stream)
        connection.feed(rst(stream))

    assert calmed(connection, "limit-resets")
    assert stream == 401


MADE = [
    ("window-update-of-zero", window_update(1, 0)),
    ("window-overflow", window_update(1, 2**31 - 1)),
    ("data-after-end", data(1, b"x")),
    ("headers-after-end", headers(1, block(GET))),
    ("priority-size", raw_frame(raw.PRIORITY, 0, 1, b"1234")),
]


def renumbered(sent: bytes, stream: int) -> bytes:
    return sent[:5] + stream.to_bytes(4, "big") + sent[9:]


@pytest.mark.parametrize("provocation", [case[1] for case in MADE], ids=[case[0] for case in MADE])
def test_h2_resets_that_the_peer_provokes_count(engine_class: EngineClass, provocation: bytes) -> None:
    """H2: CVE-2025-8671: streams that we must reset for the caller's errors are in the same budget."""
    connection = Connection(engine_class)
    stream = -1
    while connection.fault is None and stream < 1000:
        stream += 2
        connection.request(stream)
        connection.feed(renumbered(provocation, stream))

    assert calmed(connection, "limit-resets")
    assert stream == 201
    assert connection.engine.open_streams == 0


def test_h2_malformed_requests_count(engine_class: EngineClass) -> None:
    """H2: so do requests that are refused as malformed, which never reach anybody."""
    connection = Connection(engine_class)
    for stream in range(1, 1001, 2):
        connection.request(stream, [*GET, (b"connection", b"close")])

    assert calmed(connection, "limit-resets")
    assert connection.heard.said("head") == []


def test_h2_resets_of_a_session_count_only_with_blame(engine_class: EngineClass) -> None:
    """H2: what a failing endpoint makes us reset is not the caller's; what the caller's errors make us reset is."""
    failing = Connection(engine_class)
    hostile = Connection(engine_class)
    for stream in range(1, 1001, 2):
        failing.request(stream)
        failing.engine.reset(stream, INTERNAL_ERROR)
        hostile.request(stream)
        hostile.engine.reset(stream, PROTOCOL_ERROR)

    assert failing.fault is None
    assert calmed(hostile, "limit-resets")


def test_h10_an_endpoint_may_refuse_streams(engine_class: EngineClass) -> None:
    """H10: an endpoint resets only what we opened; refusing is its right."""
    connection = Connection(engine_class, client_side=True)
    for _ in range(1000):
        stream = connection.engine.open(GET, True)
        connection.feed(rst(stream, REFUSED_STREAM))

    assert (connection.fault, connection.engine.open_streams) == (None, 0)


def test_h10_an_endpoint_that_breaks_streams_is_left(engine_class: EngineClass) -> None:
    """H10: malformed answers count for an endpoint as malformed requests do for a caller."""
    connection = Connection(engine_class, client_side=True)
    while connection.fault is None and connection.engine.capacity:
        stream = connection.engine.open(GET, True)
        connection.feed(connection.peer.headers(stream, [*OK, (b"connection", b"x")]))

    assert calmed(connection, "limit-resets")
    assert len(connection.heard.said("fault")) == 101
    assert connection.heard.errors[0].status == 502


# -- H3: CONTINUATION floods ------------------------------------------------------------------------------------------


def test_h3_a_continuation_flood_ends_the_connection(engine_class: EngineClass) -> None:
    """H3: CVE-2024-27316: nine CONTINUATION frames, or 16 KiB of block, and nothing was reported."""
    flood = Connection(engine_class)
    flood.feed(headers(1, block(GET), flags=0), *[raw.continuation(1, b"")] * 9)
    large = Connection(engine_class)
    large.feed(headers(1, bytes(16384), flags=0), raw.continuation(1, b"x"))

    assert calmed(flood, "limit-header-bytes")
    assert calmed(large, "limit-header-bytes")
    assert flood.heard.events + large.heard.events == []


def test_h3_the_time_of_an_incomplete_block_is_known(engine_class: EngineClass) -> None:
    """H3: ``headers_since`` is what a session needs to end a block that does not."""
    connection = Connection(engine_class)
    before = connection.engine.headers_since
    connection.now = 7.0
    connection.feed(headers(1, block(GET), flags=0))
    connection.now = 9.0
    connection.feed(raw.continuation(1, b""))
    during = connection.engine.headers_since
    connection.feed(raw.continuation(1, b"", last=True))

    assert (before, during, connection.engine.headers_since) == (None, 7.0, None)
    assert connection.heard.said("head") == [("head", 1, GET, True)]


# -- H4 and H5: header lists ------------------------------------------------------------------------------------------


def bomb(size: int = 4000, repeats: int = 20) -> bytes:
    """One large field put into the table, then named again and again: HPACK's bomb."""
    return block(GET) + b"\x40" + literal(b"x-bomb", b"b" * size)[1:] + b"\xbe" * repeats


def test_h4_an_hpack_bomb_is_answered_431_and_the_connection_ends(engine_class: EngineClass) -> None:
    """H4: CVE-2016-6581: 4 KiB that decode to more than 64 KiB; the answer leaves before the GOAWAY."""
    connection = Connection(engine_class)
    connection.request(1, POST, end=False)

    def answer(event: tuple[object, ...]) -> None:
        if event[0] == "fault":
            connection.engine.send_head(3, [(b":status", b"431")], True)

    connection.heard.on_event = answer
    connection.feed(headers(3, bomb()))
    sent = connection.frames()

    assert connection.heard.said("fault") == [("fault", 3, "limit-header-bytes", 431, NO_ERROR)]
    assert [each.get(b":status") or each.code for each in sent] == [b"431", ENHANCE_YOUR_CALM]
    assert connection.fault is not None
    assert connection.fault.reason.value == "limit-header-bytes"


def test_h4_decoding_stops_at_the_limit(engine_class: EngineClass) -> None:
    """H4: 12,000 references to a 4 KB field would be 48 MB: no more than the limit is ever built."""
    connection = Connection(engine_class)
    tracemalloc.start()
    connection.feed(headers(1, bomb(repeats=12_000)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert connection.fault is not None
    assert peak < 1_000_000


def test_h4_a_list_of_64_kib_passes(engine_class: EngineClass) -> None:
    """H4: the limit is on the decoded list, 32 octets counted for each field."""
    connection = Connection(engine_class)
    connection.feed(headers(1, bomb(size=3900, repeats=15)))

    assert [event[0] for event in connection.heard.events] == ["head"]


def test_h4_a_bomb_from_an_endpoint_ends_its_connection(engine_class: EngineClass) -> None:
    """H4, H10: the stream is told, then the connection ends."""
    connection = Connection(engine_class, client_side=True)
    connection.engine.open(GET, True)
    encoded = block(OK) + b"\x40" + literal(b"x-bomb", b"b" * 4000)[1:] + b"\xbe" * 20
    connection.feed(headers(1, encoded))

    assert connection.heard.said("fault") == [("fault", 1, "limit-header-bytes", 502, ENHANCE_YOUR_CALM)]
    assert calmed(connection, "limit-header-bytes")


def test_h5_too_many_fields_are_answered_431(engine_class: EngineClass) -> None:
    """H5: CVE-2026-49975: the count of fields is bounded, not only their octets; the connection lives."""
    connection = Connection(engine_class)
    few = [*GET, *[(b"a", b"")] * (LIMIT - len(GET))]
    connection.request(1, few)
    connection.request(3, [*few, (b"a", b"")], end=False)
    connection.feed(data(3, b"dropped"))
    connection.engine.send_head(3, [(b":status", b"431")], False)
    connection.engine.send_data(3, b"", True)
    connection.engine.reset(3, NO_ERROR)
    connection.request(5)

    assert [event[:2] for event in connection.heard.events] == [("head", 1), ("fault", 3), ("head", 5)]
    assert connection.heard.said("fault") == [("fault", 3, "limit-header-count", 431, NO_ERROR)]
    assert (connection.engine.open_streams, connection.fault) == (2, None)


def test_h5_cookie_crumbs_are_fields(engine_class: EngineClass) -> None:
    """H5: crumbs count each, before they are joined."""
    connection = Connection(engine_class)
    connection.request(1, [*GET, *[(b"cookie", b"a=b")] * LIMIT])

    assert connection.heard.said("fault") == [("fault", 1, "limit-header-count", 431, NO_ERROR)]


def test_h5_too_many_fields_again_and_again_end_the_connection(engine_class: EngineClass) -> None:
    """H5, H2: heads over a limit count as errors of the peer."""
    connection = Connection(engine_class)

    def answer(event: tuple[object, ...]) -> None:
        if event[0] == "fault":
            stream = event[1]
            assert isinstance(stream, int)
            connection.engine.send_head(stream, [(b":status", b"431")], True)

    connection.heard.on_event = answer
    for stream in range(1, 1001, 2):
        connection.request(stream, [*GET, *[(b"a", b"")] * LIMIT])

    assert connection.fault is not None
    assert connection.fault.reason.value == "limit-resets"


def test_h5_too_many_fields_from_an_endpoint_reset_the_stream(engine_class: EngineClass) -> None:
    """H5, H10: in an answer and in its trailers."""
    connection = Connection(engine_class, client_side=True)
    for _ in range(2):
        connection.engine.open(GET, True)
    many = [(b"a", b"")] * (LIMIT + 1)
    connection.feed(
        connection.peer.headers(1, [*OK, *many]),
        connection.peer.headers(3, OK, end=False),
        connection.peer.headers(3, many),
    )

    assert connection.heard.said("fault") == [
        ("fault", 1, "limit-header-count", 502, ENHANCE_YOUR_CALM),
        ("fault", 3, "limit-header-count", 502, ENHANCE_YOUR_CALM),
    ]
    assert connection.fault is None


def test_h5_at_most_the_announced_streams_are_held(engine_class: EngineClass) -> None:
    """H5: 100 streams, the rest is refused: what one connection pins is bounded."""
    connection = Connection(engine_class)
    for stream in range(1, 301, 2):
        connection.request(stream, POST, end=False)

    assert connection.engine.open_streams == 100
    assert connection.resets() == [(stream, REFUSED_STREAM) for stream in range(201, 301, 2)]


def test_h5_ignoring_the_announced_limit_again_and_again_ends_the_connection(
    engine_class: EngineClass,
) -> None:
    """H5, H2: who has acknowledged the limit and opens more, over and over, is at fault."""
    connection = Connection(engine_class)
    for stream in range(1, 1001, 2):
        connection.request(stream, POST, end=False)

    assert connection.fault is not None
    assert connection.fault.reason.value == "limit-resets"


def test_h5_streams_refused_before_the_limit_was_known_are_nobodys_fault(engine_class: EngineClass) -> None:
    """H5: a client may open many streams before our SETTINGS have reached it."""
    connection = Connection(engine_class, started=False)
    connection.engine.start()
    connection.feed(raw.PREFACE, settings())
    for stream in range(1, 1001, 2):
        connection.request(stream, POST, end=False)

    assert (connection.fault, connection.engine.open_streams) == (None, 100)


# -- H6: control frames -----------------------------------------------------------------------------------------------

FLOODS = [
    ("settings", settings()),
    ("ping", raw.ping()),
    ("priority", raw_frame(raw.PRIORITY, 0, 1, bytes(5))),
    ("empty-data", data(1, b"")),
    ("window-update", window_update(0, 1)),
    ("stream-window-update", window_update(1, 1)),
    ("rst-of-closed", rst(3)),
    ("window-update-of-closed", window_update(3, 1)),
    ("unknown-type", raw_frame(0xFB, 0, 0, b"x")),
]


@pytest.mark.parametrize("flood", [case[1] for case in FLOODS], ids=[case[0] for case in FLOODS])
def test_h6_control_frame_floods_end_the_connection(engine_class: EngineClass, flood: bytes) -> None:
    """H6: CVE-2019-9512 and relatives: more than 1,000 frames at once that carry nothing."""
    connection = Connection(engine_class)
    connection.request(1, POST, end=False)
    connection.request(3, POST, end=False)
    connection.engine.reset(3, CANCEL)
    connection.frames()
    connection.feed(flood * 1100)

    assert calmed(connection, "limit-control-frames")


def test_h6_late_data_is_counted(engine_class: EngineClass) -> None:
    """H6: DATA for a stream that we reset is dropped, but not for ever."""
    connection = Connection(engine_class)
    connection.request(3, POST, end=False)
    connection.engine.reset(3, CANCEL)
    connection.frames()
    connection.feed(data(3, b"x") * 1100)

    assert calmed(connection, "limit-control-frames")


def test_h6_the_output_of_a_flood_is_bounded(engine_class: EngineClass) -> None:
    """H6: CVE-2019-9512: what an unread flood makes us hold is known and small."""
    connection = Connection(engine_class)
    connection.feed(raw.ping() * 1100)

    assert connection.engine.blocked_output < 20_000


def test_h6_a_client_that_downloads_much_may_update_often(engine_class: EngineClass) -> None:
    """H6: two updates for each DATA frame of ours are what many clients send, 5,000 times in a second."""
    connection = Connection(engine_class)
    connection.request(1)
    connection.engine.send_head(1, OK, False)
    for _ in range(5000):
        connection.engine.send_data(1, bytes(1000), False)
        connection.feed(window_update(0, 1000), window_update(1, 1000))
        connection.engine.take()

    assert connection.fault is None


# -- H8 and H9: ids and memory ----------------------------------------------------------------------------------------


def test_h8_a_connection_is_exhausted_after_its_streams(engine_class: EngineClass) -> None:
    """H8: after so many streams it is time for a graceful GOAWAY; those that still come are served."""
    connection = Connection(engine_class, budgets=Budgets(max_streams=3))
    seen = []
    for stream in (1, 3, 5, 7):
        connection.request(stream)
        connection.engine.send_head(stream, OK, True)
        seen.append(connection.engine.exhausted)

    assert seen == [False, False, True, True]
    assert [event[0] for event in connection.heard.events] == ["head"] * 4
    assert DEFAULT_BUDGETS.max_streams == 1_000_000


def test_h8_a_client_stops_when_ids_are_used_up(engine_class: EngineClass) -> None:
    """H8: after stream 2**31-1 no more can be opened, and the capacity says so."""
    connection = Connection(engine_class, client_side=True)
    connection.engine._next = 2**31 - 1  # type: ignore[attr-defined]
    last = connection.engine.open(GET, True)
    connection.feed(connection.peer.headers(last, OK))

    assert (last, connection.engine.capacity, connection.engine.open_streams) == (2**31 - 1, 0, 0)


def test_h9_memory_does_not_grow_with_streams(engine_class: EngineClass) -> None:
    """H9: closed streams are forgotten, reset ones after 1,000 more: 6,000 streams leave what 3,000 leave."""
    connection = Connection(engine_class)
    held = []

    def run(first: int, last: int) -> None:
        for stream in range(first, last, 2):
            connection.now += 0.2
            connection.request(stream, POST, end=stream % 4 == 1)
            if stream % 4 == 1:
                connection.engine.send_head(stream, OK, True)
            else:
                connection.engine.reset(stream, CANCEL)
            connection.frames()
            connection.heard.events.clear()

    run(1, 6001)
    tracemalloc.start()
    for number in range(2):
        run(6001 + number * 6000, 12_001 + number * 6000)
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()

    assert connection.fault is None
    assert held[1] - held[0] < 20_000


def test_h9_unknown_settings_are_not_kept(engine_class: EngineClass) -> None:
    """H9: a setting without a meaning leaves nothing behind, however many there are."""
    connection = Connection(engine_class, budgets=Budgets(control_burst=100_000))
    connection.feed(settings(*[(0x100 + number, 1) for number in range(2000)]))
    tracemalloc.start()
    for page in range(1, 25):
        connection.feed(settings(*[(0x100 + page * 2000 + number, 1) for number in range(2000)]))
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert connection.fault is None
    assert held < 50_000


# -- F15-F19 ----------------------------------------------------------------------------------------------------------

MALFORMED = [
    ("F15-crlf-in-value", [*GET, (b"x", b"a\r\nevil: 1")]),
    ("F15-lf-in-path", get(b"/\nx")),
    ("F15-space-in-path", get(b"/a b")),
    ("F15-crlf-in-method", get(method=b"GET\r\n")),
    ("F15-nul-in-authority", get(authority=b"we\0b")),
    ("F15-colon-in-name", [*GET, (b"x:y", b"1")]),
    ("F15-upper-case-name", [*GET, (b"X", b"1")]),
    ("F16-length-and-no-body", [*GET, (b"content-length", b"5")]),
    ("F17-connection", [*GET, (b"connection", b"close")]),
    ("F17-transfer-encoding", [*GET, (b"transfer-encoding", b"chunked")]),
    ("F17-keep-alive", [*GET, (b"keep-alive", b"5")]),
    ("F17-upgrade", [*GET, (b"upgrade", b"h2c")]),
    ("F17-te", [*GET, (b"te", b"gzip")]),
]


@pytest.mark.parametrize("fields", [case[1] for case in MALFORMED], ids=[case[0] for case in MALFORMED])
def test_malformed_requests_are_errors_of_their_stream(
    engine_class: EngineClass, fields: list[tuple[bytes, bytes]]
) -> None:
    """F15, F16, F17: PROTOCOL_ERROR on the stream, nothing reported as a request, and the next one is served."""
    connection = Connection(engine_class)
    connection.feed(headers(1, block(fields)))
    connection.request(3)

    assert connection.heard.events[0][:2] == ("fault", 1)
    assert connection.heard.events[0][3:] == (400, PROTOCOL_ERROR)
    assert connection.heard.events[1:] == [("head", 3, GET, True)]
    assert connection.resets() == [(1, PROTOCOL_ERROR)]


@pytest.mark.parametrize(
    "rest",
    [
        (data(1, b"123456", end=True),),
        (data(1, b"1234", end=True),),
        (data(1, b"12345"), data(1, b"6")),
        (data(1, b"1234"), headers(1, block([(b"x", b"y")]))),
        (headers(1, block([(b"x", b"y")])),),
        (data(1, b"", end=True),),
    ],
    ids=["too-long", "too-short", "one-too-many", "short-with-trailers", "trailers-only", "empty"],
)
def test_f16_a_body_unlike_its_declared_length_resets_the_stream(
    engine_class: EngineClass, rest: tuple[bytes, ...]
) -> None:
    """F16: PROTOCOL_ERROR, and never an end that looks complete."""
    connection = Connection(engine_class)
    connection.request(1, [*POST, (b"content-length", b"5")], end=False)
    connection.feed(*rest)

    assert connection.heard.events[-1] == ("fault", 1, "bad-framing", 400, PROTOCOL_ERROR)
    assert [
        event for event in connection.heard.events if event[0] in ("data", "trailers") and event[-1] is True
    ] == []
    assert connection.resets() == [(1, PROTOCOL_ERROR)]
    assert (connection.fault, connection.engine.open_streams) == (None, 0)


def test_f16_a_body_of_the_declared_length_passes(engine_class: EngineClass) -> None:
    """F16: with padding, in pieces, and with trailers."""
    connection = Connection(engine_class)
    connection.request(1, [*POST, (b"content-length", b"5")], end=False)
    connection.feed(data(1, b"123", padding=9), data(1, b"45"), connection.peer.headers(1, [(b"x", b"y")]))

    assert [event[0] for event in connection.heard.events] == ["head", "data", "data", "trailers"]


def test_f16_an_answer_unlike_its_declared_length_is_not_complete(engine_class: EngineClass) -> None:
    """F16, F14: the endpoint's body is checked the same; also after our own end, when nothing is left to reset."""
    connection = Connection(engine_class, client_side=True)
    connection.engine.open(GET, True)
    connection.feed(
        connection.peer.headers(1, [*OK, (b"content-length", b"5")], end=False), data(1, b"1234", end=True)
    )

    assert connection.heard.events[-1] == ("fault", 1, "bad-framing", 502, PROTOCOL_ERROR)
    assert connection.resets() == [(1, PROTOCOL_ERROR)]
    assert connection.engine.open_streams == 0


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", b"200"), (b"GET", b"304"), (b"GET", b"204")])
def test_f16_an_answer_without_a_body_may_declare_one(
    engine_class: EngineClass, method: bytes, status: bytes
) -> None:
    """F16, F14: HEAD, 204 and 304 have no body whatever they declare; a body that comes anyway is too much."""
    connection = Connection(engine_class, client_side=True)
    for _ in range(2):
        connection.engine.open(get(method=method), True)
    head = [(b":status", status), (b"content-length", b"5")]
    connection.feed(connection.peer.headers(1, head))
    connection.feed(connection.peer.headers(3, head, end=False), data(3, b"12345"))

    assert connection.heard.events[0] == ("head", 1, head, True)
    assert connection.heard.events[-1] == ("fault", 3, "bad-framing", 502, PROTOCOL_ERROR)


def test_f17_malformed_answers_are_the_endpoints(engine_class: EngineClass) -> None:
    """F15, F17: reset, 502, and the next answer is read."""
    connection = Connection(engine_class, client_side=True)
    for _ in range(4):
        connection.engine.open(GET, True)
    connection.feed(
        headers(1, block([*OK, (b"transfer-encoding", b"chunked")])),
        headers(3, block([*OK, (b"x", b"a\r\nb")])),
        headers(5, block([(b":status", b"103")])),
        headers(7, block(OK)),
    )

    assert [event[:2] for event in connection.heard.events] == [
        ("fault", 1),
        ("fault", 3),
        ("fault", 5),
        ("head", 7),
    ]
    assert [error.status for error in connection.heard.errors] == [502, 502, 502]


@pytest.mark.parametrize(
    "fields",
    [
        [*GET, (b"host", b"other")],
        [*GET[:3], (b"host", b"a"), (b"host", b"a")],
    ],
    ids=["host-is-not-authority", "two-hosts"],
)
def test_f18_a_choice_of_hosts_is_answered_with_400(
    engine_class: EngineClass, fields: list[tuple[bytes, bytes]]
) -> None:
    """F18: the listener answers; nothing was reset."""
    connection = Connection(engine_class)
    connection.feed(headers(1, block(fields)))

    assert connection.heard.events == [("fault", 1, "bad-request", 400, NO_ERROR)]
    assert (connection.resets(), connection.engine.open_streams) == ([], 1)


@pytest.mark.parametrize("pair", [(b":path", b"/"), (b"Upper", b"1"), (b"x", b"a\nb"), (b"connection", b"x")])
def test_f19_malformed_trailers_reset_the_stream(
    engine_class: EngineClass, pair: tuple[bytes, bytes]
) -> None:
    """F19: trailers are proved like heads; those well formed are filtered where they are forwarded."""
    connection = Connection(engine_class)
    connection.request(1, POST, end=False)
    connection.feed(headers(1, block([pair])))

    assert connection.heard.said("fault") == [("fault", 1, "bad-request", 400, PROTOCOL_ERROR)]


def test_codes_of_provoked_resets(engine_class: EngineClass) -> None:
    """H2: each provocation is answered with the code that RFC 9113 names."""
    codes = []
    for _name, provocation in MADE:
        connection = Connection(engine_class)
        connection.request(1)
        connection.feed(provocation)
        codes += [code for _stream, code in connection.resets()]

    assert codes == [PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, STREAM_CLOSED, 6]
