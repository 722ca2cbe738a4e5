"""The gRPC peers of the tests, with nothing between them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.grpc_peers import METHODS, GrpcCaller, GrpcServers


@pytest.fixture(scope="module")
def servers() -> Iterator[GrpcServers]:
    with GrpcServers("a", "b") as running:
        yield running


@pytest.mark.parametrize("kind", METHODS)
def test_four_kinds(servers: GrpcServers, kind: str) -> None:
    """Every kind of call is answered by the server that was asked."""
    with GrpcCaller(servers["b"].port) as caller:
        outcome = caller.call(kind, [b"x"], metadata=[("x-echo-a", "1")])

    expected = {"unary": [b"x"], "client": [b"1 1"], "server": [b"x 0"], "bidi": [b"x"]}[kind]
    assert (outcome.code, outcome.messages) == (0, expected)
    assert (outcome.served_by, outcome.initial["x-echo-a"], outcome.trailing["x-echo-a"]) == ("b", "1", "1")


@pytest.mark.parametrize("kind", METHODS)
def test_status(servers: GrpcServers, kind: str) -> None:
    """A status and its details are the metadata's choice."""
    with GrpcCaller(servers["a"].port) as caller:
        outcome = caller.call(
            kind, [b"x"], metadata=[("x-status", "9"), ("x-details-bin", "größer".encode())]
        )

    assert (outcome.code, outcome.details) == (9, "größer")


def test_fail_times(servers: GrpcServers) -> None:
    """A key fails as often as it says, and then no more."""
    metadata: list[tuple[str, str | bytes]] = [("x-fail", "k 2"), ("x-status", "14")]
    with GrpcCaller(servers["a"].port) as caller:
        codes = [caller.call("unary", [b"x"], metadata=metadata).code for _ in range(4)]

    assert codes == [14, 14, 0, 0]


@pytest.mark.parametrize("kind", METHODS)
def test_cancel_is_seen(servers: GrpcServers, kind: str) -> None:
    """The server notices that a call was cancelled."""
    before = servers["a"].wait()
    with GrpcCaller(servers["a"].port) as caller:
        call = caller.start(kind, [b"x"], metadata=[("x-delay-ms", "60000")])
        servers["a"].wait(started=before.get("started", 0) + 1)
        call.cancel()
        after = servers["a"].wait(cancelled=before.get("cancelled", 0) + 1)

    assert after["cancelled"] - before.get("cancelled", 0) == 1
