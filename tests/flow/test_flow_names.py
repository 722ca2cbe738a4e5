"""Names as requests meet them: parked bindings, negative names, unions, request dtabs, fallback, changes under load."""

from __future__ import annotations

import pytest

from hostmesh.base.var import PENDING, Failed
from hostmesh.naming.addr import ADDR_NEG, ADDR_PENDING, AddrFailed
from hostmesh.proxy import client_addresses, path_binding
from tests.flow.world import World, answering, config


def test_a_request_waits_until_its_name_is_bound() -> None:
    """And every one that came meanwhile is served then, in order."""
    world = World()
    (endpoint,) = world.serving(name="real")
    world.namer.set("/web", PENDING)
    calls = [world.caller().request(f"/{number}") for number in range(5)]
    world.run(3)
    assert [call.status for call in calls] == [0] * 5

    world.name("web", endpoint)
    world.finish(*calls)

    assert [call.status for call in calls] == [200] * 5
    assert [received.message.target for received in endpoint.requests] == ["/0", "/1", "/2", "/3", "/4"]
    assert max(call.elapsed for call in calls) == pytest.approx(3.0, abs=0.01)
    world.check()


def test_a_binding_that_does_not_come_in_time_is_an_error() -> None:
    """bindingTimeoutMs: 503, and whoever comes later still waits for it."""
    world = World(config(router="bindingTimeoutMs: 500"))
    world.namer.set("/web", PENDING)

    call = world.get()

    assert (call.status, call.reason) == (503, "binding-timeout")
    assert call.elapsed == pytest.approx(0.5, abs=0.01)
    later = world.caller().request()
    world.run(0.2)
    world.name("web", world.endpoint())
    world.finish(later)
    assert later.status == 200
    world.check()


def test_a_request_waits_for_the_first_addresses() -> None:
    """The name is bound and its replica set is not known yet; the binding timeout covers that too."""
    world = World(config(router="bindingTimeoutMs: 500"))
    world.namer.add("web")
    call = world.caller().request()
    world.run(0.3)
    assert call.status == 0
    endpoint = world.endpoint()

    world.name("web", endpoint)
    world.finish(call)

    assert call.status == 200
    world.check()


def test_addresses_that_do_not_come_in_time_are_an_error() -> None:
    """A pending replica set does not hold a request for ever."""
    world = World(config(router="bindingTimeoutMs: 500"))
    world.namer.add("web")

    call = world.get(fields=())

    assert (call.status, call.reason) == (503, "binding-timeout")
    assert call.elapsed == pytest.approx(0.5, abs=0.01)
    world.check()


def test_a_parked_request_keeps_its_later_timeouts() -> None:
    """The binding timeout of a request that has been bound meanwhile does not touch it any more."""
    world = World(
        config(
            "responseClassifier: {kind: io.l5d.http.retryableRead5XX}, retries: {backoff: {kind: constant, ms: 700}}",
            router="bindingTimeoutMs: 500",
        )
    )
    world.namer.set("/web", PENDING)
    seen = []

    def handler(received: object) -> None:
        seen.append(received)
        received.answer(503 if len(seen) == 1 else 200)  # type: ignore[attr-defined]

    endpoint = world.endpoint(handler)
    caller = world.caller()
    caller.request()
    world.run(0.2)
    world.name("web", endpoint)
    world.run(0.4)
    assert len(seen) == 1

    # Between the failure and its retry, and after the time at which the binding timeout would have been.
    caller.reset()
    world.run(2)

    assert len(seen) == 1
    world.check()


def test_a_caller_that_leaves_while_parked_is_forgotten() -> None:
    """Nothing is dispatched for it when the name is bound."""
    world = World()
    world.namer.set("/web", PENDING)
    caller = world.caller()
    caller.request()
    world.run(0.1)

    caller.reset()
    world.run(0.1)
    endpoint = world.endpoint()
    world.name("web", endpoint)
    world.run(0.1)

    assert len(endpoint) == 0
    world.check()


