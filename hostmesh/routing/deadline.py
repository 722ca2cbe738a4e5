"""``l5d-ctx-deadline``: until when the caller wants an answer, handed on from hop to hop.

Deadlines are wall-clock nanoseconds, because they cross hosts; timers are set from the difference to now.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import frozen

from hostmesh.base.window import LeakyBucket

_DEADLINE = re.compile(rb"([0-9]{1,19}) ([0-9]{1,19})")


@frozen
class Deadline:
    """``timestamp`` is when it was set, ``deadline`` when time is over; nanoseconds since the epoch."""

    timestamp: int
    deadline: int

    def combine(self, other: Deadline) -> Deadline:
        """The stricter of two: the newest timestamp with the earliest deadline."""
        return Deadline(max(self.timestamp, other.timestamp), min(self.deadline, other.deadline))

    def is_expired(self, now: int) -> bool:
        """Whether time is over at ``now``, in nanoseconds since the epoch."""
        return now > self.deadline

    def show(self) -> bytes:
        """The header's value."""
        return b"%d %d" % (self.timestamp, self.deadline)


def parse_deadline(value: bytes) -> Deadline | None:
    """The deadline in a header's value, or None if it is malformed."""
    match = _DEADLINE.fullmatch(value.strip(b" \t"))
    return None if match is None else Deadline(int(match[1]), int(match[2]))


def parse_deadlines(values: Iterable[bytes]) -> Deadline | None:
    """All parsable deadlines of one request, combined; None if there is none. Malformed ones are ignored."""
    combined: Deadline | None = None
    for value in values:
        deadline = parse_deadline(value)
        if deadline is not None:
            combined = deadline if combined is None else combined.combine(deadline)
    return combined


TOLERANCE_TTL = 10.0
"""Seconds over which refusals are weighed against requests served; Finagle's value."""

REFUSED_SHARE = 0.2
"""Largest share of requests refused as expired."""


class DeadlineAdmission:
    """Refuses expired requests, at most a fifth of all: with a clock that is wrong, every request looks
    expired."""

    __slots__ = ("_bucket",)

    def __init__(self) -> None:
        self._bucket = LeakyBucket(TOLERANCE_TTL)

    def admits(self, *, expired: bool, now: float) -> bool:
        """Whether to serve a request; ``now`` is seconds, monotonic. What is served counts for later
        refusals."""
        if expired and self._bucket.try_get(int(1000 / REFUSED_SHARE), now):
            return False
        self._bucket.put(1000, now)
        return True
