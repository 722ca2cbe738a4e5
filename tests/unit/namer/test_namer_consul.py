"""The Consul namer on a scripted agent: how it asks, and what it makes of answers and their absence."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from hostmesh.base.var import Failed
from hostmesh.naming.addr import AddrBound
from hostmesh.naming.path import Path
from hostmesh.registry.rotation import LOOKS
from namer.consul import ConsulConfig
from tests.consul_world import Answer, Asked, ConsulWorld, ScriptedAgent
from tests.fs_world import Followed


def entry(port: int, **more: Any) -> dict[str, Any]:
    return {"ServiceAddress": "127.0.0.1", "ServicePort": port, **more}


def test_changes_follow_each_other() -> None:
    """One query at a time, each with the index of the answer before, on one connection."""

    async def test(world: ConsulWorld) -> None:
        world.agent.put("web", 80)
        name = Followed(world, "/dc1/web/rest")
        await world.until(lambda: name.ports == [80])
        world.agent.put("web", 80, 81)
        await world.until(lambda: name.ports == [80, 81])
        world.agent.put("web", 81)
        await world.until(lambda: name.ports == [81])
        await world.until(lambda: len(world.agent.asked) == 4)

        assert [asked.index for asked in world.agent.asked] == [0, 11, 12, 13]
        assert [asked.query.get("wait") for asked in world.agent.asked[:2]] == [None, "30000ms"]
        assert {"/v1/catalog/service/web"} == {asked.path for asked in world.agent.asked}
        assert {"dc1"} == {asked.query["dc"] for asked in world.agent.asked}
        assert len({asked.connection for asked in world.agent.asked}) == 1
        assert Path.read("/#/io.l5d.consul/dc1/web") == name.tree.value.value.id  # type: ignore[attr-defined]
        assert Path.read("/rest") == name.tree.value.value.residual  # type: ignore[attr-defined]

    ConsulWorld().run_consul(test)


@pytest.mark.parametrize(
    ("config", "path", "expected"),
    [
        ({}, "/.local/Web", ("/v1/catalog/service/web", {})),
        ({"include_tag": True}, "/dc1/Blue/Web", ("/v1/catalog/service/web", {"dc": "dc1", "tag": "blue"})),
        ({"consistency_mode": "stale"}, "/dc1/web", ("/v1/catalog/service/web", {"dc": "dc1", "stale": "1"})),
        ({"use_health_check": True}, "/dc1/web", ("/v1/health/service/web", {"dc": "dc1", "passing": "1"})),
        (
            {
                "use_health_check": True,
                "health_statuses": ("passing", "warning"),
                "consistency_mode": "consistent",
            },
            "/dc1/web",
            ("/v1/health/service/web", {"dc": "dc1", "consistent": "1"}),
        ),
        ({"token": "s3cret"}, "/dc1/a b?c=d", ("/v1/catalog/service/a%20b%3Fc%3Dd", {"dc": "dc1"})),
    ],
)
def test_how_it_asks(config: dict[str, Any], path: str, expected: tuple[str, dict[str, str]]) -> None:
    """The path and the parameters of Linkerd 1, whatever stands in a segment; the token is a header and only that."""
    segments = path[1:].split("/")

    async def test(world: ConsulWorld) -> None:
        name = world.namer.lookup(Path.of(*segments))
        close = name.observe(lambda _state: None)
        await world.until(lambda: bool(world.agent.asked))
        close()
        asked = world.agent.asked[0]

        assert expected == (asked.path, asked.query)
        assert config.get("token") == asked.headers.get("x-consul-token")
        assert "s3cret" not in repr(asked.query)

    ConsulWorld(**config).run_consul(test)


def test_names_that_cannot_be() -> None:
    """Too short a path, or a segment that would lead to another endpoint of the agent's, is no name."""

    async def test(world: ConsulWorld) -> None:
        for segments in ([], ["dc1"], ["dc1", ".."], ["dc1", "."], ["dc1", "a/b"], ["dc1", "a\nb"]):
            name = world.namer.lookup(Path.of(*segments))
            states: list[Any] = []
            close = name.observe(states.append, initial=True)
            await world.until(lambda states=states: bool(states))  # type: ignore[misc]
            assert "Neg()" in repr(states[-1])
            close()
        assert world.agent.asked == []

    ConsulWorld().run_consul(test)


def test_an_empty_service_is_no_name() -> None:
    """Nothing registered is NEG, so that the dtab falls back; it becomes a name when something is."""

    async def test(world: ConsulWorld) -> None:
        name = Followed(world, "/dc1/web")
        await world.until(lambda: name.is_neg)
        world.agent.put("web", 80)
        await world.until(lambda: name.ports == [80])
        world.agent.put("web")
        await world.until(lambda: name.is_neg)

    ConsulWorld().run_consul(test)


