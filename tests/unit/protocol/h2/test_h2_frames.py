"""Frames cut out of a peer's bytes: sizes, order, header blocks, and what is refused (H3, H6, H10)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.base.reasons import Reason
from hostmesh.protocol.h2.budgets import Budgets, Meter
from hostmesh.protocol.h2.engine import (
    ENHANCE_YOUR_CALM,
    FRAME_SIZE_ERROR,
    PROTOCOL_ERROR,
    ConnectionFault,
)
from hostmesh.protocol.h2.frames import Frame, Scanner, frame_name
from hostmesh.protocol.h2.settings import H2Settings
from tests import h2_raw as raw
from tests.h2_raw import END_HEADERS, END_STREAM, PREFACE, SETTINGS_ACK, data, headers, raw_frame, settings

START = PREFACE + settings()


def scanner(client_side: bool = False, budgets: Budgets | None = None, max_frame: int = 16384) -> Scanner:
    budgets = budgets or Budgets()
    one = H2Settings(client_side=client_side, budgets=budgets, max_frame=max_frame)
    return Scanner(one, Meter(budgets, client_side))


def scan(pieces: Iterable[bytes], one: Scanner | None = None) -> tuple[list[Frame], ConnectionFault | None]:
    one = one or scanner()
    found: list[Frame] = []
    for piece in pieces:
        some, fault = one.scan(piece, 0.0)
        found += some
        if fault is not None:
            return found, fault
    return found, None


SEQUENCE = b"".join(
    [
        START,
        SETTINGS_ACK,
        headers(1, b"abc", end=False),
        data(1, b"body", padding=3),
        data(1, b"", end=True),
        headers(3, b"de", flags=0),
        raw.continuation(3, b"f"),
        raw.continuation(3, b"gh", last=True),
        raw.ping(),
        raw.rst(3),
        raw.window_update(0, 7),
        raw_frame(0xFB, 0x55, 9, b"unknown"),
        raw.goaway(3),
    ]
)
CUT = [
    Frame(raw.SETTINGS, 0, 0, b"", 0),
    Frame(raw.SETTINGS, 1, 0, b"", 0),
    Frame(raw.HEADERS, END_HEADERS, 1, b"abc", 3),
    Frame(raw.DATA, 8, 1, b"body", 8),
    Frame(raw.DATA, END_STREAM, 1, b"", 0),
    Frame(raw.HEADERS, END_HEADERS | END_STREAM, 3, b"defgh", 5),
    Frame(raw.PING, 0, 0, b"12345678", 8),
    Frame(raw.RST_STREAM, 0, 3, b"\0\0\0\x08", 4),
    Frame(raw.WINDOW_UPDATE, 0, 0, b"\0\0\0\x07", 4),
    Frame(0xFB, 0x55, 9, b"unknown", 7),
    Frame(raw.GOAWAY, 0, 0, b"\0\0\0\x03\0\0\0\0", 8),
]


def test_frames_are_cut_whole_and_byte_by_byte() -> None:
    """The same bytes give the same frames in one piece, byte by byte, and with a beginning of the next behind."""
    whole = scan([SEQUENCE])
    bytewise = scan([SEQUENCE[at : at + 1] for at in range(len(SEQUENCE))])
    trailing = scan([SEQUENCE + b"\0\0\x08\x06"])

    assert whole == bytewise == trailing == (CUT, None)


@given(st.lists(st.integers(0, len(SEQUENCE)), max_size=12))
def test_frames_do_not_depend_on_where_reads_end(cuts: list[int]) -> None:
    """Any partition of the bytes gives the same frames."""
    edges = [0, *sorted(cuts), len(SEQUENCE)]

    assert scan([SEQUENCE[a:b] for a, b in pairwise(edges)]) == (CUT, None)


def test_padding_and_priority_are_taken_off_header_blocks() -> None:
    """A HEADERS frame may carry padding and an old priority around its block."""
    payload = bytes((2,)) + b"\x80\0\0\0\x10" + b"block" + b"\0\0"
    flags = END_HEADERS | raw.PADDED | raw.WITH_PRIORITY

    found, fault = scan([START, raw_frame(raw.HEADERS, flags, 1, payload)])

    assert (found[1].payload, fault) == (b"block", None)


REFUSED = [
    ("no-preface", b"GET / HTTP/1.1\r\n\r\n", PROTOCOL_ERROR),
    ("wrong-preface-end", PREFACE[:-1] + b"x", PROTOCOL_ERROR),
    ("ping-before-settings", PREFACE + raw.ping(), PROTOCOL_ERROR),
    ("headers-before-settings", PREFACE + headers(1, b""), PROTOCOL_ERROR),
    ("ack-before-settings", PREFACE + SETTINGS_ACK, PROTOCOL_ERROR),
    ("too-long", START + raw_frame(raw.DATA, 0, 1, size=16385), FRAME_SIZE_ERROR),
    ("too-long-unknown", START + raw_frame(0xFB, 0, 0, size=2**24 - 1), FRAME_SIZE_ERROR),
    ("ping-of-7", START + raw_frame(raw.PING, 0, 0, b"1234567"), FRAME_SIZE_ERROR),
    ("rst-of-3", START + raw_frame(raw.RST_STREAM, 0, 1, b"123"), FRAME_SIZE_ERROR),
    ("window-update-of-5", START + raw_frame(raw.WINDOW_UPDATE, 0, 0, b"12345"), FRAME_SIZE_ERROR),
    ("settings-of-5", START + raw_frame(raw.SETTINGS, 0, 0, b"12345"), FRAME_SIZE_ERROR),
    ("ack-with-payload", START + raw_frame(raw.SETTINGS, 1, 0, b"123456"), FRAME_SIZE_ERROR),
    ("goaway-of-7", START + raw_frame(raw.GOAWAY, 0, 0, b"1234567"), FRAME_SIZE_ERROR),
    ("data-on-0", START + data(0, b"x"), PROTOCOL_ERROR),
    ("headers-on-0", START + headers(0, b""), PROTOCOL_ERROR),
    ("priority-on-0", START + raw_frame(raw.PRIORITY, 0, 0, b"12345"), PROTOCOL_ERROR),
    ("rst-on-0", START + raw.rst(0), PROTOCOL_ERROR),
    ("continuation-on-0", START + raw.continuation(0, b""), PROTOCOL_ERROR),
    ("settings-on-1", START + raw_frame(raw.SETTINGS, 0, 1), PROTOCOL_ERROR),
    ("ping-on-1", START + raw_frame(raw.PING, 0, 1, b"12345678"), PROTOCOL_ERROR),
    ("goaway-on-1", START + raw_frame(raw.GOAWAY, 0, 1, bytes(8)), PROTOCOL_ERROR),
    ("data-padding-too-long", START + raw_frame(raw.DATA, raw.PADDED, 1, b"\x04abc"), PROTOCOL_ERROR),
    ("data-padding-missing", START + raw_frame(raw.DATA, raw.PADDED, 1), PROTOCOL_ERROR),
    ("headers-padding-too-long", START + raw_frame(raw.HEADERS, 12, 1, b"\x09abc"), PROTOCOL_ERROR),
    ("headers-too-short-for-priority", START + raw_frame(raw.HEADERS, 0x24, 1, b"1234"), FRAME_SIZE_ERROR),
    ("H10-push-promise", START + raw_frame(raw.PUSH_PROMISE, 4, 1, b"\0\0\0\2"), PROTOCOL_ERROR),
    ("naked-continuation", START + raw.continuation(1, b"", True), PROTOCOL_ERROR),
    ("data-inside-block", START + headers(1, b"", flags=0) + data(1, b""), PROTOCOL_ERROR),
    ("unknown-inside-block", START + headers(1, b"", flags=0) + raw_frame(0xFB, 0, 1), PROTOCOL_ERROR),
    ("headers-inside-block", START + headers(1, b"", flags=0) + headers(3, b""), PROTOCOL_ERROR),
    ("other-continuation", START + headers(1, b"", flags=0) + raw.continuation(3, b""), PROTOCOL_ERROR),
]


@pytest.mark.parametrize(("sent", "code"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_errors_of_the_connection_are_refused(sent: bytes, code: int) -> None:
    """What breaks the rules of frames ends the connection with the code that RFC 9113 names, in any pieces."""
    _found, whole = scan([sent])
    _found, bytewise = scan([sent[at : at + 1] for at in range(len(sent))])

    assert whole is not None
    assert bytewise is not None
    assert (whole.code, bytewise.code, whole.status) == (code, code, 400)


def test_what_came_before_an_error_is_still_reported() -> None:
    """Frames in front of the bad one in the same read are not lost."""
    found, fault = scan([START + raw.ping() + raw_frame(raw.PING, 0, 1, b"12345678")])

    assert [each.kind for each in found] == [raw.SETTINGS, raw.PING]
    assert fault is not None


def test_a_frame_too_long_is_refused_by_its_header() -> None:
    """Nothing is kept for a frame that would be refused anyway."""
    one = scanner()
    _found, fault = scan([START, raw_frame(raw.DATA, 0, 1, size=2**24 - 1)], one)

    assert fault is not None
    assert one._buffer == b""


def test_a_larger_frame_is_taken_where_it_was_announced() -> None:
    """``max_frame`` is what we announced."""
    found, fault = scan([START, data(1, bytes(20000))], scanner(max_frame=32768))

    assert (len(found[1].payload), fault) == (20000, None)


def test_an_endpoint_sends_no_preface() -> None:
    """Towards an endpoint the first bytes are its SETTINGS, and errors are the endpoint's."""
    found, fault = scan(
        [settings(), raw_frame(raw.PUSH_PROMISE, 4, 1, b"\0\0\0\2")], scanner(client_side=True)
    )

    assert [each.kind for each in found] == [raw.SETTINGS]
    assert fault is not None
    assert (fault.status, fault.reason, fault.code) == (502, Reason.BAD_RESPONSE, PROTOCOL_ERROR)


