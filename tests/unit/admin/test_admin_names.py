"""Pages about names."""

from __future__ import annotations

from typing import Any


def test_bound_names(daemon: Any, ask: Any) -> None:
    """Sorted ids of the namers that can list; an empty list when none can, where Linkerd has [""]."""
    assert ask("GET", "/bound-names.json").json == ["/#/io.l5d.fs/api", "/#/io.l5d.fs/web"]

    daemon.view.namers = {}
    assert ask("GET", "/bound-names.json").json == []


def test_client_state(ask: Any) -> None:
    """Every state has its word; IPv6 addresses have brackets."""
    expected = {
        "/#/io.l5d.fs/web": {"state": "bound", "addresses": ["127.0.0.1:8080", "[::1]:8081"]},
        "/#/io.l5d.fs/gone": {"state": "Neg"},
        "/#/io.l5d.fs/new": {"state": "Pending"},
        "/#/io.l5d.fs/bad": {"state": "Failed: permission denied"},
    }
    assert expected == ask("GET", "/client_state.json").json


def test_client_state_of_two_routers_is_one_object(daemon: Any, ask: Any) -> None:
    """A bound id that both hold is there once: duplicate keys are no JSON that people can rely on."""
    daemon.view.routers = {"a": daemon.router("a"), "b": daemon.router("b")}

    assert ask("GET", "/client_state.json").text.count('"/#/io.l5d.fs/web"') == 1


def test_namer_state(ask: Any) -> None:
    """By prefix; namers without a state and unknown ones have no page."""
    assert ask("GET", "/namer_state/io.l5d.fs.json").json == {"running": True, "web": {"age": 3}}
    assert ask("GET", "/namer_state/rewrite.json").status == 404
    assert ask("GET", "/namer_state/nope.json").status == 404
    assert ask("POST", "/namer_state/io.l5d.fs.json").status == 405


def test_interpreter_state(ask: Any) -> None:
    """Below the router's label, by the interpreter's own page name."""
    assert ask("GET", "/http/interpreter_state/io.l5d.mesh/default.json").json == {"connected": True}
    assert ask("GET", "/http/interpreter_state/nope.json").status == 404
    assert ask("GET", "/nope/interpreter_state/io.l5d.mesh/default.json").status == 404
