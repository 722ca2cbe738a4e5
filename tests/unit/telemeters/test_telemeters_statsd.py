from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

from hostmesh.telemeters import statsd
from hostmesh.telemeters.statsd import MAX_SAMPLES, Delta, StatsdConfig, StatsdTelemeter, name_of, timers
from hostmesh.telemetry.histogram import Histogram
from hostmesh.telemetry.metrics import MetricsTree
from tests.unit.telemeters.fakes import ListLog, deps


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (("rt", "http", "service", "svc/web", "requests"), "rt.http.service.svc.web.requests"),
        (("rt", "http", "client", "#/io.l5d.fs/web", "x"), "rt.http.client._.io_l5d_fs.web.x"),
        (("rt", "http", "server", "127.0.0.1/4140"), "rt.http.server.127_0_0_1.4140"),
        (("a", "/b"), "a.b"),
        (("a:1|c\nb",), "a_1_c_b"),
    ],
)
def test_names_are_those_of_linkerd(path: tuple[str, ...], name: str) -> None:
    """Parts are joined with dots, and nothing that means something to the protocol is left."""
    assert name_of(path) == name


def collect(delta: Delta) -> list[tuple[str, str]]:
    return [line for line in delta.collect() if line is not None]


def test_counters_are_sent_as_what_was_added() -> None:
    """A counter is its growth since the last time, and nothing when there is none."""
    tree = MetricsTree()
    delta = Delta(tree)
    tree.counter("a").value = 3
    tree.counter("b")
    assert collect(delta) == [("a", "3|c")]

    tree.counter("a").value = 5
    assert collect(delta) == [("a", "2|c")]
    assert collect(delta) == []


def test_a_pruned_counter_starts_from_zero() -> None:
    """A counter that was pruned and made again is sent whole, whether its absence was seen or not."""
    tree = MetricsTree()
    delta = Delta(tree)
    tree.counter("seen").value = tree.counter("unseen").value = 10
    collect(delta)
    tree.prune("seen")
    assert collect(delta) == []

    tree.prune("unseen")
    tree.counter("seen").value = 12
    tree.counter("unseen").value = 4
    assert collect(delta) == [("seen", "12|c"), ("unseen", "4|c")]


def test_what_was_sent_is_not_sent_again_when_a_flush_is_cut_short() -> None:
    """Only lines that were not taken are left for the next time."""
    tree = MetricsTree()
    delta = Delta(tree)
    tree.counter("a").value = tree.counter("b").value = 1
    assert next(iter(delta.collect())) == ("a", "1|c")

    assert collect(delta) == [("b", "1|c")]


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        (7.0, [("g", "7|g")]),
        (0.25, [("g", "0.25|g")]),
        (-3.0, [("g", "0|g"), ("g", "-3|g")]),
        (float("nan"), []),
        (1e7, [("g", "10000000|g")]),
    ],
)
def test_gauges_are_sent_each_time(value: float, lines: list[tuple[str, str]]) -> None:
    """A gauge is sent as it is; below zero through zero, since a sign means a difference; not when it is no
    number."""
    tree = MetricsTree()
    tree.gauge("g", lambda: value)
    delta = Delta(tree)

    assert collect(delta) == lines == collect(delta)


def test_a_broken_gauge_is_left_out() -> None:
    """A gauge that cannot be read costs only itself."""
    tree = MetricsTree()
    tree.gauge("g", lambda: 1 / 0)

    assert collect(Delta(tree)) == []


def test_few_samples_are_sent_each() -> None:
    """Up to the bound each sample is a timer, in the stat's unit."""
    assert timers(Histogram.of([1500, 2500, 2500]), 1000) == ["1.5|ms", "2.5|ms", "2.5|ms"]


def test_many_samples_are_sent_as_a_spread() -> None:
    """Of many samples a fixed number is sent, evenly over the distribution, with the rate that counts all."""
    lines = timers(Histogram.of(range(1, 1001)), 1)

    values = [float(line.split("|")[0]) for line in lines]
    rates = {line.split("@")[1] for line in lines}
    assert len(lines) == MAX_SAMPLES
    assert values == sorted(values)
    assert sum(values) / len(values) == pytest.approx(500.5, rel=0.02)
    assert [round(MAX_SAMPLES / float(rate)) for rate in rates] == [1000]


