"""gRPC: content types, statuses, messages, timeouts, codes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.base.reasons import Reason
from hostmesh.protocol.grpc import (
    MAX_DIGITS,
    MAX_MESSAGE,
    Code,
    code_of_http,
    code_of_reason,
    decode_message,
    encode_message,
    format_timeout,
    is_grpc,
    method_of,
    parse_status,
    parse_timeout,
    status_in,
)

MICROSECOND = 1_000
SECOND = 1_000_000_000
HOUR = 3600 * SECOND


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc+json; charset=utf-8", True),
        (b"application/grpc;v=1", True),
        (b"Application/GRPC", True),
        (b"application/grpc-web", False),
        (b"application/grpc-web+proto", False),
        (b"application/grpcweb", False),
        (b"application/json", False),
        (b" application/grpc", False),
        (b"", False),
        (None, False),
    ],
)
def test_content_type(content_type: bytes | None, expected: bool) -> None:
    """gRPC is application/grpc with any suffix or parameter, and neither gRPC-Web nor a longer word."""
    assert is_grpc(content_type) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (b"0", 0),
        (b"14", 14),
        (b"014", 14),
        (b"99", 99),
        (b"", 2),
        (b"-1", 2),
        (b"OK", 2),
        (b"1 ", 2),
        (b"9" * 10, 2),
    ],
)
def test_status(value: bytes | None, expected: int | None) -> None:
    """A status is a number, codes without a name too; anything else that is there means UNKNOWN."""
    assert parse_status(value) == expected


@pytest.mark.parametrize(
    ("trailers", "expected"),
    [
        ([(b"x", b"1"), (b"grpc-status", b"5")], 5),
        ([(b"grpc-message", b"x")], None),
        ([], None),
        (b"X: 1\r\nGrpc-Status: 5\r\n", 5),
        (b"grpc-status:\t7 \r\n", 7),
        (b"grpc-message: grpc-status: 5\r\n", None),
        (b"", None),
    ],
)
def test_status_in_trailers(trailers: bytes | list[tuple[bytes, bytes]], expected: int | None) -> None:
    """The status is found in pairs and in lines alike."""
    assert status_in(trailers) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", b""),
        ("plain ~ text!", b"plain ~ text!"),
        ("100%", b"100%25"),
        ("a\r\nb\x7f", b"a%0D%0Ab%7F"),
        ("größer", b"gr%C3%B6%C3%9Fer"),
        ("日本", b"%E6%97%A5%E6%9C%AC"),
        ("🙂", b"%F0%9F%99%82"),
        ("\ud800", rb"\ud800"),
    ],
)
def test_message(text: str, expected: bytes) -> None:
    """Bytes of UTF-8 outside of printable ASCII, and the percent sign, are escaped."""
    assert encode_message(text) == expected


def test_message_is_bounded() -> None:
    """A long message ends in front of the character that would pass the limit."""
    assert encode_message("x" * 5000) == b"x" * MAX_MESSAGE
    assert encode_message("xö", limit=6) == b"x"
    assert encode_message("xö", limit=7) == b"x%C3%B6"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"gr%C3%B6%c3%9fer", "größer"),
        (b"100%", "100%"),
        (b"%zz%4", "%zz%4"),
        (b"%FF", "\ufffd"),
        (b"\xc3\xb6", "ö"),
    ],
)
def test_decoding_is_lenient(value: bytes, expected: str) -> None:
    """Broken escapes and broken UTF-8 are shown, not refused."""
    assert decode_message(value) == expected


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=100))
def test_message_round_trip(text: str) -> None:
    """What is encoded is printable ASCII and decodes to the same text."""
    encoded = encode_message(text, limit=10_000)

    assert all(0x20 <= byte < 0x7F for byte in encoded)
    assert decode_message(encoded) == text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"1H", HOUR),
        (b"2M", 120 * SECOND),
        (b"3S", 3 * SECOND),
        (b"4m", 4_000_000),
        (b"5u", 5_000),
        (b"6n", 6),
        (b"0n", 0),
        (b"99999999H", 99_999_999 * HOUR),
        (b"100000000n", None),
        (b"1", None),
        (b"S", None),
        (b"-1S", None),
        (b"1.5S", None),
        (b" 1S", None),
        (b"1h", None),
        (b"", None),
    ],
)
def test_timeout(value: bytes, expected: int | None) -> None:
    """One to eight digits and a unit; everything else is as if it were absent."""
    assert parse_timeout(value) == expected


@pytest.mark.parametrize(
    ("nanoseconds", "expected"),
    [
        (-5, b"1n"),
        (0, b"1n"),
        (99_999_999, b"99999999n"),
        (100_000_000, b"100000u"),
        (100_000_999, b"100000u"),
        (99_999_999 * MICROSECOND, b"99999999u"),
        (100 * SECOND, b"100000m"),
        (27 * HOUR, b"97200000m"),
        (28 * HOUR, b"100800S"),
        (10**8 * 60 * SECOND, b"1666666H"),
        (10**30, b"99999999H"),
    ],
)
def test_format_timeout(nanoseconds: int, expected: bytes) -> None:
    """The finest unit that eight digits allow, rounded down, never zero."""
    assert format_timeout(nanoseconds) == expected


@given(st.integers(1, 99_999_999 * HOUR))
def test_timeout_is_never_prolonged(nanoseconds: int) -> None:
    """What is handed on is not more than there is, and at most a part in 100,000 less."""
    value = format_timeout(nanoseconds)
    read = parse_timeout(value)

    assert len(value) <= MAX_DIGITS + 1
    assert read is not None
    assert 0 <= nanoseconds - read <= nanoseconds * 1e-5


@given(st.binary(max_size=12))
def test_any_bytes_as_timeout_and_status(value: bytes) -> None:
    """No bytes raise."""
    assert parse_timeout(value) is None or value[:-1].isdigit()
    assert isinstance(parse_status(value), int)
    assert isinstance(decode_message(value), str)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, Code.INTERNAL),
        (401, Code.UNAUTHENTICATED),
        (403, Code.PERMISSION_DENIED),
        (404, Code.UNIMPLEMENTED),
        (429, Code.UNAVAILABLE),
        (500, Code.UNKNOWN),
        (502, Code.UNAVAILABLE),
        (503, Code.UNAVAILABLE),
        (504, Code.UNAVAILABLE),
        (200, Code.UNKNOWN),
        (302, Code.UNKNOWN),
    ],
)
def test_code_of_http(status: int, expected: Code) -> None:
    """The specification's table of HTTP statuses."""
    assert code_of_http(status) is expected


