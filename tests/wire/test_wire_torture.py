"""Seconds of everything at once; see tests/wire/torture.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.wire.torture import Torture


@pytest.mark.slow
def test_nothing_is_left_after_torture(tmp_path: Path) -> None:
    """Random callers, endpoints, names and reloads: every request is answered or cut, its own, and nothing stays."""
    torture = Torture(tmp_path, seed=11, seconds=6)

    torture.run()

    assert torture.seen["200"] > 50
