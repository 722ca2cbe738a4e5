"""HTTP/2 heads as the rest of hostmesh reads heads, and header lists for the wire from any head.

Between two HTTP/2 halves the fields stay pairs: lines in HTTP/1 form are made only when somebody asks for ``block`` or
``fields``. The cutting follows :mod:`hostmesh.protocol.h1_write`: what ends at this hop goes, then what the proxy says
is appended, so nothing a peer sends can take it away (T5).
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from hostmesh.protocol.h1_body import forwardable_trailers
from hostmesh.protocol.h1_fields import find_fields, has_underscore_name
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
    from hostmesh.protocol.h2.engine import Pairs

VERSION: Final = 20
"""``version`` of HTTP/2 heads, as 11 is that of HTTP/1.1."""

_NO_NAMES: frozenset[bytes] = frozenset()
_TE = (b"te", b"trailers")
_EMPTY = (b"content-length", b"0")
_PHRASES = {int(code): code.phrase.encode() for code in HTTPStatus} | REASON_PHRASES
_STATUS = {code: (b":status", b"%d" % code) for code in range(100, 1000)}


def _joined(crumbs: list[bytes]) -> tuple[bytes, bytes]:
    """One cookie of all its crumbs (RFC 9113 8.2.3): HTTP/1 endpoints and most parsers expect one."""
    return b"cookie", b"; ".join(crumbs)


class H2RequestHead(RequestHead):
    """A request head that came as HTTP/2. Made of pairs that :func:`fields.prove_request` has proved.

    As every head it may be shared: nobody assigns to it. ``pairs`` are the regular fields, cookies joined, Host left
    out; ``fields``, ``special`` and ``block`` have Host first, as if it had come in HTTP/1.
    """

    __slots__ = ("_block", "clean", "pairs", "protocol", "scheme")

    def __init__(self, pairs: Pairs, end: bool) -> None:
        method = target = host = authority = b""
        scheme = b"http"
        protocol = None
        length = 0 if end else CHUNKED
        clean = True
        expect = False
        crumbs: list[bytes] = []
        special: list[tuple[bytes, bytes]] = []
        regular: list[tuple[bytes, bytes]] = []
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
                crumbs.append(value)
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
        self.canonical = True
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
    def block(self) -> bytes:  # type: ignore[override]  # made on demand here, a slot there
        """The fields as HTTP/1 lines."""
        try:
            return self._block
        except AttributeError:
            host = b"Host: %b\r\n" % self.host if self.host else b""
            self._block = host + _lines(self.pairs)
            return self._block

    _block: bytes

    @property
    def end(self) -> int:  # type: ignore[override]
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

    __slots__ = ("_block", "_declare_empty", "clean", "pairs")

    def __init__(self, pairs: Pairs, end: bool, method: bytes) -> None:
        """``method`` is that of the request; ``end`` says that no body follows."""
        status = int(pairs[0][1])
        special: list[tuple[bytes, bytes]] = []
        declared = -1
        clean = True
        # Neither may declare a length (RFC 9110 8.6). We drop the field rather than the response.
        lengthless = status < 200 or status == 204
        regular = list(pairs[1:])
        drop: list[tuple[bytes, bytes]] = []
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
        self.canonical = True
        self.nominated = _NO_NAMES
        self.pairs: Pairs = regular
        self.clean = clean
        """Inside the mesh ``pairs`` may be forwarded as they are."""

    @property
    def block(self) -> bytes:  # type: ignore[override]  # made on demand here, a slot there
        """The fields as HTTP/1 lines."""
        try:
            return self._block
        except AttributeError:
            self._block = _lines(self.pairs) + (b"content-length: 0\r\n" if self._declare_empty else b"")
            return self._block

    _block: bytes

    @property
    def end(self) -> int:  # type: ignore[override]
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


def _without_repeated(pairs: Pairs, lengthless: bool) -> list[tuple[bytes, bytes]]:
    kept = []
    seen = lengthless
    for pair in pairs:
        if pair[0] == b"content-length":
            if seen:
                continue
            seen = True
        kept.append(pair)
    return kept


def _lines(pairs: Pairs) -> bytes:
    return b"".join([b"%b: %b\r\n" % pair for pair in pairs])


def line_pairs(lines: bytes) -> list[tuple[bytes, bytes]]:
    """Our own field lines, each with its CRLF, as pairs: names lower-cased."""
    return [(name.lower(), value.rstrip(b" \t")) for name, value in find_fields(lines)] if lines else []


def request_pairs(
    head: RequestHead,
    extra: bytes = b"",
    *,
    method: bytes | None = None,
    target: bytes | None = None,
    host: bytes | None = None,
    clear: bool = False,
    expect: bool = False,
    drop: frozenset[bytes] = _NO_NAMES,
    scheme: bytes = b"http",
) -> list[tuple[bytes, bytes]]:
    """The header list to send to the endpoint, from a head of either version; arguments as
    :func:`h1_write.request_head`, ``scheme`` is that of our connection to the endpoint.

    ``te: trailers`` stays: gRPC needs it, and trailers do pass here.
    """
    if method is None:
        method = head.method
    if target is None:
        target = head.target
    if host is None:
        host = head.host
    protocol = head.protocol if isinstance(head, H2RequestHead) else None
    pairs: list[tuple[bytes, bytes]] = [(b":method", method)]
    if method != b"CONNECT" or protocol is not None:
        pairs += ((b":scheme", scheme), (b":path", target))
    if host:
        pairs.append((b":authority", host))
    if protocol is not None:
        pairs.append((b":protocol", protocol))
    if isinstance(head, H2RequestHead):
        if head.clean and not drop and not clear:
            pairs += head.pairs
        else:
            _cut_request(pairs, head.pairs, clear, expect, drop)
    else:
        lower = [(name, value) for name, value, _raw in head.fields]
        _cut_request(pairs, lower, clear, expect, head.nominated | drop)
    if extra:
        pairs += line_pairs(extra)
    return pairs


def _cut_request(
    out: list[tuple[bytes, bytes]], pairs: Pairs, clear: bool, expect: bool, drop: frozenset[bytes]
) -> None:
    for pair in pairs:
        name, value = pair
        kind = kind_of(name)
        if name in drop:
            continue
        if kind in (KEEP, COOKIE, LOOK, LENGTH):
            if clear and b"_" in name:
                continue
            out.append(pair)
        elif kind == TE:
            if b"trailers" in [word.strip(b" \t") for word in value.lower().split(b",")]:
                out.append(_TE)
        elif (kind == EXPECT and expect) or (kind in (L5D, TWIN) and not clear):
            out.append(pair)


def response_pairs(
    head: ResponseHead,
    extra: bytes = b"",
    *,
    framing: int | None = None,
    clear: bool = False,
) -> list[tuple[bytes, bytes]]:
    """The header list to send to the caller, from a head of either version, also a 1xx.

    ``framing`` replaces the declared length: a length, or CHUNKED or UNTIL_CLOSE for a body that HTTP/2 ends itself;
    None keeps what the endpoint declared. Otherwise as :func:`h1_write.response_head`.
    """
    status = head.status
    pairs: list[tuple[bytes, bytes]] = [_STATUS[status]]
    if isinstance(head, H2ResponseHead):
        regular = head.pairs
        if head.clean and framing is None and not clear:
            pairs += regular
            if extra:
                pairs += line_pairs(extra)
            return pairs
        nominated = _NO_NAMES
    else:
        regular = [(name, value) for name, value, _raw in head.fields]
        nominated = head.nominated
    declare = framing is None and status >= 200 and status != 204
    for pair in regular:
        name = pair[0]
        kind = kind_of(name)
        if kind == LENGTH:
            if declare:
                pairs.append(pair)
                declare = False
        elif kind in (HOP, TE) or name in nominated or name == b"l5d-success-class":
            continue
        elif not clear or (kind not in (CONTEXT, L5D) and name != b"via"):
            pairs.append(pair)
    if framing is not None and framing >= 0:
        pairs.append((b"content-length", b"%d" % framing))
    if extra:
        pairs += line_pairs(extra)
    return pairs


def answer_pairs(
    status: int, body: bytes, extra: bytes = b"", *, content_type: bytes = b"text/plain"
) -> list[tuple[bytes, bytes]]:
    """The header list of an answer of our own with this body; the body itself is sent as DATA, if at all."""
    pairs: list[tuple[bytes, bytes]] = [_STATUS[status]]
    if status >= 200 and status not in (204, 304):
        if body:
            pairs.append((b"content-type", content_type))
        pairs.append((b"content-length", b"%d" % len(body)))
    return pairs + line_pairs(extra)


def trailer_lines(pairs: Pairs) -> bytes:
    """HTTP/2 trailers as HTTP/1 trailer lines, without those that may not be forwarded as trailers (F19)."""
    return forwardable_trailers(_lines(pairs))


def trailer_pairs(lines: bytes) -> list[tuple[bytes, bytes]]:
    """HTTP/1 trailer lines (or the filtered lines of another HTTP/2 half) as HTTP/2 trailers."""
    return line_pairs(lines)


def has_underscores(head: RequestHead) -> bool:
    """Whether a head of either version has a name with ``_`` (T6)."""
    return head.has_underscore_names() if isinstance(head, H2RequestHead) else has_underscore_name(head.block)
