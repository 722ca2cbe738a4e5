"""Rows H1-H12 and F15-F19 of the threat model against a running hostmesh with each engine, by a raw frame client.

Each test attacks one connection and then looks at four things: how that connection ended, that a request on another
connection is served as before, that every counter of open work is back at zero, and what reached the endpoint.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from hostmesh.protocol.h2.engines import ENGINES
from tests.h2_raw import (
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    Fields,
    RawFrame,
    RawH2Client,
    RawH2Endpoint,
    RawPeer,
    block,
    continuation,
    data,
    get,
    goaway,
    headers,
    literal,
    ping,
    raw_frame,
    rst,
    settings,
    window_update,
)
from tests.wire.big_bodies import cpu_seconds
from tests.wire.harness import Answer, EndpointServer, Hostmesh, Received

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@, shutdownGraceMs: 2000}
namers:
- kind: io.l5d.fs
  rootDir: @dir@/disco
routers:
- protocol: http
  label: out
  h2Engine: ENGINE
  dtab: /svc => /#/io.l5d.fs
  servers:
  - {port: @port@, ip: 127.0.0.1}
  - port: @short@
    ip: 127.0.0.1
    socketOptions: {readTimeoutMs: 400}
  - port: @idle@
    ip: 127.0.0.1
    serverSession: {idleTimeMs: 300}
  - port: @tight@
    ip: 127.0.0.1
    h2Budgets: {maxResets: 3, maxStreams: 7, controlFrameBurst: 20}
  - port: @bounded@
    ip: 127.0.0.1
    h2Budgets: {maxStreams: 2000}
- protocol: h2
  label: h2
  h2Engine: ENGINE
  dtab: /svc => /#/io.l5d.fs
  client: {h2Budgets: {maxHeaderFields: 20}}
  servers:
  - {port: @h2@, ip: 127.0.0.1}
"""
PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, REFUSED_STREAM = 1, 3, 5, 7
CALM = 11
OK = [(b":status", b"200")]
POST = get(method=b"POST")
MANY_FIELDS = 200


class Stage:
    """A hostmesh with a good endpoint for both versions, called ``web``."""

    def __init__(self, folder: Path, engine: str) -> None:
        self.gate = threading.Event()
        self.big = threading.Event()
        self.endpoint = EndpointServer("web-1", respond=self._respond)
        self.mesh = Hostmesh.routing(folder, CONFIG.replace("ENGINE", engine), web=[self.endpoint])
        self._marks = count()

    def _respond(self, received: Received) -> Answer:
        if received.target.startswith("/hang"):
            return Answer(wait=self.gate)
        if received.target == "/big":
            return Answer(body=(bytes(65536) for _ in range(320)), length=320 * 65536)
        if received.target.startswith("/post"):
            return Answer(body=b"%d" % received.body_bytes)
        return Answer(body=b"fine")

    def client(self, port: str = "port", **more: object) -> RawH2Client:
        return RawH2Client(self.mesh.ports[port], **more)  # type: ignore[arg-type]

    def named(self, endpoint: RawH2Endpoint) -> str:
        """A name of its own for this endpoint: no test sees what the namer still holds of another."""
        name = f"bad-{next(self._marks)}"
        self.mesh.set_endpoints(name, [f"{endpoint.host} {endpoint.port}"])
        return name

    def served(self, port: str = "port") -> int:
        """The status that another caller gets now, over HTTP/2."""
        with self.client(port) as other:
            other.request(1)
            other.ended(1)
            return int(other.head(1).get(b":status") or b"0")

    def reached(self, first: int) -> list[Received]:
        """The requests that reached the endpoint since it had ``first``, once one sent now has arrived behind them."""
        target = f"/marker-{next(self._marks)}"
        assert self.mesh.get(target).status == 200
        return [r for r in self.endpoint.requests[first:] if not r.target.startswith("/marker-")]

    def failures(self, reason: str, port: str = "port", label: str = "out") -> float:
        name = f"rt/{label}/server/127.0.0.1/{self.mesh.ports[port]}/failures/{reason}"
        return self.mesh.metrics().get(name, 0)

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """As the mesh's, without its log of thousands of refused streams."""
        try:
            self.mesh.wait(condition, what)
        except AssertionError:
            metrics = {
                name: value for name, value in self.mesh.metrics().items() if "/server/" in name and value
            }
            raise AssertionError(f"not within 10 s: {what}; {metrics}") from None

    def settled(self) -> None:
        """Wait until nothing is open, pending or buffered any more."""
        self.gate.set()

        def is_left(name: str) -> bool:
            words = name.split("/")
            if "server" in words:
                return words[-1] in ("open_streams", "connections", "pending", "buffered_bytes")
            return words[-1] in ("open_streams", "pending", "buffered_bytes", "pool_waiters")

        def nothing_left() -> bool:
            metrics = self.mesh.metrics()
            return not {name: value for name, value in metrics.items() if is_left(name) and value}

        self.wait(nothing_left, "counters back at zero")
        self.gate.clear()


