"""Whether the peer of an HTTP/2 connection is still there, asked with PING where it should speak and does not.

Pure: the session says what time it is and what it has read, and sends what it is told to.
"""

from __future__ import annotations

from math import inf
from typing import Final

# Not Final, which compiled code would not look up: tests against real peers have no hours.
PING_IDLE = 10.0
"""Seconds of rest after which the first request on a connection is accompanied by a PING: firewalls and reboots forget
connections without telling, and the request must not wait for a TCP timeout to learn it."""

PING_QUIET = 30.0
"""Seconds without a byte, while streams are open, after which the endpoint is asked whether it is there."""

PING_AGAIN = 310.0
"""Seconds to the next PING while no HEADERS or DATA come: gRPC servers close connections (too_many_pings) on which
pings come in less than 300 s without such a frame of theirs between, and forgive two. Nothing else that they send
counts, and grpc-go sends PINGs and WINDOW_UPDATEs whenever it is sent data."""

PING_TIMEOUT: Final = 10.0
"""Seconds after a PING without any byte in which the endpoint is found dead."""


class Liveness:
    """Of one connection. Whoever reads from it sets ``heard`` to the time and ``awaiting`` to False, at every read, and
    ``answered`` to True at every part of a response."""

    __slots__ = ("_pinged", "_pings", "answered", "awaiting", "heard")

    def __init__(self, now: float) -> None:
        self.heard = now
        """When bytes came last."""
        self.awaiting = False
        """A PING was sent, and nothing has come since."""
        self.answered = True
        """HEADERS or DATA have come since the answer to the last PING."""
        self._pings = 0
        self._pinged = 0.0
        """When the last one was sent."""

    def ping(self, now: float) -> bytes:
        """The payload of a PING that is sent now."""
        self._pings += 1
        self._pinged = now
        self.awaiting = True
        self.answered = False
        return self._pings.to_bytes(8, "big")

    def ponged(self) -> None:
        """Its answer has come; what of a response came before that was sent before the peer knew of the PING."""
        self.answered = False

    def doubtful(self, now: float) -> bool:
        """Whether a request that ends a rest should bring a PING along."""
        if self.awaiting or now - self.heard < PING_IDLE:
            return False
        return self.answered or now >= self._pinged + PING_AGAIN

    def dead(self, now: float) -> bool:
        """Whether the last PING has been without an answer for too long."""
        return self.awaiting and now >= self._pinged + PING_TIMEOUT

    def due(self, in_use: bool) -> float:
        """When to look again: the connection is dead then, or, if it is ``in_use``, wants a PING."""
        if self.awaiting:
            return self._pinged + PING_TIMEOUT
        if not in_use:
            return inf
        quiet = self.heard + PING_QUIET
        return quiet if self.answered else max(quiet, self._pinged + PING_AGAIN)
