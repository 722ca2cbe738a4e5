"""The life of callers' HTTP/2 connections and streams: resets, disconnects, limits, silence, drain and reload."""

from __future__ import annotations

import pytest
from attrs import evolve

from hostmesh.protocol.h2.budgets import Budgets
from hostmesh.proxy.h2_caller import H2CallerSession
from hostmesh.proxy.h2_caller_life import IDLE, NOTICE_TIME
from hostmesh.proxy.h2_sending import STALL
from hostmesh.proxy.server import Server
from tests.flow.failing_engine import FailingEngine
from tests.flow.h2_scripted import SERVER, H2Call, caller, finish, h2_config, http_config
from tests.flow.world import World, answering, silent

pytestmark = pytest.mark.usefixtures("engine")

CANCEL = 8
REFUSED_STREAM = 7
ENHANCE_YOUR_CALM = 11
MAX_STREAM = 2**31 - 1


def server_of(world: World) -> Server:
    server = world.linker.servers["127.0.0.1", 4140][1]
    assert isinstance(server, Server)
    return server


def budget(world: World, **budgets: object) -> None:
    """Other bounds for connections from now on."""
    server = server_of(world)
    settings = server.settings
    server.configure(evolve(settings, h2=evolve(settings.h2, budgets=Budgets(**budgets))))  # type: ignore[arg-type]


def test_reset_cancels_the_endpoint_at_once() -> None:
    """A stream that its caller resets ends its work at the endpoint within the time of a message."""
    world = World(http_config())
    (endpoint,) = world.serving(
        lambda received: None if received.message.target == "/" else received.answer()
    )
    connection = caller(world)
    call = connection.request()
    world.run(0.1)
    connection.cancel(call)
    world.run(0.001)

    assert endpoint.requests[0].cut
    other = connection.request("/other")
    finish(world, other)
    assert other.status == 200
    assert world.metric(f"{SERVER}/stream/resets") == 1
    assert world.metric(f"{SERVER}/open_streams") == 0
    assert [record.reason for record in world.sink.records if record.failed] == ["reset-by-caller"]  # type: ignore[union-attr]
    world.check()


def test_reset_in_the_middle_of_an_upload() -> None:
    """The endpoint sees a cut request, never the end of one."""
    world = World(h2_config())
    (endpoint,) = world.serving()
    connection = caller(world)
    call = connection.request(method="POST", end=False)
    connection.data(call, b"half")
    world.run(0.1)
    connection.cancel(call)
    world.run(0.1)

    assert endpoint.requests[0].body == b"half"
    assert not endpoint.requests[0].message.done
    assert endpoint.requests[0].cut
    world.check()


def test_reset_in_the_middle_of_a_download() -> None:
    """What was to come is dropped, here and at the endpoint."""
    world = World(http_config())
    (endpoint,) = world.serving(answering(body=b"x" * 1_000_000))
    connection = caller(world)
    connection.credits = False
    call = connection.request()
    world.run(1.0)
    connection.cancel(call)
    world.run(0.1)

    assert endpoint.requests[0].cut
    assert world.metric(f"{SERVER}/open_streams") == 0
    (session,) = server_of(world).sessions
    assert session.sending.size == 0  # type: ignore[union-attr]
    world.check()


def test_h1_reset_in_the_same_read_costs_no_endpoint() -> None:
    """H1: a stream that is opened and reset at once is never dispatched."""
    world = World(http_config())
    (endpoint,) = world.serving()
    connection = caller(world)
    call = connection.request()
    connection.cancel(call)
    fine = connection.request("/fine")
    finish(world, fine)

    assert [each.message.target for each in endpoint.requests] == ["/fine"]
    world.check()


