"""gRPC through a running hostmesh, between grpcio's callers and grpcio's servers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from tests.grpc_peers import METHODS, GrpcCaller, GrpcServers, Metadata, finish
from tests.wire.harness import Hostmesh, free_port

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@}
namers:
- {kind: io.l5d.fs, rootDir: @dir@/disco}
routers:
- protocol: h2
  label: grpc
  identifier: {kind: io.l5d.header.path, segments: 1}
  dtab: /svc => /#/io.l5d.fs
  service: {responseClassifier: {kind: io.l5d.h2.grpc.@kind@}}
  client: {loadBalancer: {kind: p2c}}
  servers:
  - {port: @port@, ip: 127.0.0.1}
"""
SERVICE = "rt/grpc/service/svc/test.Echo"
CLIENT = "rt/grpc/client/#/io.l5d.fs/test.Echo"
EIGHT_MB = 8 * 1024 * 1024
LONG = 30.0


def config(kind: str = "default", service: str = "") -> str:
    """:data:`CONFIG` with that gRPC classifier and further keys of the service."""
    found = CONFIG.replace("@kind@", kind)
    return found.replace(f"grpc.{kind}}}", f"grpc.{kind}}}{', ' if service else ''}{service}")


@pytest.fixture(scope="module")
def servers() -> Iterator[GrpcServers]:
    with GrpcServers("a", "b", "c", "d", "e") as running:
        yield running


@pytest.fixture(scope="module")
def mesh(servers: GrpcServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostmesh]:
    with meshed(tmp_path_factory.mktemp("grpc"), servers) as running:
        yield running


def meshed(folder: Path, servers: GrpcServers, text: str | None = None, *names: str) -> Hostmesh:
    """A hostmesh in front of the servers of these names, or of all."""
    running = Hostmesh(folder, text or config(), start=False)
    chosen = [servers[name] for name in names] if names else servers.all
    running.set_endpoints("test.Echo", [f"{each.host} {each.port}" for each in chosen])
    running.start()
    return running


@pytest.fixture
def caller(mesh: Hostmesh) -> Iterator[GrpcCaller]:
    with GrpcCaller(mesh.port) as each:
        yield each


def settled(mesh: Hostmesh) -> None:
    """Nothing is in flight any more."""
    names = [f"{SERVICE}/pending", f"{CLIENT}/pending", f"rt/grpc/server/127.0.0.1/{mesh.port}/pending"]
    mesh.wait(lambda: (m := mesh.metrics()) and all(m.get(name, 0) == 0 for name in names), "nothing pending")


# -- four kinds of calls ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", METHODS)
def test_ok(caller: GrpcCaller, mesh: Hostmesh, kind: str) -> None:
    """Messages go both ways in order, with their metadata, and the trailers arrive."""
    several = [b"first", b"", b"third"] if kind in ("client", "bidi") else [b"first"]
    metadata: Metadata = [("x-count", "3"), ("x-echo-text", "a"), ("x-echo-raw-bin", bytes(range(256)))]

    outcome = caller.call(kind, several, metadata=metadata, timeout=LONG)

    expected = {
        "unary": [b"first"],
        "client": [b"3 10"],
        "server": [b"first 0", b"first 1", b"first 2"],
        "bidi": several,
    }
    assert (outcome.code, outcome.messages) == (0, expected[kind])
    for found in (outcome.initial, outcome.trailing):
        assert (found["x-echo-text"], found["x-echo-raw-bin"]) == ("a", bytes(range(256)))
    settled(mesh)


@pytest.mark.parametrize("kind", METHODS)
def test_deadline(caller: GrpcCaller, servers: GrpcServers, mesh: Hostmesh, kind: str) -> None:
    """A call whose time is over ends as DEADLINE_EXCEEDED, and at the server too."""
    before = counted(servers, "cancelled")

    outcome = caller.call(kind, [b"x"], metadata=[("x-delay-ms", "60000")], timeout=0.2)

    assert outcome.code == 4
    mesh.wait(lambda: counted(servers, "cancelled") > before, "the server to be told")
    settled(mesh)


