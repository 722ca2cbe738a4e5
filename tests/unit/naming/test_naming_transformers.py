"""Transformers, on an interpreter and on a namer."""

from __future__ import annotations

import pytest

from hostmesh.base.var import PENDING, Failed, Ok, Read, State, Turn, Var
from hostmesh.naming.addr import ADDR_NEG, ADDR_PENDING, Addr, AddrBound, AddrFailed
from hostmesh.naming.bind import bind, mount, transformed
from hostmesh.naming.bound import BoundLeaf, BoundName, BoundTree, bound_names
from hostmesh.naming.dtab import Dtab
from hostmesh.naming.nametree import NEG, Alt, Leaf
from hostmesh.naming.path import Path
from hostmesh.naming.system import SystemNamers
from hostmesh.naming.transformer import TransformerConfig, TransformerDeps
from hostmesh.naming.transformers import (
    ConstConfig,
    EachAddr,
    LocalhostConfig,
    PortConfig,
    ReplaceConfig,
    SpecificHostConfig,
)
from tests.fakes_naming import LiteralNamer, LiteralResolver, endpoints, tree_text

LOCAL = frozenset({"127.0.0.1", "10.0.0.1", "::1"})


class World:
    """A namer with two endpoints each for web and api."""

    def __init__(self) -> None:
        self.turn = Turn()
        self.fs = LiteralNamer(self.turn)
        self.fs.add("web", "10.0.0.1:80", "10.0.0.2:80")
        self.fs.add("api", "10.0.0.2:81", "10.0.0.3:81")
        self.resolver = LiteralResolver(self.turn, {"node": ("10.0.0.2",), "slow": ()})
        self.system = SystemNamers(self.turn, self.resolver)
        self.deps = TransformerDeps(
            turn=self.turn, system=self.system, resolver=self.resolver, local_ips=lambda: LOCAL
        )

    def on_interpreter(self, dtab: str, *configs: TransformerConfig) -> State[BoundTree]:
        state = bind(Path.of("a"), Dtab.read(dtab), [mount(self.fs)], self.system, Read())
        return transformed(state, [each.mk(self.deps) for each in configs], Read())

    def on_namer(self, path: str, *configs: TransformerConfig, dtab: str = "") -> State[BoundTree]:
        place = mount(self.fs, [each.mk(self.deps) for each in configs])
        return bind(Path.read(path), Dtab.read(dtab), [place], self.system, Read())


def names(state: State[BoundTree]) -> list[BoundName]:
    assert isinstance(state, Ok)
    return list(bound_names(state.value))


def watched(state: State[BoundTree]) -> Var[Addr]:
    addr = names(state)[0].addr
    addr.observe(lambda _addr: None)
    return addr


PORT = PortConfig(port=4141)
CONST = ConstConfig(path=Path.read("/$/inet/127.0.0.1/9"))
REPLACE = ReplaceConfig(path=Path.read("/$/inet/127.0.0.1/9"))


