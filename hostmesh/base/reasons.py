"""The one list of reasons for which a request did not simply succeed.

A reason travels in ``l5d-err``, in the access line, in ``rt/*/…/failures/<reason>`` and in the error body. It is
public: once released a value is never renamed, only added to.
"""

from __future__ import annotations

from enum import Enum


class Reason(str, Enum):
    """Why a request was answered by hostmesh, or cut, instead of being answered by an endpoint."""

    NO_IDENTIFIER = "no-identifier"
    """No identifier of the router recognised the request."""
    NO_DENTRY = "no-dentry"
    """No dentry of the dtab matched the dst path."""
    NAME_NEGATIVE = "name-negative"
    """The dst path bound to nothing: Neg, Fail or Empty."""
    REGISTRY_UNREACHABLE = "registry-unreachable"
    """The namer has no answer because its registry cannot be read."""
    NO_ENDPOINTS = "no-endpoints"
    """The bound name exists and has no address."""
    ALL_EJECTED = "all-ejected"
    """Every endpoint is ejected and refuses even the last resort (fail-fast)."""
    CONNECT_REFUSED = "connect-refused"
    CONNECT_TIMEOUT = "connect-timeout"
    TLS_HANDSHAKE = "tls-handshake"
    TLS_NAME_MISMATCH = "tls-name-mismatch"
    BINDING_TIMEOUT = "binding-timeout"
    TOTAL_TIMEOUT = "total-timeout"
    ATTEMPT_TIMEOUT = "attempt-timeout"
    DEADLINE_EXPIRED = "deadline-expired"
    """``l5d-ctx-deadline`` had passed before the request could be dispatched."""
    RESET_BY_CALLER = "reset-by-caller"
    RESET_BY_ENDPOINT = "reset-by-endpoint"
    LIMIT_HEADER_BYTES = "limit-header-bytes"
    LIMIT_HEADER_COUNT = "limit-header-count"
    LIMIT_INITIAL_LINE = "limit-initial-line"
    LIMIT_HEAD_TIME = "limit-head-time"
    """The head was not complete within the time allowed (slow loris)."""
    LIMIT_BODY_TIME = "limit-body-time"
    """No byte of the request body arrived for too long."""
    LIMIT_BODY_BYTES = "limit-body-bytes"
    """A request body too large to be read whole, on a router that does not stream."""
    LIMIT_INFORMATIONAL = "limit-informational"
    """The endpoint sent more 1xx responses than allowed."""
    LIMIT_POOL_WAITERS = "limit-pool-waiters"
    LIMIT_PARKED = "limit-parked"
    """Too many requests already wait for this name to be bound."""
    LIMIT_CALL_DEPTH = "loop"
    """More hops in ``Via`` than ``maxCallDepth``: a proxy loop."""
    OVERLOADED = "overloaded"
    """Over ``maxConcurrentRequests`` or another admission limit."""
    BAD_REQUEST = "bad-request"
    BAD_RESPONSE = "bad-response"
    BAD_DTAB = "bad-dtab"
    BAD_FRAMING = "bad-framing"
    """Content-Length or Transfer-Encoding that two parsers could read differently."""
    BAD_NAME = "bad-name"
    """The request names a path that cannot be a dst path."""
    UNSUPPORTED = "unsupported"
    """CONNECT, Upgrade or a protocol version that this listener does not carry."""
    POLICY_DTAB = "policy-dtab"
    """A request's own dtab named an address it may not reach."""
    DRAINING = "draining"
    BUG = "bug"
    """An exception that is ours."""

    def __str__(self) -> str:
        return self.value
