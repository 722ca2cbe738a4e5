"""The rewrite namer."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import pytest

from hostmesh.base.var import Ok, Read, Turn
from hostmesh.naming.bind import bind, mount
from hostmesh.naming.dtab import Dtab
from hostmesh.naming.namer import Metrics, NamerDeps
from hostmesh.naming.nametree import NEG, Leaf
from hostmesh.naming.path import Path
from hostmesh.naming.system import SystemNamers
from namer.rewrite import RewriteConfig, RewriteNamer
from tests.fakes_naming import LiteralNamer, LiteralResolver, tree_text

TURN = Turn()


class Nothing:
    """Env, metrics and reports for a namer that uses none of them."""

    value = 0

    def now(self) -> float:
        return 0.0

    def wall(self) -> float:
        return 0.0

    def rng(self, name: str) -> Random:
        return Random(name)

    def scope(self, *_names: str) -> Metrics:
        return self

    def counter(self, _name: str) -> Nothing:
        return self

    def gauge(self, _name: str, _fn: object) -> object:
        return self

    def report(self, _event: str, _facts: Mapping[str, Any]) -> None: ...


def make(pattern: str, name: str) -> RewriteNamer:
    config = RewriteConfig(kind="io.l5d.rewrite", prefix=Path.of("rw"), pattern=pattern, name=name)
    nothing = Nothing()
    assert config.check() == []
    return config.mk(
        NamerDeps(
            env=nothing,
            turn=TURN,
            prefix=config.prefix_in_force,
            metrics=nothing,
            resolver=LiteralResolver(TURN),
            report=nothing.report,
        )
    )


@pytest.mark.parametrize(
    ("pattern", "name", "path", "answer"),
    [
        ("/{service}/api", "/srv/{service}", "/web/api", "/srv/web"),
        ("/{service}/api", "/srv/{service}", "/web/api/rest", "/srv/web"),
        ("/{service}/api", "/srv/{service}", "/web/other", None),
        ("/{service}/api", "/srv/{service}", "/web", None),
        ("/{s}.{d}", "/{d}/{s}/{d}", "/a.b", "/b/a/b"),
        ("/*", "/fixed", "/any/thing", "/fixed"),
        ("/", "/all", "/", "/all"),
        ("/{a}-{b}", "/x/{a}", "/-b", None),
    ],
)
def test_lookup(pattern: str, name: str, path: str, answer: str | None) -> None:
    """A match is the substituted path and what follows is dropped; anything else is no such name."""
    found = make(pattern, name).lookup(Path.read(path)).value

    assert found == Ok(NEG if answer is None else Leaf(Path.read(answer)))


def test_the_answer_goes_through_the_dtab() -> None:
    """A rewritten path is resolved like any other."""
    fs = LiteralNamer(TURN)
    fs.add("web", "10.0.0.1:80")
    mounts = [mount(fs), mount(make("/{service}/api", "/srv/{service}"))]
    system = SystemNamers(TURN, LiteralResolver(TURN))

    found = bind(
        Path.read("/svc/web/api"), Dtab.read("/svc => /#/rw ; /srv => /#/fs"), mounts, system, Read()
    )

    assert tree_text(found) == "/#/fs/web"


def test_same_var_while_observed() -> None:
    """The same path is one Var as long as it is observed, and nothing is kept after."""
    namer = make("/{a}", "/x/{a}")
    path = Path.of("web")

    answer = namer.lookup(path)
    close = answer.observe(lambda _state: None)
    assert namer.lookup(path) is answer
    assert namer.state() == {"pattern": "/{a}", "name": "/x/{a}", "observed": 1}
    close()

    assert namer.state() == {"pattern": "/{a}", "name": "/x/{a}", "observed": 0}
    assert namer.lookup(path) is not answer


@pytest.mark.parametrize(
    ("pattern", "name", "mistake"),
    [
        ("a", "/x", "pattern: 'a': a prefix starts with '/'"),
        ("/{a}", "x", "name: 'x' is no path"),
        ("/{a}", "/x/{b}/{c}", "name: {b} is not in the pattern, which has {a}"),
        ("/a", "/x/{b}", "name: {b} is not in the pattern, which has no variables"),
    ],
)
def test_check(pattern: str, name: str, mistake: str) -> None:
    """Mistakes are found before anything runs."""
    config = RewriteConfig(prefix=Path.of("rw"), pattern=pattern, name=name)

    assert config.check()[0].startswith(mistake)
