"""What a telemeter is: where numbers and finished exchanges leave the process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from attrs import frozen

from hostmesh.base.plugin import PluginConfig

if TYPE_CHECKING:
    from hostmesh.base.env import Env
    from hostmesh.telemetry.metrics import MetricsTree

AdminRoute: TypeAlias = Callable[[Mapping[str, str]], "tuple[str, str | bytes | Iterable[str]]"]
"""An admin page: from query parameters, and the request's ``Host`` under ``:host``, to media type and body. A
body in parts is rendered with pauses between them."""


@frozen(kw_only=True)
class TelemeterDeps:
    """What a telemeter may use. It keeps them; none is to be closed by it."""

    env: Env
    metrics: MetricsTree
    log: Callable[[str], Any]
    """A structlog logger by name."""


class Telemeter(Protocol):
    """A running telemeter.

    It may also have ``async def run(self)``, which gets a task for as long as the daemon uses it and flushes
    what it holds when it is cancelled, and it may be a :class:`hostmesh.telemetry.record.RecordSink`, which
    makes the proxy ask it about every exchange.
    """

    def admin_routes(self) -> Mapping[str, AdminRoute]:
        """Pages to be served on the admin port, by path."""
        ...


@frozen(kw_only=True)
class TelemeterConfig(PluginConfig):
    """The base of telemeter configs."""

    def mk(self, deps: TelemeterDeps) -> Telemeter:
        """The telemeter, without any I/O yet."""
        raise NotImplementedError
