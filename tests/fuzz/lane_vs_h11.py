"""Whatever hostmesh accepts as HTTP/1, h11 must read as the same events.

A seeded generator writes messages, ordinary and strange, and mutates some of their bytes. Each is read whole
and in random pieces. If hostmesh accepts it, h11 must accept it, too, and find the same method, target,
status, fields, body, trailers and end; and the head that hostmesh would forward must be read by h11 as the
fields it meant to forward. hostmesh may refuse more. ``python -m tests.fuzz.lane_vs_h11 --seed S --count N``.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter

import h11

from hostmesh.protocol import h1_head, h1_judge
from hostmesh.protocol.h1_body import forwardable_trailers
from hostmesh.protocol.h1_head import CHUNKED, BadMessage, RequestHead, ResponseHead
from hostmesh.protocol.h1_write import request_head, response_head
from hostmesh.protocol.limits import DEFAULT_LIMITS
from tests.feeding import Message, facts, read

METHODS = [
    b"GET",
    b"POST",
    b"HEAD",
    b"PUT",
    b"DELETE",
    b"OPTIONS",
    b"PATCH",
    b"TRACE",
    b"M-SEARCH",
    b"CONNECT",
    b"get",
]
TARGETS = [
    b"/",
    b"/a/b?c=d&e",
    b"//x",
    b"/%2e%2e/",
    b"*",
    b"http://web/x",
    b"http://web:80",
    b"HTTPS://a?b",
    b"/a#b",
    b"web:443",
    b"/\xc3\xa4",
    b"/" + b"x" * 300,
    b"a",
    b'/;p|{}"',
]
HOSTS = [
    b"web",
    b"web:80",
    b"[::1]:8080",
    b"a.b.c",
    b"10.0.0.1",
    b"user@web",
    b"",
    b"a b",
    b"web/",
    b"WEB.",
    b"a,b",
]
NAMES = [
    b"Accept",
    b"User-Agent",
    b"Cookie",
    b"X-A",
    b"x_b",
    b"Via",
    b"l5d-ctx-trace",
    b"L5d-Dtab",
    b"l5d-name",
    b"l5d_sample",
    b"Forwarded",
    b"Keep-Alive",
    b"Proxy-Connection",
    b"Proxy-Authorization",
    b"TE",
    b"Trailer",
    b"Upgrade",
    b"Content_Length",
    b"Max-Forwards",
    b"dtab-local",
    b"X-Forwarded-Client-Cert",
    b"Host",
    b"Content-Type",
    b"Contentlength",
    b"Hos",
    b"Hostt",
    b"x",
    b"a b",
    b"",
]
VALUES = [
    b"",
    b"*/*",
    b"a, b",
    b" padded ",
    b"\tx\t",
    b"caf\xe9",
    b"0",
    b"x: y",
    b"_ga=1; b=2",
    b"a\x01b",
    b"a\x0bb",
    b"z" * 200,
    b"trailers",
    b"websocket",
]
LENGTHS = [b"5", b"0", b"05", b" 5 ", b"+5", b"-1", b"5,5", b"0x5", b"", b"9" * 20, b"1_0", b"\xb2", b"5\t"]
CODINGS = [
    b"chunked",
    b"Chunked",
    b" chunked ",
    b"gzip, chunked",
    b"chunked, chunked",
    b"identity",
    b"\x0bchunked",
    b"xchunked",
]
CONNECTIONS = [
    b"keep-alive",
    b"close",
    b"Keep-Alive, X-A",
    b"upgrade",
    b"te, close",
    b"host",
    b"l5d-ctx-trace",
    b",",
    b"CLOSE",
    b"x_b",
]
VERSIONS = [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b"HTTP/11", b""]
REASONS = [b"OK", b"", b"Not Found", b"caf\xe9", b"a\tb", b"\x01"]
STATUSES = [b"200", b"204", b"304", b"404", b"500", b"100", b"103", b"101", b"999", b"099", b"20"]
TOKENS = [
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b"\x00",
    b"\r\n ",
    b"\r\n\r\n",
    b";",
    b"0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 3\r\n",
    b"\r\nHost: b",
    b"#",
    b"\xff",
    b"_",
    b",",
    b"f" * 20,
    b"HTTP/1.1",
]
SIZES = [b"5", b"05", b"A", b"a", b"1", b"0000000000000005"]


class Generator:
    """Messages from one random generator."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def odd(self, chance: float) -> bool:
        return self.rng.random() < chance

    def fields(self, host: bool) -> tuple[list[bytes], bool]:
        """Field lines without CRLF, and whether the body is to be chunked."""
        rng = self.rng
        lines = []
        if host and not self.odd(0.03):
            value = rng.choice(HOSTS) if self.odd(0.15) else b"web"
            lines.append(
                rng.choice((b"Host: ", b"host:", b"HOST: \t")) + value + (b" " if self.odd(0.05) else b"")
            )
        for _ in range(rng.randrange(6)):
            name = (
                rng.choice(NAMES[:-2] if self.odd(0.95) else NAMES)
                if self.odd(0.4)
                else rng.choice(NAMES[:4])
            )
            value = rng.choice(VALUES) if self.odd(0.15) else rng.choice(VALUES[:4])
            lines.append(name + rng.choice((b": ", b":", b":\t")) + value)
        if self.odd(0.2):
            lines.append(b"Connection: " + rng.choice(CONNECTIONS))
        if self.odd(0.05):
            lines.append(b"Expect: " + rng.choice((b"100-continue", b"x")))
        chunked = self.odd(0.35)
        if chunked:
            lines.append(b"Transfer-Encoding: " + (rng.choice(CODINGS) if self.odd(0.15) else b"chunked"))
        elif self.odd(0.5):
            lines.append(b"Content-Length: " + (rng.choice(LENGTHS) if self.odd(0.2) else b"5"))
        if self.odd(0.04):
            lines.append(
                rng.choice(
                    (b"Content-Length: 5", b"content-length:5", b"Transfer-Encoding: chunked", b"Host: b")
                )
            )
        rng.shuffle(lines)
        return lines, chunked

    def body(self, chunked: bool) -> bytes:
        rng = self.rng
        if not chunked:
            return b"hello" if self.odd(0.8) else b"hellohello"
        parts = []
        for _ in range(rng.randrange(4)):
            data = rng.choice((b"hello", b"0123456789", b"\r\n\r\nx", b"a"))
            size = b"%x" % len(data) if self.odd(0.9) else rng.choice(SIZES)
            parts.append(
                size + rng.choice((b"", b"", b"", b";a=b", b';c="d"', b" ")) + b"\r\n" + data + b"\r\n"
            )
        parts.append(b"0\r\n")
        if self.odd(0.2):
            for _ in range(rng.randrange(1, 4)):
                parts.append(rng.choice(NAMES) + b": " + rng.choice(VALUES) + b"\r\n")
        parts.append(b"\r\n")
        return b"".join(parts)

    def request(self) -> bytes:
        rng = self.rng
        method = rng.choice(METHODS) if self.odd(0.2) else rng.choice(METHODS[:2])
        target = rng.choice(TARGETS) if self.odd(0.15) else rng.choice(TARGETS[:2])
        version = b"HTTP/1.1" if self.odd(0.9) else rng.choice(VERSIONS)
        lines, chunked = self.fields(True)
        lead = b"\r\n" if self.odd(0.03) else b""
        head = b"\r\n".join([lead + b" ".join((method, target, version)), *lines, b"", b""])
        return head + self.body(chunked)

    def response(self) -> bytes:
        rng = self.rng
        version = b"HTTP/1.1" if self.odd(0.9) else rng.choice(VERSIONS)
        status = rng.choice(STATUSES) if self.odd(0.3) else b"200"
        reason = rng.choice(REASONS) if self.odd(0.1) else b"OK"
        lines, chunked = self.fields(False)
        line = version + b" " + status + (b"" if self.odd(0.03) else b" " + reason)
        return b"\r\n".join([line, *lines, b"", b""]) + self.body(chunked)

    def mutated(self, raw: bytes) -> bytes:
        rng = self.rng
        data = bytearray(raw)
        for _ in range(rng.choice((0, 0, 0, 1, 1, 3))):
            at = rng.randrange(len(data) + 1)
            kind = rng.randrange(5)
            if kind == 0:
                data[at:at] = rng.choice(TOKENS)
            elif kind == 1:
                del data[at : at + rng.randrange(1, 4)]
            elif kind == 2 and at < len(data):
                data[at] = rng.randrange(256)
            elif kind == 3 and at < len(data):
                data[at] ^= 0x20
            else:
                end = at + rng.randrange(1, 20)
                data[at:at] = data[at:end]
        return bytes(data)

    def pieces(self, raw: bytes) -> list[bytes]:
        cuts = sorted(self.rng.randrange(len(raw) + 1) for _ in range(self.rng.randrange(1, 6)))
        return [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]


