"""gRPC with HTTP/2 on both halves: deadlines, errors made here, and requests that are kept while they are forwarded."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes

from hostmesh.base.var import PENDING
from hostmesh.protocol.grpc import decode_message
from hostmesh.pump.memory import MemoryLoop
from hostmesh.pump.wheel import SLOT
from tests.flow.h2_endpoint import H2Endpoint, Stream, answering_h2
from tests.flow.h2_scripted import H2Call, H2Caller, caller, finish, http_config
from tests.flow.h2_world import check, serving_h2
from tests.flow.world import World

pytestmark = pytest.mark.usefixtures("engine")

GRPC = (("content-type", "application/grpc+proto"), ("te", "trailers"))
TARGET = "/shop.Orders/Get"
OK = [(b"grpc-status", b"0")]
UNAVAILABLE = [(b"grpc-status", b"14"), (b"grpc-message", b"later")]
PATH = "rt/out/service/svc/web"
DEFAULT = "responseClassifier: {kind: io.l5d.h2.grpc.default}"


def grpc_world(service: str = DEFAULT, *, client: str = "", server: str = "", router: str = "") -> World:
    """An h2 router whose endpoints speak HTTP/2."""
    text = http_config(router=router, service=service, client=client, server=server)
    return World(text.replace("protocol: http\n  label", "protocol: h2\n  label", 1))


def call_of(each: H2Caller, *, body: bytes | None = b"q", end: bool = True, **fields: str) -> H2Call:
    """A gRPC call; ``fields`` in Python spelling."""
    more = tuple((name.replace("_", "-"), value) for name, value in fields.items())
    return each.request(TARGET, method="POST", fields=(*GRPC, *more), body=body, end=end)


def status_of(call: H2Call) -> str | None:
    """The gRPC status, in the trailers or in the head."""
    return dict(call.trailers).get("grpc-status") or call.get("grpc-status")


def replying(stream: Stream) -> None:
    stream.answer(200, b"r", fields=(("content-type", "application/grpc"),), trailers=OK)


# -- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", None], ids=["empty frame", "head"])
def test_the_end_of_a_request_without_messages_is_in_a_frame_of_its_own(body: bytes | None) -> None:
    """gRPC's rule, however it came to us: grpc-go's servers wait for ever after a head that says it is all."""
    world = grpc_world()
    (endpoint,) = serving_h2(world, replying)

    call = call_of(caller(world), body=body)
    finish(world, call)
    plain = caller(world).request("/", method="POST", body=b"")
    finish(world, plain)

    assert [(stream.only_head, stream.body) for stream in endpoint.requests] == [(False, b""), (True, b"")]
    assert status_of(call) == "0"
    check(world)


def test_a_caller_that_listens_is_not_cut() -> None:
    """Who watches something asks once, does not end the request, and hears something now and then."""
    world = grpc_world()
    (endpoint,) = serving_h2(world, lambda stream: stream.data(b"", trailers=OK))
    each = caller(world)
    call = call_of(each, body=b"watch", end=False)
    world.run(600.0)
    (stream,) = endpoint.requests
    stream.head(200, ("content-type", "application/grpc"))
    for _ in range(3):
        stream.data(b"changed")
        world.run(3000.0)
    each.data(call, b"", end=True)
    finish(world, call)

    assert (call.body, status_of(call)) == (b"changed" * 3, "0")
    check(world)


def test_a_call_in_which_nobody_speaks_is_cut() -> None:
    """After tunnelIdleTimeMs without a message in either direction, as a tunnel."""
    world = grpc_world(server="tunnelIdleTimeMs: 90000")
    (endpoint,) = serving_h2(world)
    endpoint.on_head = lambda stream: stream._later(50.0, begin, stream)

    def begin(stream: Stream) -> None:
        stream.head(200, ("content-type", "application/grpc"))
        stream.data(b"r")

    each = caller(world)
    call = call_of(each, body=b"watch", end=False)
    finish(world, call)

    assert (call.status, call.done, call.reset) == (200, False, ErrorCodes.INTERNAL_ERROR)
    assert call.elapsed == pytest.approx(140.0, abs=1.0)
    assert endpoint.requests[0].cut
    check(world)


# -- deadlines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "least", "most"),
    [
        ("100m", 90_000_000, 100_000_000),
        ("20S", 19_990_000_000, 20_000_000_000),
        ("1H", 3_599 * 10**9, 3600 * 10**9),
    ],
)
def test_timeout_goes_on_shortened(given: str, least: int, most: int) -> None:
    """The endpoint sees one grpc-timeout, of what is left, and the deadline of the mesh beside it."""
    units = {"n": 1, "u": 1_000, "m": 1_000_000, "S": 10**9}
    world = grpc_world()
    (endpoint,) = serving_h2(world, replying)

    call = call_of(caller(world), grpc_timeout=given)
    finish(world, call)

    (stream,) = endpoint.requests
    timeouts = [value.decode() for name, value in stream.pairs if name == b"grpc-timeout"]
    assert len(timeouts) == 1
    assert least <= int(timeouts[0][:-1]) * units[timeouts[0][-1]] <= most
    assert stream.get("l5d-ctx-deadline") is not None
    assert (status_of(call), stream.get("te")) == ("0", "trailers")
    check(world)


def test_own_timeouts_do_not_shorten_it() -> None:
    """totalTimeoutMs ends with the head; an endpoint would apply grpc-timeout to the whole call."""
    world = grpc_world("totalTimeoutMs: 50")
    (endpoint,) = serving_h2(world, replying)

    finish(world, call_of(caller(world), grpc_timeout="10S"))
    finish(world, call_of(caller(world)))

    first, second = endpoint.requests
    assert (first.get("grpc-timeout"), second.get("grpc-timeout")) == ("10000000u", None)
    check(world)


def test_deadline_passes() -> None:
    """The caller is told DEADLINE_EXCEEDED in time, the endpoint's stream is reset, and the endpoint is not blamed."""
    world = grpc_world(client="failureAccrual: {kind: io.l5d.consecutiveFailures, failures: 1}")
    (endpoint,) = serving_h2(world, lambda stream: None)

    call = call_of(caller(world), grpc_timeout="100m")
    finish(world, call)
    world.run(0.1)

    assert (call.status, status_of(call), call.reason) == (200, "4", "deadline-expired")
    assert 0.1 <= call.elapsed < 0.12
    assert endpoint.requests[0].reset_code == ErrorCodes.CANCEL
    assert world.metric("rt/out/client/#/lit/web/failure_accrual/removals") == 0
    assert world.metric(f"{PATH}/grpc/shop.Orders/Get/status/4") == 1
    check(world)


