"""Classifiers of gRPC responses, by ``grpc-status``.

The status comes in the trailers, or in the head of a response that has nothing else (*trailers-only*): so the head of
most responses decides nothing yet. A response without any status is a failure: its HTTP status is not 200, or it broke
off. An error made here is judged by the status that the caller would be told.
"""

from __future__ import annotations

from attrs import frozen

from hostmesh.base.errors import MeshError, Side
from hostmesh.protocol.grpc import Code, code_of_reason, parse_status
from hostmesh.routing.classifiers import (
    FAILURE,
    IGNORABLE,
    RETRYABLE,
    SUCCESS,
    TIME_OVER,
    Classifier,
    ClassifierConfig,
    ResponseFacts,
    Verdict,
    with_wrappers,
)

ALL_FAILURES: frozenset[int] | None = None
"""Stands for every code that is no success, those without a name too."""

UNAVAILABLE = frozenset((int(Code.UNAVAILABLE),))
"""What the specification calls "most likely a transient condition" that callers may repeat."""

GATEWAY_STATUSES = frozenset((429, 502, 503, 504))
"""HTTP statuses that the specification maps to UNAVAILABLE."""


class GrpcClassifier(Classifier):
    """``success`` and ``retryable`` (None: all that are no success) are codes, ``retryable_http`` HTTP statuses of
    answers that are no gRPC."""

    __slots__ = ("_retryable_codes", "_retryable_http", "_success", "holds")

    reads_trailers = True

    def __init__(
        self,
        success: frozenset[int] = frozenset((0,)),
        retryable: frozenset[int] | None = UNAVAILABLE,
        retryable_http: frozenset[int] = frozenset(),
    ) -> None:
        super().__init__()
        self._success = success
        self._retryable_codes = retryable
        self._retryable_http = retryable_http
        self.holds = retryable is None or bool(retryable)
        """Whether any status is retried, so that holding a response back until its status is known has a use."""

    def classify(self, method: bytes, status: int | None, error: MeshError | None) -> Verdict:
        """The verdict on an HTTP status without ``grpc-status``, or on an error."""
        if error is not None:
            return self._classify_error(method, error)
        return RETRYABLE if status in self._retryable_http else FAILURE

    def classify_code(self, code: int | None) -> Verdict:
        """The verdict on a ``grpc-status``, None for a response that ended without one."""
        if code is None:
            return FAILURE
        if code in self._success:
            return SUCCESS
        retryable = self._retryable_codes
        return RETRYABLE if retryable is None or code in retryable else FAILURE

    def classify_head(self, method: bytes, head: ResponseFacts, *, streamed: bool) -> Verdict:
        """The verdict on a head that will not be followed by a status: trailers-only, or no gRPC at all."""
        code = parse_status(head.get(b"grpc-status"))
        verdict = self.classify(method, head.status, None) if code is None else self.classify_code(code)
        return with_wrappers(verdict, head, streamed=streamed) if verdict >= FAILURE else verdict

    def classify_early(
        self, method: bytes, head: ResponseFacts, *, done: bool, streamed: bool
    ) -> Verdict | None:
        """The verdict as far as the head decides; None when it comes with the end of the response.

        ``done`` says that the head was all of it.
        """
        if head.status == 200 and head.get(b"grpc-status") is None:
            return FAILURE if done else None
        return self.classify_head(method, head, streamed=streamed)

    def classify_end(self, code: int | None, *, streamed: bool) -> Verdict:
        """The verdict at the end of a response whose head decided nothing."""
        verdict = self.classify_code(code)
        return FAILURE if verdict is RETRYABLE and streamed else verdict

    def _classify_error(self, method: bytes, error: MeshError) -> Verdict:
        if error.side is Side.CALLEE:
            verdict = self.classify_code(code_of_reason(error.reason, error.status))
            # An error is no answer: it cannot be declared a success.
            return FAILURE if verdict is SUCCESS else verdict
        return FAILURE if error.reason in TIME_OVER else IGNORABLE


def _check_codes(key: str, codes: tuple[int, ...]) -> list[str]:
    return [f"{key}: found {code}, expected codes from 0 to 16" for code in codes if not 0 <= code <= 16]


@frozen(kw_only=True)
class GrpcClassifierConfig(ClassifierConfig):
    """What classifiers of gRPC statuses have in common."""

    success_status_codes: tuple[int, ...] = (0,)
    """The codes, 0 to 16, that are successes."""

    def check(self) -> list[str]:
        return _check_codes("successStatusCodes", self.success_status_codes)

    @property
    def success(self) -> frozenset[int]:
        return frozenset(self.success_status_codes)


@frozen(kw_only=True)
class GrpcDefaultConfig(GrpcClassifierConfig):
    """UNAVAILABLE (14) is retried, any other status that is no success is a failure."""

    def mk(self) -> Classifier:
        return GrpcClassifier(self.success)


@frozen(kw_only=True)
class GrpcCompliantConfig(GrpcClassifierConfig):
    """UNAVAILABLE is retried, and what the gRPC specification takes for it: refused streams, and HTTP 429, 502, 503
    and 504. Linkerd 1.7.5 treats this kind as ``io.l5d.h2.grpc.default``, against its documentation."""

    def mk(self) -> Classifier:
        return GrpcClassifier(self.success, retryable_http=GATEWAY_STATUSES)


@frozen(kw_only=True)
class GrpcAlwaysRetryableConfig(GrpcClassifierConfig):
    """Every status that is no success is retried: calls may then happen twice."""

    def mk(self) -> Classifier:
        return GrpcClassifier(self.success, ALL_FAILURES)


@frozen(kw_only=True)
class GrpcNeverRetryableConfig(GrpcClassifierConfig):
    """Statuses that are no success are failures, none is retried. No response is held back for it."""

    def mk(self) -> Classifier:
        return GrpcClassifier(self.success, frozenset())


@frozen(kw_only=True)
class GrpcRetryableStatusCodesConfig(GrpcClassifierConfig):
    """The listed statuses are retried."""

    retryable_status_codes: tuple[int, ...]
    """The codes, 0 to 16, that are retried. Required."""

    def check(self) -> list[str]:
        return super().check() + _check_codes("retryableStatusCodes", self.retryable_status_codes)

    def mk(self) -> Classifier:
        return GrpcClassifier(self.success, frozenset(self.retryable_status_codes))
