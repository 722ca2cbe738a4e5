"""The configuration file changes under load."""

from __future__ import annotations

from pathlib import Path

from tests.wire.scenarios.reload import rebuilt_under_load, refused_reloads, reload_under_load


def test_reload_fails_no_request_and_keeps_what_was_learned(tmp_path: Path) -> None:
    """Weights follow, new ports answer, counters and connections stay, no request fails."""
    figures = reload_under_load(tmp_path, times=3, rate=500, per_phase=250)

    assert figures["failed"] == 0


def test_bad_reload_keeps_the_old_configuration_and_says_so(tmp_path: Path) -> None:
    """Each refusal names its cause; a good file after it and SIGHUP are followed."""
    figures = refused_reloads(tmp_path, rate=200)

    assert figures["failed"] == 0


def test_rebuilt_namers_and_clients_fail_no_request(tmp_path: Path) -> None:
    """Everything below the routers is built anew, twice in a row: what is in flight ends, nothing is leaked."""
    figures = rebuilt_under_load(tmp_path, times=4, rate=300)

    assert figures["failed"] == 0
