"""What a peer may make us hold while it speaks."""

from __future__ import annotations

from attrs import field, frozen


@frozen(kw_only=True)
class Limits:
    """Bounds of one HTTP/1 peer, sizes in bytes. One object per listener or client."""

    max_initial_line: int = 4096
    """Request or status line without its CRLF. Key ``maxInitialLineKB``, Linkerd's default."""

    max_head_bytes: int = 8192
    """All field lines together, CRLFs included, initial line not (as netty). Key ``maxHeadersKB``."""

    max_fields: int = 100
    """Field lines in one head. h11 has no such limit: 5,000 three-byte fields fit in 16 KiB (R4)."""

    max_chunk_line: int = 256
    """One chunk-size line with its extensions, without the CRLF. Extensions are dropped."""

    max_chunk_overhead: int = 65536
    """Extension bytes that all chunks of one body may carry together (F5)."""

    max_trailer_bytes: int = 8192
    """All trailer lines together, CRLFs included."""

    max_trailer_fields: int = 100
    """Trailer lines of one message."""

    max_informational: int = 16
    """1xx responses before the final one (F14). Counted by whoever reads the responses."""

    connect: bool = False
    """CONNECT heads are read, for whoever decides about destinations; else they are refused (F20)."""

    unchecked: int = field(init=False, eq=False, repr=False)
    """A head of at most so many bytes is within every limit: the shortest field line has four bytes."""

    @unchecked.default
    def _unchecked(self) -> int:
        return min(self.max_initial_line, self.max_head_bytes, 4 * self.max_fields)


DEFAULT_LIMITS = Limits()
