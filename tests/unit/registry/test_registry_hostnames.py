"""Replica sets with host names."""

from __future__ import annotations

from hostmesh.base.var import Turn, Var
from hostmesh.naming.addr import ADDR_NEG, ADDR_PENDING, Addr, AddrBound, AddrFailed, Endpoint
from hostmesh.registry.hostnames import HostNames, Named, Resolved


class Names:
    """Names and what they resolve to, set by hand."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.vars: dict[tuple[str, int], Var[Addr]] = {}

    def resolve(self, host: str, port: int) -> Var[Addr]:
        return self.vars.setdefault((host, port), Var(self.turn, ADDR_PENDING))


def test_addresses_and_names_are_put_together() -> None:
    """Addresses are there at once, a name when it is resolved, with the weight of its line."""
    turn, calls = Turn(), []
    names = Names(turn)
    hosts = HostNames(names, lambda: calls.append(1))
    wanted = [Named("10.0.0.1", 80), Named("web.example", 81, 0.5)]

    hosts.follow(wanted)
    first = hosts.resolved(wanted)
    names.vars["web.example", 81].set(AddrBound((Endpoint("10.0.0.2", 81), Endpoint("10.0.0.3", 81))))
    turn.run()

    assert first == Resolved((Endpoint("10.0.0.1", 80),), True, None)
    assert len(calls) == 1
    assert hosts.resolved(wanted).endpoints == (
        Endpoint("10.0.0.1", 80),
        Endpoint("10.0.0.2", 81, 0.5),
        Endpoint("10.0.0.3", 81, 0.5),
    )


def test_a_name_that_does_not_exist_is_none_and_a_failure_says_why() -> None:
    """Absence is an answer, a failure is not."""
    turn = Turn()
    names = Names(turn)
    hosts = HostNames(names, lambda: None)
    wanted = [Named("gone", 1), Named("broken", 1)]
    hosts.follow(wanted)

    names.vars["gone", 1].set(ADDR_NEG)
    names.vars["broken", 1].set(AddrFailed("no name server"))

    assert hosts.resolved(wanted) == Resolved((), False, "no name server")


def test_only_what_is_wanted_is_followed() -> None:
    """A name that goes is no longer observed, one that stays is observed without a gap, and none after the end."""
    turn = Turn()
    names = Names(turn)
    hosts = HostNames(names, lambda: None)

    hosts.follow([Named("a", 1), Named("b", 1)])
    hosts.follow([Named("b", 1), Named("c", 1)])
    observed = [host for (host, _port), var in names.vars.items() if var.observed]
    hosts.close()

    assert observed == ["b", "c"]
    assert not any(var.observed for var in names.vars.values())