def test_stats_are_sent_by_what_was_added_across_the_minute_tick() -> None:
    """A stat is its new samples, wherever the minute ends."""
    tree = MetricsTree()
    delta = Delta(tree)
    stat = tree.stat("s")
    stat.add(1)
    assert collect(delta) == [("s", "1|ms")]

    stat.add(2)
    tree.tick_minute()
    stat.add(3)
    assert collect(delta) == [("s", "2|ms"), ("s", "3|ms")]
    assert collect(delta) == []

    tree.prune("s")
    tree.stat("s").add(9)
    assert collect(delta) == [("s", "9|ms")]


def test_a_big_tree_lets_others_run() -> None:
    """Collecting pauses every fifty nodes."""
    tree = MetricsTree()
    for number in range(500):
        tree.counter(str(number))

    assert list(Delta(tree).collect()) == [None] * 10


def test_the_config_is_experimental_and_takes_every_key() -> None:
    """The kind needs the word, and sampleRate is accepted."""
    config = StatsdConfig(prefix="p", hostname="h", port=1, gauge_interval_ms=1000, sample_rate=0.5)

    assert (StatsdConfig.needs_experimental, config.mk(deps()).admin_routes()) == (True, {})


class Daemon:
    """A UDP socket that keeps what arrives."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(5)
        self.port: int = self.socket.getsockname()[1]

    def lines(self, count: int) -> list[str]:
        found: list[str] = []
        while len(found) < count:
            found += self.socket.recv(65536).decode().split("\n")
        return found

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def test_packets_are_full_and_names_begin_with_the_prefix() -> None:
    """Many metrics are few packets, none longer than an Ethernet frame takes."""
    shared = deps()
    for number in range(450):
        shared.metrics.counter(f"c{number}").value = 1
    with Daemon() as daemon:
        telemeter = StatsdTelemeter(shared, "my prefix", "127.0.0.1", daemon.port, 10)
        trio.run(telemeter.flush)
        telemeter.close()
        packets = [daemon.socket.recv(65536)]
        while sum(packet.count(b"\n") + 1 for packet in packets) < 450:
            packets.append(daemon.socket.recv(65536))

    assert max(map(len, packets)) <= statsd.MAX_DATAGRAM
    assert len(packets) < 20
    assert sorted(b"\n".join(packets).split(b"\n")) == sorted(b"my_prefix.c%d:1|c" % n for n in range(450))


def test_it_sends_once_per_interval_and_once_at_the_end() -> None:
    """Under a virtual clock: what happened in each interval, and when cancelled what is left."""
    shared = deps()
    counter = shared.metrics.counter("c")

    async def main(daemon: Daemon) -> list[str]:
        found: list[str] = []
        telemeter = StatsdTelemeter(shared, "p", "127.0.0.1", daemon.port, 10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(telemeter.run)
            for _ in range(2):
                counter.value += 1
                # The clock jumps from interval to interval while everybody waits for the packet.
                found += await trio.to_thread.run_sync(daemon.lines, 1)
            counter.value += 5
            nursery.cancel_scope.cancel()
        return found + daemon.lines(1)

    with Daemon() as daemon:
        clock = trio.testing.MockClock(autojump_threshold=0.01)
        assert trio.run(main, daemon, clock=clock) == ["p.c:1|c", "p.c:1|c", "p.c:5|c"]


def test_a_daemon_that_is_not_there_is_no_trouble() -> None:
    """Packets to nobody are lost, and nothing is logged or raised."""
    log = ListLog()
    shared = deps(log=log)
    shared.metrics.counter("c").value = 1
    with Daemon() as daemon:
        port = daemon.port
    telemeter = StatsdTelemeter(shared, "p", "127.0.0.1", port, 10)

    async def main() -> None:
        await telemeter.flush()
        await telemeter.flush()

    trio.run(main)
    telemeter.close()
    assert log.lines == []


@pytest.mark.parametrize("name", ["no such host", "x" * 300 + ".invalid"])
def test_a_name_that_does_not_resolve_is_logged_once_and_loses_nothing(name: str) -> None:
    """Until the name resolves nothing is sent; then all that happened since is."""
    log = ListLog()
    shared = deps(log=log)
    shared.metrics.counter("c").value = 2
    with Daemon() as daemon:
        telemeter = StatsdTelemeter(shared, "p", name, daemon.port, 10)

        async def main() -> None:
            await telemeter.flush()
            await telemeter.flush()
            telemeter.address = ("127.0.0.1", daemon.port)
            await telemeter.flush()

        trio.run(main)
        telemeter.close()
        assert daemon.lines(1) == ["p.c:2|c"]
    assert [event for _method, event, _values in log.lines] == ["the statsd daemon's name cannot be resolved"]
