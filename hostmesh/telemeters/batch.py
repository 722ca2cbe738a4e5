"""Finished exchanges written as lines, off the data path: queued, rendered in slices, written by a thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import trio

from hostmesh.telemetry.metrics import Counter, Scope

T = TypeVar("T")

MAX_ITEMS: Final = 10_000
"""Records that may wait: half a second of a saturated core, so that a slow disk is bridged and a dead one is
not paid for with memory."""

MAX_BYTES: Final = 16 << 20
"""What those may keep alive. A record holds its request head, and heads of 8 KiB would make 80 MB of
10,000."""

DELAY_S: Final = 0.5
"""Time for a batch to gather. Little for anybody who tails the file; at 200 requests/s the hops to a thread would
otherwise cost more than the lines."""

SLICE: Final = 64
"""Lines rendered before others run: about 0.3 ms."""

MAX_WRITE: Final = 256 << 10
"""Bytes handed to the thread at once, so that a long queue is never two copies."""

FLUSH_S: Final = 1.0
"""How long the last lines may take when the daemon stops; a disk that hangs must not hold the stop."""

RECORD_BYTES: Final = 1200
"""What a record keeps alive besides its head."""


class BatchWriter(Generic[T]):
    """A bounded queue of what is to be logged and the task that empties it.

    ``render`` makes a line of an item, on the trio thread; ``write`` gets some lines, in a worker thread,
    never two at a time, and raises OSError when it cannot. A full queue drops what is offered and counts it
    under ``dropped``; lines that could not be written are counted under ``lost``, and the trouble is logged
    once until a write succeeds.
    """

    def __init__(
        self,
        render: Callable[[T], bytes],
        write: Callable[[bytes], None],
        *,
        scope: Scope,
        log: Any,
        max_items: int = MAX_ITEMS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._render = render
        self._write = write
        self._log = log
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._dropped: Counter = scope.counter("dropped")
        self._lost: Counter = scope.counter("lost")
        self._written: Counter = scope.counter("written")
        self._queue: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._lines: list[bytes] = []
        self._wake = trio.Event()
        self._failing = False

    def put(self, item: T, size: int) -> None:
        """Queue an item that keeps about ``size`` bytes alive, or drop it.

        Called on the data path: no rendering, no system call.
        """
        queue = self._queue
        if len(queue) >= self._max_items or self._bytes >= self._max_bytes:
            self._dropped.value += 1
            return
        queue.append((item, size))
        self._bytes += size
        if len(queue) == 1:
            self._wake.set()

    @property
    def waiting(self) -> int:
        """Items that are queued."""
        return len(self._queue)

    async def run(self) -> None:
        """Write for ever; when cancelled, finish what is being written and write the rest within
        :data:`FLUSH_S`."""
        work = trio.CancelScope(shield=True)
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._work, work, stop)
            try:
                await trio.sleep_forever()
            finally:
                stop.set()
                self._wake.set()
                work.deadline = trio.current_time() + FLUSH_S

    async def _work(self, scope: trio.CancelScope, stop: trio.Event) -> None:
        with scope:
            while not stop.is_set():
                await self._wake.wait()
                with trio.move_on_after(DELAY_S):
                    await stop.wait()
                await self._drain()

    async def _drain(self) -> None:
        while self._queue:
            size = 0
            while self._queue and size < MAX_WRITE:
                for _ in range(min(SLICE, len(self._queue))):
                    size += self._render_next()
                await trio.lowlevel.checkpoint()
            await self._flush()
        self._wake = trio.Event()

    def _render_next(self) -> int:
        item, size = self._queue.popleft()
        self._bytes -= size
        try:
            line = self._render(item)
        except Exception:  # noqa: BLE001 - one odd record must not end the log
            self._lost.value += 1
            self._log.exception("a log line could not be made")
            return 0
        self._lines.append(line)
        return len(line)

    async def _flush(self) -> None:
        lines, self._lines = self._lines, []
        if not lines:
            return
        data = b"".join(lines)
        try:
            # A write that hangs is left behind when the time to stop is over.
            await trio.to_thread.run_sync(self._write, data, abandon_on_cancel=True)
        except OSError as error:
            self._lost.value += len(lines)
            if not self._failing:
                self._failing = True
                self._log.error("log lines are lost", error=str(error))
        else:
            self._written.value += len(lines)
            if self._failing:
                self._failing = False
                self._log.info("log lines are written again", lost=self._lost.value)
