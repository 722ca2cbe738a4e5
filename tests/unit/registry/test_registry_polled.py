"""Namers that ask again and again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from attrs import frozen

from hostmesh.base.var import Failed
from hostmesh.naming.addr import AddrFailed, Endpoint
from hostmesh.naming.namer import NamerConfig, NamerDeps
from hostmesh.naming.path import Path
from hostmesh.registry import polled
from hostmesh.registry.polled import PolledName, PolledNamer, cause_of
from tests.fs_world import Followed
from tests.polled_world import NamerWorld

Step = Callable[[PolledName], Any]


class ScriptedNamer(PolledNamer):
    """Each look takes the next step of the script; the last one is repeated."""

    def __init__(self, config: ScriptedConfig, deps: NamerDeps) -> None:
        super().__init__(deps, hold_s=config.hold_s, timeout_s=config.timeout_s)
        self.script = deque(config.script)
        self.looks = 0

    async def look(self, name: PolledName) -> float:
        self.looks += 1
        step = self.script.popleft() if len(self.script) > 1 else self.script[0]
        done = step(name)
        if done is not None:
            await done
        return 0.01


@frozen(kw_only=True)
class ScriptedConfig(NamerConfig):
    kind: str = "scripted"
    script: list[Step]
    hold_s: float = 0.0
    timeout_s: float = 5.0

    def mk(self, deps: NamerDeps) -> ScriptedNamer:
        return ScriptedNamer(self, deps)


def found(*ports: int) -> Step:
    return lambda name: name.found(Endpoint("10.0.0.1", port) for port in ports)


def absent(name: PolledName) -> None:
    name.absent()


def broken(_name: PolledName) -> None:
    raise OSError("connection refused")


async def silent(_name: PolledName) -> None:
    await trio.sleep_forever()


def test_a_name_is_followed_while_observed() -> None:
    """Endpoints arrive and change; with the last observer the looks end."""

    async def test(world: NamerWorld) -> None:
        web = Followed(world, "/web/rest")
        await world.until(lambda: web.ports == [1])
        await world.until(lambda: web.ports == [2])
        assert web.tree.value.value.id.show() == "/#/scripted/web"
        assert web.tree.value.value.residual.show() == "/rest"
        assert world.namer.bound_names() == [Path.read("/#/scripted/web")]
        assert world.namer.state()["state"]["/web"]["ageMs"] < 5000
        web.close()
        assert world.namer.names == {}
        assert world.namer.lookups == {}
        await trio.testing.wait_all_tasks_blocked()
        assert world.shared.tasks.count == 0

    NamerWorld(ScriptedConfig(script=[found(1), found(2)])).run(test)


def test_an_error_is_never_an_empty_answer() -> None:
    """What was believed stays through errors of any kind; the state tells of them and of the age."""

    async def test(world: NamerWorld) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [1])
        await world.until(lambda: "names.source_failed" in world.reported())
        state = world.namer.state()["state"]["/web"]
        assert (web.ports, state["error"]) == ([1], "connection refused")
        world.namer.script.append(found(1))
        await world.until(lambda: "names.source_recovered" in world.reported())
        assert web.ports == [1]
        assert world.namer.errors.value >= 1

    NamerWorld(ScriptedConfig(script=[found(1), broken])).run(test)


def test_an_error_at_first_is_failed_and_not_neg() -> None:
    """Nothing falls back on the word of a source that has not spoken."""

    async def test(world: NamerWorld) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.tree == Failed("connection refused"))
        await world.until(lambda: web.ports == [1])

    NamerWorld(ScriptedConfig(script=[broken, broken, found(1)])).run(test)


def test_a_look_that_hangs_is_ended() -> None:
    """After its timeout it counts as an error, and the next look follows."""

    async def test(world: NamerWorld) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.tree == Failed("no answer in 0.05 s"))
        await world.until(lambda: web.ports == [1])

    NamerWorld(ScriptedConfig(script=[silent, found(1)], timeout_s=0.05)).run(test)


def test_absence_and_return() -> None:
    """No such name is NEG, and a name again when it is there."""

    async def test(world: NamerWorld) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [1])
        await world.until(lambda: web.is_neg)
        await world.until(lambda: not web.is_neg and web.ports == [2])

    NamerWorld(ScriptedConfig(script=[found(1), absent, found(2)])).run(test)


def test_a_path_without_a_name_is_neg() -> None:
    """No look is made for it."""

    async def test(world: NamerWorld) -> None:
        assert Followed(world, "/").is_neg
        assert world.namer.looks == 0

    NamerWorld(ScriptedConfig(script=[found(1)])).run(test)


def test_x8_refused_endpoints_are_counted() -> None:
    """None among the endpoints is left out and counted."""

    async def test(world: NamerWorld) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [1])
        assert world.namer.refused.value >= 1

    NamerWorld(ScriptedConfig(script=[lambda name: name.found([None, Endpoint("10.0.0.1", 1)])])).run(test)


def test_names_in_use_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the bound a name is Failed, and the others go on."""
    monkeypatch.setattr(polled, "MAX_NAMES", 2)

    async def test(world: NamerWorld) -> None:
        names = [Followed(world, path) for path in ("/a", "/b", "/c")]
        await world.until(lambda: names[1].ports == [1])
        await world.until(lambda: names[2].tree == Failed("more than 2 names are in use"))
        names[0].close()
        again = Followed(world, "/d")
        assert not isinstance(again.addr, AddrFailed)

    NamerWorld(ScriptedConfig(script=[found(1)])).run(test)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OSError("refused"), "refused"),
        (KeyError("x"), "KeyError: 'x'"),
        (TypeError(), "TypeError"),
        (ExceptionGroup("g", [ValueError("inner")]), "inner"),
        (trio.TooSlowError(), "no answer in 3 s"),
    ],
)
def test_causes_are_one_line(error: Exception, cause: str) -> None:
    """The innermost error, with its type where its text alone says too little."""
    assert cause_of(error, 3.0) == cause
