"""``io.l5d.marathon``: what a master says, and the loop against scripted HTTP. No real Marathon is run: Debian has none
and its last release is of 2021."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hostmesh.base.errors import ConfigError
from hostmesh.naming.path import Path
from namer.marathon import MarathonConfig
from namer.marathon_format import app_ids, name_in, places
from tests.fs_world import Followed
from tests.polled_world import NamerWorld
from tests.wire.endpoint import Answer, EndpointServer, Received


def task(host: object = "10.0.0.1", port: object = 31000, **more: object) -> dict[str, object]:
    return {"host": host, "ports": [port, 9], **more}


def app(*tasks: object, **more: object) -> dict[str, object]:
    return {"app": {"tasks": list(tasks), **more}}


def test_ids_are_segments() -> None:
    """Of groups, too; what has no id is passed over."""
    answer = {"apps": [{"id": "/web"}, {"id": "/shop/cart/"}, {"id": "/"}, {"id": 5}, {}, "x"]}

    assert app_ids(answer) == {("web",), ("shop", "cart")}


@pytest.mark.parametrize("answer", [None, [], {}, {"apps": {}}, {"apps": [{}] * 100_001}])
def test_x8_what_is_no_list_of_applications(answer: Any) -> None:
    """It is an error, not an empty list."""
    with pytest.raises(ValueError, match="expected"):
        app_ids(answer)


def test_the_shortest_id_is_the_name() -> None:
    """As Linkerd has it."""
    ids = frozenset({("a", "b"), ("a", "b", "c")})

    assert name_in(ids, Path.read("/a/b/c/d")) == Path.read("/a/b")
    assert name_in(ids, Path.read("/a")) is None


def test_tasks_become_places() -> None:
    """The first port on the agent; tasks without one are left out."""
    answer = app(task(), task("agent-2", 31001), task(port=0), task(port="1"), task(None), {"host": "x"}, 5)

    assert places(answer, use_health_check=False) == [("10.0.0.1", 31000), ("agent-2", 31001)]


def test_applications_with_addresses_of_their_own() -> None:
    """The task's address with the discovery port."""
    answer = app(
        task(ipAddresses=[{"ipAddress": "10.1.0.1"}]),
        task(),
        ipAddress={"discovery": {"ports": [{"number": 8080}]}},
    )

    assert places(answer, use_health_check=False) == [("10.1.0.1", 8080)]


def test_health_checks() -> None:
    """All of the application's checks must have a good result, and the task must run."""
    good = [{"alive": True}, {"alive": True}]
    answer = app(
        task(port=1, healthCheckResults=good),
        task(port=2, healthCheckResults=[{"alive": True}, {"alive": False}]),
        task(port=3, healthCheckResults=[{"alive": True}]),
        task(port=4),
        task(port=5, healthCheckResults=good, state="TASK_KILLING"),
        healthChecks=[{}, {}],
    )

    assert [port for _host, port in places(answer, use_health_check=True)] == [1]
    assert len(places(answer, use_health_check=False)) == 5


@pytest.mark.parametrize("answer", [None, {}, {"app": []}, {"app": {}}, {"app": {"tasks": [0] * 50_001}}])
def test_x8_what_is_no_application(answer: Any) -> None:
    """It is an error, not an empty set."""
    with pytest.raises(ValueError, match="expected"):
        places(answer, use_health_check=False)


class Master:
    """Scripted HTTP in Marathon's words."""

    def __init__(self) -> None:
        self.apps: dict[str, list[dict[str, object]]] = {"/web": [task()]}
        self.status = 200
        self.event = threading.Event()
        self.ended = threading.Event()
        self.streams = True
        self.server = EndpointServer("marathon", respond=self.respond)

    def events(self) -> Iterator[bytes]:
        yield b"event: event_stream_attached\r\ndata: {}\r\n\r\n"
        while not self.ended.is_set():
            self.event.wait(10)
            self.event.clear()
            yield b"event: status_update_event\r\ndata: {}\r\n\r\n"

    def respond(self, request: Received) -> Answer:
        target = request.target.removeprefix("/prefix")
        if target == "/v2/events":
            if not self.streams:
                return Answer(status=404, body=b"")
            return Answer(body=self.events(), framing="chunked")
        if self.status != 200:
            return Answer(status=self.status, body=b"{}")
        if target == "/v2/apps":
            return Answer(body=json.dumps({"apps": [{"id": id} for id in self.apps]}).encode())
        id = target.removeprefix("/v2/apps").removesuffix("?embed=app.tasks")
        if id not in self.apps:
            return Answer(status=404, body=b"{}")
        return Answer(body=json.dumps(app(*self.apps[id])).encode())


