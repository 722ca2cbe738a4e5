"""The list-and-watch loop, with a client whose server is a script."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx
import trio
import trio.testing

from hostmesh.base.var import Turn
from hostmesh.registry.alarms import Alarms
from hostmesh.registry.files import FileWatch
from hostmesh.registry.k8s_access import Access
from hostmesh.registry.k8s_client import K8sClient, Selection
from hostmesh.registry.k8s_objects import RefusedError
from hostmesh.registry.k8s_watch import RESYNC_S
from hostmesh.registry.resolver import Resolver
from hostmesh.registry.shared import Shared

SELECTION = Selection("/things", (), lambda found: found.get("value"))


class ClockEnv:
    """Trio's clock, which tests make jump."""

    def now(self) -> float:
        return trio.current_time()

    def wall(self) -> float:
        return trio.current_time()

    def rng(self, name: str) -> random.Random:
        return random.Random(name)


def made(name: str, version: int, value: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}, "value": value}


def page(version: int, *objects: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"metadata": {"resourceVersion": str(version)}, "items": list(objects)}]


def event(kind: str, found: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": found}).encode() + b"\n"


class Script:
    """Answers in order: what each list gives, and what each watch sends before it ends as its last item says."""

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)
        self.asked: list[str] = []
        self.is_alive = True
        self.late = 0
        self.fresh_until: float | None = None
        """Pulses to answer too late."""

    def next(self, asked: str) -> Any:
        self.asked.append(asked)
        kind, answer = self.steps.pop(0) if self.steps else ("end", "hang")
        assert kind in (asked.split()[0], "end"), f"expected {kind}, found {asked}"
        return answer

    # As hostmesh.registry.k8s_client.Http:

    async def get(self, path: str, params: object, limit: int) -> tuple[int, bytes]:
        await trio.lowlevel.checkpoint()
        if not self.is_alive:
            raise httpx.ConnectError("nobody there")
        if self.late:
            self.late -= 1
            await trio.sleep_forever()
        return 200, b"{}"

    async def list(self, selection: Selection, *, cached: bool) -> list[dict[str, Any]]:
        await trio.lowlevel.checkpoint()
        answer = self.next("list" if cached else "stored")
        if isinstance(answer, Exception):
            raise answer
        return answer if answer != "hang" else await trio.sleep_forever()  # type: ignore[no-any-return]

    @asynccontextmanager
    async def watch(
        self, selection: Selection, version: str, seconds: int
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        await trio.lowlevel.checkpoint()
        answer = self.next(f"watch {version}")
        if isinstance(answer, Exception):
            raise answer
        async with aclosing(self._stream(answer)) as stream:
            yield stream

    async def _stream(self, answer: Any) -> AsyncGenerator[bytes, None]:
        for step in [answer] if answer == "hang" else answer:
            if step == "hang":
                await trio.sleep_forever()
            if isinstance(step, Exception):
                raise step
            if isinstance(step, float):
                await trio.sleep(step)
                continue
            yield step


class ScriptedClient(K8sClient):
    """Speaks with the script instead of a server."""

    script: Script

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Any]:
        yield self.script


class Heard:
    """What a follower has been told."""

    def __init__(self) -> None:
        self.words: list[Any] = []

    def known(self, values: tuple[Any, ...], version: str) -> None:
        self.words.append(values)

    def confirmed(self) -> None:
        self.words.append("confirmed")

    def failed(self, cause: str, status: int | None) -> None:
        self.words.append(f"failed: {cause}")


