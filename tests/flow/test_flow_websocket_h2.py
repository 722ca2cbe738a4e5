"""Tunnels with HTTP/2 on either side (RFC 8441), and between the versions."""

from __future__ import annotations

import pytest

from hostmesh.protocol.h2.connect import accept_of
from hostmesh.proxy.tunnel import HALF_CLOSED_IDLE, LOOK, TUNNEL_IDLE
from tests.flow.h2_endpoint import Stream
from tests.flow.h2_scripted import H2Caller
from tests.flow.h2_world import check as check_h2
from tests.flow.tunnels import ACCEPT, KEY, SWITCH, Peer
from tests.flow.tunnels_h2 import MIXES, H1End, H2CallerEnd, H2EndpointEnd, Mix

pytestmark = pytest.mark.usefixtures("engine")

SERVER = "rt/out/server/127.0.0.1/4140"
CLIENT = "rt/out/client/#/lit/web"


def check(mix: Mix) -> None:
    """Nothing is left: requests, streams, bytes, tunnels."""
    if mix.endpoint_version == "h2":
        check_h2(mix.world)
    else:
        mix.world.check()
    assert mix.world.metric(f"{SERVER}/tunnels/open") == 0
    assert mix.world.metric(f"{SERVER}/open_streams") == 0


# -- the handshake ----------------------------------------------------------------------------------------------------


def test_extended_connect_passes_from_h2_to_h2() -> None:
    """Method, protocol, path and fields; not a trace of HTTP/1.1."""
    mix = Mix("h2-h2")
    caller, endpoint = mix.tunnel()
    assert isinstance(caller, H2CallerEnd)
    assert isinstance(endpoint, H2EndpointEnd)
    stream = endpoint.stream

    assert [stream.get(name) for name in (":method", ":protocol", ":scheme", ":path", ":authority")] == [
        "CONNECT",
        "websocket",
        "http",
        "/chat",
        "web",
    ]
    assert [name for name, _value in stream.pairs[:5] if name[:1] != b":"] == []
    assert (stream.get("sec-websocket-protocol"), stream.get("origin")) == ("chat", "http://there")
    assert stream.get("l5d-dst-service") == "/svc/web"
    assert (caller.call.status, caller.call.get("sec-websocket-protocol")) == (200, "chat")
    assert caller.call.get("via") == "h2 hostmesh"
    assert (stream.get("sec-websocket-key"), caller.call.get("sec-websocket-accept")) == (None, None)


def test_an_upgrade_becomes_extended_connect() -> None:
    """From h1 to h2: the key passes, where nobody looks at it, and the accept that answers it is made here."""
    mix = Mix("h1-h2")
    caller, endpoint = mix.tunnel()
    assert isinstance(caller, H1End)
    assert isinstance(endpoint, H2EndpointEnd)
    stream = endpoint.stream

    assert (stream.get(":method"), stream.get(":protocol")) == ("CONNECT", "websocket")
    assert (stream.get("connection"), stream.get("upgrade")) == (None, None)
    assert stream.get("sec-websocket-key") == KEY.decode()
    assert stream.get("sec-websocket-extensions") == "permessage-deflate; client_max_window_bits"
    assert caller.peer.head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    for line in (
        b"Sec-WebSocket-Accept: " + ACCEPT,
        b"sec-websocket-protocol: chat",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
    ):
        assert caller.peer.lines.count(line) == 1
    assert not [line for line in caller.peer.lines if line.lower().startswith((b"transfer-", b"content-"))]


@pytest.mark.parametrize("mix_name", ["h2-h1", "h2-h2"])
def test_a_key_that_came_in_http2_is_answered(mix_name: str) -> None:
    """As of Envoy, which has an HTTP/1.1 client behind it: the key passes, and the accept comes back."""
    mix = Mix(mix_name)
    caller = mix.ask(("sec-websocket-key", KEY.decode()))
    mix.world.run(0.1)
    (endpoint,) = mix.endpoints()
    assert isinstance(caller, H2CallerEnd)

    if isinstance(endpoint, H1End):
        assert b"sec-websocket-key: " + KEY in endpoint.peer.lines
        assert len([line for line in endpoint.peer.lines if b"key" in line.lower()]) == 1
    assert caller.call.status == 200
    assert [value for name, value in caller.call.head if name == "sec-websocket-accept"] == [ACCEPT.decode()]


