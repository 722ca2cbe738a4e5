"""Interpreters, transformers, announcers and telemeters that parse and cannot run yet (linkerd1.md 5, 9.4, 12)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from attrs import field, frozen

from hostmesh.base.plugin import PluginConfig
from hostmesh.config import later_reasons as later
from hostmesh.config.tls import ClientTlsConfig
from hostmesh.config.types import Port, Positive, Ratio, Seconds, Timeout
from hostmesh.naming.interpreter import InterpreterConfig
from hostmesh.naming.path import Path


@frozen(kw_only=True)
class NamerdRetry:
    """Reconnecting to namerd."""

    base_seconds: Seconds = 5
    """First wait."""
    max_seconds: Seconds = 600
    """Longest wait."""


@frozen(kw_only=True)
class FailureThreshold:
    """Pings on the connection to namerd."""

    min_period_ms: Timeout = 5000
    """Milliseconds between pings."""
    close_timeout_ms: Timeout = 4000
    """Milliseconds without an answer after which the connection is closed."""


@frozen(kw_only=True)
class NamerdTls:
    """TLS to namerd's thrift interface."""

    common_name: str
    """The name on its certificate."""
    ca_cert: str | None = None
    """PEM file of its CA. Default: the system's."""


@frozen(kw_only=True)
class LaterInterpreterConfig(InterpreterConfig):
    """An interpreter that comes with the control plane."""

    unavailable: ClassVar[str | None] = later.CONTROL


@frozen(kw_only=True)
class NamerdInterpreterConfig(LaterInterpreterConfig):
    """Asks namerd over thrift-mux."""

    unavailable: ClassVar[str | None] = "thrift-mux is outside of what hostmesh carries; use io.l5d.mesh"

    dst: Path
    """Where namerd is, such as ``/$/inet/namerd/4100``."""
    namespace: str = "default"
    """Which dtab."""
    retry: NamerdRetry = NamerdRetry()
    """Reconnecting."""
    tls: NamerdTls | None = None
    """Default: plain text."""
    failure_threshold: FailureThreshold | None = None
    """Default: pings every 5 s."""


@frozen(kw_only=True)
class NamerdHttpInterpreterConfig(LaterInterpreterConfig):
    """Asks namerd over its HTTP interface."""

    needs_experimental: ClassVar[bool] = True

    dst: Path
    """Where namerd is."""
    namespace: str = "default"
    """Which dtab."""
    retry: NamerdRetry = NamerdRetry()
    """Reconnecting."""
    tls: ClientTlsConfig | None = None
    """Default: plain text."""


@frozen(kw_only=True)
class MeshRetry:
    """Reconnecting to the mesh interface."""

    base_seconds: Seconds = 1
    """First wait."""
    max_seconds: Seconds = 600
    """Longest wait."""


@frozen(kw_only=True)
class MeshFailureThreshold:
    """Pings on the connection to the mesh interface."""

    min_period_ms: Timeout = 5000
    """Milliseconds between pings."""
    close_timeout_ms: Timeout = 6000
    """Milliseconds without an answer after which the connection is closed."""


@frozen(kw_only=True)
class MeshInterpreterConfig(LaterInterpreterConfig):
    """Asks a control plane over gRPC."""

    dst: Path
    """Where it is."""
    root: Path = field(default=Path.of("default"))
    """Which dtab: one segment."""
    tls: ClientTlsConfig | None = None
    """Default: plain text."""
    retry: MeshRetry = MeshRetry()
    """Reconnecting."""
    failure_threshold: MeshFailureThreshold = MeshFailureThreshold()
    """Pings."""
    initial_stream_window_size_kb: Positive = field(
        default=10240, metadata={"key": "initialStreamWindowSizeKB"}
    )
    """Kilobytes that the control plane may send unasked."""

    def check(self) -> list[str]:
        return (
            [] if len(self.root) == 1 else [f"root: found {self.root.show()}, expected exactly one segment"]
        )


@frozen(kw_only=True)
class ConsulInterpreterConfig(LaterInterpreterConfig):
    """Reads the dtab from Consul's key-value store."""

    host: str = "localhost"
    """Agent."""
    port: Port = 8500
    """Its HTTP port."""
    path_prefix: Path = field(default=Path.of("namerd", "dtabs"))
    """Where the dtabs are."""
    namespace: str = "default"
    """Which dtab."""
    token: str | None = field(default=None, metadata={"secret": True})
    """ACL token. Default: none."""
    datacenter: str | None = None
    """Default: the agent's."""
    read_consistency_mode: Literal["default", "stale", "consistent"] | None = None
    """How fresh reads must be."""
    write_consistency_mode: Literal["default", "stale", "consistent"] | None = None
    """Accepted: nothing is written."""
    fail_fast: bool = False
    """Set the agent aside when it does not answer."""
    backoff: Any = field(default=None, metadata={"slot": "backoff"})
    """Waits between attempts. Default: 1 ms to 60 s, decorrelated."""
    tls: ClientTlsConfig | None = None
    """TLS to the agent. Default: plain text."""


@frozen(kw_only=True)
class TracelogConfig(PluginConfig):
    """Prints spans to the log."""

    unavailable: ClassVar[str | None] = later.TRACING

    sample_rate: Ratio = 1.0
    """Part of the traces."""
    level: Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL", "ALL", "OFF"] = "INFO"
    """Log level."""


@frozen(kw_only=True)
class ZipkinConfig(PluginConfig):
    """Sends spans to Zipkin."""

    unavailable: ClassVar[str | None] = later.TRACING

    host: str = "localhost"
    """Collector."""
    port: Port = 9410
    """Its port."""
    sample_rate: Ratio = 0.001
    """Part of the traces."""
