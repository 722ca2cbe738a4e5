"""config/node-protocols.yaml: every protocol from router to router, as between two nodes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.grpc_peers import METHODS, GrpcCaller, GrpcServers
from tests.wire.harness import EndpointServer, Hostmesh

FILE = Path(__file__).resolve().parents[2] / "config" / "node-protocols.yaml"
LONG = 30.0


@pytest.fixture(scope="module")
def servers() -> Iterator[GrpcServers]:
    with GrpcServers("a", "b") as running:
        yield running


@pytest.fixture
def mesh(servers: GrpcServers, tmp_path: Path) -> Iterator[Hostmesh]:
    """A node whose two outgoing hops end on itself."""
    text = re.sub(r"(?<=rootDir: )\S+", "@dir@/disco", FILE.read_text())
    text = re.sub(r"(?<=port: )(\d+)", r"@port\1@", text).replace("@port9990@", "@admin@")
    node = Hostmesh(tmp_path, text.replace("ip: 0.0.0.0", "ip: 127.0.0.1"), start=False)
    node.set_endpoints("test.Echo", [f"{each.host} {each.port}" for each in servers.all])
    node.set_endpoints("echo", [f"{each.host} {each.port}" for each in servers.all])
    node.start()
    with node:
        yield node


def requests(node: Hostmesh, label: str) -> float:
    """What a router's callers have asked for, by its services."""
    return sum(
        value
        for name, value in node.metrics().items()
        if name.startswith(f"rt/{label}/service/") and name.endswith("/requests") and "/grpc/" not in name
    )


def test_http(mesh: Hostmesh, endpoint: Callable[..., EndpointServer]) -> None:
    """HTTP/1.1 goes through two routers, each of which adds itself to Via."""
    server = endpoint("web-1")
    mesh.set_endpoints("web", [server])

    response = mesh.get("/", port="port4140")

    assert (response.status, response.endpoint) == (200, "web-1")
    assert len(response.seen_all("via")) == 2
    assert (requests(mesh, "http-outgoing"), requests(mesh, "http-incoming")) == (1, 1)


def test_http_to_an_address(mesh: Hostmesh, endpoint: Callable[..., EndpointServer]) -> None:
    """What no file knows is asked for directly, not at a hostmesh beside it."""
    server = endpoint("direct")

    response = mesh.get("/", host=f"127.0.0.1:{server.port}", port="port4140")

    assert (response.status, response.endpoint) == (200, "direct")
    assert requests(mesh, "http-incoming") == 0


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("protocol", ["h2", "grpc"])
def test_grpc_and_h2(mesh: Hostmesh, protocol: str, kind: str) -> None:
    """Calls go through both routers of their protocol, found by :authority and by service."""
    port, authority = (mesh.ports["port4240"], "echo") if protocol == "h2" else (mesh.ports["port4340"], None)

    with GrpcCaller(port, authority=authority) as caller:
        outcome = caller.call(kind, [b"hello"], metadata=[("x-echo-a", "b")], timeout=LONG)

    expected = {"unary": [b"hello"], "client": [b"1 5"], "server": [b"hello 0"], "bidi": [b"hello"]}
    assert (outcome.code, outcome.messages) == (0, expected[kind])
    assert (outcome.initial["x-echo-a"], outcome.trailing["x-echo-a"]) == ("b", "b")
    assert (requests(mesh, f"{protocol}-outgoing"), requests(mesh, f"{protocol}-incoming")) == (1, 1)


def test_grpc_statuses_pass_both_hops(mesh: Hostmesh) -> None:
    """A status made by a service, and one made by the second hop, arrive as they were."""
    with GrpcCaller(mesh.ports["port4340"]) as caller:
        served = caller.call(
            "unary", [b"x"], metadata=[("x-status", "9"), ("x-details-bin", b"no")], timeout=LONG
        )
        mesh.set_endpoints("test.Echo", ["127.0.0.1 1"])
        mesh.wait(lambda: caller.call("unary", [b"x"], timeout=LONG).code == 14, "the change to be seen")
        refused = caller.call("unary", [b"x"], timeout=LONG)

    assert (served.code, served.details) == (9, "no")
    assert refused.details.startswith("connect-refused: Unable to establish connection to 127.0.0.1:1")


def test_grpc_timeout_over_two_hops(mesh: Hostmesh) -> None:
    """Each hop hands on what is left of the timeout, and the caller is told DEADLINE_EXCEEDED."""
    with GrpcCaller(mesh.ports["port4340"]) as caller:
        outcome = caller.call("unary", [b"x"], timeout=20)
        late = caller.call("unary", [b"x"], metadata=[("x-delay-ms", "60000")], timeout=0.3)

    assert 15_000 < int(outcome.trailing["x-time-left-ms"]) <= 20_000
    assert late.code == 4


def test_grpc_calls_are_retried_once_per_attempt(mesh: Hostmesh) -> None:
    """Only the first hop retries: a call that fails twice is attempted three times in all."""
    metadata: list[tuple[str, str | bytes]] = [("x-fail", "two-hops 1"), ("x-status", "14")]
    with GrpcCaller(mesh.ports["port4340"]) as caller:
        outcome = caller.call("unary", [b"x"], metadata=metadata, timeout=LONG)
    metrics = mesh.metrics()

    outgoing = metrics["rt/grpc-outgoing/service/svc/test.Echo/retries/total"]
    assert outcome.code == 0
    assert 1 <= outgoing <= 2
    assert metrics["rt/grpc-incoming/service/svc/test.Echo/retries/total"] == 0
