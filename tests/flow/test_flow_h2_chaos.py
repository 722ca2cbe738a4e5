"""Everything at once with HTTP/2, for a few seeds; ``python -m tests.flow.h2_chaos`` runs as many as one likes."""

from __future__ import annotations

import pytest

from tests.flow.h2_chaos import run


@pytest.mark.parametrize("seed", [1, 3])
def test_no_stream_is_mixed_up_and_nothing_is_left(seed: int) -> None:
    """Bodies stay with their streams, no exception of ours escapes, and at the end every slot is free again."""
    chaos = run(seed)

    assert chaos.checked > 10
