"""The load generators and the endpoint behind the proxies: compiled here, run on their own core."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from attrs import frozen

from tests.bench.proxies import Absent, installed
from tests.wire.harness import free_port

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build" / "bench"
STREAM_BYTES = 1 << 30
UNIT_US = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 6e7}


@frozen(kw_only=True)
class Outcome:
    """What a run of load saw. Latencies in microseconds; ``None`` where the generator does not say."""

    completed: int
    seconds: float
    bad: int
    """Answers that were not 2xx, and requests without an answer."""
    p50: float
    p99: float
    p999: float | None
    worst: float | None
    exact: bool
    """Every request sent was waited for, so that counts can be compared exactly."""
    resumed: float | None = None
    """Share of the TLS handshakes that took up an earlier session."""

    @property
    def rate(self) -> float:
        return self.completed / self.seconds if self.seconds else 0.0


def compile_tools() -> None:
    """Build the tools whose source is newer than the binary."""
    compiler = installed("gcc", "gcc libc6-dev")
    BUILD.mkdir(parents=True, exist_ok=True)
    for name in ("answer", "h2", "openload", "websocket"):
        source, binary = HERE / f"{name}.c", BUILD / name
        if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
            subprocess.run([compiler, "-O2", "-o", str(binary), str(source)], check=True)


def on_core(core: int, *command: str) -> list[str]:
    return ["taskset", "-c", str(core), *command]


class Endpoint:
    """A running ``answer``: every address of 127.0.0.0/8 at its port answers with so many bytes.

    ``size`` None is a WebSocket that sends every message back.
    """

    def __init__(self, core: int, size: int | None) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(self.command(core, size), stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        if self.process.stdout.readline() != b"ready\n":
            raise RuntimeError("the endpoint did not start")

    def command(self, core: int, size: int | None) -> list[str]:
        if size is None:
            return on_core(core, str(BUILD / "websocket"), "echo", str(self.port))
        return on_core(core, str(BUILD / "answer"), str(self.port), str(size))

    def count(self) -> int:
        """Requests or messages answered so far."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/__count", timeout=10) as response:
            return int(response.read())

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)
        if self.process.stdout:
            self.process.stdout.close()


def openload(core: int, port: int, connections: int, rate: float, seconds: float, requests: Path) -> Outcome:
    """Fixed rate (0: closed loop) for so many seconds, or for ``-seconds`` requests."""
    arguments = (str(port), str(connections), str(rate), str(seconds), str(requests))
    command = on_core(core, str(BUILD / "openload"), *arguments)
    done = subprocess.run(command, capture_output=True, text=True, timeout=abs(seconds) + 600)
    if done.returncode:
        raise RuntimeError(f"openload: {done.stderr}")
    return outcome(json.loads(done.stdout))


def outcome(seen: dict[str, float], *, resumed: float | None = None) -> Outcome:
    return Outcome(
        completed=int(seen["completed"]),
        seconds=seen["seconds"],
        bad=int(seen["bad_status"] + seen["failed"]),
        p50=seen["p50_us"],
        p99=seen["p99_us"],
        p999=seen["p999_us"],
        worst=seen["max_us"],
        exact=True,
        resumed=resumed,
    )


def websocket(core: int, port: int, connections: int, seconds: float, size: int, host: str) -> Outcome:
    """Messages of ``size`` bytes as fast as they come back, one in flight per connection."""
    arguments = (str(port), str(connections), str(seconds), str(size), host)
    command = on_core(core, str(BUILD / "websocket"), "load", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    if done.returncode:
        raise RuntimeError(f"websocket: {done.stderr}")
    return outcome(json.loads(done.stdout))


class Source:
    """Where streams come from: ``stream.py`` on its core."""

    def __init__(self, core: int) -> None:
        command = on_core(core, sys.executable, "-m", "tests.bench.stream", "source")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=HERE.parents[1])
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)
        if self.process.stdout:
            self.process.stdout.close()


def stream(core: int, port: int, connections: int) -> Outcome:
    """So many connections read STREAM_BYTES together; what is counted is MiB."""
    arguments = (str(port), str(connections), str(STREAM_BYTES))
    command = on_core(core, sys.executable, "-m", "tests.bench.stream", "sink", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=HERE.parents[1])
    if done.returncode:
        raise RuntimeError(f"stream: {done.stderr}")
    seen = json.loads(done.stdout)
    return Outcome(
        completed=seen["bytes"] >> 20,
        seconds=seen["seconds"],
        bad=seen["failed"],
        p50=0.0,
        p99=0.0,
        p999=None,
        worst=None,
        exact=False,
    )


class HeldConnections:
    """Connections that were used once and are then held open, idle, until :meth:`release`."""

    def __init__(self, core: int, port: int, connections: int, requests: Path) -> None:
        arguments = (str(port), str(connections), "2000", str(-connections), str(requests), "hold")
        command = on_core(core, str(BUILD / "openload"), *arguments)
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("openload could not open the connections")
        self.outcome = outcome(json.loads(line))

    def release(self) -> None:
        self.process.communicate(timeout=30)


def wrk(core: int, port: int, connections: int, seconds: float, host: str, script: Path | None) -> Outcome:
    """As fast as it goes, one thread."""
    binary = installed("wrk", "wrk")
    command = on_core(core, binary, "-t1", f"-c{connections}", f"-d{round(seconds)}s", "--latency")
    command += ["-s", str(script)] if script else ["-H", f"Host: {host}"]
    text = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/"], capture_output=True, text=True, timeout=seconds + 60
    ).stdout
    total = re.search(r"(\d+) requests in ([\d.]+)(s|m)", text)
    if total is None:
        raise Absent(f"a wrk that prints what was expected; it printed:\n{text}")
    bad = sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))
    bad += sum(int(n) for line in re.findall(r"Socket errors: (.*)", text) for n in re.findall(r"\d+", line))
    return Outcome(
        completed=int(total[1]),
        seconds=float(total[2]) * UNIT_US[total[3]] / 1e6,
        bad=bad,
        p50=_wrk_latency(text, "50%"),
        p99=_wrk_latency(text, "99%"),
        p999=None,
        worst=None,
        exact=False,
    )


def _wrk_latency(text: str, label: str) -> float:
    found = re.search(rf"^\s+{label}\s+([\d.]+)(us|ms|s|m)$", text, re.MULTILINE)
    return float(found[1]) * UNIT_US[found[2]] if found else 0.0