def answering_keys(peer: Peer) -> None:
    """As a WebSocket server in HTTP/1.1 does."""
    keys = [line.partition(b": ")[2] for line in peer.lines if line.lower().startswith(b"sec-websocket-key:")]
    assert len(keys) == 1
    peer.switched = True
    peer.send(SWITCH.replace(ACCEPT, accept_of(keys[0])))


def test_extended_connect_becomes_an_upgrade() -> None:
    """From h2 to h1: a key of ours, and an answer that proves it."""
    mix = Mix("h2-h1")
    assert mix.h1 is not None
    mix.h1.answer_with = answering_keys
    caller, endpoint = mix.tunnel()
    assert isinstance(caller, H2CallerEnd)
    assert isinstance(endpoint, H1End)

    assert endpoint.peer.head.startswith(b"GET /chat HTTP/1.1\r\nHost: web\r\n")
    for line in (b"Connection: Upgrade", b"Upgrade: websocket", b"sec-websocket-version: 13"):
        assert endpoint.peer.lines.count(line) == 1
    names = [name for name, _value in caller.call.head]
    assert caller.call.status == 200
    assert not {"connection", "upgrade", "sec-websocket-accept"} & set(names)
    assert caller.call.get("via") == "1.1 hostmesh"


def test_an_accept_that_does_not_answer_our_key_is_refused() -> None:
    """What answers with another's is no WebSocket server: 502."""
    mix = Mix("h2-h1")
    caller = mix.ask()
    mix.world.run(0.1)

    assert mix.status(caller) == 502
    assert isinstance(caller, H2CallerEnd)
    assert caller.call.reason == "bad-response"
    check(mix)


@pytest.mark.parametrize(
    ("fields", "status"),
    [(((":protocol", "websockets"),), 501), (((":protocol", "h2c"),), 501)],
)
def test_protocols_that_are_not_allowed_are_refused(fields: tuple[tuple[str, str], ...], status: int) -> None:
    """RFC 8441: announced is the mechanism, not every protocol; 501, and the connection goes on."""
    mix = Mix("h2-h2")
    caller = H2Caller(mix.world.loop, 4140)
    call = caller.request("/chat", method="CONNECT", fields=fields, end=False)
    mix.world.run(0.1)
    again = caller.request("/chat", method="CONNECT", fields=((":protocol", "websocket"),), end=False)
    mix.world.run(0.1)

    assert (call.status, call.reason) == (status, "unsupported")
    assert again.status == 200


@pytest.mark.parametrize("allowed", [True, False])
def test_the_mechanism_is_announced_where_it_is_allowed(allowed: bool) -> None:
    """SETTINGS_ENABLE_CONNECT_PROTOCOL, if ``upgrades`` is not empty; else CONNECT with a protocol is malformed."""
    mix = Mix("h2-h2", server="" if allowed else "upgrades: []")
    caller = H2Caller(mix.world.loop, 4140)
    mix.world.run(0.1)
    announced = caller.conn.remote_settings.enable_connect_protocol
    call = caller.request("/chat", method="CONNECT", fields=((":protocol", "websocket"),), end=False)
    mix.world.run(0.1)

    assert announced == int(allowed)
    assert (call.status, call.reset) == ((200, None) if allowed else (0, 1))


def test_an_endpoint_without_the_mechanism_is_not_asked() -> None:
    """502 that says so; its connection serves others."""
    mix = Mix("h1-h2")
    endpoint = mix.h2
    assert endpoint is not None
    endpoint.stop()
    without = mix.h2_endpoint(connect=False)
    without.on_head = None
    without.handler = lambda stream: stream.answer()

    caller = mix.ask()
    mix.world.run(0.1)
    other = mix.world.get()

    assert isinstance(caller, H1End)
    assert caller.peer.status == 502
    assert b"extended CONNECT" in bytes(caller.peer.raw)
    assert other.status == 200
    assert [stream.get(":method") for stream in without.requests] == ["GET"]
    mix.world.check()


