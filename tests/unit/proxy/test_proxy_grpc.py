"""What gRPC callers are told of errors, and how their methods are counted."""

from __future__ import annotations

from typing import Any

import pytest

from hostmesh.base.errors import MeshError, Sent
from hostmesh.base.reasons import Reason
from hostmesh.protocol.h2.message import H2RequestHead, H2ResponseHead
from hostmesh.proxy.exchange import Exchange
from hostmesh.proxy.grpc_methods import MAX_METHODS, OTHER, GrpcMethods, code_of
from hostmesh.proxy.respond import grpc_error_lines
from hostmesh.telemetry.metrics import Scope
from tests.flow.world import World

WORLD = World()
"""Its server is that of every exchange here."""


def answer(status: int = 200, **fields: bytes) -> H2ResponseHead:
    """A response head."""
    pairs = [(name.replace("_", "-").encode(), value) for name, value in fields.items()]
    return H2ResponseHead([(b":status", b"%d" % status), *pairs], False, b"POST")


def finished(
    target: bytes = b"/a.B/C",
    *,
    error: MeshError | None = None,
    response: H2ResponseHead | None = None,
    trailers: bytes = b"",
) -> Exchange:
    """An exchange that has ended."""
    _listener, server = WORLD.linker.servers["127.0.0.1", 4140]
    caller: Any = None
    ex = Exchange(caller, server, H2RequestHead([(b":method", b"POST"), (b":path", target)], False), 0.0)
    ex.error = error
    ex.response = response
    ex.response_trailers = trailers
    return ex


def test_error_lines() -> None:
    """An error is a status, a message on one line, and l5d-err with the same text."""
    error = MeshError(
        Reason.NO_ENDPOINTS, "Unable to route request!\n\n100% größer\n\nservice name: /svc/x", status=502
    )

    assert grpc_error_lines(error, clear=False).split(b"\r\n") == [
        b"content-type: application/grpc",
        b"grpc-status: 14",
        b"grpc-message: no-endpoints: Unable to route request! 100%25 gr%C3%B6%C3%9Fer",
        b"l5d-err: no-endpoints%3A+Unable+to+route+request%21+100%25+gr%F6%DFer",
        b"",
    ]


def test_error_lines_for_strangers() -> None:
    """A caller that is not trusted learns the status and the request's id."""
    error = MeshError(Reason.BINDING_TIMEOUT, "secret", status=503)

    assert grpc_error_lines(error, clear=True, reqid=b"abc").split(b"\r\n") == [
        b"content-type: application/grpc",
        b"grpc-status: 4",
        b"grpc-message: request failed, id abc",
        b"",
    ]


def test_errors_that_may_be_repeated_say_so() -> None:
    """l5d-retryable comes along as in HTTP."""
    error = MeshError(Reason.CONNECT_REFUSED, "no", status=502, sent=Sent.NOTHING)

    assert b"l5d-retryable: true\r\n" in grpc_error_lines(error, clear=False)


@pytest.mark.parametrize(
    ("ex", "expected"),
    [
        (finished(response=answer(), trailers=b"grpc-status: 5\r\n"), 5),
        (finished(response=answer(grpc_status=b"7")), 7),
        (finished(response=answer(503)), 14),
        (finished(response=answer()), 2),
        (finished(response=answer(), error=MeshError(Reason.RESET_BY_ENDPOINT, "", status=502)), 14),
        (finished(error=MeshError(Reason.RESET_BY_CALLER, "", status=499)), 1),
        (finished(), 2),
    ],
)
def test_code(ex: Exchange, expected: int) -> None:
    """The status of a call is in its trailers or its head, or follows from the error or the HTTP status."""
    assert code_of(ex) == expected


def counted(scope: Scope, name: str) -> dict[str, int]:
    """The counters below a method."""
    statuses = scope.scope(name, "status").children
    return {code: statuses[code].counter().value for code in statuses}


def test_methods_are_counted() -> None:
    """Each method has its own statuses; a code without a name is UNKNOWN."""
    scope = Scope()
    methods = GrpcMethods(scope)

    for code in (0, 0, 14, 99):
        methods.done(finished(response=answer(), trailers=b"grpc-status: %d\r\n" % code), 10, None)
    methods.done(finished(b"/a.B/D", response=answer(grpc_status=b"0")), 10, True)
    methods.done(finished(b"/nonsense", response=answer(grpc_status=b"0")), 10, True)

    assert counted(scope, "a.B/C") == {"0": 2, "14": 1, "2": 1}
    assert counted(scope, "a.B/D") == {"0": 1}
    assert counted(scope, OTHER) == {"0": 1}


def test_methods_are_bounded() -> None:
    """Callers that make up names share one node after the hundredth."""
    scope = Scope()
    methods = GrpcMethods(scope)

    for number in range(MAX_METHODS + 50):
        methods.done(finished(b"/a.B/M%d" % number, response=answer(grpc_status=b"0")), 10, True)

    assert len(scope.children) == MAX_METHODS + 1
    assert counted(scope, OTHER) == {"0": 50}
