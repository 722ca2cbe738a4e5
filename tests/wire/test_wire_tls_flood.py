"""Row X3 of the threat model: handshakes that fail or stall cost what they cost, and leave nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.tls_flood import Flood, Others, wait_closed


@pytest.fixture
def flood(tmp_path: Path) -> Iterator[Flood]:
    with Flood(tmp_path) as running:
        yield running
        assert running.mesh.metrics()["process/bugs"] == 0
        assert "Traceback" not in running.mesh.log()


def test_x3_failed_handshakes_leave_nothing(flood: Flood) -> None:
    """X3: after every kind of failure, many times over, memory and descriptors are as before, and nobody was hurt."""
    flood.fail(660)
    before = flood.footprint()

    with Others(flood) as others:
        done = flood.fail(1650)

    after = flood.footprint()
    assert (others.failures, len(done)) == ([], 11)
    assert after.descriptors <= before.descriptors + 2
    # Arenas and caches move a little; 1,650 connections of 60 KiB would be 97 MB.
    assert after.resident_kb - before.resident_kb < 6000
    # All but those who said nothing at all, as a probe of the port does.
    assert sum(flood.failures().values()) == (660 + 1650) * 10 // 11


@pytest.mark.slow
def test_x3_stalled_handshakes_end_and_keep_nobody_out(flood: Flood) -> None:
    """X3: more stalled handshakes than may be in progress: the oldest make room, the others end after ten seconds,
    and who comes meanwhile is served.
    """
    before = flood.footprint()

    with Others(flood) as others, flood.stalled(1100) as sockets:
        flood.wait_in_progress(1000)
        in_progress = flood.metric("tls/in_progress")
        closed, last = wait_closed(sockets, 25)

    after = flood.footprint()
    assert in_progress <= 1000
    assert flood.metric("tls/dropped") >= 100
    assert (closed, others.failures) == (1100, [])
    assert 5 < last < 15
    assert max(others.fresh) < 3
    assert after.descriptors <= before.descriptors + 2
