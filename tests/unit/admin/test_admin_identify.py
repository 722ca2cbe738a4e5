"""The identifier listener without sockets."""

from __future__ import annotations

from typing import Any

import pytest

from hostmesh.admin.identify import IdentifierApp, head_bytes


@pytest.fixture
def identify(daemon: Any, asker: Any) -> Any:
    return asker(IdentifierApp(daemon.view))


def test_each_router_answers(daemon: Any, identify: Any) -> None:
    """Path and dtab, under the router's label."""
    daemon.view.routers = {"a": daemon.router("a"), "b": daemon.router("b")}

    answer = identify("GET", "/x?y=1", {"host": "web"})

    expected = {"path": "/svc/web/x?y=1", "dtab": "/a=>/b"}
    assert {"a": expected, "b": expected} == answer.json


def test_refusals_and_bugs_are_answers(identify: Any) -> None:
    """Each with its own words."""
    assert identify("GET", "/", {"host": "nobody"}).json == {"http": {"error": "no identifier took it"}}
    assert identify("GET", "/", {"x-bug": "1"}).json == {
        "http": {"error": "RuntimeError: an identifier's bug"}
    }


def test_a_head_that_no_router_would_take(identify: Any) -> None:
    """The parser's own status and message."""
    answer = identify("GET", "/", {"host": "web", "Host": "other", "content-length": "x"})

    assert answer.status == 400


def test_http2_requests_get_their_authority_as_host() -> None:
    """Identifiers read Host, whatever version brought the request."""
    scope = {
        "method": "GET",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [(b":authority", b"web"), (b"accept", b"*/*")],
    }
    assert head_bytes(scope) == b"GET / HTTP/1.1\r\nhost: web\r\naccept: */*\r\n\r\n"
