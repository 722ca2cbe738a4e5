"""HTTP/2 by hand: frames as a test wants them, legal or not, and the peer's frames as they come.

Nothing here normalises, counts or remembers more than HPACK needs: a test says each octet that matters. The codec part
(:class:`RawPeer`) has no I/O and drives engines directly; :class:`RawH2Client` puts it on a real socket.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from hpack import Decoder, Encoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
NAMES = (
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
WITH_PRIORITY = 0x20

(
    HEADER_TABLE_SIZE,
    ENABLE_PUSH,
    MAX_CONCURRENT_STREAMS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
) = range(1, 7)
ENABLE_CONNECT_PROTOCOL = 8

Fields = Sequence[tuple[bytes, bytes]]


def raw_frame(kind: int, flags: int, stream: int, payload: bytes = b"", size: int | None = None) -> bytes:
    """One frame; ``size`` lies about the length of its payload."""
    length = len(payload) if size is None else size
    return length.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def settings(*entries: tuple[int, int], flags: int = 0) -> bytes:
    payload = b"".join(code.to_bytes(2, "big") + value.to_bytes(4, "big") for code, value in entries)
    return raw_frame(SETTINGS, flags, 0, payload)


SETTINGS_ACK = raw_frame(SETTINGS, ACK, 0)


def data(stream: int, payload: bytes, end: bool = False, padding: int | None = None) -> bytes:
    flags = END_STREAM if end else 0
    if padding is not None:
        return raw_frame(DATA, flags | PADDED, stream, bytes((padding,)) + payload + bytes(padding))
    return raw_frame(DATA, flags, stream, payload)


def rst(stream: int, code: int = 8) -> bytes:
    return raw_frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def window_update(stream: int, increment: int) -> bytes:
    return raw_frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def ping(payload: bytes = b"12345678", flags: int = 0) -> bytes:
    return raw_frame(PING, flags, 0, payload)


def goaway(last: int, code: int = 0, debug: bytes = b"") -> bytes:
    return raw_frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big") + debug)


def literal(name: bytes, value: bytes) -> bytes:
    """One field as HPACK literal without indexing: whatever octets a test likes, and no table touched."""
    return b"\x00" + _length(name) + name + _length(value) + value


def _length(text: bytes) -> bytes:
    size = len(text)
    if size < 127:
        return bytes((size,))
    size -= 127
    out = bytearray(b"\x7f")
    while size >= 128:
        out.append(size % 128 + 128)
        size //= 128
    out.append(size)
    return bytes(out)


def block(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A header block of literals."""
    return b"".join(literal(name, value) for name, value in fields)


