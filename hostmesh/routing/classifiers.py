"""Response classifiers: was that a success, a failure, or a failure worth another attempt?"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from attrs import frozen

from hostmesh.base.errors import Side
from hostmesh.base.plugin import PluginConfig
from hostmesh.base.reasons import TLS_REASONS, Reason
from hostmesh.routing.retry import Nack, nack_of

if TYPE_CHECKING:
    from hostmesh.base.errors import MeshError


class Verdict(IntEnum):
    """What an outcome says. Ordered: from FAILURE on the endpoint has failed."""

    IGNORABLE = 0
    """Nothing about the endpoint: the caller went away, or the fault is this host's. No counter is
    touched."""
    SUCCESS = 1
    FAILURE = 2
    RETRYABLE = 3
    """A failure that another attempt may cure, and that may be attempted again without harm."""


IGNORABLE: Final = Verdict.IGNORABLE
SUCCESS: Final = Verdict.SUCCESS
FAILURE: Final = Verdict.FAILURE
RETRYABLE: Final = Verdict.RETRYABLE

READS = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))
"""Methods that change nothing (RFC 9110 section 9.2.1)."""

IDEMPOTENT = READS | {b"PUT", b"DELETE"}
"""Methods that may be repeated (RFC 9110 section 9.2.2)."""

RETRIABLE_METHODS = IDEMPOTENT | {b"POST", b"PATCH"}
"""What ``retryableAll5XX`` covers. Not CONNECT, nor methods that nobody here knows."""

RETRYABLE_REASONS = frozenset(
    (
        Reason.CONNECT_REFUSED,
        Reason.CONNECT_TIMEOUT,
        *TLS_REASONS,
        Reason.ATTEMPT_TIMEOUT,
        Reason.RESET_BY_ENDPOINT,
        Reason.BAD_RESPONSE,
        Reason.BAD_FRAMING,
    )
)
"""Linkerd's timeouts, write exceptions, closed channel and framing errors."""

TIME_OVER = frozenset((Reason.TOTAL_TIMEOUT, Reason.DEADLINE_EXPIRED))
"""Failures seen by our own clock: the endpoint was too slow, and there is no time for another attempt."""


class ResponseFacts(Protocol):
    """What is read of a response head."""

    @property
    def status(self) -> int: ...

    def get(self, name: bytes) -> bytes | None:
        """The value of the first field with this lower-case name."""
        ...


class Classifier:
    """5xx and errors are failures; those of the ``retryable`` methods (upper case) may be retried."""

    __slots__ = ("_retryable",)

    reads_trailers: ClassVar[bool] = False
    """Whether the verdict may come with the end of a response: then it is a ``GrpcClassifier``."""

    def __init__(self, retryable: frozenset[bytes] = frozenset()) -> None:
        self._retryable = retryable

    def classify(self, method: bytes, status: int | None, error: MeshError | None) -> Verdict:
        """The verdict on an answer (``status``) or on an ``error``; one of them is not None."""
        if error is not None:
            return self._classify_error(method, error)
        if status is None or status < 500:
            return SUCCESS
        return RETRYABLE if method in self._retryable else FAILURE

    def classify_head(self, method: bytes, head: ResponseFacts, *, streamed: bool) -> Verdict:
        """The verdict on a response head, with the rules that hold for every kind.

        ``streamed`` says that the request's body cannot be sent again.
        """
        verdict = self.classify(method, head.status, None)
        return with_wrappers(verdict, head, streamed=streamed) if verdict >= FAILURE else verdict

    def _classify_error(self, method: bytes, error: MeshError) -> Verdict:
        if error.side is Side.CALLEE:
            is_retryable = error.reason in RETRYABLE_REASONS and method in self._retryable
            return RETRYABLE if is_retryable else FAILURE
        return FAILURE if error.reason in TIME_OVER else IGNORABLE


class AllSuccessful(Classifier):
    """Whatever an endpoint answers is a success; errors are failures."""

    __slots__ = ()

    def classify(self, method: bytes, status: int | None, error: MeshError | None) -> Verdict:
        return SUCCESS if error is None else self._classify_error(method, error)


def with_wrappers(verdict: Verdict, head: ResponseFacts, *, streamed: bool) -> Verdict:
    """A failure as the head's own fields and the request's body change it.

    ``l5d-retryable: true`` and nacks make a failure retryable under every kind, a nack that says so makes it
    final, and what was streamed cannot be sent again.
    """
    nack = nack_of(head)
    if streamed or nack is Nack.FINAL:
        return FAILURE
    if nack is Nack.RETRYABLE or head.get(b"l5d-retryable") == b"true":
        return RETRYABLE
    return verdict


@frozen(kw_only=True)
class ClassifierConfig(PluginConfig):
    """What ``responseClassifier`` blocks have in common."""

    def mk(self) -> Classifier:
        """The classifier; it has no state and may be shared."""
        raise NotImplementedError


@frozen(kw_only=True)
class NonRetryable5XXConfig(ClassifierConfig):
    """5xx and errors are failures, none is retried. The default."""

    def mk(self) -> Classifier:
        return Classifier()


@frozen(kw_only=True)
class RetryableRead5XXConfig(ClassifierConfig):
    """5xx and errors are failures, retried for GET, HEAD, OPTIONS and TRACE."""

    def mk(self) -> Classifier:
        return Classifier(READS)


@frozen(kw_only=True)
class RetryableIdempotent5XXConfig(ClassifierConfig):
    """5xx and errors are failures, retried for GET, HEAD, OPTIONS, TRACE, PUT and DELETE."""

    def mk(self) -> Classifier:
        return Classifier(IDEMPOTENT)


@frozen(kw_only=True)
class RetryableAll5XXConfig(ClassifierConfig):
    """5xx and errors are failures, retried for all of these and POST and PATCH, which then may happen
    twice."""

    def mk(self) -> Classifier:
        return Classifier(RETRIABLE_METHODS)


@frozen(kw_only=True)
class AllSuccessfulConfig(ClassifierConfig):
    """Every answer is a success, 5xx too; errors are failures, none is retried."""

    def mk(self) -> Classifier:
        return AllSuccessful()