@pytest.fixture(scope="module", params=ENGINES)
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    built = Stage(tmp_path_factory.mktemp("h2"), request.param)
    try:
        yield built
        assert "Traceback" not in built.mesh.log(), built.mesh.log()[-6000:]
    finally:
        built.gate.set()
        built.mesh.close()
        built.endpoint.stop()


@contextlib.contextmanager
def attacked(
    stage: Stage, reason: str | None = None, port: str = "port", label: str = "out"
) -> Iterator[None]:
    """Around an attack: the reason is counted, others are served during and after it, and nothing is left."""
    before = stage.failures(reason, port, label) if reason else 0
    yield
    assert stage.served() == 200
    if reason:
        stage.wait(lambda: stage.failures(reason, port, label) > before, f"failures/{reason}")
    stage.settled()


def gone(client: RawH2Client) -> int:
    """The code of the GOAWAY with which the connection was closed."""
    code = client.goaway().code
    client.wait_closed()
    return code


def flood(client: RawH2Client, *parts: bytes) -> None:
    """Send; the peer may end the connection in the middle of it."""
    with contextlib.suppress(ConnectionError):
        client.send(*parts)


# -- H1, H2 -----------------------------------------------------------------------------------------------------------


def test_h1_rapid_reset_in_one_read_costs_no_endpoint_anything(stage: Stage) -> None:
    """H1: HEADERS and RST_STREAM together: GOAWAY ENHANCE_YOUR_CALM after 100, and nothing was dispatched."""
    first = len(stage.endpoint.requests)
    with attacked(stage, "limit-resets"), stage.client() as client:
        client.send(
            *[
                client.peer.headers(stream, get(b"/hang-not-begun")) + rst(stream)
                for stream in range(1, 601, 2)
            ]
        )

        assert gone(client) == CALM

    assert [r for r in stage.reached(first) if r.target == "/hang-not-begun"] == []


def test_h1_rapid_reset_read_by_read_is_cut_off_as_well(stage: Stage) -> None:
    """H1: one stream after the other, each reset as soon as it was read: at most 101 of them are worked on."""
    first = len(stage.endpoint.requests)
    with attacked(stage, "limit-resets"), stage.client() as client:
        for stream in range(1, 601, 2):
            flood(client, client.peer.headers(stream, get(b"/hang-begun")))
            flood(client, ping(stream.to_bytes(8, "big")))
            with contextlib.suppress(EOFError):
                client.until(lambda each, stream=stream: each.payload == stream.to_bytes(8, "big"))  # type: ignore[misc]
            flood(client, rst(stream))
            if client.closed:
                break

        assert gone(client) == CALM

    assert len([r for r in stage.reached(first) if r.target == "/hang-begun"]) <= 101


