"""HTTP/1.1 callers, HTTP/2 endpoints: one request after the other, many at once, bodies both ways."""

from __future__ import annotations

from tests.flow.h2_endpoint import H2Endpoint, Stream, StreamHandler, answering_h2
from tests.flow.world import World, config


def h2_world(client: str = "", **options: str) -> World:
    """A world whose http router speaks HTTP/2 to endpoints."""
    return World(config(client=f"protocol: h2{', ' if client else ''}{client}", **options))


def serving_h2(world: World, *handlers: StreamHandler, name: str = "web", **options: int) -> list[H2Endpoint]:
    """An HTTP/2 endpoint for each handler (or one that answers at once), all under ``name``."""
    made = [
        H2Endpoint(world.loop, f"10.1.0.{number + 1}", 80, handler, **options)
        for number, handler in enumerate(handlers or [answering_h2()])
    ]
    world.name(name, *[endpoint.text for endpoint in made])
    return made


def check(world: World) -> None:
    """As :meth:`World.check`; and no stream is open, no byte waits."""
    world.check()
    for router in world.linker.routers.values():
        for client in router.clients.entries.values():
            found = {node.text: (node.streams, node.buffered, len(node.waiters)) for node in client.endpoints}
            assert found == dict.fromkeys(found, (0, 0, 0))


def test_a_request_goes_through() -> None:
    """Pseudo fields instead of the initial line and Host, our lines beside the caller's fields."""
    world = h2_world()
    (endpoint,) = serving_h2(world, answering_h2(200, b"hello", fields=(("x-from", "endpoint"),)))

    call = world.get("/a?b=c", fields=("Accept: text/plain",))

    assert (call.status, call.body) == (200, b"hello")
    assert call.response is not None
    assert call.response.get("x-from") == "endpoint"
    (stream,) = endpoint.requests
    assert stream.pairs[:4] == [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/a?b=c"),
        (b":authority", b"web"),
    ]
    assert stream.get("accept") == "text/plain"
    assert stream.get("l5d-dst-service") == "/svc/web"
    assert stream.get("host") is None
    check(world)
