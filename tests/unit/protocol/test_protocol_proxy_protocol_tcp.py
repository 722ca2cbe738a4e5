"""PROXY protocol headers, read and written."""

from __future__ import annotations

import random

import pytest

from hostmesh.base.errors import MeshError
from hostmesh.base.reasons import Reason
from hostmesh.protocol.proxy_protocol import (
    MAX_V1,
    MAX_V2,
    SIGNATURE,
    ProxyHeader,
    header_v1,
    header_v2,
    read_header,
)

V4 = (("192.0.2.1", 56324), ("198.51.100.2", 443))
V6 = (("2001:db8::1", 1), ("2001:db8::2", 65535))


def v2(command: int = 0x21, family: int = 0x11, body: bytes = b"", size: int | None = None) -> bytes:
    return (
        SIGNATURE + bytes((command, family)) + (len(body) if size is None else size).to_bytes(2, "big") + body
    )


ADDRESSES_4 = bytes((192, 0, 2, 1, 198, 51, 100, 2)) + (56324).to_bytes(2, "big") + (443).to_bytes(2, "big")


@pytest.mark.parametrize("write", [header_v1, header_v2])
@pytest.mark.parametrize(("caller", "target"), [V4, V6])
def test_what_is_written_is_read(write: object, caller: tuple[str, int], target: tuple[str, int]) -> None:
    """Both versions, both families, with anything behind, and in pieces."""
    data = write(caller, target)  # type: ignore[operator]

    assert read_header(data + b"hello") == ProxyHeader(caller, target, len(data))
    assert [read_header(data[:size]) for size in range(len(data))] == [None] * len(data)


def test_the_lines_of_the_specification() -> None:
    """Its examples, byte for byte."""
    assert header_v1(*V4) == b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"
    assert header_v2(*V4) == v2(body=ADDRESSES_4)
    longest = (
        b"PROXY TCP6 "
        + b" ".join([b"ffff:f...f:ffff".replace(b"f...f", b":".join([b"ffff"] * 6))] * 2)
        + b" 65535 65535\r\n"
    )
    assert len(longest) <= MAX_V1
    assert read_header(longest) is not None


@pytest.mark.parametrize("write", [header_v1, header_v2])
def test_zones_are_left_out(write: object) -> None:
    """A link-local caller's interface is no business of the endpoint's, and no part of the format."""
    data = write(("fe80::1%eth0", 1), ("fe80::2%eth0", 2))  # type: ignore[operator]

    assert read_header(data) == ProxyHeader(("fe80::1", 1), ("fe80::2", 2), len(data))


@pytest.mark.parametrize("write", [header_v1, header_v2])
def test_two_families_are_unknown(write: object) -> None:
    """A header names one family: a caller over IPv6 that was sent to an IPv4 address is not named."""
    data = write(V6[0], V4[1])  # type: ignore[operator]

    assert read_header(data) == ProxyHeader(None, None, len(data))


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n",
        v2(command=0x20, family=0x00),
        v2(command=0x20, body=b"whatever it says"),
        v2(family=0x00),
        v2(family=0x31, body=bytes(216)),
    ],
)
def test_a_proxy_may_speak_for_itself(data: bytes) -> None:
    """Health checks, UNKNOWN and UNIX: nobody is named, the rest is skipped."""
    assert read_header(data + b"hello") == ProxyHeader(None, None, len(data))


def test_fields_behind_the_addresses_are_skipped() -> None:
    """TLVs must be whole; what they say is not used."""
    data = v2(body=ADDRESSES_4 + b"\x01\x00\x02h2" + b"\x04\x00\x00")

    assert read_header(data) == ProxyHeader(*V4, len(data))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 \r\n",
        b"PROXY TCP4  192.0.2.1 198.51.100.2 56324 443\r\n",
        b"PROXY TCP4 192.0.2.01 198.51.100.2 56324 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 056 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 -1 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
        b"PROXY TCP4 ::1 ::2 56324 443\r\n",
        b"PROXY TCP6 192.0.2.1 198.51.100.2 56324 443\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::2 56324 443\r\n",
        b"PROXY UDP4 192.0.2.1 198.51.100.2 56324 443\r\n",
        b"PROXY tcp4 192.0.2.1 198.51.100.2 56324 443\r\n",
        b"PROXY TCP4 example.org 198.51.100.2 56324 443\r\n",
        b"PROXY UNKNOWN\x00\r\n",
        b"PROXY " + b"x" * MAX_V1,
        b"PROXX",
        b"\r\n\r\n\x00\r\nQUIT\r",
        v2(command=0x11, body=ADDRESSES_4),
        v2(command=0x22, body=ADDRESSES_4),
        v2(family=0x12, body=ADDRESSES_4),
        v2(family=0x41, body=ADDRESSES_4),
        v2(body=ADDRESSES_4[:-1]),
        v2(family=0x21, body=ADDRESSES_4),
        v2(body=b"", size=MAX_V2 + 1),
        v2(body=ADDRESSES_4 + b"\x01\x00\x05h2"),
        v2(body=ADDRESSES_4 + b"\x01"),
    ],
)
def test_malformed_headers_are_refused(data: bytes) -> None:
    """Strict: what is not exactly a header is none."""
    with pytest.raises(MeshError) as caught:
        read_header(data)

    assert caught.value.reason is Reason.BAD_PROXY_HEADER


def test_damaged_headers_never_raise_anything_else() -> None:
    """Thousands of mutations."""
    dice = random.Random(2)
    good = [
        header_v1(*V4),
        header_v1(*V6),
        header_v2(*V4),
        header_v2(*V6),
        v2(body=ADDRESSES_4 + b"\x04\x00\x01x"),
    ]
    outcomes = set()
    for _ in range(5000):
        data = bytearray(dice.choice(good))
        for _ in range(dice.randrange(1, 3)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            found = read_header(bytes(data))
        except MeshError as error:
            outcomes.add(error.reason.value)
        else:
            outcomes.add(type(found).__name__)

    assert outcomes == {"NoneType", "ProxyHeader", "bad-proxy-header"}
