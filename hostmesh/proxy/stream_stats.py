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

    def add_bare(self, n: int) -> None:
        """Count so many streams that had no body."""
        self.success += n
        self.duration.repeat(0, n)
        self.bytes.repeat(0, n)


class StreamStats:
    """Streams are kept as they end and counted :data:`UNSORTED` at a time, or when somebody reads: five stats and three
    counters one by one would be a tenth of a request."""

    __slots__ = (
        "_answer_bytes",
        "_answers",
        "_asked",
        "_asked_bytes",
        "_request",
        "_response",
        "_total",
        "_totals",
    )

    def __init__(self, scope: Scope) -> None:
        # Of streams that came to their end, which are nearly all: us, and bytes.
        self._totals: list[int] = []
        self._asked: list[int] = []
        self._asked_bytes: list[int] = []
        """Less of both than of the others: requests without a body take no time."""
        self._answers: list[int] = []
        self._answer_bytes: list[int] = []
        self._request = _Message(self, scope.scope("request", "stream"))
        self._response = _Message(self, scope.scope("response", "stream"))
        self._total = _Part(self, scope.scope("stream"), "total_latency_ms")

    def ended(self, stream: H2CallerStream, ex: Exchange, now: float, micros: int, whole: bool) -> None:
        """``stream``, of the exchange ``ex``, is over after ``micros`` us; ``whole``: its response was complete."""
        ttfb = ex.ttfb
        if not (whole and stream.ended and ex.committed) or ttfb is None:
            self._broken(stream, ex, now, micros, whole)
            return
        totals = self._totals
        totals.append(micros)
        self._answers.append(int((now - ex.attempt_start - ttfb) * 1e6))
        self._answer_bytes.append(ex.response_bytes)
        if not ex.simple:
            self._asked.append(int((stream.since - stream.begun) * 1e6))
            self._asked_bytes.append(ex.request_bytes)
        if len(totals) >= UNSORTED:
            self.settle()

    def _broken(self, stream: H2CallerStream, ex: Exchange, now: float, micros: int, whole: bool) -> None:
        """A stream of which a part has not come to its end, or was never there."""
        complete = stream.ended
        until = stream.since if complete else now
        self._request.add([int((until - stream.begun) * 1e6)], not complete)
        self._request.bytes.add(ex.request_bytes)
        if ex.committed and ex.ttfb is not None:
            self._response.add([int((now - ex.attempt_start - ex.ttfb) * 1e6)], not whole)
            self._response.bytes.add(ex.response_bytes)
        self._total.add([micros], not (whole and complete))

    def settle(self) -> None:
        """Count what is kept."""
        totals, answers = self._totals, self._answers
        if totals:
            self._request.add(self._asked, 0)
            self._request.bytes.extend(self._asked_bytes)
            bare = len(totals) - len(self._asked)
            if bare:
                self._request.add_bare(bare)
            self._response.add(answers, 0)
            self._response.bytes.extend(self._answer_bytes)
            self._total.add(totals, 0)
            for each in (totals, answers, self._asked, self._asked_bytes, self._answer_bytes):
                each.clear()
