"""CONNECT over HTTP/2 (RFC 9113 section 8.5): streams that are connections, beside requests on the same one."""

from __future__ import annotations

import pytest

from hostmesh.base.var import PENDING
from hostmesh.proxy.tcp_exchange import LOOK_EVERY
from tests.flow import h2_scripted
from tests.flow.h2_scripted import H2Call, H2Caller, caller, finish
from tests.flow.tcp_peers import TcpWorld

pytestmark = pytest.mark.usefixtures("engine")

CONFIG = """
routers:
- protocol: http
  label: out
  h2Engine: {engine}
  dtab: /svc => /#/lit
{router}
  servers:
  - port: 4140
    allowConnect: ["db:5432", "*.example:*"]
    tunnelIdleTimeMs: 60000
"""
SERVER = "rt/out/server/127.0.0.1/4140"
CONNECT_ERROR, CANCEL, REFUSED_STREAM = 10, 8, 7
TUNNELS = ("open", "opened", "received_bytes", "sent_bytes")


def connecting(router: str = "") -> TcpWorld:
    return TcpWorld(CONFIG.format(engine=h2_scripted.ENGINE, router=router))


def tunnels(world: TcpWorld) -> list[float]:
    return [world.metric(f"{SERVER}/tunnels/{name}") for name in TUNNELS]


def joined(world: TcpWorld, connection: H2Caller) -> H2Call:
    """A call whose tunnel stands."""
    call = connection.connect("db:5432")
    world.loop.run_while(lambda: not call.status and call.ended is None)
    assert call.status == 200
    world.run(0.01)
    return call


def test_a_tunnel_beside_requests() -> None:
    """200, then bytes both ways and an end both ways; the record is that of a request that was answered."""
    world = connecting()
    (endpoint,) = world.tcp(name="db:5432")
    world.serving(name="web")
    connection = caller(world)
    call = joined(world, connection)
    (far,) = endpoint.peers
    connection.data(call, b"question")
    far.send(b"answer")
    other = connection.request()
    finish(world, other)
    world.run(LOOK_EVERY)

    assert (bytes(far.data), bytes(call.body), other.status) == (b"question", b"answer", 200)
    assert call.head == [(":status", "200"), ("via", "h2 hostmesh")]
    assert tunnels(world) == [1, 1, 8, 6]
    connection.data(call, b"", True)
    world.run(0.1)
    half = (far.saw_eof, call.done)
    far.send(b", the rest of it")
    far.end()
    world.run(1)

    assert half == (True, False)
    assert (call.done, call.reset, bytes(call.body)) == (True, None, b"answer, the rest of it")
    assert tunnels(world) == [0, 1, 8, 22]
    assert world.metric(f"{SERVER}/open_streams") == 0
    assert world.sink is not None
    record = next(each for each in world.sink.records if each.method == b"CONNECT")
    assert (record.router, record.target, record.caller.partition(":")[0]) == ("out", b"db:5432", "10.9.9.9")
    assert (record.status, record.failed, record.dst_path) == (200, False, "/svc/db:5432")
    assert (record.request_bytes, record.response_bytes) == (8, 22)
    connection.close()
    world.run(1)
    world.check()


def test_early_bytes_wait_within_the_window() -> None:
    """What comes before the tunnel stands goes to the endpoint first; no window is given back for it until then."""
    world = connecting()
    world.namer.set("/db:5432", PENDING)
    connection = caller(world)
    call = connection.connect("db:5432")
    early = bytes(range(256)) * 200
    connection.upload(call, early * 4)
    world.run(1)
    held = connection.room(call)
    (endpoint,) = world.tcp(name="db:5432")
    world.run(1)
    (far,) = endpoint.peers

    assert held == 0
    assert bytes(far.data) == early * 4
    assert far.saw_eof
    far.close()
    world.run(1)
    assert call.done
    world.check()