@pytest.mark.parametrize("reason", [r for r in Reason if "timeout" in r.value or "deadline" in r.value])
def test_local_timeouts(reason: Reason) -> None:
    """Every limit of time is DEADLINE_EXCEEDED, the binding's too; but a connect's, where nothing was sent."""
    expected = (
        Code.UNAVAILABLE if reason in (Reason.CONNECT_TIMEOUT, Reason.TLS_TIMEOUT) else Code.DEADLINE_EXCEEDED
    )

    assert code_of_reason(reason, 503) is expected


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (Reason.CONNECT_REFUSED, Code.UNAVAILABLE),
        (Reason.NO_ENDPOINTS, Code.UNAVAILABLE),
        (Reason.OVERLOADED, Code.UNAVAILABLE),
        (Reason.DRAINING, Code.UNAVAILABLE),
        (Reason.NO_IDENTIFIER, Code.UNIMPLEMENTED),
        (Reason.POLICY_DTAB, Code.PERMISSION_DENIED),
        (Reason.BUG, Code.INTERNAL),
        (Reason.RESET_BY_CALLER, Code.CANCELLED),
    ],
)
def test_code_of_reason(reason: Reason, expected: Code) -> None:
    """What callers may repeat is UNAVAILABLE, what stays wrong is not."""
    assert code_of_reason(reason, 500) is expected


@pytest.mark.parametrize("reason", Reason)
def test_no_error_is_ok(reason: Reason) -> None:
    """No reason at all becomes OK, whatever status it came with."""
    assert all(code_of_reason(reason, status) is not Code.OK for status in (200, 400, 499, 502, 503))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/helloworld.Greeter/SayHello", ("helloworld.Greeter", "SayHello")),
        (b"/Greeter/say_hello2", ("Greeter", "say_hello2")),
        (b"/a/b/c", None),
        (b"/a/", None),
        (b"//b", None),
        (b"/a.b", None),
        (b"/a/b?c", None),
        (b"/a/b.c", None),
        (b"/" + b"a" * 201 + b"/b", None),
        (b"*", None),
    ],
)
def test_method(target: bytes, expected: tuple[str, str] | None) -> None:
    """Service and method of a path, which has exactly these two segments."""
    assert method_of(target) == expected
