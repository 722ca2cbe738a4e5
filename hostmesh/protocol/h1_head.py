"""The lane: HTTP/1 heads that one strict pattern proves, a proper subset of RFC 9112.

CRLF only, token names, visible values (HTAB, SP, 0x21-0x7e, obs-text), no folding, origin-form targets and
absolute ones of ``http`` (the callers of ``http_proxy``) without ``#``, not CONNECT, versions 1.0 and 1.1.
The rest goes to the judge. What the lane accepts h11 reads as the same events; tests/fuzz/lane_vs_h11.py
holds that. The lane never refuses: it only does not recognise.
"""

from __future__ import annotations

import re
from typing import Final

from hostmesh.protocol import h1_judge
from hostmesh.protocol.h1_fields import TOKEN, find_special, is_authority, is_plain_length
from hostmesh.protocol.h1_meaning import (
    COMMON_OPTIONS,
    NO_OPTIONS,
    build_request,
    build_response,
    without_context,
)
from hostmesh.protocol.h1_message import CHUNKED, UNTIL_CLOSE, BadMessage, RequestHead, ResponseHead
from hostmesh.protocol.limits import Limits

__all__ = [
    "CHUNKED",
    "UNTIL_CLOSE",
    "BadMessage",
    "RequestHead",
    "ResponseHead",
    "find_end",
    "parse_request",
    "parse_response",
    "without_context",
]

# Possessive quantifiers: no backtracking state, so a head that fails, fails in one pass (R8).
_LINES: Final = rb"((?:" + TOKEN + rb"++:[\t -~\x80-\xff]*+\r\n)*+)\r\n"
_request: Final = re.compile(rb"(?!CONNECT )([A-Z]++) (/[!-\"$-~]*+) HTTP/1\.([01])\r\n" + _LINES).match
_absolute: Final = re.compile(
    rb"(?!CONNECT )([A-Z]++) http://([A-Za-z0-9.\-_]++(?::[0-9]{1,5}+)?)(/[!-\"$-~]*+) HTTP/1\.([01])\r\n"
    + _LINES
).match
_response: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9]) ([\t -~\x80-\xff]*+)\r\n" + _LINES).match
_STATUS: Final = {b"%d" % code: code for code in range(100, 1000)}
_BODILESS: Final = frozenset({204, 304})
_HOST: Final = frozenset({b"Host", b"host"})
_LENGTH: Final = frozenset({b"Content-Length", b"content-length"})
_CONNECTION: Final = frozenset({b"Connection", b"connection"})
_BLANK_LINE: Final = b"\r\n\r\n"


def is_in_lane(head: bytes) -> bool:
    """Whether the lane takes this complete request head, and h11 is not asked."""
    return (_request(head) or _absolute(head)) is not None


def find_end(buf: bytes | bytearray, start: int = 0) -> int:
    """Index just after the head's empty line, or -1. ``start`` is where the last search of this buffer
    stopped.
    """
    found = buf.find(_BLANK_LINE, start - 3 if start > 3 else 0)
    return found + 4 if found >= 0 else -1


def parse_request(
    buf: bytes | bytearray, limits: Limits, pos: int = 0, searched: int = 0
) -> RequestHead | None:
    """Parse the request head that starts at ``buf[pos]``.

    Returns None when it is not complete; a head that is already over a limit, or cannot become one, is
    refused at once. On the next call with more bytes pass ``searched=len(buf)`` of this one, so that a head
    arriving byte by byte is not scanned again each time. Raises BadMessage.
    """
    if searched and buf.find(_BLANK_LINE, max(pos, searched - 3)) < 0:
        h1_judge.incomplete_request(buf, limits, pos, searched)
        return None
    match = _request(buf, pos)
    if match is None:
        return _parse_absolute(buf, limits, pos) or h1_judge.judge_request(buf, limits, pos)
    method, target, minor, block = match.groups()
    start, end = match.span(4)
    if end - pos > limits.unchecked:
        h1_judge.check_request_size(start - 2 - pos, block, limits)
    found = find_special(buf, start - 1, end)
    version = 11 if minor == b"1" else 10
    # Host, at most a plain length and a usual Connection: nearly every head. What build_request would
    # find, without its questions; whatever else there is, it is asked.
    host = b""
    length = 0
    options = NO_OPTIONS
    special = []
    for name, value in found:
        if name in _HOST and not host and is_authority(value):
            host = value
            special.append((b"host", value))
        elif name in _LENGTH and not length and is_plain_length(value):
            length = int(value)
            special.append((b"content-length", value))
        elif name in _CONNECTION and options is NO_OPTIONS and value in COMMON_OPTIONS:
            options = COMMON_OPTIONS[value]
            special.append((b"connection", value))
        else:
            break
    else:
        if host:
            plain = options is NO_OPTIONS
            keep = not options.close and (version == 11 or options.keep_alive)
            return RequestHead(method, target, host, version, block, special, end + 2, length, keep, plain)
    return build_request(method, target, version, block, found, end + 2)


def _parse_absolute(buf: bytes | bytearray, limits: Limits, pos: int) -> RequestHead | None:
    """A head with an absolute-form target, as callers with ``http_proxy`` send it; None for the judge."""
    match = _absolute(buf, pos)
    if match is None:
        return None
    method, authority, target, minor, block = match.groups()
    start, end = match.span(5)
    if end - pos > limits.unchecked:
        h1_judge.check_request_size(start - 2 - pos, block, limits)
    found = find_special(buf, start - 1, end)
    if not any(name.lower() == b"host" for name, _value in found):
        return None
    return build_request(method, target, 11 if minor == b"1" else 10, block, found, end + 2, authority)


def parse_response(
    buf: bytes | bytearray,
    limits: Limits,
    method: bytes,
    pos: int = 0,
    searched: int = 0,
    upgrade: bool = False,
) -> ResponseHead | None:
    """Parse the response head at ``buf[pos]``, the answer to a request with ``method``.

    ``upgrade`` says that the request carried Upgrade: only then is 101 legal. Otherwise as
    :func:`parse_request`.
    """
    if searched and buf.find(_BLANK_LINE, max(pos, searched - 3)) < 0:
        h1_judge.incomplete_response(buf, limits, pos, searched)
        return None
    match = _response(buf, pos)
    if match is None:
        return h1_judge.judge_response(buf, limits, method, pos, upgrade)
    minor, status, reason, block = match.groups()
    start, end = match.span(4)
    if end - pos > limits.unchecked:
        h1_judge.check_response_size(start - 2 - pos, block, limits)
    found = find_special(buf, start - 1, end)
    code = _STATUS[status]
    version = 11 if minor == b"1" else 10
    if code >= 200 and code not in _BODILESS and method != b"HEAD":
        # A plain length and at most a usual Connection, as above.
        declared = 0
        options = NO_OPTIONS
        special = []
        for name, value in found:
            if name in _LENGTH and not declared and is_plain_length(value):
                declared = int(value)
                special.append((b"content-length", value))
            elif name in _CONNECTION and options is NO_OPTIONS and value in COMMON_OPTIONS:
                options = COMMON_OPTIONS[value]
                special.append((b"connection", value))
            else:
                break
        else:
            if declared:
                plain = options is NO_OPTIONS
                keep = not options.close and (version == 11 or options.keep_alive)
                return ResponseHead(
                    code, reason, version, block, special, end + 2, declared, True, keep, plain
                )
    return build_response(code, reason, version, block, found, end + 2, method, upgrade)