@pytest.mark.parametrize(
    "bad",
    [
        Answer("No cluster leader", status=500),
        Answer("rpc error: ACL not found", status=403),
        Answer("", status=429),
        Answer(b"<html>", index=99),
        Answer(b"[" * 100_000, index=99),
        Answer(b'[{"a": ' * 50_000, index=99),
        Answer({"not": "a list"}, index=99),
        Answer("text", index=99),
        Answer("404 page not found", status=404),
        Answer(None, status=200, headers={"X-Consul-KnownLeader": "false"}),
        Answer([entry(0)], index=99),
        Answer([], index=99, headers={"X-Consul-Results-Filtered-By-ACLs": "true"}),
        Answer([], index=99, headers={"X-Consul-KnownLeader": "false"}),
        Answer(raw=b"SSH-2.0-OpenSSH\r\n"),
        Answer(raw=b""),
        Answer([entry(80)], index=99, cut=60),
        Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n[]"),
    ],
    ids=lambda answer: (answer.raw or repr(answer.body)[:20].encode()).decode(errors="replace")[:20],
)
def test_x9_an_error_is_never_an_empty_answer(bad: Answer) -> None:
    """Whatever comes instead of a good answer: the last good set stays, beyond the hold too, and the next is taken."""
    agent = ScriptedAgent()
    is_bad = False

    async def script(asked: Asked) -> Answer:
        if is_bad:
            return bad
        return await agent.services(asked)

    agent.script = script

    async def test(world: ConsulWorld) -> None:
        nonlocal is_bad
        agent.put("web", 80, 81)
        name = Followed(world, "/dc1/web")
        await world.until(lambda: name.ports == [80, 81])
        is_bad = True
        agent.reset_all()
        service = world.namer.service(Path.of("dc1", "web"))
        await world.until(lambda: len(agent.asked) > 4)
        assert service.fresh.error is not None
        await world.quiet(0.3, lambda: name.ports == [80, 81])
        is_bad = False
        agent.put("web", 82)
        await world.until(lambda: name.ports == [82])
        assert not name.had_a_gap
        assert service.fresh.error is None

    ConsulWorld(agent, hold_ms=50).run_consul(test)


def test_an_error_at_first_is_an_error() -> None:
    """Before any good answer a name is Failed and says why; it is found when the agent answers."""
    agent = ScriptedAgent()
    agent.script = lambda asked: _later(Answer("No cluster leader", status=500))

    async def test(world: ConsulWorld) -> None:
        name = Followed(world, "/dc1/web")
        await world.until(lambda: isinstance(name.tree, Failed))
        assert "No cluster leader" in repr(name.tree)
        agent.script = agent.services
        agent.put("web", 80)
        await world.until(lambda: name.ports == [80])

    ConsulWorld(agent).run_consul(test)


async def _later(answer: Answer) -> Answer:
    await trio.lowlevel.checkpoint()
    return answer


def test_a_removal_that_an_error_put_off_is_believed_after_it() -> None:
    """Removed, then an error before the hold is over, then the same answer again: gone in the end."""
    agent = ScriptedAgent()
    has_failed = False

    async def script(asked: Asked) -> Answer:
        nonlocal has_failed
        if asked.index == 12 and not has_failed:
            has_failed = True
            return Answer("broken", status=500)
        return await agent.services(asked)

    agent.script = script

    async def test(world: ConsulWorld) -> None:
        agent.put("web", 80, 81)
        name = Followed(world, "/dc1/web")
        await world.until(lambda: name.ports == [80, 81])
        agent.put("web", 81)
        await world.until(lambda: name.ports == [81])
        assert has_failed

    ConsulWorld(agent, hold_ms=300).run_consul(test)


def test_x11_an_index_that_goes_back_starts_over() -> None:
    """The agent has another state now: ask without an index, and count it."""

    async def test(world: ConsulWorld) -> None:
        agent = world.agent
        agent.put("web", 80, index=44)
        name = Followed(world, "/dc1/web")
        await world.until(lambda: name.ports == [80])
        agent.script = lambda asked: _later(Answer([entry(81)], index=13))
        agent.reset_all()
        await world.until(lambda: name.ports == [81])

        world.agent.script = agent.services
        assert world.namer.resets.value <= 1

    ConsulWorld().run_consul(test)


