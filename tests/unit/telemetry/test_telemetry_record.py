from __future__ import annotations

from hostmesh.telemetry.record import Fanout, Record
from tests.unit.telemetry.records import record


class Taker:
    """Takes what it is told to take."""

    def __init__(self, *, all_: bool = False, failures: bool = False, broken: bool = False) -> None:
        self.taken: list[Record] = []
        self._all = all_
        self._failures = failures
        self._broken = broken

    def wants(self, failed: bool) -> bool:
        return self._all or (failed and self._failures)

    def on_exchange(self, record: Record) -> None:
        if self._broken:
            raise ValueError("full")
        self.taken.append(record)


def test_no_record_is_built_that_nobody_wants() -> None:
    """When every sink declines, the exchange costs a question and no record."""
    built: list[Record] = []

    Fanout([Taker(), Taker(failures=True)]).offer(False, lambda: built.append(record()) or built[0])

    assert built == []


def test_all_who_want_it_share_one_record() -> None:
    """The record is built once, however many take it."""
    first, second, never = Taker(all_=True), Taker(failures=True), Taker()
    Fanout([first, second, never]).offer(True, record)

    assert (first.taken, second.taken, never.taken) == ([record()], [record()], [])
    assert first.taken[0] is second.taken[0]


def test_a_broken_sink_costs_the_others_nothing() -> None:
    """An exception of one sink is counted and kept; the next sink gets its record."""
    fanout = Fanout([Taker(all_=True, broken=True), good := Taker(all_=True)])
    fanout.offer(False, record)

    assert (fanout.errors, str(fanout.last_error), len(good.taken)) == (1, "full", 1)
