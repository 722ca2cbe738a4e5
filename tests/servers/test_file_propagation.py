"""The command that prints how soon a change of a file is routed by."""

from __future__ import annotations

from pathlib import Path

from tests.servers.file_propagation import propagation


def test_file_propagation_is_measured(tmp_path: Path) -> None:
    """Few changes, each of them followed; the numbers of the command are printed, not asserted."""
    p50, p99, longest = propagation(tmp_path, 5)

    assert 0 < p50 <= longest
    assert p50 <= p99
