"""The resolver: what is known at once, and what is looked up."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable

import pytest
import trio

from hostmesh.base.var import Turn, Var
from hostmesh.naming.addr import ADDR_NEG, ADDR_PENDING, Addr, AddrBound, AddrFailed, Endpoint
from hostmesh.registry.alarms import Alarms
from hostmesh.registry.resolver import Answer, Resolver, Unknown, Unresolved, literal, system_lookup
from tests.fs_world import RealEnv


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("10.1.2", "10.1.0.2"),
        ("10.1.513", "10.1.2.1"),
        ("2130706433", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
        ("256.0.0.1", None),
        ("127.0.0.256", None),
        ("1.2.3.4.5", None),
        ("010.0.0.1", None),
        ("0x7f.1", None),
        ("4294967296", None),
        ("1.2.3.", None),
        ("١.1.1.1", None),
        ("fe80::1%eth0", None),
        ("a:b", None),
        ("web", None),
        ("", None),
    ],
)
def test_addresses_in_figures(text: str, expected: str | None) -> None:
    """Canonical form, decimal short forms, and nothing that two programs could read differently."""
    assert expected == literal(text)


class Names:
    """A resolver whose look-ups are answered from a dict; missing names take until the test ends."""

    def __init__(self, **options: float) -> None:
        self.turn = Turn(wake=lambda: self.ready.set())
        self.ready = trio.Event()
        self.changed = trio.Event()
        self.alarms = Alarms(RealEnv())
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.release = threading.Event()
        settings: dict[str, float] = {"ttl_s": 0.03, "retry_s": 0.02, "hold_s": 0.0, **options}
        self.resolver = Resolver(self.turn, RealEnv(), self.alarms, lookup=self._lookup, **settings)

    def _lookup(self, host: str) -> Answer:
        self.asked.append(host)
        if host not in self.answers:
            self.release.wait(10)
        return self.answers.get(host, Unknown())

    def run(self, test: Callable[[Names], Awaitable[None]]) -> None:
        async def main() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.alarms.run)
                nursery.start_soon(self.resolver.run)
                nursery.start_soon(self._drain)
                try:
                    with trio.fail_after(10):
                        await test(self)
                finally:
                    self.release.set()
                nursery.cancel_scope.cancel()

        trio.run(main)

    async def _drain(self) -> None:
        while True:
            await self.ready.wait()
            self.ready = trio.Event()
            self.turn.run()
            self.changed.set()
            self.changed = trio.Event()

    async def until(self, var: Var[Addr], expected: Addr) -> None:
        while var.value != expected:
            await self.changed.wait()


def bound(port: int, *hosts: str) -> AddrBound:
    return AddrBound(tuple(Endpoint(host, port) for host in hosts))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.1", bound(80, "127.0.0.1")),
        ("::1", bound(80, "::1")),
        ("localhost", bound(80, "127.0.0.1")),
        ("LOCALHOST", bound(80, "127.0.0.1")),
        ("0x7f.1", ADDR_NEG),
        ("1.2.3.4.5", ADDR_NEG),
        ("evil.010", ADDR_NEG),
        ("", ADDR_NEG),
        ("web", ADDR_PENDING),
    ],
)
def test_what_is_known_without_a_look_up(host: str, expected: Addr) -> None:
    """Figures, localhost and nonsense are answered at once, with no task running."""
    names = Names()

    assert expected == names.resolver.resolve(host, 80).value
    assert names.asked == []


def test_a_name_is_resolved_and_followed() -> None:
    """It is looked up again after the TTL, while it is observed."""
    names = Names()
    names.answers["web"] = ("10.0.0.1",)

    async def test(names: Names) -> None:
        web = names.resolver.resolve("web", 80)
        close = web.observe(lambda _addr: None)
        assert web is names.resolver.resolve("WEB", 80)
        await names.until(web, bound(80, "10.0.0.1"))
        names.answers["web"] = ("10.0.0.2", "::2")
        await names.until(web, bound(80, "10.0.0.2", "::2"))
        close()
        assert len(names.resolver) == 0
        assert names.resolver.state()["names"] == {}

    names.run(test)


def test_an_unknown_host_is_neg_and_a_failure_is_failed() -> None:
    """The one is an answer, the other is none."""
    names = Names()
    names.answers.update({"nobody": Unknown(), "broken": Unresolved("broken: SERVFAIL")})

    async def test(names: Names) -> None:
        nobody, broken = names.resolver.resolve("nobody", 1), names.resolver.resolve("broken", 1)
        nobody.observe(lambda _addr: None)
        broken.observe(lambda _addr: None)
        await names.until(nobody, ADDR_NEG)
        await names.until(broken, AddrFailed("broken: SERVFAIL"))
        names.answers["broken"] = ("10.0.0.1",)
        await names.until(broken, bound(1, "10.0.0.1"))
        names.answers["broken"] = Unresolved("again")
        failures = names.resolver.failures
        other = names.resolver.resolve("nobody", 2)
        other.observe(lambda _addr: None)
        while names.resolver.failures == failures:
            await trio.lowlevel.checkpoint()
        assert bound(1, "10.0.0.1") == broken.value

    names.run(test)


def test_one_look_up_serves_all_ports_of_a_host() -> None:
    """Threads and name servers are asked once."""
    names = Names(ttl_s=60.0)
    names.answers["web"] = ("10.0.0.1",)

    async def test(names: Names) -> None:
        first = names.resolver.resolve("web", 1)
        first.observe(lambda _addr: None)
        await names.until(first, bound(1, "10.0.0.1"))
        second = names.resolver.resolve("web", 2)
        second.observe(lambda _addr: None)
        assert bound(2, "10.0.0.1") == second.value

    names.run(test)
    assert names.asked == ["web"]


def test_an_answer_outlives_its_last_observer_for_the_ttl() -> None:
    """A name that is dropped and taken up again does not begin anew."""
    names = Names(ttl_s=60.0)
    names.answers["web"] = ("10.0.0.1",)

    async def test(names: Names) -> None:
        web = names.resolver.resolve("web", 1)
        close = web.observe(lambda _addr: None)
        await names.until(web, bound(1, "10.0.0.1"))
        close()
        assert web.value == ADDR_PENDING
        again = names.resolver.resolve("web", 1)
        again.observe(lambda _addr: None)
        assert bound(1, "10.0.0.1") == again.value

    names.run(test)


def test_a_look_up_that_hangs_times_out() -> None:
    """It is a failure, and its thread is waited for by nobody."""
    names = Names(timeout_s=0.05, retry_s=60.0)

    async def test(names: Names) -> None:
        slow = names.resolver.resolve("slow", 1)
        slow.observe(lambda _addr: None)
        await names.until(slow, AddrFailed("slow: no answer in 0.05 s"))
        assert names.resolver.timeouts == 1

    names.run(test)


def test_names_above_the_bound_are_failed_and_counted() -> None:
    """A caller's dtab cannot make us look up everything."""
    names = Names(max_names=2)
    held = [names.resolver.resolve(f"n{number}", 1) for number in range(3)]
    closers = [var.observe(lambda _addr: None) for var in held]

    assert AddrFailed("n2: more than 2 host names are in use") == held[2].value
    assert names.resolver.refused == 1
    for close in closers:
        close()
    assert len(names.resolver) == 0
    assert len(names.resolver._hosts) == 0