def test_h1_many_attackers_do_not_stop_others(stage: Stage) -> None:
    """H1: thirty connections of attackers cost bounded CPU, and a caller beside them is served all the time."""
    before = cpu_seconds(stage.mesh.pid)
    with attacked(stage, "limit-resets"), ExitStack() as stack:
        attackers = [stack.enter_context(stage.client()) for _ in range(30)]
        other = stack.enter_context(stage.client())
        for number, attacker in enumerate(attackers):
            parts = [attacker.peer.headers(stream, get()) + rst(stream) for stream in range(1, 2001, 2)]
            flood(attacker, *parts)
            other.request(2 * number + 1)
            assert other.head(2 * number + 1).get(b":status") == b"200"
        assert [gone(attacker) for attacker in attackers] == [CALM] * 30

    assert cpu_seconds(stage.mesh.pid) - before < 5


def test_h1_h6_h8_budgets_of_callers_are_what_the_file_says(stage: Stage) -> None:
    """H1, H6, H8: ``h2Budgets`` of a server replaces the defaults."""
    with attacked(stage):
        with stage.client("tight") as resetting:
            for stream in range(1, 9, 2):
                flood(resetting, resetting.peer.headers(stream, get()) + rst(stream))
            assert gone(resetting) == CALM
        with stage.client("tight") as pinging:
            flood(pinging, ping() * 21)
            assert gone(pinging) == CALM
        with stage.client("tight") as asking:
            for stream in range(1, 15, 2):
                asking.request(stream)
            assert [asking.head(stream).get(b":status") for stream in range(1, 15, 2)] == [b"200"] * 7
            assert asking.goaway().code == 0


PROVOCATIONS = [
    ("window-update-of-zero", window_update(1, 0)),
    ("window-overflow", window_update(1, 2**31 - 1)),
    ("data-after-end", data(1, b"x")),
    ("priority-size", raw_frame(PRIORITY, 0, 1, b"1234")),
]


@pytest.mark.parametrize("sent", [case[1] for case in PROVOCATIONS], ids=[case[0] for case in PROVOCATIONS])
def test_h2_made_you_reset_is_in_the_same_budget(stage: Stage, sent: bytes) -> None:
    """H2: CVE-2025-8671: streams that hostmesh has to reset for the caller's errors count as the caller's resets."""
    with attacked(stage, "limit-resets"), stage.client() as client:
        for stream in range(1, 1001, 2):
            provocation = sent[:5] + stream.to_bytes(4, "big") + sent[9:]
            flood(client, client.peer.headers(stream, get(b"/hang")) + provocation)

        assert gone(client) == CALM


# -- H3, H4, H5: header blocks ----------------------------------------------------------------------------------------


def test_h3_a_continuation_flood_ends_the_connection(stage: Stage) -> None:
    """H3: CVE-2024-27316: the ninth CONTINUATION frame."""
    first = len(stage.endpoint.requests)
    with attacked(stage, "limit-header-bytes"), stage.client() as client:
        flood(client, headers(1, block(get(b"/flood")), flags=0), *[continuation(1, b"")] * 10_000)

        assert gone(client) == CALM

    assert [r for r in stage.reached(first) if r.target == "/flood"] == []


def test_h3_a_block_of_more_than_16_kib_ends_the_connection(stage: Stage) -> None:
    """H3: encoded octets are bounded whatever frames they come in."""
    with attacked(stage, "limit-header-bytes"), stage.client() as client:
        flood(client, headers(1, bytes(16384), flags=0), continuation(1, b"x"))

        assert gone(client) == CALM


def test_h3_a_block_that_does_not_end_is_timed(stage: Stage) -> None:
    """H3: the time runs from the first frame of the block; a frame now and then does not extend it."""
    with attacked(stage, "limit-head-time", "short"), stage.client("short") as client:
        began = time.monotonic()
        client.send(headers(1, block(get()), flags=0))
        client.sock.settimeout(0.15)
        for _ in range(6):
            with contextlib.suppress(TimeoutError):
                client.read()
            if client.closed:
                break
            flood(client, continuation(1, b""))
        client.sock.settimeout(10)

        assert gone(client) == CALM
        assert time.monotonic() - began < 3


