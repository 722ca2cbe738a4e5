"""The requests of :mod:`tests.bench.requests` as HEADERS frames, for h2.c."""

from __future__ import annotations

from pathlib import Path

from tests.bench import requests

STATIC = {
    b":authority": 1,
    b":path": 4,
    b"accept": 19,
    b"accept-encoding": 16,
    b"accept-language": 17,
    b"authorization": 23,
    b"cache-control": 24,
    b"cookie": 32,
    b"referer": 51,
    b"user-agent": 58,
}
"""Indices of names in HPACK's static table (RFC 7541 appendix A)."""
GET, SCHEME_HTTP = 0x82, 0x86
FIRST_DYNAMIC = 62
END_STREAM_AND_HEADERS = 0x05

KEPT = frozenset(
    (
        b"user-agent",
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"cache-control",
        b"traceparent",
        b"x-request-id",
        b"x-tenant",
    )
)
"""Fields that the first request puts into the table: values that stay, and names that are not in the static table."""


def integer(value: int, bits: int, pattern: int) -> bytes:
    """An HPACK integer with a prefix of so many bits behind ``pattern``."""
    largest = (1 << bits) - 1
    if value < largest:
        return bytes((pattern | value,))
    out = bytearray((pattern | largest,))
    value -= largest
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    out.append(value)
    return bytes(out)


def text(value: bytes) -> bytes:
    return integer(len(value), 7, 0) + value


class Encoder:
    """One connection's header blocks: the first request fills the table, and nothing is added after it."""

    def __init__(self) -> None:
        self.table: list[tuple[bytes, bytes]] = []
        """The oldest entry first."""

    def index(self, entry: int) -> int:
        return FIRST_DYNAMIC + len(self.table) - 1 - entry

    def name(self, name: bytes) -> int:
        """The index of a name, 0 if there is none."""
        for entry, (known, _value) in enumerate(self.table):
            if known == name:
                return self.index(entry)
        return STATIC.get(name, 0)

    def field(self, name: bytes, value: bytes, *, keep: bool) -> bytes:
        if (name, value) in self.table and requests.SLOT not in value:
            return integer(self.index(self.table.index((name, value))), 7, 0x80)
        index = self.name(name)
        bits, pattern = (6, 0x40) if keep else (4, 0x00)
        encoded = integer(index, bits, pattern) + (b"" if index else text(name)) + text(value)
        if keep:
            self.table.append((name, value))
        return encoded

    def frame(self, head: bytes, *, first: bool) -> bytes:
        """The HEADERS frame of an HTTP/1.1 head that has no body; its stream is filled in when it is sent."""
        start, *lines = head.decode("latin-1").split("\r\n")
        method, path, _version = start.encode("latin-1").split(b" ")
        assert method == b"GET"
        fields = [line.encode("latin-1").partition(b": ")[::2] for line in lines if line]
        host = next(value for name, value in fields if name == b"Host")
        block = bytes((GET, SCHEME_HTTP)) + self.field(b":path", path, keep=False)
        block += self.field(b":authority", host, keep=False)
        for raw, value in fields:
            name = raw.lower()
            if name != b"host":
                block += self.field(name, value, keep=first and name in KEPT)
        return len(block).to_bytes(3, "big") + bytes((1, END_STREAM_AND_HEADERS, 0, 0, 0, 0)) + block


def write_frames(file: Path, heads: list[bytes]) -> None:
    """The format of h2.c: the frame of a connection's first request, then those of all others."""
    encoder = Encoder()
    first = encoder.frame(heads[0], first=True)
    requests.write_templates(file, [first, *(encoder.frame(head, first=False) for head in heads)])
