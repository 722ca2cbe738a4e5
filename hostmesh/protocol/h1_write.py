"""Outgoing HTTP/1 heads: cut what ends at this hop, add what the proxy says, keep the rest byte for byte.

The initial line is always written anew. Field lines that have been proved are forwarded as a slice; if some
of them must go, one pattern cuts those. ``extra`` is what the proxy adds: encoded lines, each with its CRLF;
it is appended after the cutting, so nothing a peer sends can take it away (T5).

A peer is trusted (inside the mesh) or ``clear`` (a server with ``clearContext``). From a trusted one the
context that hostmesh reads and rewrites is cut (``l5d-ctx-*``, ``l5d-dtab``, ``l5d-sample``, ``l5d-reqid``,
``l5d-dst-*``) and other ``l5d-*`` pass; from a ``clear`` one every ``l5d-*``, ``dtab-local`` and every name
with an underscore goes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from hostmesh.protocol.h1_fields import TOKEN, either_case
from hostmesh.protocol.h1_message import CHUNKED, UNTIL_CLOSE, RequestHead, ResponseHead

_HOP: Final = [
    *map(
        either_case,
        (b"connection", b"keep-alive", b"te", b"transfer-encoding", b"upgrade"),
    ),
    either_case(b"proxy-")
    + rb"(?:"
    + rb"|".join(map(either_case, (b"connection", b"authenticate", b"authorization")))
    + rb")",
]
_XFCC: Final = either_case(b"x-forwarded-client-cert")
_FRAME: Final = [either_case(b"host"), either_case(b"content-length")]
_ALL_L5D: Final = either_case(b"l5d-") + TOKEN + rb"*+"
_CONTEXT: Final = (
    either_case(b"l5d-")
    + rb"(?:"
    + rb"|".join(
        [
            *map(either_case, (b"dtab", b"sample", b"reqid")),
            either_case(b"ctx-") + TOKEN + rb"*+",
            either_case(b"dst-") + TOKEN + rb"*+",
        ]
    )
    + rb")"
)

_Cut = Callable[[bytes, bytes], bytes]


def _cutter(names: list[bytes]) -> _Cut:
    """``cut(b"", text)`` removes the lines with these names; the first line of ``text`` has no name and
    stays.

    The newline before a line goes and the one that ends it stays, so that neighbours are found, too.
    """
    first = bytes(sorted({name[1] for name in names} | {name[2] for name in names}))
    return re.compile(rb"\n(?=[" + first + rb"])(?:" + rb"|".join(names) + rb"):[^\r\n]*+\r(?=\n)").sub


def _request_cutter(clear: bool, canonical: bool, expect: bool) -> _Cut:
    names = [*_HOP, _XFCC]
    names += [_ALL_L5D, either_case(b"dtab-local")] if clear else [_CONTEXT]
    if not canonical:
        names += _FRAME
    if not expect:
        names.append(either_case(b"expect"))
    return _cutter(names)


def _response_cutter(clear: bool, canonical: bool) -> _Cut:
    names = [*_HOP]
    names += [_ALL_L5D, either_case(b"via")] if clear else [either_case(b"l5d-success-class")]
    if not canonical:
        names.append(either_case(b"content-length"))
    return _cutter(names)


_NO_NAMES: Final[frozenset[bytes]] = frozenset()
_BOOLS: Final = (False, True)
_REQUEST_CUTTERS: Final = {
    (a, b, c): _request_cutter(a, b, c) for a in _BOOLS for b in _BOOLS for c in _BOOLS
}
_RESPONSE_CUTTERS: Final = {(a, b): _response_cutter(a, b) for a in _BOOLS for b in _BOOLS}


def request_head(
    head: RequestHead,
    extra: bytes = b"",
    *,
    method: bytes | None = None,
    target: bytes | None = None,
    host: bytes | None = None,
    clear: bool = False,
    expect: bool = False,
    drop: frozenset[bytes] = _NO_NAMES,
) -> bytes:
    """The head to send to the endpoint, always HTTP/1.1, framed as ``head`` is.

    ``method``, ``target`` and ``host`` replace those of the head; ``expect`` leaves ``Expect: 100-continue``
    in for the endpoint to answer; ``drop`` are further lower-case names to cut. Connection, Upgrade and Via
    of ours belong in ``extra``.
    """
    if method is None:
        method = head.method
    if target is None:
        target = head.target
    if head.plain and host is None and not drop and not (clear and head.has_underscore_names()):
        return b"%b %b HTTP/1.1\r\n%b%b\r\n" % (method, target, head.block, extra)
    canonical = head.canonical and (host is None or host == head.host)
    text = b"%b %b HTTP/1.1\r\n%b" % (method, target, head.block)
    text = _REQUEST_CUTTERS[clear, canonical, expect](b"", text)
    underscored = clear and head.has_underscore_names()
    names = head.nominated | drop
    if names or underscored:
        text = _drop_lines(text, names, underscored)
    if canonical:
        if head.content_length == CHUNKED:
            return b"%bTransfer-Encoding: chunked\r\n%b\r\n" % (text, extra)
        return b"%b%b\r\n" % (text, extra)
    # Host first, as RFC 9110 7.2 asks: it may tell the endpoint early where the request belongs.
    line, _, block = text.partition(b"\r\n")
    frame = b""
    if head.content_length == CHUNKED:
        frame = b"Transfer-Encoding: chunked\r\n"
    elif head.content_length or any(name == b"content-length" for name, _value in head.special):
        frame = b"Content-Length: %d\r\n" % head.content_length
    return b"%b\r\nHost: %b\r\n%b%b%b\r\n" % (line, head.host if host is None else host, block, frame, extra)


def response_head(
    head: ResponseHead,
    extra: bytes = b"",
    *,
    connection: bytes | None = None,
    framing: int | None = None,
    clear: bool = False,
) -> bytes:
    """The head to send to the caller.

    ``connection`` is ``b"close"`` or ``b"keep-alive"`` (HTTP/1.0 callers) or None, which says nothing.
    ``framing`` replaces how the body is framed: a length, CHUNKED or UNTIL_CLOSE (no field); None keeps the
    endpoint's way.
    """
    if connection is not None:
        extra = b"%bConnection: %b\r\n" % (extra, connection)
    if head.plain and framing is None and not clear:
        return b"HTTP/1.1 %d %b\r\n%b%b\r\n" % (head.status, head.reason, head.block, extra)
    canonical = head.canonical and (framing is None or framing == head.content_length)
    text = b"HTTP/1.1 %d %b\r\n%b" % (head.status, head.reason, head.block)
    text = _RESPONSE_CUTTERS[clear, canonical](b"", text)
    if head.nominated:
        text = _drop_lines(text, head.nominated, False)
    frame = b""
    if framing is None:
        framing = head.content_length
        if not head.has_body and not _declares_length(head):
            framing = UNTIL_CLOSE
    if framing == CHUNKED:
        frame = b"Transfer-Encoding: chunked\r\n"
    elif framing >= 0 and not canonical:
        frame = b"Content-Length: %d\r\n" % framing
    return b"%b%b%b\r\n" % (text, frame, extra)


def _declares_length(head: ResponseHead) -> bool:
    """Whether a response without a body must say the length: HEAD, 304 and an empty body, never 1xx and
    204.
    """
    if head.status < 200 or head.status == 204:
        return False
    return any(name == b"content-length" for name, _value in head.special)


def _drop_lines(text: bytes, names: frozenset[bytes], underscored: bool) -> bytes:
    """Drop lines by name, and those whose name has an underscore; the first line stays."""
    lines = text.split(b"\r\n")
    kept = [lines[0]]
    for line in lines[1:]:
        name = line.partition(b":")[0]
        if (underscored and b"_" in name) or name.lower() in names:
            continue
        kept.append(line)
    return b"\r\n".join(kept)


REASON_PHRASES: Final[dict[int, bytes]] = {
    200: b"OK",
    204: b"No Content",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    417: b"Expectation Failed",
    421: b"Misdirected Request",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def answer(
    status: int,
    body: bytes,
    extra: bytes = b"",
    *,
    connection: bytes | None = None,
    head_only: bool = False,
    content_type: bytes = b"text/plain",
) -> bytes:
    """A whole response of our own. ``head_only`` for HEAD: the length is declared and the body left out."""
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, REASON_PHRASES.get(status, b"Unknown"))]
    if status >= 200 and status not in (204, 304):
        if body:
            lines.append(b"Content-Type: %b\r\n" % content_type)
        lines.append(b"Content-Length: %d\r\n" % len(body))
    lines.append(extra)
    if connection is not None:
        lines.append(b"Connection: %b\r\n" % connection)
    lines.append(b"\r\n")
    if not head_only and status >= 200 and status not in (204, 304):
        lines.append(body)
    return b"".join(lines)
