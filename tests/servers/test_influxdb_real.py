"""The lines of the Influx page written to InfluxDB."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from hostmesh.telemetry.metrics import MetricsTree
from hostmesh.telemetry.render_influx import render
from tests.servers.fetch import influxd, required
from tests.servers.running import eventually, free_port, running

ODD = 'a"b, c=d\\'


@pytest.mark.slow
def test_influxdb_takes_every_line(tmp_path: Path) -> None:
    """The page is accepted whole, and tags and fields are read back as they were, odd ones included."""
    program = required(influxd)
    tree = MetricsTree()
    service = tree.scope("rt", "http", "service", ODD)
    service.counter("requests").value = 12
    service.counter('odd, "name"=1').value = 5
    service.gauge("pending", lambda: 0.5)
    service.stat("request_latency_ms", scale=1000).add(1500)
    tree.gauge("nan", lambda: float("nan"))
    tree.counter("up").value = 1
    tree.tick_minute()

    http, rpc = free_port(), free_port()
    env = {
        "INFLUXDB_REPORTING_DISABLED": "true",
        "INFLUXDB_BIND_ADDRESS": f"127.0.0.1:{rpc}",
        "INFLUXDB_HTTP_BIND_ADDRESS": f"127.0.0.1:{http}",
        "INFLUXDB_META_DIR": str(tmp_path / "meta"),
        "INFLUXDB_DATA_DIR": str(tmp_path / "data"),
        "INFLUXDB_DATA_WAL_DIR": str(tmp_path / "wal"),
    }

    def post(path: str, body: str) -> int:
        with urlopen(Request(f"http://127.0.0.1:{http}{path}", body.encode()), timeout=10) as answer:
            return int(answer.status)

    def select(text: str) -> dict[str, Any]:
        query = urlencode({"db": "t", "q": text})
        with urlopen(f"http://127.0.0.1:{http}/query?{query}", timeout=10) as answer:
            [series] = json.load(answer)["results"][0]["series"]
        return dict(zip(series["columns"], series["values"][0], strict=True))

    with running([str(program), "run", "-config", "/dev/null"], tmp_path, http, env):

        def made() -> bool | None:
            # Said with 200, too, while it starts and cannot: it is there when something can be written.
            post(f"/query?{urlencode({'q': 'CREATE DATABASE t'})}", "")
            return post("/write?db=t", "probe value=1") == 204 or None

        eventually(made)
        assert post("/write?db=t", "".join(render(tree, host="h:9990"))) == 204
        row = select('SELECT * FROM "rt:service"')
        root = select("SELECT * FROM root")

    assert (row["rt"], row["service"], row["host"]) == ("http", 'a"b, c=d_', "h:9990")
    assert (row["requests"], row["pending"], row['odd, "name"=1']) == (12, 0.5, 5)
    assert (row["request_latency_ms_count"], row["request_latency_ms_p999"]) == (1, 1.5)
    assert root["up"] == 1
