"""The lane decides as the library engine does: same calls, same frames, same codes, same state.

A seeded generator talks to both engines as a caller or an endpoint would: heads, bodies, trailers, resets, windows,
settings, in any order, on right and wrong streams, with wrong lengths, paddings and values, cut at any place, some
octets damaged; and both are used as a proxy uses them. After each step the listeners' calls, the frames written
(header blocks decoded) and the visible state must be equal. To run it:
``python -m tests.fuzz.h2_lane_vs_library --seed S --count N``.

Where the two are allowed to differ is listed in EXCEPTIONS, and nowhere else.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hpack import Decoder, Encoder

from hostmesh.base.errors import MeshError
from hostmesh.protocol.h2 import frames
from hostmesh.protocol.h2.budgets import Budgets
from hostmesh.protocol.h2.engine import MAX_STREAM, PREFACE, ConnectionFault, Engine, Pairs
from hostmesh.protocol.h2.frames import frame
from hostmesh.protocol.h2.lane import LaneEngine
from hostmesh.protocol.h2.lane_encode import HeaderEncoder
from hostmesh.protocol.h2.library import LibraryEngine
from hostmesh.protocol.h2.settings import H2Settings

EXCEPTIONS = {
    "text of GOAWAY's debug data and of errors": "for people; RFC 9113 6.8 gives it no meaning",
    "headers_since after a fault": "the library's scanner has looked further ahead; nobody asks any more",
    "octets of header blocks": "both are HPACK of the same list (RFC 7541); an encoder is free in its choices, and the "
    "lane also keeps credentials and short cookies out of tables (7.1.3), which h2 is told not to",
}

GOOD_HEADS: list[Pairs] = [
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"web")],
    [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":path", b"/a?b=c"),
        (b":authority", b"web:80"),
        (b"te", b"trailers"),
    ],
    [
        (b":method", b"PUT"),
        (b":scheme", b"http"),
        (b":path", b"/x"),
        (b"host", b"web"),
        (b"content-length", b"10"),
    ],
    [
        (b":method", b"HEAD"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"w"),
        (b"cookie", b"a=1"),
        (b"cookie", b"b=2"),
    ],
    [(b":method", b"CONNECT"), (b":authority", b"web:443")],
    [
        (b":method", b"OPTIONS"),
        (b":scheme", b"http"),
        (b":path", b"*"),
        (b":authority", b"web"),
        (b"content-length", b"0"),
    ],
]
ODD_HEADS: list[Pairs] = [
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b""), (b":authority", b"web")],
    [(b":method", b"GET"), (b":path", b"/"), (b":scheme", b"http")],
    [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"web"),
        (b"Upper", b"1"),
    ],
    [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"web"),
        (b"connection", b"close"),
    ],
    [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"web"),
        (b"host", b"other"),
    ],
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b"host", b"web"), (b"host", b"web")],
    [(b":method", b"GET"), (b":scheme", b"http"), (b"x", b"1"), (b":path", b"/"), (b":authority", b"web")],
    [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"web"),
        (b"a", b"b\r\nc"),
    ],
    [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"web"),
        (b"content-length", b"x"),
    ],
    [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"u@web")],
    [
        (b":method", b"CONNECT"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"w"),
        (b":protocol", b"websocket"),
    ],
    [(b":status", b"200")],
    [(b"", b"")],
    [],
]
GOOD_RESPONSES: list[Pairs] = [
    [(b":status", b"200"), (b"content-type", b"text/plain")],
    [(b":status", b"200"), (b"content-length", b"10"), (b"server", b"x")],
    [(b":status", b"204")],
    [(b":status", b"304"), (b"content-length", b"7")],
    [(b":status", b"503"), (b"retry-after", b"1"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")],
]
INFORMATIONAL: list[Pairs] = [[(b":status", b"103"), (b"link", b"</x>")], [(b":status", b"100")]]
ODD_RESPONSES: list[Pairs] = [
    [(b":status", b"101")],
    [(b":status", b"99")],
    [(b":status", b"2000")],
    [(b"x", b"1")],
    [(b":status", b"200"), (b":path", b"/")],
    [(b":status", b"200"), (b"transfer-encoding", b"chunked")],
    [(b":status", b"200"), (b"content-length", b"1"), (b"content-length", b"2")],
    [],
]
TRAILERS: list[Pairs] = [
    [(b"grpc-status", b"0")],
    [(b"grpc-status", b"13"), (b"grpc-message", b"\xc3\xa4")],
    [(b":status", b"200")],
    [(b"X", b"1")],
    [(b"content-length", b"3")],
    [],
]
CODES = (0, 1, 2, 7, 8, 11, 0xDEADBEEF)
INCREMENTS = (0, 1, 100, 65535, 2**31 - 1, 2**31 + 5)
SETTINGS = (1, 2, 3, 4, 5, 6, 8, 0x99)
VALUES = (0, 1, 2, 3, 100, 4096, 16383, 16384, 65535, 100_000, 2**24 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
TIGHT = Budgets(
    max_resets=4,
    max_reset_part=0.5,
    reset_part_streams=6,
    max_continuations=2,
    max_block=400,
    max_fields=8,
    control_rate=1.0,
    control_burst=12,
    control_per_frame=1,
    max_streams=12,
    max_known_resets=3,
)


class Log:
    """A listener that writes down what it hears, in a form that does not depend on the engine, and may act on it from
    within the call, as sessions do.
    """

    def __init__(self, client_side: bool, acts: bool) -> None:
        self.client_side = client_side
        self.calls: list[tuple[Any, ...]] = []
        self.engine: Engine | None = None
        """Set for one that acts."""
        self.acts = acts
        self.answered: set[int] = set()
        """Streams that got a response head from within."""

    def _hear(self, stream: int, *call: Any) -> None:
        self.calls.append(call)
        engine = self.engine
        if not self.acts or engine is None:
            return
        # What it does depends on nothing but what it heard.
        choice = (stream // 2 + len(self.calls)) % 6
        if call[0] == "head" and not self.client_side and choice < 3:
            self.answered.add(stream)
            engine.send_head(stream, GOOD_RESPONSES[0], choice == 0)
            engine.send_data(stream, bytes(min(engine.window(stream), 100)), choice == 1)
        elif call[0] in ("data", "informational") and choice < 4:
            engine.credit(stream, 500)
        elif call[0] == "window" and choice < 4 and (self.client_side or stream in self.answered):
            engine.send_data(stream, bytes(min(engine.window(stream), 10)), choice == 0)
        elif call[0] == "settings" and engine.capacity > 1 and choice == 0:
            engine.ping(b"settings")
        elif choice == 5:
            engine.reset(stream, 8 if call[0] != "head" else 1)

    def on_head(self, stream: int, pairs: Pairs, end: bool) -> None:
        self._hear(stream, "head", stream, plain(pairs), end)

    def on_informational(self, stream: int, pairs: Pairs) -> None:
        self._hear(stream, "informational", stream, plain(pairs))

    def on_data(self, stream: int, data: bytes, end: bool) -> None:
        self._hear(stream, "data", stream, bytes(data), end)

    def on_trailers(self, stream: int, pairs: Pairs) -> None:
        self._hear(stream, "trailers", stream, plain(pairs))

    def on_reset(self, stream: int, code: int) -> None:
        self._hear(stream, "reset", stream, code)

    def on_stream_fault(self, stream: int, error: MeshError, code: int) -> None:
        self._hear(stream, "stream fault", stream, error.reason, error.status, error.side, code)

    def on_window(self, stream: int) -> None:
        self._hear(stream, "window", stream)

    def on_goaway(self, last: int, code: int, debug: bytes) -> None:
        self._hear(0, "goaway", last, code, debug)

    def on_settings(self) -> None:
        self._hear(0, "settings")

    def on_pong(self, payload: bytes) -> None:
        self._hear(0, "pong", bytes(payload))


def plain(pairs: Pairs) -> list[tuple[bytes, bytes, bool]]:
    """Pairs, and whether each may be indexed further on."""
    return [(bytes(pair[0]), bytes(pair[1]), getattr(pair, "indexable", True)) for pair in pairs]


class Side:
    """One engine, its listener, and what its output means."""

    def __init__(
        self, engine: type[LaneEngine] | type[LibraryEngine], settings: H2Settings, acts: bool = False
    ) -> None:
        self.log = Log(settings.client_side, acts)
        self.engine = self.log.engine = engine(settings, self.log)
        self.fault: tuple[Any, ...] | None = None
        self._decoder = Decoder()
        self._preface = len(PREFACE) if settings.client_side else 0
        # No table that the generator offers may be refused by the reader of our blocks.
        self._decoder.max_allowed_table_size = 2**32
        self._decoder.max_header_list_size = 2**32

    def receive(self, data: bytes, now: float) -> None:
        try:
            self.engine.receive(data, now)
        except ConnectionFault as fault:
            self.fault = (fault.code, fault.reason, fault.status, fault.side, fault.sent)

    def written(self) -> list[tuple[Any, ...]]:
        """The frames that were queued: header blocks as lists, GOAWAY without its debug data."""
        data = self.engine.take()
        data, self._preface = data[self._preface :], 0 if data else self._preface
        found: list[tuple[Any, ...]] = []
        block = b""
        at = 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 3], "big")
            kind, flags = data[at + 3], data[at + 4]
            stream = int.from_bytes(data[at + 5 : at + 9], "big")
            payload = data[at + 9 : at + 9 + size]
            at += 9 + size
            if kind in (frames.HEADERS, frames.CONTINUATION):
                if kind == frames.HEADERS:
                    first = flags
                block += payload
                if not flags & frames.END_HEADERS:
                    continue
                pairs = [tuple(pair) for pair in self._decoder.decode(block, raw=True)]
                found.append((frames.HEADERS, first & 1, stream, pairs))
                block = b""
            elif kind == frames.GOAWAY:
                found.append((kind, flags, stream, payload[:8]))
            else:
                found.append((kind, flags, stream, payload))
        assert at == len(data)
        return found

    def state(self, streams: Sequence[int]) -> tuple[Any, ...]:
        engine = self.engine
        return (
            engine.open_streams,
            engine.capacity,
            engine.last_peer_stream,
            engine.exhausted,
            engine.connect_protocol,
            engine.headers_since if self.fault is None else None,
            [engine.window(stream) for stream in streams],
            self.fault,
        )


class Difference(AssertionError):
    """The two engines differ; the message shows the step."""


class Dialogue:
    """One connection: a peer that talks, a proxy that acts, and both engines in step."""

    def __init__(self, rng: random.Random, client_side: bool) -> None:
        self.rng = rng
        self.client_side = client_side
        self.tight = rng.random() < 0.2
        self.strange = rng.choice((0.0, 0.0, 0.005, 0.02, 0.1))
        self.settings = H2Settings(
            client_side=client_side,
            max_concurrent_streams=rng.choice((1, 3, 100)),
            initial_window=rng.choice((0, 20, 65535, 65535, 100_000)),
            max_frame=rng.choice((16384, 16384, 20000)),
            header_table=rng.choice((4096, 4096, 0, 8192)),
            max_header_list=rng.choice((65536, 65536, 65536, 400)),
            window_update_ratio=rng.choice((0.99, 0.5)),
            enable_connect_protocol=rng.random() < 0.3,
            budgets=TIGHT if self.tight else Budgets(),
        )
        # An act of its own would come after an act from within.
        self.acts = rng.random() < 0.4
        self.sides = (
            Side(LibraryEngine, self.settings, self.acts),
            Side(LaneEngine, self.settings, self.acts),
        )
        # Some peers index what repeats, some everything, some use Huffman; ours is a peer like others.
        self.encoder = Encoder()
        self.own_encoder = HeaderEncoder() if rng.random() < 0.3 else None
        self.peer_next = 1
        self.streams: list[int] = [0]
        # What the peer may do by its own book: streams it has something to say on, and octets of window.
        self.expected: dict[int, str] = {}
        self.room: Counter[int] = Counter({0: 65535})
        self.initial = 65535
        self.now = 100.0
        self.steps: list[str] = []
        self.counts: Counter[str] = Counter()

    # -- the proxy ------------------------------------------------------------------------------------------------

    def act(self) -> None:
        rng = self.rng
        stream = self.pick()
        kind = rng.randrange(9)
        end = rng.random() < 0.5
        if self.client_side and kind < 4:
            if all(side.engine.capacity for side in self.sides):
                pairs = self.varied(rng.choice(GOOD_HEADS))
                opened = {side.engine.open(pairs, end) for side in self.sides}
                self.note(f"open {opened} {end}")
                if len(opened) > 1:
                    raise Difference(f"opened {opened}")
                self.streams += opened
                for stream in opened:
                    self.expected[stream] = "head"
                    self.room[stream] = self.initial
            return
        if kind < 3:
            head = rng.choice(GOOD_RESPONSES) if rng.random() < 0.8 else rng.choice(INFORMATIONAL)
            # A second final head is no use of the interface.
            if not self.client_side and not self.has_answered(stream):
                if head in GOOD_RESPONSES:
                    self.answered.add(("head", stream))
                else:
                    end = False
                self.both("send_head", stream, self.varied(head), end)
        elif kind < 5:
            size = min(rng.choice((0, 1, 10, 5000, 40000)), self.sides[0].engine.window(stream))
            if stream and (size or end) and (self.client_side or self.has_answered(stream)):
                self.both("send_data", stream, b"d" * size, end)
        elif kind == 5:
            if stream and (self.client_side or self.has_answered(stream)):
                self.both("send_trailers", stream, rng.choice(TRAILERS[:2]) if end else [])
        elif kind == 6:
            if stream:
                self.both("reset", stream, rng.choice(CODES))
        elif kind == 7:
            if stream:
                self.both("credit", stream, rng.choice((1, 10, 1000, 65535)))
        elif rng.random() < 0.2:
            self.both("goaway", rng.choice(CODES[:4]), b"bye", rng.choice((None, MAX_STREAM, 3)))
        else:
            self.both("ping", b"12345678")

    def has_answered(self, stream: int) -> bool:
        return ("head", stream) in self.answered or stream in self.sides[0].log.answered

    def varied(self, pairs: Pairs) -> Pairs:
        """A head with fields that differ each time, now and then one that needs several frames."""
        rng = self.rng
        size = rng.choice((8, 8, 8, 150)) if rng.random() < 0.97 else 40_000
        return [
            *pairs,
            (b"x-trace", b"%x" % rng.getrandbits(64)),
            (b"x-size", b"s" * size + b"%d" % rng.randrange(3)),
        ]

    answered: set[tuple[str, int]]

    def both(self, method: str, *arguments: Any) -> None:
        self.note(f"{method}{arguments!r}"[:200])
        for side in self.sides:
            getattr(side.engine, method)(*arguments)

    # -- the peer -------------------------------------------------------------------------------------------------

    def pick(self) -> int:
        """A stream, usually a recent one."""
        streams = self.streams
        back = 1
        while back < len(streams) and self.rng.random() < 0.6:
            back += 1
        return streams[-back]

    def odd(self) -> bool:
        return self.rng.random() < self.strange

    def stream(self, *expected: str) -> int | None:
        """A stream of which one of these is expected, or None; an odd one now and then."""
        if self.odd():
            return self.rng.choice((0, 1, 2, 3, 4, 7, 99, 2**31 - 1, 2**31 + 1, self.peer_next + 2))
        if not expected:
            return self.pick()
        found = [stream for stream, what in self.expected.items() if what in expected]
        return self.rng.choice(found) if found else None

    def used(self) -> int:
        """A stream that was used, in whatever state it is."""
        stream = self.stream()
        return stream if stream or len(self.streams) == 1 else self.streams[-1]

    def speak(self) -> bytes:
        """Some octets of the peer: one frame, or a header block of several."""
        rng = self.rng
        kind = rng.randrange(20)
        if kind < 6:
            return self.head()
        if kind < 11:
            return self.data()
        if kind < 12:
            return self.trailers()
        if kind < 14:
            stream = 0 if rng.random() < 0.4 else self.used()
            increment = rng.choice(INCREMENTS) if self.odd() else rng.choice((1, 100, 5000, 65535))
            return self.frame(frames.WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))
        if kind < 15 and (len(self.streams) > 1 or self.odd()):
            stream = self.used()
            self.expected.pop(stream, None)
            return self.frame(frames.RST_STREAM, 0, stream, rng.choice(CODES).to_bytes(4, "big"))
        if kind < 17:
            return self.say_settings()
        if kind < 18 and rng.random() < 0.1:
            last = rng.choice((0, 1, 3, 2**31 - 1))
            payload = last.to_bytes(4, "big") + rng.choice(CODES).to_bytes(4, "big") + b"why"
            return self.frame(frames.GOAWAY, 0, 0, payload)
        if kind < 19 and len(self.streams) > 1:
            return self.frame(frames.PRIORITY, 0, self.used(), bytes(rng.choice((4, 6)) if self.odd() else 5))
        if self.odd():
            return self.frame(
                rng.choice((frames.PUSH_PROMISE, frames.CONTINUATION, 10, 11, 0xFE)),
                rng.randrange(256),
                self.stream() or 0,
                rng.randbytes(rng.randrange(12)),
            )
        if self.odd():
            # Beyond the connection's window, or the largest window of a stream by one setting.
            if rng.random() < 0.5:
                return b"".join([self.frame(frames.DATA, 0, self.used(), bytes(16384)) for _ in range(5)])
            large = (2**31 - 1).to_bytes(4, "big")
            opened = self.frame(frames.WINDOW_UPDATE, 0, self.used(), (2**31 - 70_000).to_bytes(4, "big"))
            return opened + self.frame(frames.SETTINGS, 0, 0, b"\0\4" + large)
        if self.odd():
            return self.frame(frames.PING, 0, 0, b"abcdefgh") * rng.randrange(30 if self.tight else 1100)
        return self.frame(frames.PING, rng.randrange(2), 0, b"abcdefgh")

    def head(self) -> bytes:
        rng = self.rng
        end = rng.random() < 0.4
        if self.client_side:
            stream = self.stream("head")
            if stream is None:
                return b""
            if rng.random() < 0.15:
                return self.block(stream, rng.choice(INFORMATIONAL), self.odd())
            self.expected[stream] = "end" if end else "body"
            return self.block(stream, rng.choice(ODD_RESPONSES if self.odd() else GOOD_RESPONSES), end)
        if self.odd():
            stream = self.stream() or 0
        else:
            stream = self.peer_next
            self.peer_next += rng.choice((2, 2, 2, 4))
            self.streams.append(stream)
            self.room[stream] = self.initial
            if not end:
                self.expected[stream] = "body"
        return self.block(stream, rng.choice(ODD_HEADS if self.odd() else GOOD_HEADS), end)

    def trailers(self) -> bytes:
        stream = self.stream("body")
        if stream is None:
            return b""
        self.expected.pop(stream, None)
        return self.block(stream, self.rng.choice(TRAILERS) if self.odd() else TRAILERS[0], not self.odd())

    def size_table(self, size: int) -> None:
        self.encoder.header_table_size = size
        if self.own_encoder is not None:
            self.own_encoder.offer(size)

    def block(self, stream: int, pairs: Pairs, end: bool) -> bytes:
        rng = self.rng
        extra = []
        while rng.random() < 0.5:
            extra.append(
                (
                    b"x-%d" % rng.randrange(9),
                    b"%x" % rng.getrandbits(rng.choice((1, 8, 64))),
                    rng.random() < 0.2,
                )
            )
        if self.odd():
            extra += [(b"x-many", b"%d" % number, False) for number in range(rng.choice((5, 101)))]
        if self.odd():
            extra.append((b"x-long", b"v" * rng.choice((300, 3000, 20000)), False))
        if rng.random() < 0.05:
            self.size_table(min(rng.choice((0, 100, 4096)), self.settings.header_table))
        if self.own_encoder is not None:
            block = self.own_encoder.encode([*pairs, *[(name, value) for name, value, _secret in extra]])
        else:
            block = self.encoder.encode([*pairs, *extra], huffman=rng.random() < 0.5)
        if self.odd():
            damaged = bytearray(block)
            for _ in range(rng.randrange(1, 3)):
                if damaged:
                    damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            block = bytes(damaged)
        flags = frames.END_STREAM if end else 0
        before = after = b""
        if rng.random() < 0.15:
            flags |= frames.PADDED
            padding = rng.randrange(20)
            before = bytes((padding if not self.odd() else rng.randrange(256),))
            after = bytes(padding)
        if rng.random() < 0.15:
            flags |= frames.WITH_PRIORITY
            before += bytes(rng.choice((0, 3, 4)) if self.odd() else 5)
        if rng.random() < 0.8 and len(block) < 16000:
            return self.frame(frames.HEADERS, flags | frames.END_HEADERS, stream, before + block + after)
        pieces = self.pieces(block, rng.choice((1, 2, 3)) if not self.odd() else 10)
        out = self.frame(frames.HEADERS, flags, stream, before + pieces[0] + after)
        for number, piece in enumerate(pieces[1:], 2):
            last = frames.END_HEADERS if number == len(pieces) else 0
            out += self.frame(
                frames.CONTINUATION, last, stream if not self.odd() else self.stream() or 0, piece
            )
            if self.odd():
                out += self.frame(frames.PING, 0, 0, b"abcdefgh")
        if len(pieces) == 1:
            out += self.frame(frames.CONTINUATION, frames.END_HEADERS, stream, b"")
        return out

    def data(self) -> bytes:
        rng = self.rng
        stream = self.stream("body")
        if stream is None:
            return b""
        size = rng.choice((0, 1, 3, 7, 10, 10, 1000, 5000, 16000, 16384, 16385 if self.odd() else 20))
        flags = frames.END_STREAM if rng.random() < 0.3 else 0
        padding = rng.randrange(30) if rng.random() < 0.15 else -1
        if not self.odd():
            size = max(0, min(size, self.room[0] - padding - 1, self.room[stream] - padding - 1))
            if padding >= 0 and min(self.room[0], self.room[stream]) <= padding:
                padding = -1
        payload = b"x" * size
        if padding >= 0:
            flags |= frames.PADDED
            payload = (
                bytes((padding if not self.odd() else rng.randrange(256),)) + payload[:16000] + bytes(padding)
            )
        elif self.odd():
            flags |= frames.PADDED
        self.room[0] -= len(payload)
        self.room[stream] -= len(payload)
        if flags & frames.END_STREAM:
            self.expected.pop(stream, None)
        return self.frame(frames.DATA, flags, stream, payload)

    def say_settings(self) -> bytes:
        rng = self.rng
        if rng.random() < 0.4:
            delta = self.settings.initial_window - self.initial
            self.initial += delta
            for stream in self.room:
                self.room[stream] += delta if stream else 0
            if self.settings.header_table < 4096:
                self.size_table(self.settings.header_table)
            return self.frame(frames.SETTINGS, frames.ACK, 0, bytes(6) if self.odd() else b"")
        entries = []
        for _ in range(rng.randrange(4)):
            code = rng.choice(SETTINGS)
            value = (
                rng.choice(VALUES)
                if self.odd()
                else {1: 100, 2: 0, 3: 5, 4: 1000, 5: 16384, 6: 9000, 8: 1}.get(code, 7)
            )
            entries.append(code.to_bytes(2, "big") + value.to_bytes(4, "big"))
        return self.frame(frames.SETTINGS, 0, 0, b"".join(entries) + (b"x" if self.odd() else b""))

    def frame(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        if self.odd():
            damage = self.rng.randrange(5)
            if damage == 0:
                payload = payload[:-1]
            elif damage == 1:
                payload += b"\0"
            elif damage == 2:
                flags ^= 1 << self.rng.randrange(8)
            elif damage == 3:
                stream = self.stream() or 0
        self.counts[f"frame {kind:x}"] += 1
        return frame(kind, flags, stream, payload)

    def pieces(self, data: bytes, most: int) -> list[bytes]:
        cuts = sorted(self.rng.randrange(len(data) + 1) for _ in range(most - 1))
        return [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    # -- in step --------------------------------------------------------------------------------------------------

    def note(self, step: str) -> None:
        self.steps.append(step)

    def hear(self, data: bytes) -> None:
        if self.odd() and self.odd():
            damaged = bytearray(data)
            for _ in range(self.rng.randrange(1, 4)):
                if damaged:
                    damaged[self.rng.randrange(len(damaged))] = self.rng.randrange(256)
            data = bytes(damaged)
        self.note(f"receive {data[:300].hex()} ({len(data)})")
        for side in self.sides:
            side.receive(data, self.now)

    def compare(self) -> bool:
        """Whether the connection lives on. Raises Difference."""
        library, lane = self.sides
        shown = {
            "calls": (library.log.calls, lane.log.calls),
            "state": (library.state(self.streams), lane.state(self.streams)),
            "frames": (library.written(), lane.written()),
        }
        for what, (expected, actual) in shown.items():
            if expected != actual:
                steps = "\n  ".join(self.steps)
                raise Difference(f"{what}\nlibrary {expected}\nlane    {actual}\n{self.settings}\n  {steps}")
        for kind, _flags, stream, payload in shown["frames"][0]:
            self.counts[f"wrote {kind:x}"] += 1
            if kind == frames.WINDOW_UPDATE:
                self.room[stream] += int.from_bytes(payload, "big")
        for call in library.log.calls:
            self.counts[f"call {call[0]}"] += 1
        library.log.calls.clear()
        lane.log.calls.clear()
        return library.fault is None

    def run(self, length: int) -> Counter[str]:
        """Talk for ``length`` steps or until the connection ends."""
        rng = self.rng
        self.answered = set()
        if not self.client_side and rng.random() < 0.1:
            entry = b"\0\4" + rng.choice(VALUES).to_bytes(4, "big")
            self.note(f"start_upgraded({entry!r})")
            for side in self.sides:
                try:
                    side.engine.start_upgraded(entry)
                except ConnectionFault as fault:
                    side.fault = (fault.code, fault.reason)
            self.streams.append(1)
            self.peer_next = 3
            self.room[1] = self.initial
        else:
            for side in self.sides:
                side.engine.start()
        alive = self.compare()
        waiting = b"" if self.client_side else PREFACE
        if not self.odd():
            waiting += frame(frames.SETTINGS, 0, 0, b"")
        # How octets come together: frame by frame, several at once, or cut anywhere.
        style = rng.randrange(3)
        for _ in range(length):
            if not alive:
                break
            if rng.random() < 0.35:
                self.act()
            else:
                waiting += self.speak()
                if rng.random() < (0.3, 1.0, 0.6)[style]:
                    self.now += rng.choice((0.0, 0.0, 0.01, 1.0))
                    if style == 2:
                        pieces = self.pieces(waiting, rng.choice((2, 3, 8)))
                        # The last piece comes with what is said next.
                        *now, waiting = pieces
                    else:
                        now, waiting = [waiting], b""
                    for piece in now:
                        self.hear(piece)
                        alive = alive and self.compare()
            alive = alive and self.compare()
        if waiting and alive:
            self.hear(waiting)
            alive = self.compare()
        self.counts["ended by a fault" if not alive else "alive"] += 1
        if self.sides[0].fault is not None:
            self.counts[f"fault {self.sides[0].fault[0]:x} {self.sides[0].fault[1]}"] += 1
        return self.counts


def check(seed: object) -> Counter[str]:
    """One dialogue. Raises Difference."""
    rng = random.Random(str(seed))
    return Dialogue(rng, rng.random() < 0.5).run(rng.choice((5, 20, 60, 150)))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", default="0")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--quiet", action="store_true", help="print no table")
    arguments = parser.parse_args()
    total: Counter[str] = Counter()
    for number in range(arguments.count):
        seed = f"{arguments.seed}/{number}"
        try:
            total += check(seed)
        except Exception:
            print(f"seed {seed}", file=sys.stderr)
            raise
    if not arguments.quiet:
        for what, count in sorted(total.items()):
            print(f"{count:9} {what}")
    print(f"{arguments.count} dialogues, no difference")
    return 0


if __name__ == "__main__":
    sys.exit(main())