def test_an_endpoint_that_resets_at_the_deadline_is_not_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers watch the deadline, too: grpc-go's reset comes before our timer, which may be a slot late."""
    arm = MemoryLoop.call_at
    monkeypatch.setattr(MemoryLoop, "call_at", lambda loop, when, *rest: arm(loop, when + SLOT, *rest))
    world = grpc_world(client="failureAccrual: {kind: io.l5d.consecutiveFailures, failures: 1}")
    serving_h2(world, lambda stream: stream.reset(ErrorCodes.CANCEL, after=0.1 - SLOT / 2))

    call = call_of(caller(world), grpc_timeout="100m")
    finish(world, call)

    assert (call.status, status_of(call), call.reason) == (200, "4", "deadline-expired")
    assert 0.1 <= call.elapsed < 0.1 + SLOT
    assert "reset the stream (CANCEL)" in decode_message((call.get("grpc-message") or "").encode())
    assert world.metric("rt/out/client/#/lit/web/failure_accrual/removals") == 0
    check(world)


@pytest.mark.parametrize(
    ("after", "code", "removals"), [(0.05, ErrorCodes.INTERNAL_ERROR, 1), (0.2, ErrorCodes.CANCEL, 0)]
)
def test_an_answer_that_breaks_off_after_the_deadline_is_cancelled(
    after: float, code: ErrorCodes, removals: int
) -> None:
    """Callers take CANCEL after their deadline for DEADLINE_EXCEEDED; before it a broken answer is the endpoint's."""
    world = grpc_world(
        "responseClassifier: {kind: io.l5d.h2.grpc.neverRetryable}",
        client="failureAccrual: {kind: io.l5d.consecutiveFailures, failures: 1}",
    )

    def breaking(stream: Stream) -> None:
        stream.head(200, ("content-type", "application/grpc"))
        stream.data(b"r")
        stream.reset(ErrorCodes.CANCEL, after=after)

    serving_h2(world, breaking)

    call = call_of(caller(world), grpc_timeout="100m")
    finish(world, call)

    assert (call.status, call.reset) == (200, code)
    assert world.metric("rt/out/client/#/lit/web/failure_accrual/removals") == removals
    check(world)


def test_no_time_at_all() -> None:
    """A timeout of nothing is over before anybody is asked."""
    world = grpc_world()
    (endpoint,) = serving_h2(world, replying)

    call = call_of(caller(world), grpc_timeout="0n")
    finish(world, call)

    assert (status_of(call), len(endpoint)) == ("4", 0)
    assert "the caller's deadline (grpc-timeout) passed" in decode_message(
        (call.get("grpc-message") or "").encode()
    )
    check(world)


