"""python-consul on trio: connections, limits, cancellation, and what is done to requests and answers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import consul
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from hostmesh.registry.consul_transport import (
    STEPWISE,
    Client,
    Transport,
    Unreachable,
    Unusable,
    decode_list,
    wait_s,
)
from tests.consul_world import Answer, Asked, ScriptedAgent


def talk(
    script: Callable[[Asked], Awaitable[Answer]],
    test: Callable[[Client, ScriptedAgent], Awaitable[None]],
    *,
    consistency: str = "default",
    **options: Any,
) -> None:
    """Run ``test`` with a client of a scripted agent."""

    async def main() -> None:
        agent = ScriptedAgent(script)
        async with trio.open_nursery() as nursery:
            await nursery.start(agent.run)

            async def dial() -> trio.abc.Stream:
                return await trio.open_tcp_stream("127.0.0.1", agent.port)

            transport = Transport(dial, f"127.0.0.1:{agent.port}", consistency=consistency, **options)
            with trio.fail_after(10):
                await test(Client(transport, consistency=consistency), agent)
            await transport.aclose()
            nursery.cancel_scope.cancel()

    trio.run(main)


async def empty(_asked: Asked) -> Answer:
    await trio.lowlevel.checkpoint()
    return Answer([], index=7)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ([], 0.0),
        ([("index", "7")], 0.0),
        ([("wait", "30s")], 0.0),
        ([("index", "7"), ("wait", "16s")], 17.0),
        ([("index", "7"), ("wait", "1600ms")], 1.7),
        ([("index", "7"), ("wait", "2m")], 127.5),
        ([("index", "7"), ("wait", "100m")], 637.5),
        ([("index", "7"), ("wait", "soon")], 0.0),
    ],
)
def test_how_long_an_agent_may_take(params: list[tuple[str, str]], expected: float) -> None:
    """Its wait and the sixteenth that agents add, which they only do for a blocking query."""
    assert pytest.approx(expected) == wait_s(params)


def test_a_connection_is_kept() -> None:
    """Requests one after the other use one; at the same time each has its own."""

    async def test(client: Client, agent: ScriptedAgent) -> None:
        for _ in range(3):
            assert await client.catalog.service("web") == ("7", [], True)
        assert client.transport.opened == 1
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(client.catalog.service, "web")
        assert 3 == client.transport.opened == client.transport.idle
        assert client.transport.in_flight == 0

    talk(empty, test)


def test_nothing_is_kept_after_the_end() -> None:
    """A request that ends after aclose() closes its connection."""

    async def test(client: Client, agent: ScriptedAgent) -> None:
        await client.catalog.service("web")
        await client.transport.aclose()
        assert client.transport.idle == 0
        await client.catalog.service("web")
        assert client.transport.idle == 0
        while agent.open:
            await wait_all_tasks_blocked(0.001)

    talk(empty, test)


def test_an_agent_may_end_the_connection() -> None:
    """``Connection: close`` is obeyed, so that the next write does not meet a closed one."""

    async def last(_asked: Asked) -> Answer:
        await trio.lowlevel.checkpoint()
        return Answer([], index=7, headers={"Connection": "close"})

    async def test(client: Client, agent: ScriptedAgent) -> None:
        for number in range(1, 3):
            await client.agent.service.register("web")
            assert (0, number) == (client.transport.idle, client.transport.opened)

    talk(last, test)


def test_a_read_on_a_stale_connection_is_said_again() -> None:
    """Once, on a new connection; a write is not."""

    async def test(client: Client, agent: ScriptedAgent) -> None:
        await client.catalog.service("web")
        agent.reset_all()
        await wait_all_tasks_blocked(0.01)
        await client.catalog.service("web")
        assert 2 == client.transport.opened == len(agent.asked)
        agent.reset_all()
        await wait_all_tasks_blocked(0.01)
        with pytest.raises(Unreachable):
            await client.agent.service.register("web")
        assert len(agent.asked) == 2

    talk(empty, test)


def test_a_read_that_fails_on_a_new_connection_is_not_repeated() -> None:
    """Nor one whose answer has begun: whoever asks decides when to ask again."""

    async def cut(_asked: Asked) -> Answer:
        await trio.lowlevel.checkpoint()
        return Answer([], index=7, cut=30)

    async def test(client: Client, agent: ScriptedAgent) -> None:
        with pytest.raises(Unreachable):
            await client.catalog.service("web")
        assert len(agent.asked) == 1
        agent.script = empty
        await client.catalog.service("web")
        agent.script = cut
        with pytest.raises(Unreachable):
            await client.catalog.service("web")
        assert len(agent.asked) == 3
        assert client.transport.idle == 0

    talk(cut, test)


def test_a_silent_agent_is_given_up() -> None:
    """After the time for an answer, and its connection is not used again."""

    async def silence(_asked: Asked) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    async def test(client: Client, agent: ScriptedAgent) -> None:
        begin = trio.current_time()
        with pytest.raises(consul.Timeout):
            await client.catalog.service("web", index="7", wait="160ms")
        assert 0.2 < trio.current_time() - begin < 2
        assert 0 == client.transport.idle == client.transport.in_flight

    talk(silence, test, answer_s=0.05)


def test_a_blocking_query_can_be_cancelled() -> None:
    """At once; the agent sees the connection end."""

    async def silence(_asked: Asked) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    async def test(client: Client, agent: ScriptedAgent) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: client.health.service("web", index="7", wait="60s"))
            while not agent.asked:
                await wait_all_tasks_blocked(0.001)
            nursery.cancel_scope.cancel()
        while agent.open:
            await wait_all_tasks_blocked(0.001)
        assert client.transport.idle == 0

    talk(silence, test)


def test_the_token_is_a_header() -> None:
    """The transport's own, and one that the library puts among the parameters."""

    async def test(client: Client, agent: ScriptedAgent) -> None:
        await client.catalog.service("web")
        await client.catalog.service("web", token="other")
        await client.agent.service.register("web", token="other")

        assert [asked.headers["x-consul-token"] for asked in agent.asked] == ["mine", "other", "other"]
        assert not any("token" in asked.query for asked in agent.asked)

    talk(empty, test, token="mine")


