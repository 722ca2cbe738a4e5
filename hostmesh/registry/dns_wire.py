"""DNS messages (RFC 1035, 2782, 3596, 6891): questions to bytes, answers from bytes. Pure.

Our own, of four record types: dnspython is well kept and complete, but loading it costs 12 MB and 134 modules, and
reading an answer with 20 endpoints 1.6 ms of the data path's thread, twelve times what this takes; with 200 names
of TTL 1 that is a third of a core.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

from attrs import frozen

A: Final = 1
CNAME: Final = 5
SOA: Final = 6
AAAA: Final = 28
SRV: Final = 33
OPT: Final = 41
IN: Final = 1

NOERROR: Final = 0
NXDOMAIN: Final = 3
RCODES: Final = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}

MAX_UDP: Final = 1232
"""Bytes of an answer over UDP that we announce: what passes every network unfragmented (DNS flag day 2020)."""

MAX_NAME: Final = 255
MAX_LABEL: Final = 63

MAX_RECORDS: Final = 10_000
"""Records of one message. 64 KB hold no more than about 4,000 addresses; the counts in the head could lie."""

MAX_JUMPS: Final = 128
"""Compression pointers in one name; a name has no more labels."""

MAX_TTL: Final = 2**31 - 1
"""Larger ones are 0 (RFC 2181 section 8)."""

_HEAD = struct.Struct("!HHHHHH")
_FIXED = struct.Struct("!HHIH")
_SRV = struct.Struct("!HHH")


class DnsFormatError(ValueError):
    """Bytes that are not a DNS message, or not one that we read."""


@frozen
class Srv:
    """The data of an SRV record."""

    priority: int
    weight: int
    port: int
    target: str


Data: TypeAlias = "str | Srv"
"""An address (A, AAAA), a name (CNAME), an Srv, or the negative TTL of a SOA as text."""


@frozen
class Record:
    """One record of the types that we read."""

    name: str
    type: int
    ttl: int
    """Seconds."""
    data: Data


@frozen
class Message:
    """An answer. Names are lower case and without the final dot."""

    id: int
    rcode: int
    is_truncated: bool
    question: tuple[str, int]
    """Name and type."""
    answer: tuple[Record, ...]
    authority: tuple[Record, ...]
    additional: tuple[Record, ...]

    def negative_ttl(self) -> int | None:
        """For how many seconds an absence holds (RFC 2308); None if the server does not say."""
        return next((min(r.ttl, int(str(r.data))) for r in self.authority if r.type == SOA), None)


def canonical(name: str) -> str:
    """The one spelling of a name. Raises DnsFormatError for what is none; the message says why."""
    labels = name.removesuffix(".").lower().split(".")
    if len(name.removesuffix(".")) > MAX_NAME - 2:
        raise DnsFormatError(f"expected a name of at most {MAX_NAME - 2} characters, found {len(name)}")
    for label in labels:
        if not 0 < len(label) <= MAX_LABEL or not label.isascii() or not _is_plain(label):
            raise DnsFormatError(
                f"expected labels of 1 to {MAX_LABEL} letters, digits, '-' and '_', found {label!r}"
            )
    return ".".join(labels)


def _is_plain(label: str) -> bool:
    return label.replace("-", "").replace("_", "").isalnum()


def question(id: int, name: str, type: int) -> bytes:
    """A recursive question, with EDNS; ``name`` is canonical."""
    labels = b"".join(bytes((len(label),)) + label.encode("ascii") for label in name.split("."))
    head = _HEAD.pack(id, 0x0100, 1, 0, 0, 1)
    return head + labels + b"\0" + struct.pack("!HH", type, IN) + b"\0" + _FIXED.pack(OPT, MAX_UDP, 0, 0)


def read(data: bytes) -> Message:
    """The message in ``data``; what follows it is refused. Raises DnsFormatError.

    Records of other types and classes are skipped, and so are those with names that no host has.
    """
    try:
        return _read(data)
    except (struct.error, IndexError) as error:
        raise DnsFormatError(f"message of {len(data)} bytes ends early") from error


def _read(data: bytes) -> Message:
    id, flags, questions, answers, authorities, additionals = _HEAD.unpack_from(data)
    if not flags & 0x8000:
        raise DnsFormatError("expected an answer, found a question")
    if questions != 1:
        raise DnsFormatError(f"expected one question, found {questions}")
    if answers + authorities + additionals > MAX_RECORDS:
        raise DnsFormatError(f"expected at most {MAX_RECORDS} records, found more")
    name, at = _name(data, _HEAD.size)
    type, _cls = struct.unpack_from("!HH", data, at)
    at += 4
    is_truncated = bool(flags & 0x0200)
    sections: list[tuple[Record, ...]] = []
    for count in (answers, authorities, additionals):
        if is_truncated:
            # It will be asked again over TCP, and servers may end such a message anywhere.
            sections.append(())
            continue
        records, at = _records(data, at, count)
        sections.append(tuple(records))
    if not is_truncated and at != len(data):
        raise DnsFormatError(f"expected a message of {at} bytes, found {len(data)}")
    return Message(id, flags & 15, is_truncated, (name, type), *sections)


def _records(data: bytes, at: int, count: int) -> tuple[list[Record], int]:
    records = []
    for _ in range(count):
        owner, at = _name(data, at)
        type, cls, ttl, length = _FIXED.unpack_from(data, at)
        at += _FIXED.size
        end = at + length
        if end > len(data):
            raise DnsFormatError(f"message of {len(data)} bytes ends in a record")
        if cls == IN and type in _READERS:
            value = _READERS[type](data, at, end)
            if value is not None and owner:
                records.append(Record(owner, type, ttl if ttl <= MAX_TTL else 0, value))
        at = end
    return records, at


def _name(data: bytes, at: int) -> tuple[str, int]:
    """The name at a place, and the place after it. Labels that no host name has make it empty."""
    labels: list[str] = []
    after = 0
    size = jumps = 0
    is_usable = True
    while True:
        length = data[at]
        if length >= 0xC0:
            jumps += 1
            target = (length & 0x3F) << 8 | data[at + 1]
            after = after or at + 2
            # Only backwards, as every writer does: then no chain of pointers can be a ring.
            if target >= at or jumps > MAX_JUMPS:
                raise DnsFormatError("a name's compression does not lead back")
            at = target
            continue
        if length > MAX_LABEL:
            raise DnsFormatError(f"expected a label of at most {MAX_LABEL} bytes, found {length}")
        at += 1
        if length == 0:
            return (".".join(labels) if is_usable else "", after or at)
        size += length + 1
        if size > MAX_NAME:
            raise DnsFormatError(f"expected a name of at most {MAX_NAME} bytes, found more")
        label = data[at : at + length]
        if len(label) != length:
            raise DnsFormatError(f"message of {len(data)} bytes ends in a name")
        at += length
        text = label.decode("latin-1").lower()
        is_usable = is_usable and text.isascii() and _is_plain(text)
        labels.append(text)


def _a(data: bytes, at: int, end: int) -> Data | None:
    return str(IPv4Address(data[at:end])) if end - at == 4 else None


def _aaaa(data: bytes, at: int, end: int) -> Data | None:
    return str(IPv6Address(data[at:end])) if end - at == 16 else None


def _cname(data: bytes, at: int, end: int) -> Data | None:
    name, after = _name(data, at)
    _fits(after, end)
    return name or None


def _srv(data: bytes, at: int, end: int) -> Data | None:
    priority, weight, port = _SRV.unpack_from(data, at)
    target, after = _name(data, at + _SRV.size)
    _fits(after, end)
    # The target "." stays: it says that there is no such service here.
    return Srv(priority, weight, port, target)


def _soa(data: bytes, at: int, end: int) -> Data | None:
    _name(data, _name(data, at)[1])
    minimum: int = struct.unpack_from("!I", data, end - 4)[0]
    return str(minimum if minimum <= MAX_TTL else 0)


def _fits(after: int, end: int) -> None:
    if after != end:
        raise DnsFormatError("a record's data is not as long as it says")


_READERS: Final = {A: _a, AAAA: _aaaa, CNAME: _cname, SRV: _srv, SOA: _soa}
