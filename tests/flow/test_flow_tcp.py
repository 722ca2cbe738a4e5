"""Connections through a tcp router: names, connects, tunnels, times, ends."""

from __future__ import annotations

import errno
import gc
import random

import pytest

from hostmesh.base.var import PENDING
from hostmesh.proxy.tcp_exchange import LOOK_EVERY, TcpExchange
from hostmesh.proxy.tcp_session import TcpSession
from hostmesh.proxy.tunnel import HALF_CLOSED_IDLE
from tests.flow.tcp_peers import Peer, TcpEndpoint, TcpWorld, config
from tests.flow.world import CONFIG


def test_bytes_go_both_ways_and_are_counted() -> None:
    """What each says the other hears; counters show it while the connection lasts and after it."""
    world = TcpWorld()
    (endpoint,) = world.tcp()
    caller, far = world.joined(endpoint)

    caller.send(b"select 1")
    world.run(0.01)
    far.send(b"one row")
    world.run(LOOK_EVERY)

    assert (bytes(far.data), bytes(caller.data)) == (b"select 1", b"one row")
    counts = ("received_bytes", "sent_bytes", "connections", "connects", "closes")
    assert [world.server(name) for name in counts] == [8, 7, 1, 1, 0]
    assert [world.client_metric(name) for name in counts] == [7, 8, 1, 1, 0]
    caller.close()
    world.run(0.01)
    far.close()
    world.run(3)
    assert [world.server(name) for name in counts] == [8, 7, 0, 1, 1]
    assert [world.client_metric(name) for name in counts] == [7, 8, 0, 1, 1]
    world.check()


def test_a_record_says_what_it_was() -> None:
    """One for each connection, when it ends."""
    world = TcpWorld()
    (endpoint,) = world.tcp()
    caller, far = world.joined(endpoint)
    caller.send(b"12345")
    world.run(2.0)
    caller.close()
    far.close()
    world.run(3)

    assert world.sink is not None
    (record,) = world.sink.records
    assert (record.router, record.server, record.method) == ("db", "127.0.0.1/5432", b"TCP")
    assert record.caller.startswith("10.9.9.9:")
    assert (record.dst_path, record.bound_id, record.endpoint) == ("/svc/web", "/#/lit/web", endpoint.text)
    assert (record.failed, record.reason, record.status) == (False, "", 0)
    assert (record.request_bytes, record.response_bytes) == (5, 0)
    assert 2.0 < record.total < 2.2
    assert 0 < record.endpoint_time < 0.01
    world.check()


def test_the_server_may_speak_first() -> None:
    """Nothing is waited for where the name does not depend on what is said."""
    world = TcpWorld()
    (endpoint,) = world.tcp()
    endpoint.on_accept = lambda peer: peer.send(b"220 welcome")

    caller = world.dial()
    world.run(0.01)

    assert bytes(caller.data) == b"220 welcome"
    caller.reset()
    world.check()


def test_what_was_said_before_the_connect_arrives() -> None:
    """A caller that does not wait loses nothing, however long name and connect take."""
    world = TcpWorld(latency=0.05)
    world.namer.otherwise = PENDING
    caller = world.dial(say=b"early")
    world.run(1)
    (endpoint,) = world.tcp()
    world.run(1)

    assert bytes(endpoint.peers[0].data) == b"early"
    caller.reset()
    world.check()


@pytest.mark.parametrize("first", ["caller", "endpoint"])
def test_half_closed(first: str) -> None:
    """One side ends and still hears the other out."""
    world = TcpWorld()
    (endpoint,) = world.tcp()
    pair = world.joined(endpoint)
    one, other = pair if first == "caller" else pair[::-1]

    one.send(b"the question")
    one.end()
    world.run(1)
    assert (bytes(other.data), other.saw_eof, other.gone) == (b"the question", True, False)
    other.send(b"the answer")
    other.close()
    world.run(3)

    assert (bytes(one.data), one.saw_eof) == (b"the answer", True)
    assert world.reasons == [""]
    world.check()


def test_a_large_stream_meets_a_slow_reader() -> None:
    """Ten megabytes through a window of 64 KiB, with nothing held here but what the marks allow."""
    world = TcpWorld()
    (endpoint,) = world.tcp()
    caller, far = world.joined(endpoint)
    data = random.Random(1).randbytes(10 << 20)

    far.send(data)
    far.close()
    world.run(30)

    assert bytes(caller.data) == data
    assert caller.saw_eof
    caller.close()
    world.run(3)
    world.check()


