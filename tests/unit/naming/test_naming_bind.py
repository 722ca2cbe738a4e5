"""Binding: the tables of alternatives and unions, the order of namers, live changes, limits."""

from __future__ import annotations

import pytest

from hostmesh.base.var import PENDING, Failed, Ok, Read, State, Turn
from hostmesh.naming.bind import MAX_DEPTH, MAX_NODES, all_bound, bind, first_of, mount, split_of
from hostmesh.naming.bound import EMPTY, FAIL, NEG, BoundLeaf, BoundName, BoundTree
from hostmesh.naming.dtab import Dtab
from hostmesh.naming.nametree import Alt, Leaf
from hostmesh.naming.path import Path
from hostmesh.naming.system import SystemNamers
from tests.fakes_naming import LiteralNamer, LiteralResolver, tree_text

TURN = Turn()


class World:
    """A namer at /#/fs that knows web and api, is pending for slow and failed for bad."""

    def __init__(self) -> None:
        self.fs = LiteralNamer(TURN)
        self.web = self.fs.add("web", "10.0.0.1:80")
        self.api = self.fs.add("api", "10.0.0.2:80")
        self.fs.set("/slow", PENDING)
        self.fs.set("/bad", Failed("registry down"))
        self.system = SystemNamers(TURN, LiteralResolver(TURN))

    def bind(self, dtab: str, path: str, *namers: LiteralNamer) -> State[BoundTree]:
        mounts = [mount(each) for each in (namers or (self.fs,))]
        return bind(Path.read(path), Dtab.read(dtab), mounts, self.system, Read())


