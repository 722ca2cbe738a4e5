"""The built-in namers."""

from __future__ import annotations

import pytest

from hostmesh.base.var import Failed, Ok, Turn, Var
from hostmesh.naming.addr import ADDR_NEG, ADDR_PENDING, Addr, AddrBound
from hostmesh.naming.bound import BoundName
from hostmesh.naming.namer import LookupTree
from hostmesh.naming.nametree import EMPTY, FAIL, NEG, Leaf
from hostmesh.naming.path import Path
from hostmesh.naming.system import FIXED_KEPT, ResolvedOnce, SystemNamers
from tests.fakes_naming import LiteralResolver, endpoints


def system() -> SystemNamers:
    turn = Turn()
    return SystemNamers(turn, LiteralResolver(turn, {"localhost": ("127.0.0.1",)}))


def bound(path: str) -> BoundName:
    found = system().lookup(Path.read(path))
    assert isinstance(found, Ok)
    assert isinstance(found.value, Leaf)
    assert isinstance(found.value.value, BoundName)
    return found.value.value


@pytest.mark.parametrize(
    ("path", "rewritten"),
    [
        ("/$/io.buoyant.hostportPfx/pfx/web:80/x/y", "/pfx/web/80/x/y"),
        ("/$/io.buoyant.hostportPfx/pfx/web:http-admin", "/pfx/web/http-admin"),
        ("/$/io.buoyant.porthostPfx/pfx/web:80/x", "/pfx/80/web/x"),
        ("/$/io.buoyant.http.anyMethod/GET/x", "/x"),
        ("/$/io.buoyant.http.anyMethod/GET", "/"),
        ("/$/io.buoyant.http.anyMethodPfx/pfx/GET/x", "/pfx/x"),
        ("/$/io.buoyant.http.anyHost/web:80/x", "/x"),
        ("/$/io.buoyant.http.anyHostPfx/pfx/web/x", "/pfx/x"),
        ("/$/io.buoyant.http.subdomainOf/b.com/a.b.com/x", "/a/x"),
        ("/$/io.buoyant.http.subdomainOf/b.com/z.a.b.com:80/x", "/z.a/x"),
        ("/$/io.buoyant.http.subdomainOfPfx/b.com/pfx/a.b.com/x", "/pfx/a/x"),
        ("/$/io.buoyant.http.domainToPath/a.b.c/x", "/c/b/a/x"),
        ("/$/io.buoyant.http.domainToPath/a", "/a"),
        ("/$/io.buoyant.http.domainToPath/a.b./x", "/b/a/x"),
        ("/$/io.buoyant.http.domainToPathPfx/pfx/a.b.c/x", "/pfx/c/b/a/x"),
    ],
)
def test_rewriters(path: str, rewritten: str) -> None:
    """A rewriter's answer is a path, resolved through the dtab again."""
    assert system().lookup(Path.read(path)) == Ok(Leaf(Path.read(rewritten)))


@pytest.mark.parametrize(
    "path",
    [
        "/$/io.buoyant.hostportPfx",
        "/$/io.buoyant.hostportPfx/pfx",
        "/$/io.buoyant.hostportPfx/pfx/web",
        "/$/io.buoyant.hostportPfx/pfx/web:",
        "/$/io.buoyant.hostportPfx/pfx/:80",
        "/$/io.buoyant.hostportPfx/pfx/a:b:80",
        "/$/io.buoyant.hostportPfx/pfx/web:-80",
        "/$/io.buoyant.hostportPfx/pfx/web:80-",
        "/$/io.buoyant.hostportPfx/pfx/web:HTTP",
        "/$/io.buoyant.hostportPfx/pfx/web:" + "a" * 64,
        "/$/io.buoyant.hostportPfx/pfx/w$b:80",
        "/$/io.buoyant.porthostPfx/pfx/web",
        "/$/io.buoyant.http.anyMethod",
        "/$/io.buoyant.http.anyMethod/get/x",
        "/$/io.buoyant.http.anyMethodPfx/pfx",
        "/$/io.buoyant.http.anyMethodPfx",
        "/$/io.buoyant.http.anyHost",
        "/$/io.buoyant.http.anyHost/$x",
        "/$/io.buoyant.http.anyHostPfx/pfx",
        "/$/io.buoyant.http.subdomainOf/b.com",
        "/$/io.buoyant.http.subdomainOf/b.com/b.com",
        "/$/io.buoyant.http.subdomainOf/b.com/.b.com",
        "/$/io.buoyant.http.subdomainOf/b.com/ab.com",
        "/$/io.buoyant.http.subdomainOf/b.com/a.B.com",
        "/$/io.buoyant.http.subdomainOf/b.com/$.b.com",
        "/$/io.buoyant.http.subdomainOfPfx/b.com/a.b.com",
        "/$/io.buoyant.http.subdomainOfPfx/b.com/pfx/c.com",
        "/$/io.buoyant.http.domainToPath",
        "/$/io.buoyant.http.domainToPath/a..b",
        "/$/io.buoyant.http.domainToPath/.",
        "/$/io.buoyant.http.domainToPath/$",
        "/$/io.buoyant.http.domainToPathPfx/pfx",
        "/$/io.buoyant.rinet/80",
        "/$/io.buoyant.rinet/x/web",
        "/$/io.buoyant.http.status",
        "/$/io.buoyant.http.status/99",
        "/$/io.buoyant.http.status/600",
        "/$/io.buoyant.http.status/2xx",
        "/$/io.buoyant.http.status/0200",
    ],
)
def test_arguments_that_do_not_fit(path: str) -> None:
    """Too few or wrong arguments are no such name."""
    assert system().lookup(Path.read(path)) == Ok(NEG)