class Disagreement(AssertionError):
    """hostmesh and h11, or hostmesh and itself, read one message in two ways."""


def outcome(pieces: list[bytes], method: bytes | None) -> Message | BadMessage | None:
    try:
        return read(pieces, method)
    except BadMessage as error:
        return error


def read_with_h11(
    raw: bytes, method: bytes | None
) -> tuple[
    h11.Request | h11.Response | h11.InformationalResponse, bytes, list[tuple[bytes, bytes]] | None, bytes
]:
    """(head, body, trailers or None if the message is not complete, what follows)."""
    if method is None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    else:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        connection.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        connection.send(h11.EndOfMessage())
    connection.receive_data(raw)
    head = connection.next_event()
    if not isinstance(head, h11.Request | h11.Response | h11.InformationalResponse):
        raise Disagreement(f"h11 found no head but {head!r}")
    body = b""
    trailers = None
    if isinstance(head, h11.InformationalResponse):
        return head, body, [], connection.trailing_data[0]
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            trailers = list(event.headers)
            break
        else:
            break
    return head, body, trailers, connection.trailing_data[0]


def same_fields(ours: list[tuple[bytes, bytes]], theirs: list[tuple[bytes, bytes]]) -> bool:
    """h11 keeps one of several equal lengths and writes the coding in lower case."""
    kept = []
    for name, value in ours:
        if name == b"content-length" and any(name == other for other, _value in kept):
            continue
        kept.append((name, value.lower() if name == b"transfer-encoding" else value))
    return kept == theirs