@pytest.mark.parametrize(
    ("dtab", "path", "bound"),
    [
        ("", "/svc/web", "~"),
        ("", "/#/fs/web", "/#/fs/web"),
        ("", "/#/fs/web/a/b", "/#/fs/web + /a/b"),
        ("", "/#/fs/none", "~"),
        ("", "/#/other/web", "~"),
        ("", "/", "~"),
        ("", "/#", "~"),
        ("", "/$", "Failed(cause='Unknown namer: /$ for path /$')"),
        ("/svc => /#/fs", "/svc/web", "/#/fs/web"),
        ("/svc => /srv ; /srv => /#/fs", "/svc/web/x", "/#/fs/web + /x"),
        ("/svc => /#/fs ; /svc/web => /#/fs/api", "/svc/web", "/#/fs/api"),
        ("/svc => /#/fs ; /svc/web => /#/fs/none", "/svc/web", "/#/fs/web"),
        ("/svc => /#/fs ; /svc/web => ~", "/svc/web", "/#/fs/web"),
        ("/svc => /#/fs ; /svc/web => !", "/svc/web", "!"),
        ("/svc => /#/fs ; /svc/web => $", "/svc/web", "$"),
        ("/svc => /#/fs ; /svc/web => /$/nil", "/svc/web", "$"),
        ("/svc => /#/fs ; /svc/web => /$/fail", "/svc/web", "!"),
        # the dtab is asked first, also for namers and built-ins
        ("/#/fs/web => /#/fs/api", "/#/fs/web", "/#/fs/api"),
        ("/$/nil => /#/fs/api", "/$/nil", "/#/fs/api"),
        ("/#/fs/web => /#/fs/none", "/#/fs/web", "~"),
        ("/#/fs/web => ~", "/#/fs/web", "/#/fs/web"),
        ("/#/fs/web => ~ ; /#/fs/web => ~", "/#/fs/web", "~"),
        # alternatives: first that is not Neg, on names alone
        ("/a => /#/fs/none | /#/fs/web", "/a", "/#/fs/web"),
        ("/a => /#/fs/web | /#/fs/api", "/a", "/#/fs/web"),
        ("/a => ~ | ! | /#/fs/web", "/a", "!"),
        ("/a => ~ | $ | /#/fs/web", "/a", "$"),
        ("/a => ~ | ~", "/a", "~"),
        ("/a => /#/fs/slow | /#/fs/web", "/a", "Pending()"),
        ("/a => /#/fs/bad | /#/fs/web", "/a", "Failed(cause='registry down')"),
        ("/a => /#/fs/web | /#/fs/bad", "/a", "/#/fs/web"),
        # unions
        ("/a => 9 * /#/fs/web & 1 * /#/fs/api", "/a", "9 * (/#/fs/web) & 1 * (/#/fs/api)"),
        ("/a => 9 * /#/fs/web & 1 * /#/fs/none", "/a", "/#/fs/web"),
        ("/a => 9 * ! & 1 * /#/fs/web", "/a", "/#/fs/web"),
        ("/a => ! & ~", "/a", "~"),
        ("/a => $ & /#/fs/web", "/a", "1 * ($) & 1 * (/#/fs/web)"),
        ("/a => /#/fs/slow & /#/fs/web", "/a", "/#/fs/web"),
        ("/a => /#/fs/bad & /#/fs/web", "/a", "/#/fs/web"),
        ("/a => /#/fs/slow & ~", "/a", "~"),
        ("/a => /#/fs/slow & /#/fs/slow", "/a", "Pending()"),
        ("/a => /#/fs/slow & /#/fs/bad", "/a", "Failed(cause='registry down')"),
        ("/a => (/#/fs/none | /#/fs/web) & /#/fs/api", "/a", "1 * (/#/fs/web) & 1 * (/#/fs/api)"),
        ("/svc/* => 1 * /#/fs/web & 3 * /#/fs/api", "/svc/x/y", "1 * (/#/fs/web + /y) & 3 * (/#/fs/api + /y)"),
        # built-ins
        ("/svc => /$/inet/10.0.0.9", "/svc/80/x", "/$/inet/10.0.0.9/80 + /x"),
        ("/svc => /$/nope", "/svc/x", "Failed(cause='Unknown namer: nope for path /$/nope/x')"),
        ("/host => /#/fs ; /svc => /$/io.buoyant.http.anyMethodPfx/host", "/svc/GET/web", "/#/fs/web"),
        ("/ph => /$/io.buoyant.rinet ; /svc => /$/io.buoyant.porthostPfx/ph", "/svc/web:80",
         "/$/io.buoyant.rinet/80/web"),
    ],
)  # fmt: skip
def test_bind(dtab: str, path: str, bound: str) -> None:
    """Each rule of binding, in one line."""
    assert tree_text(World().bind(dtab, path)) == bound


def test_later_namers_are_asked_first() -> None:
    """Of overlapping prefixes the later entry wins, and Neg asks the next."""
    world = World()
    first, second = LiteralNamer(TURN, "/x"), LiteralNamer(TURN, "/x")
    first.add("a"), first.add("b")
    only = second.add("a")

    found = world.bind("", "/#/x/a", first, second)
    other = world.bind("", "/#/x/b", first, second)

    assert isinstance(found, Ok)
    assert isinstance(found.value, BoundLeaf)
    assert found.value.name.addr is only.addr
    assert tree_text(other) == "/#/x/b"


def test_a_pending_namer_is_waited_for() -> None:
    """A namer without an answer hides those after it: it may know better."""
    world = World()
    slow = LiteralNamer(TURN)
    slow.set("/web", PENDING)

    assert world.bind("", "/#/fs/web", world.fs, slow) == PENDING


def test_namers_may_answer_with_paths() -> None:
    """A path in a namer's answer starts from the dtab again."""
    world = World()
    world.fs.set("/alias", Ok(Alt((Leaf(Path.read("/svc/none")), Leaf(Path.read("/svc/api"))))))

    assert tree_text(world.bind("/svc => /#/fs", "/svc/alias")) == "/#/fs/api"


def test_nested_prefixes() -> None:
    """A namer sees what follows its own prefix, whatever its length."""
    world = World()
    deep = LiteralNamer(TURN, "/fs/deep")
    deep.add("web")

    assert tree_text(world.bind("", "/#/fs/deep/web/x", world.fs, deep)) == "/#/fs/deep/web + /x"
    assert deep.asked == [Path.of("web", "x")]


