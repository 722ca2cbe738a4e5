"""Server streams with quick and slow readers, smaller than ``python -m tests.wire.h2_streams`` reads them."""

from __future__ import annotations

from pathlib import Path

from tests.grpc_peers import GrpcCaller, GrpcServers
from tests.wire.h2_storm import in_flight
from tests.wire.h2_streams import PERIOD, Streams
from tests.wire.harness import Hostmesh
from tests.wire.test_wire_grpc import config


def test_slow_readers_lose_nothing(tmp_path: Path) -> None:
    """A tenth of 200 streams is read at 1 KB/s, and all messages of all streams arrive in order."""
    with Streams(tmp_path, 12, PERIOD / 10) as streams:
        seen = streams.read(4, 50, slow_part=10)
        streams.mesh.wait(lambda: not in_flight(streams.mesh.metrics()), "nothing in flight")

    assert (seen.broken, seen.complete) == ([], 200)


def test_long_streams_end_complete(tmp_path: Path) -> None:
    """Twenty-four streams of 2,000 messages, as fast as the windows allow."""
    with Streams(tmp_path, 2000, 0.0) as streams:
        seen = streams.read(2, 12)
        streams.mesh.wait(lambda: not in_flight(streams.mesh.metrics()), "nothing in flight")

    assert (seen.broken, seen.complete) == ([], 24)


def test_long_grpc_streams_end_complete(tmp_path: Path) -> None:
    """The same with grpcio on both sides: every message of every stream, and then the status."""
    with GrpcServers("a", "b") as servers:
        mesh = Hostmesh(tmp_path, config(), start=False)
        mesh.set_endpoints("test.Echo", [f"{each.host} {each.port}" for each in servers.all])
        mesh.start()
        with mesh, GrpcCaller(mesh.port) as caller:
            metadata: list[tuple[str, str | bytes]] = [("x-count", "500")]
            outcomes = caller.calls(24, "server", [b"m"], at_once=24, metadata=metadata, timeout=60)

    assert [outcome.code for outcome in outcomes] == [0] * 24
    assert all(outcome.messages == [b"m %d" % number for number in range(500)] for outcome in outcomes)
