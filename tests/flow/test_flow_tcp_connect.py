"""CONNECT on an http port."""

from __future__ import annotations

import pytest

from hostmesh.base.var import PENDING
from hostmesh.proxy.tcp_exchange import LOOK_EVERY
from tests.flow.scripted import Received
from tests.flow.tcp_peers import Peer, TcpEndpoint, TcpWorld
from tests.flow.world import answering

CONFIG = """
routers:
- protocol: http
  label: out
  dtab: /svc => /#/lit{dtab}
{router}
  servers:
  - port: 4140
    allowConnect: ["db:5432", "*.example:*"]
    tunnelIdleTimeMs: 60000
  - {{port: 4141}}
"""
OK = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 hostmesh\r\n\r\n"


def connecting(router: str = "", dtab: str = "") -> TcpWorld:
    return TcpWorld(CONFIG.format(router=router, dtab=dtab))


def ask(target: str, *lines: str, version: str = "1.1") -> bytes:
    return "\r\n".join((f"CONNECT {target} HTTP/{version}", f"Host: {target}", *lines, "", "")).encode()


def dial(
    world: TcpWorld, target: str = "db:5432", *, port: int = 4140, rest: bytes = b"", **options: str
) -> Peer:
    caller = world.dial(port, say=ask(target, **options) + rest)
    world.run(0.1)
    return caller


def answer_of(caller: Peer) -> tuple[int, str]:
    """Status and reason."""
    head = bytes(caller.data).partition(b"\r\n\r\n")[0].decode("latin-1")
    reason = [line for line in head.split("\r\n") if line.startswith("l5d-err: ")]
    return int(head.split(" ")[1]), reason[0].removeprefix("l5d-err: ").partition("%3A")[0] if reason else ""


def test_a_tunnel() -> None:
    """200, then bytes both ways; the record is that of a request that was answered."""
    world = connecting()
    (endpoint,) = world.tcp(name="db:5432")
    caller = dial(world)
    (far,) = endpoint.peers
    assert bytes(caller.data) == OK
    caller.send(b"question")
    far.send(b"answer")
    world.run(LOOK_EVERY)

    assert (bytes(far.data), bytes(caller.data)) == (b"question", OK + b"answer")
    server = "rt/out/server/127.0.0.1/4140/tunnels"
    names = ("open", "opened", "received_bytes", "sent_bytes")
    assert [world.metric(f"{server}/{name}") for name in names] == [1, 1, 8, 6]
    assert world.metric("rt/out/connect/client/#/lit/db:5432/connections") == 1
    caller.end()
    far.end()
    world.run(1)
    assert [world.metric(f"{server}/{name}") for name in names] == [0, 1, 8, 6]
    assert world.sink is not None
    (record,) = world.sink.records
    assert (record.router, record.method, record.target) == ("out", b"CONNECT", b"db:5432")
    assert (record.status, record.failed, record.dst_path) == (200, False, "/svc/db:5432")
    assert (record.request_bytes, record.response_bytes) == (8, 6)
    assert world.linker.connections == 0
    world.check()


def test_early_bytes_go_through() -> None:
    """A caller that does not wait for the answer loses nothing."""
    world = connecting()
    (endpoint,) = world.tcp(name="db:5432")
    caller = dial(world, rest=b"early")

    assert bytes(endpoint.peers[0].data) == b"early"
    assert bytes(caller.data) == OK
    caller.reset()
    world.run(1)
    world.check()


