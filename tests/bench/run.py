"""Runs the cases and keeps what was measured."""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from attrs import asdict, define, field, frozen

from tests.bench import requests
from tests.bench.cases import CASES, MEMORY, Case
from tests.bench.h2_load import GrpcEndpoint, H2Peers, grpc_calls, h2, h2load
from tests.bench.h2_proxies import H2_KINDS
from tests.bench.h2_requests import write_frames
from tests.bench.load import (
    Endpoint,
    HeldConnections,
    Outcome,
    Source,
    compile_tools,
    openload,
    stream,
    websocket,
    wrk,
)
from tests.bench.measure import cpu_seconds, resident_mb
from tests.bench.proxies import KINDS, PAUSE_WINDOW_SECONDS, Absent, Hostmesh, Proxy, Topology
from tests.bench.tcp_proxies import ANSWER, STREAM, TCP_KINDS
from tests.bench.tls_load import NAME, WAYS, TlsEndpoint, compile_tls, tls
from tests.bench.tls_proxies import Make, tls_kinds
from tests.tls_files import TlsFiles

SMALL_BYTES = 64
BIG_BYTES = 64 * 1024
NAMES = [f"n{n:02}" for n in range(50)]
ENDPOINTS_PER_NAME = 20
LARGE_NAMES = 40
LARGE_ENDPOINTS = 1000
HELD_CONNECTIONS = 5000
STORM_PER_SECOND = 200


@frozen(kw_only=True)
class Measurement:
    """One case on one proxy, once."""

    case: str
    proxy: str
    cpu_us: float | None
    """CPU time of the proxy per completed request."""
    load: Outcome
    counts_equal: bool | None
    """Whether the endpoints saw exactly as many requests as the callers had answered; None if not
    comparable.
    """
    worst_pause_ms: float | None


@frozen(kw_only=True)
class Memory:
    """Resident megabytes of one proxy."""

    proxy: str
    idle: float
    loaded: float
    held: float
    """With 5,000 connections that carried a request each and are idle."""


@define
class Results:
    """Everything that was measured in a run."""

    measurements: list[Measurement] = field(factory=list)
    memory: list[Memory] = field(factory=list)
    absent: dict[str, str] = field(factory=dict)

    def of(self, case: str, proxy: str) -> list[Measurement]:
        return [m for m in self.measurements if (m.case, m.proxy) == (case, proxy)]

    def cpu(self, case: str, proxy: str) -> float | None:
        """Median CPU microseconds per request."""
        values = [m.cpu_us for m in self.of(case, proxy) if m.cpu_us is not None]
        return statistics.median(values) if values else None

    def latency(self, case: str, proxy: str, which: str) -> float | None:
        """Median over the rounds of ``p50``, ``p99``, ``p999`` or ``worst``, microseconds."""
        values = [v for m in self.of(case, proxy) if (v := getattr(m.load, which)) is not None]
        return statistics.median(values) if values else None

    def as_json(self) -> dict[str, object]:
        return {
            "measurements": [asdict(m) for m in self.measurements],
            "memory": [asdict(m) for m in self.memory],
            "absent": self.absent,
        }