def bomb(repeats: int = 20) -> bytes:
    """A block that decodes to ``repeats`` times 4 KB."""
    return block(get()) + b"\x40" + literal(b"x-bomb", b"b" * 4000)[1:] + b"\xbe" * repeats


def test_h4_an_hpack_bomb_is_answered_431_and_the_connection_closed(stage: Stage) -> None:
    """H4: CVE-2016-6581: 431 with the reason, then GOAWAY and the end."""
    with attacked(stage, "limit-header-bytes"), stage.client() as client:
        flood(client, headers(1, bomb(12_000)))
        answer = client.head(1)

        assert (answer.get(b":status"), (answer.get(b"l5d-err") or b"").split(b"%3A")[0]) == (
            b"431",
            b"limit-header-bytes",
        )
        assert gone(client) == CALM


def test_h5_too_many_fields_are_answered_431(stage: Stage) -> None:
    """H5: the number of fields is bounded, cookie crumbs included; the connection goes on."""
    with attacked(stage, "limit-header-count"), stage.client() as client:
        client.request(1, [*get(), *[(b"a", b"")] * MANY_FIELDS])
        client.request(3, [*get(), *[(b"cookie", b"a=b")] * MANY_FIELDS])
        client.request(5)

        assert [client.head(stream).get(b":status") for stream in (1, 3, 5)] == [b"431", b"431", b"200"]


def test_h5_small_fields_on_many_stalled_streams_pin_little_memory(stage: Stage) -> None:
    """H5: CVE-2026-49975: ten connections, a hundred streams each, 120 tiny indexed fields each, no window.

    Some 35 KB for each stream, its connection to the endpoint included.
    """
    with attacked(stage), ExitStack() as stack:
        before = stage.mesh.resident_bytes()
        fields = block(get(b"/big")) + b"\x40\x01a\x01b" + b"\xbe" * 119
        bombers = [stack.enter_context(stage.client(start=False)) for _ in range(10)]
        for bomber in bombers:
            greeting = settings((INITIAL_WINDOW_SIZE, 0))
            flood(bomber, PREFACE, greeting, *[headers(stream, fields) for stream in range(1, 201, 2)])
        for bomber in bombers:
            bomber.head(1)
        grown = stage.mesh.resident_bytes() - before

    assert grown < 80_000_000


def test_h5_streams_over_the_announced_limit_are_refused(stage: Stage) -> None:
    """H5: the 101st open stream gets REFUSED_STREAM, the others are served."""
    with attacked(stage), stage.client() as client:
        for stream in range(1, 207, 2):
            client.request(stream, get(b"/hang"))
        refused = {client.kind(RST_STREAM, stream).code for stream in (201, 203, 205)}
        stage.gate.set()

        assert refused == {REFUSED_STREAM}
        assert {client.head(stream).get(b":status") for stream in range(1, 201, 2)} == {b"200"}


# -- H6, H7 -----------------------------------------------------------------------------------------------------------

FLOODS = [
    ("settings", settings()),
    ("settings-with-many-entries", settings(*[(0x1000 + number, 1) for number in range(2000)])),
    ("ping", ping()),
    ("priority", raw_frame(PRIORITY, 0, 1, bytes(5))),
    ("empty-data", data(1, b"")),
    ("window-update", window_update(0, 1)),
    ("rst-of-closed", rst(3)),
    ("unknown-type", raw_frame(0xFB, 0, 0, b"x")),
]


@pytest.mark.parametrize("sent", [case[1] for case in FLOODS], ids=[case[0] for case in FLOODS])
def test_h6_floods_of_control_frames_end_the_connection(stage: Stage, sent: bytes) -> None:
    """H6: CVE-2019-9512 to 9518: over 1,000 frames that carry nothing; read or unread, nothing piles up."""
    before = stage.mesh.resident_bytes()
    with attacked(stage, "limit-control-frames"), stage.client() as client:
        flood(
            client, client.peer.headers(1, POST, end=False), client.peer.headers(3, POST, end=False), rst(3)
        )
        for _ in range(20):
            flood(client, sent * 100)

        assert gone(client) == CALM

    assert stage.mesh.resident_bytes() - before < 30_000_000


