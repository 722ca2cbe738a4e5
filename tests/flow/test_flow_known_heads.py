"""Heads that are recognised because their connection has had the same bytes before."""

from __future__ import annotations

import pytest
from attrs import evolve

from hostmesh.protocol.limits import Limits
from hostmesh.proxy.server import Server
from tests.flow.scripted import Received
from tests.flow.world import CONFIG, World, answering

GET = b"GET /again HTTP/1.1\r\nHost: web\r\nX-Padding: " + b"x" * 100 + b"\r\n\r\n"
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Padding: " + b"x" * 100 + b"\r\n\r\n"
SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


@pytest.mark.parametrize("cut", [1, 20, len(GET) - 1])
def test_a_repeated_request_in_two_pieces_is_over_with_its_answer(cut: int) -> None:
    """Nothing of it is left to be waited for: the connection rests, and takes a shorter request, too."""
    world = World()
    world.serving(answering(after=0.1))
    caller = world.caller()
    calls = []
    for pieces in ([GET], [GET[:cut], GET[cut:]], [b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"]):
        calls.append(caller.expect())
        for piece in pieces:
            caller.send(piece)
            world.run(0.01)
        world.finish(*calls)
        world.run(20)

    assert [call.status for call in calls] == [200, 200, 200]
    assert not caller.closed
    world.check()


@pytest.mark.parametrize("cut", [1, 20, len(LONG) - 1])
def test_a_repeated_response_in_two_pieces_is_over_with_its_body(cut: int) -> None:
    """A shorter one on the same connection is recognised as complete."""
    world = World()
    answers = iter([[LONG + b"long"], [LONG[:cut], LONG[cut:] + b"long"], [SHORT + b"short"]])

    def handler(received: Received) -> None:
        for number, piece in enumerate(next(answers)):
            received.send(piece, after=0.01 * number)

    (endpoint,) = world.serving(handler)
    caller = world.caller()
    bodies = []
    for _ in range(3):
        call = caller.request()
        world.finish(call)
        bodies.append(call.body)

    assert bodies == [b"long", b"long", b"short"]
    assert endpoint.accepted == 1
    world.check()


def test_the_same_bytes_mean_no_body_after_head() -> None:
    """The head of an answer to GET, given to HEAD, is followed by nothing."""
    world = World()

    def handler(received: Received) -> None:
        received.send(LONG if received.message.method == "HEAD" else LONG + b"long")

    (endpoint,) = world.serving(handler)
    caller = world.caller()
    calls = []
    for method in ("GET", "HEAD", "GET", "HEAD"):
        calls.append(caller.request(method=method))
        world.finish(*calls)

    assert [call.body for call in calls] == [b"long", b"", b"long", b""]
    assert endpoint.accepted == 1
    world.check()


def test_a_reload_makes_known_heads_forgotten() -> None:
    """Whatever other limits hold from then on hold for them, too; where they are the same, nothing is forgotten."""
    world = World()
    world.serving()
    caller = world.caller()

    def again() -> int:
        call = caller.expect()
        caller.send(GET)
        world.finish(call)
        return call.status

    first = again()
    server = world.linker.servers["127.0.0.1", 4140][1]
    assert isinstance(server, Server)
    (session,) = server.sessions
    world.apply(CONFIG + "# the same\n")
    known = session._known  # type: ignore[union-attr]
    server.configure(evolve(server.settings, limits=Limits(max_head_bytes=100)))
    second = again()

    assert (first, known, second) == (200, GET, 431)
    world.check()