@pytest.fixture
def master() -> Iterator[Master]:
    made = Master()
    yield made
    made.ended.set()
    made.event.set()
    made.server.stop()


def world(master: Master, **more: object) -> NamerWorld:
    config = MarathonConfig(
        kind="io.l5d.marathon",
        host="127.0.0.1",
        port=master.server.port,
        uri_prefix="/prefix",
        hold_ms=0,
        **more,  # type: ignore[arg-type]
    )
    return NamerWorld(config)


def test_an_application_is_followed_by_events(master: Master) -> None:
    """With a poll once a minute, changes arrive with the event."""

    async def test(world: NamerWorld) -> None:
        web = Followed(world, "/web/rest")
        await world.until(lambda: web.ports == [31000])
        assert web.tree.value.value.id.show() == "/#/io.l5d.marathon/web"
        assert web.tree.value.value.residual.show() == "/rest"
        assert Followed(world, "/other").tree is not None
        for port in (31001, 31002):
            master.apps["/web"] = [task(port=port)]
            master.event.set()
            await world.until(lambda port=port: web.ports == [port])
        assert world.namer.state()["streaming"] is True
        del master.apps["/web"]
        master.event.set()
        await world.until(lambda: web.is_neg)

    world(master, ttl_ms=60_000).run(test)


def test_an_application_is_polled_without_events(master: Master) -> None:
    """A master without a stream is asked every ttlMs."""
    master.streams = False

    async def test(world: NamerWorld) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [31000])
        master.apps["/web"] = [task(port=31001), task("localhost", 31002)]
        await world.until(lambda: web.ports == [31001, 31002])
        late = Followed(world, "/late")
        await world.until(lambda: late.is_neg)
        master.apps["/late"] = [task(port=5)]
        await world.until(lambda: late.ports == [5])

    world(master, ttl_ms=30, jitter_ms=5).run(test)


def test_x9_a_master_that_fails_changes_nothing(master: Master) -> None:
    """503 and a closed port keep the last good set; a first look-up is Failed, not NEG."""
    master.streams = False

    async def test(world: NamerWorld) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [31000])
        master.status = 503
        await world.until(lambda: "names.source_failed" in world.reported())
        assert web.ports == [31000]
        master.status = 200
        master.apps["/web"] = [task(port=2)]
        await world.until(lambda: web.ports == [2])
        assert not web.had_a_gap

    world(master, ttl_ms=30).run(test)


def test_the_master_is_a_host_or_an_address_path() -> None:
    """Other paths are for an interpreter, which namers do not have: checked, and refused when run."""
    config = MarathonConfig(kind="io.l5d.marathon", dst=Path.read("/$/inet/10.0.0.1/8080"))
    other = MarathonConfig(kind="io.l5d.marathon", dst=Path.read("/#/io.l5d.zkLeader/marathon"))

    assert config.master() == ("10.0.0.1", 8080)
    assert other.check() == []
    with pytest.raises(ConfigError, match=r"dst: found /#/io\.l5d\.zkLeader/marathon, expected /\$/inet/"):
        other.master()


def test_keys_that_are_wrong() -> None:
    """What the types cannot say."""
    assert MarathonConfig(kind="x", uri_prefix="a", ttl_ms=0).check() == [
        "uriPrefix: found 'a', expected it to start with '/'",
        "ttlMs: found 0, expected at least 1",
    ]
