"""A scripted HTTP/1.1 endpoint on real sockets: what it answers is the test's choice, what it received is
on record.

It deliberately uses no HTTP library, so that a test can look at the very bytes that reached an endpoint and
can answer with bytes that no library would send. One thread per connection; the threads end when the server
stops.

``python -m tests.wire.endpoint NAME PORT RECORD`` runs one in a process of its own (see
:class:`EndpointProcess`), for tests that kill an endpoint with SIGKILL and then ask what it had received.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

ROOT = Path(__file__).resolve().parents[2]
HEAD_END = b"\r\n\r\n"
RECV_BYTES = 1 << 18


class Malformed(Exception):
    """Bytes that are not a message as RFC 9112 writes it; the message says which."""


@frozen(kw_only=True)
class Answer:
    """One response, and how to misbehave while giving it."""

    status: int = 200
    reason: str = "OK"
    fields: tuple[tuple[str, str], ...] = ()
    body: bytes | Iterable[bytes] | None = None
    """None: a JSON object with the endpoint's name and the request as it arrived. An iterable streams."""
    framing: str = "length"
    """``length``, ``chunked``, ``close`` (body ends with the connection) or ``none`` (204, 304)."""
    length: int | None = None
    """The Content-Length of a streamed body, or a wrong one."""
    trailers: tuple[tuple[str, str], ...] = ()
    informational: tuple[bytes, ...] = ()
    """Whole 1xx messages sent first, as bytes."""
    delay_s: float = 0.0
    """Between the end of the request and the first byte of the answer."""
    wait: threading.Event | None = None
    """The answer starts when the test sets it."""
    pause_before_body: threading.Event | None = None
    """The head leaves at once, the body when the test sets it."""
    raw: bytes | None = None
    """Send exactly this instead of a composed message."""
    cut_after: int | None = None
    """Close once that many bytes of the answer have left; 0 closes without an answer."""
    reset: bool = False
    """Close with RST instead of FIN."""
    close: bool = False
    """Close after this answer although the connection could stay."""
    early: bool = False
    """Answer as soon as the head is there, before the body is read."""
    read_body: bool = True
    """With ``early``: whether the body is read afterwards."""


@define(eq=False, kw_only=True)
class Received:
    """One request as it arrived."""

    method: str
    target: str
    version: str
    fields: list[tuple[str, str]]
    head: bytes
    """The exact bytes of the head, including the empty line."""
    connection: int
    """0 for the first connection that was accepted, and so on."""
    nth: int
    """0 for the first request of its connection."""
    at: float
    body: bytes = b""
    body_bytes: int = 0
    body_sha256: str = ""
    wire_body: bytes = b""
    """The body with its chunk framing."""
    trailers: list[tuple[str, str]] = field(factory=list)
    complete: bool = False

    def get(self, name: str) -> str | None:
        """The value of the first field of that name, in any case."""
        return next((value for key, value in self.fields if key.lower() == name.lower()), None)

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]


class Input:
    """A socket read in lines and counted bytes, keeping a copy of everything."""

    def __init__(self, peer: socket.socket, record: bytearray | None) -> None:
        self.peer = peer
        self.buffer = bytearray()
        self.record = record

    def more(self) -> bool:
        """Read once; False at the end of the stream."""
        data = self.peer.recv(RECV_BYTES)
        if self.record is not None:
            self.record += data
        self.buffer += data
        return bool(data)

    def until(self, mark: bytes) -> bytes | None:
        """Everything up to and including the mark, or None if the stream ends cleanly before any byte."""
        start = 0
        while (found := self.buffer.find(mark, start)) < 0:
            start = max(0, len(self.buffer) - len(mark) + 1)
            if not self.more():
                if self.buffer:
                    raise Malformed(f"stream ended before {mark!r}, after {bytes(self.buffer[-200:])!r}")
                return None
        taken = bytes(self.buffer[: found + len(mark)])
        del self.buffer[: found + len(mark)]
        return taken

    def pieces(self, count: int) -> Iterable[bytes]:
        """Exactly count bytes, as they come."""
        while count:
            if not self.buffer and not self.more():
                raise Malformed(f"stream ended {count} bytes before the end of the body")
            piece = bytes(self.buffer[:count])
            del self.buffer[: len(piece)]
            count -= len(piece)
            yield piece


