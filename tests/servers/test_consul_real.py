"""The Consul namer on a real Consul: outages, ACLs, TLS, health, and Linkerd's own example."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.servers.consul_agent import ConsulServer
from tests.servers.consul_scenarios import SCENARIOS, play, propagation
from tests.wire.harness import Answer, EndpointServer, Hostmesh, Received, free_port

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@}
namers:
- kind: io.l5d.consul
  host: 127.0.0.1
  port: @consul@
  MORE
routers:
- protocol: http
  dtab: |
    /svc => /#/io.l5d.consul/.local;
  servers:
  - {port: @port@, ip: 127.0.0.1}
"""


def config(*more: str) -> str:
    return CONFIG.replace("MORE", "\n  ".join(more))


def who(mesh: Hostmesh, host: str = "web") -> str | None:
    """Which endpoint answers."""
    answer = mesh.get("/", host=host)
    return answer.endpoint if answer.status == 200 else None


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str, tmp_path: Path) -> None:
    """No failed request while an endpoint lives, no stale route beyond the bound, a true journal."""
    print(play(name, tmp_path, outage_s=3.0))


@pytest.mark.slow
def test_an_agent_at_its_limit_stands_still(tmp_path: Path) -> None:
    """Afterwards it still counts the connections of the watches from before: names are looked at until they are gone,
    none of them is refused, and a change is seen as soon as ever."""
    for name in ("consul", "mesh"):
        (tmp_path / name).mkdir()
    names = [f"s{number}" for number in range(60)]
    with (
        EndpointServer("one") as one,
        EndpointServer("two") as two,
        ConsulServer(tmp_path / "consul", dev=False, max_connections=80) as agent,
        Hostmesh(tmp_path / "mesh", config("maxWatches: 50"), ports={"consul": agent.port}) as mesh,
    ):
        for name in names:
            agent.register(name, "127.0.0.1", one.port)
        assert {who(mesh, name) for name in names} == {"one"}
        agent.freeze()
        connected = "namer/#/io.l5d.consul/connected"
        mesh.wait_metric(connected, lambda value: value == 0, within=30)
        agent.thaw()
        mesh.wait_metric(connected, lambda value: value == 1, within=10)
        errors = mesh.metrics()["namer/#/io.l5d.consul/service/errors"]
        for name in (names[0], names[-1]):
            agent.deregister(name, "127.0.0.1", one.port)
            agent.register(name, "127.0.0.1", two.port)
        for name in (names[0], names[-1]):
            mesh.wait(lambda name=name: who(mesh, name) == "two", f"{name} has changed", within=6)

        assert mesh.metrics()["namer/#/io.l5d.consul/service/errors"] == errors


@pytest.mark.slow
def test_a_restart_at_the_agents_limit_is_not_refused(tmp_path: Path) -> None:
    """The agent still counts the watches of the process before: the new one leaves room for them."""
    for name in ("consul", "mesh"):
        (tmp_path / name).mkdir()
    names = [f"s{number}" for number in range(60)]
    with (
        EndpointServer("one") as one,
        ConsulServer(tmp_path / "consul", dev=False, max_connections=80) as agent,
        Hostmesh(
            tmp_path / "mesh", config("maxWatches: 50", "waitMs: 8000"), ports={"consul": agent.port}
        ) as mesh,
    ):
        for name in names:
            agent.register(name, "127.0.0.1", one.port)
        assert {who(mesh, name) for name in names} == {"one"}
        mesh.wait_metric("namer/#/io.l5d.consul/waiting", lambda value: value == 10, within=30)
        mesh.close()
        mesh.start()

        assert {who(mesh, name) for name in names} == {"one"}
        assert mesh.metrics()["namer/#/io.l5d.consul/service/errors"] == 0


@pytest.mark.slow
def test_propagation_is_measured() -> None:
    """Few changes, so that the numbers of ``consul_scenarios propagation`` are known to be measurable."""
    print(propagation(10))


def test_linkerds_example_runs_unchanged(tmp_path: Path) -> None:
    """``consul.yaml`` of Linkerd 1.7: the tag in the path; only its ports are ours."""
    (tmp_path / "consul").mkdir()
    example = (
        "admin: {ip: 127.0.0.1, port: @admin@}\n"
        "namers:\n- kind: io.l5d.consul\n  includeTag: true\n  useHealthCheck: false\n  port: @consul@\n\n"
        "routers:\n- protocol: http\n  dtab: |\n    /svc     => /#/io.l5d.consul/dc1/prod;\n"
        "  servers:\n  - port: @port@\n    ip: 0.0.0.0\n"
    )
    with (
        EndpointServer("web-prod") as prod,
        EndpointServer("web-dev") as dev,
        ConsulServer(tmp_path / "consul") as consul,
    ):
        consul.register("web", prod.host, prod.port, Tags=["prod"])
        consul.register("web", dev.host, dev.port, Tags=["dev"])
        with Hostmesh(tmp_path, example, ports={"consul": consul.port}) as mesh:
            answers = {who(mesh) for _ in range(20)}

            assert {"web-prod"} == answers
            assert mesh.get("/", host="unknown").status == 502


