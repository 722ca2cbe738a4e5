"""Frames in any order, for a few seeds; ``python -m tests.fuzz.h2_callers`` runs as many as one likes."""

from __future__ import annotations

import pytest

from tests.fuzz.h2_callers import run


@pytest.mark.parametrize("first", [1, 101])
def test_no_frame_lets_an_exception_escape(first: int) -> None:
    """Whatever callers send, the sessions end, and nothing is left of them."""
    frames = sum(run(seed).frames for seed in range(first, first + 20))

    assert frames > 500
