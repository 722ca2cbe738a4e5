"""The overview page."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from typing import Any

from hostmesh.admin.overview_rows import MAX_ROWS, router_sections
from hostmesh.admin.view import Readiness
from hostmesh.telemetry.metrics import MetricsTree


def count(tree: MetricsTree, kind: str, name: str, *, requests: int, success: int, failures: int = 0) -> Any:
    node = tree.scope("rt", "http", kind, name)
    node.counter("requests").value += requests
    node.counter("success").value += success
    node.counter("failures").value += failures
    return node


def test_rows_come_from_the_metrics_tree() -> None:
    """Counters, gauges and the running minute's percentiles, in milliseconds."""
    tree = MetricsTree()
    node = count(tree, "client", "#/io.l5d.fs/web", requests=10, success=9, failures=1)
    node.gauge("pending", lambda: 2)
    node.scope("loadbalancer").gauge("size", lambda: 3)
    node.scope("loadbalancer").gauge("available", lambda: 2)
    node.counter("failure_accrual", "removals").value += 4
    node.stat("request_latency_ms", scale=1000).add(5000)

    sections = router_sections(tree, "http")

    (row,) = sections["client"].rows
    assert (
        row.name,
        row.requests,
        row.success,
        row.failures,
        row.pending,
        row.ejections,
    ) == ("#/io.l5d.fs/web", 10, 9, 1, 2, 4)
    assert (row.available, row.endpoints) == (2, 3)
    assert (row.p50_ms, row.p99_ms) == (5.0, 5.0)
    assert row.success_rate == 0.9


def test_rows_of_a_router_that_has_served_nothing() -> None:
    """No node, no rows, no error."""
    assert {kind: section.total for kind, section in router_sections(MetricsTree(), "http").items()} == {
        "server": 0,
        "service": 0,
        "client": 0,
    }


def test_numbers_that_are_missing_are_unknown_not_zero() -> None:
    """A success rate of nothing is no rate."""
    tree = MetricsTree()
    tree.scope("rt", "http", "service", "svc/web").counter("requests")

    (row,) = router_sections(tree, "http")["service"].rows
    assert (
        row.success_rate,
        row.pending,
        row.p50_ms,
        row.available,
        row.endpoints,
    ) == (None, None, None, None, None)


def test_only_the_busiest_rows_are_shown() -> None:
    """MAX_ROWS of them, and the number of all."""
    tree = MetricsTree()
    for n in range(MAX_ROWS + 5):
        count(tree, "service", f"svc/{n}", requests=n, success=n)

    section = router_sections(tree, "http")["service"]

    assert (len(section.rows), section.total) == (MAX_ROWS, MAX_ROWS + 5)
    assert f"svc/{MAX_ROWS + 4}" == section.rows[0].name


def test_the_page(daemon: Any, ask: Any) -> None:
    """Label, rows with success rate and endpoints, dtab, server facts."""
    node = count(daemon.metrics, "client", "#/io.l5d.fs/web", requests=1000, success=995, failures=5)
    node.scope("loadbalancer").gauge("size", lambda: 3)
    node.scope("loadbalancer").gauge("available", lambda: 2)

    answer = ask("GET", "/")

    assert (answer.status, answer.headers["content-type"]) == (200, "text/html;charset=UTF-8")
    for text in ("#/io.l5d.fs/web", "1,000", "99.50 %", "2 / 3", "/svc=&gt;/#/io.l5d.fs", "1.2.3", "ready"):
        assert text in answer.text


def test_names_are_escaped(daemon: Any, ask: Any) -> None:
    """A dst path is what a caller sent; it must stay text in cells and attributes."""
    count(daemon.metrics, "service", "svc/<img src=x onerror='alert(1)'>\"", requests=1, success=1)
    daemon.readiness = Readiness(False, "<b>")

    page = ask("GET", "/").text

    assert "<img" not in page
    assert "<b>&lt;b&gt;" not in page
    assert "not ready: &lt;b&gt;" in page
    assert re.search(r'data-at="[^"<>]*svc/&lt;img', page)


def test_the_policy_allows_the_pages_own_script_and_style_only(ask: Any) -> None:
    """The hashes in the header are those of what the page holds; nothing is loaded from elsewhere."""
    answer = ask("GET", "/")
    policy = answer.headers["content-security-policy"]

    for tag in ("script", "style"):
        (inner,) = re.findall(rf"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        assert f"'sha256-{b64encode(sha256(inner.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"(src|href)=\"(https?:)?//", answer.text)


def test_one_router_can_be_chosen(daemon: Any, ask: Any) -> None:
    """?router=<label>, as in Linkerd."""
    daemon.view.routers = {"a": daemon.router("a"), "b": daemon.router("b")}

    page = ask("GET", "/?router=b").text

    assert "<h2>b " in page
    assert "<h2>a " not in page


def test_a_host_without_routers_has_a_page(daemon: Any, ask: Any) -> None:
    """It says so."""
    daemon.view.routers = {}

    assert "No router is configured." in ask("GET", "/").text
