"""The lane engine decides as the library engine, whatever comes in whatever pieces."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostmesh.protocol.h2 import lane_stream, library_base
from tests.fuzz.h2_lane_vs_library import Dialogue, check


@pytest.mark.parametrize("client_side", [False, True], ids=["server", "client"])
@settings(max_examples=150, deadline=None)
@given(rng=st.randoms(use_true_random=False), length=st.integers(1, 40))
def test_any_dialogue_means_the_same_to_both_engines(
    client_side: bool, rng: random.Random, length: int
) -> None:
    """Chosen by hypothesis: frames in right and wrong order, damaged, cut anywhere; the proxy acting in between."""
    Dialogue(rng, client_side).run(length)


@pytest.mark.parametrize("seed", range(8))
def test_seeded_dialogues_mean_the_same_to_both_engines(seed: int) -> None:
    """Chosen by seed, as ``python -m tests.fuzz.h2_lane_vs_library`` does by the thousand."""
    for number in range(50):
        check(f"property {seed}/{number}")


def test_both_engines_assume_and_remember_the_same() -> None:
    """What the engines keep in numbers of their own is the same number."""
    assert lane_stream.UNTOLD_STREAMS == library_base.UNTOLD_STREAMS
    assert lane_stream.BLAMING == library_base._BLAMING
