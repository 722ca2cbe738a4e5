"""Places for more watches than there is room for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from hostmesh.registry.alarms import Alarms
from hostmesh.registry.rotation import GAP_S, MAX_RATE, Rotation
from tests.fs_world import RealEnv


class TrioEnv(RealEnv):
    """Trio's clock, which tests move."""

    def now(self) -> float:
        return trio.current_time()


class Watches:
    """Watches that hold a place for as long as they may, and write down when they have it."""

    def __init__(self, limit: int) -> None:
        self.alarms = Alarms(TrioEnv())
        self.rotation = Rotation(limit, self.alarms)
        self.turns: dict[int, list[float]] = {}
        self.away: dict[int, float] = {}
        self.most = 0

    async def watch(self, number: int) -> None:
        left = trio.current_time()
        while True:
            async with self.rotation.place() as place:
                now = trio.current_time()
                self.away[number] = max(self.away.get(number, 0.0), now - left)
                self.turns.setdefault(number, []).append(now)
                self.most = max(self.most, self.rotation.held)
                while not place.is_asked_back:
                    with place.waiting():
                        await trio.sleep(1000)
            left = trio.current_time()

    def run(self, count: int, seconds: float) -> None:
        async def main() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.alarms.run)
                for number in range(count):
                    nursery.start_soon(self.watch, number)
                await trio.sleep(seconds)
                nursery.cancel_scope.cancel()

        trio.run(main, clock=MockClock(autojump_threshold=0))


def test_all_keep_their_place_while_there_is_room() -> None:
    """Up to the limit nobody is ever interrupted."""
    watches = Watches(10)

    watches.run(10, 3600)

    assert {1} == {len(turns) for turns in watches.turns.values()}
    assert watches.rotation.held == 0


@pytest.mark.parametrize(("limit", "count"), [(150, 151), (150, 200), (150, 1000), (3, 10), (1, 3)])
def test_above_the_limit_all_take_turns(limit: int, count: int) -> None:
    """Nobody is without a place for much longer than the gap, and the limit holds."""
    watches = Watches(limit)

    watches.run(count, 120)

    assert set(range(count)) == watches.turns.keys()
    assert watches.most == limit
    assert max(watches.away.values()) < GAP_S * 1.3 + 0.5
    turns = [len(times) for times in watches.turns.values()]
    assert max(turns) - min(turns) <= 2


def test_the_rate_is_bounded() -> None:
    """With thousands of names the gap grows, not the load."""
    watches = Watches(150)

    watches.run(3000, 15)

    assert sum(map(len, watches.turns.values())) < 150 + 15 * MAX_RATE * 1.05
    assert set(range(3000)) == watches.turns.keys()


def test_those_who_know_nothing_go_first() -> None:
    """A name that is looked up for the first time does not queue behind names that are only refreshed."""

    async def main() -> None:
        watches = Watches(2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watches.alarms.run)
            for number in range(100):
                nursery.start_soon(watches.watch, number)
            await trio.testing.wait_all_tasks_blocked()
            begin = trio.current_time()
            for _ in range(3):
                async with watches.rotation.place(urgent=True):
                    assert trio.current_time() == begin
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_cancelled_wait_gives_its_place_on() -> None:
    """Whether it is cancelled in the queue or at the moment of its turn, no place is lost."""

    async def main() -> None:
        rotation = Rotation(1, Alarms(TrioEnv()))
        got: list[str] = []

        async def take(name: str, scope: trio.CancelScope) -> None:
            with scope:
                async with rotation.place():
                    got.append(name)

        async with trio.open_nursery() as nursery:
            scopes = [trio.CancelScope() for _ in range(3)]
            async with rotation.place():
                for number, scope in enumerate(scopes):
                    nursery.start_soon(take, str(number), scope)
                await trio.testing.wait_all_tasks_blocked()
                scopes[1].cancel()
                await trio.testing.wait_all_tasks_blocked()
            # The first has been promised the place and has not run yet.
            scopes[0].cancel()
        assert got in (["2"], ["0", "2"])
        assert (rotation.held, rotation.waiting) == (0, 0)

    trio.run(main)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_positive(limit: int) -> None:
    """Nothing could ever be watched."""
    make: Callable[[], Rotation] = lambda: Rotation(limit, Alarms(RealEnv()))  # noqa: E731

    with pytest.raises(ValueError, match="at least 1"):
        make()
