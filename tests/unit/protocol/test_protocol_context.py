"""Trace ids, sampling, hops and l5d-err: reference vectors, and what is ignored."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from hostmesh.protocol.context import (
    DEBUG,
    SAMPLED,
    SAMPLING_KNOWN,
    B3Propagator,
    L5dPropagator,
    Propagator,
    TraceId,
    count_hops,
    decode_rate,
    decode_trace,
    encode_err,
    encode_trace,
    is_chosen,
    root_trace,
)

YES = SAMPLING_KNOWN | SAMPLED
NO = SAMPLING_KNOWN
CHILD = TraceId(0xE4BBB7C0F6A2FF07, 0xA5F47E9FCED314A2, 0x694EB2F05B8FD7D1, YES)
ROOT = TraceId(0x34429B04B6BBF478, 0x34429B04B6BBF478, None)
WIDE = TraceId(0x64FE8B2A57D3EFF7, 0xE457B5A2E4D86BD1, 0x05E3AC9A4F6E3B90, YES, 0x80F198EE56343BA8)

VECTORS = [
    (CHILD, b"pfR+n87TFKJpTrLwW4/X0eS7t8D2ov8HAAAAAAAAAAY="),
    (CHILD.sampled_as(False), b"pfR+n87TFKJpTrLwW4/X0eS7t8D2ov8HAAAAAAAAAAI="),
    (ROOT, b"NEKbBLa79Hg0QpsEtrv0eDRCmwS2u/R4AAAAAAAAAAA="),
    (WIDE, b"5Fe1ouTYa9EF46yaT247kGT+iypX0+/3AAAAAAAAAAaA8ZjuVjQ7qA=="),
]


def getter(fields: dict[bytes, bytes]) -> Callable[[bytes], bytes | None]:
    return fields.get


@pytest.mark.parametrize(("trace", "value"), VECTORS)
def test_l5d_ctx_trace_vectors(trace: TraceId, value: bytes) -> None:
    """The encoding is Linkerd's, both ways."""
    assert value == encode_trace(trace)
    assert trace == decode_trace(value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"x",
        b"pfR+n87TFKJpTrLwW4/X0eS7t8D2ov8HAAAAAAAAAAY",
        b"AAAA" * 8,
        b"AAAA" * 1000,
        b"pfR-n87TFKJpTrLwW4_X0eS7t8D2ov8HAAAAAAAAAAY=",
        b"pfR+n87TFKJpTrLwW4/X0eS7t8D2ov8HAAAAAAAAAAY=AA",
        b"\xff" * 44,
    ],
)
def test_t7_a_bad_l5d_ctx_trace_is_no_trace(value: bytes) -> None:
    """Wrong length, alphabet or padding, and oversized values, are as if absent."""
    assert decode_trace(value) is None
    assert L5dPropagator().read(getter({b"l5d-ctx-trace": value})).trace is None


def test_sampling_has_three_states() -> None:
    """Unknown until somebody decides; a decision replaces another."""
    assert (ROOT.sampled, CHILD.sampled, CHILD.sampled_as(False).sampled) == (None, True, False)
    assert CHILD.sampled_as(False).sampled_as(True).sampled
    assert TraceId(1, 1, None, DEBUG).debug


def test_a_child_span_keeps_trace_and_flags() -> None:
    """Its parent is the span it was made from; its own id is new."""
    child = CHILD.child(Random(1))

    assert (CHILD.trace, CHILD.span, CHILD.flags) == (child.trace, child.parent, child.flags)
    assert child.span not in (0, CHILD.span)
    assert child != CHILD
    assert len({child, CHILD.child(Random(1))}) == 1


def test_a_root_span_is_its_trace() -> None:
    """Trace and span are one random number that is never zero."""
    root = root_trace(Random(1), NO)

    assert (root.span, None, False) == (root.trace, root.parent, root.sampled)

    class Zero(Random):
        def getrandbits(self, k: int) -> int:
            return 0

    assert root_trace(Zero()).span == 1


def test_l5d_lines() -> None:
    """The context and the request id, each on its line."""
    assert L5dPropagator().lines(CHILD) == (
        b"l5d-ctx-trace: pfR+n87TFKJpTrLwW4/X0eS7t8D2ov8HAAAAAAAAAAY=\r\nl5d-reqid: e4bbb7c0f6a2ff07\r\n"
    )
    assert L5dPropagator().read(getter({b"l5d-ctx-trace": encode_trace(CHILD)})).trace == CHILD


@pytest.mark.parametrize("propagator", [L5dPropagator(), B3Propagator()], ids=["l5d", "b3"])
@pytest.mark.parametrize("trace", [CHILD, ROOT, WIDE], ids=["child", "root", "wide"])
def test_pairs_say_what_lines_say(propagator: Propagator, trace: TraceId) -> None:
    """For HTTP/2 the same fields, already apart."""
    pairs = propagator.pairs(trace)

    assert propagator.lines(trace) == b"".join(b"%b: %b\r\n" % pair for pair in pairs)


B3 = {
    b"x-b3-traceid": b"80f198ee56343ba864fe8b2a57d3eff7",
    b"x-b3-spanid": b"e457b5a2e4d86bd1",
    b"x-b3-parentspanid": b"05e3ac9a4f6e3b90",
    b"x-b3-sampled": b"1",
}


def test_b3_fields_both_ways() -> None:
    """The reference vector is read and written."""
    b3 = B3Propagator()

    assert b3.read(getter(B3)).trace == WIDE
    assert b"".join(b"%b: %b\r\n" % pair for pair in B3.items()) == b3.lines(WIDE)


