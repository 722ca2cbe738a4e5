"""Handshakes that fail and handshakes that stall, by the thousand, while others want to be served.

``python -m tests.wire.tls_flood`` has 100,000 fail and 1,000 stall, and says what that cost and what was left of it;
tests/wire/test_wire_tls_flood.py does the same with fewer.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import select
import socket
import ssl
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from attrs import define, field, frozen

from tests.tls_files import TlsFiles
from tests.wire.endpoint import EndpointServer, linger_zero
from tests.wire.harness import compose
from tests.wire.tls_peers import NAME, TlsClient, config, server_tls, tls_mesh

THREADS = 6
SOURCES = 200
"""Addresses to come from: a closed connection keeps its port for a minute."""


class Attackers:
    """The ways in which a handshake fails. Each makes one connection and returns when hostmesh has ended it."""

    def __init__(self, files: TlsFiles, port: int) -> None:
        self.port = port
        self.numbers = itertools.count()
        self.nameless = files.client_context()
        self.stranger = files.client_context(files.other)
        self.distrusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.distrusting.load_verify_locations(files.other_ca)
        self.hello = first_flight(files.client_context())
        ciphers = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ciphers.maximum_version = ssl.TLSVersion.TLSv1_2
        ciphers.set_ciphers("AES128-SHA:@SECLEVEL=0")
        self.no_cipher = first_flight(ciphers)
        self.kinds: dict[str, Callable[[], None]] = {
            "shows no certificate": lambda: self.handshake(self.nameless),
            "shows one of another CA": lambda: self.handshake(self.stranger),
            "distrusts ours": lambda: self.handshake(self.distrusting),
            "no cipher in common": lambda: self.say(self.no_cipher),
            "another message": lambda: self.say(self.hello[:5] + b"\x14" + self.hello[6:]),
            "half a hello": lambda: self.say(self.hello[:100], end=True),
            "hello, then nonsense": lambda: self.say(self.hello + b"\x17\x03\x03\x00\x20" + b"x" * 32),
            "hello, then reset": lambda: self.say(self.hello, reset=True),
            "plain HTTP": lambda: self.say(compose()),
            "bytes": lambda: self.say(b"\x00\x01\x02\x03" * 20, end=True),
            "nothing": lambda: self.say(b"", end=True),
        }

    def dial(self) -> socket.socket:
        source = f"127.3.0.{next(self.numbers) % SOURCES + 1}"
        return socket.create_connection(("127.0.0.1", self.port), 30, source_address=(source, 0))

    def handshake(self, context: ssl.SSLContext) -> None:
        with self.dial() as sock, contextlib.suppress(OSError):
            # With TLS 1.3 the server's refusal comes after the client's end of the handshake.
            with context.wrap_socket(sock, server_hostname=NAME) as secure:
                secure.recv(1)
            raise AssertionError("a handshake that must fail has not")

    def say(self, data: bytes, *, end: bool = False, reset: bool = False) -> None:
        with self.dial() as sock, contextlib.suppress(ConnectionError):
            sock.sendall(data)
            if reset:
                # What the server says first is on its way: the reset meets a handshake in progress.
                sock.recv(1)
                linger_zero(sock)
                return
            if end:
                sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass


def first_flight(context: ssl.SSLContext) -> bytes:
    """The ClientHello that a context sends."""
    outgoing = ssl.MemoryBIO()
    engine = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=NAME)
    with contextlib.suppress(ssl.SSLWantReadError):
        engine.do_handshake()
    return outgoing.read()


@define
class Others:
    """Callers that do no wrong: one that stays, and new ones, each with a full handshake. Enter it to have them."""

    flood: Flood
    kept: list[float] = field(factory=list)
    """Seconds of each request on the connection that stays."""
    fresh: list[float] = field(factory=list)
    """Seconds of each new connection, with its request."""
    failures: list[str] = field(factory=list)
    stop: threading.Event = field(factory=threading.Event)
    thread: threading.Thread = field(init=False)

    def __enter__(self) -> Others:
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def run(self) -> None:
        context = self.flood.files.client_context(self.flood.files.client)
        port = self.flood.mesh.port
        try:
            with TlsClient(port, context) as staying:
                for turn in itertools.count():
                    began = time.perf_counter()
                    assert staying.request().status == 200
                    self.kept.append(time.perf_counter() - began)
                    if turn % 5 == 0:
                        began = time.perf_counter()
                        with TlsClient(port, context) as client:
                            assert client.request().status == 200
                        self.fresh.append(time.perf_counter() - began)
                    if self.stop.wait(0.01):
                        return
        except (OSError, AssertionError) as error:
            self.failures.append(repr(error))

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(60)

    def __str__(self) -> str:
        return f"{spread(self.kept)} on a connection that stays, {spread(self.fresh)} for a new one"


def spread(seconds: list[float]) -> str:
    """Median, 99th percentile and worst, in milliseconds."""
    if len(seconds) < 2:
        return "too few"
    p99 = statistics.quantiles(seconds, n=100, method="inclusive")[98]
    return f"{statistics.median(seconds) * 1e3:.1f}/{p99 * 1e3:.1f}/{max(seconds) * 1e3:.1f} ms (p50/p99/max)"


@frozen(kw_only=True)
class Footprint:
    """What the process holds."""

    resident_kb: int
    descriptors: int
    in_progress: float
    """Handshakes."""

    def __str__(self) -> str:
        return f"{self.resident_kb:,} KB, {self.descriptors} descriptors, {self.in_progress:g} handshakes in progress"


class Flood:
    """A hostmesh that demands certificates, and those who have none. A context manager."""

    def __init__(self, folder: Path) -> None:
        (folder / "tls").mkdir()
        self.files = TlsFiles(folder / "tls")
        self.endpoint = EndpointServer(keep_bodies=False)
        self.mesh = tls_mesh(folder, config(server=server_tls(self.files, callers=True)), self.endpoint)
        self.attackers = Attackers(self.files, self.mesh.port)

    def __enter__(self) -> Flood:
        return self

    def __exit__(self, *_: object) -> None:
        self.mesh.close()
        self.endpoint.stop()

    def metric(self, name: str) -> float:
        return self.mesh.metrics().get(f"rt/r/server/127.0.0.1/{self.mesh.port}/{name}", 0)

    def failures(self) -> dict[str, float]:
        """How many handshakes have failed, by reason."""
        start = f"rt/r/server/127.0.0.1/{self.mesh.port}/failures/"
        return {
            name.removeprefix(start): value
            for name, value in self.mesh.metrics().items()
            if name.startswith(start + "tls-")
        }

    def wait_in_progress(self, count: int) -> None:
        """Wait until so many handshakes are in progress, a few of them perhaps somebody else's."""
        self.mesh.wait(lambda: self.metric("tls/in_progress") >= count - 5, f"{count} handshakes in progress")

    def footprint(self) -> Footprint:
        """Once nothing is in progress any more."""
        self.mesh.wait(lambda: self.metric("tls/in_progress") == 0, "no handshake in progress", within=30)
        return Footprint(
            resident_kb=self.mesh.resident_bytes() // 1024,
            descriptors=self.mesh.open_descriptors(),
            in_progress=self.metric("tls/in_progress"),
        )

    def fail(self, count: int) -> Counter[str]:
        """So many handshakes that fail, of all kinds in turn; how many of each."""
        kinds = list(self.attackers.kinds.items())
        done: Counter[str] = Counter()
        numbers = iter(range(count))
        lock = threading.Lock()
        broken: list[BaseException] = []

        def attack() -> None:
            try:
                while not broken:
                    with lock:
                        number = next(numbers, None)
                        if number is None:
                            return
                        name, attacker = kinds[number % len(kinds)]
                        done[name] += 1
                    attacker()
            except BaseException as error:
                broken.append(error)

        threads = [threading.Thread(target=attack) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if broken:
            raise broken[0]
        return done

    @contextlib.contextmanager
    def stalled(self, count: int) -> Iterator[list[socket.socket]]:
        """So many connections that begin a handshake and then say nothing: a third of them not one byte, a third half
        a ClientHello, a third a whole one."""
        hello = self.attackers.hello
        sayings = (b"", hello[: len(hello) // 2], hello)
        with contextlib.ExitStack() as stack:
            found = []
            for number in range(count):
                sock = stack.enter_context(self.attackers.dial())
                sock.sendall(sayings[number % 3])
                found.append(sock)
            yield found


def wait_closed(sockets: list[socket.socket], within: float) -> tuple[int, float]:
    """How many of them the other side has ended, and when the last one was, in seconds from now."""
    began = time.monotonic()
    last = 0.0
    poller = select.epoll()
    waiting = {sock.fileno(): sock for sock in sockets}
    for number, sock in waiting.items():
        sock.setblocking(False)
        poller.register(number, select.EPOLLIN | select.EPOLLRDHUP)
    while waiting and time.monotonic() - began < within:
        for number, _ in poller.poll(1):
            sock = waiting[number]
            try:
                if sock.recv(65536):
                    continue
            except BlockingIOError:
                continue
            except ConnectionError:
                pass
            poller.unregister(number)
            del waiting[number]
            last = time.monotonic() - began
    poller.close()
    return len(sockets) - len(waiting), last


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.wire.tls_flood")
    parser.add_argument("--failed", type=int, default=100_000)
    parser.add_argument("--stalled", type=int, default=1000)
    parser.add_argument("--waves", type=int, default=3, help="of stalled ones, one after the other")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Flood(Path(folder)) as flood:
        with Others(flood) as calm:
            time.sleep(3)  # noqa: TID251  how long the others are watched without a flood
        print(f"others in peace: {calm}")
        flood.fail(5000)
        before = flood.footprint()
        print(f"after 5,000 failed handshakes: {before}")
        began = time.monotonic()
        with Others(flood) as others:
            done = flood.fail(options.failed)
        took = time.monotonic() - began
        after = flood.footprint()
        print(f"after {options.failed:,} more in {took:.0f} s ({options.failed / took:.0f}/s): {after}")
        print(f"others meanwhile: {others}, failures {others.failures}")
        print("kinds: " + ", ".join(f"{name} {count:,}" for name, count in done.items()))
        print("reasons: " + ", ".join(f"{name} {count:,.0f}" for name, count in flood.failures().items()))
        for _ in range(options.waves):
            with Others(flood) as others, flood.stalled(options.stalled) as sockets:
                flood.wait_in_progress(min(options.stalled, 1000))
                closed, last = wait_closed(sockets, 30)
            print(
                f"{closed:,} of {options.stalled:,} stalled were ended, the last after {last:.1f} s: ", end=""
            )
            print(flood.footprint())
            print(f"others meanwhile: {others}, failures {others.failures}")
        print(f"dropped for newer ones: {flood.metric('tls/dropped'):g}")
        print(f"bugs: {flood.mesh.metrics()['process/bugs']:g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
