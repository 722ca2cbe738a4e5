"""DATA of one stream that its window, its turn or the socket makes wait (:mod:`hostmesh.proxy.h2_sending`)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostmesh.protocol.h2.engine import Pairs


class Waiting:
    """What one stream has to send."""

    __slots__ = ("at", "blocked", "end", "gone", "listed", "pieces", "since", "size", "stream", "trailers")

    def __init__(self, stream: int, now: float) -> None:
        self.stream = stream
        self.pieces: deque[bytes] = deque()
        self.at = 0
        """Bytes of the first piece that have left."""
        self.size = 0
        self.end = False
        self.trailers: Pairs | None = None
        self.blocked = False
        self.gone = False
        self.listed = True
        """In the ring; else a window is closed."""
        self.since = now
        """When it moved last, or began to wait."""
