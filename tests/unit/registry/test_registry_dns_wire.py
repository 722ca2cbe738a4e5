"""DNS messages: what servers say, and what hostile ones might."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.registry import dns_wire as wire
from hostmesh.registry.dns_wire import DnsFormatError, Message, Record, Srv

WEB = b"\x03web\x07example\0"


def message(
    *answers: bytes, id: int = 7, flags: int = 0x8400, question: bytes = WEB, type: int = wire.A
) -> bytes:
    head = struct.pack("!HHHHHH", id, flags, 1, len(answers), 0, 0)
    return head + question + struct.pack("!HH", type, wire.IN) + b"".join(answers)


def record(type: int, data: bytes, *, ttl: int = 60, owner: bytes = b"\xc0\x0c") -> bytes:
    return owner + struct.pack("!HHIH", type, wire.IN, ttl, len(data)) + data


def test_a_question_is_what_servers_read() -> None:
    """Recursion is wanted, and larger answers than 512 bytes are welcome."""
    asked = wire.question(7, "web.example", wire.SRV)

    assert asked[:12] == struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 1)
    assert asked[12:] == WEB + b"\0\x21\0\x01" + b"\0\0\x29\x04\xd0" + b"\0" * 6


def test_an_answer_of_every_type() -> None:
    """A, AAAA, CNAME, SRV with compressed names; other types are skipped."""
    answer = wire.read(
        message(
            record(wire.A, bytes((10, 0, 0, 1))),
            record(wire.AAAA, bytes(15) + b"\x01", ttl=5),
            record(wire.CNAME, b"\x01W\xc0\x0c"),
            record(wire.SRV, struct.pack("!HHH", 1, 2, 80) + b"\x01w\xc0\x0c"),
            record(16, b"\x03txt"),
        )
    )

    assert answer == Message(
        id=7,
        rcode=wire.NOERROR,
        is_truncated=False,
        question=("web.example", wire.A),
        answer=(
            Record("web.example", wire.A, 60, "10.0.0.1"),
            Record("web.example", wire.AAAA, 5, "::1"),
            Record("web.example", wire.CNAME, 60, "w.web.example"),
            Record("web.example", wire.SRV, 60, Srv(1, 2, 80, "w.web.example")),
        ),
        authority=(),
        additional=(),
    )


def test_the_time_that_an_absence_holds_is_in_the_soa() -> None:
    """The smaller of its TTL and its last number."""
    soa = WEB + WEB + struct.pack("!IIIII", 1, 2, 3, 4, 30)
    head = struct.pack("!HHHHHH", 7, 0x8403, 1, 0, 1, 0)
    answer = wire.read(head + WEB + b"\0\x01\0\x01" + record(wire.SOA, soa, ttl=60))

    assert (answer.rcode, answer.negative_ttl()) == (wire.NXDOMAIN, 30)
    assert wire.read(message()).negative_ttl() is None


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "message of 0 bytes ends early"),
        (message(flags=0x0100), "expected an answer, found a question"),
        (struct.pack("!HHHHHH", 7, 0x8000, 2, 0, 0, 0), "expected one question, found 2"),
        (struct.pack("!HHHHHH", 7, 0x8000, 1, 65535, 0, 0) + WEB, "expected at most 10000 records"),
        (message(record(wire.A, b"\0\0\0\1"))[:-1], "ends in a record"),
        (message() + b"\0", "expected a message of 29 bytes, found 30"),
        (message(question=b"\xc0\x0c"), "a name's compression does not lead back"),
        (message(question=b"\xc0\xff"), "a name's compression does not lead back"),
        (message(question=b"\x41" + b"a" * 65 + b"\0"), "expected a label of at most 63 bytes, found 65"),
        (message(question=(b"\x3f" + b"a" * 63) * 4 + b"\0"), "expected a name of at most 255 bytes"),
        (message()[:14], "ends in a name"),
        (message(record(wire.CNAME, WEB + b"x")), "not as long as it says"),
    ],
)
def test_x8_what_is_no_message(data: bytes, cause: str) -> None:
    """It is refused, and the message says why."""
    with pytest.raises(DnsFormatError, match=cause):
        wire.read(data)


def test_x8_records_that_no_host_has_are_skipped() -> None:
    """Addresses of a wrong length, names with odd characters, TTLs beyond the standard."""
    answer = wire.read(
        message(
            record(wire.A, b"\0\0\0"),
            record(wire.CNAME, b"\x03a b\0"),
            record(wire.CNAME, b"\x01\xff\0"),
            record(wire.A, b"\x0a\0\0\1", owner=b"\x02a.\0"),
            record(wire.A, b"\x0a\0\0\2", ttl=2**32 - 1),
        )
    )

    assert answer.answer == (Record("web.example", wire.A, 0, "10.0.0.2"),)


def test_a_truncated_message_need_not_be_whole() -> None:
    """It is asked again over TCP, so its records do not matter."""
    cut = message(record(wire.A, b"\0\0\0\1"), flags=0x8600)[:-2]

    assert wire.read(cut).is_truncated


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Web.Example.", "web.example"),
        ("_http._tcp.web", "_http._tcp.web"),
        ("xn--bcher-kva", "xn--bcher-kva"),
    ],
)
def test_names_have_one_spelling(name: str, found: str) -> None:
    """Lower case, no final dot."""
    assert wire.canonical(name) == found


@pytest.mark.parametrize(
    "name", ["", ".", "a..b", "a b", "é", "a" * 64, ".".join(["a" * 60] * 5), "a/b", "²"]
)
def test_what_is_no_name(name: str) -> None:
    """It is refused before anybody is asked."""
    with pytest.raises(DnsFormatError):
        wire.canonical(name)


@given(st.binary(max_size=300))
def test_x8_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Never another exception."""
    with contextlib.suppress(DnsFormatError):
        wire.read(data)


@given(st.data())
def test_x8_any_damage_is_read_or_refused(data: st.DataObject) -> None:
    """Also that of a message with compressed names."""
    whole = bytearray(
        message(record(wire.SRV, struct.pack("!HHH", 1, 2, 80) + b"\x01w\xc0\x0c"), type=wire.SRV)
    )
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DnsFormatError):
        wire.read(bytes(whole))