def test_h1_rapid_reset_ends_the_connection() -> None:
    """H1: more than 100 resets within 10 s are answered with ENHANCE_YOUR_CALM; another caller notices nothing."""
    world = World(http_config())
    world.serving(silent, name="quiet")
    world.serving(name="web")
    connection, other = caller(world), caller(world, source="10.9.9.8")
    for _ in range(110):
        call = connection.request(host="quiet")
        world.run(0.01)
        if connection.closed:
            break
        connection.cancel(call)
    world.run(0.1)
    fine = other.request()
    finish(world, fine)

    assert connection.closed
    assert connection.goaways[-1][1] == ENHANCE_YOUR_CALM
    assert fine.status == 200
    assert world.metric(f"{SERVER}/goaways") == 1
    assert world.metric(f"{SERVER}/failures/limit-resets") == 1
    assert world.metric(f"{SERVER}/open_streams") == 0
    world.check()


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_disconnect_aborts_all_exchanges(how: str) -> None:
    """A caller that goes away takes every request on its connection with it, whatever state that was in."""
    world = World(h2_config())
    (quiet,) = world.serving(silent, name="quiet")
    (large,) = world.serving(answering(body=b"x" * 1_000_000), name="large")
    connection = caller(world)
    connection.credits = False
    connection.request(host="quiet")
    connection.request(host="large")
    upload = connection.request(host="quiet", method="POST", end=False)
    connection.data(upload, b"x")
    connection.request(host="unknown-yet")
    world.run(1.0)
    if how == "fin":
        connection.transport.shutdown_write()
    else:
        connection.reset()
    world.run(0.1)

    assert all(request.cut for request in [*quiet.requests, *large.requests])
    assert world.metric(f"{SERVER}/open_streams") == 0
    assert world.metric(f"{SERVER}/connections") == 0
    world.check()


def test_too_many_streams() -> None:
    """Streams above maxConcurrentStreamsPerConnection are refused; those below are served."""
    world = World(h2_config(server="maxConcurrentStreamsPerConnection: 2"))
    world.serving(answering(after=0.5))
    connection = caller(world)
    calls = [connection.request() for _ in range(3)]
    finish(world, *calls)

    assert [call.status for call in calls] == [200, 200, 0]
    assert calls[2].reset == REFUSED_STREAM
    world.check()


def test_settings_of_the_server_are_announced() -> None:
    """The server's keys become SETTINGS."""
    world = World(
        h2_config(
            server="maxConcurrentStreamsPerConnection: 7, headerTableBytes: 8192, initialStreamWindowBytes: 100000,"
            " maxFrameBytes: 20000, maxHeaderListBytes: 9000"
        )
    )
    connection = caller(world)
    world.run(0.1)
    remote = connection.conn.remote_settings

    assert (remote.max_concurrent_streams, remote.header_table_size) == (7, 8192)
    assert (remote.initial_window_size, remote.max_frame_size) == (100_000, 20_000)
    assert remote.max_header_list_size == 9000
    connection.close()
    world.check()


def test_h4_head_over_the_limit() -> None:
    """H4: a header list over maxHeaderListBytes is answered 431, and then the connection ends."""
    world = World(h2_config(server="maxHeaderListBytes: 2000"))
    world.serving()
    connection = caller(world)
    call = connection.request(fields=(("x-long", "x" * 3000),))
    finish(world, call)
    world.run(0.1)

    assert (call.status, call.reason) == (431, "limit-header-bytes")
    assert call.body.startswith(b"a header list of more than 2000")
    assert connection.closed
    world.check()


def test_h5_too_many_fields() -> None:
    """H5: many small fields are answered 431; the connection goes on."""
    world = World(h2_config())
    world.serving()
    connection = caller(world)
    call = connection.request(fields=tuple((f"x{n}", "") for n in range(150)))
    fine = connection.request()
    finish(world, call, fine)

    assert (call.status, call.reason, fine.status) == (431, "limit-header-count", 200)
    assert world.metric(f"{SERVER}/failures/limit-header-count") == 1
    world.check()


def test_h3_head_that_does_not_end() -> None:
    """H3: a header block that is not complete after 10 s ends the connection, however lively it is otherwise."""
    world = World(h2_config())
    world.serving()
    connection = caller(world)
    fine = connection.request()
    finish(world, fine)
    connection.send(b"\x00\x00\x01\x01\x00\x00\x00\x00\x03\x82")
    world.run(Budgets().header_seconds - 0.5)
    before = connection.closed
    world.run(1.0)

    assert not before
    assert connection.closed
    assert connection.goaways[-1][1] == ENHANCE_YOUR_CALM
    assert world.metric(f"{SERVER}/failures/limit-head-time") == 1
    world.check()


def test_h7_response_that_nobody_takes() -> None:
    """H5, H7: a stream whose caller gives no window for 30 s is reset, its endpoint cancelled; the others go on."""
    world = World(http_config())
    (endpoint,) = world.serving(
        lambda received: received.answer(
            body=b"x" * (1_000_000 if received.message.target == "/large" else 1)
        )
    )
    connection = caller(world)
    connection.credits = False
    large = connection.request("/large")
    world.run(1.0)
    connection.conn.increment_flow_control_window(1000)
    connection.flush()
    world.run(STALL + 2.0)
    small = connection.request("/small")
    finish(world, small)

    assert (large.reset, large.done) == (CANCEL, False)
    assert endpoint.requests[0].cut
    assert small.status == 200
    world.check()