# -- names ------------------------------------------------------------------------------------------------------------


def test_ports_are_names() -> None:
    """Without an identifier the listener's port is the name."""
    world = TcpWorld(
        """
routers:
- protocol: tcp
  label: db
  dtab: /svc/5432 => /#/lit/orders; /svc/5433 => /#/lit/users
  servers: [{port: 5432}, {port: 5433}]
"""
    )
    (orders,), (users,) = world.tcp(name="orders"), world.tcp(name="users")

    world.joined(orders)[0].reset()
    world.joined(users, port=5433)[0].reset()

    assert (len(orders.peers), len(users.peers)) == (1, 1)
    world.check()


@pytest.mark.parametrize(
    ("dtab", "reason"),
    [
        ("/other => /#/lit", "no-dentry"),
        ("/svc => /#/lit ; /svc/web => !", "name-negative"),
        ("/svc => /#/lit ; /svc/web => /$/io.buoyant.http.status/503", "name-negative"),
    ],
)
def test_a_name_that_leads_nowhere_resets(dtab: str, reason: str) -> None:
    """There is no answer to give: the caller is reset, and the log says why."""
    world = TcpWorld(config().replace("/svc => /#/lit", dtab))
    world.tcp()

    caller = world.dial()
    world.run(1)

    assert caller.was_reset
    assert world.reasons == [reason]
    assert world.server(f"failures/{reason}") == 1
    world.check()


def test_a_name_that_is_not_bound_is_waited_for() -> None:
    """As long as bindingTimeoutMs, and no longer."""
    world = TcpWorld(config(router="bindingTimeoutMs: 500"))
    world.namer.otherwise = PENDING
    caller = world.dial()
    world.run(0.4)
    assert not caller.gone
    world.run(0.2)

    assert caller.was_reset
    assert world.reasons == ["binding-timeout"]
    world.check()


def test_a_caller_that_leaves_while_it_waits_is_forgotten() -> None:
    """A reset before the name is bound ends the wait."""
    world = TcpWorld()
    world.namer.otherwise = PENDING
    caller = world.dial()
    world.run(0.1)
    caller.reset()
    world.run(0.1)

    assert world.reasons == ["reset-by-caller"]
    assert world.server("connections") == 0
    (endpoint,) = world.tcp()
    world.run(1)
    assert endpoint.peers == []
    world.check()


# -- connects ---------------------------------------------------------------------------------------------------------


def test_a_failed_connect_goes_elsewhere() -> None:
    """The caller does not notice, and five failures in a row eject the endpoint."""
    world = TcpWorld()
    (endpoint,) = world.tcp()
    world.name("web", endpoint.text, "10.0.0.77:80")

    # A failure keeps its slot for two seconds, so it takes a while until the balancer comes back to it.
    for _ in range(100):
        caller, _far = world.joined(endpoint)
        caller.reset()
        world.run(0.5)
        if world.client_metric("failure_accrual/removals"):
            break
    for _ in range(20):
        caller, _far = world.joined(endpoint)
        caller.reset()

    assert world.loop.dialled["10.0.0.77", 80] == 5
    assert set(world.reasons) == {"reset-by-caller"}
    assert world.client_metric("service_creation/failures") == 5
    assert world.client_metric("retries/requeues") == 5
    world.check()


def test_a_connect_that_succeeds_clears_the_failures() -> None:
    """Three failures, a success and three more are not five in a row: an endpoint is dialled three times for a caller
    when it is the only one."""
    world = TcpWorld()
    (endpoint,) = world.tcp()
    link = world.loop.link(endpoint.ip, endpoint.port)
    for error in (ConnectionRefusedError(errno.ECONNREFUSED, "no"), None) * 4:
        link.error = error
        caller = world.dial()
        world.run(3)
        caller.reset()
        world.run(3)

    assert world.client_metric("service_creation/failures") == 12
    assert world.client_metric("failure_accrual/removals") == 0
    world.check()


def test_nobody_listens() -> None:
    """A bounded number of connects, then a reset with the reason."""
    world = TcpWorld()
    world.name("web", "10.0.0.77:80", "10.0.0.78:80")

    caller = world.dial()
    world.run(2)

    assert caller.was_reset
    assert world.reasons == ["connect-refused"]
    assert sum(world.loop.dialled[ip, 80] for ip in ("10.0.0.77", "10.0.0.78")) <= 5
    world.check()


