"""A client session that calls the endpoint by a name of its own: Consul's ``setHost``.

The endpoint gets its name as ``Host``; where it speaks of itself, in ``Location`` and ``Refresh``, callers get the
host that they asked for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hostmesh.proxy.client_session import ClientSession

if TYPE_CHECKING:
    from hostmesh.protocol.h2.engine import Pairs
    from hostmesh.proxy.endpoint_stack import EndpointStack
    from hostmesh.proxy.exchange import Exchange
    from hostmesh.pump.loop import Transport

AUTHORITY = "authority"
"""The metadata of an endpoint that holds its name."""

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_FIELD = re.compile(rb"\n(?:location|refresh):[^\r\n]*", re.IGNORECASE)
_INTERIM = re.compile(rb"HTTP/1\.[01] 1[0-9][0-9]")


def authority_of(meta: tuple[tuple[str, str], ...]) -> bytes | None:
    """The name that an endpoint is to be called by; None if it has none, or one that cannot be a host."""
    for key, value in meta:
        if key == AUTHORITY:
            return value.encode() if _NAME.fullmatch(value) else None
    return None


def _urls_of(name: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"//" + re.escape(name) + rb"(?::[0-9]+)?(?=[/?#\s;,\"']|\Z)", re.IGNORECASE)


def called_back(buf: bytes, name: bytes, host: bytes) -> bytes:
    """``buf`` with the first final response head in it, if it is complete, telling of ``host`` instead of ``name``."""
    url = _urls_of(name)
    start = 0
    while (end := buf.find(b"\r\n\r\n", start)) >= 0:
        if not _INTERIM.match(buf, start):
            head = _FIELD.sub(lambda field: url.sub(lambda _match: b"//" + host, field[0]), buf[start:end])
            return buf[:start] + head + buf[end:]
        start = end + 4
    return buf


def told_pairs(pairs: Pairs, name: bytes, host: bytes) -> Pairs:
    """As :func:`called_back`, for the header list of an HTTP/2 response."""
    if not any(field in (b"location", b"refresh") for field, _value in pairs):
        return pairs
    url = _urls_of(name)
    return [
        (field, url.sub(lambda _match: b"//" + host, value) if field in (b"location", b"refresh") else value)
        for field, value in pairs
    ]


class NamedSession(ClientSession):
    """For endpoints with a name. Heads are always composed: this is not the common path."""

    __slots__ = ("_name",)

    def __init__(self, endpoint: EndpointStack, transport: Transport, now: float, name: bytes) -> None:
        super().__init__(endpoint, transport, now)
        self._name = name

    def start(self, ex: Exchange) -> None:
        self.ex = ex
        self.busy = True
        self.got_bytes = False
        self.reused = self.requests > 0
        self.requests += 1
        self._mark = self._transport.bytes_out
        assert ex.branch is not None
        self._transport.write(self._head_and_body(ex, ex.branch.lines + ex.trace, host=self._name))
        if not self.closed:
            ex.attached(self)

    def _head(self, ex: Exchange, buf: bytes) -> None:
        told = called_back(buf, self._name, ex.head.host)
        if told is not buf:
            self._searched = 0
        super()._head(ex, told)
