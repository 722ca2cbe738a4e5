"""``h2Budgets``: what one HTTP/2 peer may cost, for servers (callers) and clients (endpoints)."""

from __future__ import annotations

from typing import Annotated

from attrs import frozen

from hostmesh.config.shape import Bounds
from hostmesh.config.types import Count, Positive, Timeout
from hostmesh.protocol.h2.budgets import Budgets


@frozen(kw_only=True)
class H2BudgetsConfig:
    """*hostmesh* Bounds of one HTTP/2 connection, whatever engine serves it. Over one of them the connection ends with
    GOAWAY ENHANCE_YOUR_CALM, a reason and a count."""

    max_resets: Positive = 100
    """Streams within ``resetMs`` that the peer resets before they are answered, or that it makes us reset by its errors
    (CVE-2023-44487, CVE-2025-8671). Ten a second is far above what impatient callers do, far below what an attack
    needs."""
    reset_ms: Timeout = 10_000
    """Milliseconds over which resets are counted."""
    early_reset_ms: Timeout = 1_000
    """Milliseconds after its request from which on a reset is a deadline's and does not count."""
    tolerated_reset_percent: Annotated[int, Bounds(0, 100, "percent")] = 10
    """The part of the streams opened meanwhile that may be reset at any rate: on a connection that many callers share,
    as between two proxies, some of them always leave."""
    max_reset_percent: Annotated[int, Bounds(1, 100, "percent")] = 50
    """The part of all streams of a connection that may have been reset so, once there were more than 200."""
    max_header_block_bytes: Positive = 16_384
    """Encoded bytes of one header block. Compression makes blocks smaller: a longer one is nobody's request."""
    max_continuations: Count = 8
    """CONTINUATION frames of one header block (CVE-2024-27316)."""
    max_header_fields: Positive = 128
    """Fields of one header list, cookie crumbs included; 431 above, and the connection goes on."""
    header_ms: Timeout = 10_000
    """Milliseconds from the first to the last frame of a header block; ``readTimeoutMs`` if that is less."""
    control_frames_per_second: Positive = 100
    """Frames that carry nothing of a message (SETTINGS, PING, PRIORITY, RST_STREAM, WINDOW_UPDATE, empty DATA, unknown
    types), beyond four for each HEADERS and DATA frame of ours (CVE-2019-9512 and its relatives)."""
    control_frame_burst: Positive = 1_000
    """Such frames that may come at once."""
    max_streams: Positive = 1_000_000
    """Streams that a caller may open on one connection before it is told, without an error, to open another."""

    def budgets(self) -> Budgets:
        """As an engine takes them."""
        return Budgets(
            max_resets=self.max_resets,
            reset_seconds=self.reset_ms / 1000,
            early_reset_seconds=self.early_reset_ms / 1000,
            tolerated_reset_part=self.tolerated_reset_percent / 100,
            max_reset_part=self.max_reset_percent / 100,
            max_block=self.max_header_block_bytes,
            max_continuations=self.max_continuations,
            max_fields=self.max_header_fields,
            header_seconds=self.header_ms / 1000,
            control_rate=float(self.control_frames_per_second),
            control_burst=self.control_frame_burst,
            max_streams=self.max_streams,
        )


DEFAULT_H2_BUDGETS = H2BudgetsConfig()
