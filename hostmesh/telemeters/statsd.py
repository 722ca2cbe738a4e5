"""``io.l5d.statsd``: counters, stats and gauges sent to a statsd daemon."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isfinite
from typing import Annotated, Any, ClassVar, Final

import trio
from attrs import frozen
from statsd import StatsClient

from hostmesh.config.shape import Bounds
from hostmesh.config.types import MAX_MS, Port, Ratio
from hostmesh.telemeters.telemeter import AdminRoute, TelemeterConfig, TelemeterDeps
from hostmesh.telemetry.buckets import bounds
from hostmesh.telemetry.histogram import EMPTY, Histogram
from hostmesh.telemetry.metrics import Counter, Gauge, MetricsTree
from hostmesh.telemetry.stat import Stat

MAX_SAMPLES: Final = 20
"""Values sent for one stat per interval. Evenly spread over the distribution they give the daemon the mean
and the common percentiles; each one more costs a packet per fifty stats."""

MAX_DATAGRAM: Final = 1432
"""Bytes per packet: what fits an Ethernet frame with room for a tunnel's header, as statsd's own documents
advise."""

PIPELINE: Final = 200
"""Metrics sent at once, about ten packets; more at once overflow the daemon's socket buffer and are lost."""

PAUSE_S: Final = 0.01
"""Between two of those, for the daemon to read."""

RESOLVE_S: Final = 60.0
"""The name is resolved again after this long, since a packet to where the daemon was is never refused."""

FLUSH_S: Final = 1.0
"""How long the last flush may take when the daemon stops."""

_DISALLOWED: Final = re.compile(r"[^/A-Za-z0-9]")


@frozen(kw_only=True)
class StatsdConfig(TelemeterConfig):
    """Metrics for a statsd daemon, over UDP.

    Linkerd sends a packet for every ``sampleRate``-th event. hostmesh counts everything and sends what
    happened in each interval: counters as differences, stats as up to 20 timer values with the rate they
    stand for, gauges as they are. So no event costs a packet and no counter is an estimate.
    """

    needs_experimental: ClassVar[bool] = True

    prefix: str = "linkerd"
    """First part of every name."""
    hostname: str = "127.0.0.1"
    """Host of the daemon, resolved once a minute."""
    port: Port = 8125
    """UDP port of the daemon."""
    gauge_interval_ms: Annotated[int, Bounds(100, MAX_MS, "of milliseconds")] = 10_000
    """Milliseconds between two sendings, of counters and stats too. The default is a daemon's usual flush
    interval."""
    sample_rate: Ratio = 0.01
    """Accepted and ignored: nothing is sampled, see above."""

    def mk(self, deps: TelemeterDeps) -> StatsdTelemeter:
        return StatsdTelemeter(deps, self.prefix, self.hostname, self.port, self.gauge_interval_ms / 1000)


class Delta:
    """What changed in a tree since the last call, as (name, value) lines of statsd. Pure."""

    def __init__(self, metrics: MetricsTree) -> None:
        self._metrics = metrics
        self._counters: dict[tuple[str, ...], int] = {}
        self._stats: dict[tuple[str, ...], Histogram] = {}

    def collect(self) -> Iterator[tuple[str, str] | None]:
        """The lines, and None now and then where the caller may let others run.

        A metric that was pruned is forgotten; one that is new, or was pruned and made again, counts from
        zero.
        """
        gone = self._counters.keys() | self._stats.keys()
        for seen, (path, node) in enumerate(self._metrics.walk(), 1):
            metric = node.metric
            gone.discard(path)
            # What is yielded counts as sent at once: a flush that is cut short must not be sent again.
            if isinstance(metric, Counter):
                before, self._counters[path] = self._counters.get(path, 0), metric.value
                if metric.value != before:
                    yield name_of(path), f"{_growth(before, metric.value)}|c"
            elif isinstance(metric, Gauge):
                yield from _gauge(name_of(path), metric.read())
            elif isinstance(metric, Stat):
                total = metric.cumulative
                earlier, self._stats[path] = self._stats.get(path, EMPTY), total
                if total.count != earlier.count:
                    new = total.since(earlier) if total.count > earlier.count else total
                    yield from ((name_of(path), line) for line in timers(new, metric.scale))
            if seen % 50 == 0:
                yield None
        for path in gone:
            self._counters.pop(path, None)
            self._stats.pop(path, None)