@pytest.mark.parametrize("addresses", [False, True])
def test_those_who_wait_for_a_name_are_bounded(addresses: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """R7: above MAX_PARKED a request is refused at once."""
    monkeypatch.setattr(path_binding, "MAX_PARKED", 3)
    monkeypatch.setattr(client_addresses, "MAX_PARKED", 3)
    world = World()
    if addresses:
        world.namer.add("web")
    else:
        world.namer.set("/web", PENDING)
    waiting = [world.caller().request() for _ in range(3)]
    world.run(0.01)

    call = world.get()

    assert (call.status, call.reason) == (503, "limit-parked")
    world.name("web", world.endpoint())
    world.finish(*waiting)
    assert [call.status for call in waiting] == [200] * 3
    world.check()


def test_a_registry_that_cannot_be_read_is_named() -> None:
    """Failed, before the name was ever known."""
    world = World()
    world.namer.set("/web", Failed("registry is down"))

    call = world.get()

    assert (call.status, call.reason) == (502, "registry-unreachable")
    assert b"registry is down" in call.body
    world.check()


def test_a_name_that_does_not_exist_is_refused_with_the_dtab() -> None:
    """The error says what was followed."""
    world = World()

    call = world.get()

    assert (call.status, call.reason) == (502, "name-negative")
    assert b"/svc=>/#/lit" in call.body
    world.check()


def test_a_name_without_endpoints_is_refused() -> None:
    """Bound to an empty replica set."""
    world = World()
    world.serving()
    world.get()
    world.name("web")

    call = world.get()

    assert (call.status, call.reason) == (502, "no-endpoints")
    world.check()


def test_trouble_in_the_registry_keeps_the_last_endpoints() -> None:
    """Pending and Failed after the first good answer change nothing."""
    world = World()
    world.serving()
    assert world.get().status == 200

    for state in (ADDR_PENDING, AddrFailed("down")):
        world.namer.addrs["web"].set(state)
        world.run(1)
        assert world.get().status == 200

    world.namer.addrs["web"].set(ADDR_NEG)
    world.run(1)
    assert world.get().status == 502
    world.check()


UNION = "/svc/web => 9 * /#/lit/a & 1 * /#/lit/b"


def test_a_union_splits_by_its_weights_while_it_is_edited() -> None:
    """9:1, then 5:5, then 9:1 again under load: a tenth, half, a tenth; no request fails."""
    world = World()
    (a,) = world.serving(name="a")
    (b,) = world.serving(name="b")
    world.set_dtab(UNION)
    callers = [world.caller() for _ in range(20)]
    shares = []

    for text in (UNION, "/svc/web => 5 * /#/lit/a & 5 * /#/lit/b", UNION):
        in_flight = [caller.request() for caller in callers]
        world.set_dtab(text)
        world.finish(*in_flight)
        assert {call.status for call in in_flight} == {200}
        before = len(a), len(b)
        for _ in range(100):
            calls = [caller.request() for caller in callers]
            world.finish(*calls)
            assert {call.status for call in calls} == {200}
        shares.append((len(b) - before[1]) / (len(a) + len(b) - sum(before)))

    assert 0.08 <= shares[0] <= 0.12
    assert 0.46 <= shares[1] <= 0.54
    assert 0.08 <= shares[2] <= 0.12
    world.check()


def test_a_branch_that_is_bound_to_nothing_keeps_its_share() -> None:
    """`!` in a union fails its part of the requests; `~` leaves it to the others."""
    world = World()
    world.serving(name="a")

    world.set_dtab("/svc/web => 1 * /#/lit/a & 1 * /$/nil")
    calls = [world.get() for _ in range(40)]
    # An empty set is a bound name: half of the requests find nobody.
    assert {call.status for call in calls} == {200, 502}

    world.set_dtab("/svc/web => 1 * /#/lit/a & 1 * ~")
    calls = [world.get() for _ in range(40)]
    assert {call.status for call in calls} == {200}
    world.check()


def test_a_retry_draws_the_branch_anew() -> None:
    """One branch fails always, the other never: reads do not fail."""
    world = World(
        config("responseClassifier: {kind: io.l5d.http.retryableRead5XX}", "failureAccrual: {kind: none}")
    )
    world.serving(answering(500), name="a")
    world.serving(answering(), name="b")
    world.set_dtab("/svc/web => 1 * /#/lit/a & 1 * /#/lit/b")

    calls = [world.get() for _ in range(50)]

    assert {call.status for call in calls} == {200}
    world.check()


def test_a_request_dtab_sends_one_caller_elsewhere_and_nobody_else() -> None:
    """l5d-dtab; it travels on as l5d-ctx-dtab."""
    world = World()
    (v1,) = world.serving()
    (v2,) = world.serving(name="web-v2")

    for _ in range(5):
        assert world.get(fields=("l5d-dtab: /svc/web => /svc/web-v2",)).status == 200
        assert world.get().status == 200

    assert (len(v1), len(v2)) == (5, 5)
    assert v2.requests[0].get("l5d-ctx-dtab") == "/svc/web=>/svc/web-v2"
    assert v2.requests[0].get("l5d-dtab") is None
    assert v1.requests[0].get("l5d-ctx-dtab") is None
    world.check()


def test_a_request_dtab_that_cannot_be_read_is_refused() -> None:
    """400 with the reason, and nothing is asked."""
    world = World()
    (endpoint,) = world.serving()

    call = world.get(fields=("l5d-dtab: /svc/web => ",))

    assert (call.status, call.reason) == (400, "bad-dtab")
    assert len(endpoint) == 0
    world.check()


def test_an_alternative_serves_when_the_first_is_unknown() -> None:
    """`|`: the first that exists; when it appears later it takes over, live."""
    world = World()
    (fallback,) = world.serving(name="old")
    world.set_dtab("/svc/web => /#/lit/new | /#/lit/old")
    assert world.get().status == 200
    assert len(fallback) == 1

    (fresh,) = world.serving(name="new")
    world.run(0.01)

    assert world.get().status == 200
    assert (len(fallback), len(fresh)) == (1, 1)
    world.check()


def test_a_status_name_answers_by_itself() -> None:
    """/$/io.buoyant.http.status/404 asks nobody."""
    world = World()
    world.set_dtab("/svc/web => /$/io.buoyant.http.status/404")
    caller = world.caller()

    calls = [caller.request(), caller.request(method="HEAD"), caller.request(method="POST", body=b"x" * 9000)]
    world.finish(*calls)

    assert [call.status for call in calls] == [404] * 3
    world.check()


def test_replica_sets_change_under_load_without_a_failure() -> None:
    """Every 50 ms another set out of five endpoints; no request fails and all of them serve."""
    world = World()
    members = world.serving(*[answering(after=0.02)] * 5)
    calls = []

    for number in range(600):
        calls.append(world.caller().request())
        world.run(0.002)
        if number % 25 == 0:
            world.name("web", *[member for i, member in enumerate(members) if (number // 25 + i) % 5 < 3])
    world.finish(*calls)

    assert {call.status for call in calls} == {200}
    assert min(map(len, members)) > 40
    world.check()


def test_a_removed_endpoint_gets_nothing_and_a_new_one_its_share() -> None:
    """At once: the balancer sees the new set before the next request."""
    world = World()
    old, kept = world.serving(answering(after=0.01), answering(after=0.01))
    fresh = world.endpoint(answering(after=0.01))

    def load(seconds: float) -> None:
        calls = []
        for _ in range(round(seconds * 500)):
            calls.append(world.caller().request())
            world.run(0.002)
        world.finish(*calls)
        assert {call.status for call in calls} == {200}

    load(0.5)
    world.name("web", kept, fresh)
    world.run(0.001)
    before = len(old), len(kept)
    load(0.1)

    assert len(old) == before[0]
    assert len(fresh) == pytest.approx(len(kept) - before[1], abs=12)
    world.check()


# -- names in metrics -------------------------------------------------------------------------------------------------

UNKNOWN = "rt/out/service/unknown"


def test_p6_names_that_lead_nowhere_share_one_in_the_metrics() -> None:
    """P6: made-up hosts are counted together, by their reasons, and leave no names behind."""
    world = World()
    world.serving()
    for host in ("a", "b", "c"):
        assert world.get(host=host).status == 502
    world.get()

    shown = {name.split("/")[3] for name in world.metrics() if name.startswith("rt/out/service/")}
    assert shown == {"unknown", "svc"}
    assert (world.metric(f"{UNKNOWN}/requests"), world.metric(f"{UNKNOWN}/failures")) == (3, 3)
    assert world.metric(f"{UNKNOWN}/failures/name-negative") == 3
    assert world.metric("rt/out/service/svc/web/requests") == 1
    world.check()


def test_p6_a_name_that_becomes_known_brings_its_past_along() -> None:
    """From then on it has its own name, for good, even if what it was bound to goes away; a reload changes nothing."""
    world = World(config())
    assert world.get(host="late").status == 502
    before = world.metric("rt/out/service/svc/late/requests")
    world.name("late", world.endpoint())
    served = world.get(host="late").status
    world.apply(config() + "# changed\n")
    world.set_dtab("/svc => /#/other")
    after = world.get(host="late").status

    assert (before, served, after) == (0, 200, 502)
    late = "rt/out/service/svc/late"
    assert (world.metric(f"{late}/requests"), world.metric(f"{late}/failures")) == (3, 2)
    assert world.metric(f"{UNKNOWN}/requests") == 1
    world.check()


def test_p6_what_waits_for_a_binding_is_pending_of_the_unknown() -> None:
    """Nobody knows yet whether there is such a name; those who wait for it are seen nevertheless."""
    world = World()
    world.namer.set("/web", PENDING)
    calls = [world.caller().request() for _ in range(3)]
    world.run(1)
    waiting = world.metric(f"{UNKNOWN}/pending")
    world.name("web", world.endpoint())
    world.finish(*calls)

    assert (waiting, world.metric(f"{UNKNOWN}/pending"), world.metric(f"{UNKNOWN}/requests")) == (3, 0, 0)
    assert world.metric("rt/out/service/svc/web/requests") == 3
    world.check()


def test_p6_strangers_are_forgotten_with_their_stacks() -> None:
    """Nothing is kept of a name that was never bound once its stack has gone."""
    world = World(config(router="bindingCache: {paths: 2}"))
    world.serving()
    for number in range(20):
        world.get(host=f"made-up-{number}")

    assert len(world.router().services._strangers) <= 2
    assert world.metric(f"{UNKNOWN}/requests") == 20
    world.check()
