"""What the daemon's guard keeps from being believed, on top of the freshness contract."""

from __future__ import annotations

from ipaddress import ip_network

from hostmesh.base.var import Turn, Var
from hostmesh.naming.addr import ADDR_PENDING, Addr, AddrBound, Endpoint
from hostmesh.registry.alarms import Alarms
from hostmesh.registry.freshness import Freshness
from hostmesh.registry.guard import MAX_VERDICTS, Guard
from hostmesh.registry.journal import Journal
from tests.fs_world import SetEnv


class Guarded:
    """One name whose removals are believed after 2 s, and after 60 s if they are most of a set."""

    def __init__(self, **options: object) -> None:
        self.env = SetEnv(0.0)
        self.alarms = Alarms(self.env)
        self.journal = Journal(self.env)
        self.reports: list[str] = []
        self.guard = Guard()
        self.guard.open(**{"mass_hold_s": 60.0, **options})
        self.addr: Var[Addr] = Var(Turn(), ADDR_PENDING)
        self.fresh = Freshness(
            "/#/web",
            self.addr,
            self.alarms,
            self.journal,
            report=lambda event, _facts: self.reports.append(event),
            guard=self.guard,
        )

    def at(self, time: float) -> Freshness:
        while self.alarms.ring() <= time:
            self.env.time = self.alarms._heap[0][0]
        self.env.time = time
        return self.fresh

    def count(self, time: float) -> int | None:
        """How many endpoints are believed; None: there is no such name."""
        self.at(time)
        return len(self.addr.value.endpoints) if isinstance(self.addr.value, AddrBound) else None


def ends(*numbers: int) -> list[Endpoint]:
    return [Endpoint(f"10.0.0.{number}", 80) for number in numbers]


def test_x10_a_mass_removal_is_believed_later() -> None:
    """It is counted, in the journal, and in the log; what comes back meanwhile stays."""
    name = Guarded()
    name.fresh.found(ends(*range(1, 11)))

    name.at(10).found(ends(1, 2, 3, 4))

    assert name.count(69.9) == 10
    assert name.count(70.0) == 4
    assert name.guard.mass_removals == 1
    assert [entry.what for entry in name.journal.entries() if entry.action == "guard"] == [
        "6 of 10 endpoints are gone: believed in 60 s"
    ]
    assert name.reports == ["names.mass_removal"]


def test_x10_half_of_a_set_is_no_mass_removal() -> None:
    """Neither is a set that is replaced by as many others, nor what is left of two endpoints."""
    half, replaced, small = Guarded(), Guarded(), Guarded()
    half.fresh.found(ends(1, 2, 3, 4))
    replaced.fresh.found(ends(1, 2, 3))
    small.fresh.found(ends(1, 2))

    half.fresh.found(ends(1, 2))
    replaced.fresh.found(ends(4, 5, 6))
    small.fresh.absent()

    assert (half.count(2.0), replaced.count(2.0), small.count(2.0)) == (2, 3, None)
    assert half.guard.mass_removals == replaced.guard.mass_removals == small.guard.mass_removals == 0


def test_x10_an_absent_name_is_a_mass_removal() -> None:
    """A registry that has lost a whole service is doubted as one that has lost most of it."""
    name = Guarded()
    name.fresh.found(ends(1, 2, 3))

    name.at(1).absent()

    assert name.count(60.9) == 3
    assert name.count(61.0) is None


def test_x10_removals_within_the_hold_add_up() -> None:
    """A set that goes in several updates goes in one: those that wait already wait as long as the others."""
    name = Guarded()
    name.fresh.found(ends(*range(1, 11)))

    name.fresh.found(ends(*range(5, 11)))
    name.at(1).found(ends(9, 10))

    assert name.count(60.9) == 10
    assert name.count(61.0) == 2
    assert name.guard.mass_removals == 1


def test_x10_more_removals_do_not_put_it_off_again() -> None:
    """A registry that loses one endpoint a minute cannot keep the others for ever."""
    name = Guarded()
    name.fresh.found(ends(*range(1, 11)))
    name.fresh.found(ends(8, 9, 10))

    name.at(59).found(ends(9, 10))

    assert name.count(60.9) == 3
    assert name.count(61.0) == 2


def test_x10_a_later_removal_is_judged_anew() -> None:
    """After one was put off and believed, the next begins a wait of its own."""
    name = Guarded()
    name.fresh.found(ends(*range(1, 11)))
    name.fresh.found(ends(7, 8, 9, 10))
    name.at(61)

    name.at(100).found(ends(10))

    assert name.count(159.9) == 4
    assert name.count(160.0) == 1
    assert name.guard.mass_removals == 2


def test_x10_what_has_come_back_is_not_removed() -> None:
    """The registry has recovered: nothing of its accident remains."""
    name = Guarded()
    name.fresh.found(ends(1, 2, 3))
    name.fresh.found([])

    name.at(30).found(ends(1, 2, 3))

    assert name.count(1000) == 3


def test_x10_is_off_unless_configured() -> None:
    """A removal is believed after the hold, however large."""
    name = Guarded(mass_hold_s=0.0)
    name.fresh.found(ends(*range(1, 11)))

    name.fresh.found([])

    assert name.count(2.0) == 0


def test_x10_the_part_is_configured() -> None:
    """``massRemovalPercent``."""
    name = Guarded(mass_part=0.9)
    name.fresh.found(ends(*range(1, 11)))

    name.fresh.found(ends(1))

    assert name.count(2.0) == 1


def test_x8_denied_networks_are_no_endpoints() -> None:
    """Of both families, counted, and reported once per name."""
    name = Guarded(denied=[ip_network("10.0.0.0/30"), ip_network("fd00::/8")])
    said = [*ends(1, 3, 4), Endpoint("fd00::1", 80), Endpoint("2001:db8::1", 80)]

    name.fresh.found(said)
    name.fresh.found(said)

    assert isinstance(name.addr.value, AddrBound)
    assert [endpoint.host for endpoint in name.addr.value.endpoints] == ["10.0.0.4", "2001:db8::1"]
    assert name.guard.denied == 6
    assert name.reports == ["names.endpoints_denied"]
    assert name.fresh.state()["denied"] == 3


def test_x8_verdicts_are_bounded() -> None:
    """A registry that makes addresses up fills no memory."""
    guard = Guard()
    guard.open(denied=[ip_network("10.0.0.0/8")])

    for block in range(3):
        guard.allowed({(f"11.{block}.{n >> 8}.{n & 255}", 80): 0 for n in range(MAX_VERDICTS // 2)})

    assert len(guard._verdicts) <= MAX_VERDICTS
