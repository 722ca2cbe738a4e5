"""Our servers as services of a real Consul."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.servers.consul_agent import ConsulServer
from tests.servers.running import eventually
from tests.wire.harness import Hostmesh

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@}
routers:
- protocol: http
  dtab: |
    /svc => /$/nil;
  announcers:
  - kind: io.l5d.consul
    host: 127.0.0.1
    port: @consul@
    ttlMs: 1000
  servers:
  - port: @port@
    ip: 127.0.0.1
    announce:
    - /#/io.l5d.consul/blue/incoming
"""


def announced(consul: ConsulServer, *, passing: bool = True) -> list[dict[str, Any]]:
    """The instances of the service that the health API tells of."""
    query = {"passing": "1"} if passing else {}
    found: list[dict[str, Any]] = consul.call("GET", "/v1/health/service/incoming", **query)
    return found


def wait_announced(consul: ConsulServer, count: int, *, passing: bool = True) -> list[dict[str, Any]]:
    def look() -> list[dict[str, Any]] | None:
        found = announced(consul, passing=passing)
        return found if len(found) == count else None

    return eventually(look)


def test_a_server_is_a_service_while_it_lives(tmp_path: Path) -> None:
    """It appears with address, port and tag, comes back when somebody removes it, and goes with a drain."""
    (tmp_path / "consul").mkdir()
    with ConsulServer(tmp_path / "consul") as consul:
        with Hostmesh(tmp_path, CONFIG, ports={"consul": consul.port}) as mesh:
            service = wait_announced(consul, 1)[0]["Service"]
            assert ("127.0.0.1", mesh.ports["port"], ["blue"]) == (
                service["Address"],
                service["Port"],
                service["Tags"],
            )
            consul.call("PUT", f"/v1/agent/service/deregister/{service['ID']}")
            assert announced(consul, passing=False) == []
            wait_announced(consul, 1)
            mesh.terminate()
            mesh.wait_exit()

        assert announced(consul, passing=False) == []


def test_a_killed_daemon_is_critical_after_its_ttl_and_takes_over_when_it_is_back(tmp_path: Path) -> None:
    """kill -9: not among the healthy after a second; started again there is one instance, not two."""
    (tmp_path / "consul").mkdir()
    with (
        ConsulServer(tmp_path / "consul") as consul,
        Hostmesh(tmp_path, CONFIG, ports={"consul": consul.port}) as mesh,
    ):
        wait_announced(consul, 1)
        mesh.kill()
        wait_announced(consul, 0)
        assert len(announced(consul, passing=False)) == 1
        mesh.start()
        wait_announced(consul, 1)
        assert len(announced(consul, passing=False)) == 1


def test_an_agent_that_forgets_is_told_again(tmp_path: Path) -> None:
    """Killed and started without its data, and before that not there at all: announced within moments of its return."""
    (tmp_path / "consul").mkdir()
    consul = ConsulServer(tmp_path / "consul")
    with Hostmesh(tmp_path, CONFIG, ports={"consul": consul.port}) as mesh:
        mesh.wait_log("names.registry_lost")
        try:
            consul.start()
            wait_announced(consul, 1)
            consul.kill()
            consul.start()
            wait_announced(consul, 1)
        finally:
            consul.kill()