@pytest.mark.parametrize("begun", [True, False])
def test_h11_body_that_stops(begun: bool) -> None:
    """H11: a request of which nothing comes for 60 s is answered 408, or reset if its answer has begun."""
    world = World(h2_config())
    (endpoint,) = world.serving(None)
    if begun:
        endpoint.on_head = lambda received: received.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
    connection = caller(world)
    call = connection.request(method="POST", end=False)
    connection.data(call, b"x")
    world.run(40.0)
    connection.data(call, b"x")
    world.run(40.0)
    before = call.ended
    finish(world, call)

    assert before is None
    assert call.elapsed == pytest.approx(100.0, abs=1.0)
    if begun:
        assert (call.status, call.done, call.reset) == (200, False, 2)
    else:
        assert (call.status, call.reason, call.done) == (408, "limit-body-time", True)
    assert endpoint.requests[0].cut
    world.check()


def test_h11_long_request_of_ours_is_no_silence() -> None:
    """A caller that waits for a slow answer, or for windows that we withhold, is not silent."""
    world = World(h2_config())
    (endpoint,) = world.serving(answering(after=200.0))
    endpoint.on_head = lambda received: (
        received.session.transport.pause() if received.message.target == "/stuck" else None
    )
    connection = caller(world)
    waiting = connection.request()
    stuck = connection.request("/stuck", method="POST", end=False)
    world.run(0.1)
    while room := connection.room(stuck):
        connection.data(stuck, b"x" * room)
        world.run(0.1)
    world.run(50.0)
    # The endpoint takes some in time for the stall of its own connection.
    for _ in range(3):
        endpoint.requests[1].session.transport.resume()
        world.run(0.001)
        endpoint.requests[1].session.transport.pause()
        world.run(45.0)
        while room := connection.room(stuck):
            connection.data(stuck, b"x" * room)
            world.run(0.1)
    assert stuck.ended is None
    finish(world, waiting)
    assert waiting.status == 200
    connection.close()
    world.check()


def test_h11_idle_connection_ends_gracefully() -> None:
    """H11: without a stream for 60 s, a connection is told to go twice, and closed."""
    world = World(h2_config())
    world.serving()
    connection = caller(world)
    finish(world, connection.request())
    world.run(IDLE - 1.0)
    finish(world, connection.request())
    world.run(IDLE - 1.0)
    before = list(connection.goaways)
    world.run(2.0)

    assert before == []
    assert connection.goaways == [(MAX_STREAM, 0), (3, 0)]
    assert connection.closed
    assert world.metric(f"{SERVER}/connections") == 0
    world.check()


@pytest.mark.parametrize(
    ("server", "after"),
    [("serverSession: {idleTimeMs: 5000}", 5.0), ("serverSession: {lifeTimeMs: 5000}", 5.0)],
)
def test_idle_and_life_time_of_the_server(server: str, after: float) -> None:
    """The server's own times hold when they are shorter."""
    world = World(h2_config(server=server))
    connection = caller(world)
    world.run(after - 0.5)
    before = connection.closed
    world.run(1.0)

    assert not before
    assert connection.closed
    assert connection.goaways[0] == (MAX_STREAM, 0)
    world.check()


def test_life_time_lets_streams_finish() -> None:
    """A connection at the end of its life answers what it was asked."""
    world = World(h2_config(server="serverSession: {lifeTimeMs: 1000}"))
    world.serving(answering(after=3.0))
    connection = caller(world)
    call = connection.request()
    finish(world, call)
    world.run(0.1)

    assert call.status == 200
    assert connection.closed
    world.check()


def test_h8_streams_of_a_connection_are_counted() -> None:
    """H8: after a number of streams the connection ends gracefully; nothing is lost."""
    world = World(h2_config())
    world.serving()
    budget(world, max_streams=5)
    connection = caller(world)
    calls = [connection.request() for _ in range(7)]
    finish(world, *calls)
    world.run(0.1)

    assert [call.status for call in calls] == [200] * 7
    assert connection.goaways == [(MAX_STREAM, 0), (13, 0)]
    assert connection.closed
    world.check()