@pytest.mark.parametrize(
    ("config", "dtab", "tree"),
    [
        (PORT, "/a => /#/fs/web/x", "/%/io.l5d.port/4141/#/fs/web + /x"),
        (PORT, "/a => ~", "~"),
        (PORT, "/a => !", "!"),
        (PORT, "/a => /#/fs/web & $", "1 * (/%/io.l5d.port/4141/#/fs/web) & 1 * ($)"),
        (PortConfig(port=80, prefix=Path.read("/p/q")), "/a => /#/fs/web", "/%/p/q/#/fs/web"),
        (LocalhostConfig(), "/a => /#/fs/web", "/%/io.l5d.localhost/#/fs/web"),
        (SpecificHostConfig(host="10.0.0.1"), "/a => /#/fs/web", "/%/io.l5d.specificHost/#/fs/web"),
        (CONST, "/a => /#/fs/web", "/%/io.l5d.const/$/inet/127.0.0.1/9"),
        (CONST, "/a => ~", "/%/io.l5d.const/$/inet/127.0.0.1/9"),
        (CONST, "/a => !", "/%/io.l5d.const/$/inet/127.0.0.1/9"),
        (ConstConfig(path=Path.read("/#/fs/web")), "/a => /#/fs/api", "~"),
        (ConstConfig(path=Path.read("/$/nil")), "/a => /#/fs/api", "$"),
        (REPLACE, "/a => /#/fs/web", "/%/io.l5d.replace/$/inet/127.0.0.1/9"),
        (REPLACE, "/a => ~", "~"),
        (REPLACE, "/a => $", "$"),
        (ReplaceConfig(path=Path.read("/svc/x")), "/a => /#/fs/web", "~"),
        (ReplaceConfig(path=Path.read("/$/nope")), "/a => /#/fs/web",
         "Failed(cause='Unknown namer: nope for path /$/nope')"),
        (ConstConfig(path=Path.read("/$/nope")), "/a => ~", "Failed(cause='Unknown namer: nope for path /$/nope')"),
        (REPLACE, "/a => 9 * /#/fs/web & 1 * $", "9 * (/%/io.l5d.replace/$/inet/127.0.0.1/9) & 1 * ($)"),
    ],
)  # fmt: skip
def test_trees(config: TransformerConfig, dtab: str, tree: str) -> None:
    """What each transformer makes of a tree, and the ids it gives."""
    assert tree_text(World().on_interpreter(dtab, config)) == tree


def test_the_last_is_outermost() -> None:
    """Transformers run in order and stack their prefixes."""
    found = World().on_interpreter("/a => /#/fs/web", LocalhostConfig(), PORT)

    assert tree_text(found) == "/%/io.l5d.port/4141/%/io.l5d.localhost/#/fs/web"
    assert watched(found).value == endpoints("10.0.0.1:4141")


@pytest.mark.parametrize(
    ("config", "before", "after"),
    [
        (PORT, endpoints("10.0.0.1:80", "10.0.0.1:81"), endpoints("10.0.0.1:4141")),
        (PORT, AddrBound(()), AddrBound(())),
        (PORT, ADDR_NEG, ADDR_NEG),
        (PORT, AddrFailed("x"), AddrFailed("x")),
        (LocalhostConfig(), endpoints("10.0.0.1:80", "10.0.0.2:80"), endpoints("10.0.0.1:80")),
        (LocalhostConfig(), endpoints("10.0.0.2:80"), ADDR_NEG),
        (LocalhostConfig(), AddrBound(()), ADDR_NEG),
        (LocalhostConfig(), ADDR_PENDING, ADDR_PENDING),
        (SpecificHostConfig(host="10.0.0.2"), endpoints("10.0.0.1:80", "10.0.0.2:80"), endpoints("10.0.0.2:80")),
        (SpecificHostConfig(host="0:0::1"), endpoints("::1:80"), endpoints("::1:80")),
        (SpecificHostConfig(host="10.0.0.9"), endpoints("10.0.0.1:80"), ADDR_NEG),
        (SpecificHostConfig(host="node"), endpoints("10.0.0.1:80", "10.0.0.2:80"), endpoints("10.0.0.2:80")),
        (SpecificHostConfig(host="node"), AddrFailed("x"), AddrFailed("x")),
        (SpecificHostConfig(host="slow"), endpoints("10.0.0.1:80"), ADDR_PENDING),
    ],
)  # fmt: skip
def test_addresses(config: TransformerConfig, before: Addr, after: Addr) -> None:
    """What each does to an address; nothing left to keep is Neg."""
    world = World()
    source: Var[Addr] = Var(world.turn, before)
    name = BoundName(Path.read("/#/fs/web"), source)

    found = config.mk(world.deps).transform(BoundLeaf(name), Read())

    assert watched(found).value == after


def test_addresses_are_followed() -> None:
    """A change of the replica set, or of where the host is, arrives transformed."""
    world = World()
    found = world.on_interpreter("/a => /#/fs/web", SpecificHostConfig(host="node"))
    addr = watched(found)
    assert addr.value == endpoints("10.0.0.2:80")

    world.fs.addrs["web"].set(endpoints("10.0.0.2:8080", "10.0.0.4:80"))
    world.turn.run()
    assert addr.value == endpoints("10.0.0.2:8080")

    world.resolver.vars["node", 1].set(endpoints("10.0.0.4:1"))
    world.turn.run()
    assert addr.value == endpoints("10.0.0.4:80")

    world.resolver.vars["node", 1].set(ADDR_NEG)
    world.turn.run()
    assert addr.value == ADDR_NEG


