"""What one HTTP/2 peer may cost, whatever engine serves it: the bounds of CVE-2023-44487 and its relatives."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Budgets:
    """Bounds of one connection. Numbers are counts unless they say otherwise."""

    max_resets: int = 100
    """Streams reset before they were answered, and streams that we had to reset, per ``reset_seconds`` (H1,
    H2). Ten a second is far above what deadlines and impatient callers do to one connection, and far below
    what an attack needs.
    """

    reset_seconds: float = 10.0
    """The time over which resets are counted. Short enough to forget, long enough to see a slow flood."""

    max_reset_part: float = 0.5
    """Of all streams of a connection, the part that may have been reset that way once there are
    ``reset_part_streams`` (H1): an attack below the rate still does nothing but reset.
    """

    reset_part_streams: int = 200
    """Fewer streams than this say nothing about the part."""

    max_continuations: int = 8
    """CONTINUATION frames of one header block (H3). 64 KiB of header list fit in four frames of the smallest
    size a peer may be held to; the rest is for those that cut at odd places.
    """

    max_block: int = 16384
    """Encoded octets of one header block (H3). One frame holds as much; HPACK makes blocks smaller, not
    larger, so a longer one is no request of anybody's.
    """

    max_fields: int = 100
    """Fields of one header list, cookie crumbs included (H5). As for HTTP/1."""

    control_rate: float = 100.0
    """Control frames per second that the peer may send without a reason (H6). Each frame that carries nothing
    of a message counts: SETTINGS, PING, PRIORITY, WINDOW_UPDATE, RST_STREAM, empty DATA, unknown types.
    """

    control_burst: int = 1000
    """Control frames that may come at once (H6)."""

    control_per_frame: int = 4
    """Control frames that each HEADERS or DATA frame of ours allows on top: a peer that reads much sends many
    WINDOW_UPDATEs and measures with PING, rightly. Two windows each updated twice per frame.
    """

    max_streams: int = 10_000
    """Streams of one connection before a graceful GOAWAY (H8): ids and tables end some day, so callers must be
    used to it; at 1,000 requests/s a new connection each ten seconds costs nothing.
    """

    header_seconds: float = 10.0
    """From the first frame of a header block to its last (H3), as for an HTTP/1 head (R1)."""

    max_known_resets: int = 1000
    """Streams reset by us whose late frames are told from errors (H9); the oldest are forgotten."""

    max_encoder_table: int = 65536
    """Octets of HPACK table that we keep for a peer, whatever it offers (H9): the header blocks that vary most
    gain nothing above it.
    """


DEFAULT_BUDGETS = Budgets()
