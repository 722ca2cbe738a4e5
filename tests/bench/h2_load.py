"""HTTP/2 and gRPC peers of the bench: endpoints, and the programs that call them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import grpc

from tests.bench.grpc_load import COUNT
from tests.bench.load import BUILD, Endpoint, Outcome, on_core, outcome
from tests.bench.proxies import Absent, Topology
from tests.servers.fetch import Unavailable, nghttp2_tools

ROOT = Path(__file__).resolve().parents[2]
BODY_BYTES = 64
UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6}


class H2Endpoint(Endpoint):
    """A running ``h2 serve``: every address of 127.0.0.0/8 at its port."""

    def command(self, core: int, size: int | None) -> list[str]:
        return on_core(core, str(BUILD / "h2"), "serve", str(self.port), str(size))


class GrpcEndpoint:
    """A grpcio server in a process of its own."""

    def __init__(self, core: int) -> None:
        command = on_core(core, sys.executable, "-m", "tests.bench.grpc_load", "serve")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def count(self) -> int:
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            return int(channel.unary_unary(COUNT)(b""))

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)
        if self.process.stdout:
            self.process.stdout.close()


class H2Peers:
    """All endpoints of the cases with HTTP/2."""

    def __init__(self, core: int) -> None:
        self.core = core
        self.plain = H2Endpoint(core, BODY_BYTES)
        self.grpc = GrpcEndpoint(core)

    def topology(self) -> Topology:
        plain = self.plain.port
        return {
            "web": [("127.0.0.1", plain), ("127.0.0.2", plain)],
            "grpc": [("127.0.0.1", self.grpc.port)],
        }

    def stop(self) -> None:
        self.plain.stop()
        self.grpc.stop()


def h2(
    core: int,
    port: int,
    connections: int,
    streams: int,
    rate: float,
    seconds: float,
    frames: Path,
    *,
    tls: tuple[str, Path] | None = None,
) -> Outcome:
    """Requests of which each is different, ``streams`` at once on each connection, or at a rate.

    ``tls`` is who the proxy's certificate must be for, and who must have signed it.
    """
    arguments = [str(port), str(connections), str(streams), str(rate), str(seconds), str(frames)]
    arguments += [] if tls is None else map(str, tls)
    done = subprocess.run(
        on_core(core, str(BUILD / ("h2" if tls is None else "h2tls")), "load", *arguments),
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )
    if done.returncode:
        raise RuntimeError(f"h2: {done.stderr}")
    return outcome(json.loads(done.stdout))


def grpc_calls(core: int, port: int, connections: int, calls: int, rate: float, seconds: float) -> Outcome:
    """Unary calls with metadata of their own."""
    arguments = ("load", str(port), str(connections), str(calls), str(rate), str(seconds))
    done = subprocess.run(
        on_core(core, sys.executable, "-m", "tests.bench.grpc_load", *arguments),
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        cwd=ROOT,
    )
    if done.returncode:
        raise RuntimeError(f"grpc_load: {done.stderr}")
    return outcome(json.loads(done.stdout))


def h2load(
    core: int, port: int, connections: int, streams: int, seconds: float, host: str, *, scheme: str = "http"
) -> Outcome:
    """nghttp2's own generator: the same request again and again."""
    try:
        _nghttp, program, libraries = nghttp2_tools()
    except Unavailable as why:
        raise Absent(str(why)) from why
    command = [str(program), "-c", str(connections), "-m", str(streams), "-D", str(round(seconds))]
    command += ["-t", "1", "-H", f":authority: {host}", f"{scheme}://127.0.0.1:{port}/"]
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries} if libraries else None
    done = subprocess.run(
        on_core(core, *command), capture_output=True, text=True, timeout=seconds + 60, env=environment
    )
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", done.stdout)
    times = re.search(r"time for request: +(\S+?)(us|ms|s) +(\S+?)(us|ms|s) +(\S+?)(us|ms|s)", done.stdout)
    if counts is None or times is None:
        raise Absent(f"an h2load that prints what was expected; it printed:\n{done.stdout}{done.stderr}")
    return Outcome(
        completed=int(counts[1]),
        seconds=float(round(seconds)),
        bad=int(counts[2]) + int(counts[3]),
        p50=float(times[5]) * UNITS[times[6]],
        p99=0.0,
        p999=None,
        worst=float(times[3]) * UNITS[times[4]],
        exact=False,
    )