def test_idle_answers_are_bounded() -> None:
    """The least recently used go first."""
    names = Names(max_idle=2, ttl_s=60.0)
    names.answers.update({f"n{number}": ("10.0.0.1",) for number in range(4)})

    async def test(names: Names) -> None:
        for number in range(4):
            var = names.resolver.resolve(f"n{number}", 1)
            close = var.observe(lambda _addr: None)
            await names.until(var, bound(1, "10.0.0.1"))
            close()
        assert list(names.resolver._idle) == ["n2", "n3"]

    names.run(test)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (("127.0.0.1", "::1"), ("127.0.0.1", "::1")),
        (("10.0.0.1", "::1"), ("::1",)),
        (("10.0.0.1",), ("127.0.0.1",)),
        (Unknown(), ("127.0.0.1",)),
        (Unresolved("x"), ("127.0.0.1",)),
    ],
    ids=["both", "mixed", "foreign", "unknown", "failing"],
)
def test_localhost_is_this_machine_whatever_a_name_server_says(
    answer: Answer, expected: tuple[str, ...]
) -> None:
    """Only loopback addresses are taken from the system's answer."""
    names = Names()
    names.answers["localhost"] = answer

    async def test(names: Names) -> None:
        var = names.resolver.resolve("localhost", 1)
        var.observe(lambda _addr: None)
        lookups = names.resolver.lookups
        while names.resolver.lookups <= lookups + 1:
            await trio.lowlevel.checkpoint()
        await names.until(var, bound(1, *expected))

    names.run(test)


def test_the_system_resolves_localhost_and_knows_no_nonsense() -> None:
    """The real look-up, as far as it needs no network."""
    found = system_lookup("localhost")

    assert isinstance(found, tuple)
    assert {"127.0.0.1", "::1"} >= set(found)
    assert Unknown() == system_lookup("a" * 64 + ".invalid")
