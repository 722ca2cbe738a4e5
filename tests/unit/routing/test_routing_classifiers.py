"""Response classifiers."""

from __future__ import annotations

import pytest

from hostmesh.base.errors import MeshError, Side
from hostmesh.base.reasons import Reason
from hostmesh.routing.classifiers import (
    FAILURE,
    IGNORABLE,
    RETRYABLE,
    SUCCESS,
    AllSuccessfulConfig,
    ClassifierConfig,
    NonRetryable5XXConfig,
    RetryableAll5XXConfig,
    RetryableIdempotent5XXConfig,
    RetryableRead5XXConfig,
    Verdict,
)

METHODS = (
    b"GET",
    b"HEAD",
    b"OPTIONS",
    b"TRACE",
    b"PUT",
    b"DELETE",
    b"POST",
    b"PATCH",
    b"CONNECT",
    b"get",
    b"BREW",
)
RETRYING = {
    NonRetryable5XXConfig: 0,
    RetryableRead5XXConfig: 4,
    RetryableIdempotent5XXConfig: 6,
    RetryableAll5XXConfig: 8,
}


class Head:
    """A response head."""

    def __init__(self, status: int, **fields: bytes) -> None:
        self.status = status
        self.fields = {name.replace("_", "-").encode(): value for name, value in fields.items()}

    def get(self, name: bytes) -> bytes | None:
        return self.fields.get(name)


def callee_error(reason: Reason) -> MeshError:
    return MeshError(reason, "", status=502, side=Side.CALLEE)


@pytest.mark.parametrize(("config", "count"), RETRYING.items())
@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
def test_server_errors(config: type[ClassifierConfig], count: int, status: int) -> None:
    """5xx is a failure, retryable for the methods that the kind covers."""
    classifier = config().mk()

    verdicts = [classifier.classify(method, status, None) for method in METHODS]

    assert verdicts == [RETRYABLE] * count + [FAILURE] * (len(METHODS) - count)


@pytest.mark.parametrize("config", [*RETRYING, AllSuccessfulConfig])
@pytest.mark.parametrize("status", [200, 204, 304, 404, 429, 499])
def test_other_answers_are_successes(config: type[ClassifierConfig], status: int) -> None:
    """Everything below 500 is a success for every kind."""
    assert config().mk().classify(b"GET", status, None) is SUCCESS


@pytest.mark.parametrize(("config", "count"), RETRYING.items())
@pytest.mark.parametrize("reason", [Reason.ATTEMPT_TIMEOUT, Reason.RESET_BY_ENDPOINT, Reason.CONNECT_REFUSED])
def test_errors(config: type[ClassifierConfig], count: int, reason: Reason) -> None:
    """Timeouts, resets and refused connects are failures, retryable like 5xx."""
    classifier = config().mk()

    verdicts = [classifier.classify(method, None, callee_error(reason)) for method in METHODS]

    assert verdicts == [RETRYABLE] * count + [FAILURE] * (len(METHODS) - count)


def test_all_successful() -> None:
    """5xx is a success, an error is a failure that is not retried."""
    classifier = AllSuccessfulConfig().mk()

    assert classifier.classify(b"GET", 503, None) is SUCCESS
    assert classifier.classify(b"GET", None, callee_error(Reason.ATTEMPT_TIMEOUT)) is FAILURE
    assert classifier.classify_head(b"GET", Head(503, l5d_retryable=b"true"), streamed=False) is SUCCESS


@pytest.mark.parametrize(
    ("reason", "side", "verdict"),
    [
        (Reason.RESET_BY_CALLER, Side.CALLER, IGNORABLE),
        (Reason.DRAINING, Side.SELF, IGNORABLE),
        (Reason.CONNECT_REFUSED, Side.SELF, IGNORABLE),
        (Reason.TOTAL_TIMEOUT, Side.SELF, FAILURE),
        (Reason.DEADLINE_EXPIRED, Side.SELF, FAILURE),
        (Reason.LIMIT_INFORMATIONAL, Side.CALLEE, FAILURE),
    ],
)
def test_whose_fault_it_was(reason: Reason, side: Side, verdict: Verdict) -> None:
    """The endpoint is blamed for what it did and for being too slow, never for the caller or for this host."""
    error = MeshError(reason, "", status=503, side=side)

    assert RetryableAll5XXConfig().mk().classify(b"GET", None, error) is verdict


@pytest.mark.parametrize(
    ("head", "streamed", "verdict"),
    [
        (Head(200), False, SUCCESS),
        (Head(500), False, FAILURE),
        (Head(500, l5d_retryable=b"true"), False, RETRYABLE),
        (Head(500, l5d_retryable=b"true"), True, FAILURE),
        (Head(500, l5d_retryable=b"false"), False, FAILURE),
        (Head(200, l5d_retryable=b"true"), False, SUCCESS),
        (Head(503, finagle_http_nack=b"true"), False, RETRYABLE),
        (Head(503, retry_after=b"0"), False, RETRYABLE),
        (Head(503, retry_after=b"1"), False, FAILURE),
        (Head(500, retry_after=b"0"), False, FAILURE),
        (Head(503, finagle_http_nonretryable_nack=b"", l5d_retryable=b"true"), False, FAILURE),
    ],
)
def test_what_the_head_says(head: Head, streamed: bool, verdict: Verdict) -> None:
    """l5d-retryable and nacks make failures retryable under the default kind, a streamed body makes them final."""
    assert NonRetryable5XXConfig().mk().classify_head(b"POST", head, streamed=streamed) is verdict


def test_streamed_body_is_never_retried() -> None:
    """What the kind would retry is final when the request cannot be sent again."""
    assert RetryableAll5XXConfig().mk().classify_head(b"GET", Head(500), streamed=True) is FAILURE


def test_order_of_verdicts() -> None:
    """From FAILURE on the endpoint has failed."""
    assert [verdict >= FAILURE for verdict in (IGNORABLE, SUCCESS, FAILURE, RETRYABLE)] == [
        False,
        False,
        True,
        True,
    ]