@pytest.mark.parametrize("value", ["1h", "123456789S", "", "x"])
def test_malformed_timeout(value: str) -> None:
    """What is no timeout is no deadline, and goes on as it came."""
    world = grpc_world()
    (endpoint,) = serving_h2(world, lambda stream: stream.answer(200, b"r", after=5.0, trailers=OK))

    call = call_of(caller(world), grpc_timeout=value)
    finish(world, call)

    assert (status_of(call), endpoint.requests[0].get("grpc-timeout")) == ("0", value)
    check(world)


def test_strangers_may_ask_for_less() -> None:
    """With clearContext grpc-timeout still counts, and l5d-ctx-deadline does not."""
    world = grpc_world(server="clearContext: true")
    serving_h2(world, lambda stream: stream.answer(200, b"r", after=1.0, trailers=OK))

    short = call_of(caller(world), grpc_timeout="100m")
    free = call_of(caller(world), l5d_ctx_deadline="1 2")
    finish(world, short, free)

    assert (status_of(short), status_of(free)) == ("4", "0")
    assert (short.get("l5d-err"), (short.get("grpc-message") or "")[:18]) == (None, "request failed, id")
    check(world)


# -- errors made here -------------------------------------------------------------------------------------------------


def test_binding_timeout() -> None:
    """A name that is not bound in time is DEADLINE_EXCEEDED."""
    world = grpc_world(router="bindingTimeoutMs: 500")
    world.namer.set("/web", PENDING)

    call = call_of(caller(world))
    finish(world, call)

    assert (call.status, status_of(call), call.reason) == (200, "4", "binding-timeout")
    assert call.get("content-type") == "application/grpc"
    check(world)


def test_unavailable() -> None:
    """Nobody listens: UNAVAILABLE, in a response that is its head alone."""
    world = grpc_world()
    world.name("web", "10.1.0.9:80")

    call = call_of(caller(world))
    finish(world, call)

    assert (call.status, status_of(call), call.reason) == (200, "14", "connect-refused")
    assert (bytes(call.body), call.trailers, call.done) == (b"", [], True)
    assert call.get("l5d-retryable") == "true"
    check(world)


def test_overload_refuses_the_stream() -> None:
    """Over maxConcurrentRequests a gRPC call is refused as any stream, which its client repeats."""
    world = grpc_world(server="maxConcurrentRequests: 1")
    serving_h2(world, lambda stream: stream.answer(200, b"r", after=1.0, trailers=OK))
    each = caller(world)

    first, second = call_of(each), call_of(each)
    finish(world, first, second)

    assert (status_of(first), second.reset) == ("0", ErrorCodes.REFUSED_STREAM)
    check(world)


def test_plain_requests_get_plain_errors() -> None:
    """Only gRPC is answered with gRPC."""
    world = grpc_world()
    world.name("web", "10.1.0.9:80")

    call = caller(world).request(
        TARGET, method="POST", fields=(("content-type", "application/json"),), body=b"{}"
    )
    finish(world, call)

    assert (call.status, call.get("grpc-status"), call.reason) == (502, None, "connect-refused")
    check(world)


def test_a_break_after_the_head_is_a_reset() -> None:
    """A response that has begun cannot become another status."""
    world = grpc_world("responseClassifier: {kind: io.l5d.h2.grpc.neverRetryable}")

    def break_off(stream: Stream) -> None:
        stream.head(200, ("content-type", "application/grpc"))
        stream.reset(ErrorCodes.INTERNAL_ERROR, after=0.1)

    serving_h2(world, break_off)

    call = call_of(caller(world))
    finish(world, call)

    assert (call.status, call.reset) == (200, ErrorCodes.INTERNAL_ERROR)
    assert world.metric(f"{PATH}/grpc/shop.Orders/Get/status/14") == 1
    check(world)


# -- requests that are kept while they are forwarded ------------------------------------------------------------------


def failing_first(endpoint_calls: list[Stream]) -> object:
    """A handler that answers UNAVAILABLE once, by trailers only, and then OK."""

    def handler(stream: Stream) -> None:
        endpoint_calls.append(stream)
        if len(endpoint_calls) == 1:
            stream.head(200, ("content-type", "application/grpc"), ("grpc-status", "14"), end=True)
        else:
            replying(stream)

    return handler


def test_a_body_in_pieces_is_sent_again() -> None:
    """What came in several pieces is whole at the second attempt, with its trailers."""
    world = grpc_world()
    seen: list[Stream] = []
    serving_h2(world, failing_first(seen))  # type: ignore[arg-type]  # a handler
    each = caller(world)

    call = call_of(each, body=b"one ", end=False)
    world.run(0.01)
    each.data(call, b"two ")
    world.run(0.01)
    each.finish(call, (("x-sum", "3"),))
    finish(world, call)

    assert status_of(call) == "0"
    assert [bytes(stream.body) for stream in seen] == [b"one two "] * 2
    assert [stream.trailers for stream in seen] == [[(b"x-sum", b"3")]] * 2
    check(world)


