"""``h2Budgets`` of servers and clients."""

from __future__ import annotations

import attrs
import pytest

from hostmesh.config.h2_budgets import H2BudgetsConfig
from hostmesh.config.load import load
from hostmesh.config.registry import Registry
from hostmesh.config.routers import H2RouterConfig, HttpRouterConfig
from hostmesh.protocol.h2.budgets import DEFAULT_BUDGETS


def router(text: str) -> HttpRouterConfig | H2RouterConfig:
    config, report = load(f"routers: [{text}]", "f.yaml", Registry.installed())
    assert config is not None, report
    found = config.routers[0]
    assert isinstance(found, HttpRouterConfig | H2RouterConfig)
    return found


def test_the_keys_have_the_defaults_of_the_engines() -> None:
    """A file that says nothing gets the budgets that the engines are tested with."""
    assert H2BudgetsConfig().budgets() == DEFAULT_BUDGETS


@pytest.mark.parametrize("protocol", ["http", "h2"])
def test_every_key_reaches_the_engines(protocol: str) -> None:
    """Each key of a server and of a client changes one budget, in its unit."""
    keys = (
        "{maxResets: 1, resetMs: 2000, earlyResetMs: 11, toleratedResetPercent: 12, maxResetPercent: 3, "
        "maxHeaderBlockBytes: 4, maxContinuations: 5, maxHeaderFields: 6, headerMs: 7000, "
        "controlFramesPerSecond: 8, controlFrameBurst: 9, maxStreams: 10}"
    )
    built = router(
        f"{{protocol: {protocol}, servers: [{{h2Budgets: {keys}}}], client: {{h2Budgets: {keys}}}}}"
    )
    client = built.client.configs[0].params.h2_budgets
    expected = attrs.evolve(
        DEFAULT_BUDGETS,
        max_resets=1,
        reset_seconds=2.0,
        early_reset_seconds=0.011,
        tolerated_reset_part=0.12,
        max_reset_part=0.03,
        max_block=4,
        max_continuations=5,
        max_fields=6,
        header_seconds=7.0,
        control_rate=8.0,
        control_burst=9,
        max_streams=10,
    )

    assert client is not None
    assert client.budgets() == built.servers[0].h2_budgets.budgets() == expected
