"""Classifiers of gRPC statuses."""

from __future__ import annotations

import pytest

from hostmesh.base.errors import MeshError, Side
from hostmesh.base.reasons import Reason
from hostmesh.routing.classifiers import FAILURE, IGNORABLE, RETRYABLE, SUCCESS, Verdict
from hostmesh.routing.grpc_classifiers import (
    GrpcAlwaysRetryableConfig,
    GrpcClassifier,
    GrpcClassifierConfig,
    GrpcCompliantConfig,
    GrpcDefaultConfig,
    GrpcNeverRetryableConfig,
    GrpcRetryableStatusCodesConfig,
)

KINDS: dict[GrpcClassifierConfig, frozenset[int]] = {
    GrpcDefaultConfig(): frozenset({14}),
    GrpcCompliantConfig(): frozenset({14}),
    GrpcAlwaysRetryableConfig(): frozenset(range(1, 18)),
    GrpcNeverRetryableConfig(): frozenset(),
    GrpcRetryableStatusCodesConfig(retryable_status_codes=(4, 10)): frozenset({4, 10}),
}
"""Every kind, and which of the codes 0 to 17 it retries. There is no code 17, and a peer may send it."""


class Head:
    """A response head."""

    def __init__(self, status: int = 200, **fields: bytes) -> None:
        self.status = status
        self.fields = {name.replace("_", "-").encode(): value for name, value in fields.items()}

    def get(self, name: bytes) -> bytes | None:
        return self.fields.get(name)


def made(config: GrpcClassifierConfig) -> GrpcClassifier:
    classifier = config.mk()
    assert isinstance(classifier, GrpcClassifier)
    return classifier


def callee_error(reason: Reason) -> MeshError:
    return MeshError(reason, "", status=502, side=Side.CALLEE)


@pytest.mark.parametrize(("config", "retried"), KINDS.items(), ids=lambda v: type(v).__name__)
def test_codes(config: GrpcClassifierConfig, retried: frozenset[int]) -> None:
    """0 is a success, the kind's codes are retryable, all others failures: in trailers and in heads alike."""
    classifier = made(config)
    expected = [SUCCESS] + [RETRYABLE if code in retried else FAILURE for code in range(1, 18)]

    in_trailers = [classifier.classify_end(code, streamed=False) for code in range(18)]
    in_heads = [
        classifier.classify_early(b"POST", Head(grpc_status=b"%d" % code), done=True, streamed=False)
        for code in range(18)
    ]

    assert in_trailers == expected
    assert in_heads == expected
    assert classifier.holds is bool(retried)


@pytest.mark.parametrize("config", KINDS, ids=lambda v: type(v).__name__)
def test_no_status(config: GrpcClassifierConfig) -> None:
    """A response that ends without a status is a failure that no kind retries."""
    classifier = made(config)

    assert classifier.classify_end(None, streamed=False) is FAILURE
    assert classifier.classify_early(b"POST", Head(), done=True, streamed=False) is FAILURE


def test_the_head_decides_nothing() -> None:
    """A head with 200 and no status waits for the trailers."""
    assert made(GrpcDefaultConfig()).classify_early(b"POST", Head(), done=False, streamed=False) is None


@pytest.mark.parametrize("status", [400, 404, 429, 500, 502, 503, 504])
def test_plain_http_errors(status: int) -> None:
    """An HTTP status that is not 200 is a failure by its head; compliant retries what means UNAVAILABLE."""
    verdicts = {
        type(config): made(config).classify_early(b"POST", Head(status), done=False, streamed=False)
        for config in KINDS
    }

    compliant = verdicts.pop(GrpcCompliantConfig)
    assert compliant is (RETRYABLE if status in (429, 502, 503, 504) else FAILURE)
    assert set(verdicts.values()) == {FAILURE}


def test_success_codes() -> None:
    """Codes that are declared successes are none of the failures, and 0 is one only if it is among them."""
    classifier = made(GrpcAlwaysRetryableConfig(success_status_codes=(0, 5)))
    odd = made(GrpcDefaultConfig(success_status_codes=(5,)))

    assert [classifier.classify_code(code) for code in (0, 5, 6)] == [SUCCESS, SUCCESS, RETRYABLE]
    assert [odd.classify_code(code) for code in (0, 5)] == [FAILURE, SUCCESS]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (Reason.RESET_BY_ENDPOINT, [RETRYABLE, RETRYABLE, RETRYABLE, FAILURE, FAILURE]),
        (Reason.CONNECT_REFUSED, [RETRYABLE, RETRYABLE, RETRYABLE, FAILURE, FAILURE]),
        (Reason.ATTEMPT_TIMEOUT, [FAILURE, FAILURE, RETRYABLE, FAILURE, RETRYABLE]),
        (Reason.BAD_RESPONSE, [FAILURE, FAILURE, RETRYABLE, FAILURE, FAILURE]),
    ],
)
def test_errors(reason: Reason, expected: list[Verdict]) -> None:
    """An endpoint's error is judged by the code that the caller would be told."""
    assert [made(config).classify(b"POST", None, callee_error(reason)) for config in KINDS] == expected


@pytest.mark.parametrize(
    ("reason", "side", "expected"),
    [
        (Reason.RESET_BY_CALLER, Side.CALLER, IGNORABLE),
        (Reason.DRAINING, Side.SELF, IGNORABLE),
        (Reason.TOTAL_TIMEOUT, Side.SELF, FAILURE),
    ],
)
def test_errors_of_others(reason: Reason, side: Side, expected: Verdict) -> None:
    """The endpoint is not blamed for the caller or for this host, and is for using up the time."""
    error = MeshError(reason, "", status=503, side=side)

    assert made(GrpcAlwaysRetryableConfig()).classify(b"POST", None, error) is expected


def test_an_error_is_no_success() -> None:
    """A connection that breaks is a failure even where its code is declared a success."""
    classifier = made(GrpcDefaultConfig(success_status_codes=(0, 14)))

    assert classifier.classify(b"POST", None, callee_error(Reason.RESET_BY_ENDPOINT)) is FAILURE


def test_streamed_requests_are_final() -> None:
    """What cannot be sent again is not retryable, whatever its status."""
    classifier = made(GrpcAlwaysRetryableConfig())
    head = Head(grpc_status=b"14")

    assert classifier.classify_end(14, streamed=True) is FAILURE
    assert classifier.classify_early(b"POST", head, done=True, streamed=True) is FAILURE


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (Head(grpc_status=b"5", l5d_retryable=b"true"), RETRYABLE),
        (Head(grpc_status=b"0", l5d_retryable=b"true"), SUCCESS),
        (Head(503, retry_after=b"0"), RETRYABLE),
        (Head(503, finagle_http_nonretryable_nack=b""), FAILURE),
    ],
)
def test_what_the_head_says(head: Head, expected: Verdict) -> None:
    """l5d-retryable and nacks of the next hop hold for every kind."""
    classifier = made(GrpcNeverRetryableConfig())

    assert classifier.classify_early(b"POST", head, done=True, streamed=False) is expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (GrpcDefaultConfig(success_status_codes=(0, 16)), []),
        (
            GrpcDefaultConfig(success_status_codes=(-1,)),
            ["successStatusCodes: found -1, expected codes from 0 to 16"],
        ),
        (
            GrpcRetryableStatusCodesConfig(retryable_status_codes=(14, 17)),
            ["retryableStatusCodes: found 17, expected codes from 0 to 16"],
        ),
    ],
)
def test_codes_are_checked(config: GrpcClassifierConfig, expected: list[str]) -> None:
    """The configuration names only codes that exist."""
    assert config.check() == expected
