"""What the HTTP/2 streams of one dst path came to: ``request/stream/*``, ``response/stream/*`` and ``stream/*``.

The names and their meaning are those of Linkerd's StreamStatsFilter: a stream is a success if it came to its end,
whatever the classifier thinks of the response; ``request`` begins with the request's head, ``response`` with the
response's, and ``total_latency_ms`` lasts from the first of them to the end of both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.telemetry.stat import UNSORTED

if TYPE_CHECKING:
    from hostmesh.proxy.exchange import Exchange
    from hostmesh.proxy.h2_caller_stream import H2CallerStream
    from hostmesh.telemetry.metrics import Scope

OPEN = -1.0
"""Stands for the time of what has not happened."""


class _Part:
    """``stream_success``, ``stream_failures`` and a duration."""

    __slots__ = ("duration", "failures", "success")

    def __init__(self, owner: StreamStats, scope: Scope, duration: str) -> None:
        self.success = 0
        self.failures = 0

        def successes() -> int:
            owner.settle()
            return self.success

        def failures() -> int:
            owner.settle()
            return self.failures

        self.duration = scope.stat(duration, scale=1000)
        self.duration.before = owner.settle
        scope.counter_of("stream_success", successes)
        scope.counter_of("stream_failures", failures)

    def add(self, micros: list[int], failed: int) -> None:
        """Count streams of these durations in us, of which so many have failed."""
        self.duration.extend(micros)
        self.success += len(micros) - failed
        self.failures += failed


class _Message(_Part):
    """Of a request or a response, also the bytes of its body."""

    __slots__ = ("bytes",)

    def __init__(self, owner: StreamStats, scope: Scope) -> None:
        super().__init__(owner, scope, "stream_duration_ms")
        self.bytes = scope.stat("data_bytes")
        self.bytes.before = owner.settle


class StreamStats:
    """Streams are kept as they end and counted :data:`UNSORTED` at a time, or when somebody reads: five stats and three
    counters one by one would be a tenth of a request."""

    __slots__ = ("_kept", "_request", "_response", "_total")

    def __init__(self, scope: Scope) -> None:
        self._kept: list[tuple[float, float, float, float, int, int, bool]] = []
        self._request = _Message(self, scope.scope("request", "stream"))
        self._response = _Message(self, scope.scope("response", "stream"))
        self._total = _Part(self, scope.scope("stream"), "total_latency_ms")

    def ended(self, stream: H2CallerStream, ex: Exchange, now: float, whole: bool) -> None:
        """``stream``, of the exchange ``ex``, is over; ``whole`` says that its response was complete."""
        kept = self._kept
        kept.append(
            (
                now,
                stream.begun,
                stream.since if stream.ended else OPEN,
                ex.attempt_start + (ex.ttfb or 0.0) if ex.committed else OPEN,
                ex.request_bytes,
                ex.response_bytes,
                whole,
            )
        )
        if len(kept) >= UNSORTED:
            self.settle()

    def settle(self) -> None:
        """Count what is kept."""
        kept, self._kept = self._kept, []
        if not kept:
            return
        cut = sum(each[2] == OPEN for each in kept)
        self._request.add(
            [int(((now if asked == OPEN else asked) - begun) * 1e6) for now, begun, asked, *_ in kept], cut
        )
        self._request.bytes.extend([each[4] for each in kept])
        answers = [each for each in kept if each[3] != OPEN]
        self._response.add(
            [int((each[0] - each[3]) * 1e6) for each in answers], sum(not each[6] for each in answers)
        )
        self._response.bytes.extend([each[5] for each in answers])
        broken = sum(not each[6] or each[2] == OPEN for each in kept)
        self._total.add([int((now - begun) * 1e6) for now, begun, *_ in kept], broken)