def test_h3_eight_continuations_pass_and_nine_do_not() -> None:
    """H3: the ninth CONTINUATION of one header block ends the connection."""
    first = START + headers(1, b"a", flags=0)
    eight = first + raw.continuation(1, b"b") * 7 + raw.continuation(1, b"c", last=True)

    passed, no_fault = scan([eight])
    _found, fault = scan([first + raw.continuation(1, b"b") * 9])

    assert (passed[1].payload, no_fault) == (b"a" + b"b" * 7 + b"c", None)
    assert fault is not None
    assert (fault.code, fault.reason) == (ENHANCE_YOUR_CALM, Reason.LIMIT_HEADER_BYTES)


def test_h3_empty_continuations_count_too() -> None:
    """H3: CVE-2024-27316 is about frames, not octets."""
    _found, fault = scan([START + headers(1, b"", flags=0), *[raw.continuation(1, b"")] * 9])

    assert fault is not None
    assert fault.code == ENHANCE_YOUR_CALM


@pytest.mark.parametrize("cut", [16384, 8192, 16000])
def test_h3_a_block_of_16_kib_passes_and_one_octet_more_does_not(cut: int) -> None:
    """H3: the encoded block is bounded whatever frames it comes in."""
    block = bytes(16384)
    first = headers(1, block[:cut], flags=0)

    passed, no_fault = scan([START, first, raw.continuation(1, block[cut:], last=True)])
    _found, fault = scan([START, first, raw.continuation(1, block[cut:] + b"x", last=True)])

    assert (len(passed[1].payload), no_fault) == (16384, None)
    assert fault is not None
    assert (fault.code, fault.reason) == (ENHANCE_YOUR_CALM, Reason.LIMIT_HEADER_BYTES)


