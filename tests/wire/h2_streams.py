"""Many server streams at once, some of them read slowly, through a running hostmesh.

    python -m tests.wire.h2_streams slow [--connections 10] [--streams 100] [--messages 20]
    python -m tests.wire.h2_streams long [--connections 1] [--streams 24] [--messages 50000]

Every stream carries numbered messages with the time of their making. ``slow``: a message each half second on every
stream, once with all readers quick and once with a tenth that takes 1 KB/s; nothing may be lost or stall, and the
others may not feel it. ``long``: messages as fast as the windows allow. Callers and endpoint are raw frames
(h2_storm.py); the endpoint runs in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from attrs import define, field

from tests.h2_raw import INITIAL_WINDOW_SIZE, PREFACE, data, headers, settings, window_update
from tests.wire.h2_storm import OK, POST, Peer, in_flight
from tests.wire.harness import Hostmesh, free_port

ROOT = Path(__file__).resolve().parents[2]
SLOW_RATE = 1024
"""Bytes per second that a slow reader takes."""
SLOW_TURN = 0.25
PERIOD = 0.5
"""Seconds between two messages of a stream, where they are paced."""
PACED_BYTES = 1024
UNPACED_BYTES = 64
CALLER_WINDOW = 8192
"""Small, so that a slow reader is felt soon: after eight messages."""
STALL = 30.0
"""Seconds without a byte on any stream after which all is called stalled."""
GROWTH = 1.2
"""Of the quick readers' p99, when a tenth is slow."""

ROUNDS = 3
"""Of ``slow``, each once without and once with slow readers."""

MESSAGE = struct.Struct(">QQ")

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@}
namers:
- {kind: io.l5d.fs, rootDir: @dir@/disco}
routers:
- protocol: h2
  dtab: /svc => /#/io.l5d.fs
  servers:
  - {port: @port@, ip: 127.0.0.1}
"""


def message(number: int, size: int) -> bytes:
    return MESSAGE.pack(number, time.monotonic_ns()).ljust(size, b".")


class Endpoint(Peer):
    """Sends so many messages on every stream: paced, or as fast as the windows allow."""

    def __init__(self, messages: int, period: float) -> None:
        super().__init__(random.Random(0))
        self.skip = len(PREFACE)
        self.messages = messages
        self.period = period
        self.size = PACED_BYTES if period else UNPACED_BYTES
        self.windows: dict[int, int] = {}
        self.sent: dict[int, int] = {}
        self.made: dict[int, int] = {}
        """Messages that are due, sent or not."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.send(settings(), window_update(0, 1 << 24))

    def got(self, stream: int, end: bool, head: bool) -> None:
        if head and end:
            self.windows[stream] = self.initial
            self.sent[stream] = 0
            self.made[stream] = 0 if self.period else self.messages
            self.send(headers(stream, OK, False))
            if self.period:
                # Not all at once: the latency of a message is to be its own.
                self.later(self.rng.uniform(0.0, self.period), lambda: self.tick(stream))
            else:
                self.pump(stream)

    def tick(self, stream: int) -> None:
        if stream in self.made and self.made[stream] < self.messages:
            self.made[stream] += 1
            self.pump(stream)
            self.later(self.period, lambda: self.tick(stream))

    def pump(self, stream: int) -> None:
        out = []
        size = self.size
        while self.sent[stream] < self.made[stream] and self.windows[stream] >= size and self.window >= size:
            number = self.sent[stream]
            self.sent[stream] += 1
            self.windows[stream] -= size
            self.window -= size
            out.append(data(stream, message(number, size), self.sent[stream] == self.messages))
        self.send(*out)
        if self.sent[stream] == self.messages:
            del self.windows[stream], self.sent[stream], self.made[stream]

    def opened(self, stream: int, by: int) -> None:
        if stream:
            if stream in self.windows:
                self.windows[stream] += by
                self.pump(stream)
        else:
            for each in list(self.windows):
                self.pump(each)

    def reset(self, stream: int, code: int) -> None:
        self.windows.pop(stream, None)
        self.sent.pop(stream, None)
        self.made.pop(stream, None)


