"""The PROXY protocol, versions 1 and 2: who called, told by a proxy in front of us, or by us to an endpoint.

Source: HAProxy's doc/proxy-protocol.txt. Strict: a header that two readers could take differently is refused, and a
listener that expects one refuses connections without.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

from attrs import frozen

from hostmesh.base.errors import MeshError, Side
from hostmesh.base.reasons import Reason

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
"""What version 2 begins with."""

MAX_V1 = 107
"""Bytes of the longest version 1 line, CRLF included; the specification's number."""

MAX_V2 = 4096
"""Bytes after the fixed part of a version 2 header. Addresses take 12 or 36, the rest are TLVs, of which the largest
known, certificates' names and unique ids, take some hundreds; the field could say 65,535."""

_FIXED = 16
_V1 = re.compile(
    rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f:.]{3,39}) ([0-9A-Fa-f:.]{3,39}) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})\r\n"
)
_V1_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [ -~]*)?\r\n")
_LOCAL, _PROXY = 0x20, 0x21
_UNSPEC, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_SIZES = {_TCP4: (4, 12), _TCP6: (16, 36), _UNIX: (0, 216), _UNSPEC: (0, 0)}
"""Bytes of an address, and of both addresses with ports."""

Address = tuple[str, int]


@frozen
class ProxyHeader:
    """What the header said."""

    caller: Address | None
    """Where the connection came from; None when the proxy speaks for itself (a health check) or does not know."""
    target: Address | None
    """Where it was going."""
    end: int
    """Bytes of the header."""


def read_header(data: bytes) -> ProxyHeader | None:
    """Read the header at the start of ``data``; None when more is needed. Raises MeshError (bad-proxy-header)."""
    if data[:1] == b"P":
        return _read_v1(data)
    if data[: len(SIGNATURE)] == SIGNATURE[: len(data)]:
        return _read_v2(data)
    raise bad("the connection does not begin with one")


def bad(what: str) -> MeshError:
    return MeshError(Reason.BAD_PROXY_HEADER, f"PROXY protocol header: {what}", status=400, side=Side.CALLER)


def _read_v1(data: bytes) -> ProxyHeader | None:
    stop = data.find(b"\n", 0, MAX_V1)
    if stop < 0:
        if len(data) >= MAX_V1:
            raise bad(f"no end of line within {MAX_V1} bytes")
        if not data.startswith(b"PROXY "[: len(data)]):
            raise bad("the connection does not begin with one")
        return None
    line = data[: stop + 1]
    match = _V1.fullmatch(line)
    if match is None:
        if _V1_UNKNOWN.fullmatch(line):
            return ProxyHeader(None, None, stop + 1)
        raise bad(f"malformed line {line!r}")
    family, source, destination, source_port, destination_port = match.groups()
    version = 4 if family == b"TCP4" else 6
    caller = _address(source, source_port, version)
    target = _address(destination, destination_port, version)
    return ProxyHeader(caller, target, stop + 1)


def _address(ip: bytes, port: bytes, version: int) -> Address:
    try:
        address = ip_address(ip.decode("ascii"))
    except ValueError as error:
        raise bad(str(error)) from None
    if address.version != version:
        raise bad(f"{address} is not of IPv{version}")
    if int(port) > 65535:
        raise bad(f"port {int(port)}")
    return str(address), int(port)


def _read_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _FIXED:
        return None
    command, family = data[12], data[13]
    size = int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        raise bad(f"version and command {command:#04x}")
    if size > MAX_V2:
        raise bad(f"{size} bytes, expected at most {MAX_V2}")
    if command == _PROXY:
        if family not in _SIZES:
            raise bad(f"family and protocol {family:#04x}, expected TCP")
        if size < _SIZES[family][1]:
            raise bad(f"{size} bytes, too few for its addresses")
    end = _FIXED + size
    if len(data) < end:
        return None
    if command == _LOCAL:
        # A receiver must ignore all the rest: the proxy is the caller.
        return ProxyHeader(None, None, end)
    width, both = _SIZES[family]
    _check_tlvs(data[_FIXED + both : end])
    if not width:
        return ProxyHeader(None, None, end)
    make = IPv4Address if width == 4 else IPv6Address
    at = _FIXED
    source, destination = (str(make(data[at + n * width : at + (n + 1) * width])) for n in (0, 1))
    ports = at + 2 * width
    return ProxyHeader(
        (source, int.from_bytes(data[ports : ports + 2], "big")),
        (destination, int.from_bytes(data[ports + 2 : ports + 4], "big")),
        end,
    )


def _check_tlvs(data: bytes) -> None:
    pos = 0
    while pos < len(data):
        size = int.from_bytes(data[pos + 1 : pos + 3], "big")
        if pos + 3 + size > len(data):
            raise bad("a field reaches beyond its end")
        pos += 3 + size


def _numeric(address: Address) -> IPv4Address | IPv6Address:
    # A zone means something on this host only.
    return ip_address(address[0].partition("%")[0])


def header_v1(caller: Address, target: Address) -> bytes:
    """A version 1 line for a connection that came from ``caller`` to ``target``, both numeric."""
    source, destination = _numeric(caller), _numeric(target)
    if source.version != destination.version:
        # A line names one family; version 2 has the same limit, and both allow to say nothing.
        return b"PROXY UNKNOWN\r\n"
    line = f"PROXY TCP{source.version} {source} {destination} {caller[1]} {target[1]}\r\n"
    return line.encode("ascii")


def header_v2(caller: Address, target: Address) -> bytes:
    """The same in version 2."""
    source, destination = _numeric(caller), _numeric(target)
    if source.version != destination.version:
        return SIGNATURE + bytes((_PROXY, _UNSPEC, 0, 0))
    addresses = source.packed + destination.packed
    ports = caller[1].to_bytes(2, "big") + target[1].to_bytes(2, "big")
    family = _TCP4 if source.version == 4 else _TCP6
    size = len(addresses) + len(ports)
    return SIGNATURE + bytes((_PROXY, family)) + size.to_bytes(2, "big") + addresses + ports
