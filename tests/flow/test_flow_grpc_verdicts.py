"""Verdicts that come with the end of a response: holding it back, retrying it, judging endpoints by it.

The endpoints speak HTTP/1.1 with trailers: what is tested is the exchange, which does not know who carries it.
"""

from __future__ import annotations

import pytest

from tests.flow.scripted import Handler, Received
from tests.flow.world import World
from tests.flow.world import config as http_config

RETRYING = "responseClassifier: {kind: io.l5d.h2.grpc.default}"
ALWAYS = "responseClassifier: {kind: io.l5d.h2.grpc.alwaysRetryable}"
NEVER = "responseClassifier: {kind: io.l5d.h2.grpc.neverRetryable}"
TOTAL = "rt/out/service/svc/web"
RETRIES = f"{TOTAL}/retries"


def config(service: str = "", client: str = "") -> str:
    """A router of the protocol that has these classifiers."""
    client = f"protocol: http, {client}" if client else "protocol: http"
    return http_config(service, client).replace("- protocol: http", "- protocol: h2")


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n"
MESSAGE = b"5\r\nhello\r\n"


def end(code: int) -> bytes:
    return b"0\r\ngrpc-status: %d\r\n\r\n" % code


def in_turn(*codes: int) -> tuple[list[Received], Handler]:
    """A handler that ends its first answers with these codes, and all later ones with the last."""
    seen: list[Received] = []

    def handler(received: Received) -> None:
        code = codes[min(len(seen), len(codes) - 1)]
        seen.append(received)
        received.send(HEAD + MESSAGE + end(code))

    return seen, handler


@pytest.mark.parametrize(
    ("service", "codes", "attempts", "final"),
    [
        (RETRYING, (0,), 1, b"0"),
        (RETRYING, (14, 0), 2, b"0"),
        (RETRYING, (14, 14, 0), 3, b"0"),
        (RETRYING, (13, 0), 1, b"13"),
        (ALWAYS, (13, 5, 0), 3, b"0"),
        (NEVER, (14, 0), 1, b"14"),
        ("", (14, 0), 1, b"14"),
    ],
)
def test_status_in_trailers(service: str, codes: tuple[int, ...], attempts: int, final: bytes) -> None:
    """A retryable status is retried although its head said 200, and the caller sees the last answer only."""
    world = World(config(service))
    seen, handler = in_turn(*codes)
    world.serving(handler)

    call = world.get()

    assert len(seen) == attempts
    assert call.response is not None
    assert (call.response.status, bytes(call.response.body)) == (200, b"hello")
    assert call.response.trailers == b"grpc-status: %b\r\n" % final
    assert world.metric(f"{RETRIES}/total") == attempts - 1
    world.check()


def test_trailers_only() -> None:
    """A status in the head decides at once."""
    world = World(config(RETRYING))
    seen: list[Received] = []

    def handler(received: Received) -> None:
        seen.append(received)
        received.answer(200, b"", fields=("grpc-status: 14" if len(seen) == 1 else "grpc-status: 0",))

    world.serving(handler)

    call = world.get()

    assert call.response is not None
    assert call.response.get("grpc-status") == "0"
    assert len(seen) == 2
    world.check()


def test_no_status_at_all_is_a_failure() -> None:
    """An answer that ends without a status is a failure, and is not retried."""
    world = World(config(ALWAYS))
    web = world.serving()[0]

    call = world.get()

    assert call.status == 200
    assert len(web.requests) == 1
    assert world.metric(f"{TOTAL}/failures") == 1
    world.check()


def test_held_for_a_while() -> None:
    """A response that goes on is passed on after classificationTimeoutMs (100), and judged at its end."""
    world = World(config(RETRYING))

    def handler(received: Received) -> None:
        received.send(HEAD + MESSAGE)
        received.send(MESSAGE, after=0.05)
        received.send(MESSAGE, after=1.0)
        received.send(end(14), after=2.0)

    world.serving(handler)
    call = world.caller().request("/")

    world.run(0.09)
    before = call.response
    world.run(0.02)
    after = call.response
    world.finish(call)

    assert before is None
    assert after is not None
    assert bytes(after.body) == b"hello" * 3
    assert after.get("l5d-success-class") is None
    assert world.metric(f"{RETRIES}/classification_timeout") == 1
    assert (world.metric(f"{TOTAL}/failures"), world.metric(f"{RETRIES}/total")) == (1, 0)
    world.check()


