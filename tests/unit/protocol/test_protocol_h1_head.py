"""Heads: what is accepted, what it means, and what is refused with which status, reason and words."""

from __future__ import annotations

from hostmesh.protocol.h1_head import parse_request
from hostmesh.protocol.limits import Limits

LIMITS = Limits()


def test_request_head_without_anything_special_is_plain() -> None:
    """A request with Host and ordinary fields may be forwarded as it came."""
    raw = b"GET /a?b=1 HTTP/1.1\r\nHost: web:80\r\nAccept: */*\r\n\r\n"

    head = parse_request(raw + b"next", LIMITS)

    assert head is not None
    assert (
        head.method,
        head.target,
        head.host,
        head.version,
        head.content_length,
        head.keep_alive,
        head.plain,
    ) == (b"GET", b"/a?b=1", b"web:80", 11, 0, True, True)
    assert len(raw) == head.end
    assert head.block == b"Host: web:80\r\nAccept: */*\r\n"
    assert head.get(b"accept") == b"*/*"