def test_h7_a_closed_window_stops_one_stream_only(stage: Stage) -> None:
    """H7: 20 MB for a caller that grants nothing: the endpoint is not read further, other streams go on."""
    with attacked(stage), stage.client(start=False) as client:
        before = stage.mesh.resident_bytes()
        client.send(PREFACE, settings((INITIAL_WINDOW_SIZE, 0)))
        client.request(1, get(b"/big"))
        client.head(1)
        for stream in range(3, 43, 2):
            client.request(stream)
            client.send(window_update(stream, 100))
            client.ended(stream)
        grown = stage.mesh.resident_bytes() - before
        waiting = stage.mesh.metrics()[f"rt/out/server/127.0.0.1/{stage.mesh.port}/buffered_bytes"]

        assert 0 < waiting <= 256 * 1024
        assert client.body(1) == b""
        assert {client.body(stream) for stream in range(3, 43, 2)} == {b"fine"}

    assert grown < 8_000_000


def test_h7_windows_of_one_octet_are_served_and_nothing_piles_up(stage: Stage) -> None:
    """H7: CVE-2019-9511: a body in pieces of one octet, as long as the caller pays for each."""
    with attacked(stage), stage.client(start=False) as client:
        client.send(PREFACE, settings((INITIAL_WINDOW_SIZE, 1)))
        client.request(1, get(b"/big"))
        for _ in range(300):
            client.send(window_update(1, 1))
        client.until(lambda each: len(client.body(1)) >= 300)

        assert len(client.body(1)) <= 301


def test_h7_more_than_the_window_ends_the_connection(stage: Stage) -> None:
    """H7: a caller that ignores windows is not buffered for."""
    with attacked(stage, "bad-request"), stage.client() as client:
        flood(client, client.peer.headers(1, get(b"/hang", method=b"POST"), end=False))
        for _ in range(40):
            flood(client, data(1, bytes(16384)))

        assert gone(client) in (FLOW_CONTROL_ERROR, PROTOCOL_ERROR)


# -- H8, H9 -----------------------------------------------------------------------------------------------------------


def test_h8_reused_and_falling_stream_ids_end_the_connection(stage: Stage) -> None:
    """H8: ids must grow; an even one is not the caller's to open."""
    codes = []
    with attacked(stage):
        for second in (1, 3, 2):
            with stage.client() as client:
                client.request(5)
                client.ended(5)
                flood(client, headers(second, block(get())))
                codes.append(gone(client))

    assert codes == [PROTOCOL_ERROR] * 3


def test_h8_huge_stream_ids_are_served(stage: Stage) -> None:
    """H8: the largest id is the last that can be used on its connection."""
    with attacked(stage), stage.client() as client:
        client.request(2**31 - 1)
        answer = client.ended(2**31 - 1)
        flood(client, headers(1, block(get())))

        assert answer.stream == 2**31 - 1
        assert gone(client) == PROTOCOL_ERROR