def test_health_decides(tmp_path: Path) -> None:
    """A critical instance is left out, comes back when it passes, and maintenance takes it away."""
    (tmp_path / "consul").mkdir()
    with (
        EndpointServer("web-1") as one,
        EndpointServer("web-2") as two,
        ConsulServer(tmp_path / "consul") as consul,
    ):
        consul.register("web", one.host, one.port)
        check = {"CheckID": "alive", "TTL": "60s", "Status": "critical"}
        consul.register("web", two.host, two.port, Check=check)
        more = config("useHealthCheck: true", "holdMs: 0")
        with Hostmesh(tmp_path, more, ports={"consul": consul.port}) as mesh:
            assert {"web-1"} == {who(mesh) for _ in range(20)}
            consul.call("PUT", "/v1/agent/check/pass/alive")
            mesh.wait(lambda: who(mesh) == "web-2", "the passing instance is used")
            consul.call(
                "PUT",
                f"/v1/agent/service/maintenance/web-{one.host}-{one.port}",
                enable="true",
                reason="test",
            )
            mesh.wait(lambda: who(mesh) == "web-2" == who(mesh) == who(mesh), "maintenance takes one away")
            mesh.wait(lambda: {"web-2"} == {who(mesh) for _ in range(20)}, "only the other is left")


def test_weights_by_tag(tmp_path: Path) -> None:
    """An instance whose tag weighs nothing gets nothing."""
    (tmp_path / "consul").mkdir()
    with (
        EndpointServer("web-1") as one,
        EndpointServer("web-2") as two,
        ConsulServer(tmp_path / "consul") as consul,
    ):
        consul.register("web", one.host, one.port, Tags=["primary"])
        consul.register("web", two.host, two.port, Tags=["drained"])
        more = config("weights:", "- {tag: primary, weight: 2}", "- {tag: drained, weight: 0}")
        with Hostmesh(tmp_path, more, ports={"consul": consul.port}) as mesh:
            assert {"web-1"} == {who(mesh) for _ in range(40)}


def test_acl_token(tmp_path: Path) -> None:
    """With ACLs on, a token that may read finds the service; a wrong one is an error that says so."""
    (tmp_path / "consul").mkdir()
    root = "8e6b5a9c-0000-4000-8000-000000000001"
    acl = {"acl": {"enabled": True, "default_policy": "deny", "tokens": {"master": root, "agent": root}}}
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
    with (
        EndpointServer("web-1") as one,
        ConsulServer(tmp_path / "consul", extra=acl, token=root) as consul,
    ):
        consul.register("web", one.host, one.port)
        rules = 'service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }'
        policy = consul.call("PUT", "/v1/acl/policy", {"Name": "reader", "Rules": rules})
        token = consul.call("PUT", "/v1/acl/token", {"Policies": [{"ID": policy["ID"]}]})
        good = config(f"token: {token['SecretID']}", "waitMs: 1000")
        with Hostmesh(tmp_path / "good", good, ports={"consul": consul.port}) as mesh:
            mesh.wait(lambda: who(mesh) == "web-1", "routed")
            consul.call("DELETE", f"/v1/acl/token/{token['AccessorID']}")
            mesh.wait(lambda: "ACL not found" in _state(mesh)["error"], "the token is refused", within=40)
            assert who(mesh) == "web-1"
        with Hostmesh(tmp_path / "bad", config("token: wrong"), ports={"consul": consul.port}) as mesh:
            answer = mesh.get("/", host="web")
            assert answer.status in (502, 503)
            assert b"ACL not found" in answer.body


def _state(mesh: Hostmesh) -> dict[str, Any]:
    loaded = json.loads(mesh.admin("/namer_state/io.l5d.consul.json").body)
    state: dict[str, Any] = loaded["state"]["/.local/web"]
    return state | {"error": state["error"] or ""}


