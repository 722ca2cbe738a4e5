"""Delegation trees: as JSON, as text, and in agreement with binding."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostmesh.base.var import PENDING, Failed, Ok, Read, Turn, Var
from hostmesh.naming.addr import ADDR_NEG, ADDR_PENDING, Addr, AddrBound, AddrFailed, Endpoint
from hostmesh.naming.bind import bind, mount, transformed
from hostmesh.naming.delegate import DelegateTree, addr_json, delegate
from hostmesh.naming.delegate_text import addr_text
from hostmesh.naming.dtab import Dtab
from hostmesh.naming.path import Path
from hostmesh.naming.system import SystemNamers
from hostmesh.naming.transformer import TransformerConfig, TransformerDeps
from hostmesh.naming.transformers import ConstConfig, PortConfig, ReplaceConfig
from tests.fakes_naming import LiteralNamer, LiteralResolver, tree_text

TURN = Turn()
PORT = PortConfig(port=4141)
CONST = ConstConfig(path=Path.read("/$/inet/127.0.0.1/9"))
REPLACE = ReplaceConfig(path=Path.read("/$/inet/127.0.0.1/9"))


class World:
    """A namer that knows web and api, is pending for slow and failed for bad."""

    def __init__(self) -> None:
        self.fs = LiteralNamer(TURN)
        self.fs.add("web", "10.0.0.1:80")
        self.fs.add("api", "10.0.0.2:80", "10.0.0.3:80")
        self.fs.set("/slow", PENDING)
        self.fs.set("/bad", Failed("registry down"))
        resolver = LiteralResolver(TURN)
        self.system = SystemNamers(TURN, resolver)
        self.deps = TransformerDeps(
            turn=TURN, system=self.system, resolver=resolver, local_ips=lambda: frozenset({"10.0.0.1"})
        )

    def delegate(
        self, dtab: str, path: str, *configs: TransformerConfig, on_namer: tuple[TransformerConfig, ...] = ()
    ) -> DelegateTree:
        place = mount(self.fs, [each.mk(self.deps) for each in on_namer])
        transformers = [each.mk(self.deps) for each in configs]
        return delegate(Path.read(path), Dtab.read(dtab), [place], self.system, Read(), transformers)


def addr(*hosts: str) -> dict[str, object]:
    shown = [{"ip": host, "port": 80, "meta": {"endpoint_addr_weight": 1.0}} for host in hosts]
    return {"type": "bound", "addrs": shown, "meta": {}}


WEB = {"addr": addr("10.0.0.1"), "id": "/#/fs/web", "path": "/"}


def test_json_of_two_steps() -> None:
    """Each step has its path and the dentry that led there; the end has the bound name."""
    tree = World().delegate("/svc => /srv ; /srv => /#/fs", "/svc/web")

    assert tree.json() == {
        "type": "delegate",
        "path": "/svc/web",
        "delegate": {
            "type": "delegate",
            "path": "/srv/web",
            "dentry": {"prefix": "/svc", "dst": "/srv"},
            "delegate": {
                "type": "leaf",
                "path": "/#/fs/web",
                "dentry": {"prefix": "/srv", "dst": "/#/fs"},
                "bound": WEB,
            },
        },
    }


def test_json_of_alternatives() -> None:
    """Of several dentries and of an Alt every alternative is shown, also those after the one that is taken."""
    tree = World().delegate("/svc => /#/fs ; /svc/web => ! | /#/fs/none/x", "/svc/web")
    dentry = {"prefix": "/svc/web", "dst": "! | /#/fs/none/x"}

    assert tree.json() == {
        "type": "delegate",
        "path": "/svc/web",
        "delegate": {
            "type": "alt",
            "path": "/svc/web",
            "alt": [
                {
                    "type": "alt",
                    "path": "/svc/web",
                    "dentry": dentry,
                    "alt": [
                        {"type": "fail", "path": "!", "dentry": dentry},
                        {"type": "neg", "path": "/#/fs/none/x", "dentry": dentry},
                    ],
                },
                {
                    "type": "leaf",
                    "path": "/#/fs/web",
                    "dentry": {"prefix": "/svc", "dst": "/#/fs"},
                    "bound": WEB,
                },
            ],
        },
    }


def test_json_of_a_union() -> None:
    """Branches come with their weights."""
    tree = World().delegate("/svc/web => 9 * /#/fs/web & 1 * $", "/svc/web").json()["delegate"]
    dentry = {"prefix": "/svc/web", "dst": "9.00 * /#/fs/web & 1.00 * $"}

    assert tree == {
        "type": "union",
        "path": "/svc/web",
        "dentry": dentry,
        "union": [
            {"weight": 9.0, "tree": {"type": "leaf", "path": "/#/fs/web", "dentry": dentry, "bound": WEB}},
            {"weight": 1.0, "tree": {"type": "empty", "path": "/svc/web", "dentry": dentry}},
        ],
    }


def test_json_of_what_is_not_known() -> None:
    """A failed and a pending namer are exceptions with a message."""
    world = World()

    assert world.delegate("", "/#/fs/bad").json() == {
        "type": "exception",
        "path": "/#/fs/bad",
        "message": "registry down",
    }
    assert world.delegate("", "/#/fs/slow").json() == {
        "type": "exception",
        "path": "/#/fs/slow",
        "message": "no answer yet",
    }


def test_json_of_an_empty_neg_path() -> None:
    """The empty path that is nothing shows as ``~``."""
    assert World().delegate("", "/").json() == {"type": "neg", "path": "~"}


def test_json_of_a_transformation() -> None:
    """A transformer's leaf has the bound name after it, and the tree before it."""
    tree = World().delegate("/svc => /#/fs", "/svc/web", PORT).json()["delegate"]

    assert tree == {
        "type": "transformation",
        "path": "/#/fs/web",
        "dentry": {"prefix": "/svc", "dst": "/#/fs"},
        "name": "/%/io.l5d.port/4141",
        "bound": {
            "addr": {
                "type": "bound",
                "addrs": [{"ip": "10.0.0.1", "port": 4141, "meta": {"endpoint_addr_weight": 1.0}}],
                "meta": {},
            },
            "id": "/%/io.l5d.port/4141/#/fs/web",
            "path": "/",
        },
        "tree": {
            "type": "leaf",
            "path": "/#/fs/web",
            "dentry": {"prefix": "/svc", "dst": "/#/fs"},
            "bound": WEB,
        },
    }


