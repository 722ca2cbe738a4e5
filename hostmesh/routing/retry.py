"""May this attempt be repeated? The one place that answers, and what is read of a response for it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

from hostmesh.base.errors import Sent

if TYPE_CHECKING:
    from hostmesh.routing.classifiers import ResponseFacts


class Refusal(Enum):
    """Why an attempt is not repeated, in the order in which it is asked."""

    COMMITTED = "committed"
    """The response head has reached the caller."""
    NOT_REPLAYABLE = "not-replayable"
    """Request bytes have been let go of."""
    NOT_SAFE = "not-safe"
    """It may have been processed, and nobody said that this failure may be retried."""
    NO_TIME = "no-time"
    """The deadline leaves no room for another attempt."""
    NO_BUDGET = "no-budget"


def refusal(
    *,
    committed: bool,
    replayable: bool,
    sent: Sent,
    reused_and_unread: bool,
    idempotent: bool,
    retryable: bool,
    time_left: float,
    delay: float,
    withdraw: Callable[[], bool],
) -> Refusal | None:
    """None if the attempt may be repeated after ``delay`` seconds, else why not. Five conditions, all needed:

    1. not ``committed``;
    2. ``replayable``: every byte of the request is still there;
    3. ``sent`` is NOTHING, or the connection was ``reused_and_unread`` (it served before, and closed before
    any byte
       of an answer) and the method is ``idempotent``, or the classifier called it ``retryable``;
    4. ``time_left`` (seconds to the total deadline, infinity for none) is more than ``delay``;
    5. ``withdraw()``, the budget, grants it. Asked last and only if all else holds, since it pays.
    """
    if committed:
        return Refusal.COMMITTED
    if not replayable:
        return Refusal.NOT_REPLAYABLE
    if not (sent is Sent.NOTHING or (reused_and_unread and idempotent) or retryable):
        return Refusal.NOT_SAFE
    if time_left <= delay:
        return Refusal.NO_TIME
    return None if withdraw() else Refusal.NO_BUDGET


def may_retry(
    *,
    committed: bool,
    replayable: bool,
    sent: Sent,
    reused_and_unread: bool,
    idempotent: bool,
    retryable: bool,
    time_left: float,
    delay: float,
    withdraw: Callable[[], bool],
) -> bool:
    """Whether :func:`refusal` finds no reason against another attempt."""
    why = refusal(
        committed=committed,
        replayable=replayable,
        sent=sent,
        reused_and_unread=reused_and_unread,
        idempotent=idempotent,
        retryable=retryable,
        time_left=time_left,
        delay=delay,
        withdraw=withdraw,
    )
    return why is None


class Nack(Enum):
    """An answer that means "not processed"."""

    NONE = "none"
    RETRYABLE = "retryable"
    """Rejected before it was looked at: repeating it elsewhere is safe for every method."""
    FINAL = "final"
    """Rejected, and it would be rejected again."""


def nack_of(head: ResponseFacts) -> Nack:
    """Whether a response head is a nack: 503 with ``finagle-http-nack`` or with ``Retry-After: 0``."""
    if head.status != 503:
        return Nack.NONE
    if head.get(b"finagle-http-nonretryable-nack") is not None:
        return Nack.FINAL
    if head.get(b"finagle-http-nack") is not None or head.get(b"retry-after") == b"0":
        return Nack.RETRYABLE
    return Nack.NONE
