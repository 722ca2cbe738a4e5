"""Classifiers that parse and cannot run yet (linkerd1.md 6.7)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from attrs import frozen

from hostmesh.base.plugin import PluginConfig
from hostmesh.config import later_reasons as later
from hostmesh.config.shape import Bounds


@frozen(kw_only=True)
class H2ClassifierConfig(PluginConfig):
    """A classifier of h2 responses."""

    unavailable: ClassVar[str | None] = later.H2


GrpcStatus = Annotated[int, Bounds(0, 16)]


@frozen(kw_only=True)
class GrpcClassifierConfig(H2ClassifierConfig):
    """A classifier of gRPC statuses."""

    success_status_codes: tuple[GrpcStatus, ...] = (0,)
    """What counts as success."""


@frozen(kw_only=True)
class GrpcDefaultConfig(GrpcClassifierConfig):
    """UNAVAILABLE is retried."""


@frozen(kw_only=True)
class GrpcCompliantConfig(GrpcClassifierConfig):
    """UNAVAILABLE, refused streams, and HTTP 429, 502, 503, 504 are retried."""


@frozen(kw_only=True)
class GrpcAlwaysRetryableConfig(GrpcClassifierConfig):
    """Every failure is retried."""


@frozen(kw_only=True)
class GrpcNeverRetryableConfig(GrpcClassifierConfig):
    """No failure is retried."""


@frozen(kw_only=True)
class GrpcRetryableStatusCodesConfig(GrpcClassifierConfig):
    """The listed statuses are retried."""

    retryable_status_codes: tuple[GrpcStatus, ...]
    """Which."""
