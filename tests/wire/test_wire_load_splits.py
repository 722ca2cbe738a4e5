"""Traffic is split by weights, by a request's own dtab, by a header and by fallback, while dtabs are edited."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.wire.scenarios.splits import fallback, header_splits, one_caller_to_v2, split


@pytest.mark.parametrize("through", ["file", "config"])
def test_split_follows_its_weights_under_load(tmp_path: Path, through: str) -> None:
    """9:1, then 5:5, then 9:1 again: the shares follow and no request fails."""
    figures = split(tmp_path, requests=2000, through=through)

    assert figures["failed"] == 0


def test_own_dtab_moves_one_caller_only(tmp_path: Path) -> None:
    """The caller that sends l5d-dtab always gets v2, the other never."""
    figures = one_caller_to_v2(tmp_path, requests=300)

    assert figures == {"with l5d-dtab": {"v2": 300}, "without": {"web": 300}}


def test_header_identifier_splits(tmp_path: Path) -> None:
    """A header names the version, for each request of a connection anew."""
    assert header_splits(tmp_path, requests=300) == {"v2": 100, "web": 200}


def test_alternatives_fall_back_and_forth(tmp_path: Path) -> None:
    """An alternative is taken when its file appears and left when it goes, without a failed request."""
    figures = fallback(tmp_path, requests=200)

    assert figures["failed"] == 0
