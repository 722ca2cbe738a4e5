"""A response that is held back because its verdict comes with its end.

A gRPC status is in the trailers. As long as the request could be sent again, the response waits here for its verdict:
until its end, for at most ``classificationTimeoutMs``, and up to ``retryBufferSize.responseBytes``. Whichever comes
first passes it on, after its end perhaps to be retried instead. So an ordinary answer, which is there at once, loses no
time, and a stream that goes on loses at most the timeout, once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.routing.classifiers import FAILURE, IGNORABLE, RETRYABLE

if TYPE_CHECKING:
    from hostmesh.protocol.h1_message import ResponseHead
    from hostmesh.proxy.exchange import Exchange


class Held:
    """The head and the body so far. Made by :func:`hold`; the exchange lets go of it with the attempt."""

    __slots__ = ("head", "pieces", "size")

    def __init__(self, head: ResponseHead, piece: bytes) -> None:
        self.head = head
        self.pieces = [piece]
        self.size = len(piece)

    def more(self, ex: Exchange, piece: bytes, done: bool, trailers: bytes) -> None:
        """A further piece of the body; ``done`` if it was the last."""
        self.pieces.append(piece)
        self.size += len(piece)
        path = ex.path
        assert path is not None
        if not done:
            if self.size > path.settings.retry_response_bytes:
                self.let_go(ex, "response_stream_too_long")
            return
        now = ex.router.loop.now()
        ex.stop_holding()
        verdict = path.classify_end(ex, trailers)
        if verdict is RETRYABLE and path.may_retry(ex, now):
            ex.drop_answer(True, FAILURE, now)
            path.start_retry(ex, now)
        else:
            ex.verdict = verdict
            ex.forward_held(self.head, b"".join(self.pieces), True, trailers)

    def let_go(self, ex: Exchange, why: str) -> None:
        """Pass on what there is, unjudged. ``why`` is the name of the counter."""
        assert ex.path is not None
        ex.path.count_retry(why)
        ex.stop_holding()
        ex.unjudged = True
        ex.verdict = IGNORABLE
        ex.forward_held(self.head, b"".join(self.pieces), False, b"")

    def time_is_over(self, ex: Exchange) -> None:
        ex.retry_timer = None
        if ex.held is self:
            ex.router.guard(self.let_go, ex, "classification_timeout")


def hold(ex: Exchange, head: ResponseHead, piece: bytes, now: float) -> None:
    """Begin to hold back a response whose head has just arrived."""
    path = ex.path
    assert path is not None
    held = ex.held = Held(head, piece)
    if held.size > path.settings.retry_response_bytes:
        held.let_go(ex, "response_stream_too_long")
    else:
        until = now + path.settings.classification_time
        ex.retry_timer = ex.router.loop.call_at(until, held.time_is_over, ex)