def test_held_up_to_a_size() -> None:
    """A response of more than retryBufferSize.responseBytes (16383) is passed on at once."""
    world = World(config(RETRYING))
    big = b"%x\r\n%b\r\n" % (16000, b"x" * 16000)

    def handler(received: Received) -> None:
        received.send(HEAD + big)
        received.send(big, after=0.01)
        received.send(end(0), after=5.0)

    world.serving(handler)
    call = world.caller().request("/")

    world.run(0.009)
    before = call.response
    world.run(0.01)
    after = call.response
    world.finish(call)

    assert before is None
    assert after is not None
    assert len(after.body) == 32000
    assert world.metric(f"{RETRIES}/response_stream_too_long") == 1
    assert world.metric(f"{TOTAL}/success") == 1
    world.check()


def test_lost_while_held() -> None:
    """A connection that breaks under a response that nobody has seen is retried like any other."""
    world = World(config(RETRYING))
    seen: list[Received] = []

    def handler(received: Received) -> None:
        seen.append(received)
        if len(seen) == 1:
            received.send(HEAD + MESSAGE)
            received.reset(after=0.02)
        else:
            received.send(HEAD + MESSAGE + end(0))

    world.serving(handler)

    call = world.get()

    assert call.response is not None
    assert bytes(call.response.body) == b"hello"
    assert len(seen) == 2
    world.check()


def test_deadline_while_held() -> None:
    """The total timeout goes on until something has been passed on."""
    world = World(config(RETRYING + ", totalTimeoutMs: 50"))

    def handler(received: Received) -> None:
        received.send(HEAD + MESSAGE)
        received.send(end(0), after=1.0)

    web = world.serving(handler)[0]

    call = world.get()

    assert call.status == 503
    assert call.ended is not None
    assert 0.05 <= call.ended - call.at <= 0.07
    world.run(1.0)
    assert len(web.requests) == 1
    world.check()


def test_caller_leaves_while_held() -> None:
    """A caller that goes away takes the attempt with it."""
    world = World(config(RETRYING))
    seen: list[Received] = []

    def handler(received: Received) -> None:
        seen.append(received)
        received.send(HEAD + MESSAGE)

    world.serving(handler)
    caller = world.caller()
    caller.request("/")
    world.run(0.05)

    caller.reset()
    world.run(0.2)

    assert seen[0].cut
    assert world.metric(f"{RETRIES}/classification_timeout") == 0
    world.check()


def test_accrual_sees_statuses() -> None:
    """Five failures in a row by their trailers eject an endpoint whose heads all say 200."""
    world = World(config(NEVER, "loadBalancer: {kind: roundRobin}"))
    _seen, failing = in_turn(13)
    good_seen, good = in_turn(0)
    world.serving(failing, good)

    codes = [world.get().response.trailers for _ in range(30)]  # type: ignore[union-attr]  # ended

    assert codes.count(b"grpc-status: 13\r\n") == 5
    assert len(good_seen) == 25
    assert world.metric("rt/out/client/#/lit/web/failure_accrual/removals") == 1
    world.check()


def test_success_class() -> None:
    """The verdict travels with a response that was held back."""
    world = World(config(ALWAYS))
    _seen, handler = in_turn(0)
    world.serving(handler)

    call = world.get()

    assert call.response is not None
    assert call.response.get("l5d-success-class") == "1.0"


@pytest.mark.parametrize("in_head", [False, True], ids=["trailers", "head"])
@pytest.mark.parametrize("code", [0, 13, 14])
def test_the_server_counts_the_verdict_of_an_http1_response(code: int, in_head: bool) -> None:
    """HTTP says 200: what the call came to is in its status, and a server that counted 200s would look well."""
    world = World(config(NEVER))
    _, handler = in_turn(code)
    alone = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\ngrpc-status: %d\r\nContent-Length: 0\r\n\r\n"
        % code
    )
    world.serving((lambda received: received.send(alone)) if in_head else handler)
    assert world.get(method="POST").status == 200

    failed = int(code != 0)
    for scope in (TOTAL, "rt/out/server/127.0.0.1/4140"):
        counted = (world.metric(f"{scope}/success"), world.metric(f"{scope}/failures"))
        assert counted == (1 - failed, failed)
    world.check()