def test_b3_single_field() -> None:
    """The single field means the same and goes first."""
    single = b"80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90"

    assert B3Propagator().read(getter({**B3, b"b3": single, b"x-b3-spanid": b"1" * 16})).trace == WIDE


@pytest.mark.parametrize(
    ("fields", "flags"),
    [
        ({b"b3": b"0"}, NO),
        ({b"b3": b"1"}, YES),
        ({b"b3": b"d"}, YES | DEBUG),
        ({b"x-b3-sampled": b"0"}, NO),
        ({b"x-b3-sampled": b"True"}, YES),
        ({b"x-b3-flags": b"1"}, YES | DEBUG),
        ({b"x-b3-sampled": b"maybe"}, 0),
        ({}, 0),
    ],
)
def test_b3_decisions_without_ids(fields: dict[bytes, bytes], flags: int) -> None:
    """A decision may come without ids and then holds for the trace that starts here."""
    found = B3Propagator().read(getter(fields))

    assert (None, flags) == (found.trace, found.flags)


@pytest.mark.parametrize(
    "fields",
    [
        {**B3, b"x-b3-traceid": b"80f198ee56343ba864fe8b2a57d3eff"},
        {**B3, b"x-b3-traceid": b"0" * 16},
        {**B3, b"x-b3-spanid": b"e457b5a2e4d86bdx"},
        {**B3, b"x-b3-spanid": b"0" * 16},
        {**B3, b"x-b3-parentspanid": b"x"},
        {b"b3": b"-".join([b"a"] * 5)},
        {b"b3": b"80f198ee56343ba8-e457b5a2e4d86bd1-2"},
        {b"b3": b"80f198ee56343ba8-e457b5a2e4d86bd"},
        {b"b3": b"x" * 8000},
    ],
)
def test_t7_bad_b3_is_no_trace(fields: dict[bytes, bytes]) -> None:
    """Malformed and oversized ids start a new trace; they are never an error."""
    assert B3Propagator().read(getter(fields)).trace is None


@pytest.mark.parametrize(
    ("trace", "lines"),
    [
        (ROOT, b"x-b3-traceid: 34429b04b6bbf478\r\nx-b3-spanid: 34429b04b6bbf478\r\n"),
        (
            TraceId(1, 2, None, YES | DEBUG),
            b"x-b3-traceid: 0000000000000001\r\nx-b3-spanid: 0000000000000002\r\nx-b3-flags: 1\r\n",
        ),
        (
            TraceId(1, 2, None, NO),
            b"x-b3-traceid: 0000000000000001\r\nx-b3-spanid: 0000000000000002\r\nx-b3-sampled: 0\r\n",
        ),
    ],
)
def test_b3_says_no_more_than_is_known(trace: TraceId, lines: bytes) -> None:
    """No parent on a root span, no decision where none was made, debug instead of the decision."""
    assert lines == B3Propagator().lines(trace)


def test_b3_parent_equal_to_span_is_a_root() -> None:
    """Linkerd writes the parent on root spans, too."""
    found = B3Propagator().read(getter({**B3, b"x-b3-parentspanid": B3[b"x-b3-spanid"]}))

    assert found.trace is not None
    assert found.trace.parent is None


@pytest.mark.parametrize(
    ("value", "rate"),
    [
        (b"0.5", 0.5),
        (b"1", 1.0),
        (b".25", 0.25),
        (b"1e-3", 0.001),
        (b"7", 1.0),
        (b"+0.5", 0.5),
        (b"-1", 0.0),
        (b"1e999", 1.0),
        (b"", None),
        (b"nan", None),
        (b"inf", None),
        (b"0x1", None),
        (b".", None),
        (b"1_0", None),
        (b"9" * 1000, None),
    ],
)
def test_l5d_sample_rates(value: bytes, rate: float | None) -> None:
    """Numbers are clamped to [0, 1], anything else is ignored."""
    assert rate == decode_rate(value)


@pytest.mark.parametrize(
    ("trace", "rate", "salt", "chosen"),
    [
        (0xE4BBB7C0F6A2FF07, 0.5, 0, False),
        (0xE4BBB7C0F6A2FF07, 0.8442, 0, True),
        (0xE4BBB7C0F6A2FF07, 0.8441, 0, False),
        (0x34429B04B6BBF478, 0.5, 0, True),
        (0x34429B04B6BBF478, 0.001, 0, False),
        (1, 0.001, 0, True),
        (0x270F, 0.5, 0, False),
        (0x270F, 1.0, 0, True),
        (0x34429B04B6BBF478, 0.7932, 0x1234, False),
        (0x34429B04B6BBF478, 0.7933, 0x1234, True),
        (1 << 63, 1.0, 0, True),
        (1, 0.0, 0, False),
    ],
)
def test_which_traces_are_sampled(trace: int, rate: float, salt: int, chosen: bool) -> None:
    """The choice is Linkerd's: by the trace id modulo 10,000."""
    assert chosen is is_chosen(trace, rate, salt)


def test_hops_are_counted_over_all_via_fields() -> None:
    """Lists and repeated fields count alike, empty entries do not."""
    special = [(b"via", b"1.1 a, 1.1 b"), (b"host", b"web"), (b"via", b", 1.0 c ,")]

    assert count_hops(special) == 3


def test_t10_l5d_err_is_one_bounded_ascii_line() -> None:
    """No text can end the line, and a giant message becomes at most 1 KiB."""
    assert encode_err("a b\r\nEvil: 1 ä €") == b"a+b%0D%0AEvil%3A+1+%E4+%3F"
    for size in range(1015, 1040):
        value = encode_err("x" * (size % 5) + "\n" * size)
        assert len(value) <= 1024
        assert value.startswith(b"x" * (size % 5))
        assert value[size % 5 :].replace(b"%0A", b"") == b""
