"""HTTP/2 heads as the rest of hostmesh reads heads.

Between two HTTP/2 halves the fields stay pairs: lines in HTTP/1 form are made only when somebody asks for ``block`` or
``fields``.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from hpack.struct import NeverIndexedHeaderTuple

from hostmesh.protocol.h1_meaning import is_context_name
from hostmesh.protocol.h1_message import CHUNKED, RequestHead, ResponseHead
from hostmesh.protocol.h1_write import REASON_PHRASES
from hostmesh.protocol.h2.fields import (
    CONTEXT,
    COOKIE,
    EXPECT,
    HOP,
    HOST,
    KEEP,
    L5D,
    LENGTH,
    LOOK,
    TE,
    TWIN,
    XFCC,
    is_special,
    kind_of,
)

if TYPE_CHECKING:
    from hostmesh.protocol.h2.engine import Pair, Pairs

VERSION: Final = 20
"""``version`` of HTTP/2 heads, as 11 is that of HTTP/1.1."""

_NO_NAMES: Final[frozenset[bytes]] = frozenset()
_EMPTY: Final = (b"content-length", b"0")
_LENGTH_TWIN: Final = b"content_length"
"""To a CGI endpoint the framing itself (T6): an HTTP/1 writer then writes the frame anew."""
_SAYS_LENGTH: Final = frozenset({b"POST", b"PUT", b"PATCH"})
"""Methods whose requests declare a length in HTTP/1, 0 too (RFC 9110 8.6): some endpoints answer 411 else."""
_PHRASES: Final = {int(code): code.phrase.encode() for code in HTTPStatus} | REASON_PHRASES


def _joined(crumbs: list[Pair]) -> Pair:
    """One cookie of all its crumbs (RFC 9113 8.2.3): HTTP/1 endpoints and most parsers expect one.

    Without the empty ones: a value must not end with a space. If one of them came with the order never to index it
    (RFC 7541 6.2.3), the whole is sent on so.
    """
    value = b"; ".join([crumb[1] for crumb in crumbs if crumb[1]])
    for crumb in crumbs:
        if not getattr(crumb, "indexable", True):
            kept: Pair = NeverIndexedHeaderTuple(b"cookie", value)
            return kept
    return b"cookie", value


class H2RequestHead(RequestHead):
    """A request head that came as HTTP/2. Made of pairs that :func:`fields.prove_request` has proved.

    As every head it may be shared: nobody assigns to it. ``pairs`` are the regular fields, cookies joined, Host left
    out; ``fields``, ``special`` and ``block`` have Host first, as if it had come in HTTP/1.
    """

    __slots__ = ("clean", "pairs", "protocol", "scheme")

    def __init__(self, pairs: Pairs, end: bool) -> None:
        method = target = host = authority = b""
        scheme = b"http"
        protocol = None
        length = 0 if end else CHUNKED
        clean = canonical = True
        expect = False
        crumbs: list[Pair] = []
        special: list[Pair] = []
        regular: list[Pair] = []
        for pair in pairs:
            name, value = pair
            if name[0] == 58:  # a colon
                if name == b":method":
                    method = value
                elif name == b":path":
                    target = value
                elif name == b":authority":
                    authority = value
                elif name == b":scheme":
                    scheme = value
                else:
                    protocol = value
                continue
            kind = kind_of(name)
            if kind == KEEP:
                regular.append(pair)
            elif kind == COOKIE:
                if not crumbs:
                    at = len(regular)
                    regular.append(pair)
                crumbs.append(pair)
            elif kind == HOST:
                host = value
            elif kind == LENGTH:
                if special and (b"content-length", value) in special:
                    continue
                special.append((name, value))
                regular.append(pair)
                if not end:
                    length = int(value)
            else:
                regular.append(pair)
                if kind not in (LOOK, TE):
                    clean = False
                    if name == _LENGTH_TWIN:
                        canonical = False
                    if kind == EXPECT and value.lower() == b"100-continue" and not end:
                        expect = True
                if kind != TWIN or is_special(name):
                    special.append((name, value))
        if len(crumbs) > 1:
            regular[at] = _joined(crumbs)
        host = authority or host
        special.insert(0, (b"host", host))
        self.method = method
        self.target = target or authority
        """:path; of a plain CONNECT its authority."""
        self.host = host
        self.version = VERSION
        self.special = special
        self.content_length = length
        self.keep_alive = True
        self.plain = False
        self.canonical = canonical
        self.expect_continue = expect
        self.upgrade = None
        self.nominated = _NO_NAMES
        self.pairs = regular
        self.scheme = scheme
        self.protocol = protocol
        """Of an extended CONNECT (RFC 8441), lower-case in practice: ``websocket``; else None."""
        self.clean = clean
        """Inside the mesh ``pairs`` may be forwarded as they are."""

    @property
    def block(self) -> bytes:
        """The fields as HTTP/1 lines."""
        try:
            return self._block
        except AttributeError:
            host = b"Host: %b\r\n" % self.host if self.host else b""
            block = host + pair_lines(self.pairs)
            if (
                self.content_length == 0
                and self.method in _SAYS_LENGTH
                and not any(name == b"content-length" for name, _value in self.special)
            ):
                block += b"content-length: 0\r\n"
            self._block = block
            return block

    @property
    def end(self) -> int:
        """Octets of the head, as an HTTP/1 parser would count them; for records."""
        return len(self.method) + len(self.target) + len(self.block) + 14

    @property
    def fields(self) -> tuple[tuple[bytes, bytes, bytes], ...]:
        try:
            return self._fields
        except AttributeError:
            found = [(name, value, name) for name, value in self.pairs]
            if self.host:
                found.insert(0, (b"host", self.host, b"host"))
            self._fields = tuple(found)
            return self._fields

    def get(self, name: bytes) -> bytes | None:
        if name == b"host":
            return self.host or None
        for known, value in self.pairs:
            if known == name:
                return value
        return None

    def has_underscore_names(self) -> bool:
        return any(b"_" in name for name, _value in self.pairs)

    def without_context(self) -> H2RequestHead:
        """The head as a server with ``clearContext`` sees it; see :func:`h1_meaning.without_context`."""
        kept = [pair for pair in self.pairs if not is_context_name(pair[0])]
        if len(kept) == len(self.pairs):
            return self
        pseudo = [(b":method", self.method), (b":path", self.target), (b":scheme", self.scheme)]
        if self.host:
            pseudo.append((b":authority", self.host))
        if self.protocol is not None:
            pseudo.append((b":protocol", self.protocol))
        return H2RequestHead([*pseudo, *kept], self.content_length == 0)


class H2ResponseHead(ResponseHead):
    """A response head, also a 1xx, that came as HTTP/2; of pairs that :func:`fields.prove_response` has proved."""

    __slots__ = ("_declare_empty", "clean", "pairs")

    def __init__(self, pairs: Pairs, end: bool, method: bytes) -> None:
        """``method`` is that of the request; ``end`` says that no body follows."""
        status = int(pairs[0][1])
        special: list[Pair] = []
        declared = -1
        clean = canonical = True
        # Neither may declare a length (RFC 9110 8.6). We drop the field rather than the response.
        lengthless = status < 200 or status == 204
        regular = list(pairs[1:])
        drop: list[Pair] = []
        for pair in regular:
            name = pair[0]
            kind = kind_of(name)
            if kind in (KEEP, COOKIE, XFCC, TWIN, EXPECT, HOST):
                if kind != KEEP and is_special(name):
                    special.append(pair)
                continue
            if kind == LENGTH:
                if declared >= 0 or lengthless:
                    drop.append(pair)
                    continue
                declared = int(pair[1])
            elif kind in (HOP, TE, CONTEXT, L5D):
                clean = False
                if name == _LENGTH_TWIN:
                    canonical = False
            special.append(pair)
        if drop:
            regular = _without_repeated(regular, lengthless)
        body = not lengthless and method != b"HEAD" and status != 304
        self._declare_empty = body and end and declared < 0
        if self._declare_empty:
            # To an HTTP/1 caller silence would mean a body until the connection ends.
            special.append(_EMPTY)
        self.status = status
        self.reason = _PHRASES.get(status, b"")
        self.version = VERSION
        self.special = special
        self.has_body = body and not end and declared != 0
        self.content_length = declared if declared >= 0 else CHUNKED if self.has_body else 0
        self.keep_alive = True
        self.plain = False
        self.canonical = canonical
        self.nominated = _NO_NAMES
        self.pairs: Pairs = regular
        self.clean = clean
        """Inside the mesh ``pairs`` may be forwarded as they are."""

    @property
    def block(self) -> bytes:
        """The fields as HTTP/1 lines."""
        try:
            return self._block
        except AttributeError:
            self._block = pair_lines(self.pairs) + (b"content-length: 0\r\n" if self._declare_empty else b"")
            return self._block

    @property
    def end(self) -> int:
        """Octets of the head, as an HTTP/1 parser would count them; for records."""
        return len(self.block) + len(self.reason) + 17

    @property
    def fields(self) -> tuple[tuple[bytes, bytes, bytes], ...]:
        try:
            return self._fields
        except AttributeError:
            self._fields = tuple([(name, value, name) for name, value in self.pairs])
            return self._fields

    def get(self, name: bytes) -> bytes | None:
        for known, value in self.pairs:
            if known == name:
                return value
        return None

    def has_underscore_names(self) -> bool:
        return any(b"_" in name for name, _value in self.pairs)


def _without_repeated(pairs: Pairs, lengthless: bool) -> list[Pair]:
    kept = []
    seen = lengthless
    for pair in pairs:
        if pair[0] == b"content-length":
            if seen:
                continue
            seen = True
        kept.append(pair)
    return kept


def pair_lines(pairs: Pairs) -> bytes:
    """Pairs as HTTP/1 field lines, each with its CRLF."""
    return b"".join([b"%b: %b\r\n" % pair for pair in pairs])
