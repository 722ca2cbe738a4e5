"""The loop: batches, turns, timers, mail from other threads, trio as its guest."""

from __future__ import annotations

import select
import socket
import threading

import trio
from pump_world import World

from hostmesh.pump.clock import SystemEnv
from hostmesh.pump.pump import BATCH, Pump


def test_an_idle_pump_sleeps(world: World) -> None:
    """No descriptor, no timer: one batch per timer and none besides."""
    batches = world.pump.batches

    assert world.wake_ups(0.1) == 0
    assert world.pump.batches - batches <= 2


def test_a_turn_is_run_before_the_pump_sleeps(world: World) -> None:
    """What callbacks make ready runs in the same step; what those make ready, too."""
    order: list[int] = []

    def first() -> None:
        order.append(1)
        world.pump.turn.call_soon(order.append, 2)

    world.pump.turn.call_soon(first)
    world.pump.step()

    assert order == [1, 2]


def test_a_raising_handler_is_reported_and_the_others_run() -> None:
    """R12: an exception in one callback is told once and ends nothing else."""
    errors: list[BaseException] = []
    pump = Pump(SystemEnv(1), errors.append)
    seen: list[int] = []
    ends = [socket.socketpair() for _ in range(3)]

    def handler(n: int) -> None:
        ends[n][0].recv(10)
        seen.append(n)
        if n == 1:
            raise RuntimeError("bug")

    for n, (near, far) in enumerate(ends):
        pump.add(near.fileno(), select.EPOLLIN, lambda _mask, n=n: handler(n))  # type: ignore[misc]
        far.send(b"x")
    pump.step()

    assert (sorted(seen), [str(error) for error in errors]) == ([0, 1, 2], ["bug"])
    for near, far in ends:
        pump.remove(near.fileno())
        near.close()
        far.close()
    pump.close()


def test_a_batch_is_bounded(world: World) -> None:
    """A hundred ready descriptors take several batches, so timers are never far away."""
    pump = world.pump
    seen: set[int] = set()
    ends = [socket.socketpair() for _ in range(100)]
    for near, far in ends:
        world.own(near)
        world.own(far)
        pump.add(
            near.fileno(),
            select.EPOLLIN,
            lambda _mask, near=near: seen.add(len(near.recv(1)) + near.fileno()),
        )  # type: ignore[misc]
        far.send(b"x")

    pump.step()
    assert len(seen) == BATCH
    world.until(lambda: len(seen) == 100)
    for near, _far in ends:
        pump.remove(near.fileno())


def test_mail_from_another_thread_wakes_the_pump(world: World) -> None:
    """post may be called from any thread; the function runs on the pump's."""
    ran: list[int] = []
    thread = threading.Thread(
        target=lambda: [world.pump.post(lambda: ran.append(threading.get_ident())) for _ in range(100)]
    )

    thread.start()
    world.until(lambda: len(ran) == 100)
    thread.join()

    assert set(ran) == {threading.get_ident()}


def test_trio_is_a_guest(world: World) -> None:
    """Control tasks sleep, and use threads, while timers of the pump fire around them."""
    ticks: list[float] = []

    def tick() -> None:
        ticks.append(world.pump.now())
        world.pump.call_at(world.pump.now() + 0.01, tick)

    async def main() -> str:
        tick()
        await trio.sleep(0.1)
        return await trio.to_thread.run_sync(lambda: "done")

    assert world.pump.run(main) == "done"
    assert len(ticks) >= 3