def compare(raw: bytes, message: Message, method: bytes | None) -> None:
    """Raise Disagreement unless h11 reads ``raw`` as hostmesh read it."""
    head = message.head
    if isinstance(head, RequestHead) and raw.startswith(b"\r\n"):
        raw = raw[2:]  # RFC 9112 2.2, which h11 does not offer
    try:
        theirs, body, trailers, rest = read_with_h11(raw, method)
    except h11.RemoteProtocolError as error:
        raise Disagreement(f"accepted, but h11 says {error}") from error
    if isinstance(head, RequestHead):
        if not isinstance(theirs, h11.Request) or theirs.method != head.method:
            raise Disagreement(f"method {head.method!r}")
        if theirs.target != head.target and b"://" not in theirs.target:
            raise Disagreement(f"target {head.target!r}, h11 {theirs.target!r}")
    elif isinstance(theirs, h11.Request) or theirs.status_code != head.status:
        raise Disagreement(f"status {head.status}")
    if not same_fields([(name, value) for name, value, _raw in head.fields], list(theirs.headers)):
        raise Disagreement(f"fields {head.fields!r}, h11 {list(theirs.headers)!r}")
    if isinstance(head, ResponseHead) and head.status in (101, 204, 304):
        return  # bodies that h11 judges by other rules than RFC 9112 6.3
    if message.body != body:
        raise Disagreement(f"body {message.body!r}, h11 {body!r}")
    if message.complete != (trailers is not None):
        raise Disagreement(f"complete {message.complete}, h11 {trailers!r}")
    if trailers is not None:
        block = b"".join(b"%b: %b\r\n" % pair for pair in trailers)
        if message.trailers.lower() != forwardable_trailers(block).lower():
            raise Disagreement(f"trailers {message.trailers!r}, h11 {trailers!r}")
        if message.rest != rest:
            raise Disagreement(f"rest {message.rest!r}, h11 {rest!r}")


NEVER_FORWARDED = (
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"proxy-authorization",
    b"proxy-authenticate",
    b"te",
    b"upgrade",
)


