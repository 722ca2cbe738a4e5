"""A small storm of the kind that ``python -m tests.wire.h2_storm`` blows with 100,000 streams."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.wire.h2_storm import Storm, in_flight

STREAMS = 4000


@pytest.mark.parametrize("seed", [1, 2])
def test_h12_every_stream_ends(tmp_path: Path, seed: int) -> None:
    """H12: resets, cancels, timeouts and GOAWAYs of both sides leave no stream hung and no counter above zero."""
    with Storm(tmp_path, seed) as storm:
        tally = storm.blow(STREAMS)
        metrics = storm.mesh.metrics()
        descriptors = storm.mesh.open_descriptors()

    assert tally.total == STREAMS
    assert tally.ends["hung"] == 0
    assert tally.ends["answered"] > STREAMS / 2
    assert in_flight(metrics) == {}
    assert metrics["process/bugs"] == 0
    # the connections to endpoints rest a while before they are closed
    assert descriptors < 200
