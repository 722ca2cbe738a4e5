"""What every scenario starts with: a folder, endpoints that count, and a hostmesh in front of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.wire.counting import CountingEndpoint, deliveries
from tests.wire.harness import Hostmesh, free_port
from tests.wire.load import Call, Load, Outcome

Figures = dict[str, object]
"""What a scenario has measured, for people."""

HEAD = """\
seed: 42
admin:
  ip: 127.0.0.1
  port: @admin@
  shutdownGraceMs: 5000
namers:
- kind: io.l5d.fs
  rootDir: @dir@/disco
"""

ROUTER = (
    HEAD
    + """\
routers:
- protocol: http
  dtab: |
    /svc => /#/io.l5d.fs;
  servers:
  - port: @port@
    ip: 127.0.0.1
"""
)


class World(ExitStack):
    """Owns all processes of a scenario."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.endpoints: dict[str, CountingEndpoint] = {}
        self.mesh: Hostmesh | None = None

    def endpoint(self, name: str, *, delay_ms: float = 0.0, status: int = 200) -> CountingEndpoint:
        """A running endpoint of that name."""
        made = self.enter_context(
            CountingEndpoint(self.folder, name, free_port(), delay_ms=delay_ms, status=status)
        )
        self.endpoints[name] = made
        return made

    def serve(
        self, config: str = ROUTER, /, folder: Path | None = None, **services: list[CountingEndpoint]
    ) -> Hostmesh:
        """A running hostmesh whose file namer knows these services."""
        mesh = Hostmesh(folder or self.folder, config, start=False)
        for name, endpoints in services.items():
            mesh.set_endpoints(name, [endpoint.line for endpoint in endpoints])
        mesh.start()
        return self.enter_context(mesh)

    def load(
        self,
        port: int,
        call: Callable[[int], Call] | Call,
        *,
        rate: float | None = None,
        connections: int = 8,
        total: int | None = None,
        prefix: str = "",
    ) -> Load:
        """A running load."""
        return self.enter_context(
            Load(port, call, rate=rate, connections=connections, total=total, prefix=prefix)
        )

    def twice(self) -> list[str]:
        """What was delivered more than once, over all endpoints."""
        return [each for each, count in deliveries(list(self.endpoints.values())).items() if count > 1]


def agree(endpoints: list[CountingEndpoint], outcomes: list[Outcome]) -> None:
    """Callers and endpoints count the same: every answer of an endpoint is one delivery there, and no other.

    For loads without retries: a repeated attempt is a delivery without an answer.
    """
    for endpoint in endpoints:
        answered = sorted(f"{o.method} {o.id}" for o in outcomes if o.endpoint == endpoint.name)
        delivered = sorted(endpoint.delivered())
        assert delivered == answered, (
            f"{endpoint.name}: {len(delivered)} delivered, {len(answered)} answered, "
            f"{sorted(set(delivered) ^ set(answered))[:5]}"
        )
