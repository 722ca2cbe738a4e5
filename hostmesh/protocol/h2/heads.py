"""Header lists for the wire from any head, and HTTP/2 heads (:mod:`message`).

The cutting follows :mod:`hostmesh.protocol.h1_write`: what ends at this hop goes, then what the proxy says is appended,
so nothing a peer sends can take it away (T5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from hostmesh.protocol.h1_body import forwardable_trailers
from hostmesh.protocol.h1_fields import find_fields, has_underscore_name
from hostmesh.protocol.h2.fields import (
    CONTEXT,
    COOKIE,
    EXPECT,
    HOP,
    KEEP,
    L5D,
    LENGTH,
    LOOK,
    TE,
    TWIN,
    kind_of,
)
from hostmesh.protocol.h2.message import VERSION, H2RequestHead, H2ResponseHead, pair_lines

if TYPE_CHECKING:
    from hostmesh.protocol.h1_message import RequestHead, ResponseHead
    from hostmesh.protocol.h2.engine import Pair, Pairs

_T = TypeVar("_T")

__all__ = [
    "VERSION",
    "H2RequestHead",
    "H2ResponseHead",
    "answer_pairs",
    "has_underscores",
    "line_pairs",
    "request_pairs",
    "response_pairs",
    "trailer_lines",
    "trailer_pairs",
]

_NO_NAMES: Final[frozenset[bytes]] = frozenset()
_TE: Final = (b"te", b"trailers")
_STATUS: Final = {code: (b":status", b"%d" % code) for code in range(100, 1000)}


def line_pairs(lines: bytes) -> list[Pair]:
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
) -> list[Pair]:
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
    pairs: list[Pair] = [(b":method", method)]
    if method != b"CONNECT" or protocol is not None:
        pairs += ((b":scheme", scheme), (b":path", target))
    if host:
        pairs.append((b":authority", host))
    if protocol is not None:
        pairs.append((b":protocol", protocol))
    if isinstance(head, H2RequestHead):
        if head.clean and not clear:
            pairs += [pair for pair in head.pairs if pair[0] not in drop] if drop else head.pairs
        else:
            _cut_request(pairs, head.pairs, clear, expect, drop)
    else:
        lower = [(name, value) for name, value, _raw in head.fields]
        _cut_request(pairs, lower, clear, expect, head.nominated | drop)
    if extra:
        pairs += line_pairs(extra)
    return pairs


def _cut_request(out: list[Pair], pairs: Pairs, clear: bool, expect: bool, drop: frozenset[bytes]) -> None:
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
) -> list[Pair]:
    """The header list to send to the caller, from a head of either version, also a 1xx.

    ``framing`` replaces the declared length: a length, or CHUNKED or UNTIL_CLOSE for a body that HTTP/2 ends itself;
    None keeps what the endpoint declared. Otherwise as :func:`h1_write.response_head`.
    """
    status = head.status
    pairs: list[Pair] = [_STATUS[status]]
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
        elif kind in (HOP, TE) or name in nominated:
            continue
        elif kind in (CONTEXT, L5D):
            plain = name.replace(b"_", b"-")
            if plain == b"dtab-local" or not (clear or plain == b"l5d-success-class"):
                pairs.append(pair)
        elif not (clear and name == b"via"):
            pairs.append(pair)
    if framing is not None and framing >= 0:
        pairs.append((b"content-length", b"%d" % framing))
    if extra:
        pairs += line_pairs(extra)
    return pairs


def answer_pairs(
    status: int, body: bytes, extra: bytes = b"", *, content_type: bytes = b"text/plain"
) -> list[Pair]:
    """The header list of an answer of our own with this body; the body itself is sent as DATA, if at all."""
    pairs: list[Pair] = [_STATUS[status]]
    if status >= 200 and status not in (204, 304):
        if body:
            pairs.append((b"content-type", content_type))
        pairs.append((b"content-length", b"%d" % len(body)))
    return pairs + line_pairs(extra)


def trailer_lines(pairs: Pairs) -> bytes:
    """HTTP/2 trailers as HTTP/1 trailer lines, without those that may not be forwarded as trailers (F19)."""
    lines = pair_lines(pairs)
    known = _forwardable.get(lines)
    if known is None:
        known = forwardable_trailers(lines)
        _remember(_forwardable, lines, known)
    return known


def trailer_pairs(lines: bytes) -> list[Pair]:
    """HTTP/1 trailer lines (or the filtered lines of another HTTP/2 half) as HTTP/2 trailers."""
    known = _pairs.get(lines)
    if known is None:
        known = line_pairs(lines)
        _remember(_pairs, lines, known)
    return known.copy()


MAX_KNOWN_TRAILERS: Final = 64
"""Trailers of which is remembered what they become. Nearly all of gRPC's say the same: grpc-status 0."""
MAX_KNOWN_TRAILER_BYTES: Final = 128
"""Longer ones say something of their own."""

_forwardable: Final[dict[bytes, bytes]] = {}
_pairs: Final[dict[bytes, list[Pair]]] = {}


def _remember(memory: dict[bytes, _T], lines: bytes, result: _T) -> None:
    if len(lines) <= MAX_KNOWN_TRAILER_BYTES:
        if len(memory) >= MAX_KNOWN_TRAILERS:
            # All at once: whoever makes up trailers costs the others a look, and not their place for ever.
            memory.clear()
        memory[lines] = result


def has_underscores(head: RequestHead) -> bool:
    """Whether a head of either version has a name with ``_`` (T6)."""
    return head.has_underscore_names() if isinstance(head, H2RequestHead) else has_underscore_name(head.block)