@pytest.mark.parametrize("kind", METHODS)
def test_deadline_after_the_head(caller: GrpcCaller, servers: GrpcServers, mesh: Hostmesh, kind: str) -> None:
    """A deadline that passes after the response head ends the call as well."""
    before = counted(servers, "cancelled")
    metadata: Metadata = [("x-early", "1"), ("x-delay-ms", "60000")]

    outcome = caller.call(kind, [b"x"], metadata=metadata, timeout=0.3)

    assert outcome.code == 4
    mesh.wait(lambda: counted(servers, "cancelled") > before, "the server to be told")
    settled(mesh)


@pytest.mark.parametrize("kind", METHODS)
def test_cancel(caller: GrpcCaller, servers: GrpcServers, mesh: Hostmesh, kind: str) -> None:
    """A cancelled call is cancelled at the server that works on it."""
    started, before = counted(servers, "started"), counted(servers, "cancelled")
    call = caller.start(kind, [b"x"], metadata=[("x-delay-ms", "60000")])
    mesh.wait(lambda: counted(servers, "started") > started, "the call to arrive")

    call.cancel()

    assert finish(kind, call).code == 1
    mesh.wait(lambda: counted(servers, "cancelled") > before, "the server to be told")
    settled(mesh)


@pytest.mark.parametrize("kind", METHODS)
def test_messages_of_8_mb(caller: GrpcCaller, kind: str) -> None:
    """Large messages pass in both directions."""
    outcome = caller.call(kind, [b"x" * EIGHT_MB], metadata=[("x-size", str(EIGHT_MB))], timeout=LONG)

    assert (outcome.code, [len(message) for message in outcome.messages]) == (0, [EIGHT_MB])


@pytest.mark.parametrize("kind", METHODS)
def test_100_metadata_keys(caller: GrpcCaller, kind: str) -> None:
    """A hundred keys go there, and come back both in the head and in the trailers."""
    metadata: Metadata = [(f"x-echo-key-{number:03}", f"value {number}") for number in range(100)]

    outcome = caller.call(kind, [b"x"], metadata=metadata, timeout=LONG)

    assert outcome.code == 0
    for found in (outcome.initial, outcome.trailing):
        assert [(key, value) for key, value in found.items() if key.startswith("x-echo-")] == metadata


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("early", [False, True], ids=["trailers-only", "after the head"])
def test_utf8_details(caller: GrpcCaller, kind: str, early: bool) -> None:
    """Details of a status in any script arrive unharmed, in the head and in the trailers."""
    details = "größer 日本 🙂 100% \t ~"
    metadata: Metadata = [("x-status", "9"), ("x-details-bin", details.encode())]
    metadata += [("x-early", "1")] if early else []

    outcome = caller.call(kind, [b"x"], metadata=metadata, timeout=LONG)

    assert (outcome.code, outcome.details) == (9, details)


def test_stream_that_fails_after_messages(caller: GrpcCaller) -> None:
    """What was sent before the status arrives, then the status."""
    metadata: Metadata = [("x-count", "3"), ("x-status", "8")]

    outcome = caller.call("server", [b"m"], metadata=metadata, timeout=LONG)

    assert (outcome.code, outcome.messages) == (8, [b"m 0", b"m 1", b"m 2"])


def test_conversation(caller: GrpcCaller) -> None:
    """Each message of a bidirectional stream is answered before the next one is sent: nothing is held back."""
    to_send: SimpleQueue[bytes | None] = SimpleQueue()
    call = caller.start("bidi", iter(to_send.get, None), timeout=LONG)  # type: ignore[arg-type]  # until None

    answers = []
    for number in range(20):
        to_send.put(b"%d" % number)
        answers.append(next(call))
    to_send.put(None)

    assert (answers, list(call), call.code().value[0]) == ([b"%d" % number for number in range(20)], [], 0)


def counted(servers: GrpcServers, what: str) -> int:
    """How often something happened at all servers together."""
    return sum(server.wait().get(what, 0) for server in servers.all)


# -- routing ----------------------------------------------------------------------------------------------------------