def test_drain_lets_streams_finish() -> None:
    """A drain says so twice: what comes before the caller can know is served; then the connection ends."""
    world = World(h2_config(), latency=0.01)
    world.serving(answering(after=1.0))
    connection = caller(world)
    first = connection.request()
    world.run(0.5)
    world.linker.drain()
    world.run(0.005)  # the notice is on its way, the caller knows nothing
    second = connection.request()
    finish(world, first, second)
    world.run(0.1)

    assert (first.status, second.status) == (200, 200)
    assert connection.goaways == [(MAX_STREAM, 0), (3, 0)]
    assert connection.closed
    assert world.linker.connections == 0
    world.check()


def test_drain_with_an_answer_that_nobody_takes() -> None:
    """A stream that stands still is given up during a drain as ever, and then the connection ends."""
    world = World(h2_config())
    world.serving(answering(body=b"x" * 70_000))
    connection = caller(world)
    connection.credits = False
    call = connection.request()
    world.run(1.0)
    world.linker.drain()
    world.run(STALL - 5.0)
    before = connection.closed
    world.run(10.0)

    assert not before
    assert (call.done, call.reset) == (False, CANCEL)
    assert connection.closed
    assert world.linker.connections == 0
    world.check()


def test_drain_with_an_upload_that_stops() -> None:
    """Silence counts during a drain, too, also when it was we who did not listen before."""
    world = World(h2_config())
    (endpoint,) = world.serving()
    endpoint.on_head = lambda received: received.session.transport.pause()
    connection = caller(world)
    call = connection.request(method="POST", end=False)
    world.run(0.1)
    while room := connection.room(call):
        connection.data(call, b"x" * room)
        world.run(0.1)
    world.run(10.0)
    world.linker.drain()
    world.run(40.0)
    endpoint.requests[0].session.transport.resume()
    finish(world, call, limit=200.0)
    world.run(1.0)

    assert (call.status, call.reason) == (408, "limit-body-time")
    assert connection.closed
    world.check()


def test_drain_of_an_idle_connection() -> None:
    """Nothing is asked: the connection ends within a round trip."""
    world = World(h2_config())
    connection = caller(world)
    world.run(0.1)
    world.linker.drain()
    world.run(0.1)

    assert connection.closed
    assert world.linker.connections == 0
    world.check()


def test_drain_of_a_caller_that_does_not_answer_pings() -> None:
    """A caller that never answers is told the rest after a time."""
    world = World(h2_config())
    connection = caller(world)
    world.run(0.1)
    connection.conn.receive_data = lambda _data: []  # type: ignore[method-assign]
    world.linker.drain()
    world.run(NOTICE_TIME - 0.5)
    before = connection.closed
    world.run(1.0)

    assert not before
    assert connection.closed
    world.check()


def test_end_of_the_drain() -> None:
    """When the time is over, requests without an answer get one, and answers that have begun are cut."""
    world = World(h2_config())
    world.serving(silent, name="quiet")
    world.serving(
        lambda received: received.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), name="half"
    )
    connection = caller(world)
    quiet, half = connection.request(host="quiet"), connection.request(host="half")
    world.run(0.5)
    world.linker.drain()
    world.run(1.0)
    world.linker.cut()
    world.run(0.1)

    assert (quiet.status, quiet.reason, quiet.done) == (503, "draining", True)
    assert (half.status, half.done, half.reset) == (200, False, 2)
    assert connection.closed
    assert world.linker.connections == 0
    world.check()


def test_connection_before_its_first_byte_drains_too() -> None:
    """Who has said nothing yet is closed, whatever it would have spoken."""
    world = World(http_config())
    connection = caller(world, start=False)
    world.run(0.1)
    world.linker.drain()
    world.run(1.0)

    assert connection.closed
    assert world.linker.connections == 0
    world.check()


def test_half_a_preface_is_not_waited_for() -> None:
    """A caller that stops in the middle of the preface is closed as one that says nothing."""
    world = World(http_config())
    connection = caller(world, start=False)
    connection.send(b"PRI * HTTP/2.0\r\n")
    world.run(31.0)

    assert connection.closed
    assert world.linker.connections == 0
    world.check()


def test_reload_keeps_connections() -> None:
    """Open HTTP/2 connections serve a new configuration from their next stream on."""
    world = World(h2_config())
    world.serving(name="web")
    world.serving(answering(201), name="other")
    connection = caller(world)
    before = connection.request()
    finish(world, before)
    world.apply(h2_config().replace("/svc => /#/lit", "/svc/web => /#/lit/other"))
    after = connection.request()
    finish(world, after)

    assert (before.status, after.status) == (200, 201)
    assert connection.goaways == []
    assert world.metric(f"{SERVER}/connects") == 1
    world.check()


