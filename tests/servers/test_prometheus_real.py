"""The Prometheus page read by Prometheus."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from hostmesh.telemetry.metrics import MetricsTree
from hostmesh.telemetry.render_prometheus import MEDIA_TYPE, render
from tests.servers.fetch import prometheus, promtool, required
from tests.servers.running import eventually, free_port, running

ODD = 'a"b\\c\nd, e="f"'


def tree() -> MetricsTree:
    """One of everything, with a label that needs every escape."""
    tree = MetricsTree()
    service = tree.scope("rt", "http", "service", ODD)
    service.counter("requests").value = 12
    service.counter("failures").value = 2
    service.counter("failures", "connect-refused").value = 2
    service.gauge("pending", lambda: 3)
    for value in range(1, 1001):
        service.stat("request_latency_ms", scale=1000).add(value * 1000)
    tree.gauge("nan", lambda: float("nan"))
    tree.counter("4-odd name").value = 1
    tree.tick_minute()
    return tree


@pytest.mark.parametrize("buckets", [False, True])
def test_promtool_reads_the_page(buckets: bool) -> None:
    """Prometheus' own checker finds nothing that is wrong, only names that it would have chosen otherwise."""
    program = required(promtool)

    page = "".join(render(tree(), buckets=buckets))
    done = subprocess.run(
        [program, "check", "metrics"], input=page, capture_output=True, text=True, timeout=60
    )
    # 3 says that there are remarks of style; 1 that the text cannot be parsed.
    assert done.returncode in (0, 3), done.stderr
    remarks = {line.split(" ", 1)[1] for line in done.stderr.splitlines() if line}
    assert remarks <= {
        "no help text",
        'counter metrics should have "_total" suffix',
        "metric names should not contain ':'",
        "metric names should not contain abbreviated units",
        'use base unit "seconds" instead of "milliseconds"',
    }


@contextmanager
def page(text: str) -> Iterator[int]:
    """A server with that page; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", MEDIA_TYPE)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            """Silent."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
def test_prometheus_stores_what_was_counted(tmp_path: Path) -> None:
    """Scraped samples have their labels, odd ones included, and histograms answer for quantiles."""
    program = required(prometheus)
    text = "".join(render(tree())) + "".join(render(tree(), prefix="buckets:", buckets=True))
    port = free_port()
    with page(text) as target:
        (tmp_path / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
            f"scrape_configs: [{{job_name: t, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}]\n"
        )
        listen = f"--web.listen-address=127.0.0.1:{port}"
        command = [str(program), "--config.file=prometheus.yml", "--storage.tsdb.path=data", listen]
        with running(command, tmp_path, port):

            def query(text: str) -> list[tuple[dict[str, str], float]] | None:
                with urlopen(
                    f"http://127.0.0.1:{port}/api/v1/query?query={quote(text)}", timeout=5
                ) as answer:
                    rows = json.load(answer)["data"]["result"]
                return [(row["metric"], float(row["value"][1])) for row in rows] or None

            [(labels, value)] = eventually(lambda: query("rt:service:requests"))
            quantiles = query('rt:service:request_latency_ms{quantile="0.99"}')
            median = query("histogram_quantile(0.5, buckets:rt:service:request_latency_ms_bucket)")
            count = query("rt:service:request_latency_ms_count")

    assert (labels["rt"], labels["service"], value) == ("http", ODD, 12)
    assert quantiles is not None
    assert quantiles[0][1] == pytest.approx(990, rel=0.016)
    assert median is not None
    # One bucket per octave: Prometheus interpolates between 262 and 524.
    assert median[0][1] == pytest.approx(500, rel=0.05)
    assert count is not None
    assert count[0][1] == 1000