def test_a_tunnel_after_requests() -> None:
    """On a connection that has carried requests before."""
    world = connecting()
    world.serving(answering(200, b"page"), name="web")
    (endpoint,) = world.tcp(name="db:5432")
    caller = world.dial(4140, say=b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
    world.run(0.1)
    page = bytes(caller.data)
    caller.send(ask("db:5432"))
    world.run(0.1)
    caller.send(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
    world.run(0.1)

    assert page.endswith(b"page")
    assert bytes(caller.data) == page + OK
    assert bytes(endpoint.peers[0].data).startswith(b"GET /")
    caller.reset()
    world.run(1)
    world.check()


@pytest.mark.parametrize(
    ("target", "port", "answer"),
    [
        ("db:5433", 4140, (403, "policy-connect")),
        ("other:5432", 4140, (403, "policy-connect")),
        ("example:1", 4140, (403, "policy-connect")),
        ("db", 4140, (400, "bad-request")),
        ("db:0", 4140, (400, "bad-request")),
        ("db:5432", 4141, (405, "unsupported")),
        ("a.example:7", 4140, (502, "name-negative")),
    ],
)
def test_f20_only_listed_destinations(target: str, port: int, answer: tuple[int, str]) -> None:
    """F20: everything else is answered, and nothing is dialled."""
    world = connecting()
    (endpoint,) = world.tcp(name="db:5432")
    caller = dial(world, target, port=port)

    assert answer_of(caller) == answer
    assert world.reasons == [answer[1]]
    world.run(5)
    assert caller.saw_eof
    assert endpoint.peers == []
    assert world.linker.connections == 0
    world.check()


def test_tunnels_count_as_requests() -> None:
    """maxConcurrentRequests holds for both together."""
    text = CONFIG.format(router="", dtab="").replace(
        "tunnelIdleTimeMs", "maxConcurrentRequests: 1\n    tunnelIdleTimeMs"
    )
    world = TcpWorld(text)
    world.tcp(name="db:5432")
    world.serving(name="web")
    caller = dial(world)
    second = dial(world)

    assert answer_of(second) == (503, "overloaded")
    assert world.get().status == 503
    caller.reset()
    world.run(5)
    assert world.get().status == 200
    world.check()


def test_nobody_listens() -> None:
    """502 with the reason, after other endpoints were tried."""
    world = connecting()
    world.name("db:5432", "10.0.0.77:80", "10.0.0.78:80")
    caller = dial(world)

    assert answer_of(caller) == (502, "connect-refused")
    world.run(5)
    world.check()


def test_a_name_that_is_late() -> None:
    """Early bytes wait, up to a bound, for a name to be bound."""
    world = connecting("  bindingTimeoutMs: 500")
    world.namer.otherwise = PENDING
    caller = dial(world, rest=b"x" * 200_000)
    assert bytes(caller.data) == b""
    world.run(1)

    assert answer_of(caller) == (503, "binding-timeout")
    world.run(5)
    world.check()


def test_the_caller_leaves_before_it_stands() -> None:
    """Its connect is cancelled."""
    world = connecting()
    world.name("db:5432", "10.0.0.77:80")
    world.loop.link("10.0.0.77", 80).silent = True
    caller = dial(world)
    caller.reset()
    world.run(3)

    assert world.reasons == ["reset-by-caller"]
    assert world.loop.dialled["10.0.0.77", 80] == 1
    world.check()


@pytest.mark.parametrize("address", ["127.0.0.1:9990", "169.254.169.254:80"])
def test_t2_some_addresses_are_refused_whatever_the_dtab_says(address: str) -> None:
    """T2: the admin port and link-local addresses are nobody's destination."""
    world = connecting()
    world.name("db:5432", address)
    caller = dial(world)

    assert answer_of(caller) == (403, "policy-connect")
    ip, _, port = address.partition(":")
    assert (ip, int(port)) not in world.loop.dialled
    world.run(5)
    world.check()


def test_idle_and_drain() -> None:
    """tunnelIdleTimeMs cuts it, and so does the end of a drain."""
    world = connecting()
    (endpoint,) = world.tcp(name="db:5432")
    idle = dial(world)
    world.run(80)
    assert idle.was_reset
    busy = dial(world)
    world.linker.drain()
    world.run(5)
    assert not busy.gone
    world.linker.cut()
    world.run(1)

    assert busy.was_reset
    assert world.reasons == ["tunnel-idle", "draining"]
    assert [peer.was_reset for peer in endpoint.peers] == [True, True]
    assert world.linker.connections == 0
    world.check()


def test_reload_keeps_tunnels() -> None:
    """Stacks move to the new router of connections, too; a list that has become empty closes the door."""
    world = connecting()
    (endpoint,) = world.tcp(name="db:5432")
    caller = dial(world)
    world.apply(CONFIG.format(router="", dtab="").replace('["db:5432", "*.example:*"]', '["db:5432"]'))
    world.run(20)
    again = dial(world)
    endpoint.peers[0].send(b"still")
    world.run(0.1)
    assert bytes(caller.data) == OK + b"still"
    assert world.metric("rt/out/connect/client/#/lit/db:5432/connections") == 2

    world.apply(CONFIG.format(router="", dtab="").replace('["db:5432", "*.example:*"]', "[]"))
    refused = dial(world)
    assert answer_of(refused) == (405, "unsupported")
    world.run(20)
    for peer in (caller, again):
        assert not peer.gone
        peer.reset()
    world.run(1)
    assert world.linker.connections == 0
    world.check()


def test_requests_are_not_disturbed() -> None:
    """Requests and tunnels to one name have connections of their own."""
    world = connecting()
    heard: list[Received] = []

    def handler(received: Received) -> None:
        heard.append(received)
        received.answer()

    both = TcpEndpoint(world.loop, "10.1.0.9")
    web = world.endpoint(handler)
    world.name("db:5432", both.text)
    world.name("web", web)
    caller = dial(world)
    call = world.get()

    assert (call.status, bytes(caller.data)) == (200, OK)
    assert world.metric("rt/out/client/#/lit/web/connections") == 1
    caller.reset()
    world.run(1)
    world.check()
