"""The Consul announcer's configuration; how it behaves is shown on a real agent."""

from __future__ import annotations

from typing import Any

import pytest

from hostmesh.naming.path import Path
from namer.consul_announcer import ConsulAnnouncerConfig, service_of


@pytest.mark.parametrize(
    ("name", "expected"),
    [("/web", ("web", ())), ("/blue/web", ("web", ("blue",))), ("/a/b/web", ("web", ("a", "b")))],
)
def test_name_to_service_and_tags(name: str, expected: tuple[str, tuple[str, ...]]) -> None:
    """As in the namer's paths, tags stand before the service."""
    assert expected == service_of(Path.read(name))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, []), ({"host": ""}, ["host"]), ({"token": "a\nb"}, ["token"]), ({"ttl_ms": 999}, ["ttlMs"])],
)
def test_mistakes_of_the_configuration(changes: dict[str, Any], expected: list[str]) -> None:
    """Each is named by its key."""
    config = ConsulAnnouncerConfig(kind="io.l5d.consul", **changes)

    assert expected == [problem.partition(":")[0] for problem in config.check()]