def ask_many(client: RawH2Client, number: int) -> None:
    """So many requests, a hundred at a time, on the streams after those there were; keeps the GOAWAYs only."""
    for _ in range(number // 100):
        client.opened += 200
        streams = range(client.opened - 199, client.opened, 2)
        client.send(*[client.peer.headers(stream, get()) for stream in streams])
        for stream in streams:
            client.ended(stream)
        statuses = [each.get(b":status") for each in client.frames if each.kind == HEADERS]
        assert statuses == [b"200"] * 100
        client.frames = [each for each in client.frames if each.kind == GOAWAY]


def test_h8_a_connection_ends_gracefully_after_its_streams(stage: Stage) -> None:
    """H8: GOAWAY without an error, which refuses nothing yet; every request before and after it is answered."""
    with attacked(stage), stage.client("bounded") as client:
        ask_many(client, 1_900)
        early = list(client.frames)
        ask_many(client, 100)
        notice = client.goaway()

        assert early == []
        assert (notice.code, notice.last) == (0, 2**31 - 1)


def test_h9_the_memory_of_closed_streams_is_flat(stage: Stage) -> None:
    """H9: a connection holds nothing of streams that have ended."""
    with attacked(stage), stage.client() as client:
        ask_many(client, 4_000)
        before = stage.mesh.resident_bytes()
        ask_many(client, 8_000)
        grown = stage.mesh.resident_bytes() - before

    assert grown < 2_000_000


# -- H10: endpoints ---------------------------------------------------------------------------------------------------


def well(peer: RawPeer, head: RawFrame) -> bytes:
    return peer.headers(head.stream, OK)


HOSTILE = [
    ("push-promise", raw_frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + block(get())), PROTOCOL_ERROR),
    ("continuation-flood", headers(1, b"", flags=0) + continuation(1, b"") * 10, CALM),
    ("ping-flood", ping() * 1500, CALM),
    ("settings-flood", settings() * 1500, CALM),
    ("hpack-bomb", headers(1, block(OK) + b"\x40" + literal(b"b", b"b" * 4000)[1:] + b"\xbe" * 20), CALM),
    ("frame-too-long", raw_frame(DATA, 0, 1, b"", size=16385), 6),
    ("headers-on-a-stream-of-its-own", headers(2, block(OK)), PROTOCOL_ERROR),
    ("goaway-flood", goaway(1) * 1500, CALM),
]


