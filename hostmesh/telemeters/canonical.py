"""The canonical line: one JSON object that says all about an exchange."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import structlog
from attrs import define

from hostmesh.telemeters.batch import RECORD_BYTES, BatchWriter
from hostmesh.telemeters.rolling import RollingFile, RollPolicy
from hostmesh.telemeters.telemeter import TelemeterDeps
from hostmesh.telemetry.record import Record

if TYPE_CHECKING:
    pass

FAILURES_PER_SECOND: Final = 10.0
"""Lines per second for failures of one router and reason, in the long run: enough to see what happens, and a
broken service at full load costs no more log than a healthy one."""

FAILURE_BURST: Final = 100.0
"""Lines that may come at once before the rate counts."""

MAX_KEYS: Final = 1000
"""Pairs of router and reason that are told apart; the reasons are an enum, so only many routers get here."""


@define
class _Bucket:
    tokens: float
    stamp: float
    suppressed: int = 0


class FailureLimit:
    """Token buckets by key: what may be logged, and how many were not since the last that was."""

    def __init__(self, per_second: float = FAILURES_PER_SECOND, burst: float = FAILURE_BURST) -> None:
        self._per_second = per_second
        self._burst = burst
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def admit(self, key: tuple[str, str], now: float) -> int | None:
        """None if this one is to be suppressed, else how many were suppressed before it. ``now`` in
        seconds."""
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= MAX_KEYS:
                self._buckets.clear()
            bucket = self._buckets[key] = _Bucket(self._burst, now)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.stamp) * self._per_second)
        bucket.stamp = now
        if bucket.tokens < 1:
            bucket.suppressed += 1
            return None
        bucket.tokens -= 1
        before, bucket.suppressed = bucket.suppressed, 0
        return before


class CanonicalLog:
    """Logs all failures, up to a rate per router and reason, and a sample of the successes: a record sink
    with a task.

    ``path`` None is standard output. A ``sample`` of 1 logs every success.
    """

    def __init__(self, deps: TelemeterDeps, *, sample: float = 0.01, path: str | None = None) -> None:
        self._sample = sample
        self._random: Callable[[], float] = deps.env.rng("canonical").random
        self._now = deps.env.now
        self._limit = FailureLimit()
        self._file = None if path is None else RollingFile(path, RollPolicy(), deps.env.wall)
        self._batch = BatchWriter(
            CanonicalFormat(),
            _to_stdout if self._file is None else self._file.write,
            scope=deps.metrics.scope("accesslog", "canonical"),
            log=deps.log("hostmesh.accesslog"),
        )
        self._limited = deps.metrics.counter("accesslog", "canonical", "suppressed")

    def wants(self, failed: bool) -> bool:
        return failed or self._random() < self._sample

    def on_exchange(self, record: Record) -> None:
        before: int | None = 0
        if record.failed:
            before = self._limit.admit((record.router, record.reason), self._now())
        if before is None:
            self._limited.value += 1
        else:
            self._batch.put((record, before), record.head_bytes + RECORD_BYTES)

    def reopen(self) -> None:
        """SIGHUP has come: the file may have been moved away."""
        if self._file is not None:
            self._file.reopen()

    async def run(self) -> None:
        """Write lines until cancelled, then the last ones."""
        try:
            await self._batch.run()
        finally:
            if self._file is not None:
                self._file.close()


class CanonicalFormat:
    """Makes the line of a record, given with the number of lines that were suppressed before it.

    The keys are a contract: all are always there. Of the target only the path is logged, since query strings
    carry tokens; header fields are not logged at all.
    """

    def __init__(self) -> None:
        self._line = ""
        self._log: Any = structlog.wrap_logger(
            self,
            processors=[structlog.processors.JSONRenderer()],
            wrapper_class=structlog.BoundLogger,
            cache_logger_on_first_use=True,
        )

    def info(self, line: str) -> None:
        """Where structlog puts the finished line."""
        self._line = line

    def __call__(self, item: tuple[Record, int]) -> bytes:
        record, suppressed = item
        extra = (("identity", record.identity), ("detail", record.detail))
        end = datetime.fromtimestamp(record.start + record.total, UTC)
        self._log.info(
            "exchange",
            time=end.isoformat(timespec="milliseconds"),
            router=record.router,
            server=record.server,
            caller=record.caller,
            method=_text(record.method),
            host=_text(record.host),
            path=_text(record.target.partition(b"?")[0]),
            version=record.version,
            dst=record.dst_path,
            bound=record.bound_id,
            residual=record.residual,
            endpoint=record.endpoint,
            status=record.status,
            grpc_status=record.grpc_status,
            reason=record.reason,
            failed=record.failed,
            attempts=record.attempts,
            requeues=record.requeues,
            request_bytes=record.request_bytes,
            response_bytes=record.response_bytes,
            ms=round(record.total * 1000, 3),
            endpoint_ms=round(record.endpoint_time * 1000, 3),
            trace=record.trace_id,
            suppressed=suppressed,
            **{name: value for name, value in extra if value},
        )
        return self._line.encode() + b"\n"


def _text(value: bytes) -> str:
    # Heads are bytes; latin-1 shows each as one character and cannot fail. JSON escapes the rest.
    return value.decode("latin-1")


def _to_stdout(data: bytes) -> None:
    # The descriptor and not sys.stdout: that may be replaced, and raises other things than OSError.
    while data:
        data = data[os.write(1, data) :]