def test_reads_are_recorded() -> None:
    """What the binding depends on is what it read."""
    world = World()
    read = Read()

    bind(
        Path.read("/a"),
        Dtab.read("/a => /#/fs/none | /#/fs/web | /#/fs/api"),
        [mount(world.fs)],
        world.system,
        read,
    )

    assert list(read.vars.values()) == [world.fs.vars[Path.of(name)] for name in ("none", "web")]


@pytest.mark.parametrize(
    ("dtab", "cause"),
    [
        ("/a => /a", "the dtab loops: /a -> /a"),
        ("/a => /b ; /b => /c ; /c => /b", "the dtab loops: /b -> /c -> /b"),
        ("/a => ~ | /a & ~ | /a", "the dtab loops: /a -> /a"),
        ("/a => /a/b", f"Max recursion level: {MAX_DEPTH} reached in Namer lookup: /a/b"),
    ],
)  # fmt: skip
def test_p5_loops_show_their_steps(dtab: str, cause: str) -> None:
    """A dtab that does not end is a failure that says where it goes round."""
    found = World().bind(dtab, "/a")

    assert isinstance(found, Failed)
    assert found.cause.startswith(cause)


@pytest.mark.parametrize("sign", ["|", "&"])
def test_p5_explosions_are_bounded(sign: str) -> None:
    """Alternatives that multiply end after MAX_NODES paths, also in a union, which forgives other failures."""
    wide = "/a => " + f" {sign} ".join(["/b"] * 100) + " ; /b => " + f" {sign} ".join(["/c"] * 100)

    found = World().bind(wide, "/a")

    assert found == Failed(f"/a: more than {MAX_NODES} paths looked up: /a -> /b -> /c")


@pytest.mark.parametrize(
    "dtab",
    [
        "/a => /a" + "/x" * 1000,
        "/a => /a/b & /a/c",
        "/a => " + " | ".join([*["~"] * 30_000, "/b"]),
        ";".join(["/* => ~"] * 300) + "; /a => " + " | ".join(["/b"] * 900),
    ],
    ids=["long", "growing", "wide", "many"],
)
def test_p5_work_is_bounded(dtab: str) -> None:
    """Paths that grow, trees that are wide and many dentries that match cost no more than MAX_WORK."""
    found = World().bind(dtab, "/a")

    assert isinstance(found, Failed)
    assert "paths too long or trees too wide" in found.cause
    assert len(found.cause) < 2000


def test_nesting_and_steps_together_are_bounded() -> None:
    """A dtab cannot exhaust the stack by parentheses that repeat with each step."""
    nested = "(~ | " * 30 + "/a/x" + ")" * 30

    found = World().bind(f"/a => {nested}", "/a")

    assert isinstance(found, Failed)
    assert "deeper than" in found.cause


def test_first_of_stops() -> None:
    """Later alternatives are not even evaluated."""

    def states() -> object:
        yield Ok(NEG)
        yield Ok(EMPTY)
        raise AssertionError("not reached")

    assert first_of(states()) == Ok(EMPTY)  # type: ignore[arg-type]
    assert first_of([]) == Ok(NEG)


def test_split_of_nothing() -> None:
    """A union without children is no name, and the first error of all errors is reported."""
    assert split_of([], []) == Ok(NEG)
    assert split_of([1.0, 1.0], [Ok(FAIL), PENDING]) == Ok(NEG)
    assert split_of([1, 1, 1], [PENDING, Failed("x"), Failed("y")]) == Failed("x")


def test_all_bound() -> None:
    """A tree without leaves has only bound leaves."""
    world = World()
    name: BoundName = world.web

    assert all_bound(NEG)
    assert all_bound(Alt((Leaf(name), NEG)))
    assert not all_bound(Alt((Leaf(name), Leaf(Path.of("x")))))
