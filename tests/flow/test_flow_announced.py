"""PROXY protocol headers on http and h2 servers: who is taken for the caller, and who is refused."""

from __future__ import annotations

import pytest

from hostmesh.protocol.proxy_protocol import MAX_V2, SIGNATURE, header_v1, header_v2
from hostmesh.proxy.announced import HEADER_TIME
from tests.flow.h2_scripted import H2Caller
from tests.flow.scripted import Caller
from tests.flow.world import World, config

TRUSTING = "proxyProtocol: true, proxyProtocolFrom: [10.9.9.0/24]"
FORWARDED = "addForwardedHeader: {by: {kind: ip:port}, for: {kind: ip:port}}"
CALLER, TARGET = ("192.0.2.7", 5555), ("198.51.100.2", 443)
GET = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
SERVER = "rt/out/server/127.0.0.1/4140"


def announcing(world: World, header: bytes, rest: bytes = b"", *, source: str = "10.9.9.9") -> Caller:
    caller = world.caller(source=source)
    caller.send(header + rest)
    return caller


def seen(world: World) -> list[tuple[str, str]]:
    """Caller and reason of every record."""
    assert world.sink is not None
    return [(record.caller, record.reason) for record in world.sink.records]


@pytest.mark.parametrize("header", [header_v1(CALLER, TARGET), header_v2(CALLER, TARGET)], ids=["v1", "v2"])
@pytest.mark.parametrize("pieces", [1, 7], ids=["whole", "in pieces"])
def test_the_caller_is_the_announced_one(header: bytes, pieces: int) -> None:
    """In records and in Forwarded, for every request of the connection; the port listened on is ours all the same."""
    world = World(config(server=f"{TRUSTING}, {FORWARDED}"))
    (endpoint,) = world.serving()
    data = header + GET
    caller = world.caller()
    calls = [caller.expect()]
    step = -(-len(data) // pieces)
    for at in range(0, len(data), step):
        caller.send(data[at : at + step])
        world.run(0.01)
    world.finish(*calls)
    calls.append(caller.request("/again"))
    world.finish(*calls)

    assert [call.status for call in calls] == [200, 200]
    lines = [received.get("Forwarded") for received in endpoint.requests]
    assert lines == ['by="127.0.0.1:4140";for="192.0.2.7:5555";host=web;proto=http'] * 2
    assert seen(world) == [("192.0.2.7:5555", "")] * 2
    assert (world.metric(f"{SERVER}/connects"), world.metric(f"{SERVER}/connections")) == (1, 1)
    world.check()


@pytest.mark.usefixtures("engine")
def test_the_caller_of_http2_is_the_announced_one() -> None:
    """The preface follows the header."""
    world = World(config(server=TRUSTING))
    world.serving()
    connection = H2Caller(world.loop, 4140, start=False)
    connection.send(header_v2(CALLER, TARGET))
    connection.conn.initiate_connection()
    connection.flush()
    call = connection.request()
    world.loop.run_while(lambda: call.ended is None)

    assert call.status == 200
    assert seen(world) == [("192.0.2.7:5555", "")]
    world.check()


@pytest.mark.parametrize(
    "header",
    [b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x20\x00\x00\x00", header_v1(("127.0.0.1", 99), ("127.0.0.1", 80))],
    ids=["unknown", "local", "loopback of another host"],
)
def test_a_header_that_names_nobody_leaves_the_proxy_as_the_caller(header: bytes) -> None:
    """A health check of the proxy; and its loopback is not ours, where more is allowed (T2)."""
    world = World(config(server=TRUSTING))
    world.serving()
    caller = announcing(world, header, GET)
    call = caller.expect()
    world.finish(call)

    assert call.status == 200
    assert [name.rpartition(":")[0] for name, _ in seen(world)] == ["10.9.9.9"]
    world.check()


@pytest.mark.parametrize(
    "say",
    [
        GET,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.2 5555 99999\r\n" + GET,
        SIGNATURE + b"\x21\x11" + (MAX_V2 + 1).to_bytes(2, "big"),
    ],
    ids=["HTTP/1.1", "HTTP/2", "bad port", "too long"],
)
def test_without_a_good_header_nothing_is_answered(say: bytes) -> None:
    """Where one is expected, whoever sends none may be pretending; it is counted with its reason."""
    world = World(config(server=TRUSTING))
    (endpoint,) = world.serving()
    caller = announcing(world, say)
    world.run(1)

    assert (caller.closed, bytes(caller.raw), len(endpoint)) == (True, b"", 0)
    assert [reason for _, reason in seen(world)] == ["bad-proxy-header"]
    assert world.metric(f"{SERVER}/failures/bad-proxy-header") == 1
    assert (world.metric(f"{SERVER}/connections"), world.linker.connections) == (0, 0)
    world.check()


def test_t4_only_trusted_addresses_may_announce() -> None:
    """T4: anybody else is refused before a byte is read, header or not."""
    world = World(config(server=TRUSTING))
    (endpoint,) = world.serving()
    caller = announcing(world, header_v1(CALLER, TARGET), GET, source="10.8.8.8")
    world.run(1)

    assert (caller.closed, len(endpoint)) == (True, 0)
    ((name, reason),) = seen(world)
    assert (name.rpartition(":")[0], reason) == ("10.8.8.8", "bad-proxy-header")
    world.check()


def test_r1_a_header_that_dribbles_is_given_up() -> None:
    """R1: within its own time, from the accept."""
    world = World(config(server=TRUSTING))
    world.serving()
    caller = world.caller()
    caller.send(b"PROXY ")
    world.run(HEADER_TIME - 0.1)
    before = caller.closed
    world.run(0.2)

    assert (before, caller.closed) == (False, True)
    assert [reason for _, reason in seen(world)] == ["limit-head-time"]
    world.check()


@pytest.mark.parametrize("say", [b"", b"PROXY TCP4 192"])
def test_callers_that_leave_before_the_header(say: bytes) -> None:
    """A look whether somebody listens is no failure, half a header is; neither leaves anything behind."""
    world = World(config(server=TRUSTING))
    caller = world.caller()
    if say:
        caller.send(say)
    world.run(0.1)
    caller.close()
    world.run(0.1)

    assert [reason for _, reason in seen(world)] == (["bad-proxy-header"] if say else [])
    assert world.linker.connections == 0
    world.check()


def test_a_drain_waits_for_the_header_and_its_request() -> None:
    """The connection ends with its answer."""
    world = World(config(server=TRUSTING))
    world.serving()
    caller = world.caller()
    world.run(0.1)
    world.linker.drain()
    caller.send(header_v1(CALLER, TARGET) + GET)
    call = caller.expect()
    world.finish(call)
    world.run(1)

    assert (call.status, caller.closed) == (200, True)
    assert world.linker.connections == 0
