"""What gRPC callers are told of errors, and how their methods are counted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hostmesh.base.errors import MeshError, Sent
from hostmesh.base.reasons import Reason
from hostmesh.proxy.grpc_methods import MAX_METHODS, OTHER, GrpcMethods, code_of
from hostmesh.proxy.respond import grpc_error_lines
from hostmesh.telemetry.metrics import Scope


class Head:
    """A response head."""

    def __init__(self, status: int = 200, **fields: bytes) -> None:
        self.status = status
        self.fields = {name.replace("_", "-").encode(): value for name, value in fields.items()}

    def get(self, name: bytes) -> bytes | None:
        return self.fields.get(name)


def finished(
    target: bytes = b"/a.B/C",
    *,
    error: MeshError | None = None,
    response: Head | None = None,
    trailers: bytes = b"",
) -> Any:
    """What is read of an exchange."""
    return SimpleNamespace(
        head=SimpleNamespace(target=target), error=error, response=response, response_trailers=trailers
    )


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
        (finished(response=Head(), trailers=b"grpc-status: 5\r\n"), 5),
        (finished(response=Head(grpc_status=b"7")), 7),
        (finished(response=Head(503)), 14),
        (finished(response=Head()), 2),
        (finished(response=Head(), error=MeshError(Reason.RESET_BY_ENDPOINT, "", status=502)), 14),
        (finished(error=MeshError(Reason.RESET_BY_CALLER, "", status=499)), 1),
        (finished(), 2),
    ],
)
def test_code(ex: Any, expected: int) -> None:
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
        methods.done(finished(response=Head(), trailers=b"grpc-status: %d\r\n" % code), 10, None)
    methods.done(finished(b"/a.B/D", response=Head(grpc_status=b"0")), 10, True)
    methods.done(finished(b"/nonsense", response=Head(grpc_status=b"0")), 10, True)

    assert counted(scope, "a.B/C") == {"0": 2, "14": 1, "2": 1}
    assert counted(scope, "a.B/D") == {"0": 1}
    assert counted(scope, OTHER) == {"0": 1}


def test_methods_are_bounded() -> None:
    """Callers that make up names share one node after the hundredth."""
    scope = Scope()
    methods = GrpcMethods(scope)

    for number in range(MAX_METHODS + 50):
        methods.done(finished(b"/a.B/M%d" % number, response=Head(grpc_status=b"0")), 10, True)

    assert len(scope.children) == MAX_METHODS + 1
    assert counted(scope, OTHER) == {"0": 50}
