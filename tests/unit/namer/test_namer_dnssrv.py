"""``io.l5d.dnssrv`` and ``io.l5d.dns``: records to endpoints."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from hostmesh.base.var import Failed
from hostmesh.naming.addr import Endpoint
from hostmesh.naming.path import Path
from hostmesh.registry.dns import DnsError, Found, NotFound
from hostmesh.registry.dns_wire import SRV, A, Record, Srv
from namer.dns import DnsConfig
from namer.dnssrv import DnsSrvNamerConfig, by_priority, weighted
from tests.fs_world import Followed
from tests.polled_world import NamerWorld

WEB = "_http._tcp.web"


def srv(*records: Srv, additional: Mapping[str, str] = {}, ttl: float = 60) -> Found:
    return Found(
        tuple(Record(WEB, SRV, 60, record) for record in records),
        ttl,
        tuple(Record(name, A, 60, address) for name, address in additional.items()),
    )


class ScriptedClient:
    """A DNS client that knows what it is given."""

    questions = over_tcp = strangers = 0

    def __init__(self, answer: object, hosts: Mapping[str, object] = {}) -> None:
        self.answer = answer
        self.hosts = hosts

    async def ask(self, _name: str, _type: int) -> object:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def ask_again(self, name: str, type: int, _known: bytes | None) -> object:
        return await self.ask(name, type)

    async def addresses(self, name: str, *, v6: bool) -> object:
        return await self.ask(name, A)

    async def kept_addresses(self, name: str, *, v6: bool) -> object:
        found = self.hosts.get(name, ())
        if isinstance(found, Exception):
            raise found
        return found, 60.0


def looked_up(answer: object, hosts: Mapping[str, object] = {}, path: str = f"/{WEB}/rest") -> Followed:
    """What follows from one look."""
    world = NamerWorld(DnsSrvNamerConfig(kind="io.l5d.dnssrv", hold_ms=0))
    world.namer.client = ScriptedClient(answer, hosts)
    result = []

    async def test(world: NamerWorld) -> None:
        web = Followed(world, path)
        await world.until(lambda: not web.is_pending)
        result.append(web)

    world.run(test)
    return result[0]


def test_records_become_weighted_endpoints() -> None:
    """Weights are those of the records, and a target's addresses share its weight."""
    web = looked_up(
        srv(Srv(1, 10, 80, "one"), Srv(1, 30, 81, "two"), additional={"one": "10.0.0.1"}),
        {"two": ("10.0.0.2", "10.0.0.3")},
    )

    assert web.addr.endpoints == (
        Endpoint("10.0.0.1", 80, 10.0),
        Endpoint("10.0.0.2", 81, 15.0),
        Endpoint("10.0.0.3", 81, 15.0),
    )
    assert web.tree.value.value.id.show() == f"/#/io.l5d.dnssrv/{WEB}"
    assert web.tree.value.value.residual == Path.of("rest")


def test_only_the_preferred_priority_with_an_address_is_used() -> None:
    """One whose targets have no address is passed over."""
    web = looked_up(
        srv(Srv(1, 1, 80, "gone"), Srv(2, 1, 81, "two"), Srv(3, 1, 82, "three")),
        {"two": ("10.0.0.2",), "three": ("10.0.0.3",)},
    )

    assert web.ports == [81]


def test_x9_a_target_that_cannot_be_resolved_removes_nothing_and_promotes_nobody() -> None:
    """The others of its priority are there; the next priority is not."""
    web = looked_up(
        srv(Srv(1, 1, 80, "bad"), Srv(1, 1, 81, "one"), Srv(2, 1, 82, "two")),
        {"bad": DnsError("bad: SERVFAIL"), "one": ("10.0.0.1",), "two": ("10.0.0.2",)},
    )

    assert web.ports == [81]


def test_x9_targets_that_cannot_be_resolved_are_an_error() -> None:
    """Not an empty set."""
    web = looked_up(srv(Srv(1, 1, 80, "bad")), {"bad": DnsError("bad: SERVFAIL")})

    assert web.tree == Failed("bad: SERVFAIL")


def test_an_absent_record_is_neg() -> None:
    """And so is a segment that is no name."""
    assert looked_up(NotFound(5)).is_neg
    assert looked_up(DnsError("not asked"), path="/" + "a" * 64).is_neg