def test_a_connection_that_ends_before_its_settings() -> None:
    """Whoever waited for them is answered, with 502."""
    mix = Mix("h1-h2")
    endpoint = mix.h2
    assert endpoint is not None
    mix.world.loop.link(endpoint.ip, 80).latency = 0.5
    caller = mix.ask()
    mix.world.run(1.2)
    endpoint.kill()
    mix.world.run(10)

    assert mix.status(caller) == 502
    mix.world.check()


def test_a_caller_that_leaves_while_settings_are_awaited() -> None:
    """Its request is forgotten: no stream is opened for it."""
    mix = Mix("h1-h2")
    endpoint = mix.h2
    assert endpoint is not None
    mix.world.loop.link(endpoint.ip, 80).latency = 0.5
    caller = mix.ask()
    mix.world.run(1.2)

    caller.reset()
    mix.world.run(5)

    assert endpoint.requests == []
    check(mix)


@pytest.mark.parametrize("mix_name", ["h1-h2", "h2-h2"])
def test_a_refusal_of_the_endpoint_is_an_ordinary_answer(mix_name: str) -> None:
    """403 with a body; the caller's connection goes on."""
    mix = Mix(mix_name)
    mix.accepts = False
    assert mix.h2 is not None

    def refuse(stream: Stream) -> None:
        stream.answer(403, b"not you")

    mix.h2.on_head = refuse
    caller = mix.ask()
    mix.world.run(0.1)

    assert mix.status(caller) == 403
    assert b"not you" in caller.data
    check(mix)


# -- the tunnel -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=MIXES)
def mix(request: pytest.FixtureRequest, engine: str) -> Mix:
    made = Mix(request.param)
    if made.h1 is not None and made.caller_version == "h2":
        made.h1.answer_with = answering_keys
    return made


def test_bytes_pass_both_ways_in_order(mix: Mix) -> None:
    """More than any window, in pieces of every size."""
    caller, endpoint = mix.tunnel()
    pieces = [bytes([number]) * (number * 997 % 40_000 + 1) for number in range(40)]

    for piece in pieces:
        caller.send(piece)
        endpoint.send(piece[::-1] + b"!")
    mix.world.run(5)

    assert endpoint.data == b"".join(pieces)
    assert caller.data == b"".join(piece[::-1] + b"!" for piece in pieces)


def test_early_bytes_wait_for_the_answer(mix: Mix) -> None:
    """A caller that does not wait: nothing reaches the endpoint before it has agreed, and nothing is lost."""
    mix.accepts = False
    if mix.h1 is not None:
        mix.h1.answer = None
        mix.h1.answer_with = None
    caller = mix.ask()
    caller.send(b"e" * 50_000)
    mix.world.run(1)
    (endpoint,) = mix.endpoints()
    before = endpoint.data

    if isinstance(endpoint, H1End):
        answering_keys(endpoint.peer)
    elif isinstance(endpoint, H2EndpointEnd):
        endpoint.stream.head(200)
    mix.world.run(1)
    caller.send(b"later")
    mix.world.run(1)

    assert before == b""
    assert endpoint.data == b"e" * 50_000 + b"later"


@pytest.mark.parametrize("first", ["caller", "endpoint"])
def test_ends_travel_one_by_one(mix: Mix, first: str) -> None:
    """FIN is END_STREAM and the other way round; the second direction goes on until it ends."""
    caller, endpoint = mix.tunnel()
    one, other = (caller, endpoint) if first == "caller" else (endpoint, caller)

    one.send(b"last words")
    one.finish()
    mix.world.run(0.5)
    half = (other.data, other.ended, one.ended)
    other.send(b"the answer")
    mix.world.run(0.5)
    other.finish()
    mix.world.run(3)

    assert half == (b"last words", True, False)
    assert (one.data, one.ended, one.cut) == (b"the answer", True, False)
    assert mix.world.sink is not None
    (record,) = mix.world.sink.records
    assert (record.status, record.failed) == (101, False)
    check(mix)