async def serve(port: int, messages: int, period: float) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Endpoint(messages, period), "127.0.0.1", port)
    print("ready", flush=True)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()


@define
class Read:
    """What the readers have seen."""

    complete: int = 0
    """Streams that brought all their messages in order, and ended."""
    broken: list[str] = field(factory=list)
    """What was wrong with the others."""
    latencies: list[float] = field(factory=list)
    """Seconds from the making to the reading of each message of a quick reader."""
    slow_seconds: float = 0.0
    """How long the slowest stream took."""
    last_byte: float = 0.0

    def p99(self) -> float:
        ordered = sorted(self.latencies)
        return ordered[int(len(ordered) * 0.99)] if ordered else 0.0


class Reader(Peer):
    """One connection whose streams are all opened at once; every ``slow_part``-th is read slowly, 0 for none."""

    def __init__(self, read: Read, streams: int, messages: int, size: int, slow_part: int) -> None:
        super().__init__(random.Random(0))
        self.read = read
        self.size = size
        self.messages = messages
        ids = [2 * number + 1 for number in range(streams)]
        self.slow = {id for number, id in enumerate(ids) if slow_part and number % slow_part == 0}
        self.expected = dict.fromkeys(ids, 0)
        self.buffers = dict.fromkeys(ids, b"")
        self.owed: dict[int, int] = dict.fromkeys(self.slow, 0)
        self.began = time.monotonic()
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.send(PREFACE, settings((INITIAL_WINDOW_SIZE, CALLER_WINDOW)), window_update(0, 1 << 30))
        self.send(*[headers(id, POST) for id in self.expected])
        if self.slow:
            self.later(SLOW_TURN, self.read_slowly)

    def read_slowly(self) -> None:
        """Give back what the slow readers have taken since the last turn."""
        out = []
        for id, owed in self.owed.items():
            taken = min(owed, int(SLOW_RATE * SLOW_TURN))
            if taken:
                self.owed[id] -= taken
                out.append(window_update(id, taken))
        self.send(*out)
        self.later(SLOW_TURN, self.read_slowly)

    def took(self, stream: int, payload: bytes) -> None:
        now = time.monotonic()
        self.read.last_byte = now
        if stream not in self.expected:
            return
        buffer = self.buffers[stream] + payload
        while len(buffer) >= self.size:
            number, made = MESSAGE.unpack_from(buffer)
            buffer = buffer[self.size :]
            if number != self.expected[stream]:
                self.read.broken.append(
                    f"stream {stream}: message {number} after {self.expected[stream] - 1}"
                )
            self.expected[stream] = number + 1
            if stream not in self.slow:
                self.read.latencies.append(now - made / 1e9)
        self.buffers[stream] = buffer
        if stream in self.slow:
            self.owed[stream] += len(payload)
        elif payload:
            self.send(window_update(stream, len(payload)))

    def got(self, stream: int, end: bool, head: bool) -> None:
        if end and stream in self.expected:
            count = self.expected.pop(stream)
            self.owed.pop(stream, None)
            if count == self.messages and not self.buffers[stream]:
                self.read.complete += 1
            else:
                self.read.broken.append(f"stream {stream} ended after {count} messages")
            self.read.slow_seconds = max(self.read.slow_seconds, time.monotonic() - self.began)
            self.check()

    def reset(self, stream: int, code: int) -> None:
        if stream in self.expected:
            self.read.broken.append(
                f"stream {stream} was reset ({code}) after {self.expected.pop(stream)} messages"
            )
            self.check()

    def check(self) -> None:
        if not self.expected and self.transport is not None:
            self.transport.close()

    def gone(self) -> None:
        self.read.broken += [f"stream {stream} lost with its connection" for stream in self.expected]
        if not self.over.done():
            self.over.set_result(None)