@pytest.mark.parametrize(
    ("target", "status", "reason"),
    [
        ("db:5433", 403, "policy-connect"),
        ("169.254.169.254:80", 403, "policy-connect"),
        ("db", 400, "bad-request"),
        ("none.example:1", 502, "name-negative"),
    ],
)
def test_f20_what_is_not_allowed_is_answered_with_a_status(target: str, status: int, reason: str) -> None:
    """F20: only listed destinations; nothing is dialled for others, and the connection lives."""
    world = connecting()
    connection = caller(world)
    call = connection.connect(target)
    finish(world, call)
    world.serving(name="web")
    other = connection.request()
    finish(world, other)

    assert (call.status, call.reason, other.status) == (status, reason, 200)
    assert tunnels(world)[1] == 0
    world.check()


def test_nobody_listens() -> None:
    """A failed connect is a 502, as for HTTP/1.1."""
    world = connecting()
    world.name("db:5432", "10.1.0.77:80")
    call = caller(world).connect("db:5432")
    finish(world, call)

    assert (call.status, call.reason) == (502, "connect-refused")
    world.check()


def test_an_endpoint_that_breaks_is_a_connect_error() -> None:
    """RFC 9113 8.5: a TCP reset is a stream error CONNECT_ERROR; what had come before it is delivered."""
    world = connecting()
    (endpoint,) = world.tcp(name="db:5432")
    connection = caller(world)
    call = joined(world, connection)
    endpoint.peers[0].send(b"half")
    world.run(0.01)
    endpoint.peers[0].reset()
    finish(world, call)

    assert (call.reset, bytes(call.body), call.done) == (CONNECT_ERROR, b"half", False)
    assert world.reasons == ["reset-by-endpoint"]
    assert tunnels(world)[0] == 0
    world.check()


def test_a_caller_that_resets_the_stream_resets_the_connection() -> None:
    """The endpoint sees a reset, not an end; and so it does when the caller's whole connection is gone."""
    world = connecting()
    (endpoint,) = world.tcp(name="db:5432")
    connection = caller(world)
    first, _second = joined(world, connection), joined(world, connection)
    connection.cancel(first)
    world.run(0.1)
    one = [peer.was_reset for peer in endpoint.peers]
    connection.reset()
    world.run(0.1)

    assert (one, [peer.was_reset for peer in endpoint.peers]) == ([True, False], [True, True])
    assert world.reasons == ["reset-by-caller"] * 2
    assert tunnels(world)[0] == world.metric(f"{SERVER}/open_streams") == world.linker.connections == 0
    world.check()


def test_a_silent_tunnel_and_the_end_of_a_drain() -> None:
    """tunnelIdleTimeMs and shutdownGraceMs end tunnels on streams as those on connections."""
    world = connecting()
    (endpoint,) = world.tcp(name="db:5432")
    connection = caller(world)
    idle = joined(world, connection)
    world.run(60 + LOOK_EVERY + 1)
    other = joined(world, connection)
    world.linker.drain()
    world.run(1)
    before = other.ended
    world.linker.cut()
    world.run(1)

    assert (idle.reset, before) == (CONNECT_ERROR, None)
    assert other.ended is not None
    assert not other.done
    assert all(peer.was_reset for peer in endpoint.peers)
    assert world.reasons == ["tunnel-idle", "draining"]
    assert world.linker.connections == 0


def test_slow_readers_hold_only_their_own_tunnel_back() -> None:
    """A caller that gives no window back stops its endpoint within the marks, and nobody else."""
    world = connecting()
    (endpoint,) = world.tcp(name="db:5432")
    connection = caller(world)
    slow = joined(world, connection)
    slow.slow = True
    quick = joined(world, connection)
    for peer in endpoint.peers:
        peer.send(b"x" * 1_000_000)
    world.run(5)

    assert len(quick.body) == 1_000_000
    assert len(slow.body) == 65_535
    connection.reset()
    world.run(1)
    world.check()