def compare_forwarded(message: Message, method: bytes | None, clear: bool) -> None:
    """What we would send on is read by h11 as what we meant, with the body framed as it was."""
    head = message.head
    if isinstance(head, RequestHead):
        out = request_head(head, b"x-ours: 1\r\n", clear=clear)
    else:
        out = response_head(head, b"x-ours: 1\r\n", clear=clear)
    try:
        theirs, _body, _trailers, _rest = read_with_h11(out, method)
    except h11.RemoteProtocolError as error:
        raise Disagreement(f"forwarded {out!r}: h11 says {error}") from error
    if isinstance(head, RequestHead):
        if not isinstance(theirs, h11.Request) or (theirs.method, theirs.target) != (
            head.method,
            head.target,
        ):
            raise Disagreement(f"forwarded {out!r}")
        if [head.host] != [value for name, value in theirs.headers if name == b"host"]:
            raise Disagreement(f"forwarded hosts of {out!r}")
    lengths = [value for name, value in theirs.headers if name == b"content-length"]
    codings = [value for name, value in theirs.headers if name == b"transfer-encoding"]
    if head.has_body:
        expected = (
            ([], [b"chunked"]) if head.content_length == CHUNKED else ([b"%d" % head.content_length], [])
        )
        if head.content_length < CHUNKED:
            expected = ([], [])
        if expected != (lengths, codings):
            raise Disagreement(f"forwarded framing of {out!r}")
    names = {name for name, _value in theirs.headers}
    gone = {name for name in NEVER_FORWARDED if name in names} | (head.nominated & names)
    if clear:
        gone |= {name for name in names if name.startswith(b"l5d-")}
        if isinstance(head, RequestHead):
            gone |= {name for name in names if b"_" in name}
    if gone:
        raise Disagreement(f"forwarded {gone} in {out!r}")
    lost = [
        name
        for name, value, _raw in head.fields
        if (name, value) not in list(theirs.headers)
        and name not in dict(head.special)
        and name not in head.nominated
        and not (clear and b"_" in name)
    ]
    if lost:
        raise Disagreement(f"lost {lost} in {out!r}")


def compare_judge(raw: bytes, message: Message, method: bytes | None) -> None:
    """What the lane found quickly is what the judge finds."""
    judged: RequestHead | ResponseHead | None
    if method is None:
        judged = h1_judge.judge_request(raw, DEFAULT_LIMITS, 0)
    else:
        judged = h1_judge.judge_response(raw, DEFAULT_LIMITS, method, 0, False)
    assert judged is not None
    again = Message(judged, message.body, message.trailers, message.rest, message.complete)
    if facts(again) != facts(message):
        raise Disagreement(f"lane {facts(message)!r}, judge {facts(again)!r}")


def one(generator: Generator, totals: Counter[str]) -> None:
    """Generate one message and check it."""
    rng = generator.rng
    if rng.random() < 0.55:
        method = None
        raw = generator.mutated(generator.request())
    else:
        method = rng.choice((b"GET", b"GET", b"POST", b"HEAD"))
        raw = generator.mutated(generator.response())
    pieces = generator.pieces(raw)
    whole = outcome([raw], method)
    in_pieces = outcome(pieces, method)
    try:
        if isinstance(whole, BadMessage) or isinstance(in_pieces, BadMessage):
            if type(whole) is not type(in_pieces):
                raise Disagreement(f"whole {whole!r}, in pieces {in_pieces!r}")
            totals["refused"] += 1
            return
        if facts(whole) != facts(in_pieces):
            raise Disagreement(f"whole {facts(whole)!r}, in pieces {facts(in_pieces)!r}")
        if whole is None:
            totals["incomplete"] += 1
            return
        pattern = h1_head._request if method is None else h1_head._response
        if pattern(raw):
            totals["by the lane"] += 1
            compare_judge(raw, whole, method)
        else:
            totals["by the judge"] += 1
        compare(raw, whole, method)
        compare_forwarded(whole, method, rng.random() < 0.5)
    except Disagreement as error:
        raise Disagreement(f"{error}\nmessage {raw!r}\nmethod {method!r}\npieces {pieces!r}") from error


def run(seed: int, count: int) -> Counter[str]:
    """Check ``count`` messages; returns how many ended in which way. Raises Disagreement."""
    generator = Generator(random.Random(seed))
    totals: Counter[str] = Counter()
    for number in range(count):
        try:
            one(generator, totals)
        except Disagreement as error:
            raise Disagreement(f"seed {seed}, message {number}: {error}") from error
    return totals


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--count", type=int, default=50_000)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}, {arguments.count} messages")
    totals = run(arguments.seed, arguments.count)
    print(", ".join(f"{number} {what}" for what, number in sorted(totals.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