def test_const_is_around_the_whole() -> None:
    """A transformer that ignores its input is shown around everything it ignores."""
    tree = World().delegate("/svc => ~", "/svc/web", CONST)

    assert (tree.type, tree.delegate and tree.delegate.type) == ("transformation", "delegate")
    assert tree_text(tree.state) == "/%/io.l5d.const/$/inet/127.0.0.1/9"


@pytest.mark.parametrize(
    ("value", "json"),
    [
        (None, {"type": "pending"}),
        (ADDR_PENDING, {"type": "pending"}),
        (ADDR_NEG, {"type": "neg"}),
        (AddrFailed("x"), {"type": "failed", "cause": "x"}),
        (
            AddrBound([Endpoint("::1", 80, 2.0, (("nodeName", "n1"),))]),
            {
                "type": "bound",
                "addrs": [{"ip": "::1", "port": 80, "meta": {"endpoint_addr_weight": 2.0, "nodeName": "n1"}}],
                "meta": {},
            },
        ),
    ],
)
def test_addr_json(value: Addr | None, json: dict[str, object]) -> None:
    """Every state of an address."""
    assert addr_json(value) == json


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (AddrBound([Endpoint("::1", 80, 2.0)]), "[::1]:80 * 2.00"),
        (AddrBound(()), "no endpoints"),
        (
            AddrBound(Endpoint("10.0.0.1", port) for port in range(1, 8)),
            "10.0.0.1:1, 10.0.0.1:2, 10.0.0.1:3, 10.0.0.1:4, 10.0.0.1:5 and 2 more",
        ),
        (ADDR_NEG, "no replica set"),
        (AddrFailed("x"), "address unknown: x"),
        (ADDR_PENDING, "address not known yet"),
    ],
)
def test_addr_text(value: Addr, text: str) -> None:
    """A replica set fits in a line."""
    assert addr_text(value) == text


