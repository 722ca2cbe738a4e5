"""What the library engine knows of a stream beside h2, and how streams end."""

from __future__ import annotations

from typing import Final

# How a stream ended, of those that are remembered.
ENDED: Final = 0
RESET_BY_US: Final = 1
RESET_BY_PEER: Final = 2

NO_LENGTH: Final = -1


class Stream:
    """What this engine knows of a stream beside h2."""

    __slots__ = (
        "answered",
        "expected",
        "headed",
        "local_end",
        "method",
        "opened",
        "received",
        "remote_end",
        "silent",
        "uncredited",
    )

    def __init__(self, method: bytes, silent: bool = False) -> None:
        self.method = method
        self.expected = NO_LENGTH
        """Body bytes that the peer's head has declared."""
        self.received = 0
        self.headed = False
        """The peer's (final) head has come."""
        self.answered = False
        """Our final head has been sent."""
        self.local_end = False
        self.remote_end = False
        self.silent = silent
        """The listener hears nothing of what the peer sends on it."""
        self.opened = float("-inf")
        """When the peer's request came, in seconds; long ago if that does not matter."""
        self.uncredited = 0
        """Octets consumed and not yet given back."""