def test_connects_have_a_time_of_their_own() -> None:
    """connectTimeoutMs, for each endpoint."""
    world = TcpWorld(config(client="connectTimeoutMs: 200"))
    world.name("web", "10.0.0.77:80")
    world.loop.link("10.0.0.77", 80).silent = True
    started = world.loop.now()

    caller = world.dial()
    world.loop.run_while(lambda: not caller.gone)

    assert 0.6 <= world.loop.now() - started < 0.7
    assert world.reasons == ["connect-timeout"]
    assert world.loop.dialled["10.0.0.77", 80] == 3
    world.check()


def test_all_of_it_has_a_time() -> None:
    """totalTimeoutMs ends the dialling; a connection that stands is not its business."""
    world = TcpWorld(config(service="totalTimeoutMs: 1500"))
    (endpoint,) = world.tcp()
    caller, _far = world.joined(endpoint)
    world.name("web", "10.0.0.77:80")
    world.loop.link("10.0.0.77", 80).silent = True

    late = world.dial()
    world.run(1.4)
    assert not late.gone
    world.run(0.2)

    assert late.was_reset
    assert not caller.gone
    assert world.reasons == ["total-timeout"]
    caller.reset()
    world.check()


def test_a_caller_that_leaves_cancels_its_connect() -> None:
    """Nobody needs that connection."""
    world = TcpWorld()
    slow = TcpEndpoint(world.loop, "10.0.0.77")
    world.name("web", slow.text)
    world.loop.link("10.0.0.77", 80).latency = 0.4
    caller = world.dial()
    world.run(0.1)

    caller.reset()
    world.run(5)

    assert world.loop.dialled["10.0.0.77", 80] == 1
    assert slow.peers == []
    assert world.reasons == ["reset-by-caller"]
    assert world.client("web", "db").endpoints[0].connecting == {}
    world.check()


def test_fail_fast_sets_aside_and_probes() -> None:
    """A refused endpoint is not dialled for callers until a probe connects; the probe's connection is closed."""
    world = TcpWorld(config(client="failFast: true"))
    world.name("web", "10.0.0.77:80", "10.0.0.78:80")
    assert world.dial() is not None
    world.run(0.1)
    assert world.reasons == ["all-ejected"]

    back = TcpEndpoint(world.loop, "10.0.0.77")
    world.run(3)
    assert [peer.saw_eof for peer in back.peers] == [True]
    caller, far = world.joined(back)
    caller.send(b"hello")
    world.run(0.1)

    assert bytes(far.data) == b"hello"
    assert world.client_metric("connections") == 1
    caller.reset()
    world.check()


# -- balancing --------------------------------------------------------------------------------------------------------


def test_open_connections_are_the_load() -> None:
    """Two hundred connections that stay are spread evenly; when some end, most new ones go there."""
    world = TcpWorld()
    endpoints = world.tcp(4)
    callers = [world.dial() for _ in range(200)]
    world.run(1)
    assert sorted(each.open for each in endpoints) == pytest.approx([50] * 4, abs=3)

    for peer in endpoints[0].peers:
        peer.reset()
    world.run(1)
    callers += [world.dial() for _ in range(50)]
    world.run(1)

    assert max(each.open for each in endpoints[1:]) < 65
    assert endpoints[0].open > 15
    for caller in callers:
        if not caller.gone:
            caller.reset()
    world.run(1)
    world.check()


def test_latency_is_that_of_connects() -> None:
    """ewma learns from connects when they are over, not when connections end."""
    world = TcpWorld(config(client="loadBalancer: {kind: ewma}"))
    near, far = world.tcp(2)
    world.loop.link(far.ip, far.port).latency = 0.05
    callers = []
    for _ in range(40):
        callers.append(world.dial())
        world.run(0.2)

    assert len(far.peers) < len(near.peers) / 4
    costs = {node.text: node.cost for node in world.client("web", "db").endpoints}
    assert costs[far.text] > 10 * costs[near.text] > 0
    for caller in callers:
        caller.reset()
    world.run(1)
    world.check()


def test_an_endpoint_that_leaves_keeps_its_connections() -> None:
    """Discovery says where new connections go."""
    world = TcpWorld()
    old, new = world.tcp(2)
    world.name("web", old.text)
    caller, far = world.joined(old)

    world.name("web", new.text)
    world.run(60)
    caller.send(b"still")
    world.run(0.1)
    other, _ = world.joined(new)

    assert bytes(far.data) == b"still"
    caller.reset()
    other.reset()
    world.run(1)
    world.check()


# -- time -------------------------------------------------------------------------------------------------------------