def parse_fields(lines: list[bytes]) -> list[tuple[str, str]]:
    """Field lines without their CRLF; raises Malformed for folding, bare CR or LF, and space before the
    colon.
    """
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip() or b"\n" in line or b"\r" in line:
            raise Malformed(f"bad field line {line!r}")
        fields.append((name.decode("latin-1"), value.strip(b" \t").decode("latin-1")))
    return fields


def read_chunked(source: Input, sink: Callable[[bytes], None], framing: bytearray) -> list[tuple[str, str]]:
    """Feed the chunks to sink, keep the framing lines, return the trailers."""
    while True:
        line = source.until(b"\r\n")
        if line is None:
            raise Malformed("stream ended inside a chunked body")
        framing += line
        size = int(line.split(b";")[0].strip(), 16)
        if size == 0:
            break
        for piece in source.pieces(size):
            framing += piece
            sink(piece)
        end = b"".join(source.pieces(2))
        if end != b"\r\n":
            raise Malformed(f"chunk of {size} bytes followed by {end!r}")
        framing += end
    trailers = []
    while (line := source.until(b"\r\n")) not in (b"\r\n", None):
        framing += line or b""
        trailers.append((line or b"")[:-2])
    framing += line or b""
    return parse_fields(trailers)


class EndpointServer:
    """Listens from construction to :meth:`stop`; use it as a context manager.

    ``respond`` maps a request to its :class:`Answer`; ``script`` holds answers that are used up first, one
    each.
    ``requests`` grows as heads arrive, ``raw[n]`` is every byte received on connection n, ``connections``
    counts accepts. ``keep_bodies=False`` keeps only size and SHA-256 of bodies and no raw bytes: for
    gigabytes.
    """

    digest: Callable[[], Any] = staticmethod(hashlib.sha256)
    """What takes the digest of a body."""

    def __init__(
        self,
        name: str = "web-1",
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        respond: Callable[[Received], Answer] | None = None,
        keep_bodies: bool = True,
        receive_buffer: int | None = None,
        on_request: Callable[[Received], None] | None = None,
    ) -> None:
        self.name = name
        self.host = host
        self.respond = respond or (lambda _: Answer())
        self.keep_bodies = keep_bodies
        self.on_request = on_request
        self.script: deque[Answer] = deque()
        self.requests: list[Received] = []
        self.errors: list[str] = []
        self.raw: list[bytearray] = []
        self.closed: list[int] = []
        """Numbers of the connections that the other side closed or reset."""
        self.changed = threading.Condition()
        self.peers: dict[int, socket.socket] = {}
        self.threads: list[threading.Thread] = []
        self.receive_buffer = receive_buffer
        self.stopping = False
        self.port = port
        self.start()

    def start(self) -> None:
        """Listen (again) on the same port. Called by the constructor; call it after :meth:`stop` to come
        back.
        """
        self.stopping = False
        self.listener = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.receive_buffer:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        self.listener.bind((self.host, self.port))
        self.listener.listen(1024)
        self.port = self.listener.getsockname()[1]
        self._spawn(self._accept)

    def stop(self, *, reset: bool = False) -> None:
        """Close the listener and every connection, and join the threads. Idempotent."""
        with self.changed:
            self.stopping = True
            # shutdown wakes the thread blocked in accept or recv; close alone would leave it there
            with contextlib.suppress(OSError):
                self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            for peer in self.peers.values():
                if reset:
                    linger_zero(peer)
                with contextlib.suppress(OSError):
                    peer.shutdown(socket.SHUT_RDWR)
            self.changed.notify_all()
        for thread in self.threads:
            thread.join(10)
        self.threads.clear()

    def __enter__(self) -> EndpointServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def close_connections(self, *, reset: bool = False) -> None:
        """Close every open connection, keep listening: the keep-alive race, or a restart behind the same
        port.
        """
        with self.changed:
            for peer in self.peers.values():
                if reset:
                    linger_zero(peer)
                with contextlib.suppress(OSError):
                    peer.shutdown(socket.SHUT_RDWR)

    @property
    def connections(self) -> int:
        return len(self.raw)

    @property
    def open_connections(self) -> int:
        with self.changed:
            return len(self.peers)

    def wait_for(self, condition: Callable[[], bool], *, within: float = 10.0) -> None:
        """Wait until the condition, checked after every event of this server, holds; AssertionError if it
        never does.
        """
        with self.changed:
            if not self.changed.wait_for(condition, within):
                raise AssertionError(
                    f"{self.name}: not within {within} s; {len(self.requests)} requests, errors {self.errors}"
                )

    def wait_requests(self, count: int, *, within: float = 10.0) -> list[Received]:
        """Wait until count requests have arrived completely."""
        self.wait_for(lambda: sum(r.complete for r in self.requests) >= count, within=within)
        return self.requests

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            with self.changed:
                if self.stopping:
                    peer.close()
                    return
                number = len(self.raw)
                self.raw.append(bytearray())
                self.peers[number] = peer
                self.changed.notify_all()
            self._spawn(self._connection, number, peer)

    def _connection(self, number: int, peer: socket.socket) -> None:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        source = Input(peer, self.raw[number] if self.keep_bodies else None)
        try:
            nth = 0
            while self._exchange(number, nth, source):
                nth += 1
        except Malformed as error:
            self.errors.append(str(error))
        except OSError:
            pass  # reset by the other side: `closed` says so
        finally:
            with self.changed:
                self.peers.pop(number, None)
                self.closed.append(number)
                self.changed.notify_all()
            peer.close()

    def _exchange(self, number: int, nth: int, source: Input) -> bool:
        """One request and its answer; True if the connection goes on."""
        head = source.until(HEAD_END)
        if head is None:
            return False
        lines = head[:-4].split(b"\r\n")
        words = lines[0].split(b" ")
        if len(words) != 3:
            raise Malformed(f"bad request line {lines[0]!r}")
        request = Received(
            method=words[0].decode("latin-1"),
            target=words[1].decode("latin-1"),
            version=words[2].decode("latin-1"),
            fields=parse_fields(lines[1:]),
            head=head,
            connection=number,
            nth=nth,
            at=time.monotonic(),
        )
        if self.on_request:
            self.on_request(request)
        with self.changed:
            self.requests.append(request)
            answer = self.script.popleft() if self.script else None
            self.changed.notify_all()
        if answer is None:
            answer = self.respond(request)
        if not answer.early:
            self._read_body(request, source)
        alive = self._send(request, answer, source.peer)
        if answer.early and answer.read_body and alive:
            self._read_body(request, source)
        asked_to_close = "close" in (request.get("connection") or "").lower()
        return alive and not answer.close and not asked_to_close and request.version == "HTTP/1.1"

    def _read_body(self, request: Received, source: Input) -> None:
        digest = self.digest()
        parts: list[bytes] = []

        def sink(piece: bytes) -> None:
            digest.update(piece)
            request.body_bytes += len(piece)
            if self.keep_bodies:
                parts.append(piece)

        framing = bytearray()
        if "chunked" in (request.get("transfer-encoding") or ""):
            request.trailers = read_chunked(source, sink, framing)
        elif length := request.get("content-length"):
            for piece in source.pieces(int(length)):
                sink(piece)
        request.body = b"".join(parts)
        request.wire_body = bytes(framing) if self.keep_bodies and framing else request.body
        request.body_sha256 = digest.hexdigest()
        with self.changed:
            request.complete = True
            self.changed.notify_all()

    def describe(self, request: Received) -> bytes:
        """The default body: who answered and what it saw."""
        seen: dict[str, object] = {
            "name": self.name,
            "method": request.method,
            "target": request.target,
            "fields": request.fields,
            "body_bytes": request.body_bytes,
            "body_sha256": request.body_sha256,
            "trailers": request.trailers,
        }
        return json.dumps(seen).encode()

    def _send(self, request: Received, answer: Answer, peer: socket.socket) -> bool:
        if answer.wait is not None:
            answer.wait.wait(30)
        if answer.delay_s:
            with self.changed:  # waits for the delay, or for stop
                self.changed.wait_for(lambda: self.stopping, answer.delay_s)
        out = Output(peer, answer.cut_after)
        if answer.reset:
            linger_zero(peer)
        try:
            for message in answer.informational:
                out.write(message)
            if answer.raw is not None:
                out.write(answer.raw)
            else:
                self._compose(request, answer, out)
        except CutError:
            return False
        return not (answer.framing == "close" and answer.raw is None)

    def _compose(self, request: Received, answer: Answer, out: Output) -> None:
        body = self.describe(request) if answer.body is None else answer.body
        fields = list(answer.fields)
        if answer.body is None:
            fields.append(("Content-Type", "application/json"))
        length = answer.length
        if length is None and isinstance(body, bytes):
            length = len(body)
        if answer.framing == "length":
            fields.append(("Content-Length", str(length)))
        elif answer.framing == "chunked":
            fields.append(("Transfer-Encoding", "chunked"))
        if answer.close or answer.framing == "close":
            fields.append(("Connection", "close"))
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}"] + [f"{name}: {value}" for name, value in fields]
        head = "\r\n".join(lines).encode("latin-1") + HEAD_END
        no_body = request.method == "HEAD" or answer.framing == "none" or answer.status in (204, 304)
        pieces = [body] if isinstance(body, bytes) else body
        if answer.pause_before_body is not None:
            out.write(head)
            head = b""
            answer.pause_before_body.wait(30)
        if no_body:
            out.write(head)
            return
        for piece in pieces:
            data = b"%x\r\n%b\r\n" % (len(piece), piece) if answer.framing == "chunked" and piece else piece
            out.write(head + data)
            head = b""
        if answer.framing == "chunked":
            trailers = "".join(f"{name}: {value}\r\n" for name, value in answer.trailers).encode("latin-1")
            out.write(head + b"0\r\n" + trailers + b"\r\n")
        elif head:
            out.write(head)


