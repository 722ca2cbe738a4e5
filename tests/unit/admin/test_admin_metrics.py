"""Pages of numbers."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def counted(daemon: Any) -> Any:
    """A daemon that has served three requests."""
    daemon.metrics.counter("rt", "http", "server", "127.0.0.1/4140", "requests").value += 3
    latency = daemon.metrics.stat("rt", "http", "server", "127.0.0.1/4140", "request_latency_ms", scale=1000)
    latency.add(2000)
    return daemon


@pytest.mark.parametrize("path", ["/admin/metrics.json", "/metrics.json"])
def test_flat(counted: Any, ask: Any, path: str) -> None:
    """One key per number; a stat shows only its count before the first minute is over."""
    answer = ask("GET", path)

    assert answer.headers["content-type"] == "application/json;charset=UTF-8"
    assert answer.json == {
        "rt/http/server/127.0.0.1/4140/requests": 3,
        "rt/http/server/127.0.0.1/4140/request_latency_ms.count": 0,
    }


def test_tree(counted: Any, ask: Any) -> None:
    """A node whose name has a slash is one node."""
    tree = ask("GET", "/admin/metrics.json?tree=1").json

    assert tree["rt"]["http"]["server"]["127.0.0.1/4140"]["requests"] == {"counter": 3}


def test_pretty_is_the_same_on_more_lines(counted: Any, ask: Any) -> None:
    """For reading in a terminal."""
    plain, pretty = ask("GET", "/admin/metrics.json"), ask("GET", "/admin/metrics.json?pretty=true")

    assert plain.json == pretty.json
    assert len(pretty.text.splitlines()) > len(plain.text.splitlines())


def test_a_part_of_the_tree(counted: Any, ask: Any) -> None:
    """q names a node; its numbers are shown by what follows."""
    assert ask("GET", "/admin/metrics.json?q=rt/http/server").json == {
        "127.0.0.1/4140/requests": 3,
        "127.0.0.1/4140/request_latency_ms.count": 0,
    }


def test_a_part_that_is_not_there(ask: Any) -> None:
    """Linkerd's words."""
    answer = ask("GET", "/admin/metrics.json?q=a/b")

    assert (answer.status, answer.json) == (404, {"error": "No such subtree: a/b"})


def test_the_window_of_stats_can_be_chosen(counted: Any, ask: Any) -> None:
    """The running minute shows what the last one does not have yet."""
    answer = ask("GET", "/admin/metrics.json?window=current")

    assert answer.json["rt/http/server/127.0.0.1/4140/request_latency_ms.count"] == 1


def test_an_unknown_window_is_400(ask: Any) -> None:
    """It lists the known ones."""
    answer = ask("GET", "/admin/metrics.json?window=hour")

    assert (answer.status, answer.json) == (
        400,
        {"error": "window is 'hour', expected one of last, current, all"},
    )


@pytest.mark.parametrize("path", ["/admin/metrics/prometheus", "/metrics"])
def test_prometheus_without_a_telemeter(counted: Any, ask: Any, path: str) -> None:
    """Always there at the default path, and where scrapers look first."""
    answer = ask("GET", path)

    assert answer.headers["content-type"].startswith("text/plain")
    assert 'rt:server:requests{rt="http", server="127.0.0.1/4140"} 3\n' in answer.text


def test_a_configured_prometheus_telemeter_takes_its_place(counted: Any, ask: Any) -> None:
    """Its prefix would be missing otherwise."""
    counted.view.admin_routes = {"/admin/metrics/prometheus": lambda _query: ("text/plain", "prefixed")}

    assert ask("GET", "/admin/metrics/prometheus").text == "prefixed"