def test_idle_connections_are_cut() -> None:
    """After serverSession.idleTimeMs without a byte, and not before; both sides see a reset."""
    world = TcpWorld(config(server="serverSession: {idleTimeMs: 60000}"))
    (endpoint,) = world.tcp()
    caller, far = world.joined(endpoint)
    for _ in range(5):
        world.run(55)
        far.send(b".")
    world.run(59)
    assert not caller.gone

    world.run(20)

    assert caller.was_reset
    assert far.was_reset
    assert world.reasons == ["tunnel-idle"]
    world.check()


def test_half_closed_connections_are_cut_sooner() -> None:
    """Nearly always the other side has gone without noticing."""
    world = TcpWorld()
    (endpoint,) = world.tcp()
    caller, _far = world.joined(endpoint)
    world.run(HALF_CLOSED_IDLE * 3)
    assert not caller.gone
    caller.end()

    world.run(HALF_CLOSED_IDLE * 1.5)

    assert world.reasons == ["tunnel-idle"]
    world.check()


def test_connections_have_a_life_time() -> None:
    """lifeTimeMs cuts whatever is said."""
    world = TcpWorld(config(server="serverSession: {lifeTimeMs: 10000}"))
    (endpoint,) = world.tcp()
    caller, far = world.joined(endpoint)
    for _ in range(9):
        far.send(b".")
        world.run(1)
    assert not caller.gone

    world.run(1.1)

    assert caller.was_reset
    assert world.reasons == ["tunnel-life"]
    world.check()


# -- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["caller", "endpoint"])
def test_a_reset_is_passed_on(who: str) -> None:
    """And blamed on who did it."""
    world = TcpWorld()
    (endpoint,) = world.tcp()
    pair = world.joined(endpoint)
    one, other = pair if who == "caller" else pair[::-1]
    one.send(b"half a")
    world.run(0.01)

    one.reset()
    world.run(0.1)

    assert (bytes(other.data), other.was_reset) == (b"half a", True)
    assert world.reasons == [f"reset-by-{who}"]
    assert world.server(f"failures/reset-by-{who}") == 1
    world.check()


def test_more_connections_than_allowed_are_reset() -> None:
    """maxConnections, told as overloaded."""
    world = TcpWorld(config(server="maxConnections: 2"))
    (endpoint,) = world.tcp()
    callers = [world.dial() for _ in range(3)]
    world.run(0.1)

    assert [caller.was_reset for caller in callers] == [False, False, True]
    assert world.reasons == ["overloaded"]
    callers[0].reset()
    world.run(0.1)
    assert not world.joined(endpoint)[0].gone
    for peer in endpoint.peers:
        peer.reset()
    world.run(1)
    world.check()


def test_r3_descriptors_are_counted_twice() -> None:
    """R3: each connection has another at its other end, so half as many are accepted; the next wait for room."""
    world = TcpWorld()
    (endpoint,) = world.tcp()
    world.linker.max_connections = 6
    callers = [world.dial() for _ in range(4)]
    world.run(0.1)

    assert len(endpoint.peers) == 3
    callers[0].reset()
    world.run(1)
    assert len(endpoint.peers) == 4
    for caller in callers[1:]:
        caller.reset()
    world.run(1)
    world.check()


def test_drain() -> None:
    """Connections go on until the deadline; then they are reset and said to be draining's."""
    world = TcpWorld()
    (endpoint,) = world.tcp()
    caller, far = world.joined(endpoint)

    world.linker.drain()
    world.run(5)
    refused = world.dial()
    far.send(b"more")
    world.run(0.1)
    assert (bytes(caller.data), caller.gone) == (b"more", False)
    assert refused.error is not None
    assert refused.error.errno == errno.ECONNREFUSED
    world.linker.cut()
    world.run(0.1)

    assert caller.was_reset
    assert world.reasons == ["draining"]
    assert world.linker.connections == 0
    world.check()


def test_drain_lets_go_of_who_waits() -> None:
    """One that is still dialling ends at the deadline, too."""
    world = TcpWorld()
    world.name("web", "10.0.0.77:80")
    world.loop.link("10.0.0.77", 80).silent = True
    caller = world.dial()
    world.run(0.1)

    world.linker.drain()
    world.linker.cut()
    world.run(0.1)

    assert caller.was_reset
    assert world.reasons == ["draining"]
    world.check()


def tracked(*kinds: type) -> list[object]:
    """What there is of these classes, garbage that was not collected included."""
    return [each for each in gc.get_objects() if type(each) in kinds]