def test_server_that_is_gone_after_a_reload() -> None:
    """A server that a reload removes drains its HTTP/2 connections."""
    world = World(h2_config())
    world.serving(answering(after=1.0))
    connection = caller(world)
    call = connection.request()
    world.run(0.1)
    world.apply(h2_config().replace("4140", "4141"))
    finish(world, call)
    world.run(0.1)

    assert call.status == 200
    assert connection.closed
    world.check()


def test_goaway_of_the_caller() -> None:
    """A caller that says goodbye gets what it has asked, and the connection ends."""
    world = World(h2_config())
    world.serving(answering(after=0.5))
    connection = caller(world)
    call = connection.request()
    world.run(0.1)
    connection.send(b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + bytes(8))
    finish(world, call)
    world.run(0.1)

    assert call.status == 200
    assert connection.closed
    world.check()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ((("via", ", ".join(["1.1 x"] * 3)),), "loop"),
        ((("l5d-dtab", "nonsense"),), "bad-dtab"),
        ((("l5d-dtab", "/svc => /$/inet/169.254.169.254/80"),), "policy-dtab"),
    ],
)
def test_context_is_read(fields: tuple[tuple[str, str], ...], reason: str) -> None:
    """Hops are counted and dtabs judged as for HTTP/1.1."""
    world = World(h2_config(server="maxCallDepth: 2"))
    world.serving()
    call = caller(world).request(fields=fields)
    finish(world, call)

    assert call.reason == reason
    assert call.status in (400, 403)
    world.check()


def test_many_streams_of_every_kind_leave_nothing() -> None:
    """H12: after answers, resets, errors, cuts and early answers every counter is back at zero."""
    world = World(http_config(service="totalTimeoutMs: 2000"))
    rng = world.env.rng("test")
    world.serving(silent, name="quiet")
    world.serving(answering(body=b"x" * 100_000), name="large")
    (early,) = world.serving(None, name="early")
    early.on_head = lambda received: received.answer()
    world.serving(lambda received: received.reset(after=0.01), name="cut")
    connections = [caller(world) for _ in range(4)]
    calls: list[H2Call] = []
    for number in range(400):
        connection = connections[number % 4]
        host = rng.choice(["quiet", "large", "early", "cut", "nowhere"])
        upload = rng.random() < 0.3
        call = connection.request(host=host, method="POST" if upload else "GET", end=not upload)
        calls.append(call)
        world.run(rng.random() * 0.05)
        if rng.random() < 0.1 and call.ended is None:
            connection.cancel(call)
        elif upload and call.ended is None:
            connection.finish(call)
    finish(world, *calls)
    world.run(3.0)

    assert world.metric(f"{SERVER}/open_streams") == 0
    assert all(not session.streams and not session.sending.size for session in server_of(world).sessions)  # type: ignore[union-attr]
    assert all(session.engine.open_streams == 0 for session in server_of(world).sessions)  # type: ignore[union-attr]
    assert world.metric(f"{SERVER}/requests") == 400
    world.check()


@pytest.mark.parametrize("fails", ["reads", "writes", "everything"])
def test_a_bug_of_our_engine_is_neither_the_callers_doing_nor_the_endpoints(fails: str) -> None:
    """The connection ends with INTERNAL_ERROR and its requests with the reason ``bug``; nothing is blamed for it."""
    world = World(h2_config())
    world.serving(silent)
    connection = caller(world)
    connection.request()
    world.run(0.1)
    (session,) = server_of(world).sessions
    assert isinstance(session, H2CallerSession)
    failing = FailingEngine(session.engine, all_of_it=fails == "everything", writes=fails == "writes")
    session.engine = session.sending._engine = failing  # type: ignore[assignment]
    connection.request("/other")
    world.run(0.1)

    # Where reading fails nobody knows of the second request.
    assert [record.reason for record in world.sink.records] == ["bug"] * (2 if fails == "writes" else 1)  # type: ignore[union-attr]
    assert {type(error) for error in world.errors} == {ZeroDivisionError}
    assert len(world.errors) == (2 if fails == "everything" else 1)
    assert connection.closed
    world.errors.clear()
    world.check()
