"""The statsd telemeter against Etsy's daemon, read back from what the daemon sends to graphite."""

from __future__ import annotations

import json
import socket
from collections import defaultdict
from pathlib import Path

import pytest
import trio

from hostmesh.telemeters.statsd import StatsdTelemeter
from tests.servers.fetch import required, statsd
from tests.servers.running import free_port, running
from tests.unit.telemeters.fakes import deps


class Graphite:
    """Takes the daemon's lines and adds up what comes per flush."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.values: dict[str, list[float]] = defaultdict(list)

    def flush(self) -> None:
        """Wait for one flush; the daemon connects, sends all and closes."""
        connection, _ = self.listener.accept()
        with connection, connection.makefile() as lines:
            for line in lines:
                name, value, _time = line.split()
                self.values[name.removeprefix("stats.")].append(float(value))


@pytest.mark.slow
def test_the_daemon_counts_what_happened(tmp_path: Path) -> None:
    """Counters, gauges and the number and extremes of stats arrive whole, in three hundred names."""
    command = required(statsd)
    shared = deps()
    tree = shared.metrics
    for number in range(300):
        tree.counter("rt", "http", "service", f"svc/web{number}", "requests").value = number + 1
    few = tree.stat("few_ms", scale=1000)
    many = tree.stat("many_ms", scale=1000)
    for value in (1500, 2500):
        few.add(value)
    for value in range(1, 100_001):
        many.add(value)
    tree.gauge("below", lambda: -3)

    graphite = Graphite()
    port, admin_port = free_port(), free_port()
    config = {
        "port": port,
        "address": "127.0.0.1",
        "mgmt_address": "127.0.0.1",
        "mgmt_port": admin_port,
        "flushInterval": 500,
        "backends": ["./backends/graphite"],
        "graphiteHost": "127.0.0.1",
        "graphitePort": graphite.port,
        "graphite": {"legacyNamespace": False},
    }
    (tmp_path / "config.js").write_text(json.dumps(config))
    with graphite.listener, running([*command, "config.js"], tmp_path, admin_port):
        graphite.listener.settimeout(20)
        telemeter = StatsdTelemeter(shared, "linkerd", "127.0.0.1", port, 10)
        trio.run(telemeter.flush)
        telemeter.close()
        found = graphite.values
        while sum(found["timers.linkerd.many_ms.count"]) < 99_000 or not found["gauges.linkerd.below"]:
            graphite.flush()

    counted = {
        n: sum(found[f"counters.linkerd.rt.http.service.svc.web{n}.requests.count"]) for n in range(300)
    }
    assert counted == {n: n + 1 for n in range(300)}
    assert found["gauges.linkerd.below"][-1] == -3
    assert sum(found["timers.linkerd.few_ms.count"]) == 2
    assert (min(found["timers.linkerd.few_ms.lower"]), max(found["timers.linkerd.few_ms.upper"])) == (
        1.5,
        2.5,
    )
    assert sum(found["timers.linkerd.many_ms.count"]) == pytest.approx(100_000, rel=0.001)
    assert max(found["timers.linkerd.many_ms.upper"]) == pytest.approx(97.5, rel=0.02)
    assert min(found["timers.linkerd.many_ms.lower"]) == pytest.approx(2.5, rel=0.02)