@pytest.mark.parametrize("how", ["end", "reset", "refused"])
def test_nothing_is_left_for_the_collector(how: str) -> None:
    """Session and exchange are freed when the connection has ended."""
    world = TcpWorld(records=False)
    (endpoint,) = world.tcp()
    if how == "refused":
        world.name("web", "10.0.0.77:80")
        world.loop.link("10.0.0.77", 80).silent = True
        caller = world.dial()
        world.run(0.1)
    else:
        caller, far = world.joined(endpoint)
    _listener, server = world.linker.servers["127.0.0.1", 5432]
    assert len(server.sessions) == 1
    gc.collect()
    assert len(tracked(TcpSession, TcpExchange)) == 2
    gc.disable()
    try:
        if how == "end":
            caller.end()
            far.end()
        elif how == "reset":
            far.reset()
        world.run(30)

        assert tracked(TcpSession, TcpExchange) == []
    finally:
        gc.enable()
    world.check()


# -- reload -----------------------------------------------------------------------------------------------------------


def test_a_reload_keeps_connections_and_counts() -> None:
    """Stacks move to the new router with their connections; new settings hold for connections that are open."""
    world = TcpWorld()
    (endpoint,) = world.tcp()
    caller, far = world.joined(endpoint)
    before = world.client("web", "db")

    world.apply(config(server="serverSession: {idleTimeMs: 60000}"))
    world.run(20)
    far.send(b"hello")
    world.run(0.1)
    world.joined(endpoint)

    assert bytes(caller.data) == b"hello"
    assert world.client("web", "db") is before
    assert world.client_metric("connections") == 2
    world.run(400)
    assert world.reasons == ["tunnel-idle", "tunnel-idle"]
    world.check()


def test_a_port_that_goes_away_keeps_its_connections() -> None:
    """Nobody new is accepted; who is connected ends when it likes."""
    world = TcpWorld()
    (endpoint,) = world.tcp()
    caller, far = world.joined(endpoint)

    world.apply(config().replace("5432", "5433"))
    world.run(60)
    far.send(b"hello")
    world.run(0.1)

    assert bytes(caller.data) == b"hello"
    assert world.dial() is not None
    caller.reset()
    world.run(1)
    world.check()


def test_a_port_that_changes_its_protocol() -> None:
    """From tcp to http and back on one listening socket, without a refused connect."""
    world = TcpWorld()
    (endpoint,) = world.tcp()
    caller, far = world.joined(endpoint)
    world.serving(name="site")

    world.apply(CONFIG.replace("4140", "5432").replace("label: out", "label: db"))
    answer = world.caller(5432).request("/", host="site")
    world.finish(answer)
    far.send(b"still here")
    world.run(0.1)
    assert (answer.status, bytes(caller.data)) == (200, b"still here")

    world.apply(config())
    again, there = world.joined(endpoint)
    again.send(b"and again")
    world.run(0.1)

    assert bytes(there.data) == b"and again"
    caller.reset()
    again.reset()
    world.run(1)
    world.check()


# -- everything at once -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_the_counters_come_back(seed: int) -> None:
    """Hundreds of connections that end in every way, in any state: nothing pending, nothing open, nothing logged."""
    world = TcpWorld(
        config(
            client="connectTimeoutMs: 100",
            server="serverSession: {idleTimeMs: 5000}",
            router="bindingTimeoutMs: 300",
        ),
        seed=seed,
        latency=0.003,
    )
    dice = random.Random(seed)
    endpoints = world.tcp(3)
    world.name("web", *[each.text for each in endpoints], "10.0.0.77:80", "10.0.0.78:80")
    world.loop.link("10.0.0.78", 80).silent = True
    alive: list[Peer] = []
    for _ in range(400):
        alive.append(world.dial(say=dice.randbytes(dice.choice((0, 10, 100_000)))))
        world.run(dice.choice((0.0, 0.001, 0.01)))
        peers = [
            peer
            for peer in [*alive, *[p for e in endpoints for p in e.peers]]
            if peer.transport is not None and not peer.gone
        ]
        for peer in dice.sample(peers, min(3, len(peers))):
            what = dice.randrange(5)
            if what == 0:
                peer.reset()
            elif what == 1:
                peer.close()
            elif what == 2:
                peer.end()
            else:
                peer.send(dice.randbytes(dice.choice((1, 5000, 200_000))))
    world.run(400)

    assert world.linker.connections == 0
    assert world.client_metric("connections") == 0
    assert len(world.reasons) == 400
    transports = [each for each in world.loop.open_transports if each.local[1] == 5432]
    assert transports == []
    assert world.server("connects") == world.server("closes") == 400
    world.check()