def test_calls_of_one_connection_are_spread(servers: GrpcServers, tmp_path: Path) -> None:
    """Five endpoints get 20 +- 3 % each of what comes on one connection."""
    with meshed(tmp_path, servers) as own, GrpcCaller(own.port) as each:
        outcomes = each.calls(2500, "unary", [b"x"], timeout=LONG)
        connections = own.metrics()[f"rt/grpc/server/127.0.0.1/{own.port}/connects"]

    assert ({outcome.code for outcome in outcomes}, connections) == ({0}, 1)
    shares = {name: number / len(outcomes) for name, number in Counter(o.served_by for o in outcomes).items()}
    assert sorted(shares) == ["a", "b", "c", "d", "e"]
    assert all(0.17 <= share <= 0.23 for share in shares.values()), shares


def test_timeout_is_shortened(caller: GrpcCaller) -> None:
    """The server gets what is left of the caller's timeout, and no timeout where there was none."""
    limited = caller.call("unary", [b"x"], timeout=20)
    unlimited = caller.call("unary", [b"x"])

    # grpcio itself rounds what it sends up to tenths of a second.
    assert 15_000 < int(limited.trailing["x-time-left-ms"]) <= 20_100
    assert "x-time-left-ms" not in unlimited.trailing


def test_methods_are_counted(servers: GrpcServers, tmp_path: Path) -> None:
    """Every method has its requests, verdicts and statuses."""
    with meshed(tmp_path, servers) as own, GrpcCaller(own.port) as each:
        each.call("unary", [b"x"], timeout=LONG)
        each.call("unary", [b"x"], metadata=[("x-status", "5")], timeout=LONG)
        each.call("server", [b"x"], metadata=[("x-status", "9"), ("x-early", "1")], timeout=LONG)
        metrics = own.metrics()

    found = {
        name.removeprefix(f"{SERVICE}/grpc/test.Echo/"): value
        for name, value in metrics.items()
        if name.startswith(f"{SERVICE}/grpc/") and "latency" not in name and "pending" not in name and value
    }
    assert found == {
        "Unary/requests": 2,
        "Unary/success": 1,
        "Unary/failures": 1,
        "Unary/status/0": 1,
        "Unary/status/5": 1,
        "ServerStream/requests": 1,
        "ServerStream/failures": 1,
        "ServerStream/status/9": 1,
    }
    server = f"rt/grpc/server/127.0.0.1/{own.port}"
    assert (metrics[f"{server}/success"], metrics[f"{server}/failures"]) == (1, 2)


# -- retries and verdicts ---------------------------------------------------------------------------------------------


def test_unary_calls_are_retried(servers: GrpcServers, tmp_path: Path) -> None:
    """UNAVAILABLE is tried again under the default kind until it succeeds, whether it came early or late."""
    with meshed(tmp_path, servers, config(), "a") as own, GrpcCaller(own.port) as each:
        metadata: Metadata = [("x-fail", "only 2"), ("x-status", "14")]
        only = each.call("unary", [b"x"], metadata=metadata, timeout=LONG)
        metadata = [("x-fail", "late 2"), ("x-status", "14"), ("x-early", "1")]
        late = each.call("unary", [b"x" * 10_000], metadata=metadata, timeout=LONG)
        retries = own.metrics()[f"{SERVICE}/retries/total"]

    assert (only.code, only.messages, late.code, late.messages) == (0, [b"x"], 0, [b"x" * 10_000])
    assert retries == 4


def test_long_requests_are_not_retried(servers: GrpcServers, tmp_path: Path) -> None:
    """A request over retryBufferSize.requestBytes is sent once, and that is counted."""
    with meshed(tmp_path, servers, config(), "a") as own, GrpcCaller(own.port) as each:
        metadata: Metadata = [("x-fail", "long 1"), ("x-status", "14")]
        outcome = each.call("unary", [b"x" * 20_000], metadata=metadata, timeout=LONG)
        metrics = own.metrics()

    assert outcome.code == 14
    assert (metrics[f"{SERVICE}/retries/total"], metrics[f"{SERVICE}/retries/request_stream_too_long"]) == (
        0,
        1,
    )


def test_retry_buffer_is_configured(servers: GrpcServers, tmp_path: Path) -> None:
    """retryBufferSize.requestBytes says what is long."""
    text = config(service="retryBufferSize: {requestBytes: 1000000}")
    with meshed(tmp_path, servers, text, "a") as own, GrpcCaller(own.port) as each:
        metadata: Metadata = [("x-fail", "configured 1"), ("x-status", "14")]
        outcome = each.call("unary", [b"x" * 500_000], metadata=metadata, timeout=LONG)

    assert (outcome.code, len(outcome.messages[0])) == (0, 500_000)