def get(path: bytes = b"/", authority: bytes = b"web", method: bytes = b"GET") -> list[tuple[bytes, bytes]]:
    """The fields of a plain request."""
    return [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", authority)]


def headers(stream: int, encoded: bytes, end: bool = True, flags: int = END_HEADERS) -> bytes:
    """A HEADERS frame of an encoded block."""
    return raw_frame(HEADERS, flags | (END_STREAM if end else 0), stream, encoded)


def continuation(stream: int, encoded: bytes, last: bool = False) -> bytes:
    return raw_frame(CONTINUATION, END_HEADERS if last else 0, stream, encoded)


class RawFrame(NamedTuple):
    """One frame of the peer."""

    kind: int
    flags: int
    stream: int
    payload: bytes
    fields: tuple[tuple[bytes, bytes], ...] = ()
    """Of a HEADERS frame with END_HEADERS."""

    @property
    def end(self) -> bool:
        """END_STREAM (or ACK) is set."""
        return bool(self.flags & END_STREAM)

    @property
    def code(self) -> int:
        """Of RST_STREAM and GOAWAY."""
        return int.from_bytes(self.payload[4:8] if self.kind == GOAWAY else self.payload[:4], "big")

    @property
    def last(self) -> int:
        """Of GOAWAY."""
        return int.from_bytes(self.payload[:4], "big")

    def get(self, name: bytes) -> bytes | None:
        return next((value for known, value in self.fields if known == name), None)

    def __repr__(self) -> str:
        name = NAMES[self.kind] if self.kind < 10 else str(self.kind)
        return f"<{name} {self.flags:#x} on {self.stream}: {self.fields or self.payload[:40]!r}>"


class RawPeer:
    """Builds header blocks with a real HPACK table and reads frames. One per connection, either side."""

    def __init__(self) -> None:
        self.encoder = Encoder()
        self.decoder = Decoder(max_header_list_size=2**24)
        self._buffer = b""
        self._block = b""

    def headers(self, stream: int, fields: Fields, end: bool = True) -> bytes:
        return headers(stream, self.encoder.encode(fields), end)

    def read(self, received: bytes) -> list[RawFrame]:
        """The frames that these bytes complete; a preface in front is skipped."""
        self._buffer += received
        if self._buffer.startswith(PREFACE):
            self._buffer = self._buffer[len(PREFACE) :]
        found = []
        while len(self._buffer) >= 9:
            size = int.from_bytes(self._buffer[:3], "big")
            if len(self._buffer) < 9 + size:
                break
            kind, flags = self._buffer[3], self._buffer[4]
            stream = int.from_bytes(self._buffer[5:9], "big") & 0x7FFFFFFF
            payload = self._buffer[9 : 9 + size]
            self._buffer = self._buffer[9 + size :]
            fields: tuple[tuple[bytes, bytes], ...] = ()
            if kind in (HEADERS, CONTINUATION):
                self._block += payload
                if flags & END_HEADERS:
                    fields = tuple(
                        (bytes(n), bytes(v)) for n, v in self.decoder.decode(self._block, raw=True)
                    )
                    self._block = b""
            found.append(RawFrame(kind, flags, stream, payload, fields))
        return found


class RawH2Client:
    """A caller on a real socket that sends what it is told to.

    Reads are bounded by ``timeout`` seconds and raise TimeoutError; :meth:`close` (or ``with``) closes the socket.
    """

    def __init__(self, port: int, ip: str = "127.0.0.1", timeout: float = 10.0, start: bool = True) -> None:
        self.sock = socket.create_connection((ip, port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peer = RawPeer()
        self.frames: list[RawFrame] = []
        """All frames so far."""
        self.closed = False
        """The peer has ended the connection."""
        self.opened = 0
        """For a test that counts its streams."""
        if start:
            self.send(PREFACE, settings())

    def __enter__(self) -> RawH2Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def send(self, *parts: bytes) -> None:
        self.sock.sendall(b"".join(parts))

    def request(self, stream: int, fields: Fields | None = None, end: bool = True) -> None:
        self.send(self.peer.headers(stream, get() if fields is None else fields, end))

    def read(self) -> list[RawFrame]:
        """The frames of one read; none when the peer has ended."""
        try:
            received = self.sock.recv(65536)
        except ConnectionResetError:
            received = b""
        if not received:
            self.closed = True
        found = self.peer.read(received)
        self.frames += found
        return found

    def until(self, wanted: Callable[[RawFrame], bool]) -> RawFrame:
        """The first frame that is wanted, among those read before, too. Raises EOFError if the peer ends first."""
        looked = 0
        while True:
            for each in self.frames[looked:]:
                if wanted(each):
                    return each
            looked = len(self.frames)
            if self.closed:
                raise EOFError(f"the connection ended after {self.frames[-6:]}")
            self.read()

    def kind(self, kind: int, stream: int | None = None) -> RawFrame:
        """The first frame of this type (on this stream)."""
        return self.until(lambda each: each.kind == kind and stream in (None, each.stream))

    def goaway(self) -> RawFrame:
        return self.kind(GOAWAY)

    def ended(self, stream: int) -> RawFrame:
        """The frame that ended this stream: END_STREAM or RST_STREAM."""
        return self.until(
            lambda each: (
                each.stream == stream
                and (each.kind == RST_STREAM or (each.kind in (DATA, HEADERS) and each.end))
            )
        )

    def head(self, stream: int) -> RawFrame:
        """The final response head on this stream."""
        return self.until(
            lambda each: (
                each.stream == stream
                and each.kind in (HEADERS, CONTINUATION)
                and (each.get(b":status") or b"1") >= b"2"
            )
        )

    def body(self, stream: int) -> bytes:
        """What has been read of a stream's body."""
        return b"".join(each.payload for each in self.frames if each.kind == DATA and each.stream == stream)

    def wait_closed(self) -> None:
        """Read until the peer ends the connection."""
        while not self.closed:
            self.read()


class RawH2Endpoint:
    """An endpoint on a real socket that answers each request head with what ``behave`` returns.

    ``behave(peer, head)`` gets the connection's codec and the HEADERS frame; its bytes are sent. Listens from
    construction to :meth:`stop`; use it as a context manager. ``frames`` are all that came, with the number of their
    connection.
    """

    host = "127.0.0.1"

    def __init__(self, behave: Callable[[RawPeer, RawFrame], bytes], greeting: bytes | None = None) -> None:
        self._behave = behave
        self._greeting = settings() if greeting is None else greeting
        self._listener = socket.create_server((self.host, 0))
        self.port: int = self._listener.getsockname()[1]
        self.frames: list[tuple[int, RawFrame]] = []
        self.connections = 0
        self._change = threading.Condition()
        self._peers: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> RawH2Endpoint:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        for sock in (self._listener, *self._peers):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def send(self, *parts: bytes) -> None:
        """On the connection that was opened last."""
        self._peers[-1].sendall(b"".join(parts))

    def wait_frame(self, wanted: Callable[[RawFrame], bool], within: float = 10.0) -> RawFrame:
        """The first frame that is wanted, on any connection, once it has come. Raises AssertionError."""
        with self._change:
            found = self._change.wait_for(lambda: [each for _n, each in self.frames if wanted(each)], within)
        assert found, f"not among {self.frames}"
        first: RawFrame = found[0]
        return first

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _address = self._listener.accept()
                self._peers.append(sock)
                # Counted before it can answer: who has an answer may ask for the count.
                number, self.connections = self.connections, self.connections + 1
                threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        peer = RawPeer()
        # Whoever is attacked ends the connection in the middle of what is sent.
        with contextlib.suppress(OSError), sock:
            sock.sendall(self._greeting)
            while received := sock.recv(65536):
                answer = b""
                for each in peer.read(received):
                    with self._change:
                        self.frames.append((number, each))
                        self._change.notify_all()
                    if each.kind == SETTINGS and not each.end:
                        answer += SETTINGS_ACK
                    elif each.kind == HEADERS:
                        answer += self._behave(peer, each)
                sock.sendall(answer)
