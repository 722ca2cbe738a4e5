"""Places for more watches than there is room for."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import pairwise

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from hostmesh.registry.alarms import Alarms
from hostmesh.registry.rotation import DWELL_S, GAP_S, LOOKS, MAX_RATE, Rotation
from tests.fs_world import RealEnv


class TrioEnv(RealEnv):
    """Trio's clock, which tests move."""

    def now(self) -> float:
        return trio.current_time()


def made(limit: int) -> Rotation:
    return Rotation(limit, Alarms(TrioEnv()))


WAIT_S = 30.0
"""How long a watch lasts that sees no change."""


class Watches:
    """Names that are watched when they may be and looked at when not, as namers do it."""

    def __init__(self, limit: int) -> None:
        self.rotation = made(limit)
        self.turns: dict[int, list[float]] = {}
        self.unseen: dict[int, float] = {}
        """The longest that each was neither watched nor looked at."""
        self.looks = 0
        self.most = 0

    async def watch(self, number: int) -> None:
        seen = trio.current_time()

        def see() -> None:
            nonlocal seen
            now = trio.current_time()
            self.unseen[number] = max(self.unseen.get(number, 0.0), now - seen)
            seen = now

        while True:
            with self.rotation.place() as place:
                while not await place.granted_within(self.rotation.gap_s()):
                    self.looks += 1
                    see()
                see()
                since = trio.current_time()
                self.turns.setdefault(number, []).append(since)
                self.most = max(self.most, self.rotation.held)
                await trio.sleep(WAIT_S)
                while not self.rotation.is_over(trio.current_time() - since):  # noqa: ASYNC110 - a watch again
                    await trio.sleep(WAIT_S)
                seen = trio.current_time()

    def run(self, count: int, seconds: float) -> None:
        async def main() -> None:
            async with trio.open_nursery() as nursery:
                for number in range(count):
                    nursery.start_soon(self.watch, number)
                await trio.sleep(seconds)
                nursery.cancel_scope.cancel()

        trio.run(main, clock=MockClock(autojump_threshold=0))


def test_all_keep_their_place_while_there_is_room() -> None:
    """Up to the limit nobody is ever without a watch, and nobody is looked at."""
    watches = Watches(10)

    watches.run(10, 1000)

    assert all(len(turns) == 1 for turns in watches.turns.values())
    assert watches.looks == 0
    assert watches.rotation.period_s(WAIT_S) == 0


@pytest.mark.parametrize(("limit", "count"), [(1, 2), (3, 10), (150, 200), (150, 2000)])
def test_above_the_limit_all_take_turns(limit: int, count: int) -> None:
    """The limit holds, nobody is unseen for longer than the gap, and after a period each has had its watch."""
    watches = Watches(limit)

    period = count / limit * WAIT_S
    watches.run(count, period * 2 + WAIT_S)

    assert watches.most == limit
    assert len(watches.turns) == count
    gap = max(GAP_S, (count - limit) / MAX_RATE)
    assert max(watches.unseen.values()) <= gap + 0.001
    assert max(b - a for turns in watches.turns.values() for a, b in pairwise(turns)) <= (period + WAIT_S)


def test_the_rate_of_looks_is_bounded() -> None:
    """However many wait, the registry is not asked more often."""
    watches = Watches(10)

    watches.run(5000, 100)

    assert watches.looks <= MAX_RATE * 100 + 5000


def test_the_period_is_what_is_shown() -> None:
    """All that are there, divided by the places, for as long as each keeps one."""

    async def main() -> None:
        rotation = made(2)
        with rotation.place() as one, rotation.place(), rotation.place() as three:
            assert one.is_granted
            assert not three.is_granted
            assert (rotation.held, rotation.waiting) == (2, 1)
            assert rotation.period_s(30.0) == 45.0
            assert not rotation.is_over(DWELL_S / 2)
            assert rotation.is_over(DWELL_S)
        assert (rotation.held, rotation.waiting) == (0, 0)

    trio.run(main)


def test_a_cancelled_wait_gives_its_place_on() -> None:
    """Who has left the queue is not given a place, and who leaves a place makes room."""

    async def main() -> None:
        rotation = made(1)
        got = []

        async def wait(number: int) -> None:
            with rotation.place() as place:
                await place.granted_within(1000)
                got.append(number)

        async with trio.open_nursery() as nursery:
            with rotation.place():
                leaver = trio.CancelScope()

                async def leave() -> None:
                    with leaver:
                        await wait(1)

                nursery.start_soon(leave)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(wait, 2)
                await trio.testing.wait_all_tasks_blocked()
                leaver.cancel()
                await trio.testing.wait_all_tasks_blocked()

        assert got == [2]
        assert (rotation.held, rotation.waiting) == (0, 0)

    trio.run(main)


def test_a_query_that_was_given_up_keeps_its_place_until_it_would_have_ended() -> None:
    """The registry goes on counting its connection; another process of the registry does not."""

    async def main() -> None:
        alarms = Alarms(TrioEnv())
        rotation = Rotation(2, alarms)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alarms.run)
            for _ in range(2):
                with rotation.place() as place:
                    place.busy_until = trio.current_time() + WAIT_S
            assert (rotation.held, rotation.given_up) == (0, 2)
            with rotation.place() as later:
                assert not await later.granted_within(WAIT_S - 1)
                assert await later.granted_within(2)
                assert (rotation.held, rotation.given_up) == (1, 0)
                later.busy_until = trio.current_time() + WAIT_S
            with rotation.place(), rotation.place() as last:
                assert not last.is_granted
                rotation.begin_anew()
                assert last.is_granted
            assert (rotation.held, rotation.given_up, rotation.waiting) == (0, 0, 0)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize(("limit", "first"), [(3, 3), (20, 10), (50, 10), (150, 30)])
def test_the_first_places_leave_room_for_the_process_before(limit: int, first: int) -> None:
    """Its watches are still counted; when they must have ended, or their registry is gone, there is room for all."""

    async def main() -> None:
        alarms = Alarms(TrioEnv())
        for is_gone in (False, True):
            rotation = Rotation(limit, alarms)
            rotation.begin_after_another(trio.current_time() + WAIT_S)
            with ExitStack() as stack:
                places = [stack.enter_context(rotation.place()) for _ in range(limit)]
                assert sum(place.is_granted for place in places) == first
                if is_gone:
                    rotation.begin_anew()
                else:
                    await trio.sleep(WAIT_S)
                    alarms.ring()
                assert all(place.is_granted for place in places)

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_looks_at_the_same_time_are_bounded() -> None:
    """Each is one more connection."""

    async def main() -> None:
        rotation = made(1)
        most = now = 0

        async def look() -> None:
            nonlocal most, now
            async with rotation.looks:
                now += 1
                most = max(most, now)
                await trio.sleep(1)
                now -= 1

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(look)

        assert most == LOOKS

    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_positive(limit: int) -> None:
    """None at all would be a name that is never seen."""
    with pytest.raises(ValueError, match="at least 1"):
        made(limit)
