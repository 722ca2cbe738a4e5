"""An endpoint process is killed with SIGKILL, or refuses connections, under load."""

from __future__ import annotations

from pathlib import Path

from tests.wire.scenarios.kill import kill_under_load, refused_connects


def test_kill_fails_no_read_and_repeats_no_write(tmp_path: Path) -> None:
    """At 500 requests/s no GET fails, only POSTs with the killed process do, none is delivered twice; it comes back."""
    figures = kill_under_load(tmp_path, seconds=3)

    assert figures["GETs failed"] == 0
    assert figures["POSTs delivered twice"] == 0


def test_refused_connections_requeue_every_method(tmp_path: Path) -> None:
    """A connect failure sends any method elsewhere, with whatever body, and it is delivered once."""
    figures = refused_connects(tmp_path, total=480)

    assert figures["failed"] == 0
