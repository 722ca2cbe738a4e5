"""Every test that asks for ``engine_class`` runs once with each engine."""

from __future__ import annotations

import pytest

from tests.h2_world import ENGINES, EngineClass


@pytest.fixture(params=list(ENGINES))
def engine_class(request: pytest.FixtureRequest) -> EngineClass:
    """One of the engines."""
    return ENGINES[request.param]
