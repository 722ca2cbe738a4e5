"""Response compression towards the caller, for routers with ``compressionLevel`` 1 to 9.

The default, -1, passes bodies through: a proxy on every host would compress each answer at least twice
(docs/migration.md). Responses are never decompressed (hardening R9).
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostmesh.protocol.h1_message import RequestHead, ResponseHead

GZIP = zlib.MAX_WBITS | 16
DEFLATE = zlib.MAX_WBITS
"""The ``deflate`` coding is the zlib format (RFC 9110 section 8.4.1.2)."""

CODINGS = ((b"gzip", GZIP), (b"deflate", DEFLATE))
"""In our order of preference."""


def accepted_coding(accept: bytes | None) -> tuple[bytes, int] | None:
    """The coding to use for an ``Accept-Encoding`` value and its zlib window, or None.

    A coding named with ``q=0`` is refused; ``*`` allows what is not named (RFC 9110 section 12.5.3).
    """
    if not accept:
        return None
    weights: dict[bytes, bool] = {}
    for part in accept.lower().split(b","):
        name, _, parameters = part.partition(b";")
        quality = parameters.replace(b" ", b"").partition(b"q=")[2].split(b";")[0]
        weights[name.strip()] = not quality or quality.strip(b"0.") != b""
    for name, window in CODINGS:
        if weights.get(name, weights.get(b"*", False)):
            return name, window
    return None


class Compressor:
    """One response body. ``lines`` are the header lines to add."""

    def __init__(self, coding: bytes, window: int, level: int) -> None:
        self.lines = b"Content-Encoding: %b\r\nVary: Accept-Encoding\r\n" % coding
        self._zlib = zlib.compressobj(level, zlib.DEFLATED, window)

    def feed(self, data: bytes, done: bool) -> bytes:
        """The compressed form of a piece of the body.

        A piece that is not the last is flushed: an answer that is streamed must not wait in our buffer for more.
        """
        out = self._zlib.compress(data) if data else b""
        if done:
            return out + self._zlib.flush()
        return out + self._zlib.flush(zlib.Z_SYNC_FLUSH) if data else out


def compressor_for(request: RequestHead, response: ResponseHead, level: int) -> Compressor | None:
    """A compressor, if this response may and this caller wants to have it compressed."""
    if level < 1 or not response.has_body or response.status in (204, 206, 304):
        return None
    if response.get(b"content-encoding") is not None:
        return None
    control = response.get(b"cache-control")
    if control is not None and b"no-transform" in control.lower():
        return None
    coding = accepted_coding(request.get(b"accept-encoding"))
    return None if coding is None else Compressor(*coding, level)
