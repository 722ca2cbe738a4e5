"""The ZooKeeper namers and announcer against a real ZooKeeper 3.8."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from kazoo.security import make_digest_acl

from hostmesh.base.var import Failed
from hostmesh.naming.addr import AddrBound
from namer.serversets import ServersetsConfig
from namer.zk_config import ZkAddr, ZkAuth
from tests.servers.running import eventually
from tests.servers.zookeeper_scenarios import SCENARIOS, play
from tests.servers.zookeeper_server import ZooKeeperServer, end, member
from tests.wire.endpoint import ROOT
from tests.wire.harness import EndpointServer, Hostmesh, free_port
from tests.zk_world import ZkWorld

CONFIG = ROOT / "config" / "serversets.yaml"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperServer]:
    with ZooKeeperServer(tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


@pytest.fixture
def fresh(server: ZooKeeperServer) -> ZooKeeperServer:
    """The server without nodes of other tests."""
    for child in server.children("/"):
        if child != "zookeeper":
            server.client.delete(f"/{child}", recursive=True)
    return server


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["killed_with_data", "session_expired", "emptied_and_refilled", "blackholed"]
)
def test_trouble(name: str, tmp_path: Path) -> None:
    """Under load no request fails while an endpoint lives, none takes a stale route, and the journal is true."""
    print(play(name, tmp_path, outage_s=2.0))


def test_every_scenario_is_documented() -> None:
    """The runner's list says what each scenario does."""
    assert all(scenario.__doc__ for scenario, _options in SCENARIOS.values())


def test_a_name_is_followed_from_its_creation_to_its_end(fresh: ZooKeeperServer, tmp_path: Path) -> None:
    """What does not exist is NEG; members come and go; without any the name is NEG again, and the journal has it."""
    world = ZkWorld(tmp_path, fresh.port)

    async def test(_world: ZkWorld) -> None:
        name = world.follow("/prod/web/rest")
        await world.until(lambda: name.is_neg)
        one = fresh.put("/prod/web", "127.0.0.1", 1)
        await world.until(lambda: name.ports == [1])
        two = fresh.put("/prod/web", "127.0.0.1", 2)
        await world.until(lambda: name.ports == [1, 2])
        fresh.remove(one)
        await world.until(lambda: name.ports == [2])
        fresh.remove(two)
        await world.until(lambda: name.is_neg)
        name.close()

    world.run(test)

    assert world.journal("/prod/web") == [
        ("absent", ""),
        ("add", "127.0.0.1:1"),
        ("add", "127.0.0.1:2"),
        ("remove", "127.0.0.1:1"),
        ("remove", "127.0.0.1:2"),
        ("absent", ""),
    ]


def test_the_longest_path_wins(fresh: ZooKeeperServer, tmp_path: Path) -> None:
    """A path is shortened until it is a serverset, the rest is the residual; a longer one takes over when it comes."""
    world = ZkWorld(tmp_path, fresh.port)
    fresh.put("/prod/web", "127.0.0.1", 1)

    async def test(_world: ZkWorld) -> None:
        name = world.follow("/prod/web/v2/users")
        await world.until(lambda: name.ports == [1])
        assert name.tree.value.value.residual.show() == "/v2/users"  # type: ignore[attr-defined]
        fresh.put("/prod/web/v2", "127.0.0.1", 2)
        await world.until(lambda: name.ports == [2])
        assert name.tree.value.value.id.show() == "/#/io.l5d.zk/prod/web/v2"  # type: ignore[attr-defined]
        name.close()

    world.run(test)


def test_a_name_chooses_an_additional_endpoint(fresh: ZooKeeperServer, tmp_path: Path) -> None:
    """``:http`` takes that endpoint of the members that have it, and is another name than the set itself."""
    world = ZkWorld(tmp_path, fresh.port)
    fresh.put("/web", "127.0.0.1", 1, additionalEndpoints={"http": {"host": "127.0.0.1", "port": 81}})
    fresh.put("/web", "127.0.0.1", 2)

    async def test(_world: ZkWorld) -> None:
        plain, http, other = world.follow("/web"), world.follow("/web:http"), world.follow("/web:thrift")
        await world.until(lambda: plain.ports == [1, 2] and http.ports == [81] and other.is_neg)
        for name in (plain, http, other):
            name.close()

    world.run(test)