@pytest.mark.parametrize("index", [0, "", "garbage", "-5", None])
def test_x11_an_index_that_is_none_counts_as_one(index: int | str | None) -> None:
    """The next query at least blocks, and a loop of such answers is slow."""
    agent = ScriptedAgent()

    async def script(asked: Asked) -> Answer:
        if len(agent.asked) < 6:
            return Answer([entry(80)], index=index)
        await trio.sleep_forever()
        raise AssertionError

    agent.script = script

    async def test(world: ConsulWorld) -> None:
        name = Followed(world, "/dc1/web")
        await world.until(lambda: len(agent.asked) == 6)

        assert [asked.index for asked in agent.asked[:2]] == [0, 1]
        assert name.ports == [80]

    ConsulWorld(agent).run_consul(test)


def test_x11_a_busy_index_does_not_make_a_busy_loop() -> None:
    """Answers that come at once and say nothing new are asked for ever more slowly."""
    agent = ScriptedAgent()

    async def script(asked: Asked) -> Answer:
        return Answer([entry(80)], index=len(agent.asked))

    agent.script = script

    async def test(world: ConsulWorld) -> None:
        name = Followed(world, "/dc1/web")
        await world.until(lambda: name.ports == [80])
        with trio.move_on_after(1.0):
            await trio.sleep_forever()
        assert len(agent.asked) < 15

    ConsulWorld(agent).run_consul(test)


def test_a_silent_agent_is_found_out_by_its_probes() -> None:
    """All queries are interrupted, one line is logged, and names are read anew when it answers again."""
    agent = ScriptedAgent()

    async def test(world: ConsulWorld) -> None:
        world.namer.agent._probe_every_s = 0.05
        world.namer.agent._prober.transport._answer_s = 0.1
        names = []
        for number in range(20):
            agent.put(f"web{number}", 80)
            names.append(Followed(world, f"/dc1/web{number}"))
        await world.until(lambda: all(name.ports == [80] for name in names))

        async def silence(_asked: Asked) -> Answer:
            await trio.sleep_forever()
            raise AssertionError

        agent.leader = silence
        await world.until(lambda: "names.registry_lost" in world.reported())
        asked = len(agent.asked)
        await world.quiet(0.3, lambda: len(agent.asked) == asked)
        assert all(name.ports == [80] for name in names)
        agent.leader = None
        agent.put("web3", 81)
        await world.until(lambda: names[3].ports == [81])
        await world.until(lambda: len(agent.asked) >= asked + 20)

        lost = [event for event, _facts in world.reports]
        assert 1 == lost.count("names.registry_lost") == lost.count("names.registry_found")
        assert lost.count("names.source_failed") == 0

    ConsulWorld(agent).run_consul(test)


def test_names_not_in_use_are_not_asked_for() -> None:
    """The query ends when nobody observes the name, and its memory is given back."""

    async def test(world: ConsulWorld) -> None:
        world.agent.put("web", 80)
        name = Followed(world, "/dc1/web")
        await world.until(lambda: name.ports == [80])
        await world.until(lambda: len(world.agent.asked) == 2)
        name.close()
        await world.until(lambda: world.namer.agent.client.transport.in_flight == 0)

        assert 0 == len(world.namer) == world.namer.rotation.held
        assert world.namer.lookups == {}

    ConsulWorld().run_consul(test)


def test_more_names_than_watches() -> None:
    """All are answered at once, the limit holds, and a change of any is seen."""

    async def test(world: ConsulWorld) -> None:
        world.namer.rotation.look_every_s = 0.1
        names = []
        for number in range(12):
            world.agent.put(f"web{number}", 80)
            names.append(Followed(world, f"/dc1/web{number}"))
        await world.until(lambda: all(name.ports == [80] for name in names))
        for number in range(12):
            world.agent.put(f"web{number}", 81)
        await world.until(lambda: all(name.ports == [81] for name in names), seconds=15)

        assert world.namer.rotation.limit == 3
        assert world.agent.open <= 3 + LOOKS + 1  # and the probe
        state: Any = json.loads(json.dumps(world.namer.state()))
        assert state["rotationPeriodMs"] > 0
        assert state["waiting"] == 9
        assert state["lookEveryMs"] == 100

    ConsulWorld(max_watches=3).run_consul(test)


def test_no_watch_is_interrupted_for_another() -> None:
    """An agent counts the connection of a query that was given up until it would have ended: none is given up."""

    async def test(world: ConsulWorld) -> None:
        world.namer.rotation.look_every_s = 0.05
        names = []
        for number in range(6):
            world.agent.put(f"web{number}", 80)
            names.append(Followed(world, f"/dc1/web{number}"))
        await world.until(lambda: all(name.ports == [80] for name in names))
        first = {asked.connection for asked in world.agent.asked if asked.index}
        asked = len(world.agent.asked)
        await world.until(lambda: len(world.agent.asked) > asked + 20)

        assert {each.connection for each in world.agent.asked if each.index} == first
        assert world.namer.agent.client.transport.opened == world.agent.open - 1  # the probe's

    ConsulWorld(max_watches=2).run_consul(test)