async def read(
    port: int, connections: int, streams: int, messages: int, *, size: int, slow_part: int
) -> Read:
    """Open all streams and read them to their ends. Raises TimeoutError when nothing comes for :data:`STALL`."""
    loop = asyncio.get_running_loop()
    seen = Read()
    readers = []
    for _ in range(connections):
        _, reader = await loop.create_connection(
            lambda: Reader(seen, streams, messages, size, slow_part), "127.0.0.1", port
        )
        readers.append(reader)
    everything = asyncio.gather(*(reader.over for reader in readers))
    while not everything.done():
        # the end, or every now and then a look at how long it has been quiet
        await asyncio.wait([everything], timeout=1.0)
        if not everything.done() and seen.last_byte and time.monotonic() - seen.last_byte > STALL:
            left = sum(len(reader.expected) for reader in readers)
            raise TimeoutError(f"{left} streams have stalled")
    return seen


class Streams:
    """A hostmesh before one endpoint."""

    def __init__(self, folder: Path, messages: int, period: float, engine: str | None = None) -> None:
        self.messages = messages
        self.size = PACED_BYTES if period else UNPACED_BYTES
        port = free_port()
        command = [
            sys.executable,
            "-m",
            "tests.wire.h2_streams",
            "serve",
            str(port),
            str(messages),
            str(period),
        ]
        self.endpoint = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert self.endpoint.stdout is not None
        assert self.endpoint.stdout.readline() == b"ready\n"
        text = (
            CONFIG
            if engine is None
            else CONFIG.replace("protocol: h2\n", f"protocol: h2\n  h2Engine: {engine}\n")
        )
        self.mesh = Hostmesh(folder, text, start=False)
        self.mesh.set_endpoints("web", [f"127.0.0.1 {port}"])
        self.mesh.start()

    def read(self, connections: int, streams: int, *, slow_part: int = 0) -> Read:
        """Every stream to its end."""
        return asyncio.run(
            read(self.mesh.port, connections, streams, self.messages, size=self.size, slow_part=slow_part)
        )

    def close(self) -> None:
        self.mesh.close()
        self.endpoint.terminate()
        self.endpoint.wait(10)
        if self.endpoint.stdout:
            self.endpoint.stdout.close()

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["serve"]:
        asyncio.run(serve(int(arguments[1]), int(arguments[2]), float(arguments[3])))
        return 0
    parser = argparse.ArgumentParser(prog="python -m tests.wire.h2_streams")
    parser.add_argument("kind", choices=["slow", "long"])
    parser.add_argument("--connections", type=int)
    parser.add_argument("--streams", type=int)
    parser.add_argument("--messages", type=int)
    parser.add_argument("--engine")
    options = parser.parse_args(arguments)
    slow = options.kind == "slow"
    connections = options.connections or (10 if slow else 1)
    streams = options.streams or (100 if slow else 24)
    messages = options.messages or (20 if slow else 50_000)
    with (
        tempfile.TemporaryDirectory() as folder,
        Streams(Path(folder), messages, PERIOD if slow else 0.0, options.engine) as all_streams,
    ):
        started = time.monotonic()
        quick, with_slow = [], []
        for _ in range(ROUNDS if slow else 1):
            quick.append(all_streams.read(connections, streams))
            if slow:
                with_slow.append(all_streams.read(connections, streams, slow_part=10))
        every = quick + with_slow
        # The better of several rounds: other work on the machine only ever makes them worse.
        before, after = (min((read.p99() for read in reads), default=0.0) for reads in (quick, with_slow))
        facts = {
            "seconds": round(time.monotonic() - started, 1),
            "streams": connections * streams,
            "complete": [read.complete for read in every],
            "broken": [what for read in every for what in read.broken][:10],
            "p99 ms, all quick": [round(read.p99() * 1000, 2) for read in quick],
            "p99 ms, with slow readers": [round(read.p99() * 1000, 2) for read in with_slow],
            "slowest stream, s": round(max(read.slow_seconds for read in every), 1),
            "MB": round(all_streams.mesh.resident_bytes() / 1e6, 1),
            "in flight": in_flight(all_streams.mesh.metrics()),
        }
        print(json.dumps(facts, indent=1))
        all_complete = all(read.complete == connections * streams for read in every)
        good = all_complete and not facts["broken"] and after <= before * GROWTH
        print("good" if good else "NOT GOOD")
        return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