def test_failing_endpoint_is_ejected(servers: GrpcServers, tmp_path: Path) -> None:
    """Five failed statuses in a row, each with HTTP 200, and the others get the calls."""
    with meshed(tmp_path, servers, config("neverRetryable"), "a", "b") as own, GrpcCaller(own.port) as each:
        # one key on two servers, of which each fails its first five calls
        metadata: Metadata = [("x-fail", "eject 5"), ("x-status", "13")]
        codes = [each.call("unary", [b"x"], metadata=metadata, timeout=LONG).code for _ in range(40)]
        removals = own.metrics()[f"{CLIENT}/failure_accrual/removals"]

    assert codes.count(13) == 10
    assert removals == 2


# -- errors made here -------------------------------------------------------------------------------------------------


def test_no_endpoint_answers(tmp_path: Path, servers: GrpcServers) -> None:
    """A refused connection is UNAVAILABLE with the reason, and says that it may be repeated."""
    own = Hostmesh(tmp_path, config(), start=False)
    own.set_endpoints("test.Echo", [f"127.0.0.1 {free_port()}"])
    own.start()
    with own, GrpcCaller(own.port) as each:
        outcome = each.call("unary", [b"x"], timeout=LONG)

    assert outcome.code == 14
    assert outcome.details.startswith("connect-refused: Unable to establish connection to 127.0.0.1:")
    assert str(outcome.trailing["l5d-err"]).startswith("connect-refused%3A+Unable+to+establish+connection+to")
    assert outcome.trailing["l5d-retryable"] == "true"


@pytest.mark.parametrize("kind", METHODS)
def test_unknown_service(caller: GrpcCaller, kind: str) -> None:
    """A name that is bound to nothing is UNAVAILABLE for every kind of call."""
    outcome = caller.call(kind, [b"x"], service="test.Nobody", timeout=LONG)

    assert outcome.code == 14
    assert outcome.details == "name-negative: Unable to route request! /svc/test.Nobody is bound to nothing"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (config(service="totalTimeoutMs: 150"), "total-timeout"),
        (
            config("neverRetryable").replace("{kind: p2c}}", "{kind: p2c}, requestAttemptTimeoutMs: 150}"),
            "attempt-timeout",
        ),
        (config().replace("127.0.0.1}\n", "127.0.0.1, timeoutMs: 150}\n"), "total-timeout"),
    ],
)
def test_local_timeouts(servers: GrpcServers, tmp_path: Path, text: str, reason: str) -> None:
    """Every timeout of ours is DEADLINE_EXCEEDED."""
    with meshed(tmp_path, servers, text) as own, GrpcCaller(own.port) as each:
        outcome = each.call("unary", [b"x"], metadata=[("x-delay-ms", "60000")], timeout=LONG)
        settled(own)

    assert outcome.code == 4
    assert outcome.details.startswith(f"{reason}: ")


def test_server_dies_in_the_middle(tmp_path: Path) -> None:
    """A stream whose server is killed ends as UNAVAILABLE or INTERNAL, after what had arrived."""
    with GrpcServers("a") as own_servers, meshed(tmp_path, own_servers) as own, GrpcCaller(own.port) as each:
        metadata: Metadata = [("x-count", "2"), ("x-pause-ms", "60000")]
        call = each.start("server", [b"x"], metadata=metadata, timeout=LONG)
        first = next(call)
        own_servers.kill()
        outcome = finish("server", call)
        settled(own)

    assert first == b"x 0"
    assert outcome.code in (13, 14)


def test_reload_keeps_calls(servers: GrpcServers, tmp_path: Path) -> None:
    """A call that runs while the configuration changes goes on."""
    with meshed(tmp_path, servers) as own, GrpcCaller(own.port) as each:
        call = each.start("bidi", [b"x"], metadata=[("x-delay-ms", "1500")], timeout=LONG)
        own.write_config(config("neverRetryable"))
        own.hup()
        own.wait_metric("config/reloads", lambda value: value >= 1)
        outcome = finish("bidi", call)

    assert (outcome.code, outcome.messages) == (0, [b"x"])
