"""A storm of HTTP/2 streams that end in every way there is, through a running hostmesh.

    python -m tests.wire.h2_storm [--streams 100000] [--seed 1] [--engine library|lane]

Callers and endpoints are raw frames on asyncio, so that they may break off wherever they like: callers reset at once,
later, in the middle of a body, or leave with all their streams; endpoints answer early, late, in pieces, never, reset
before or after their head, refuse streams, send GOAWAY, or break the connection. Every stream that its caller did not
give up must end; then every counter of what is in flight must be back at zero, and memory where it was.

The endpoints run in a process of their own (``... endpoints PORT ...``).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from attrs import define, field

from tests.h2_raw import (
    ACK,
    DATA,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PADDED,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    WINDOW_UPDATE,
    block,
    data,
    get,
    goaway,
    headers,
    ping,
    rst,
    settings,
    window_update,
)
from tests.wire.harness import Hostmesh, free_port

ROOT = Path(__file__).resolve().parents[2]
ENDPOINTS = 5
STREAMS_PER_CONNECTION = 160
"""So few that resets, of both sides, stay below the hundred in ten seconds that end a connection (H1)."""
AT_ONCE = 40
"""Streams of one connection."""
CONNECTIONS = 12
"""Connections at once."""
PATIENCE = 20.0
"""Seconds after which a stream that has not ended is called hung; hostmesh gives every request 0.3."""
MEMORY_GROWTH = 4e6
"""Bytes that may be added after two fifths: allocators settle within some 40,000 streams, leaks do not."""

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@}
namers:
- {kind: io.l5d.fs, rootDir: @dir@/disco}
routers:
- protocol: h2
  dtab: /svc => /#/io.l5d.fs
  service:
    totalTimeoutMs: 300
    responseClassifier: {kind: io.l5d.h2.retryableAll5XX}
  client:
    failureAccrual: {kind: none}
  servers:
  - {port: @port@, ip: 127.0.0.1}
"""


class Peer(asyncio.Protocol):
    """One connection of raw frames: settings, pings and windows are answered as they must, the rest is the script's."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.transport: asyncio.Transport | None = None
        self.buffer = bytearray()
        self.skip = 0
        """Bytes of a preface that are still to come."""
        self.window = 65535
        """What we may send on the connection."""
        self.initial = 65535
        """What we may send on a new stream."""
        self.out: list[bytes] = []
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self.gone()

    def gone(self) -> None:
        """The connection is no more."""

    def send(self, *frames: bytes) -> None:
        if not self.closed and self.transport is not None:
            self.transport.write(b"".join(frames))

    def body(self, stream: int, size: int, end: bool) -> bytes:
        """A DATA frame of that size, or of what the connection's window allows."""
        size = min(size, self.window, 16384)
        self.window -= size
        return data(stream, b"b" * size, end)

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        asyncio.get_running_loop().call_later(seconds, lambda: None if self.closed else act())

    def data_received(self, received: bytes) -> None:
        buffer = self.buffer
        buffer += received
        if self.skip:
            if len(buffer) < self.skip:
                return
            del buffer[: self.skip]
            self.skip = 0
        at = 0
        credit = 0
        while len(buffer) - at >= 9:
            size = int.from_bytes(buffer[at : at + 3], "big")
            if len(buffer) - at < 9 + size:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            stream = int.from_bytes(buffer[at + 5 : at + 9], "big")
            payload = bytes(buffer[at + 9 : at + 9 + size])
            at += 9 + size
            if kind == DATA:
                assert not flags & PADDED
                credit += size
                self.took(stream, payload)
                self.got(stream, bool(flags & END_STREAM), False)
            elif kind == HEADERS:
                self.got(stream, bool(flags & END_STREAM), True)
            elif kind == RST_STREAM:
                self.reset(stream, int.from_bytes(payload, "big"))
            elif kind == SETTINGS and not flags & ACK:
                for entry in range(0, size, 6):
                    if int.from_bytes(payload[entry : entry + 2], "big") == INITIAL_WINDOW_SIZE:
                        self.initial = int.from_bytes(payload[entry + 2 : entry + 6], "big")
                self.send(SETTINGS_ACK)
            elif kind == PING and not flags & ACK:
                self.send(ping(payload, ACK))
            elif kind == WINDOW_UPDATE:
                if not stream:
                    self.window += int.from_bytes(payload, "big")
                self.opened(stream, int.from_bytes(payload, "big"))
            elif kind == GOAWAY:
                self.goaway(int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:8], "big"))
        del buffer[:at]
        if credit:
            self.send(window_update(0, credit))

    def got(self, stream: int, end: bool, head: bool) -> None:
        """A head, trailers or a piece of a body."""

    def took(self, stream: int, payload: bytes) -> None:
        """The bytes of a piece of a body."""

    def opened(self, stream: int, by: int) -> None:
        """A window has opened; 0 is the connection's."""

    def reset(self, stream: int, code: int) -> None:
        """RST_STREAM."""

    def goaway(self, last: int, code: int) -> None:
        """GOAWAY."""


