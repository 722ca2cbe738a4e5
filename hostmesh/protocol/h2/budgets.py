"""What one HTTP/2 peer may cost, whatever engine serves it: the bounds of CVE-2023-44487 and its relatives."""

from __future__ import annotations

from collections import deque

from attrs import frozen

from hostmesh.base.reasons import Reason
from hostmesh.protocol.h2.engine import ENHANCE_YOUR_CALM, ConnectionFault


@frozen(kw_only=True)
class Budgets:
    """Bounds of one connection. Numbers are counts unless they say otherwise."""

    max_resets: int = 100
    """Streams reset soon and unanswered, and streams that we had to reset, per ``reset_seconds`` (H1, H2). Ten a
    second is far above what impatient callers do to one connection, and far below what an attack needs.
    """

    early_reset_seconds: float = 1.0
    """A reset later than this after its request is a deadline's, not an attack's: one who lets a stream be that old
    is held by ``max_concurrent_streams``. A proxy in front of us carries the deadlines of many callers.
    """

    tolerated_reset_part: float = 0.1
    """The part of the streams opened meanwhile that may be reset at any rate: on a connection that many callers
    share some of them always leave, and an attack would have to pay with nine requests for each reset.
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

    max_fields: int = 128
    """Fields of one header list, cookie crumbs included (H5): 100 of an application's own, as for HTTP/1, and what
    HTTP/2, gRPC and two proxies add to them (pseudo fields, ``te``, ``grpc-*``, ``l5d-*``: some 20).
    """

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

    max_streams: int = 1_000_000
    """Streams of one connection before a graceful GOAWAY (H8): ids end some day (after a thousand times as many), so
    callers must be used to it. Not fewer: what a connection holds does not grow with its streams, and some callers
    (h2load, and whoever counts on the 1,000 of nginx) take a GOAWAY for the end of their work.
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


class Meter:
    """Counts what one connection's peer costs. Raises ConnectionFault with ENHANCE_YOUR_CALM over a budget.

    ``now`` is in seconds and never goes back. What is counted outside of :meth:`Engine.receive` is judged by the next
    :meth:`check`, so that no call of the proxy's own raises.
    """

    __slots__ = (
        "_allowed",
        "_budgets",
        "_client_side",
        "_per_frame",
        "_resets",
        "_stamp",
        "_tokens",
        "resets",
        "streams",
    )

    def __init__(self, budgets: Budgets, client_side: bool) -> None:
        self._budgets = budgets
        self._per_frame = budgets.control_per_frame
        self._client_side = client_side
        self._tokens = float(budgets.control_burst)
        self._stamp = 0.0
        self._allowed = 0
        # Of the latest resets: when, and after how many streams. Full and young means over the rate.
        self._resets: deque[tuple[float, int]] = deque(maxlen=budgets.max_resets + 1)
        self.streams = 0
        """Streams of this connection so far; whoever opens one adds it."""
        self.resets = 0
        """Those that were reset early or for an error of the peer's."""

    def control(self, now: float, cost: int = 1) -> None:
        """The peer sent a frame that carries nothing of a message (H6)."""
        if self._allowed >= cost:
            self._allowed -= cost
            return
        budgets = self._budgets
        tokens = self._tokens + (now - self._stamp) * budgets.control_rate
        self._stamp = now
        if tokens > budgets.control_burst:
            tokens = float(budgets.control_burst)
        tokens -= cost
        self._tokens = tokens
        if tokens < 0:
            raise self._fault(
                Reason.LIMIT_CONTROL_FRAMES,
                f"more than {budgets.control_burst} control frames at once or {budgets.control_rate:g} per second",
            )

    def suffices(self, frames: int) -> bool:
        """Whether so many control frames are within the budget, even if all of them came now."""
        return self._allowed + self._tokens >= frames

    def sent(self, frames: int) -> None:
        """We sent HEADERS or DATA frames, which a peer may rightly answer with control frames."""
        self._allowed += frames * self._per_frame

    def left(self, now: float, opened: float) -> None:
        """The peer reset a stream that it had opened then and that has no answer (H1)."""
        if now - opened < self._budgets.early_reset_seconds:
            self.reset(now)

    def reset(self, now: float) -> None:
        """A stream was reset by the peer early and unanswered, or by us for an error of the peer's (H1, H2)."""
        self.resets += 1
        self._resets.append((now, self.streams))

    def check(self) -> None:
        """Judge the resets counted so far."""
        budgets = self._budgets
        latest = self._resets
        if len(latest) > budgets.max_resets:
            began, before = latest[0]
            opened = self.streams - before
            if (
                latest[-1][0] - began < budgets.reset_seconds
                and budgets.max_resets > budgets.tolerated_reset_part * opened
            ):
                raise self._fault(
                    Reason.LIMIT_RESETS,
                    f"more than {budgets.max_resets} streams reset within {budgets.reset_seconds:g} s",
                )
        if self.streams > budgets.reset_part_streams and self.resets > budgets.max_reset_part * self.streams:
            raise self._fault(
                Reason.LIMIT_RESETS,
                f"{self.resets} of {self.streams} streams reset, more than {budgets.max_reset_part:.0%}",
            )

    def _fault(self, reason: Reason, message: str) -> ConnectionFault:
        return ConnectionFault(reason, message, ENHANCE_YOUR_CALM, client_side=self._client_side)
