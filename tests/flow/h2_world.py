"""Worlds whose routers speak HTTP/2 to endpoints, and what holds at the end of every scenario."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hostmesh.protocol.h2.engines import ENGINES
from tests.flow.h2_endpoint import H2Endpoint, StreamHandler, answering_h2
from tests.flow.world import World, config


class Engine:
    """Which engine carries the connections of the worlds that are made now."""

    kind = "lane"


@pytest.fixture(autouse=True, params=ENGINES)
def every_engine(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test of a module that imports this runs with each engine."""
    before, Engine.kind = Engine.kind, request.param
    yield
    Engine.kind = before


def h2_world(client: str = "", **options: str) -> World:
    """A world whose http router speaks HTTP/2 to endpoints."""
    both = f"protocol: h2{', ' if client else ''}{client}"
    router = f"h2Engine: {Engine.kind}\n{options.pop('router', '')}".rstrip()
    return World(config(client=both, router=router, **options))


def serving_h2(world: World, *handlers: StreamHandler, name: str = "web", **options: Any) -> list[H2Endpoint]:
    """An HTTP/2 endpoint for each handler (or one that answers at once), all under ``name``."""
    made = [
        H2Endpoint(world.loop, f"10.1.0.{number + 1}", 80, handler, **options)
        for number, handler in enumerate(handlers or [answering_h2()])
    ]
    world.name(name, *[endpoint.text for endpoint in made])
    return made


def check(world: World) -> None:
    """As :meth:`World.check`; and no stream is open, no byte waits (hardening H12)."""
    world.check()
    for router in world.linker.routers.values():
        for client in router.clients.entries.values():
            found = {node.text: (node.streams, node.buffered, len(node.waiters)) for node in client.endpoints}
            assert found == dict.fromkeys(found, (0, 0, 0))
