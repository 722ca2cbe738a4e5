"""The DNS namers against a real authoritative name server."""

from __future__ import annotations

import pytest

from tests.servers.dns_scenarios import SCENARIOS, play
from tests.servers.fetch import nsd, required


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_dns_scenario(name: str) -> None:
    """No failed request, no stale route, and a journal that tells what happened."""
    required(nsd)

    play(name, seconds=5.0)
