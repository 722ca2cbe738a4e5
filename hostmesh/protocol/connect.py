"""CONNECT (RFC 9110 9.3.6): where a caller wants a tunnel to, and where a listener lets it.

Only names and addresses that the configuration lists may be asked for (hardening F20): a proxy that connects to
whatever it is told is a way into every network that it can reach.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

from attrs import frozen

from hostmesh.protocol.h1_fields import is_authority
from hostmesh.protocol.h1_message import bad_request, excerpt

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 hostmesh\r\n\r\n"
"""The answer, after which the connection is a tunnel."""

_PATTERN = re.compile(r"(\*|(?:\*\.)?[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(\*|[1-9][0-9]{0,4})")


@frozen
class Destination:
    """A host in lower case, without brackets, and a port."""

    host: str
    port: int


def read_destination(target: bytes) -> Destination:
    """The destination of an authority-form target. Raises BadMessage (400); the port must be there and not 0."""
    host, colon, port = target.rpartition(b":")
    if not colon or not is_authority(target) or not port.isdigit() or len(port) > 5 or not host:
        raise bad_request(f"CONNECT target {excerpt(target)} is not host:port")
    number = int(port)
    if not 0 < number <= 65535:
        raise bad_request(f"CONNECT to port {number}")
    return Destination(host.decode("ascii").lower().removeprefix("[").removesuffix("]"), number)


def pattern_problem(text: str) -> str | None:
    """What is wrong with a pattern of an allow-list, as the end of "expected ...", or None."""
    match = _PATTERN.fullmatch(text)
    if match is None or (match[2] != "*" and int(match[2]) > 65535):
        return "host:port, where the host may be *.suffix or * and the port *"
    if match[1].startswith("["):
        try:
            ip_address(match[1][1:-1])
        except ValueError:
            return "an IPv6 address in brackets, and a port"
    return None


class AllowList:
    """Patterns ``host:port``: exact, ``*.suffix`` (any number of labels in front), or ``*``; the port may be ``*``."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._patterns = [(_canonical(host), port) for host, _, port in (p.rpartition(":") for p in patterns)]

    def allows(self, wanted: Destination) -> bool:
        host = _canonical(wanted.host)
        return any(
            port in ("*", str(wanted.port))
            and (pattern in ("*", host) or (pattern.startswith("*.") and host.endswith(pattern[1:])))
            for pattern, port in self._patterns
        )


def _canonical(host: str) -> str:
    # One spelling of an address; a dot at the end of a name makes no other name of it.
    host = host.lower().removeprefix("[").removesuffix("]")
    try:
        return str(ip_address(host))
    except ValueError:
        return host.removesuffix(".")