@define(kw_only=True)
class Bench:
    """One run on two cores."""

    folder: Path
    proxy_core: int
    load_core: int
    seconds: float
    rounds: int
    idle_seconds: float
    """How long held connections are idle before memory is read; a minute or more also separates the pauses."""
    small: Endpoint = field(init=False)
    big: Endpoint = field(init=False)
    echo: Endpoint = field(init=False)
    source: Source = field(init=False)
    h2: H2Peers = field(init=False)
    tls_files: TlsFiles = field(init=False)
    tls_endpoint: TlsEndpoint = field(init=False)
    results: Results = field(factory=Results)

    def run(self, proxies: list[str], cases: list[str]) -> Results:
        """Measure; what is not installed is left out and named in the result."""
        compile_tools()
        self.write_requests()
        with ExitStack() as stack:
            self.small = Endpoint(self.load_core, SMALL_BYTES)
            stack.callback(self.small.stop)
            self.big = Endpoint(self.load_core, BIG_BYTES)
            stack.callback(self.big.stop)
            self.echo = Endpoint(self.load_core, None)
            stack.callback(self.echo.stop)
            chosen = [case for case in CASES if case.name in cases]
            if any(case.connections_only for case in chosen):
                self.source = Source(self.load_core)
                stack.callback(self.source.stop)
            if any(case.endpoints_speak_h2 for case in chosen):
                self.h2 = H2Peers(self.load_core)
                stack.callback(self.h2.stop)
            if any(case.tls for case in chosen):
                self.start_tls(stack)
            for topology in ("one", "many", "large", "tcp", "h2", *WAYS):
                self.run_topology(topology, proxies, [c for c in chosen if c.topology == topology])
            if MEMORY in cases:
                for name in proxies:
                    self.measure_memory(name)
        return self.results

    def start_tls(self, stack: ExitStack) -> None:
        """Certificates, the caller, and the endpoint that speaks TLS."""
        compile_tls()
        (self.folder / "tls").mkdir()
        self.tls_files = TlsFiles(self.folder / "tls")
        self.tls_endpoint = TlsEndpoint(self.folder, self.load_core, self.tls_files, SMALL_BYTES)
        stack.callback(self.tls_endpoint.stop)

    def write_requests(self) -> None:
        """The kinds of requests, in their formats."""
        kinds = {
            "plain": requests.plain("web"),
            "big": requests.plain("big"),
            "upload": requests.upload("web"),
            "varied": requests.varied(NAMES),
        }
        for name, content in kinds.items():
            requests.write_templates(self.folder / f"{name}.bin", content)
            if name in ("upload", "varied"):
                requests.write_lua(self.folder / f"{name}.lua", content)
        heads = requests.varied(["web"])
        write_frames(self.folder / "h2-varied.bin", heads)
        for name in ("h1-varied", "one-varied"):
            requests.write_templates(self.folder / f"{name}.bin", heads)
        requests.write_lua(self.folder / "h1-varied.lua", heads)

    def topology(self, name: str) -> Topology:
        """Endpoints are addresses of 127.0.0.0/8 at the port of one ``answer``."""
        small = self.small.port
        if name == "tcp":
            answers = [("127.0.0.1", small), ("127.0.0.2", small)]
            return {ANSWER: answers, STREAM: [("127.0.0.1", self.source.port)]}
        if name in ("h2", "tls-h2"):
            return self.h2.topology()
        if name in WAYS:
            port = self.tls_endpoint.port if WAYS[name].endpoints else small
            return {"web": [("127.0.0.1", port), ("127.0.0.2", port)]}
        if name == "many":
            return {
                service: [(f"127.1.{n}.{e + 1}", small) for e in range(ENDPOINTS_PER_NAME)]
                for n, service in enumerate(NAMES)
            }
        if name == "large":
            hosts = [f"127.{2 + e // 250}.{{}}.{e % 250 + 1}" for e in range(LARGE_ENDPOINTS)]
            large = {f"l{n:02}": [(host.format(n), small) for host in hosts] for n in range(LARGE_NAMES)}
            return {"web": [("127.0.0.1", small)], **large}
        return {
            "web": [("127.0.0.1", small), ("127.0.0.2", small)],
            "big": [("127.0.0.1", self.big.port), ("127.0.0.2", self.big.port)],
            "ws": [("127.0.0.1", self.echo.port), ("127.0.0.2", self.echo.port)],
        }

    def run_topology(self, topology: str, names: list[str], cases: list[Case]) -> None:
        """All cases of a topology, proxies taking turns within each."""
        cases = [c for c in cases if c.only is None or c.only in names]
        if not cases:
            return
        wanted = ["direct", *names] if any(c.with_direct for c in cases) else names
        wanted = [n for n in wanted if any(c.only in (None, n) for c in cases)]
        with ExitStack() as stack:
            running: list[Proxy] = []
            for name in wanted:
                if proxy := self.start(name, topology):
                    stack.callback(proxy.stop)
                    running.append(proxy)
            for case in cases:
                for turn in range(self.rounds):
                    for proxy in running:
                        if case.only not in (None, proxy.name) or (
                            proxy.name == "direct" and not case.with_direct
                        ):
                            continue
                        progress(f"{case.name} round {turn + 1} {proxy.name}")
                        self.results.measurements.append(self.measure(case, proxy))

    def start(self, name: str, topology: str) -> Proxy | None:
        """A running proxy, or None with the reason in the results."""
        if name in self.results.absent:
            return None
        kinds: Mapping[str, Make] = {"tcp": TCP_KINDS, "h2": H2_KINDS}.get(topology, KINDS)
        if topology in WAYS:
            kinds = tls_kinds(topology, self.tls_files)
        if name not in kinds:
            return None
        proxy = kinds[name](self.folder / topology, self.proxy_core)
        try:
            proxy.start(self.topology(topology))
        except (Absent, RuntimeError, FileNotFoundError) as error:
            self.results.absent[name] = str(error)
            return None
        return proxy

    def measure(self, case: Case, proxy: Proxy) -> Measurement:
        """One warm-up, then one measurement."""
        if case.disturbance == "endpoints":
            self.touch_all(proxy)
        self.load(case, proxy, max(1.0, self.seconds / 4))
        endpoint = self.endpoint_of(case)
        with Storm(proxy, self.topology("one"), active=case.disturbance == "storm"):
            if case.disturbance and self.idle_seconds >= PAUSE_WINDOW_SECONDS - 5:
                proxy.forget_pauses()
            pids = proxy.pids
            counted, used = endpoint.count(), cpu_seconds(pids)
            load = self.load(case, proxy, self.seconds)
            used = cpu_seconds(pids) - used
            counted = endpoint.count() - counted
        return Measurement(
            case=case.name,
            proxy=proxy.name,
            cpu_us=used / load.completed * 1e6 if pids and load.completed else None,
            load=load,
            counts_equal=counted == load.completed if load.exact and not self.uncounted(case) else None,
            worst_pause_ms=proxy.worst_pause_ms(),
        )

    def uncounted(self, case: Case) -> bool:
        """The endpoint that speaks TLS is an nginx, which counts nothing."""
        return case.tls is not None and WAYS[case.tls].endpoints

    def endpoint_of(self, case: Case) -> Endpoint | GrpcEndpoint:
        """Who counts the requests of a case."""
        if case.endpoints_speak_h2:
            return self.h2.grpc if case.requests == "grpc" else self.h2.plain
        return {"big": self.big, "websocket": self.echo}.get(case.requests, self.small)

    def load(self, case: Case, proxy: Proxy, seconds: float) -> Outcome:
        if case.requests == "websocket":
            return websocket(self.load_core, proxy.port, case.connections, seconds, case.message_bytes, "ws")
        if case.requests == "stream":
            return stream(self.load_core, proxy.streams, case.connections)
        file = self.folder / f"{case.requests}.bin"
        core, port, connections, rate = self.load_core, proxy.port, case.connections, case.rate or 0.0
        if case.requests == "grpc":
            return grpc_calls(core, port, connections, case.streams, rate, seconds)
        if case.requests == "h2":
            scheme = "https" if case.tls else "http"
            return h2load(core, port, connections, case.streams, seconds, "web", scheme=scheme)
        if case.requests == "h2-varied":
            tls_to = (NAME, self.tls_files.ca) if case.tls else None
            return h2(core, port, connections, case.streams, rate, seconds, file, tls=tls_to)
        if case.tls and WAYS[case.tls].callers:
            shown = self.tls_files.client if WAYS[case.tls].mutual else None
            return tls(core, port, connections, seconds, file, case.handshakes, self.tls_files, shown)
        if case.rate is not None:
            return openload(self.load_core, proxy.port, case.connections, case.rate, seconds, file)
        lua = self.folder / f"{case.requests}.lua"
        script = lua if lua.exists() else None
        host = "big" if case.requests == "big" else "web"
        return wrk(self.load_core, proxy.port, case.connections, seconds, host, script)

    def touch_all(self, proxy: Proxy) -> None:
        """One request for every large name, so that all its endpoints are loaded and balanced."""
        file = self.folder / "touch.bin"
        content = [requests.plain(f"l{n:02}")[0] for n in range(LARGE_NAMES)]
        requests.write_templates(file, content)
        openload(self.load_core, proxy.port, 4, 0, -LARGE_NAMES, file)

    def measure_memory(self, name: str) -> None:
        """Fresh process: idle, after load, and with held connections."""
        progress(f"memory {name}")
        proxy = self.start(name, "one")
        if proxy is None:
            return
        file = self.folder / "plain.bin"
        with ExitStack() as stack:
            stack.callback(proxy.stop)
            idle = resident_mb(proxy.pids)
            wrk(self.load_core, proxy.port, 32, max(2.0, self.seconds), "web", None)
            loaded = resident_mb(proxy.pids)
            held = HeldConnections(self.load_core, proxy.port, HELD_CONNECTIONS, file)
            stack.callback(held.release)
            time.sleep(self.idle_seconds)  # noqa: TID251  the connections are to be idle that long
            self.results.memory.append(
                Memory(proxy=name, idle=idle, loaded=loaded, held=resident_mb(proxy.pids))
            )


class Storm:
    """Rewrites the file of a name that is in use, many times a second, while it is entered."""

    def __init__(self, proxy: Proxy, topology: Topology, *, active: bool) -> None:
        self.proxy = proxy
        self.topology = topology
        self.active = active
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.blow)

    def blow(self) -> None:
        assert isinstance(self.proxy, Hostmesh)
        both = self.topology["web"]
        turn = 0
        while not self.stop.wait(1 / STORM_PER_SECOND):
            turn += 1
            self.proxy.write_endpoints({"web": both if turn % 2 else both[:1]})

    def __enter__(self) -> None:
        if self.active:
            self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        if self.active:
            self.thread.join()
            assert isinstance(self.proxy, Hostmesh)
            self.proxy.write_endpoints(self.topology)


def progress(text: str) -> None:
    print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
