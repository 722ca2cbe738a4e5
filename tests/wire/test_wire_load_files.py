"""The file of a name changes under load."""

from __future__ import annotations

from pathlib import Path

from tests.wire.scenarios.files import moved_endpoint, troubled_file


def test_trouble_with_the_file_fails_no_request(tmp_path: Path) -> None:
    """Deleted, truncated, half written, malformed, replaced by a link, and restored within holdMs: nobody notices."""
    figures = troubled_file(tmp_path, rounds=1, hold_ms=1000)

    assert figures["failed"] == 0


def test_endpoints_come_at_once_and_go_after_the_hold(tmp_path: Path) -> None:
    """A new endpoint gets its share within 100 ms, a removed one nothing after holdMs, a deleted file becomes Neg."""
    figures = moved_endpoint(tmp_path, hold_ms=800)

    assert figures["requests to the removed one after the hold"] == 0