def test_render() -> None:
    """The terminal shows what is taken and what is passed over."""
    dtab = """
    /svc => /#/fs ;
    /svc/web => 9 * /srv/v1 & 1 * $ & ! ;
    /svc/web => /#/fs/none | /#/fs/slow ;
    /svc/web => ~ ;
    /srv/v1 => /$/io.buoyant.http.status/404 | /#/fs/api/x ;
    """

    assert World().delegate(dtab, "/svc/web").render() == [
        "* /svc/web",
        "  * /svc/web, the first that exists of",
        "    - /svc/web: ~ no such name  (/svc/web => ~)",
        "    * /svc/web, the first that exists of  (/svc/web => /#/fs/none | /#/fs/slow)",
        "      - /#/fs/none: ~ no such name  (/svc/web => /#/fs/none | /#/fs/slow)",
        "      * /#/fs/slow: no answer yet  (/svc/web => /#/fs/none | /#/fs/slow)",
        "    - /svc/web, split over  (/svc/web => 9.00 * /srv/v1 & 1.00 * $ & 1.00 * !)",
        "      - 9.00 * /srv/v1  (/svc/web => 9.00 * /srv/v1 & 1.00 * $ & 1.00 * !)",
        "        - /srv/v1, the first that exists of  (/srv/v1 => /$/io.buoyant.http.status/404 | /#/fs/api/x)",
        "          - /$/io.buoyant.http.status/404: always answers 404"
        "  (/srv/v1 => /$/io.buoyant.http.status/404 | /#/fs/api/x)",
        "          - /#/fs/api/x, bound /#/fs/api: 10.0.0.2:80, 10.0.0.3:80, residual /x"
        "  (/srv/v1 => /$/io.buoyant.http.status/404 | /#/fs/api/x)",
        "      - 1.00 * /svc/web: $ nobody there  (/svc/web => 9.00 * /srv/v1 & 1.00 * $ & 1.00 * !)",
        "      - 1.00 * /svc/web: ! refused, no fallback  (/svc/web => 9.00 * /srv/v1 & 1.00 * $ & 1.00 * !)",
        "    - /#/fs/web: 10.0.0.1:80  (/svc => /#/fs)",
    ]


def test_render_transformations() -> None:
    """A transformer's effect is a step of its own."""
    assert World().delegate("", "/#/fs/web/x", PORT).render() == [
        "* /#/fs/web/x through /%/io.l5d.port/4141: 10.0.0.1:4141, residual /x",
        "  * /#/fs/web/x, bound /#/fs/web: 10.0.0.1:80, residual /x",
    ]
    assert World().delegate("", "/#/fs/web", ReplaceConfig(path=Path.of("x"))).render() == [
        "* /#/fs/web through /%/io.l5d.replace: no such name",
        "  * /#/fs/web: 10.0.0.1:80",
    ]


def test_render_a_failed_transformation() -> None:
    """A transformer that cannot bind its own path is named as the one at fault."""
    tree = World().delegate("", "/#/fs/web", ReplaceConfig(path=Path.read("/$/nope")))

    assert tree.render() == ["* /#/fs/web: /%/io.l5d.replace: Unknown namer: nope for path /$/nope"]
    assert isinstance(tree.state, Failed)


def test_pending() -> None:
    """A tree is pending while a namer or an address in it is."""
    world = World()

    assert world.delegate("", "/#/fs/slow").pending
    assert world.delegate("/a => /#/fs/web | /#/fs/slow", "/a").pending
    assert not world.delegate("", "/#/fs/web").pending
    assert not world.delegate("", "/#/fs/bad").pending
    world.fs.add("new")
    assert world.delegate("", "/#/fs/new").pending


