"""What the lane engine knows of streams, and the numbers of settings."""

from __future__ import annotations

from typing import Final

from hostmesh.protocol.h2.engine import (
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PROTOCOL_ERROR,
    STREAM_CLOSED,
)

# Settings, RFC 9113 6.5.2 and RFC 8441.
HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6
ENABLE_CONNECT_PROTOCOL: Final = 8

# How a stream ended, of those that are remembered.
ENDED: Final = 0
RESET_BY_US: Final = 1
RESET_BY_PEER: Final = 2

UNTOLD_STREAMS: Final = 100
"""Streams opened before the peer has said how many it takes: RFC 9113 6.5.2 asks nobody to take fewer."""
UNLIMITED_STREAMS: Final = 2**32 + 1
"""What a peer takes whose SETTINGS do not say."""

# Resets of ours that say the peer was at fault, and so count (H2).
BLAMING: Final = frozenset(
    {
        PROTOCOL_ERROR,
        FLOW_CONTROL_ERROR,
        FRAME_SIZE_ERROR,
        STREAM_CLOSED,
        COMPRESSION_ERROR,
        ENHANCE_YOUR_CALM,
    }
)


_LONG_AGO: Final = float("-inf")


class LaneStream:
    """What is known of a stream that is open or half-closed. Of closed ones only how they ended is, for a while."""

    __slots__ = (
        "answered",
        "expected",
        "headed",
        "method",
        "opened",
        "owed",
        "received",
        "receiving",
        "room",
        "sending",
        "silent",
        "window",
    )

    def __init__(self, method: bytes, window: int, room: int) -> None:
        self.method = method
        self.window = window
        """Octets that the peer takes; negative after it lowered its initial window (RFC 9113 6.9.2)."""
        self.room = room
        """Octets that the peer may still send."""
        self.owed = 0
        """Octets of ``room`` to be given back."""
        self.opened = _LONG_AGO
        """When the peer's request came, in seconds; long ago if that does not matter."""
        self.expected = -1
        """Body octets that the peer's head has declared, -1 for none."""
        self.received = 0
        self.receiving = True
        self.sending = True
        self.headed = False
        """The peer's (final) head has come."""
        self.answered = False
        """Our final head has been sent."""
        self.silent = False
        """The listener hears nothing of what the peer sends on it."""

    def __repr__(self) -> str:
        sides = ("receiving " if self.receiving else "") + ("sending " if self.sending else "")
        return f"<{type(self).__name__} {sides}window={self.window} room={self.room}>"
