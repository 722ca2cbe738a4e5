from __future__ import annotations

from collections.abc import Iterator

import pytest
from pump_world import World


@pytest.fixture
def world() -> Iterator[World]:
    """A pump with loopback sockets; a callback that raised fails the test."""
    built = World()
    yield built
    built.close()
    assert built.errors == []