def test_p5_loops_are_nodes() -> None:
    """A loop is shown where it closes, and the rest of the tree stays readable."""
    tree = World().delegate("/a => /b | /#/fs/web ; /b => /a", "/a")

    assert "the dtab loops: /a -> /b -> /a" in "\n".join(tree.render())
    assert isinstance(tree.state, Failed)


@pytest.mark.parametrize(
    ("dtab", "words"),
    [
        ("/a => /a/b", "Max recursion level: 100"),
        ("/a => " + "(~ | " * 30 + "/a/x" + ")" * 30, "levels"),
        (
            ";".join(f"/a{n} => /a{n + 1}/x | /a{n + 1}/y" for n in range(20)) + "; /a => /a0",
            "paths too long",
        ),
        ("/a => " + " & ".join(["/b"] * 100) + "; /b => " + " | ".join(["/c"] * 100), "more than 1000 paths"),
    ],
)
def test_p5_explorations_are_bounded(dtab: str, words: str) -> None:
    """Depth, nesting and number of paths end the exploration with a node that says so."""
    tree = World().delegate(dtab, "/a")

    messages = {each.message for each in tree.walk()}
    assert any(words in message for message in messages)
    assert sum(1 for _ in tree.walk()) < 4000


def test_an_explosion_beside_the_way_does_not_matter() -> None:
    """Exploring goes into what binding passes over; the outcome is still that of binding."""
    tree = World().delegate("/a => /a/b ; /a => /#/fs/none | /#/fs/web/x", "/a")

    assert tree_text(tree.state) == "/#/fs/web + /x"


def test_overlapping_namers_are_alternatives() -> None:
    """Namers with one prefix are asked in turn, and each answer is shown."""
    world = World()
    other = LiteralNamer(TURN)
    other.add("web", "10.0.0.9:80")
    mounts = [mount(world.fs), mount(other)]

    def explored(path: str) -> DelegateTree:
        return delegate(Path.read(path), Dtab.EMPTY, mounts, world.system, Read())

    both, one, none = explored("/#/fs/web"), explored("/#/fs/api"), explored("/#/fs/none")

    assert both.delegate is not None
    assert [each.bound and each.bound.addr for each in both.delegate.alternatives] == [
        other.addrs["web"],
        world.fs.addrs["web"],
    ]
    assert (one.type, none.type) == ("leaf", "neg")


SEGMENTS = ("a", "b", "web", "api", "bad", "slow", "none")
names = st.sampled_from(
    [*(f"/#/fs/{each}" for each in SEGMENTS), "/a", "/b", "/$/nil", "~", "!", "$", "/a/b"]
)
trees = st.lists(names, min_size=1, max_size=3).flatmap(
    lambda each: st.sampled_from([" | ", " & "]).map(lambda sign: sign.join(each))
)
dentries = st.builds("{} => {}".format, st.sampled_from(["/a", "/b", "/a/*", "/#/fs/web", "/"]), trees)
dtabs = st.lists(dentries, max_size=4).map(" ; ".join)


@settings(deadline=None)
@given(
    dtabs, st.sampled_from(["/a", "/b/web", "/#/fs/web/x", "/x"]), st.sampled_from([(), (PORT,), (REPLACE,)])
)
def test_the_outcome_is_what_binding_says(
    dtab: str, path: str, configs: tuple[TransformerConfig, ...]
) -> None:
    """An explanation ends where binding ends, for any dtab."""
    world = World()
    transformers = [each.mk(world.deps) for each in configs]
    bound = bind(Path.read(path), Dtab.read(dtab), [mount(world.fs)], world.system, Read())
    bound = transformed(bound, transformers, Read())

    tree = world.delegate(dtab, path, *configs)

    if isinstance(bound, Ok):
        assert tree.state == bound
    else:
        assert type(tree.state) is type(bound)


def test_on_namer_transformers_show() -> None:
    """A namer's own transformers are steps, too."""
    tree = World().delegate("", "/#/fs/web", on_namer=(PORT,))

    assert tree_text(tree.state) == "/%/io.l5d.port/4141/#/fs/web"
    assert tree.type == "transformation"
    source: Var[Addr] | None = tree.bound and tree.bound.addr
    assert source is not None