def test_variables_of_the_environment_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither those that the library obeys nor those that make it fail; they stay for others."""
    monkeypatch.setenv("CONSUL_HTTP_ADDR", "https://elsewhere:1:2")
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "leaked")

    async def test(client: Client, agent: ScriptedAgent) -> None:
        await client.catalog.service("web")
        assert "x-consul-token" not in agent.asked[0].headers

    talk(empty, test)


@pytest.mark.parametrize("mode", ["stale", "consistent"])
def test_consistency_goes_with_every_read(mode: str) -> None:
    """Also with those of the health API, where the library forgets it."""

    async def test(client: Client, agent: ScriptedAgent) -> None:
        await client.catalog.service("web")
        await client.health.service("web")
        assert [{mode: "1"}] * 2 == [asked.query for asked in agent.asked]

    talk(empty, test, consistency=mode)


def test_an_answer_has_a_largest_size() -> None:
    """More is refused while it comes in, not after."""

    async def large(_asked: Asked) -> Answer:
        await trio.lowlevel.checkpoint()
        return Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b" " * 100_000)

    async def test(client: Client, agent: ScriptedAgent) -> None:
        with pytest.raises(Unusable, match="at most 50000 bytes"):
            await client.catalog.service("web")

    talk(large, test, max_answer=50_000)


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0b"])
def test_a_header_cannot_be_smuggled(value: str) -> None:
    """A token with a line end is refused before anything is sent."""

    async def test(client: Client, agent: ScriptedAgent) -> None:
        with pytest.raises(Unusable):
            await client.catalog.service("web")
        assert agent.asked == []

    talk(empty, test, token=value)


def test_a_large_answer_is_decoded_in_steps() -> None:
    """With the same result, and with others getting their turn meanwhile."""
    entries = [{"Node": f"n{n}", "text": "x" * 100, "nested": [1, {"a": None}]} for n in range(5000)]
    turns = 0

    async def large(_asked: Asked) -> Answer:
        await trio.lowlevel.checkpoint()
        return Answer(entries, index=9)

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async def test(client: Client, agent: ScriptedAgent) -> None:
        nonlocal turns
        text = json.dumps(entries)
        assert len(text) > STEPWISE
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            assert ("9", entries, True) == await client.catalog.service("web")
            before = turns
            assert entries == await decode_list(text)
            assert turns - before > 100
            nursery.cancel_scope.cancel()

    talk(large, test)


@pytest.mark.parametrize("text", ["[]", " [ ] ", "[1]", '[1, "]", [2], {"a": "["}]\n', "[\t1\r,\n2 ]"])
def test_lists_that_are_decoded(text: str) -> None:
    """As the library would."""
    assert json.loads(text) == trio.run(decode_list, text, 1)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1]]", "[1]x", "[1}", "null", "[" * 10, "[nan]"],
)
def test_lists_that_are_not(text: str) -> None:
    """ValueError, as from the library."""
    with pytest.raises(ValueError, match=r".+"):
        trio.run(decode_list, text)