def test_an_observed_address_is_shared() -> None:
    """Transforming the same name again gives the same Var while it is observed, and none is kept after."""
    world = World()
    transformer = PORT.mk(world.deps)
    assert isinstance(transformer, EachAddr)
    tree = BoundLeaf(BoundName(Path.read("/#/fs/web"), world.fs.addrs["web"]))

    first = names(transformer.transform(tree, Read()))[0].addr
    close = first.observe(lambda _addr: None)
    assert names(transformer.transform(tree, Read()))[0].addr is first
    close()

    assert names(transformer.transform(tree, Read()))[0].addr is not first
    assert not world.fs.addrs["web"].observed


def test_status_names_have_no_address_to_change() -> None:
    """A name that answers with a status keeps doing so below the prefix."""
    name = names(World().on_interpreter("/a => /$/io.buoyant.http.status/404", LocalhostConfig()))[0]

    assert (name.status_code, name.id) == (404, Path.read("/%/io.l5d.localhost/$/io.buoyant.http.status/404"))


def test_on_a_namer() -> None:
    """A namer's transformers change its bound names, and nobody else's."""
    world = World()

    assert tree_text(world.on_namer("/#/fs/web/x", PORT)) == "/%/io.l5d.port/4141/#/fs/web + /x"
    assert tree_text(world.on_namer("/$/inet/1", PORT)) == "/$/inet/1"
    assert tree_text(world.on_namer("/#/fs/none", PORT)) == "~"
    world.fs.set("/slow", PENDING)
    assert world.on_namer("/#/fs/slow", PORT) == PENDING
    world.fs.set("/bad", Failed("x"))
    assert world.on_namer("/#/fs/bad", CONST) == Failed("x")


def test_on_a_namer_only_when_every_leaf_is_bound() -> None:
    """An answer with a path in it passes untransformed, its bound leaves included."""
    world = World()
    web = BoundName(Path.read("/#/fs/web"), world.fs.addrs["web"])
    world.fs.set("/mixed", Ok(Alt((Leaf(web), Leaf(Path.read("/svc/x"))))))
    world.fs.set("/both", Ok(Alt((NEG, Leaf(web)))))

    assert tree_text(world.on_namer("/#/fs/mixed", PORT)) == "/#/fs/web"
    assert tree_text(world.on_namer("/#/fs/both", PORT)) == "/%/io.l5d.port/4141/#/fs/web"


def test_const_on_a_namer_ignores_neg() -> None:
    """A tree without leaves has only bound leaves, so const answers even for names that do not exist."""
    assert tree_text(World().on_namer("/#/fs/none", CONST)) == "/%/io.l5d.const/$/inet/127.0.0.1/9"


def test_replaced_by_nothing_asks_the_next_namer() -> None:
    """A namer whose transformed answer is Neg has no such name."""
    world = World()
    nothing = ReplaceConfig(path=Path.read("/svc/x")).mk(world.deps)
    mounts = [mount(world.fs), mount(world.fs, [nothing])]

    assert tree_text(bind(Path.read("/#/fs/web"), Dtab.EMPTY, mounts, world.system, Read())) == "/#/fs/web"


def test_empty_filter_does_not_fall_back() -> None:
    """A name without endpoints here is still the name: fallback is decided on names alone."""
    found = World().on_namer("/a", SpecificHostConfig(host="10.9.9.9"), dtab="/a => /#/fs/web | /#/fs/api")

    assert tree_text(found) == "/%/io.l5d.specificHost/#/fs/web"
    assert watched(found).value == ADDR_NEG


@pytest.mark.parametrize(("port", "mistakes"), [(1, 0), (65535, 0), (0, 1), (65536, 1)])
def test_port_is_checked(port: int, mistakes: int) -> None:
    """A port is 1 to 65535."""
    assert len(PortConfig(port=port).check()) == mistakes