def test_a_query_that_is_given_up_keeps_its_place() -> None:
    """A name that is no longer in use leaves a query behind that the agent is still busy with."""

    async def test(world: ConsulWorld) -> None:
        world.agent.put("web", 80)
        name = Followed(world, "/dc1/web")
        await world.until(lambda: len(world.agent.asked) == 2)
        assert world.namer.rotation.held == 1
        name.close()
        await world.until(lambda: world.namer.rotation.held == 0)
        assert world.namer.rotation.given_up == 1
        await world.until(lambda: world.namer.rotation.given_up == 0)

    ConsulWorld(wait_ms=500, max_watches=3).run_consul(test)


def test_a_refused_watch_is_no_outage() -> None:
    """An agent that has no connection left for a watch is asked now and then instead, and changes are seen."""
    agent = ScriptedAgent()

    async def crowded(asked: Asked) -> Answer:
        return Answer(raw=b"") if asked.index else await agent.services(asked)

    async def test(world: ConsulWorld) -> None:
        world.namer.rotation.look_every_s = 0.05
        agent.put("web", 80)
        name = Followed(world, "/dc1/web")
        await world.until(lambda: name.ports == [80])
        agent.put("web", 81)
        await world.until(lambda: name.ports == [81])
        await world.until(lambda: world.namer.crowded.value > 2)

        assert world.namer.errors.value == 0
        assert world.namer.journal.entries() == [
            entry for entry in world.namer.journal.entries() if entry.action in ("add", "remove")
        ]

    agent.script = crowded
    ConsulWorld(agent).run_consul(test)


def test_namers_of_one_agent_share_its_limit() -> None:
    """The lowest of theirs."""

    async def test(world: ConsulWorld) -> None:
        other = world.make(max_watches=7)

        assert other.rotation is world.namer.rotation
        assert other.rotation.limit == 7

    ConsulWorld(max_watches=9).run_consul(test)


def test_host_names_are_resolved() -> None:
    """An instance registered by name is followed to its addresses."""

    async def test(world: ConsulWorld) -> None:
        world.agent.put("web", 80, ServiceAddress="localhost")
        name = Followed(world, "/dc1/web")
        await world.until(lambda: name.ports == [80])

        assert isinstance(name.addr, AddrBound)
        assert name.addr.endpoints[0].host == "127.0.0.1"

    ConsulWorld().run_consul(test)


def test_set_host_names_the_service() -> None:
    """The agent is asked once for its domain and data centre."""
    agent = ScriptedAgent()

    async def script(asked: Asked) -> Answer:
        if asked.path == "/v1/agent/self":
            return Answer({"Config": {"Datacenter": "dc7"}, "DebugConfig": {"DNSDomain": "mesh.example."}})
        return await agent.services(asked)

    agent.script = script

    async def test(world: ConsulWorld) -> None:
        agent.put("web", 80)
        name = Followed(world, "/.local/blue/Web")
        await world.until(lambda: name.ports == [80])

        assert isinstance(name.addr, AddrBound)
        assert name.addr.endpoints[0].meta == (("authority", "blue.web.service.dc7.mesh.example"),)

    ConsulWorld(agent, set_host=True, include_tag=True).run_consul(test)


def test_x8_a_million_instances_are_an_error() -> None:
    """More than a name may have is refused like any other nonsense; what was known stays."""
    agent = ScriptedAgent()

    async def test(world: ConsulWorld) -> None:
        agent.put("web", 80)
        name = Followed(world, "/dc1/web")
        await world.until(lambda: name.ports == [80])
        many = [
            {"ServiceAddress": f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", "ServicePort": 80}
            for n in range(60_000)
        ]
        agent.script = lambda asked: _later(Answer(many, index=20))
        agent.reset_all()
        service = world.namer.service(Path.of("dc1", "web"))
        await world.until(lambda: "at most 50000" in (service.fresh.error or ""), seconds=15)
        assert name.ports == [80]

    ConsulWorld(agent).run_consul(test)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"health_statuses": ("warning",)}, ["healthStatuses"]),
        ({"health_statuses": ("warning",), "use_health_check": True}, []),
        ({"host": ""}, ["host"]),
        ({"token": "a\r\nb"}, ["token"]),
        ({"wait_ms": 600_001}, ["waitMs"]),
    ],
)
def test_mistakes_of_the_configuration(changes: dict[str, Any], expected: list[str]) -> None:
    """Each is named by its key."""
    config = ConsulConfig(kind="io.l5d.consul", **changes)

    assert expected == [problem.partition(":")[0] for problem in config.check()]