@pytest.mark.parametrize(
    ("path", "id_", "residual", "ends"),
    [
        ("/$/inet/10.0.0.1/80", "/$/inet/10.0.0.1/80", "/", "10.0.0.1:80"),
        ("/$/inet/10.0.0.1/80/x/y", "/$/inet/10.0.0.1/80", "/x/y", "10.0.0.1:80"),
        ("/$/inet/localhost/80", "/$/inet/localhost/80", "/", "127.0.0.1:80"),
        ("/$/inet/8080", "/$/inet/8080", "/", "127.0.0.1:8080"),
        ("/$/inet/8080/90", "/$/inet/8080", "/90", "127.0.0.1:8080"),
        ("/$/fixedinet/10.0.0.1/80/x", "/$/fixedinet/10.0.0.1/80", "/x", "10.0.0.1:80"),
        ("/$/io.buoyant.rinet/80/10.0.0.1/x", "/$/io.buoyant.rinet/80/10.0.0.1", "/x", "10.0.0.1:80"),
    ],
)
def test_addresses(path: str, id_: str, residual: str, ends: str) -> None:
    """inet and its relatives bind to an address, and keep their own form as the id."""
    name = bound(path)
    close = name.addr.observe(lambda _addr: None)

    assert (name.id, name.residual) == (Path.read(id_), Path.read(residual))
    assert name.addr.value == endpoints(ends)
    close()


def test_status() -> None:
    """The status namer binds to a service that dials nobody."""
    name = bound("/$/io.buoyant.http.status/418/x")

    assert (name.status_code, name.addr.value) == (418, AddrBound(()))
    assert (name.id, name.residual) == (Path.read("/$/io.buoyant.http.status/418"), Path.of("x"))


def test_nil_and_fail() -> None:
    """nil is Empty and fail is Fail, whatever follows."""
    assert system().lookup(Path.read("/$/nil/x")) == Ok(EMPTY)
    assert system().lookup(Path.read("/$/fail")) == Ok(FAIL)


@pytest.mark.parametrize(
    ("path", "cause"),
    [
        ("/$/nope/x", "Unknown namer: nope for path /$/nope/x"),
        ("/$", "Unknown namer: /$ for path /$"),
        ("/$/inet/web", "expected /$/inet/<host>/<port> or /$/inet/<port>"),
        ("/$/inet", "expected /$/inet/<host>/<port>"),
        ("/$/inet/web/0", "a port is 1 to 65535"),
        ("/$/inet/web/65536", "a port is 1 to 65535"),
        ("/$/inet/web/123456", "a port is 1 to 65535"),
        ("/$/fixedinet/web/x", "expected /$/fixedinet/<host>/<port>"),
    ],
)
def test_failures(path: str, cause: str) -> None:
    """What cannot be a name at all fails with a sentence that says what was expected."""
    found = system().lookup(Path.read(path))

    assert isinstance(found, Failed)
    assert cause in found.cause


def test_a_provided_namer_is_made_once_and_asked_with_what_follows_its_name() -> None:
    """Others stay unknown, and cost one question each."""
    turn = Turn()
    asked: list[str] = []

    class Provided:
        def lookup(self, path: Path) -> Ok[LookupTree]:
            return Ok(Leaf(Path.of("found") + path))

    def provide(name: str) -> Provided | None:
        asked.append(name)
        return Provided() if name == "mine" else None

    names = SystemNamers(turn, LiteralResolver(turn), provide)

    assert names.lookup(Path.read("/$/mine/a/b")) == Ok(Leaf(Path.read("/found/a/b")))
    assert names.lookup(Path.read("/$/mine")) == Ok(Leaf(Path.read("/found")))
    assert isinstance(names.lookup(Path.read("/$/other/a")), Failed)
    assert asked == ["mine", "other"]
    assert list(names.provided) == ["mine"]


def test_fixedinet_is_resolved_once() -> None:
    """The first good answer stays; until then it follows the resolver."""
    turn = Turn()
    source: Var[Addr] = Var(turn, ADDR_NEG)
    once = ResolvedOnce(turn, source)
    seen: list[Addr] = []
    close = once.observe(seen.append)
    turn.run()

    source.set(endpoints("10.0.0.1:80"))
    turn.run()
    source.set(endpoints("10.0.0.2:80"))
    turn.run()

    assert seen == [ADDR_NEG, endpoints("10.0.0.1:80")]
    assert not source.observed
    close()
    once.observe(seen.append)()
    assert not source.observed


def test_fixedinet_lets_go_when_idle() -> None:
    """Nobody looks: the resolver is left alone."""
    turn = Turn()
    source: Var[Addr] = Var(turn, ADDR_PENDING)
    once = ResolvedOnce(turn, source)

    close = once.observe(lambda _addr: None)
    assert source.observed
    close()

    assert not source.observed


def test_fixedinet_remembers_a_bounded_number() -> None:
    """The same path is the same address, until FIXED_KEPT others have been asked for."""
    namers = system()

    def addr(port: int) -> Var[Addr]:
        found = namers.lookup(Path.of("$", "fixedinet", "h", str(port)))
        assert isinstance(found, Ok)
        assert isinstance(found.value, Leaf)
        assert isinstance(found.value.value, BoundName)
        return found.value.value.addr

    first = addr(1)
    for port in range(2, FIXED_KEPT + 1):
        addr(port)

    assert addr(1) is first
    addr(FIXED_KEPT + 1)
    assert addr(1) is first
    for port in range(2, FIXED_KEPT + 2):
        addr(port)
    assert addr(1) is not first