def follow(
    script: Script, seconds: float, during: Callable[[ScriptedClient], Awaitable[None]] | None = None
) -> list[Any]:
    """What a follower hears in that time, which passes at once."""
    heard = Heard()

    async def main() -> None:
        env = ClockEnv()
        turn = Turn()
        alarms = Alarms(env)
        shared = Shared(alarms, FileWatch(turn, env, alarms), Resolver(turn, env, alarms))
        client = ScriptedClient(shared, "k8s", lambda: Access(url="http://x"), "x")
        client.script = script
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shared.tasks.run)
            close = client.watch(SELECTION).follow(heard)
            if during is not None:
                await during(client)
            await trio.sleep(seconds)
            close()
            await trio.testing.wait_all_tasks_blocked()
            assert (shared.tasks.count, shared.clients) == (0, {})
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return heard.words


def test_a_list_is_followed_by_its_changes() -> None:
    """Each change is told; a bookmark confirms; what comes in one piece is told once."""
    stream = [
        event("ADDED", made("b", 11, "B")),
        event("BOOKMARK", {"metadata": {"resourceVersion": "12"}}),
        event("MODIFIED", made("a", 13, "AA")) + event("DELETED", made("b", 14, "B")),
        "hang",
    ]
    heard = follow(Script(("list", page(10, made("a", 1, "A"))), ("watch", stream)), 1)

    assert heard == [("A",), ("A", "B"), "confirmed", ("AA",)]


def test_a_watch_that_the_server_ends_goes_on_where_it_was() -> None:
    """No list, no word to anybody: nothing can have been missed."""
    script = Script(
        ("list", page(10, made("a", 1, "A"))),
        ("watch", [2.0, event("BOOKMARK", {"metadata": {"resourceVersion": "17"}})]),
        ("watch", "hang"),
    )

    assert follow(script, 10) == [("A",), "confirmed"]
    assert script.asked == ["list", "watch 10", "watch 17"]


def test_credentials_that_are_about_to_expire_are_replaced_between_watches() -> None:
    """On a new connection, which goes on where the watch was: nobody hears of it."""
    script = Script(
        ("list", page(10, made("a", 1, "A"))),
        ("watch", [2.0, event("BOOKMARK", {"metadata": {"resourceVersion": "17"}})]),
        ("watch", "hang"),
    )
    script.fresh_until = 1.0

    assert follow(script, 10) == [("A",), "confirmed"]
    assert script.asked == ["list", "watch 10", "watch 17"]


def test_410_is_repaired_by_a_list_and_is_no_failure() -> None:
    """In the stream or as a status, the version is too old and the list says what is there."""
    too_old = event("ERROR", {"code": 410, "message": "too old"})
    script = Script(
        ("list", page(10, made("a", 1, "A"))),
        ("watch", [too_old]),
        ("list", page(20, made("b", 15, "B"))),
        ("watch", RefusedError(410, "too old")),
        ("list", page(30, made("c", 25, "C"))),
        ("watch", "hang"),
    )

    assert [word for word in follow(script, 10) if word != "confirmed"] == [("A",), ("B",), ("C",)]


def test_a_cut_stream_is_followed_by_a_list() -> None:
    """A reset in the middle of an answer is no failure as long as the server answers again."""
    script = Script(
        ("list", page(10, made("a", 1, "A"))),
        ("watch", [event("MODIFIED", made("a", 11, "AA"))[:10], httpx.ReadError("reset")]),
        ("list", page(12, made("a", 11, "AA"))),
        ("watch", "hang"),
    )

    assert follow(script, 10) == [("A",), ("AA",)]


def test_a_line_that_is_no_event_is_an_error_and_then_a_list() -> None:
    """What was told before stays; nothing is taken for empty."""
    script = Script(
        ("list", page(10, made("a", 1, "A"))),
        ("watch", [event("ADDED", made("b", 11, "B")) + b"<html>\n"]),
        ("list", page(12, made("a", 1, "A"))),
        ("watch", "hang"),
    )

    heard = follow(script, 10)

    assert heard[0:2] == [("A",), ("A", "B")]
    assert heard[2].startswith("failed: expected JSON")
    assert heard[3:] == [("A",)]


