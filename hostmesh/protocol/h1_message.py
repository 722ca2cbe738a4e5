"""HTTP/1 heads as the rest of hostmesh reads them, and the one error that codecs raise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hostmesh.base.errors import MeshError, Side
from hostmesh.base.reasons import Reason
from hostmesh.protocol.h1_fields import find_fields, has_underscore_name

CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2
TUNNEL: Final = -3
"""What follows the head of a CONNECT is no message."""

Special = Sequence[tuple[bytes, ...]]


class BadMessage(MeshError):  # noqa: N818 - every error here says what it is, not that it is one
    """A head or body that hostmesh refuses. ``status`` answers the caller: 4xx or 501/505 for a request, 502
    for a response. After it the connection is good for nothing but the answer: no further byte may be parsed
    (F11)."""


def bad_request(message: str, reason: Reason = Reason.BAD_REQUEST, status: int = 400) -> BadMessage:
    return BadMessage(reason, message, status=status, side=Side.CALLER)


def bad_response(message: str, reason: Reason = Reason.BAD_RESPONSE) -> BadMessage:
    return BadMessage(reason, message, status=502, side=Side.CALLEE)


def excerpt(data: bytes, size: int = 60) -> str:
    """Bytes for a message to people: printable ASCII, bounded."""
    text = repr(bytes(data[:size]))[1:]
    return text + "..." if len(data) > size else text


class _Head:
    """What requests and responses share. Heads may be shared between messages: nobody assigns to them."""

    __slots__ = ("_block", "_by_name", "_end", "_fields", "special")

    special: Special
    """(lower-case name, value) of every field that a proxy must look at, in order: host, framing, hop-by-hop,
    ``l5d-*``, via, forwarded, x-forwarded-client-cert, expect, dtab-local, max-forwards, and their underscore
    twins under their own names."""

    @property
    def block(self) -> bytes:
        """The field lines as received, proved, each with its CRLF; without the empty line."""
        return self._block

    @property
    def end(self) -> int:
        """Index in the parsed buffer of the first byte after the head."""
        return self._end

    @property
    def fields(self) -> tuple[tuple[bytes, bytes, bytes], ...]:
        """(lower-case name, value, name as received), parsed on first use."""
        try:
            return self._fields
        except AttributeError:
            found = find_fields(self.block)
            self._fields = tuple([(raw.lower(), value.rstrip(b" \t"), raw) for raw, value in found])
            return self._fields

    def get(self, name: bytes) -> bytes | None:
        """The value of the first field with this lower-case name, or None."""
        try:
            return self._by_name.get(name)
        except AttributeError:
            by_name: dict[bytes, bytes] = {}
            for lower, value, _raw in self.fields:
                by_name.setdefault(lower, value)
            self._by_name = by_name
            return by_name.get(name)

    def get_all(self, name: bytes) -> list[bytes]:
        """The values of all fields with this lower-case name, in order."""
        return [value for lower, value, _raw in self.fields if lower == name]

    def has_underscore_names(self) -> bool:
        """Whether any field name contains ``_`` (T6)."""
        return has_underscore_name(self.block)

    _block: bytes
    _end: int
    _fields: tuple[tuple[bytes, bytes, bytes], ...]
    _by_name: dict[bytes, bytes]


class RequestHead(_Head):
    """One request head. Made by :func:`h1_head.parse_request` only."""

    __slots__ = (
        "canonical",
        "content_length",
        "expect_continue",
        "host",
        "keep_alive",
        "method",
        "nominated",
        "plain",
        "target",
        "upgrade",
        "version",
    )

    def __init__(
        self,
        method: bytes,
        target: bytes,
        host: bytes,
        version: int,
        block: bytes,
        special: Special,
        end: int,
        content_length: int = 0,
        keep_alive: bool = True,
        plain: bool = True,
        canonical: bool = True,
        expect_continue: bool = False,
        upgrade: bytes | None = None,
        nominated: frozenset[bytes] = frozenset(),
    ) -> None:
        self.method = method
        self.target = target
        """As received; of an absolute-form target the path and query, its authority being ``host``."""
        self.host = host
        """The one value that routing, policy, logs and the endpoint see; empty only for HTTP/1.0 without
        Host.
        """
        self.version = version
        """10 or 11."""
        self._block = block
        self.special = special
        self._end = end
        self.content_length = content_length
        """Bytes of the body, 0 also when there is none, CHUNKED (-1)."""
        self.keep_alive = keep_alive
        """Whether the caller wants the connection to stay after this exchange."""
        self.plain = plain
        """``block`` may be forwarded verbatim: no hop-by-hop field, no ``l5d-*``, one Host, framing as it
        should be.
        """
        self.canonical = canonical
        """Host and Content-Length in ``block`` are good as they are, whatever else must be cut."""
        self.expect_continue = expect_continue
        self.upgrade = upgrade
        """The Upgrade value when Connection asks for it; never forwarded by the head writer itself."""
        self.nominated = nominated
        """Lower-case names of further fields that Connection declares hop-by-hop."""

    @property
    def has_body(self) -> bool:
        return self.content_length != 0

    def __repr__(self) -> str:
        return f"<RequestHead {self.method!r} {self.target!r} host={self.host!r}>"


class ResponseHead(_Head):
    """One response head. Made by :func:`h1_head.parse_response` only."""

    __slots__ = (
        "canonical",
        "content_length",
        "has_body",
        "keep_alive",
        "nominated",
        "plain",
        "reason",
        "status",
        "version",
    )

    def __init__(
        self,
        status: int,
        reason: bytes,
        version: int,
        block: bytes,
        special: Special,
        end: int,
        content_length: int = 0,
        has_body: bool = True,
        keep_alive: bool = True,
        plain: bool = True,
        canonical: bool = True,
        nominated: frozenset[bytes] = frozenset(),
    ) -> None:
        self.status = status
        self.reason = reason
        self.version = version
        self._block = block
        self.special = special
        self._end = end
        self.content_length = content_length
        """With ``has_body``: bytes, CHUNKED (-1) or UNTIL_CLOSE (-2). Without: what a body would have had, or
        0.
        """
        self.has_body = has_body
        """Whether body bytes follow on the wire; False for HEAD, 1xx, 204, 304 and ``Content-Length: 0``."""
        self.keep_alive = keep_alive
        """Whether the endpoint's connection can carry another exchange after this one."""
        self.plain = plain
        self.canonical = canonical
        self.nominated = nominated

    @property
    def informational(self) -> bool:
        """A 1xx: another head follows."""
        return self.status < 200

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status}>"
