from __future__ import annotations

import json

import pytest
from attrs import evolve
from prometheus_client.parser import text_string_to_metric_families

from hostmesh.telemeters.influxdb import InfluxdbConfig
from hostmesh.telemeters.prometheus import PrometheusConfig
from hostmesh.telemeters.recent_requests import RecentRequestsConfig
from hostmesh.telemeters.telemeter import Telemeter, TelemeterConfig
from tests.unit.telemeters.fakes import deps
from tests.unit.telemetry.records import record


def page(telemeter: Telemeter, path: str, **query: str) -> tuple[str, str]:
    media_type, body = telemeter.admin_routes()[path](query)
    return media_type, body if isinstance(body, str) else "".join(map(str, body))


def test_prometheus_is_served_at_its_path_with_its_prefix() -> None:
    """The page is where the config says, and names begin with the prefix."""
    shared = deps()
    shared.metrics.counter("rt", "http", "server", "127.0.0.1/4140", "requests").value = 12
    default = PrometheusConfig().mk(shared)
    other = PrometheusConfig(path="/metrics", prefix="mesh:").mk(shared)

    media_type, body = page(default, "/admin/metrics/prometheus")
    assert media_type == "text/plain; version=0.0.4; charset=utf-8"
    assert body.splitlines()[1] == 'rt:server:requests{rt="http", server="127.0.0.1/4140"} 12'
    assert [family.name for family in text_string_to_metric_families(page(other, "/metrics")[1])] == [
        "mesh:rt:server:requests"
    ]


def test_prometheus_buckets_are_an_option() -> None:
    """With buckets stats are histograms."""
    shared = deps()
    shared.metrics.stat("x").add(5)

    body = page(evolve(PrometheusConfig(), buckets=True).mk(shared), "/admin/metrics/prometheus")[1]
    assert body.startswith("# TYPE x histogram\n")


def test_influxdb_takes_its_host_tag_from_the_request() -> None:
    """The tag host is what the collector called this host, or none."""
    shared = deps()
    shared.metrics.counter("up").value = 1
    telemeter = InfluxdbConfig().mk(shared)

    found = [
        page(telemeter, "/admin/metrics/influxdb", **q)[1] for q in ({":host": "h:1"}, {":host": ""}, {})
    ]
    assert found == ["root,host=h:1 up=1\n", "root,host=none up=1\n", "root,host=none up=1\n"]


def test_recent_requests_keep_the_newest() -> None:
    """The ring holds its capacity, newest first."""
    telemeter = RecentRequestsConfig(sample_rate=1.0, capacity=2).mk(deps())
    for status in (200, 201, 202):
        telemeter.on_exchange(record(status=status))

    assert [row["status"] for row in json.loads(page(telemeter, "/requests.json")[1])] == [202, 201]


def test_recent_requests_show_the_columns_of_linkerd() -> None:
    """A row has time, source, server, router, names with links to the delegator, destination and outcome."""
    telemeter = RecentRequestsConfig(sample_rate=1.0).mk(deps())
    telemeter.on_exchange(record())
    media_type, body = page(telemeter, "/requests")

    assert media_type == "text/html;charset=UTF-8"
    assert (
        "<tr><td>2017-07-14T02:40:00.250+00:00</td><td>10.0.0.7:51234</td><td>127.0.0.1/4140</td><td>http</td>"
        '<td><a href="/delegator?router=http#/svc/web">/svc/web</a></td>'
        '<td><a href="/delegator?router=http#/%23/io.l5d.fs/web">/#/io.l5d.fs/web</a></td>'
        "<td>10.1.1.1:8080</td><td>200</td><td></td><td>12.345</td></tr>" in body
    )


def test_a_caller_cannot_write_html_into_the_page() -> None:
    """Names that callers choose are escaped, in text and in links."""
    telemeter = RecentRequestsConfig(sample_rate=1.0).mk(deps())
    telemeter.on_exchange(record(dst_path='/svc/<script>"', bound_id="", status=0))
    body = page(telemeter, "/requests")[1]

    assert "<script>" not in body
    assert "/svc/&lt;script&gt;&quot;" in body
    assert "<td>cut</td>" in body


@pytest.mark.parametrize(("rate", "low", "high"), [(0.0, 0, 0), (1.0, 1000, 1000), (0.5, 400, 600)])
def test_recent_requests_sample(rate: float, low: int, high: int) -> None:
    """The sample rate decides how many are remembered."""
    telemeter = RecentRequestsConfig(sample_rate=rate).mk(deps())

    assert low <= sum(telemeter.wants(False) for _ in range(1000)) <= high


def test_a_telemeter_without_mk_says_so() -> None:
    """The base class makes nothing."""
    with pytest.raises(NotImplementedError):
        TelemeterConfig().mk(deps())
