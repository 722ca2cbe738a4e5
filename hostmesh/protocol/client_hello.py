"""The server name in a TLS ClientHello, read without taking part in the handshake.

Strict: what this module reads is what the endpoint will read, or it is refused. Sources: RFC 8446 (records 5.1,
ClientHello 4.1.2), RFC 6066 section 3 (server_name), RFC 5246 7.4.1.2 for what older callers send. With Encrypted
Client Hello the name is that of the provider's outer hello, as for everybody on the way.
"""

from __future__ import annotations

import re

from attrs import frozen

from hostmesh.base.errors import MeshError, Side
from hostmesh.base.reasons import Reason

MAX_HELLO = 16 * 1024
"""Bytes of records that may be read for a ClientHello. Post-quantum key shares make hellos of 1.7 KB; OpenSSL itself
takes no more than this in one message."""

HANDSHAKE = 22
"""Content type of a record; the first byte of every TLS connection."""

_CLIENT_HELLO = 1
_SERVER_NAME = 0
_HOST_NAME = 0
_MAX_RECORD = 16 * 1024
"""RFC 8446 5.1: a record carries at most 2^14 bytes."""

_LABEL = rb"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rb"(?!.{254})(?:%b\.)*(?=[0-9_-]*[A-Za-z])%b" % (_LABEL, _LABEL))
"""A DNS name as RFC 6066 wants it: ASCII, no dot at the end, no IP address (the last label has a letter)."""


@frozen
class ClientHello:
    """What routing needs of it."""

    server_name: str | None
    """In lower case; None when the caller sent none."""


def starts_tls(data: bytes) -> bool:
    """Whether the first byte of a connection, which must be there, is that of a TLS handshake."""
    return data[0] == HANDSHAKE


def read_hello(data: bytes, limit: int = MAX_HELLO) -> ClientHello | None:
    """Read the beginning of a connection that :func:`starts_tls`; None when more is needed.

    Raises MeshError (bad-client-hello) for what is no ClientHello, and (limit-header-bytes) when it is longer than
    ``limit`` bytes of records.
    """
    message = b""
    pos = 0
    while True:
        if len(data) - pos < 5:
            _within(len(data), limit)
            if pos < len(data) and data[pos] != HANDSHAKE:
                raise bad("another record comes before its end")
            return None
        if data[pos] != HANDSHAKE:
            raise bad("another record comes before its end" if pos else "the first record is no handshake")
        if data[pos + 1] != 3:
            raise bad(f"record version {data[pos + 1]}.{data[pos + 2]}")
        size = int.from_bytes(data[pos + 3 : pos + 5], "big")
        if not 0 < size <= _MAX_RECORD:
            raise bad(f"a record of {size} bytes")
        message += data[pos + 5 : pos + 5 + size]
        if message and message[0] != _CLIENT_HELLO:
            raise bad(f"handshake message {message[0]}")
        if len(message) >= 4:
            wanted = int.from_bytes(message[1:4], "big") + 4
            _within(wanted, limit)
            if len(message) > wanted:
                # What follows cannot have been sent before the server's answer.
                raise bad("more handshake bytes follow in its record")
            if len(message) == wanted and pos + 5 + size <= len(data):
                return _hello(message)
        pos += 5 + size
        _within(min(pos, len(data)), limit)
        if pos > len(data):
            return None


def bad(what: str) -> MeshError:
    return MeshError(
        Reason.BAD_CLIENT_HELLO,
        f"the connection does not begin with a TLS ClientHello: {what}",
        status=400,
        side=Side.CALLER,
    )


def _within(size: int, limit: int) -> None:
    if size > limit:
        raise MeshError(
            Reason.LIMIT_HEADER_BYTES,
            f"a TLS ClientHello of more than {limit} bytes",
            status=431,
            side=Side.CALLER,
        )


class _Cursor:
    """Takes length-prefixed pieces off a message; nothing may reach beyond it or be left over."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._pos = 0
        self._what = what

    @property
    def more(self) -> bool:
        return self._pos < len(self._data)

    def take(self, size: int) -> bytes:
        end = self._pos + size
        if end > len(self._data):
            raise bad(f"{self._what} is cut short")
        piece = self._data[self._pos : end]
        self._pos = end
        return piece

    def vector(self, prefix: int, least: int, unit: int = 1) -> bytes:
        size = int.from_bytes(self.take(prefix), "big")
        if size < least or size % unit:
            raise bad(f"{self._what} has a list of {size} bytes")
        return self.take(size)

    def end(self) -> None:
        if self.more:
            raise bad(f"{len(self._data) - self._pos} bytes follow {self._what}")


def _hello(message: bytes) -> ClientHello:
    cursor = _Cursor(message[4:], "the hello")
    version = cursor.take(2)
    if version[0] != 3:
        raise bad(f"version {version[0]}.{version[1]}")
    cursor.take(32)
    if len(cursor.vector(1, 0)) > 32:
        raise bad("a session id of more than 32 bytes")
    cursor.vector(2, 2, 2)
    cursor.vector(1, 1)
    if not cursor.more:
        return ClientHello(None)
    extensions = _Cursor(cursor.vector(2, 0), "the extensions")
    cursor.end()
    name: str | None = None
    seen: set[bytes] = set()
    while extensions.more:
        kind = extensions.take(2)
        body = extensions.vector(2, 0)
        if kind in seen:
            # Which of the two counts would be a matter of taste (RFC 8446 4.2 forbids it).
            raise bad(f"extension {int.from_bytes(kind, 'big')} twice")
        seen.add(kind)
        if int.from_bytes(kind, "big") == _SERVER_NAME:
            name = _server_name(body)
    return ClientHello(name)


def _server_name(body: bytes) -> str:
    extension = _Cursor(body, "server_name")
    names = _Cursor(extension.vector(2, 1), "server_name")
    extension.end()
    kind = names.take(1)[0]
    host = names.vector(2, 1)
    names.end()
    if kind != _HOST_NAME:
        raise bad(f"a server name of type {kind}")
    return host_name(host)


def host_name(host: bytes) -> str:
    """A server name in lower case. Raises MeshError (bad-client-hello) for one that cannot be a DNS name."""
    if _NAME.fullmatch(host) is None:
        raise bad(f"the server name {host[:80]!r} is no DNS name")
    return host.decode("ascii").lower()
