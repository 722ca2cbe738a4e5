"""ZooKeeper names below ``/$/``: which servers a path may name, and how many at the same time."""

from __future__ import annotations

from pathlib import Path as FilePath

import pytest

from hostmesh.base.var import Failed, Pending, Var
from hostmesh.naming.namer import NamerDeps
from hostmesh.naming.path import Path
from namer.zk_config import ZkNamerConfig
from namer.zk_system import MAX_ENSEMBLES, MAX_SERVERS, LeaderNamers, ServersetNamers, servers_in
from tests.fs_world import World


def namers(
    world: World, cls: type[ServersetNamers] | type[LeaderNamers] = ServersetNamers
) -> ServersetNamers:
    made = cls(
        NamerDeps(
            env=world.env,
            turn=world.turn,
            prefix=Path.read("/$/com.twitter.serverset"),
            metrics=world.metrics,
            resolver=world.shared.resolver,
            report=world.report,
            shared=world.shared,
        )
    )
    assert isinstance(made, ServersetNamers | LeaderNamers)
    return made  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        ("zk1:2181", [("zk1", 2181)]),
        ("zk1", [("zk1", 2181)]),
        ("zk1:1,zk2:2", [("zk1", 1), ("zk2", 2)]),
        ("10.0.0.1:2181::zk-2.example_x:2182", [("10.0.0.1", 2181), ("zk-2.example_x", 2182)]),
    ],
)
def test_servers(segment: str, expected: list[tuple[str, int]]) -> None:
    """Separated as finagle and as Linkerd write it; 2181 is ZooKeeper's own port."""
    assert [(server.host, server.port) for server in servers_in(segment)] == expected


@pytest.mark.parametrize(
    "segment",
    [
        "",
        ":2181",
        "zk1:0",
        "zk1:65536",
        "zk1:x",
        "zk1,",
        "zk1/..:2181",
        "-zk:1",
        "zk 1",
        "169.254.169.254:2181",
        "0.0.0.0:2181",
        "224.0.0.1:2181",
        ",".join(["zk:1"] * (MAX_SERVERS + 1)),
    ],
)
def test_x8_what_is_no_server_is_not_asked(segment: str) -> None:
    """A request's dtab may hold anything."""
    with pytest.raises(ValueError, match="expected"):
        servers_in(segment)


def test_too_short_a_path_says_what_is_expected(tmp_path: FilePath) -> None:
    """Servers alone are no name."""
    found = namers(World(tmp_path)).lookup(Path.read("/zk:2181"))

    assert isinstance(found, Failed)
    assert "expected /$/com.twitter.serverset/<servers>/<zk path>" in found.cause


@pytest.mark.parametrize("cls", [ServersetNamers, LeaderNamers])
def test_x8_ensembles_in_use_are_bounded(
    cls: type[ServersetNamers] | type[LeaderNamers], tmp_path: FilePath
) -> None:
    """Above the bound names are Failed; one that nobody uses any more makes room and leaves nothing behind."""

    async def test(world: World) -> None:
        found = namers(world, cls)
        closers = []
        for number in range(MAX_ENSEMBLES):
            lookup = found.lookup(Path.read(f"/127.0.0.1:{number + 1}/web"))
            assert isinstance(lookup, Var)
            assert found.lookup(Path.read(f"/127.0.0.1:{number + 1}/web")) is not None
            closers.append(lookup.observe(lambda _state: None))
            assert isinstance(lookup.value, Pending)
        refused = found.lookup(Path.read("/127.0.0.1:99/web"))
        assert isinstance(refused, Failed)
        assert f"more than {MAX_ENSEMBLES} ensembles" in refused.cause
        closers.pop(0)()
        await world.until(lambda: len(found.bound_names()) == MAX_ENSEMBLES - 1)
        assert isinstance(found.lookup(Path.read("/127.0.0.1:99/web")), Var)
        for close in closers:
            close()
        await world.until(lambda: found.bound_names() == [])

    World(tmp_path).run(test)


def test_t2_ensembles_of_paths_are_wary_of_what_names_mean(tmp_path: FilePath) -> None:
    """A request may have named them; one of the configuration may be anywhere, and is another client."""
    world = World(tmp_path)
    made = namers(world)
    made.lookup(Path.read("/zk1:2181/discovery/web"))
    assert [namer.ensemble.place.named_by_path for namer in made._namers.values()] == [True]
    assert not ZkNamerConfig(kind="io.l5d.serversets", zk_addrs=servers_in("zk1:2181")).place.named_by_path
