"""Tasks that synchronous code begins and ends."""

from __future__ import annotations

import trio
import trio.testing

from hostmesh.registry.tasks import Tasks


def test_jobs_wait_for_the_run_and_end_with_their_stop() -> None:
    """A job started before runs when there is somebody to run it; stopped, it is gone, also before it began."""
    tasks = Tasks()
    seen: list[str] = []

    async def job() -> None:
        seen.append("began")
        try:
            await trio.sleep_forever()
        finally:
            seen.append("ended")

    async def main() -> None:
        never = tasks.start(job)
        never()
        stop = tasks.start(job)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tasks.run)
            await trio.testing.wait_all_tasks_blocked()
            assert (seen, tasks.count) == (["began"], 1)
            stop()
            stop()
            await trio.testing.wait_all_tasks_blocked()
            assert (seen, tasks.count) == (["began", "ended"], 0)
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_job_that_raises_harms_nobody() -> None:
    """The error is reported; other jobs go on."""
    errors: list[BaseException] = []
    tasks = Tasks(errors.append)

    async def broken() -> None:
        raise ZeroDivisionError

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tasks.run)
            tasks.start(trio.sleep_forever)
            tasks.start(broken)
            await trio.testing.wait_all_tasks_blocked()
            assert tasks.count == 1
            nursery.cancel_scope.cancel()

    trio.run(main)

    assert [type(error) for error in errors] == [ZeroDivisionError]
