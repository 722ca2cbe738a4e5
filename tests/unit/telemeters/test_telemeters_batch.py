from __future__ import annotations

import threading

import pytest
import trio
import trio.testing

from hostmesh.telemeters import batch
from hostmesh.telemeters.batch import BatchWriter
from hostmesh.telemetry.metrics import MetricsTree
from tests.unit.telemeters.fakes import ListLog


class Sink:
    """Takes batches until told to fail or to hang."""

    def __init__(self) -> None:
        self.batches: list[bytes] = []
        self.error: OSError | None = None
        self.free = threading.Event()
        self.free.set()
        self.entered = trio.Event()

    def write(self, data: bytes) -> None:
        trio.from_thread.run_sync(self.entered.set)
        self.free.wait()
        if self.error is not None:
            raise self.error
        self.batches.append(data)


def line(item: int) -> bytes:
    if item < 0:
        raise ValueError("odd")
    return b"%d\n" % item


def counters(tree: MetricsTree) -> dict[str, int]:
    return {name: tree.counter(name).value for name in ("written", "dropped", "lost")}


@pytest.fixture(autouse=True)
def _no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "DELAY_S", 0)


def run(writer: BatchWriter[int], sink: Sink) -> None:
    """Run the writer until it has written, then stop it."""

    async def main() -> None:
        sink.entered = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            with trio.fail_after(5):
                await sink.entered.wait()
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_what_gathered_is_written_together() -> None:
    """Lines that waited are one write, in order."""
    tree, sink = MetricsTree(), Sink()
    writer = BatchWriter(line, sink.write, scope=tree, log=ListLog())
    for number in range(200):
        writer.put(number, 10)
    run(writer, sink)

    assert sink.batches == [b"".join(line(number) for number in range(200))]
    assert counters(tree) == {"written": 200, "dropped": 0, "lost": 0}


def test_r13_a_full_queue_drops_and_counts() -> None:
    """Over its bounds, in items or in bytes, the queue takes nothing, and the data path does not wait."""
    tree, sink = MetricsTree(), Sink()
    by_count = BatchWriter(line, sink.write, scope=tree, log=ListLog(), max_items=3)
    by_bytes = BatchWriter(line, sink.write, scope=tree, log=ListLog(), max_bytes=25)
    for number in range(5):
        by_count.put(number, 10)
        by_bytes.put(number, 10)

    assert counters(tree)["dropped"] == 2 + 2
    assert (by_count.waiting, by_bytes.waiting) == (3, 3)


def test_room_is_given_back() -> None:
    """What was written makes room for as many bytes again."""
    tree, sink = MetricsTree(), Sink()
    writer = BatchWriter(line, sink.write, scope=tree, log=ListLog(), max_bytes=25)
    for number in range(3):
        writer.put(number, 10)
    run(writer, sink)
    for number in range(3):
        writer.put(number, 10)

    assert counters(tree) == {"written": 3, "dropped": 0, "lost": 0}


def test_a_big_queue_is_written_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long queue is handed over in bounded writes."""
    monkeypatch.setattr(batch, "MAX_WRITE", 300)
    tree, sink = MetricsTree(), Sink()
    writer = BatchWriter(line, sink.write, scope=tree, log=ListLog())
    for number in range(1000, 1400):
        writer.put(number, 10)
    run(writer, sink)

    assert b"".join(sink.batches) == b"".join(line(number) for number in range(1000, 1400))
    assert {len(data) for data in sink.batches} == {5 * batch.SLICE, 5 * (400 % batch.SLICE)}


def test_trouble_is_counted_and_logged_once() -> None:
    """While the sink fails, lines are lost and counted; the log says so once, and once that it is over."""
    tree, sink, log = MetricsTree(), Sink(), ListLog()
    writer = BatchWriter(line, sink.write, scope=tree, log=log)
    sink.error = OSError("disk full")
    for number in range(3):
        writer.put(number, 10)
        run(writer, sink)
    sink.error = None
    writer.put(9, 10)
    run(writer, sink)

    assert (sink.batches, counters(tree)) == ([b"9\n"], {"written": 1, "dropped": 0, "lost": 3})
    assert log.lines == [
        ("error", "log lines are lost", {"error": "disk full"}),
        ("info", "log lines are written again", {"lost": 3}),
    ]


def test_an_item_without_a_line_is_skipped() -> None:
    """An item that cannot be rendered is lost, and the others are written."""
    tree, sink, log = MetricsTree(), Sink(), ListLog()
    writer = BatchWriter(line, sink.write, scope=tree, log=log)
    for number in (1, -1, 2):
        writer.put(number, 10)
    run(writer, sink)

    assert (sink.batches, counters(tree)) == ([b"1\n2\n"], {"written": 2, "dropped": 0, "lost": 1})
    assert [event for _method, event, _values in log.lines] == ["a log line could not be made"]


def test_the_last_lines_are_written_when_it_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled while a batch gathers, the writer still writes it."""
    monkeypatch.setattr(batch, "DELAY_S", 1000)
    sink = Sink()
    writer = BatchWriter(line, sink.write, scope=MetricsTree(), log=ListLog())

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            await trio.testing.wait_all_tasks_blocked()
            writer.put(1, 10)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert sink.batches == [b"1\n"]


def test_r13_a_sink_that_hangs_does_not_hold_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a write that never returns, the stop takes no longer than the flush may."""
    monkeypatch.setattr(batch, "FLUSH_S", 0.01)
    sink = Sink()
    sink.free.clear()
    writer = BatchWriter(line, sink.write, scope=MetricsTree(), log=ListLog())

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            writer.put(1, 10)
            with trio.fail_after(5):
                await sink.entered.wait()
            nursery.cancel_scope.cancel()

    trio.run(main)
    sink.free.set()
    assert sink.batches == []