def test_vectors_and_host_names(fresh: ZooKeeperServer, tmp_path: Path) -> None:
    """A vector weighs members, and a member may be written with a host name."""
    world = ZkWorld(tmp_path, fresh.port)
    fresh.put("/web", "localhost", 1, shard=7)
    fresh.put_raw("/web", json.dumps({"vector": [{"select": "shard=7", "weight": 0.5}]}).encode(), "vector_")

    async def test(_world: ZkWorld) -> None:
        name = world.follow("/web")
        await world.until(lambda: isinstance(name.addr, AddrBound) and bool(name.addr.endpoints))
        assert isinstance(name.addr, AddrBound)
        found = {(each.host, each.port, each.weight) for each in name.addr.endpoints}
        assert ("127.0.0.1", 1, 0.5) in found
        name.close()

    world.run(test)


SYSTEM = """\
admin: {ip: 127.0.0.1, port: @admin@}
routers:
- protocol: http
  dtab: |
    /svc => /$/com.twitter.serverset/127.0.0.1:@zookeeper@/prod;
    /svc/leader => /$/io.buoyant.namer.zk.leader/127.0.0.1:@zookeeper@/election;
  servers:
  - {port: @port@, ip: 127.0.0.1}
"""


def test_names_below_the_system_root(fresh: ZooKeeperServer, tmp_path: Path) -> None:
    """Servers in the path: a serverset and a leader are followed without a namer in the configuration, with state and
    journal, and the session ends with the use of the names."""
    with (
        EndpointServer("one") as one,
        EndpointServer("two") as two,
        Hostmesh(tmp_path, SYSTEM, ports={"zookeeper": fresh.port}) as mesh,
    ):
        before = fresh.connections()
        member = fresh.put("/prod/web", "127.0.0.1", one.port)
        fresh.put_raw("/election", f"127.0.0.1:{two.port}".encode(), "candidate_")
        assert mesh.get(host="web").endpoint == "one"
        assert mesh.get(host="leader").endpoint == "two"
        assert fresh.connections() == before + 1
        fresh.put("/prod/web", "127.0.0.1", two.port)
        fresh.remove(member)
        mesh.wait(lambda: mesh.get(host="web").endpoint == "two", "the change is followed")
        refused = mesh.get(host="web", l5d_dtab="/svc=>/$/com.twitter.serverset/169.254.169.254:2181/x;")

        assert refused.status == 502
        place = f"127.0.0.1:{fresh.port}"
        state = mesh.admin("/namer_state/$/com.twitter.serverset.json").json()
        assert list(state["state"]) == [place]
        journal = mesh.admin("/namer_journal.json?namer=$/com.twitter.serverset").text
        assert f"/$/com.twitter.serverset/{place}/prod/web" in journal


def test_the_leader_is_followed(fresh: ZooKeeperServer, tmp_path: Path) -> None:
    """The candidate with the lowest number leads; when it goes the next leads at once, whatever the hold."""
    world = ZkWorld(tmp_path, fresh.port, leader=True, hold_ms=30_000)
    first = fresh.put_raw("/election", b"127.0.0.1:1,127.0.0.1:2", "candidate_")
    fresh.put_raw("/election", b"127.0.0.1:3", "candidate_")

    async def test(_world: ZkWorld) -> None:
        name = world.follow("/election/path")
        await world.until(lambda: name.ports == [1, 2])
        fresh.remove(first)
        await world.until(lambda: name.ports == [3])
        name.close()

    world.run(test)


def test_hostile_members_are_left_out_and_counted(fresh: ZooKeeperServer, tmp_path: Path) -> None:
    """What is malformed is counted and named in the log; the good members are used."""
    world = ZkWorld(tmp_path, fresh.port)
    fresh.put("/web", "127.0.0.1", 1)
    hostile = [
        b"",
        b"\xff" * 1000,
        b"x" * 500_000,
        b"[" * 60_000,
        json.dumps(member("169.254.169.254", 80)).encode(),
        json.dumps(member("10.0.0.1", 99999)).encode(),
        json.dumps(member("a\r\nb", 80)).encode(),
        json.dumps(member("127.0.0.1", 1)).encode(),
    ]
    for content in hostile:
        fresh.put_raw("/web", content)

    async def test(_world: ZkWorld) -> None:
        name = world.follow("/web")
        await world.until(lambda: name.ports is not None)
        assert name.ports == [1]
        name.close()

    world.run(test)

    assert world.zk.malformed.value == 7
    assert {event for event, _ in world.reports} >= {"names.malformed"}


