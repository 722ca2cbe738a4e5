"""Callers that send HTTP/2 frames in any order, right and wrong, to a router with endpoints of every temper.

The engines' decisions are compared elsewhere (h2_lane_vs_library.py); here the sessions above them are looked at: no
exception of ours may escape, and when the callers have gone, nothing may be left. To run it:
``python -m tests.fuzz.h2_callers --first 1 --count 3000``.
"""

from __future__ import annotations

import argparse
import sys
from random import Random
from typing import Any

from hpack import Encoder

from hostmesh.naming.addr import Endpoint
from hostmesh.protocol.h2.engine import PREFACE
from hostmesh.protocol.h2.engines import ENGINES
from tests.flow.h2_scripted import SERVER
from tests.flow.scripted import Received
from tests.flow.world import World, config
from tests.h2_raw import data, goaway, headers, ping, rst, settings, window_update

CALLERS = 6
"""Connections of one run, one after the other."""

LONG = 200.0
"""Virtual seconds after which everything must be over."""

METHODS = (b"GET", b"POST", b"HEAD", b"CONNECT", b"TRACE")

FIELDS = (
    (b"te", b"trailers"),
    (b"expect", b"100-continue"),
    (b"expect", b"x"),
    (b"l5d-dtab", b"/svc=>/#/lit/web"),
    (b"l5d-ctx-deadline", b"1 2"),
    (b"content-length", b"3"),
    (b"cookie", b"a=b"),
    (b"accept-encoding", b"gzip"),
    (b"max-forwards", b"0"),
    (b"content-type", b"application/grpc"),
    (b"grpc-timeout", b"10m"),
    (b":protocol", b"websocket"),
)
"""What a proxy looks at, and one pseudo field out of place."""


class Silent:
    """A caller that only speaks."""

    def __init__(self) -> None:
        self.transport: Any = None

    def data_received(self, data: bytes) -> None:
        pass

    def eof_received(self) -> None:
        pass

    def connection_lost(self, error: OSError | None) -> None:
        pass

    def writable(self) -> None:
        pass


class Fuzz:
    """One run. :meth:`run` raises AssertionError when something is not as it must be."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = Random(f"h2_callers/{seed}")
        router = f"h2Engine: {rng.choice(ENGINES)}\n"
        router += rng.choice(("", "streamingEnabled: false", "compressionLevel: 3"))
        server = ("", "clearContext: true", "maxConcurrentRequests: 2", "serverSession: {lifeTimeMs: 50}")
        self.world = World(config(router=router, server=rng.choice(server)), seed=seed)
        self.world.serving(self._answer)
        self.frames = 0

    def _answer(self, received: Received) -> None:
        action = self.rng.random()
        if action < 0.3:
            received.answer(body=b"x" * self.rng.choice((0, 10, 100_000)))
        elif action < 0.5:
            received.answer(500, after=0.01)
        elif action < 0.6:
            received.reset(after=0.01)
        elif action < 0.7:
            chunks = b"3\r\nabc\r\n0\r\nX: y\r\n\r\n"
            received.send(
                b"HTTP/1.1 103 X\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
            )

    def _head(self, encoder: Encoder) -> bytes:
        rng = self.rng
        fields = [
            (b":method", rng.choice(METHODS)),
            (b":scheme", b"http"),
            (b":path", rng.choice((b"/", b"*", b"/a?b"))),
            (b":authority", rng.choice((b"web", b"nowhere"))),
        ]
        fields += rng.choices(FIELDS, k=rng.randrange(3))
        if rng.random() < 0.2:
            rng.shuffle(fields)
        return encoder.encode(fields)

    def _conversation(self) -> bytes:
        """The bytes of one caller."""
        rng = self.rng
        encoder = Encoder()
        out = [PREFACE, settings()]
        stream = 1
        for _ in range(rng.randrange(1, 25)):
            some = rng.choice((stream, max(1, stream - 2), max(1, stream - 4), 1, 0, 2))
            kind = rng.randrange(12)
            if kind < 5:
                out.append(headers(stream, self._head(encoder), rng.random() < 0.5, rng.choice((4, 4, 4, 0))))
                stream += 2
            elif kind == 5:
                out.append(data(some, b"abc" * rng.choice((0, 1, 1000)), rng.random() < 0.5))
            elif kind == 6:
                out.append(rst(some, rng.randrange(14)))
            elif kind == 7:
                out.append(window_update(some, rng.randrange(2**31)))
            elif kind == 8:
                out.append(ping(rng.choice((b"hm-drain", bytes(8))), rng.choice((0, 1))))
            elif kind == 9:
                out.append(goaway(0))
            elif kind == 10:
                out.append(settings((4, rng.choice((0, 10, 65535, 2**31 - 1)))))
            else:
                out.append(headers(some, encoder.encode([(b"x-trailer", b"1")])))
        self.frames += len(out)
        said = bytearray(b"".join(out))
        if rng.random() < 0.4:
            for _ in range(rng.randrange(1, 4)):
                said[rng.randrange(len(PREFACE), len(said))] = rng.randrange(256)
        return bytes(said)

    def _call(self) -> None:
        rng, world = self.rng, self.world
        caller = Silent()

        def connected(transport: Any) -> Silent:
            caller.transport = transport
            return caller

        world.loop.connect(Endpoint("127.0.0.1", 4140), 5.0, connected, world.errors.append)
        world.run(0.001)
        said = self._conversation()
        while said and not caller.transport.closed:
            size = rng.choice((1, 9, 50, 500, 5000))
            caller.transport.write(said[:size])
            said = said[size:]
            if rng.random() < 0.5:
                world.run(rng.choice((0.0, 0.001, 0.02)))
        world.run(rng.choice((0.001, 0.5)))
        if not caller.transport.closed:
            rng.choice((caller.transport.abort, caller.transport.reset, caller.transport.shutdown_write))()
        world.run(0.05)

    def run(self) -> None:
        world = self.world
        for _ in range(CALLERS):
            self._call()
        if self.rng.random() < 0.3:
            world.linker.drain()
        world.run(LONG)
        assert world.errors == []
        assert (world.linker.pending, world.linker.connections) == (0, 0)
        assert world.metric(f"{SERVER}/open_streams") == 0
        world.check()


def run(seed: int) -> Fuzz:
    fuzz = Fuzz(seed)
    fuzz.run()
    return fuzz


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000)
    arguments = parser.parse_args()
    frames = 0
    for seed in range(arguments.first, arguments.first + arguments.count):
        try:
            frames += run(seed).frames
        except Exception:
            print(f"seed {seed}", file=sys.stderr)
            raise
    print(f"{arguments.count} runs, {frames} frames, nothing escaped and nothing is left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