@pytest.mark.parametrize(("sent", "code"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_h10_hostile_endpoints_lose_their_connection(stage: Stage, sent: bytes, code: int) -> None:
    """H10: the budgets hold towards endpoints, push is refused; the caller gets 502 and other names are served."""
    with attacked(stage), RawH2Endpoint(lambda _peer, _head: sent) as bad:
        name = stage.named(bad)
        with stage.client("h2") as client:
            client.request(1, get(authority=name.encode(), method=b"POST"))

            assert client.head(1).get(b":status") == b"502"
        assert bad.wait_frame(lambda each: each.kind == GOAWAY).code == code


MALFORMED_ANSWERS = [
    ("F17-transfer-encoding", block([*OK, (b"transfer-encoding", b"chunked")])),
    ("F17-connection", block([*OK, (b"connection", b"close")])),
    ("F15-crlf-in-value", block([*OK, (b"x", b"a\r\nSet-Cookie: evil=1")])),
    ("F16-length-and-no-body", block([*OK, (b"content-length", b"5")])),
    ("H5-too-many-fields", block([*OK, *[(b"a", b"")] * MANY_FIELDS])),
]


@pytest.mark.parametrize(
    "encoded", [case[1] for case in MALFORMED_ANSWERS], ids=[case[0] for case in MALFORMED_ANSWERS]
)
def test_h10_malformed_answers_are_the_endpoints_fault(stage: Stage, encoded: bytes) -> None:
    """H10, F15-F17: 502 for callers of both versions; the stream is reset and its connection goes on."""

    def behave(peer: RawPeer, head: RawFrame) -> bytes:
        return well(peer, head) if (b":path", b"/good") in head.fields else headers(head.stream, encoded)

    with attacked(stage), RawH2Endpoint(behave) as bad:
        name = stage.named(bad)
        statuses = [stage.mesh.send("POST", "/", host=name, port="h2").status]
        with stage.client("h2") as client:
            for stream, path in ((1, b"/"), (3, b"/good")):
                client.request(stream, get(path, authority=name.encode(), method=b"POST"))
                statuses.append(int(client.head(stream).get(b":status") or b"0"))
        resets = [each for _number, each in bad.frames if each.kind == RST_STREAM]

        assert statuses == [502, 502, 200]
        assert len(resets) == 2
        assert bad.connections == 1


def test_h10_budgets_of_endpoints_are_what_the_file_says(stage: Stage) -> None:
    """H10, H5: ``h2Budgets`` of a client replaces the defaults: 20 fields of an answer, not 21."""

    def behave(peer: RawPeer, head: RawFrame) -> bytes:
        more = 19 if (b":path", b"/20") in head.fields else 20
        return peer.headers(head.stream, [*OK, *[(b"a", b"")] * more])

    with attacked(stage), RawH2Endpoint(behave) as bad, stage.client("h2") as client:
        authority = stage.named(bad).encode()
        for stream, path in ((1, b"/20"), (3, b"/21")):
            client.request(stream, get(path, authority=authority, method=b"POST"))

        assert [client.head(stream).get(b":status") for stream in (1, 3)] == [b"200", b"502"]


def test_h10_an_answer_that_is_too_short_never_looks_complete(stage: Stage) -> None:
    """H10, F16, F14: after a body shorter than declared an HTTP/2 caller sees a reset, an HTTP/1.1 caller a cut."""

    def behave(peer: RawPeer, head: RawFrame) -> bytes:
        declared = [*OK, (b"content-length", b"5")]
        return peer.headers(head.stream, declared, end=False) + data(head.stream, b"1234")

    with attacked(stage), RawH2Endpoint(behave) as bad:
        name = stage.named(bad)
        with stage.client("h2") as client:
            client.request(1, get(authority=name.encode(), method=b"POST"))
            client.kind(DATA, 1)
            bad.send(data(1, b"", end=True))
            ended = client.ended(1)
        with stage.mesh.client("h2") as old:
            old.send(f"POST / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            while b"1234" not in old.input.buffer:
                assert old.input.more()
            bad.send(data(3, b"", end=True))
            received = old.read_until_close()

    assert ended.kind == RST_STREAM
    assert received.endswith(b"1234")


# -- H11, H12 ---------------------------------------------------------------------------------------------------------


def test_h11_a_body_that_does_not_come_is_timed(stage: Stage) -> None:
    """H11: a stream without END_STREAM on which nothing comes is answered 408 and reset."""
    with attacked(stage, "limit-body-time", "short"), stage.client("short") as client:
        client.request(1, get(b"/post", method=b"POST"), end=False)
        client.send(data(1, b"half"))

        assert client.head(1).get(b":status") == b"408"


def test_h11_an_idle_connection_is_told_goaway(stage: Stage) -> None:
    """H11: without a stream for ``idleTimeMs``: GOAWAY without an error, then the end."""
    with attacked(stage), stage.client("idle") as client:
        client.request(1)
        client.ended(1)
        notice = client.goaway()
        pinged = client.until(lambda each: each.kind == 6 and not each.end)
        client.send(ping(pinged.payload, flags=1))
        client.wait_closed()

        assert notice.code == 0


def test_h12_mixed_ends_of_streams_leave_nothing(stage: Stage) -> None:
    """H12: answered, reset early and late, half sent, left with the connection: every counter returns to zero."""
    with attacked(stage):
        for number in range(24):
            with stage.client() as client:
                # What the large answers use before they are reset must not be what stream 1 waits for.
                client.send(window_update(0, 2**30))
                for stream in range(1, 121, 6):
                    client.request(stream, get(b"/post", method=b"POST"), end=False)
                    client.request(stream + 2, get(b"/hang" if number % 2 else b"/"))
                    client.request(stream + 4, get(b"/big"))
                    client.send(data(stream, b"half"), rst(stream + 4))
                    if stream % 4 == 1:
                        client.send(data(stream, b"", end=True))
                    if number % 3 == 0:
                        client.send(rst(stream + 2))
                if number % 4 == 0:
                    client.ended(1)
                if number % 4 == 1:
                    client.send(goaway(0))


# -- F15-F19 ----------------------------------------------------------------------------------------------------------

SPLITS = [
    ("F15-crlf-in-value", [*get(b"/split"), (b"x", b"a\r\nevil: 1")]),
    ("F15-request-in-path", get(b"/split HTTP/1.1\r\nHost: web\r\n\r\nGET /evil")),
    ("F15-crlf-in-method", get(b"/split", method=b"GET /evil HTTP/1.1\r\nx:")),
    ("F15-crlf-in-authority", get(b"/split", authority=b"web\r\nx: y")),
    ("F15-lf-in-name", [*get(b"/split"), (b"x\ny", b"1")]),
    ("F15-colon-in-name", [*get(b"/split"), (b"x:y", b"1")]),
    ("F15-nul-in-value", [*get(b"/split"), (b"x", b"a\0b")]),
    ("F15-upper-case-name", [*get(b"/split"), (b"X-Up", b"1")]),
    ("F16-length-and-no-body", [*get(b"/split"), (b"content-length", b"5")]),
    ("F17-transfer-encoding", [*get(b"/split"), (b"transfer-encoding", b"chunked")]),
    ("F17-connection", [*get(b"/split"), (b"connection", b"x")]),
    ("F17-te", [*get(b"/split"), (b"te", b"gzip")]),
    ("F17-upgrade", [*get(b"/split"), (b"upgrade", b"websocket")]),
]


@pytest.mark.parametrize("fields", [case[1] for case in SPLITS], ids=[case[0] for case in SPLITS])
def test_malformed_requests_reach_nobody(stage: Stage, fields: Fields) -> None:
    """F15, F16, F17: the stream is reset, nothing reaches the endpoint, and the connection goes on."""
    first = len(stage.endpoint.requests)
    with attacked(stage), stage.client() as client:
        client.send(headers(1, block(fields)))
        client.request(3)

        assert client.kind(RST_STREAM, 1).code == PROTOCOL_ERROR
        assert client.head(3).get(b":status") == b"200"

    assert [r.target for r in stage.reached(first) if "split" in r.target or "evil" in r.target] == []


@pytest.mark.parametrize("body", [b"1234", b"123456"], ids=["too-short", "too-long"])
def test_f16_a_body_unlike_its_length_is_never_a_complete_request(stage: Stage, body: bytes) -> None:
    """F16: the stream is reset; the endpoint's request, if it began, is not completed."""
    first = len(stage.endpoint.requests)
    with attacked(stage), stage.client() as client:
        client.request(1, [*get(b"/post-unlike", method=b"POST"), (b"content-length", b"5")], end=False)
        client.send(data(1, body, end=True))

        assert client.kind(RST_STREAM, 1).code == PROTOCOL_ERROR

    assert [r for r in stage.reached(first) if r.target == "/post-unlike" and r.complete] == []


def test_f18_one_host_is_what_everybody_sees(stage: Stage) -> None:
    """F18: Host unlike :authority, and two Hosts, are 400; Host alone is what the endpoint gets."""
    with attacked(stage, "bad-request"), stage.client() as client:
        client.request(1, [*get(), (b"host", b"other")])
        client.request(3, [*get()[:3], (b"host", b"web"), (b"host", b"web")])
        client.request(5, [*get(b"/alone")[:3], (b"host", b"web")])

        assert [client.head(stream).get(b":status") for stream in (1, 3, 5)] == [b"400", b"400", b"200"]

    alone = next(r for r in stage.endpoint.requests if r.target == "/alone")
    assert alone.get_all("host") == ["web"]


def test_f19_trailers_reach_an_endpoint_as_trailers_without_those_that_smuggle(stage: Stage) -> None:
    """F19: after a streamed body only harmless trailers follow, and none becomes a header."""
    first = len(stage.endpoint.requests)
    trailers = [(b"x-sum", b"1"), (b"content-length", b"9"), (b"host", b"evil"), (b"l5d-dtab", b"/a=>/b")]
    trailers += [(b"authorization", b"x"), (b"cookie", b"x"), (b"x-forwarded-for", b"x")]
    with attacked(stage), stage.client() as client:
        client.request(1, get(b"/post-trailers", method=b"POST"), end=False)
        client.send(data(1, b"body"), client.peer.headers(1, trailers))

        assert client.head(1).get(b":status") == b"200"

    received = next(r for r in stage.reached(first) if r.target == "/post-trailers")
    assert (received.trailers, received.body) == ([("x-sum", "1")], b"body")
    assert received.get("authorization") is None