@pytest.mark.parametrize("who", ["caller", "endpoint"])
def test_resets_travel(mix: Mix, who: str) -> None:
    """RST and RST_STREAM are one thing; the reason is counted."""
    caller, endpoint = mix.tunnel()
    caller.send(b"abc")
    endpoint.send(b"defg")
    mix.world.run(0.5)
    one, other = (caller, endpoint) if who == "caller" else (endpoint, caller)

    one.reset()
    mix.world.run(0.5)

    assert other.cut
    assert not other.ended
    assert mix.world.metric(f"{SERVER}/failures/reset-by-{who}") == 1
    assert mix.world.sink is not None
    (record,) = mix.world.sink.records
    assert (record.request_bytes, record.response_bytes) == (3, 4)
    check(mix)


@pytest.mark.parametrize("who", ["caller", "endpoint"])
def test_slow_readers_stall_their_writers_only(mix: Mix, who: str) -> None:
    """2 MB to somebody who does not read: bounded in between, the other direction free, and all of it arrives."""
    caller, endpoint = mix.tunnel()
    slow, fast = (caller, endpoint) if who == "caller" else (endpoint, caller)
    data = bytes(range(256)) * 8000
    slow.read(False)
    fast.send(data)
    mix.world.run(5)
    held = sum(node.buffered for node in mix.world.client().endpoints) if mix.endpoint_version == "h2" else 0

    slow.send(b"still here")
    mix.world.run(1)
    middle = fast.data
    slow.read(True)
    mix.world.run(20)

    # Just below the mark, and then a window that had been given back.
    assert held <= 64 * 1024 + 65_535
    assert middle == b"still here"
    assert slow.data == data


def test_a_silent_tunnel_is_cut(mix: Mix) -> None:
    """After an hour; PINGs of HTTP/2 are no bytes of the tunnel."""
    caller, endpoint = mix.tunnel()

    mix.world.run(TUNNEL_IDLE - 60)
    alive = caller.cut or endpoint.cut
    mix.world.run(60 + LOOK + 1)

    assert not alive
    assert caller.cut
    assert endpoint.cut
    assert mix.world.metric(f"{SERVER}/failures/tunnel-idle") == 1
    check(mix)


def test_a_half_closed_silent_tunnel_has_less_time(mix: Mix) -> None:
    """As between connections."""
    caller, endpoint = mix.tunnel()
    caller.finish()
    mix.world.run(HALF_CLOSED_IDLE + 2 * LOOK)

    assert endpoint.cut
    check(mix)


def test_a_drain_gives_tunnels_their_time(mix: Mix) -> None:
    """They go on, and the end of the drain cuts them."""
    caller, endpoint = mix.tunnel()
    mix.world.linker.drain()
    mix.world.run(10)
    caller.send(b"still")
    mix.world.run(1)
    data = endpoint.data

    mix.world.linker.cut()
    mix.world.run(1)

    assert data == b"still"
    assert caller.cut
    assert endpoint.cut
    assert mix.world.sink is not None
    assert [record.reason for record in mix.world.sink.records] == ["draining"]
    check(mix)


def test_a_tunnel_outlives_reloads(mix: Mix) -> None:
    """Two of them."""
    caller, endpoint = mix.tunnel()
    for _ in range(2):
        mix.world.apply(mix.text)
        mix.world.run(30)
        caller.send(b"on ")
        endpoint.send(b"and ")
        mix.world.run(1)

    assert (endpoint.data, caller.data) == (b"on on ", b"and and ")
    caller.reset()
    mix.world.run(1)
    check(mix)


