"""What flow tests share."""

from __future__ import annotations

import pytest

from hostmesh.protocol.h2.engines import ENGINES
from tests.flow import h2_scripted


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test runs once on every HTTP/2 engine."""
    monkeypatch.setattr(h2_scripted, "ENGINE", request.param)
    name: str = request.param
    return name