def test_only_malformed_members_are_an_error(fresh: ZooKeeperServer, tmp_path: Path) -> None:
    """A set of which nothing can be read is not an empty set: what was known stays, with the error beside it."""
    world = ZkWorld(tmp_path, fresh.port)
    good = fresh.put("/web", "127.0.0.1", 1)

    async def test(_world: ZkWorld) -> None:
        name = world.follow("/web")
        await world.until(lambda: name.ports == [1])
        fresh.put_raw("/web", b"not JSON")
        fresh.remove(good)
        await world.until(lambda: "names.source_failed" in world.reported())
        await world.quiet(0.5, lambda: name.ports == [1])
        name.close()

    world.run(test)


def test_a_node_with_too_many_children_is_an_error(
    fresh: ZooKeeperServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound holds for children of any kind; what was known stays."""
    world = ZkWorld(tmp_path, fresh.port)
    monkeypatch.setattr("namer.zk_name.MAX_CHILDREN", 3)
    fresh.put("/web", "127.0.0.1", 1)

    async def test(_world: ZkWorld) -> None:
        name = world.follow("/web")
        await world.until(lambda: name.ports == [1])
        for number in range(3):
            fresh.client.create(f"/web/other{number}")
        await world.until(lambda: "names.source_failed" in world.reported())
        assert name.ports == [1]
        name.close()

    world.run(test)


def test_another_server_takes_over(tmp_path: Path) -> None:
    """Of three servers the one in use dies: within 5 s, in the same session, changes are followed again."""
    peers = tuple((free_port(), free_port()) for _ in range(3))
    servers = []
    for number in (1, 2, 3):
        folder = tmp_path / str(number)
        folder.mkdir()
        servers.append(ZooKeeperServer(folder, number=number, peers=peers))
    world = ZkWorld(tmp_path, 0)
    config = ServersetsConfig(
        kind="io.l5d.zk", zk_addrs=tuple(ZkAddr(host="127.0.0.1", port=server.port) for server in servers)
    )
    world.use(config)

    async def test(_world: ZkWorld) -> None:
        name = world.follow("/web")
        first = await trio.to_thread.run_sync(servers[0].put, "/web", "127.0.0.1", 1)
        await world.until(lambda: name.ports == [1])
        session, connects = world.zk.ensemble.session, world.zk.ensemble.connects
        used = next(server for server in servers if f"0x{session}" in server.word("cons"))
        servers[0].close_client()
        await trio.to_thread.run_sync(used.kill)
        left = next(server for server in servers if server is not used)
        await world.until(lambda: world.zk.ensemble.connects > connects, 5)
        await trio.to_thread.run_sync(left.wait_ready)
        await trio.to_thread.run_sync(left.put, "/web", "127.0.0.1", 2)
        await world.until(lambda: name.ports == [1, 2])
        await trio.to_thread.run_sync(left.remove, first)
        await world.until(lambda: name.ports == [2])
        assert world.zk.ensemble.session == session
        assert not name.had_a_gap
        name.close()

    try:
        for server in servers:
            server.launch()
        for server in servers:
            server.wait_ready()
        world.run(test)
    finally:
        for server in servers:
            server.close_client()
            server.kill()


def test_watches_equal_names_in_use(fresh: ZooKeeperServer, tmp_path: Path) -> None:
    """Names share a session; each has one watch, however often it changed and reconnected, and none when unused."""
    world = ZkWorld(tmp_path, fresh.port)
    for number in range(20):
        fresh.put(f"/many/{number}", "127.0.0.1", 1)

    async def test(_world: ZkWorld) -> None:
        threads = threading.active_count()
        names = [world.follow(f"/many/{number}") for number in range(20)]
        await world.until(lambda: all(name.ports == [1] for name in names))
        for number in range(20):
            fresh.put(f"/many/{number}", "127.0.0.1", 2)
        await world.until(lambda: all(name.ports == [1, 2] for name in names))
        for _ in range(3):
            before = world.zk.ensemble.session
            assert before is not None
            fresh.expire(before)
            await world.until(lambda before=before: world.zk.ensemble.session != before)  # type: ignore[misc]
            await world.until(lambda: fresh.watches() == 20)
        assert threading.active_count() - threads <= 2
        for name in names[:15]:
            name.close()
        await world.until(lambda: world.zk.ensemble.watches == 5)
        await trio.to_thread.run_sync(lambda: eventually(lambda: fresh.watches() == 5 or None))
        for name in names[15:]:
            name.close()
        await trio.to_thread.run_sync(lambda: eventually(lambda: fresh.watches() == 0 or None))

    world.run(test)


def test_protected_nodes_need_the_credential(fresh: ZooKeeperServer, tmp_path: Path) -> None:
    """With ``authInfo`` a protected set is read; without it the name is Failed and says why, never NEG."""
    owner = fresh.connect(auth_data=[("digest", "mesh:secret")])
    acl = [make_digest_acl("mesh", "secret", all=True)]
    content = json.dumps(member("127.0.0.1", 1)).encode()
    owner.create("/private", acl=acl)
    owner.create("/private/member_", content, acl=acl, sequence=True)

    async def allowed(world: ZkWorld) -> None:
        name = world.follow("/private")
        await world.until(lambda: name.ports == [1])
        name.close()

    async def refused(world: ZkWorld) -> None:
        name = world.follow("/private")
        await world.until(lambda: isinstance(name.tree, Failed))
        assert "NoAuth" in name.tree.cause  # type: ignore[attr-defined]
        name.close()

    ZkWorld(tmp_path, fresh.port, auth_info=ZkAuth(auth="mesh:secret")).run(allowed)
    ZkWorld(tmp_path, fresh.port).run(refused)
    owner.delete("/private", recursive=True)
    end(owner)


def test_the_registry_may_come_later(tmp_path: Path) -> None:
    """Before there is a server a name is Pending, then Failed with the cause, and found when the server comes."""
    later = ZooKeeperServer(tmp_path)
    world = ZkWorld(tmp_path, later.port)

    async def test(_world: ZkWorld) -> None:
        name = world.follow("/web")
        assert name.is_pending
        await world.until(lambda: isinstance(name.tree, Failed), 10)
        assert "not connected" in name.tree.cause  # type: ignore[attr-defined]
        await trio.to_thread.run_sync(later.start)
        await trio.to_thread.run_sync(later.put, "/web", "127.0.0.1", 1)
        await world.until(lambda: name.ports == [1])
        name.close()

    try:
        world.run(test)
    finally:
        later.close_client()
        later.kill()


def test_a_member_is_announced_and_taken_back(fresh: ZooKeeperServer, tmp_path: Path) -> None:
    """One member per name, readable as any other; none is left when the announcer is stopped."""
    world = ZkWorld(tmp_path, fresh.port)
    announcer = world.announcer("/prod/web", "/prod/api")

    async def test(_world: ZkWorld) -> None:
        name = world.follow("/discovery/prod/web")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(announcer.run)
            await world.until(lambda: name.ports == [4140])
            await trio.to_thread.run_sync(
                lambda: eventually(lambda: len(fresh.children("/discovery/prod/api")) == 1 or None)
            )
            nursery.cancel_scope.cancel()
        assert fresh.children("/discovery/prod/web") == []
        assert fresh.children("/discovery/prod/api") == []
        name.close()

    world.run(test)


def test_an_announcement_survives_sessions_and_deletion(fresh: ZooKeeperServer, tmp_path: Path) -> None:
    """A new session or a deleted member means a new member, and there is never more than one."""
    world = ZkWorld(tmp_path, fresh.port)
    announcer = world.announcer("/web")

    def nodes() -> list[str]:
        return fresh.children("/discovery/web")

    async def wait_other(before: list[str]) -> list[str]:
        def other() -> list[str] | None:
            now = nodes()
            return now if len(now) == 1 and now != before else None

        return await trio.to_thread.run_sync(lambda: eventually(other))

    async def test(_world: ZkWorld) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(announcer.run)
            node = await wait_other([])
            for _ in range(2):
                session = announcer.ensemble.session
                assert session is not None
                await trio.to_thread.run_sync(fresh.expire, session)
                node = await wait_other(node)
                await trio.to_thread.run_sync(fresh.remove, f"/discovery/web/{node[0]}")
                node = await wait_other(node)
            nursery.cancel_scope.cancel()

    world.run(test)

    assert nodes() == []


def test_members_of_a_private_announcer_are_ours(fresh: ZooKeeperServer, tmp_path: Path) -> None:
    """With ``authInfo`` everybody may read a member and only we may change it."""
    world = ZkWorld(tmp_path, fresh.port)
    announcer = world.announcer("/web", auth_info=ZkAuth(auth="mesh:secret"))

    async def test(_world: ZkWorld) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(announcer.run)
            await trio.to_thread.run_sync(
                lambda: eventually(lambda: len(fresh.children("/discovery/web")) == 1 or None)
            )
            node = f"/discovery/web/{fresh.children('/discovery/web')[0]}"
            content, _stat = fresh.client.get(node)
            acls, _stat = fresh.client.get_acls(node)
            assert json.loads(content)["serviceEndpoint"] == {"host": "10.9.9.9", "port": 4140}
            assert {acl.id.scheme: acl.acl_list for acl in acls} == {"world": ["READ"], "digest": ["ALL"]}
            nursery.cancel_scope.cancel()

    world.run(test)


ANNOUNCING = """\
admin: {ip: 127.0.0.1, port: @admin@}
namers:
- kind: io.l5d.serversets
  zkAddrs: [{host: 127.0.0.1, port: @zookeeper@}]
routers:
- protocol: http
  announcers:
  - kind: io.l5d.serversets
    zkAddrs: [{host: 127.0.0.1, port: @zookeeper@}]
    sessionTimeoutMs: 2000
    pathPrefix: /discovery/prod
  dtab: |
    /svc => /#/io.l5d.serversets/discovery/prod;
  servers:
  - {port: @port@, ip: 127.0.0.1, announce: [/#/io.l5d.serversets/mesh]}
"""


def test_a_daemon_announces_its_server(fresh: ZooKeeperServer, tmp_path: Path) -> None:
    """The server is a member while the daemon serves, is withdrawn by a stop, and after kill -9 goes with its
    session."""

    def members() -> list[str]:
        return fresh.children("/discovery/prod/mesh")

    with Hostmesh(tmp_path, ANNOUNCING, ports={"zookeeper": fresh.port}) as mesh:
        mesh.wait(lambda: len(members()) == 1, "announced")
        content, _stat = fresh.client.get(f"/discovery/prod/mesh/{members()[0]}")
        assert json.loads(content)["serviceEndpoint"] == {"host": "127.0.0.1", "port": mesh.port}
        mesh.terminate()
        assert mesh.wait_exit() == 0
    assert members() == []

    with Hostmesh(tmp_path, ANNOUNCING, ports=mesh.ports) as mesh:
        mesh.wait(lambda: len(members()) == 1, "announced")
        assert mesh.process is not None
        mesh.process.kill()
        mesh.process.wait()
        eventually(lambda: not members() or None, 10)


def test_a_frozen_registry_does_not_hold_up_the_end(fresh: ZooKeeperServer, tmp_path: Path) -> None:
    """With ZooKeeper standing still the daemon routes on, and a stop ends it in seconds."""
    with (
        EndpointServer("web-1") as web,
        Hostmesh(tmp_path, ANNOUNCING, ports={"zookeeper": fresh.port}) as mesh,
    ):
        fresh.put("/discovery/prod/web", web.host, web.port)
        mesh.wait(lambda: mesh.get("/").status == 200, "routed")
        fresh.freeze()
        try:
            assert mesh.get("/").status == 200
            mesh.terminate()
            assert mesh.wait_exit(within=9) == 0
        finally:
            fresh.thaw()


def test_the_shipped_file_routes_and_announces(
    fresh: ZooKeeperServer, tmp_path: Path, endpoint: object
) -> None:
    """config/serversets.yaml carries a request to a member, and announces its own server."""
    text = CONFIG.read_text()
    for found, name in (
        ("9990", "@admin@"),
        ("4140", "@port@"),
        ("4141", "@incoming@"),
        ("2181", "@zookeeper@"),
    ):
        text = text.replace(f"port: {found}", f"port: {name}")
    web = endpoint("web-1")  # type: ignore[operator]
    assert isinstance(web, EndpointServer)
    fresh.put("/discovery/prod/web", web.host, web.port)

    with Hostmesh(tmp_path, text, ports={"zookeeper": fresh.port}) as mesh:
        response = mesh.get("/")

        assert (response.status, response.endpoint) == (200, "web-1")
        mesh.wait(lambda: len(fresh.children("/discovery/prod/mesh")) > 0, "announced")