def test_tunnels_are_counted_alike(mix: Mix) -> None:
    """Status 101 whatever the callers are told, load while they last, bytes."""
    caller, endpoint = mix.tunnel()
    caller.send(b"x" * 1000)
    endpoint.send(b"y" * 300)
    mix.world.run(LOOK + 1)
    during = mix.world.metrics()

    assert during[f"{SERVER}/status/101"] == during[f"{SERVER}/requests"] == during[f"{SERVER}/success"] == 1
    assert during[f"{SERVER}/pending"] == during[f"{CLIENT}/pending"] == 1
    assert during[f"{SERVER}/tunnels/open"] == 1
    assert during[f"{SERVER}/tunnels/received_bytes"] == 1000
    assert during[f"{SERVER}/tunnels/sent_bytes"] == 300

    caller.finish()
    endpoint.finish()
    mix.world.run(3)
    check(mix)


# -- streams among others ---------------------------------------------------------------------------------------------


def test_tunnels_and_requests_share_a_connection() -> None:
    """Ten tunnels and many requests on one connection of a caller: nobody waits for anybody."""
    mix = Mix("h2-h2")
    endpoint = mix.h2
    assert endpoint is not None
    endpoint.handler = lambda stream: stream.answer() if stream.get(":method") == "GET" else None
    agree = endpoint.on_head
    assert agree is not None
    endpoint.on_head = lambda stream: agree(stream) if stream.get(":method") == "CONNECT" else None
    caller = H2Caller(mix.world.loop, 4140)
    asked = ((":protocol", "websocket"),)
    calls = [caller.request("/chat", method="CONNECT", fields=asked, end=False) for _ in range(10)]
    mix.world.run(0.1)

    for number, call in enumerate(calls):
        caller.data(call, b"%d" % number * 100)
    gets = [caller.request("/") for _ in range(50)]
    mix.world.loop.run_while(lambda: any(get.ended is None for get in gets))
    tunnels = [stream for stream in endpoint.requests if stream.get(":method") == "CONNECT"]
    for stream in tunnels:
        stream.data(bytes(stream.body))
    mix.world.run(0.1)

    assert [bytes(call.body) for call in calls] == [b"%d" % number * 100 for number in range(10)]
    assert [get.status for get in gets] == [200] * 50
    assert endpoint.accepted == 1
    caller.close()
    mix.world.run(1)
    assert all(stream.reset_code is not None for stream in tunnels)
    check(mix)


def test_a_connection_that_breaks_ends_its_tunnels() -> None:
    """The endpoint's: every caller's stream is reset, and the reasons are counted."""
    mix = Mix("h2-h2")
    ends = [mix.tunnel()[0] for _ in range(5)]
    assert mix.h2 is not None

    mix.h2.kill()
    mix.world.run(1)

    assert all(end.cut for end in ends)
    assert mix.world.metric(f"{SERVER}/failures/reset-by-endpoint") == 5
    check(mix)


def test_a_goaway_lets_tunnels_go_on() -> None:
    """An endpoint that retires its connection: tunnels of it last, new ones are on another."""
    mix = Mix("h2-h2")
    caller, endpoint = mix.tunnel()
    assert mix.h2 is not None
    assert isinstance(endpoint, H2EndpointEnd)
    endpoint.stream.session.say_goaway(1)
    mix.world.run(60)

    caller.send(b"still")
    second, _ = mix.tunnel()
    mix.world.run(1)

    assert endpoint.data == b"still"
    assert mix.h2.accepted == 2
    caller.reset()
    second.reset()
    mix.world.run(1)
    check(mix)


def test_an_endpoint_that_has_said_all_and_reads_no_more() -> None:
    """END_STREAM and then RST_STREAM(NO_ERROR): the caller gets the whole of what was said."""
    mix = Mix("h1-h2")
    caller, endpoint = mix.tunnel()
    assert isinstance(endpoint, H2EndpointEnd)
    endpoint.send(b"all there is")
    endpoint.finish()
    mix.world.run(0.1)
    # h2 has closed the stream for itself only when both ends have; the frame as it is.
    frame = b"\x00\x00\x04\x03\x00" + endpoint.stream.id.to_bytes(4, "big") + bytes(4)
    endpoint.stream.session.transport.write(frame)
    mix.world.run(0.1)
    caller.send(b"nobody hears this")
    mix.world.run(0.1)
    caller.finish()
    mix.world.run(3)

    assert (caller.data, caller.ended, caller.cut) == (b"all there is", True, False)
    check(mix)
