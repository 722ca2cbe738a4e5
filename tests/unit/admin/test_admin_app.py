"""The application as a whole: checks before pages, methods, errors, bodies, the index."""

from __future__ import annotations

from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from hostmesh.admin.body import MAX_BODY_BYTES


def test_an_unknown_page_is_a_plain_404(ask: Any) -> None:
    """No hint, no JSON: the same words that security refuses with."""
    answer = ask("GET", "/nothing")

    assert (answer.status, answer.text) == (404, "Not Found\n")


def test_a_page_refused_by_security_looks_like_a_missing_one(ask: Any, ask_with: Any) -> None:
    """Status, body and headers are equal, so that nobody learns what is there."""
    refused = ask_with(control_enabled=False)("POST", "/admin/shutdown")

    assert ask("GET", "/nothing") == refused


def test_security_refuses_before_the_page_runs(daemon: Any, ask_with: Any) -> None:
    """A refused shutdown does not shut down."""
    ask_with(control_enabled=False)("POST", "/admin/shutdown")

    assert daemon.shutdowns == 0


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/admin/ping"), ("DELETE", "/"), ("PUT", "/logging.json")]
)
def test_wrong_methods_are_405_with_the_right_ones(ask: Any, method: str, path: str) -> None:
    """Allow lists what the page takes."""
    answer = ask(method, path)

    assert answer.status == 405
    assert "GET" in answer.headers["allow"]


def test_x6_a_foreign_host_is_403_on_loopback(ask: Any) -> None:
    """DNS rebinding: the page's own name is in Host."""
    answer = ask("GET", "/config.json", {"host": "evil.example:9990"})

    assert answer.status == 403
    assert "evil.example" in answer.text


def test_x6_any_host_is_fine_on_other_addresses(ask_with: Any) -> None:
    """An admin on 0.0.0.0 is reached by names that only its network knows."""
    assert ask_with(loopback=False)("GET", "/admin/ping", {"host": "node-7.example"}).status == 200


def test_x6_traffic_routed_to_the_admin_is_answered(ask: Any) -> None:
    """A router on port 4140 that forwards to the admin keeps Host: localhost:4140."""
    assert ask("GET", "/admin/ping", {"host": "localhost:4140"}).text == "pong"


@pytest.mark.parametrize("path", ["/admin/shutdown", "/logging.json?logger=root&level=DEBUG"])
def test_x6_a_foreign_page_cannot_post(daemon: Any, ask: Any, path: str) -> None:
    """A form on another site would be a simple POST; the browser's Origin gives it away."""
    answer = ask("POST", path, {"origin": "http://evil.example"})

    assert answer.status == 403
    assert (daemon.shutdowns, daemon.levels["root"]) == (0, "INFO")


def test_a_broken_page_is_500_json_and_logged_once(daemon: Any, ask: Any) -> None:
    """The error is the answer of that page, and one line in the log; the next page works."""

    def broken() -> object:
        raise KeyError("no such thing")

    daemon.view.config_json = broken
    structlog.reset_defaults()
    with capture_logs() as lines:
        answer = ask("GET", "/config.json")

    assert answer.status == 500
    assert answer.json == {"error": "KeyError: 'no such thing'", "path": "/config.json"}
    assert [line["event"] for line in lines] == ["admin page failed"]
    assert ask("GET", "/admin/ping").status == 200


def test_a_body_over_the_bound_is_413(ask: Any) -> None:
    """One byte over MAX_BODY_BYTES is too many, and the connection is not kept for the rest."""
    answer = ask("POST", "/delegator.json", body=[b"x" * MAX_BODY_BYTES, b"x"])

    assert (answer.status, answer.headers["connection"]) == (413, "close")


def test_a_body_that_never_ends_is_408(ask: Any) -> None:
    """BODY_S after its start."""
    assert ask("POST", "/delegator.json", body=[b"{"]).status == 408


def test_answers_are_not_cached_nor_sniffed(ask: Any) -> None:
    """Every page is the present."""
    headers = ask("GET", "/admin/ping").headers

    assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")


@pytest.mark.parametrize("path", ["/admin", "/admin/index.txt"])
def test_the_index_lists_what_there_is(ask: Any, path: str) -> None:
    """Fixed pages, pages of namers and interpreters, each with a remark."""
    listed = dict(line.split(None, 1) for line in ask("GET", path).text.splitlines())

    assert listed["/admin/ping"] == "answers pong while the process lives"
    assert {"/", "/config.json", "/namer_state/io.l5d.fs.json"} <= listed.keys()
    assert "/http/interpreter_state/io.l5d.mesh/default.json" in listed


def test_the_index_leaves_out_what_security_refuses(ask_with: Any) -> None:
    """It would be a list of secrets otherwise."""
    assert "shutdown" not in ask_with(control_enabled=False)("GET", "/admin").text


def test_telemeters_add_pages(daemon: Any, ask: Any) -> None:
    """A telemeter's page gets the query and Host, and may be made in slices."""

    def page(query: Any) -> tuple[str, Any]:
        return "text/x-numbers", iter(["a", query["q"], query[":host"]])

    daemon.view.admin_routes = {"/numbers": page}
    answer = ask("GET", "/numbers?q=b")

    assert (answer.headers["content-type"], answer.text) == ("text/x-numbers", "ablocalhost:9990")
    assert ask("POST", "/numbers").status == 405


def test_telemeters_cannot_take_a_fixed_page(daemon: Any, ask: Any) -> None:
    """A path in the config must not hide ping or shutdown."""
    daemon.view.admin_routes = {"/admin/ping": lambda _query: ("text/plain", "mine")}

    assert ask("GET", "/admin/ping").text == "pong"