def test_h3_a_single_frame_block_is_bounded_as_well() -> None:
    """H3: a larger MAX_FRAME_SIZE does not make larger blocks legal."""
    _found, fault = scan([START, headers(1, bytes(16385))], scanner(max_frame=65536))

    assert fault is not None
    assert fault.code == ENHANCE_YOUR_CALM


def test_h3_headers_since_tells_since_when_a_block_is_incomplete() -> None:
    """H3: from the first octets of HEADERS until END_HEADERS, through dribbled frames and CONTINUATIONs."""
    one = scanner()
    first = headers(1, b"abcdef", flags=0)
    seen = []
    steps = [
        START,
        first[:10],
        first[10:],
        raw.ping()[:0],
        raw.continuation(1, b"x"),
        raw.continuation(1, b"", True),
    ]
    for now, piece in enumerate(steps):
        one.scan(piece, float(now))
        seen.append(one.headers_since)

    assert seen == [None, 1.0, 1.0, 1.0, 1.0, None]


def test_h3_a_whole_block_leaves_no_time_behind() -> None:
    """H3: a HEADERS frame that comes in two reads is timed only until it is complete."""
    one = scanner()
    first = headers(1, b"abcdef")
    one.scan(START + first[:12], 1.0)
    began = one.headers_since
    one.scan(first[12:], 2.0)

    assert (began, one.headers_since) == (1.0, None)


FLOODS = [
    ("settings", settings()),
    ("settings-ack", SETTINGS_ACK),
    ("ping", raw.ping()),
    ("ping-ack", raw.ping(flags=1)),
    ("priority", raw_frame(raw.PRIORITY, 0, 1, bytes(5))),
    ("empty-data", data(1, b"")),
    ("padding-only-data", data(1, b"", padding=9)),
    ("unknown-type", raw_frame(0xFB, 0, 1, b"x")),
    ("goaway", raw.goaway(0)),
]


@pytest.mark.parametrize("flood", [case[1] for case in FLOODS], ids=[case[0] for case in FLOODS])
def test_h6_a_flood_of_frames_that_carry_nothing_is_refused(flood: bytes) -> None:
    """H6: CVE-2019-9512, 9513, 9515, 9518: the 1,001st control frame at once ends the connection."""
    found, fault = scan([START, flood * 1001])

    assert fault is not None
    assert (fault.code, fault.reason, len(found)) == (ENHANCE_YOUR_CALM, Reason.LIMIT_CONTROL_FRAMES, 1000)


def test_h6_settings_with_many_entries_cost_more() -> None:
    """H6: 2,700 entries in one frame are as much work as hundreds of frames."""
    full = settings(*[(0x1000 + number, 1) for number in range(2720)])

    found, fault = scan([START, full * 3])

    assert fault is not None
    assert (fault.reason, len(found)) == (Reason.LIMIT_CONTROL_FRAMES, 3)


def test_h6_frames_that_carry_something_are_not_counted() -> None:
    """H6: 10,000 frames of body are no flood."""
    found, fault = scan([START, data(1, b"x") * 10_000])

    assert (len(found), fault) == (10_001, None)


def test_frames_have_names() -> None:
    """Messages name types as the RFC does, and unknown ones by number."""
    assert [frame_name(0), frame_name(9), frame_name(0xFB)] == ["DATA", "CONTINUATION", "type 0xfb"]