def test_a_refusal_in_mid_request_is_retried() -> None:
    """UNAVAILABLE before the request is complete: the next endpoint gets all of it, from the start to its end."""
    world = grpc_world(client="loadBalancer: {kind: roundRobin}")
    endpoints = serving_h2(world, replying, replying)
    refused: list[H2Endpoint] = []

    def refuse_first(stream: Stream) -> None:
        if not refused:
            refused.append(stream.session.endpoint)
            stream.head(200, ("content-type", "application/grpc"), ("grpc-status", "14"), end=True)

    for endpoint in endpoints:
        endpoint.on_head = refuse_first
    each = caller(world)

    call = call_of(each, body=b"one ", end=False)
    world.run(0.05)
    each.data(call, b"two", end=True)
    finish(world, call)

    (other,) = [endpoint for endpoint in endpoints if endpoint not in refused]
    assert status_of(call) == "0"
    assert [bytes(stream.body) for stream in other.requests] == [b"one two"]
    assert world.metric(f"{PATH}/retries/total") == 1
    check(world)


@pytest.mark.parametrize(("size", "attempts"), [(16383, 2), (16384, 1)])
def test_bodies_are_kept_up_to_a_size(size: int, attempts: int) -> None:
    """retryBufferSize.requestBytes is the longest body that is sent again."""
    world = grpc_world()
    seen: list[Stream] = []
    serving_h2(world, failing_first(seen))  # type: ignore[arg-type]  # a handler
    each = caller(world)

    call = call_of(each, body=b"x" * 16000, end=False)
    world.run(0.01)
    each.data(call, b"x" * (size - 16000), end=True)
    finish(world, call)

    assert (len(seen), status_of(call)) == (attempts, "0" if attempts == 2 else "14")
    assert {len(stream.body) for stream in seen} == {size}
    assert world.metric(f"{PATH}/retries/request_stream_too_long") == 2 - attempts
    check(world)


def test_goaway_before_a_kept_request_was_processed() -> None:
    """A stream above GOAWAY's last one goes to another connection with all that was sent, under any classifier."""
    world = grpc_world("")
    seen: list[Stream] = []

    def goaway_first(stream: Stream) -> None:
        seen.append(stream)
        if len(seen) == 1:
            stream.session.say_goaway(0)

    (endpoint,) = serving_h2(world, replying)
    endpoint.on_head = goaway_first
    each = caller(world)

    call = call_of(each, body=b"one ", end=False)
    world.run(0.05)
    each.data(call, b"two", end=True)
    finish(world, call)

    assert status_of(call) == "0"
    assert bytes(seen[-1].body) == b"one two"
    assert len(seen) == 2
    check(world)


def test_conversations_are_not_held() -> None:
    """A response whose caller is still sending passes at once, although its kind retries."""
    world = grpc_world()

    def greet(stream: Stream) -> None:
        stream.head(200, ("content-type", "application/grpc"))
        stream.data(b"hello")

    (endpoint,) = serving_h2(world, lambda stream: stream.data(b"bye", trailers=OK))
    endpoint.on_head = greet
    each = caller(world)

    call = call_of(each, body=b"", end=False)
    world.run(0.01)
    greeted = bytes(call.body)
    each.finish(call)
    finish(world, call)

    assert (greeted, bytes(call.body), status_of(call)) == (b"hello", b"hellobye", "0")
    assert call.get("l5d-success-class") is None
    assert world.metric(f"{PATH}/success") == 1
    check(world)


def test_server_scope_counts_verdicts() -> None:
    """Server, service and client agree on what was a failure."""
    world = grpc_world("responseClassifier: {kind: io.l5d.h2.grpc.neverRetryable}")
    serving_h2(world, answering_h2(200, b"r", trailers=UNAVAILABLE))

    finish(world, call_of(caller(world)))

    scopes = ("rt/out/server/127.0.0.1/4140", PATH, "rt/out/client/#/lit/web")
    assert [world.metric(f"{scope}/failures") for scope in scopes] == [1, 1, 1]
    check(world)


def test_records_have_the_status() -> None:
    """Access lines say what a call came to, with a status of an endpoint, with one of ours, and without any."""
    world = grpc_world("")
    serving_h2(world, answering_h2(200, b"r", trailers=UNAVAILABLE))

    finish(world, call_of(caller(world)))
    finish(world, caller(world).request())
    late = call_of(caller(world), grpc_timeout="0n")
    finish(world, late)

    assert world.sink is not None
    found = [(record.status, record.grpc_status, record.reason) for record in world.sink.records]
    assert found == [(200, 14, ""), (200, None, ""), (503, 4, "deadline-expired")]
    check(world)