def test_a_refusal_is_told_and_asked_again_for_ever() -> None:
    """RBAC says no until somebody allows it."""
    denied = [("list", RefusedError(403, "forbidden"))] * 20
    script = Script(*denied, ("list", page(10, made("a", 1, "A"))), ("watch", "hang"))

    heard = follow(script, 60)

    assert heard == ["failed: /things: 403 forbidden"] * 20 + [("A",)]


def test_nobody_dials_while_the_server_is_gone() -> None:
    """Only the pulse asks, about every second; when it is answered everybody lists again."""
    script = Script(
        ("list", page(10, made("a", 1, "A"))), ("watch", "hang"), ("list", page(15)), ("watch", "hang")
    )

    async def outage(client: ScriptedClient) -> None:
        await trio.sleep(1)
        script.is_alive = False
        await trio.sleep(60)
        assert client.trouble == "ConnectError: nobody there"
        assert script.asked == ["list", "watch 10"]
        script.is_alive = True

    heard = follow(script, 3, outage)

    assert heard[0] == ("A",)
    assert set(heard[1:-1]) == {"failed: ConnectError: nobody there"}
    assert heard[-1] == ()


def test_one_late_answer_costs_nobody_their_watch() -> None:
    """A busy server may miss a pulse; only a new connection without an answer counts."""
    script = Script(("list", page(10, made("a", 1, "A"))), ("watch", "hang"))

    async def busy(client: ScriptedClient) -> None:
        await trio.sleep(1)
        script.late = 1
        await trio.sleep(30)
        assert client.trouble is None
        script.late = 2
        await trio.sleep(12)
        assert script.late == 0

    assert follow(script, 0, busy)[:2] == [("A",), "failed: expected an answer within 3 s, found none"]


def test_a_list_repairs_what_events_have_missed() -> None:
    """A watch that has gone on for long enough is begun anew with a list, though nothing seems to be wrong."""
    long = [RESYNC_S + 1]
    script = Script(
        ("list", page(10, made("a", 1, "A"))), ("watch", long), ("list", page(12)), ("watch", "hang")
    )

    assert follow(script, RESYNC_S + 10) == [("A",), ()]


def test_a_list_from_before_is_checked_with_what_is_stored() -> None:
    """Another server may be behind, and its memory must not take back what is known; a restored backup may."""
    script = Script(
        ("list", page(10, made("a", 1, "A"))),
        ("watch", [event("MODIFIED", made("a", 12, "AA")), httpx.ReadError("reset")]),
        ("list", page(11, made("a", 1, "A"))),
        ("stored", page(13, made("a", 12, "AA"))),
        ("watch", [httpx.ReadError("reset")]),
        ("list", page(5, made("a", 2, "restored"))),
        ("stored", page(5, made("a", 2, "restored"))),
        ("watch", "hang"),
    )

    assert follow(script, 10) == [("A",), ("AA",), ("AA",), ("restored",)]


def test_short_watches_do_not_become_a_storm() -> None:
    """A server that ends every watch at once is asked about once per second."""
    script = Script(("list", page(10)), *[("watch", [])] * 200)

    follow(script, 60)

    assert 50 <= len(script.asked) <= 130


def test_the_second_follower_is_told_at_once() -> None:
    """Names that need the same objects share one watch."""
    script = Script(("list", page(10, made("a", 1, "A"))), ("watch", "hang"))
    second = Heard()

    async def join(client: ScriptedClient) -> None:
        await trio.sleep(1)
        close = client.watch(SELECTION).follow(second)
        assert second.words == [("A",)]
        close()

    follow(script, 1, join)

    assert script.asked == ["list", "watch 10"]


def test_unexpected_errors_do_not_end_a_watch() -> None:
    """A bug is reported and told like any other failure: a name that nobody follows would be silently stale."""
    script = Script(
        ("list", ZeroDivisionError("bug")), ("list", page(10, made("a", 1, "A"))), ("watch", "hang")
    )

    assert follow(script, 5) == ["failed: ZeroDivisionError: bug", ("A",)]