def _growth(before: int, now: int) -> int:
    """A smaller value than before is a new counter under an old name."""
    return now - before if now > before else now


def name_of(path: tuple[str, ...]) -> str:
    """A path as Linkerd names it for statsd: parts joined with dots, other signs as ``_``."""
    return _DISALLOWED.sub("_", "/".join(path)).replace("//", "/").replace("/", ".")


def timers(histogram: Histogram, scale: int) -> list[str]:
    """A distribution as timer values.

    Up to :data:`MAX_SAMPLES` samples are sent each; of more, as many from the middles of equal shares, with
    the rate that makes the daemon count all.
    """
    if histogram.count <= MAX_SAMPLES:
        values = [
            min(max(sum(bounds(bucket)) // 2, histogram.minimum), histogram.maximum)
            for bucket, n in sorted(histogram.counts.items())
            for _ in range(n)
        ]
        return [f"{value / scale:.6g}|ms" for value in values]
    points = [(2 * at + 1) / (2 * MAX_SAMPLES) for at in range(MAX_SAMPLES)]
    rate = MAX_SAMPLES / histogram.count
    return [f"{value / scale:.6g}|ms|@{rate:.8f}" for value in histogram.percentiles(points)]


def _gauge(name: str, value: float | None) -> Iterator[tuple[str, str]]:
    if value is None or not isfinite(value):
        return
    if value < 0:
        # A sign makes it a difference to the daemon, so a negative gauge goes through zero.
        yield name, "0|g"
    yield name, f"{value:.10g}|g"


class StatsdTelemeter:
    """Sends what changed, once per interval, until cancelled; and then once more."""

    def __init__(self, deps: TelemeterDeps, prefix: str, hostname: str, port: int, interval: float) -> None:
        self._log = deps.log("hostmesh.telemeter.statsd").bind(hostname=hostname, port=port)
        self._delta = Delta(deps.metrics)
        # The client sends ASCII and a colon ends the name.
        self._prefix = re.sub(r"[^A-Za-z0-9._-]", "_", prefix)
        self.address = (hostname, port)
        self._interval = interval
        self._client: Any = None
        self._resolved = 0.0
        self._failing = False

    def admin_routes(self) -> dict[str, AdminRoute]:
        return {}

    async def run(self) -> None:
        """One flush per interval. A daemon that is not there is no trouble; a name that does not resolve is
        logged."""
        try:
            next_flush = trio.current_time()
            while True:
                next_flush = max(next_flush + self._interval, trio.current_time())
                await trio.sleep_until(next_flush)
                await self.flush()
        finally:
            with trio.move_on_after(FLUSH_S, shield=True):
                await self.flush()
            self.close()

    async def flush(self) -> None:
        """Send what changed since the last flush; what cannot be sent goes with the next."""
        if not await self._connect():
            return
        pipe = self._client.pipeline()
        queued = 0
        try:
            for line in self._delta.collect():
                if line is None:
                    await trio.lowlevel.checkpoint()
                    continue
                # The public methods would draw a random number per value for a rate below 1 and drop most;
                # these values are the sample already.
                pipe._send_stat(*line, 1)
                queued += 1
                if queued == PIPELINE:
                    await trio.to_thread.run_sync(pipe.send)
                    await trio.sleep(PAUSE_S)
                    queued = 0
            await trio.to_thread.run_sync(pipe.send)
        finally:
            # When cancelled, the few that are left; otherwise there are none.
            pipe.send()

    async def _connect(self) -> bool:
        if self._client is not None and trio.current_time() - self._resolved < RESOLVE_S:
            return True
        try:
            client = await trio.to_thread.run_sync(self._mk_client, abandon_on_cancel=True)
        except (OSError, UnicodeError) as error:
            if not self._failing:
                self._failing = True
                self._log.warning("the statsd daemon's name cannot be resolved", error=str(error))
            return self._client is not None
        self._failing = False
        self.close()
        self._client = client
        self._resolved = trio.current_time()
        return True

    def _mk_client(self) -> Any:
        hostname, port = self.address
        return StatsClient(hostname, port, prefix=self._prefix, maxudpsize=MAX_DATAGRAM, ipv6=":" in hostname)

    def close(self) -> None:
        """Close the socket; the next flush opens another. ``run`` does this when it ends."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
