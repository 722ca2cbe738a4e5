"""Upgrades and the tunnels that they make: what travels, in what order, and every way to end."""

from __future__ import annotations

import pytest

from hostmesh.proxy.server import Server
from hostmesh.proxy.tunnel import HALF_CLOSED_IDLE, LOOK, TUNNEL_IDLE
from hostmesh.pump.loop import Transport
from hostmesh.pump.tunnel import CopyTunnel, OnEnd, Tunnel
from tests.flow.tunnels import ACCEPT, KEY, SWITCH, Switching, dial, handshake, tunnel
from tests.flow.world import World, config

SERVER = "rt/out/server/127.0.0.1/4140"
CLIENT = "rt/out/client/#/lit/web"


def test_a_websocket_handshake_reaches_the_endpoint_and_its_answer_the_caller() -> None:
    """Upgrade and Connection are made anew for each hop; key, version, extensions and accept pass untouched."""
    world = World()
    web = Switching(world)

    caller, endpoint = tunnel(world, web)

    asked, told = endpoint.lines, caller.lines
    for line in (
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: " + KEY,
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        b"l5d-dst-service: /svc/web",
    ):
        assert asked.count(line) == 1
    assert [line for line in asked if line.lower().startswith((b"connection:", b"upgrade:"))] == [
        b"Connection: Upgrade",
        b"Upgrade: websocket",
    ]
    assert told == [
        b"Sec-WebSocket-Accept: " + ACCEPT,
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Via: 1.1 hostmesh",
        b"l5d-success-class: 1.0",
    ]


def test_bytes_pass_both_ways_untouched_and_in_order() -> None:
    """Whatever they are: HTTP, zeros, an empty line."""
    world = World()
    caller, endpoint = tunnel(world, Switching(world))
    pieces = [b"GET /evil HTTP/1.1\r\nHost: other\r\n\r\n", bytes(range(256)), b"\r\n\r\n", b"x" * 100_000]

    for piece in pieces:
        caller.send(piece)
        endpoint.send(piece[::-1])
        world.run(0.01)

    assert endpoint.data == b"".join(pieces)
    assert caller.data == b"".join(piece[::-1] for piece in pieces)
    assert [path.text for path in world.router().paths.entries.values()] == ["/svc/web"]


@pytest.mark.parametrize("read_size", [None, 1, 7])
def test_what_comes_behind_the_heads_is_part_of_the_tunnel(read_size: int | None) -> None:
    """A caller that does not wait for the 101 and an endpoint that speaks at once: nothing is lost or changed."""
    world = World()
    web = Switching(world, SWITCH + b"hello from there")
    world.loop.read_size = read_size

    caller = dial(world, handshake() + b"hello from here")
    world.run(0.1)

    assert web.peers[0].data == b"hello from here"
    assert caller.data == b"hello from there"


def test_early_bytes_are_bounded() -> None:
    """A caller that floods before the 101 is not read beyond what a pipeline may hold, and nothing is lost."""
    world = World()
    web = Switching(world, None)
    data = b"z" * 1_000_000
    caller = dial(world, handshake() + data)
    world.run(1)

    held = caller.transport.bytes_out
    web.peers[0].send(SWITCH)
    world.run(1)

    assert held <= 3 * 64 * 1024 + 1024
    assert web.peers[0].data == data


def test_a_refused_upgrade_is_an_ordinary_answer() -> None:
    """The endpoint's connection goes back to the pool, the caller's goes on."""
    world = World()
    answer = b"HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nContent-Length: 2\r\n\r\nno"
    web = Switching(world, answer)
    caller = dial(world, handshake())
    world.run(0.1)
    first = bytes(caller.raw)
    caller.send(b"GET /next HTTP/1.1\r\nHost: web\r\n\r\n")
    world.run(0.1)

    assert first.startswith(b"HTTP/1.1 426 ")
    assert b"Upgrade:" not in first
    assert b"GET /next " in web.peers[0].raw
    assert len(web.peers) == 1
    world.check()