class CutError(Exception):
    """The answer was cut where the test wanted it."""


class Output:
    """A socket that stops after a number of bytes."""

    def __init__(self, peer: socket.socket, left: int | None) -> None:
        self.peer = peer
        self.left = left

    def write(self, data: bytes) -> None:
        if self.left is None:
            self.peer.sendall(data)
            return
        self.peer.sendall(data[: self.left])
        self.left -= len(data)
        if self.left <= 0:
            raise CutError


def linger_zero(peer: socket.socket) -> None:
    """Make the next close send RST."""
    with contextlib.suppress(OSError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class EndpointProcess:
    """An :class:`EndpointServer` in its own process, so that it can be killed as a real one would be.

    Every request is written to ``record`` (one JSON object per line) before it is answered, so the record
    tells what was delivered even after SIGKILL; restarting appends to it.
    """

    def __init__(self, folder: Path, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.record = folder / f"{name}.requests"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.wire.endpoint", self.name, str(self.port), str(self.record)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        ready = self.process.stdout.readline()
        assert ready == b"ready\n", f"{self.name}: {ready!r}"

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(10)
        if self.process.stdout:
            self.process.stdout.close()

    def requests(self) -> list[dict[str, str]]:
        """What was delivered, in order: method, target, id (the field ``x-id``), body_bytes is not known
        yet.
        """
        if not self.record.exists():
            return []
        return [json.loads(line) for line in self.record.read_text().splitlines()]

    def __enter__(self) -> EndpointProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def main(name: str, port: str, record: str) -> None:
    log = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(request: Received) -> None:
        line = {"method": request.method, "target": request.target, "id": request.get("x-id") or ""}
        os.write(log, json.dumps(line).encode() + b"\n")

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with EndpointServer(name, port=int(port), on_request=note):
        print("ready", flush=True)
        stop.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