def test_the_root_as_target_is_a_service_that_is_not_there() -> None:
    """RFC 2782: bound, and without endpoints."""
    assert looked_up(srv(Srv(0, 0, 0, ""))).ports == []


def test_x8_targets_with_forbidden_addresses_are_left_out() -> None:
    """Link-local and port 0 are no endpoints."""
    web = looked_up(
        srv(Srv(1, 1, 80, "meta"), Srv(1, 1, 0, "one"), Srv(1, 1, 81, "one")),
        {"meta": ("169.254.169.254",), "one": ("10.0.0.1",)},
    )

    assert web.addr.endpoints == (Endpoint("10.0.0.1", 81, 1.0),)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [((0, 0), [1.0, 1.0]), ((5, 5), [1.0, 1.0]), ((0, 10, 20), [0.1, 10.0, 20.0])],
    ids=["all 0", "equal", "0 among others"],
)
def test_weights(weights: tuple[int, ...], expected: list[float]) -> None:
    """Equal ones are 1; 0 is a very small chance beside others."""
    group = [Srv(1, weight, 80, "x") for weight in weights]

    assert [weight for _record, weight in weighted(group)] == expected


def test_groups_are_in_the_order_of_preference() -> None:
    """The smallest priority first."""
    records = [Srv(2, 1, 80, "b"), Srv(1, 1, 80, "a"), Srv(2, 1, 81, "c"), Srv(0, 1, 80, "")]

    assert [[record.target for record in group] for group in by_priority(records)] == [["a"], ["b", "c"]]


def test_a_host_name_with_its_port() -> None:
    """``io.l5d.dns`` consumes both; a port that is none is no name."""
    world = NamerWorld(DnsConfig(kind="io.l5d.dns", hold_ms=0))
    world.namer.client = ScriptedClient(Found((Record("web", A, 60, "10.0.0.1"),), 60))

    async def test(world: NamerWorld) -> None:
        web = Followed(world, "/web/80/rest")
        await world.until(lambda: web.ports == [80])
        assert web.tree.value.value.id.show() == "/#/io.l5d.dns/web/80"
        for path in ("/web", "/web/0", "/web/65536", "/web/http", "/web/00000000080"):
            assert Followed(world, path).is_neg

    world.run(test)


def test_refreshes_are_no_later_than_the_ttl() -> None:
    """And no later than refreshIntervalSeconds."""
    namer = NamerWorld(DnsSrvNamerConfig(kind="io.l5d.dnssrv")).namer

    assert (namer.pause(1.0), namer.pause(3600.0)) == (1.0, 5.0)


def test_name_servers_are_addresses() -> None:
    """A name would have to be asked of a name server; a port without servers has no meaning."""
    assert DnsSrvNamerConfig(kind="x", dns_hosts=("127.0.0.1", "::1"), port=5353).check() == []
    assert DnsSrvNamerConfig(kind="x", dns_hosts=("ns",)).check() == [
        "dnsHosts: expected IP addresses, found 'ns'"
    ]
    assert DnsSrvNamerConfig(kind="x", port=5353).check() == [
        "port: found without dnsHosts, expected dnsHosts beside it"
    ]


def test_an_answer_that_is_the_last_one_confirms() -> None:
    """And after a failure it is read again, so that what the failure has put off is done."""
    world = NamerWorld(DnsSrvNamerConfig(kind="io.l5d.dnssrv", hold_ms=0))
    found = srv(Srv(1, 1, 80, "one"), additional={"one": "10.0.0.1"}, ttl=0.02)
    first = Found(found.records, found.ttl, found.additional, b"raw")
    script: list[object] = [first, None, DnsError("SERVFAIL"), first]
    known: list[bytes | None] = []

    class Client(ScriptedClient):
        async def ask_again(self, name: str, type: int, raw: bytes | None) -> object:
            known.append(raw)
            self.answer = script.pop(0) if len(script) > 1 else script[0]
            return await self.ask(name, type)

    world.namer.client = Client(None)

    async def test(world: NamerWorld) -> None:
        web = Followed(world, f"/{WEB}")
        await world.until(lambda: web.ports == [80])
        await world.until(lambda: "names.source_failed" in world.reported())
        await world.until(lambda: "names.source_recovered" in world.reported())
        assert web.ports == [80]
        assert known[:4] == [None, b"raw", b"raw", None]
        assert not web.had_a_gap

    world.run(test)