def test_tls_to_the_agent(tmp_path: Path) -> None:
    """Both sides show certificates; a name that the agent's certificate does not carry is refused."""
    (tmp_path / "consul").mkdir()
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for name in ("server.dc1.consul", "client"):
        cert = ca.issue_cert(name)
        cert.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
        cert.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.pem"))
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
    https = free_port()
    with EndpointServer("web-1") as one:
        consul = ConsulServer(
            tmp_path / "consul",
            extra={
                "ca_file": str(tmp_path / "ca.pem"),
                "cert_file": str(tmp_path / "server.dc1.consul.pem"),
                "key_file": str(tmp_path / "server.dc1.consul.key"),
                "verify_incoming_https": True,
            },
        )
        consul.config["ports"]["https"] = https
        with consul:
            consul.register("web", one.host, one.port)

            def tls(name: str) -> str:
                return config(
                    "tls:",
                    f"  commonName: {name}",
                    f"  trustCertsBundle: {tmp_path}/ca.pem",
                    "  clientAuth:",
                    f"    certPath: {tmp_path}/client.pem",
                    f"    keyPath: {tmp_path}/client.key",
                )

            good = tls("server.dc1.consul")
            with Hostmesh(tmp_path / "good", good, ports={"consul": https}) as mesh:
                mesh.wait(lambda: who(mesh) == "web-1", "routed")
            with Hostmesh(tmp_path / "bad", tls("other.dc1.consul"), ports={"consul": https}) as mesh:
                answer = mesh.get("/", host="web")
                assert answer.status in (502, 503)
                assert b"TLS" in answer.body


def test_x8_hostile_content(tmp_path: Path) -> None:
    """What a real Consul takes and no service can be is left out, counted and named; the good instance is used."""
    (tmp_path / "consul").mkdir()
    with EndpointServer("web-1") as one, ConsulServer(tmp_path / "consul") as consul:
        hostile = [
            ("169.254.169.254", 80),
            # Consul itself refuses 0.0.0.0.
            ("224.0.0.1", 80),
            ("10.1.1.1", 0),
            ("10.1.1.2", 99999),
            ("a b", 80),
            ("{{template}}", 80),
            ("127.0.0.1:80", 80),
            ("é.example", 80),
        ]
        for number, (host, port) in enumerate(hostile):
            instance = {"ID": f"w{number}", "Service": "web", "Address": host, "Port": port}
            consul.call(
                "PUT",
                "/v1/catalog/register",
                {"Node": f"n{number}", "Address": "10.9.9.9", "Service": instance},
            )
        consul.register("web", one.host, one.port)
        consul.register("huge", one.host, one.port, Tags=["x" * 100_000] * 50)
        with Hostmesh(tmp_path, config(), ports={"consul": consul.port}) as mesh:
            assert {"web-1"} == {who(mesh) for _ in range(50)}
            assert len(hostile) == mesh.metrics()["namer/#/io.l5d.consul/malformed"]
            assert "names.instance_refused" in mesh.log()
            assert who(mesh, "huge") == "web-1"


def test_the_log_names_an_outage_once(tmp_path: Path) -> None:
    """Whatever the number of names in use."""
    (tmp_path / "consul").mkdir()
    with EndpointServer("web-1") as one, ConsulServer(tmp_path / "consul") as consul:
        for number in range(10):
            consul.register(f"web{number}", one.host, one.port)
        with Hostmesh(tmp_path, config(), ports={"consul": consul.port}) as mesh:
            for number in range(10):
                assert who(mesh, f"web{number}") == "web-1"
            consul.kill()
            mesh.wait_log("names.registry_lost")
            begin = time.monotonic()
            assert all(who(mesh, f"web{number}") == "web-1" for number in range(10))
            assert time.monotonic() - begin < 5
            events = [entry.get("event") for entry in mesh.log_entries()]
            assert events.count("names.registry_lost") == 1
            assert events.count("names.source_failed") <= 10


def test_set_host(tmp_path: Path) -> None:
    """The endpoint is called by its Consul name, and where it redirects to itself callers get their own host."""
    (tmp_path / "consul").mkdir()
    name = "web.service.dc1.consul"

    hosts = []

    def redirect(request: Received) -> Answer:
        hosts.append(dict(request.fields)["Host"])
        return Answer(status=302, fields=(("Location", f"http://{name}/next"),), body=b"")

    with (
        EndpointServer("web-1", respond=redirect) as one,
        ConsulServer(tmp_path / "consul") as consul,
    ):
        consul.register("web", one.host, one.port)
        with Hostmesh(tmp_path, config("setHost: true"), ports={"consul": consul.port}) as mesh:
            answer = mesh.get("/", host="web")

            assert answer.status == 302
            assert answer.get("Location") == "http://web/next"
            assert hosts == [name]
