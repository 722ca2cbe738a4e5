"""What the streams of a dst path came to, under the names of Linkerd (``service/<path>/stream/*`` and its kin)."""

from __future__ import annotations

import pytest

from tests.flow.h2_scripted import caller, finish, h2_config
from tests.flow.scripted import Received
from tests.flow.world import World, answering

pytestmark = pytest.mark.usefixtures("engine")

SERVICE = "rt/out/service/svc/web"


def streams(world: World, part: str) -> tuple[float, float]:
    """(successes, failures) of ``stream``, ``request/stream`` or ``response/stream``."""
    names = (f"{SERVICE}/{part}/stream_success", f"{SERVICE}/{part}/stream_failures")
    return (world.metric(names[0]), world.metric(names[1]))


def everything(world: World) -> dict[str, tuple[float, float]]:
    return {part: streams(world, part) for part in ("request/stream", "response/stream", "stream")}


def test_times_and_bytes_of_both_directions() -> None:
    """A request of 0.5 s, an answer 0.2 s after its end, which takes 0.3 s: each where Linkerd counts it."""
    world = World(h2_config())

    def handler(received: Received) -> None:
        received.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc", after=0.2)
        received.send(b"def", after=0.5)

    world.serving(handler)
    connection = caller(world)
    call = connection.request(method="POST", end=False)
    connection.data(call, b"x" * 100)
    world.run(0.5)
    connection.data(call, b"y" * 50, True)
    finish(world, call)
    world.run(0.1)

    assert everything(world) == {"request/stream": (1, 0), "response/stream": (1, 0), "stream": (1, 0)}
    world.shared.metrics.tick_minute()
    assert world.metric(f"{SERVICE}/request/stream/stream_duration_ms.max") == pytest.approx(500, abs=5)
    assert world.metric(f"{SERVICE}/stream/total_latency_ms.max") == pytest.approx(1000, abs=10)
    assert world.metric(f"{SERVICE}/response/stream/stream_duration_ms.max") == pytest.approx(300, abs=5)
    assert world.metric(f"{SERVICE}/request/stream/data_bytes.sum") == 150
    assert world.metric(f"{SERVICE}/response/stream/data_bytes.sum") == 6
    world.check()


def test_a_5xx_is_a_stream_that_came_to_its_end() -> None:
    """The classifier's verdict is in success and failures; streams fail only by breaking off."""
    world = World(h2_config())
    world.serving(answering(500))
    finish(world, caller(world).request())

    assert everything(world) == {"request/stream": (1, 0), "response/stream": (1, 0), "stream": (1, 0)}
    assert world.metric(f"{SERVICE}/failures") == 1
    world.check()


def test_streams_that_break_off() -> None:
    """In the request, before an answer, in the answer, and with the connection."""
    world = World(h2_config())

    def handler(received: Received) -> None:
        if received.message.target == "/cut":
            received.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            received.reset(after=0.1)

    (endpoint,) = world.serving(handler)
    connection = caller(world)
    half = connection.request(method="POST", end=False)
    whole = connection.request()
    world.run(0.1)
    connection.cancel(half)
    world.run(0.1)
    in_request = everything(world)
    connection.cancel(whole)
    world.run(0.1)
    before_answer = everything(world)
    connection.request("/cut")
    world.run(0.2)
    in_answer = everything(world)
    connection.request()
    world.run(0.1)
    connection.reset()
    world.run(0.1)

    assert in_request == {"request/stream": (0, 1), "response/stream": (0, 0), "stream": (0, 1)}
    assert before_answer == {"request/stream": (1, 1), "response/stream": (0, 0), "stream": (0, 2)}
    assert in_answer == {"request/stream": (2, 1), "response/stream": (0, 1), "stream": (0, 3)}
    assert everything(world) == {"request/stream": (3, 1), "response/stream": (0, 1), "stream": (0, 4)}
    assert len(endpoint) == 4
    world.check()


def test_an_answer_of_ours_is_no_response() -> None:
    """It is a whole stream nevertheless; and callers of HTTP/1.1 have no streams. The same with an answer that is no
    error."""
    world = World(h2_config(client="failFast: false"))
    world.name("web", "10.0.0.99:1")
    finish(world, caller(world).request())
    world.get()

    assert everything(world) == {"request/stream": (1, 0), "response/stream": (0, 0), "stream": (1, 0)}
    assert world.metric(f"{SERVICE}/requests") == 2
    world.set_dtab("/svc => /$/io.buoyant.http.status/404")
    told = caller(world).request()
    finish(world, told)
    assert told.status == 404
    assert everything(world) == {"request/stream": (2, 0), "response/stream": (0, 0), "stream": (2, 0)}
    world.check()
