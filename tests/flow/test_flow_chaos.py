"""Everything at once, for a few seeds; ``python -m tests.flow.chaos`` runs as many as one likes."""

from __future__ import annotations

import pytest

from tests.flow.chaos import run


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_mixed_up_and_nothing_is_left(seed: int) -> None:
    """Bodies stay with their requests, no exception of ours escapes, and at the end every slot is free again."""
    chaos = run(seed)

    assert chaos.checked > 10