# -- endpoints --------------------------------------------------------------------------------------------------------

OK = block([(b":status", b"200"), (b"x-a", b"1")])
FAILED = block([(b":status", b"500")])
UNAVAILABLE = block([(b":status", b"503"), (b"retry-after", b"0")])
TRAILERS = block([(b"x-trailer", b"1")])

ANSWERS = {
    "at once": 40,
    "late": 10,
    "in pieces": 8,
    "with trailers": 8,
    "early": 6,
    "never": 4,
    "refused": 5,
    "reset": 5,
    "reset after the head": 6,
    "500": 4,
    "nack": 3,
    "goaway": 0.7,
    "close": 0.2,
    "abort": 0.2,
}
"""What endpoints do with a stream, and how often in a hundred."""


class Endpoint(Peer):
    """Decides by dice what becomes of each stream."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.skip = len(PREFACE)
        self.streams: dict[int, str] = {}
        self.highest = 0
        self.leaving = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.send(settings((INITIAL_WINDOW_SIZE, 1 << 20)), window_update(0, 1 << 24))

    def got(self, stream: int, end: bool, head: bool) -> None:
        if head and stream > self.highest:
            self.highest = stream
            if self.leaving:
                return
            (what,) = self.rng.choices(list(ANSWERS), list(ANSWERS.values()))
            self.streams[stream] = what
            if what in ("early", "refused", "reset", "goaway", "close", "abort", "nack"):
                self.act(stream, what)
                return
        if end and stream in self.streams:
            self.act(stream, self.streams[stream])

    def act(self, stream: int, what: str) -> None:
        if what == "late":
            self.later(self.rng.uniform(0.0, 0.1), lambda: self.answer(stream))
        elif what in ("at once", "early"):
            self.answer(stream)
        elif what == "in pieces":
            self.send(headers(stream, OK, False), self.body(stream, 1000, False))
            self.later(self.rng.uniform(0.0, 0.05), lambda: self.finish(stream))
        elif what == "with trailers":
            self.send(headers(stream, OK, False), self.body(stream, 500, False), headers(stream, TRAILERS))
            self.done(stream)
        elif what in ("refused", "reset"):
            self.send(rst(stream, 7 if what == "refused" else self.rng.choice((0, 2, 8, 11))))
            self.done(stream)
        elif what == "reset after the head":
            self.send(headers(stream, OK, False), self.body(stream, 100, False))
            self.later(self.rng.uniform(0.0, 0.02), lambda: self.break_off(stream))
        elif what in ("500", "nack"):
            self.send(headers(stream, FAILED if what == "500" else UNAVAILABLE))
            self.done(stream)
        elif what == "goaway":
            last = self.rng.choice((stream, max(0, stream - 2), max(0, stream - 10)))
            self.leaving = True
            self.send(goaway(last))
            for each in [each for each in self.streams if each > last]:
                self.done(each)
            if stream in self.streams:
                self.answer(stream)
            self.leave()
        elif what in ("close", "abort") and self.transport is not None:
            self.closed = True
            if what == "abort":
                self.transport.abort()
            else:
                self.transport.close()

    def answer(self, stream: int) -> None:
        if stream in self.streams:
            size = self.rng.choice((0, 10, 1000, 8000))
            if size:
                self.send(headers(stream, OK, False), self.body(stream, size, True))
            else:
                self.send(headers(stream, OK))
            self.done(stream)

    def finish(self, stream: int) -> None:
        if stream in self.streams:
            self.send(self.body(stream, 2000, True))
            self.done(stream)

    def break_off(self, stream: int) -> None:
        if stream in self.streams:
            self.send(rst(stream, 2))
            self.done(stream)

    def reset(self, stream: int, code: int) -> None:
        if stream in self.streams:
            self.done(stream)

    def done(self, stream: int) -> None:
        self.streams.pop(stream, None)
        self.leave()

    def leave(self) -> None:
        if self.leaving and not self.streams and self.transport is not None:
            self.closed = True
            self.transport.close()


async def serve(ports: list[int], seed: int) -> None:
    """Listen on these ports until SIGTERM."""
    loop = asyncio.get_running_loop()
    rng = random.Random(seed)
    for port in ports:
        await loop.create_server(lambda: Endpoint(rng), "127.0.0.1", port)
    print("ready", flush=True)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()


# -- callers ----------------------------------------------------------------------------------------------------------

GET = block(get(b"/", b"web"))
POST = block(get(b"/", b"web", b"POST"))

REQUESTS = {
    "get": 40,
    "post": 20,
    "post with trailers": 5,
    "upload": 10,
    "reset at once": 5,
    "reset later": 9,
    "half": 3,
}
"""What callers do, and how often in about a hundred."""

LEAVING = 0.04
"""Part of the connections that break with all their streams."""


@define
class Tally:
    """What became of the streams."""

    ends: Counter[str] = field(factory=Counter)
    """``answered``, ``reset``, ``cancelled`` (by the caller), ``lost`` (with the connection), ``hung``."""
    goaways: Counter[int] = field(factory=Counter)
    """Codes of GOAWAYs that callers got."""

    @property
    def total(self) -> int:
        return sum(self.ends.values())


class Caller(Peer):
    """One connection: opens streams while there are any to open, and then ends."""

    def __init__(self, rng: random.Random, tally: Tally, streams: int) -> None:
        super().__init__(rng)
        self.tally = tally
        self.to_open = streams
        self.next = 1
        self.streams: dict[int, asyncio.TimerHandle] = {}
        self.over = asyncio.get_running_loop().create_future()
        self.leaving_at = rng.randrange(1, streams + 1) if rng.random() < LEAVING else -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.send(PREFACE, settings((INITIAL_WINDOW_SIZE, 1 << 20)), window_update(0, 1 << 24))
        self.open()

    def open(self) -> None:
        loop = asyncio.get_running_loop()
        out: list[bytes] = []
        while self.to_open and len(self.streams) < AT_ONCE and not self.closed:
            if self.to_open == self.leaving_at:
                self.send(*out)
                assert self.transport is not None
                self.transport.abort()
                return
            self.to_open -= 1
            stream = self.next
            self.next += 2
            self.streams[stream] = loop.call_later(PATIENCE, self.end, stream, "hung")
            self.request(stream, out)
        self.send(*out)
        if not self.to_open and not self.streams and self.transport is not None:
            self.transport.close()

    def request(self, stream: int, out: list[bytes]) -> None:
        (what,) = self.rng.choices(list(REQUESTS), list(REQUESTS.values()))
        if what == "get":
            out.append(headers(stream, GET))
            return
        out.append(headers(stream, POST, False))
        if what == "post":
            out.append(self.body(stream, self.rng.choice((1, 500, 6000)), True))
        elif what == "post with trailers":
            out += (self.body(stream, 300, False), headers(stream, TRAILERS))
        elif what == "upload":
            out.append(self.body(stream, 4000, False))
            self.piece(stream, self.rng.randrange(1, 5))
        elif what == "reset at once":
            out.append(rst(stream))
            self.end(stream, "cancelled")
        else:
            if what == "reset later" and self.rng.random() < 0.5:
                out.append(self.body(stream, 100, True))
            self.later(self.rng.uniform(0.0, 0.15), lambda: self.cancel(stream))

    def piece(self, stream: int, left: int) -> None:
        def act() -> None:
            if stream in self.streams:
                self.send(self.body(stream, 4000, left == 0))
                if left:
                    self.piece(stream, left - 1)

        self.later(self.rng.uniform(0.0, 0.02), act)

    def cancel(self, stream: int) -> None:
        if stream in self.streams:
            self.send(rst(stream))
            self.end(stream, "cancelled")
            self.open()

    def got(self, stream: int, end: bool, head: bool) -> None:
        if end and stream in self.streams:
            self.end(stream, "answered")
            self.open()

    def reset(self, stream: int, code: int) -> None:
        if stream in self.streams:
            self.end(stream, "reset")
            self.open()

    def goaway(self, last: int, code: int) -> None:
        self.tally.goaways[code] += 1

    def end(self, stream: int, how: str) -> None:
        handle = self.streams.pop(stream, None)
        if handle is not None:
            handle.cancel()
            self.tally.ends[how] += 1

    def gone(self) -> None:
        for stream in list(self.streams):
            self.end(stream, "lost")
        # what was not opened any more counts as well, so that the sum is known
        self.tally.ends["not opened"] += self.to_open
        self.to_open = 0
        if not self.over.done():
            self.over.set_result(None)


async def call(port: int, streams: int, seed: int, progress: Callable[[Tally], None] | None = None) -> Tally:
    """Send so many streams through the proxy on that port, over as many connections as that takes."""
    loop = asyncio.get_running_loop()
    rng = random.Random(seed)
    tally = Tally()
    left = streams

    async def connections() -> None:
        nonlocal left
        while left > 0:
            share = min(STREAMS_PER_CONNECTION, left)
            left -= share
            _, caller = await loop.create_connection(
                lambda share=share: Caller(rng, tally, share), "127.0.0.1", port
            )
            await caller.over
            if progress is not None:
                progress(tally)

    await asyncio.gather(*(connections() for _ in range(CONNECTIONS)))
    return tally


# -- the whole --------------------------------------------------------------------------------------------------------

ZERO = ("/pending", "/open_streams", "/buffered_bytes", "/pool_waiters")
"""Ends of the names of gauges that are 0 when nothing is in flight. A balancer's load is not among them: slots of
failed attempts are held for 2 s, and given back at the next pick."""


def in_flight(metrics: dict[str, float]) -> dict[str, float]:
    """What is not zero and should be."""
    found = {name: value for name, value in metrics.items() if value and name.endswith(ZERO)}
    servers = {n: v for n, v in metrics.items() if v and "/server/" in n and n.endswith("/connections")}
    return {**found, **servers}


class Storm:
    """A hostmesh between storm endpoints, in ``folder``; ``engine`` is that of HTTP/2."""

    def __init__(self, folder: Path, seed: int, engine: str | None = None) -> None:
        self.ports = [free_port() for _ in range(ENDPOINTS)]
        self.seed = seed
        command = [
            sys.executable,
            "-m",
            "tests.wire.h2_storm",
            "--seed",
            str(seed),
            "endpoints",
            *map(str, self.ports),
        ]
        self.endpoints = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert self.endpoints.stdout is not None
        assert self.endpoints.stdout.readline() == b"ready\n"
        text = (
            CONFIG
            if engine is None
            else CONFIG.replace("- protocol: h2\n", f"- protocol: h2\n  h2Engine: {engine}\n")
        )
        self.mesh = Hostmesh(folder, text, start=False)
        self.mesh.set_endpoints("web", [f"127.0.0.1 {port}" for port in self.ports])
        self.mesh.start()

    def blow(self, streams: int, progress: Callable[[Tally], None] | None = None) -> Tally:
        """The storm, and the wait until nothing is in flight any more (AssertionError after 30 s)."""
        tally = asyncio.run(call(self.mesh.port, streams, self.seed, progress))
        self.seed += 1
        try:
            self.mesh.wait(lambda: not in_flight(self.mesh.metrics()), "nothing in flight", within=30)
        except AssertionError:
            # the log of a storm hides everything else
            raise AssertionError(f"still in flight: {in_flight(self.mesh.metrics())}") from None
        return tally

    def close(self) -> None:
        self.mesh.close()
        self.endpoints.terminate()
        self.endpoints.wait(10)
        if self.endpoints.stdout:
            self.endpoints.stdout.close()

    def __enter__(self) -> Storm:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.wire.h2_storm")
    parser.add_argument("--streams", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine")
    parser.add_argument("endpoints", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.endpoints:
        asyncio.run(serve([int(port) for port in options.endpoints[1:]], options.seed))
        return 0
    with tempfile.TemporaryDirectory() as folder, Storm(Path(folder), options.seed, options.engine) as storm:
        started = time.monotonic()
        fifth = max(1, options.streams // 5)
        tallies = []
        resident = []
        for turn in range(5):
            tally = storm.blow(fifth)
            tallies.append(tally)
            resident.append(storm.mesh.resident_bytes())
            print(
                f"{(turn + 1) * fifth} streams, {resident[-1] / 1e6:.1f} MB, {dict(tally.ends)}", flush=True
            )
        seconds = time.monotonic() - started
        ends = sum((tally.ends for tally in tallies), Counter())
        metrics = storm.mesh.metrics()
        facts = {
            "streams": sum(ends.values()),
            "seconds": round(seconds, 1),
            "ends": dict(ends),
            "goaways to callers": dict(sum((tally.goaways for tally in tallies), Counter())),
            "in flight": in_flight(metrics),
            "bugs": metrics.get("process/bugs", 0),
            "MB": [round(each / 1e6, 1) for each in resident],
        }
        print(json.dumps(facts, indent=1))
        grown = resident[-1] - resident[1]
        flat = grown < MEMORY_GROWTH or options.streams < 100_000
        good = not ends["hung"] and not facts["in flight"] and not facts["bugs"] and flat
        print("good" if good else "NOT GOOD")
        return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
