"""Tasks that begin when a name is first observed and end when nobody observes it any more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

Job = Callable[[], Awaitable[None]]


class Tasks:
    """Starts coroutines from synchronous code, such as a Var's ``on_active``.

    Until :meth:`run` is running, jobs wait. A job that raises is given to ``on_error`` and not started again:
    whoever follows a registry for ever catches its own errors.
    """

    def __init__(self, on_error: Callable[[BaseException], None] | None = None) -> None:
        self.on_error = on_error
        self._nursery: trio.Nursery | None = None
        self._waiting: dict[trio.CancelScope, Job] = {}
        self.count = 0
        """How many jobs run now."""

    def start(self, job: Job) -> Callable[[], None]:
        """Run ``await job()`` until it ends or the returned function is called; that may be called at any time."""
        scope = trio.CancelScope()
        if self._nursery is None:
            self._waiting[scope] = job
        else:
            self._nursery.start_soon(self._run, job, scope)

        def stop() -> None:
            self._waiting.pop(scope, None)
            scope.cancel()

        return stop

    async def run(self) -> None:
        """Run what is started, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                waiting, self._waiting = self._waiting, {}
                for scope, job in waiting.items():
                    nursery.start_soon(self._run, job, scope)
                await trio.sleep_forever()
        finally:
            self._nursery = None

    async def _run(self, job: Job, scope: trio.CancelScope) -> None:
        self.count += 1
        try:
            with scope:
                await job()
        except Exception as error:
            if self.on_error is None:
                raise
            self.on_error(error)
        finally:
            self.count -= 1