def test_bytes_behind_a_refused_upgrade_are_no_request() -> None:
    """F11: they belong to a tunnel that never was, so the connection ends."""
    world = World()
    web = Switching(world, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")

    caller = dial(world, handshake() + b"GET /smuggled HTTP/1.1\r\nHost: web\r\n\r\n")
    world.run(1)

    assert caller.status == 200
    assert caller.events == ["eof"]
    assert web.peers[0].data == b""
    world.check()


@pytest.mark.parametrize(
    ("upgrade", "lines", "method"),
    [
        (b"h2c", (), b"GET"),
        (b"TLS/1.0", (), b"GET"),
        (b"websocket/13", (), b"GET"),
        (b"websockets", (), b"GET"),
        (b"websocket", (), b"POST"),
        (b"websocket", (b"Content-Length: 2",), b"GET"),
        (b"websocket", (b"Transfer-Encoding: chunked",), b"GET"),
    ],
)
def test_f20_other_upgrades_are_ordinary_requests(
    upgrade: bytes, lines: tuple[bytes, ...], method: bytes
) -> None:
    """F20: neither Upgrade nor Connection reaches the endpoint, and a 101 from it is 502."""
    world = World()
    web = Switching(world)
    body = {b"Content-Length: 2": b"hi", b"Transfer-Encoding: chunked": b"0\r\n\r\n"}
    data = handshake(*lines, upgrade=upgrade, method=method) + b"".join(body[line] for line in lines)

    caller = dial(world, data)
    world.run(0.1)

    assert not [line for line in web.peers[0].lines if line.lower().startswith((b"connection", b"upgrade"))]
    assert caller.status == 502
    assert b"l5d-err: bad-response" in caller.head
    world.check()


def test_only_allowed_tokens_of_a_list_are_forwarded() -> None:
    """As the caller spelled them."""
    world = World(config(server="upgrades: [websocket, spdy/3.1]"))
    web = Switching(world, SWITCH.replace(b"Upgrade: websocket", b"Upgrade: spdy/3.1"))

    caller = dial(world, handshake(upgrade=b"h2c, SPDY/3.1, WebSocket"))
    world.run(0.1)

    assert b"Upgrade: SPDY/3.1, WebSocket" in web.peers[0].lines
    assert caller.status == 101
    assert b"Upgrade: spdy/3.1" in caller.lines


def test_upgrades_can_be_forbidden() -> None:
    """``upgrades: []``: every request that asks for one is an ordinary request."""
    world = World(config(server="upgrades: []"))
    web = Switching(world, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    caller = dial(world, handshake())
    world.run(0.1)

    assert caller.status == 200
    assert b"pgrade" not in web.peers[0].head


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
        b"HTTP/1.0 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
)
def test_a_switch_to_what_was_not_asked_for_is_bad_gateway(head: bytes) -> None:
    """502, the connection is gone, and not a byte behind it reaches the caller."""
    world = World()
    web = Switching(world, head + b"raw")

    caller = dial(world, handshake())
    world.run(3)

    assert caller.status == 502
    assert b"l5d-err: bad-response" in caller.head
    assert b"raw" not in caller.raw
    assert web.peers[0].events != []
    world.check()


def test_interim_answers_before_the_switch_pass() -> None:
    """103 and then 101, in one segment."""
    world = World()
    Switching(world, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + SWITCH + b"data")

    caller = dial(world, handshake())
    world.run(0.1)

    assert caller.raw.startswith(b"HTTP/1.1 103 ")
    assert b"HTTP/1.1 101 " in caller.raw
    assert caller.raw.endswith(b"\r\n\r\ndata")


def test_an_endpoint_that_refuses_connections_is_passed_over() -> None:
    """Nothing was sent, so the request for an upgrade goes elsewhere."""
    world = World()
    web = Switching(world)
    world.name("web", "10.2.0.1:80", f"{web.ip}:80")

    statuses = []
    for _ in range(6):
        caller = dial(world, handshake())
        world.run(0.1)
        statuses.append(caller.status)

    assert statuses == [101] * 6


def test_an_endpoint_that_fails_before_the_switch_is_retried() -> None:
    """503, retryable by the classifier: the other one switches."""
    world = World(config("responseClassifier: {kind: io.l5d.http.retryableRead5XX}"))
    failing = Switching(world, b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n", name="bad")
    web = Switching(world)
    world.name("web", f"{failing.ip}:80", f"{web.ip}:80")

    statuses = []
    for _ in range(4):
        caller = dial(world, handshake())
        world.run(1)
        statuses.append(caller.status)

    assert statuses == [101] * 4
    assert failing.peers


# -- the end of a tunnel ----------------------------------------------------------------------------------------------


def test_a_half_close_travels_and_the_other_direction_goes_on() -> None:
    """FIN by FIN, each behind the last byte; then both connections are closed and the pool has none of it."""
    world = World()
    web = Switching(world)
    caller, endpoint = tunnel(world, web)

    caller.send(b"last words")
    caller.transport.shutdown_write()
    world.run(1)
    half = (endpoint.data, list(endpoint.events), list(caller.events))
    endpoint.send(b"the answer")
    endpoint.transport.shutdown_write()
    world.run(1)

    assert half == (b"last words", ["eof"], [])
    assert caller.data == b"the answer"
    assert caller.events[0] == "eof"
    assert world.metric(f"{SERVER}/connections") == 0
    assert world.metric(f"{CLIENT}/connections") == 0
    world.check()


def test_the_endpoint_may_end_first() -> None:
    """Its FIN is passed on; the caller says the rest."""
    world = World()
    caller, endpoint = tunnel(world, Switching(world))

    endpoint.send(b"bye")
    endpoint.transport.shutdown_write()
    world.run(1)
    caller.send(b"so long")
    world.run(1)
    caller.transport.shutdown_write()
    world.run(1)

    assert (caller.data, caller.events[0]) == (b"bye", "eof")
    assert endpoint.data == b"so long"
    world.check()


def test_a_caller_that_has_half_closed_before_the_switch() -> None:
    """Its FIN reaches the endpoint behind its early bytes."""
    world = World()
    web = Switching(world, None)
    caller = dial(world, handshake() + b"all I have")
    world.run(0.1)
    caller.transport.shutdown_write()
    world.run(0.1)

    web.peers[0].send(SWITCH)
    world.run(0.1)
    web.peers[0].send(b"thanks")
    web.peers[0].transport.shutdown_write()
    world.run(0.1)

    assert web.peers[0].data == b"all I have"
    assert "eof" in web.peers[0].events
    assert caller.raw.endswith(b"thanks")
    world.check()


@pytest.mark.parametrize("who", ["caller", "endpoint"])
def test_a_reset_travels_as_a_reset(who: str) -> None:
    """A stream that is cut must not look complete; the reason is counted and recorded."""
    world = World()
    caller, endpoint = tunnel(world, Switching(world))
    caller.send(b"abc")
    endpoint.send(b"defg")
    world.run(0.1)

    one, other = (caller, endpoint) if who == "caller" else (endpoint, caller)
    one.transport.reset()
    world.run(0.1)

    assert other.events == ["reset"]
    assert world.sink is not None
    (record,) = world.sink.records
    assert (record.status, record.reason, record.failed) == (101, f"reset-by-{who}", True)
    assert (record.request_bytes, record.response_bytes) == (3, 4)
    assert world.metric(f"{SERVER}/failures/reset-by-{who}") == 1
    world.check()


def test_what_was_sent_before_a_reset_arrives() -> None:
    """Bytes that lie in front of it, while the other side is slow to read them."""
    world = World()
    caller, endpoint = tunnel(world, Switching(world))
    endpoint.transport.pause()
    caller.send(b"m" * 30_000)
    world.run(0.1)

    caller.transport.reset()
    world.run(0.1)
    endpoint.transport.resume()
    world.run(0.1)

    assert endpoint.data == b"m" * 30_000
    assert endpoint.events == ["reset"]


def test_connections_that_are_broken_before_the_tunnel_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tunnel of sockets may find that out, and say so, while it is being made: it is counted all the same."""
    world = World()
    Switching(world)

    def broken(near: Transport, far: Transport, first: bytes, on_end: OnEnd) -> Tunnel:
        made = CopyTunnel(near, far, first, on_end)
        made.abort()
        on_end("far", ConnectionResetError("before it began"))
        return made

    monkeypatch.setattr(world.loop, "tunnel", broken)
    dial(world, handshake())
    world.run(1)

    assert world.metric(f"{SERVER}/failures/reset-by-endpoint") == 1
    assert world.metric(f"{SERVER}/tunnels/open") == 0
    assert world.sink is not None
    assert [record.status for record in world.sink.records] == [101]
    world.check()


# -- backpressure -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["caller", "endpoint"])
def test_a_slow_reader_stalls_its_writer_and_loses_nothing(who: str) -> None:
    """20 MB: at most the marks and buffers lie in between; the other direction is not touched."""
    world = World()
    caller, endpoint = tunnel(world, Switching(world))
    slow, fast = (caller, endpoint) if who == "caller" else (endpoint, caller)
    data = bytes(range(256)) * 80_000
    slow.transport.pause()
    fast.send(data)
    world.run(5)

    held = fast.transport.bytes_out - slow.transport.bytes_in
    slow.send(b"still here")
    world.run(0.1)
    middle = fast.data
    slow.transport.resume()
    world.run(30)

    # Two kernels' buffers, our mark, and one read beyond it.
    assert held <= 2 * 64 * 1024 + 64 * 1024 + 128 * 1024
    assert middle == b"still here"
    assert slow.data == data


def test_a_reader_that_never_reads_is_cut() -> None:
    """60 s without progress while bytes wait for it (hardening R2)."""
    world = World()
    caller, endpoint = tunnel(world, Switching(world))
    caller.transport.pause()
    endpoint.send(b"x" * 1_000_000)

    world.run(70)

    assert endpoint.events == ["reset"]
    assert world.metric(f"{SERVER}/failures/reset-by-caller") == 1
    world.check()


# -- time -------------------------------------------------------------------------------------------------------------


def test_a_silent_tunnel_is_cut_after_an_hour() -> None:
    """The default; a byte in either direction begins the hour anew."""
    world = World()
    caller, endpoint = tunnel(world, Switching(world))
    world.run(TUNNEL_IDLE - 60)
    endpoint.send(b"p")
    world.run(TUNNEL_IDLE - 60)
    alive = list(caller.events)
    world.run(60 + LOOK + 1)

    assert alive == []
    assert (caller.events, endpoint.events) == (["reset"], ["reset"])
    assert world.metric(f"{SERVER}/failures/tunnel-idle") == 1
    assert world.sink is not None
    assert [record.reason for record in world.sink.records] == ["tunnel-idle"]
    world.check()


def test_the_idle_time_is_configurable() -> None:
    """``tunnelIdleTimeMs``, kept to a quarter of it."""
    world = World(config(server="tunnelIdleTimeMs: 1000"))
    caller, _endpoint = tunnel(world, Switching(world))

    world.run(0.95)
    alive = list(caller.events)
    world.run(0.35)

    assert (alive, caller.events) == ([], ["reset"])


def test_a_half_closed_tunnel_has_less_time() -> None:
    """A caller that has gone with a FIN is not remembered for an hour by an endpoint that says nothing."""
    world = World()
    caller, endpoint = tunnel(world, Switching(world))
    caller.transport.shutdown_write()

    world.run(HALF_CLOSED_IDLE + 2 * LOOK)

    assert "reset" in endpoint.events
    assert world.metric(f"{SERVER}/tunnels/open") == 0
    world.check()


def test_timeouts_of_requests_end_with_the_switch() -> None:
    """Total and attempt timeouts, idle and life time of sessions: none of them ends a tunnel."""
    world = World(
        config(
            "totalTimeoutMs: 500",
            "requestAttemptTimeoutMs: 400, hostConnectionPool: {idleTimeMs: 300}",
            server="timeoutMs: 600, serverSession: {idleTimeMs: 700, lifeTimeMs: 800}",
        )
    )
    caller, endpoint = tunnel(world, Switching(world))

    world.run(10)
    caller.send(b"ping")
    endpoint.send(b"pong")
    world.run(0.1)

    assert (endpoint.data, caller.data) == (b"ping", b"pong")


def test_an_endpoint_that_does_not_switch_in_time() -> None:
    """Before the 101 the timeouts hold."""
    world = World(config("totalTimeoutMs: 500"))
    web = Switching(world, None)

    caller = dial(world, handshake())
    world.run(1)

    assert caller.status == 503
    assert web.peers[0].events == ["reset"]
    world.check()


# -- accounting -------------------------------------------------------------------------------------------------------


def test_a_tunnel_is_counted() -> None:
    """The request when it is answered, with the time to the 101; then load, bytes, and at the end the duration."""
    world = World()
    web = Switching(world)
    caller, endpoint = tunnel(world, web)
    node = world.client().endpoints[0]
    caller.send(b"x" * 1000)
    endpoint.send(b"y" * 300)
    world.run(LOOK + 1)
    during = world.metrics()

    assert during[f"{SERVER}/requests"] == during[f"{SERVER}/success"] == 1
    assert during[f"{SERVER}/status/101"] == 1
    assert during[f"{SERVER}/pending"] == during[f"{CLIENT}/pending"] == 1
    assert (node.pending, world.linker.pending) == (1, 1)
    assert during[f"{SERVER}/tunnels/open"] == during[f"{SERVER}/tunnels/opened"] == 1
    assert during[f"{SERVER}/tunnels/received_bytes"] == 1000
    assert during[f"{SERVER}/tunnels/sent_bytes"] == 300

    caller.send(b"x")
    caller.transport.shutdown_write()
    endpoint.transport.shutdown_write()
    world.run(1)

    after = world.metrics()
    assert after[f"{SERVER}/tunnels/open"] == 0
    assert after[f"{SERVER}/tunnels/received_bytes"] == 1001
    server = world.linker.servers["127.0.0.1", 4140][1]
    assert isinstance(server, Server)
    assert server.tunnels.duration.cumulative.count == 1
    assert server.tunnels.duration.cumulative.sum >= 1e6 * LOOK
    latency = world.shared.metrics.stat("rt", "out", "server", "127.0.0.1/4140", "request_latency_ms")
    assert latency.cumulative.sum < 10_000
    assert after[f"{SERVER}/received_bytes"] == caller.transport.bytes_out
    assert after[f"{SERVER}/sent_bytes"] == caller.transport.bytes_in
    assert world.sink is not None
    (record,) = world.sink.records
    assert (record.status, record.failed, record.request_bytes, record.response_bytes) == (
        101,
        False,
        1001,
        300,
    )
    assert record.total > LOOK
    world.check()


def test_open_tunnels_count_as_load() -> None:
    """Thirty tunnels over three endpoints: ten each, because a tunnel is work for as long as it lasts."""
    world = World(config(client="loadBalancer: {kind: heap}"))
    switching = [Switching(world, name=f"n{number}") for number in range(3)]
    world.name("web", *[f"{each.ip}:80" for each in switching])

    for _ in range(30):
        dial(world, handshake())
        world.run(0.01)

    assert [len(each.peers) for each in switching] == [10, 10, 10]


# -- drain and reload -------------------------------------------------------------------------------------------------


def test_a_drain_lets_tunnels_end_by_themselves() -> None:
    """They go on until they end; new connections are not accepted."""
    world = World()
    caller, endpoint = tunnel(world, Switching(world))

    world.linker.drain()
    world.run(10)
    caller.send(b"still")
    world.run(0.1)
    pending = world.linker.pending
    caller.transport.shutdown_write()
    endpoint.transport.shutdown_write()
    world.run(1)

    assert (endpoint.data, pending) == (b"still", 1)
    assert world.linker.pending == 0
    assert world.linker.connections == 0


def test_the_end_of_a_drain_cuts_tunnels() -> None:
    """Both ends see a reset, and there is a record that says why."""
    world = World()
    caller, endpoint = tunnel(world, Switching(world))
    world.linker.drain()
    world.run(1)

    world.linker.cut()
    assert world.sink is not None
    reasons = [record.reason for record in world.sink.records]
    world.run(1)

    assert reasons == ["draining"]
    assert (caller.events, endpoint.events) == (["reset"], ["reset"])
    world.check()


def test_a_tunnel_survives_reloads() -> None:
    """Two of them, the second with other settings and another dtab: not a byte is lost, and the books balance."""
    world = World()
    web = Switching(world)
    caller, endpoint = tunnel(world, web)

    for text in (config(), config("totalTimeoutMs: 100", "requestAttemptTimeoutMs: 50")):
        world.apply(text)
        world.run(30)
        caller.send(b"on ")
        endpoint.send(b"and ")
        world.run(1)
    late = dial(world, handshake())
    world.run(1)

    assert (endpoint.data, caller.data) == (b"on on ", b"and and ")
    assert late.status == 101
    for each in (caller, endpoint, late):
        each.transport.reset()
    world.run(1)
    world.check()


def test_an_endpoint_that_leaves_the_set_keeps_its_tunnels() -> None:
    """New ones go elsewhere; the old one goes on until it ends."""
    world = World()
    old, new = Switching(world, name="old"), Switching(world, name="new")
    world.name("web", f"{old.ip}:80")
    caller = dial(world, handshake())
    world.run(0.1)
    world.name("web", f"{new.ip}:80")
    world.run(60)

    caller.send(b"still there?")
    second = dial(world, handshake())
    world.run(1)

    assert old.peers[0].data == b"still there?"
    assert (second.status, len(new.peers)) == (101, 1)
    caller.transport.reset()
    second.transport.reset()
    world.run(1)
    world.check()


def test_tunnels_hold_their_places_in_the_pool() -> None:
    """``maxSize``: a tunnel has a connection for itself, and who waits gets one when it ends."""
    world = World(config(client="hostConnectionPool: {maxSize: 1}"))
    web = Switching(world)
    caller, _endpoint = tunnel(world, web)
    second = dial(world, handshake())
    world.run(5)
    waiting = second.status

    caller.transport.reset()
    world.run(1)

    assert (waiting, second.status) == (0, 101)
    assert len(web.peers) == 2


def test_an_idle_connection_of_the_pool_is_used_and_not_given_back() -> None:
    """A request before, the tunnel on the same connection, a request after on another."""
    world = World()
    web = Switching(world, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    caller = dial(world, b"GET /1 HTTP/1.1\r\nHost: web\r\n\r\n")
    world.run(0.1)
    web.answer = SWITCH
    caller.send(handshake())
    world.run(0.1)
    web.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    other = dial(world, b"GET /2 HTTP/1.1\r\nHost: web\r\n\r\n")
    world.run(0.1)

    assert b"101 Switching" in caller.raw
    assert other.status == 200
    assert len(web.peers) == 2


def test_context_does_not_leave_through_a_switch() -> None:
    """``clearContext``: neither l5d fields nor Via of the endpoint's side in the 101 (T8)."""
    world = World(config(server="clearContext: true"))
    Switching(world, SWITCH[:-2] + b"l5d-inside: 1\r\nVia: 1.1 other\r\n\r\n")

    caller = dial(world, handshake(b"l5d-dtab: /svc => /#/evil"))
    world.run(0.1)

    assert caller.status == 101
    assert b"l5d-" not in caller.head
    assert b"1.1 other" not in caller.head


def test_bounds_of_tunnels_have_their_values() -> None:
    """What the documentation says."""
    assert (TUNNEL_IDLE, HALF_CLOSED_IDLE, LOOK) == (3600.0, 300.0, 15.0)
