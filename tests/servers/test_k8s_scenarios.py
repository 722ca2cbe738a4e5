"""Short versions of the Kubernetes scenarios; ``python -m tests.servers.k8s_scenarios`` runs them at full length."""

from __future__ import annotations

import pytest

from tests.servers.k8s_scenarios import SCENARIOS, endpoint_ip, play

SECONDS = {"frozen": 15.0, "blackholed": 15.0, "rotated": 5.0}
"""The pulse needs up to twelve seconds to miss twice. Others need no more than a few."""


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_scenario(name: str) -> None:
    """No request fails while an endpoint lives, and none reaches an endpoint that is long gone."""
    endpoint_ip()

    print(play(name, SECONDS.get(name, 4.0)))
