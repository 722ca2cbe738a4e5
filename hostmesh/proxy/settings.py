"""What the configuration says about one name, resolved to values; equal settings may share a stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from hostmesh.base.backoff import Backoff
from hostmesh.protocol.h2.engines import DEFAULT_ENGINE
from hostmesh.protocol.h2.settings import H2Settings
from hostmesh.routing.classifiers import Classifier

if TYPE_CHECKING:
    # What does not speak TLS does not load it.
    from hostmesh.proxy.secure_connect import EndpointTls

CLIENT_SIDE = H2Settings(client_side=True)
"""What we are towards endpoints when nothing is configured."""


@frozen(kw_only=True)
class ServiceSettings:
    """What the configuration says about one dst path, resolved."""

    classifier: Classifier
    backoff: Backoff
    total_timeout_ms: int | None = None
    retry_ttl: float = 10.0
    retry_min: int = 10
    retry_percent: float = 0.2
    classification_time: float = 0.1
    """Seconds for which a response whose verdict comes with its end may be held back, so that it can be retried."""
    retry_request_bytes: int = 16383
    """Bytes of a request body that is forwarded as it comes and yet kept for another attempt."""
    retry_response_bytes: int = 16383
    """Bytes of a response that is held back."""


@frozen(kw_only=True)
class ClientSettings:
    """What the configuration says about one bound id, resolved; two equal settings may share a stack."""

    make_balancer: object
    make_accrual: object
    attempt_timeout_ms: int | None = None
    requeue_ttl: float = 10.0
    requeue_min: int = 10
    requeue_percent: float = 0.2
    fail_fast: bool = False
    pool_min: int = 0
    pool_max: int = 2**31 - 1
    pool_waiters: int = 2**31 - 1
    idle_time: float | None = 30.0
    life_time: float | None = None
    no_delay: bool = True
    keep_alive: bool | None = None
    enable_probation: bool = False
    http2: bool = False
    """Endpoints are spoken to in HTTP/2, with prior knowledge."""
    h2: H2Settings = CLIENT_SIDE
    """What our side of their connections announces and keeps to."""
    h2_engine: str = DEFAULT_ENGINE
    """Which engine carries them."""
    tls: EndpointTls | None = None
    """How endpoints are met; None for plain text."""
    forward_client_cert: bool = False
    """Endpoints are told who the caller has proved to be."""
