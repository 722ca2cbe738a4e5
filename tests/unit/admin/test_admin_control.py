"""Pages about the process."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from starlette.requests import Request

from hostmesh.admin.control import MASKED, ControlPages, masked
from hostmesh.admin.view import Readiness


def test_ping(ask: Any) -> None:
    """Four letters, no newline, as Linkerd."""
    answer = ask("GET", "/admin/ping")

    assert (answer.status, answer.text) == (200, "pong")


@pytest.mark.parametrize(
    ("readiness", "status", "body"),
    [(Readiness(True), 200, "ready\n"), (Readiness(False, "draining"), 503, "not ready: draining\n")],
)
def test_ready(daemon: Any, ask: Any, readiness: Readiness, status: int, body: str) -> None:
    """The status is for load balancers, the body for people."""
    daemon.readiness = readiness
    answer = ask("GET", "/admin/ready")

    assert (status, body) == (answer.status, answer.text)


def test_shutdown_takes_post_only(daemon: Any, ask: Any) -> None:
    """A GET, which a crawler or a prefetch may send, changes nothing."""
    assert ask("GET", "/admin/shutdown").status == 405
    assert daemon.shutdowns == 0

    assert ask("POST", "/admin/shutdown").status == 200
    assert daemon.shutdowns == 1


def test_shutdown_begins_when_the_answer_has_been_sent(daemon: Any) -> None:
    """A drain that finds nothing to drain would otherwise cut the answer."""
    order: list[str] = []
    daemon.view.shutdown = lambda: order.append("shutdown")
    page = next(page for page in ControlPages(daemon.view).pages() if page.path == "/admin/shutdown")

    async def send(message: dict[str, Any]) -> None:
        order.append(message["type"])

    async def main() -> None:
        response = await page.answer(Request({"type": "http", "method": "POST"}))
        await response({"type": "http"}, None, send)

    trio.run(main)
    assert order == ["http.response.start", "http.response.body", "shutdown"]


def test_shutdown_happens_though_nobody_waits_for_the_answer(daemon: Any) -> None:
    """The caller may be gone; it asked all the same."""
    page = next(page for page in ControlPages(daemon.view).pages() if page.path == "/admin/shutdown")

    async def send(_message: dict[str, Any]) -> None:
        raise OSError("gone")

    async def main() -> None:
        response = await page.answer(Request({"type": "http", "method": "POST"}))
        with pytest.raises(OSError, match="gone"):
            await response({"type": "http"}, None, send)

    trio.run(main)
    assert daemon.shutdowns == 1


def test_x7_the_config_is_shown_without_its_secrets(ask: Any) -> None:
    """A token is masked, the rest is as configured."""
    answer = ask("GET", "/config.json")

    expected = {"admin": {"port": 9990}, "namers": [{"kind": "io.l5d.consul", "token": MASKED}]}
    assert expected == answer.json


@pytest.mark.parametrize(
    "key", ["token", "aclToken", "Password", "clientSecret", "Authorization", "cookie", "apiKey"]
)
def test_x7_keys_that_hold_secrets_are_masked(key: str) -> None:
    """Anywhere in the tree, in any case."""
    assert [{"a": {key: MASKED}}] == masked([{"a": {key: "x"}}])


@pytest.mark.parametrize("key", ["keyPath", "tokenizer", "port", "kind"])
def test_x7_other_keys_are_shown(key: str) -> None:
    """The path of a key file is no secret."""
    assert {key: "x"} == masked({key: "x"})


def test_logging_lists_levels_by_name(ask: Any) -> None:
    """Linkerd's shape: a list of logger and level."""
    expected = [{"logger": "hostmesh.admin", "level": "INFO"}, {"logger": "root", "level": "INFO"}]
    assert expected == ask("GET", "/logging.json").json


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/logging.json?logger=hostmesh.admin&level=debug", b""),
        ("/logging.json", b"logger=hostmesh.admin&level=debug"),
        ("/logging.json?logger=hostmesh.admin", b"level=debug"),
    ],
)
def test_logging_sets_a_level(daemon: Any, ask: Any, target: str, body: bytes) -> None:
    """From the query, a form, or both."""
    answer = ask("POST", target, body=body)

    assert (answer.status, answer.body) == (200, b"")
    assert daemon.levels["hostmesh.admin"] == "DEBUG"


def test_logging_names_what_is_missing(ask: Any) -> None:
    """400 with the parameter's name."""
    answer = ask("POST", "/logging.json?logger=root")

    assert (answer.status, answer.json) == (400, {"error": "missing parameter: level"})


def test_logging_refuses_unknown_loggers_and_says_which_exist(ask: Any) -> None:
    """Linkerd answers 200 and does nothing."""
    answer = ask("POST", "/logging.json?logger=com.twitter&level=DEBUG")

    assert answer.status == 400
    assert answer.json == {"error": "unknown logger com.twitter", "loggers": ["hostmesh.admin", "root"]}


def test_server_info_and_loop(ask: Any) -> None:
    """Plain JSON objects from the daemon."""
    assert ask("GET", "/admin/server_info").json == {"version": "1.2.3", "config": "<stdin>"}
    assert ask("GET", "/admin/loop.json").json == {"lag_ms_p99": 0.5}


def test_threads_shows_threads_and_tasks(ask: Any) -> None:
    """The page's own task is among them, in the function that made the page."""
    entries = ask("GET", "/admin/threads.json").json

    assert {"thread", "task"} == {entry["kind"] for entry in entries}
    assert any(entry["name"] == "MainThread" for entry in entries)
    assert "MainThread" in ask("GET", "/admin/threads").text


def test_favicon_is_cheap(ask: Any) -> None:
    """Browsers ask; the answer has no body."""
    answer = ask("GET", "/favicon.ico")

    assert (answer.status, answer.body) == (204, b"")
