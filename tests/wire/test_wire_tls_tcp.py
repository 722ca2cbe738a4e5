"""tcp routers over TLS, in and out: who is verified, what is passed on, and how connections end."""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.tls_files import TlsFiles
from tests.wire.harness import Hostmesh, free_port
from tests.wire.test_wire_tcp import Acceptor, dial, echo, read_all
from tests.wire.tls_peers import NAME, client_tls, config, server_tls

MEGABYTES = bytes(range(256)) * 4096 * 3
RECORD = b"\x16\x03"
"""What a ClientHello begins with."""


def tcp_config(
    *,
    server: dict[str, Any] | None = None,
    client: dict[str, Any] | None = None,
    service: dict[str, Any] | None = None,
    sni: bool = False,
) -> str:
    """A tcp router whose halves have these keys; its one name is ``web`` unless it comes from the handshake."""
    static = {"kind": "io.l5d.tcp.static", "path": "/web"}
    text = config("tcp", identifier=[{"kind": "io.l5d.tcp.sni"}, static] if sni else static)
    found = json.loads(re.sub(r"@(\w+)@", r'"@\1@"', text).replace('""', '"').replace('"@dir@"/', '"@dir@/'))
    router = found["routers"][0]
    router["servers"][0] |= server or {}
    router["client"] = client or {}
    router["service"] = service or {}
    return re.sub(r'"(@(?!dir)\w+@)"', r"\1", json.dumps(found, indent=1))


class Place:
    """A hostmesh and its endpoint, which runs ``serve`` for each connection."""

    def __init__(
        self, stack: ExitStack, folder: Path, text: str, serve: Callable[[socket.socket], object]
    ) -> None:
        self.endpoint = stack.enter_context(Acceptor(serve))
        self.mesh = stack.enter_context(Hostmesh(folder, text, start=False))
        for name in ("web", NAME):
            self.mesh.set_endpoints(name, [self.endpoint.line])
        self.mesh.start()

    def server(self, name: str) -> float:
        return self.mesh.metrics().get(f"rt/r/server/127.0.0.1/{self.mesh.port}/{name}", 0)

    def wait(self, name: str, value: float) -> None:
        self.mesh.wait(lambda: self.server(name) == value, f"{name} is {value}")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


def secure(files: TlsFiles, sock: socket.socket, name: str = NAME) -> ssl.SSLSocket:
    # Only close_notify is an end.
    return files.client_context().wrap_socket(sock, server_hostname=name, suppress_ragged_eofs=False)


def there_and_back(sock: socket.socket, data: bytes) -> bytes:
    """What comes back of ``data``, of as many bytes."""
    rest, back = memoryview(data), bytearray()
    # In one thread: two may not use the same SSLSocket at once before Python 3.13.
    sock.settimeout(0)
    while len(back) < len(data):
        ready = select.select([sock], [sock] if rest else [], [], 10)
        assert any(ready), f"{len(back)} bytes came back, {len(rest)} were not taken"
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            while rest:
                rest = rest[sock.send(rest[:65536]) :]
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            while len(back) < len(data):
                piece = sock.recv(65536)
                assert piece, f"the end after {len(back)} bytes"
                back += piece
    sock.settimeout(10)
    return bytes(back)


class HalfClosing:
    """A client that ends its direction as RFC 8446 section 6.1 has it, close_notify and FIN, and reads on."""

    def __init__(self, files: TlsFiles, port: int) -> None:
        self.sock = dial(port)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = files.client_context().wrap_bio(self.incoming, self.outgoing, server_hostname=NAME)
        self._until(self.tls.do_handshake)

    def _until(self, step: Callable[[], object]) -> None:
        while True:
            try:
                step()
            except ssl.SSLWantReadError:
                self._flush()
                self.incoming.write(self.sock.recv(65536))
            else:
                self._flush()
                return

    def _flush(self) -> None:
        self.sock.sendall(self.outgoing.read())

    def end(self, data: bytes) -> None:
        self.tls.write(data)
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.unwrap()
        self._flush()
        self.sock.shutdown(socket.SHUT_WR)

    def rest(self) -> bytes:
        """All that comes until the other direction has ended in the same way."""
        found = b""
        while True:
            try:
                piece = self.tls.read(65536)
            except ssl.SSLWantReadError:
                data = self.sock.recv(65536)
                assert data, "an end without close_notify"
                self.incoming.write(data)
            except ssl.SSLZeroReturnError:
                assert self.sock.recv(1) == b""
                return found
            else:
                if not piece:
                    assert self.sock.recv(1) == b""
                    return found
                found += piece


@pytest.mark.parametrize("out", [False, True], ids=["plain out", "tls out"])
@pytest.mark.parametrize("into", [False, True], ids=["plain in", "tls in"])
def test_megabytes_there_and_back(
    tmp_path: Path, tls_files: TlsFiles, stack: ExitStack, into: bool, out: bool
) -> None:
    """Every mix of halves; the counters count what was said, not how it was wrapped."""
    context = tls_files.server_context(tls_files.web)

    def serve(sock: socket.socket) -> None:
        if out:
            with context.wrap_socket(sock, server_side=True) as inner:
                echo(inner)
        else:
            echo(sock)

    place = Place(
        stack,
        tmp_path,
        tcp_config(
            server={"tls": server_tls(tls_files)} if into else None,
            client={"tls": client_tls(tls_files)} if out else None,
        ),
        serve,
    )
    with dial(place.mesh.port) as raw:
        sock = secure(tls_files, raw) if into else raw
        assert there_and_back(sock, MEGABYTES) == MEGABYTES
        sock.close()

    place.wait("connections", 0)
    assert (place.server("received_bytes"), place.server("sent_bytes")) == (len(MEGABYTES), len(MEGABYTES))
    client = {
        name.rpartition("/")[2]: value for name, value in place.mesh.metrics().items() if "/client/" in name
    }
    assert (client["sent_bytes"], client["received_bytes"]) == (len(MEGABYTES), len(MEGABYTES))


def test_half_closed_both_ways(tmp_path: Path, tls_files: TlsFiles, stack: ExitStack) -> None:
    """close_notify and FIN are passed on as an end, and an end as close_notify and FIN; the other direction goes on."""

    def serve(sock: socket.socket) -> None:
        sock.sendall(b"all of it: " + read_all(sock))

    place = Place(stack, tmp_path, tcp_config(server={"tls": server_tls(tls_files)}), serve)
    caller = HalfClosing(tls_files, place.mesh.port)
    caller.end(b"question")

    assert caller.rest() == b"all of it: question"
    caller.sock.close()
    place.wait("connections", 0)
    assert place.server("failures") == 0


@pytest.mark.parametrize("way", ["fin", "reset"])
def test_a_cut_connection_is_no_end(tmp_path: Path, tls_files: TlsFiles, stack: ExitStack, way: str) -> None:
    """Without close_notify the endpoint sees a reset: what it has had must not look complete (truncation)."""
    seen: list[str] = []

    def serve(sock: socket.socket) -> None:
        try:
            read_all(sock)
            seen.append("end")
        except ConnectionResetError:
            seen.append("reset")

    place = Place(stack, tmp_path, tcp_config(server={"tls": server_tls(tls_files)}), serve)
    raw = dial(place.mesh.port)
    sock = secure(tls_files, raw)
    sock.sendall(b"half")
    place.mesh.wait(lambda: place.endpoint.accepted == 1, "the endpoint is connected")
    fd = sock.detach()
    raw = socket.socket(fileno=fd)
    if way == "reset":
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    raw.close()

    place.mesh.wait(lambda: seen == ["reset"], "the endpoint is told by a reset")
    place.wait("failures/reset-by-caller", 1)


def test_the_name_of_the_handshake_routes(tmp_path: Path, tls_files: TlsFiles, stack: ExitStack) -> None:
    """``io.l5d.tcp.sni`` on a server that ends TLS itself: its name, or the next identifier where there is none."""

    def serve(sock: socket.socket) -> None:
        sock.sendall(sock.recv(100).upper())

    place = Place(stack, tmp_path, tcp_config(server={"tls": server_tls(tls_files)}, sni=True), serve)
    unchecked = tls_files.client_context()
    unchecked.check_hostname = False
    for name in (NAME, None):
        with dial(place.mesh.port) as raw, unchecked.wrap_socket(raw, server_hostname=name) as sock:
            sock.sendall(b"hello")
            assert sock.recv(100) == b"HELLO"

    metrics = place.mesh.metrics()
    assert [metrics[f"rt/r/service/svc/{name}/requests"] for name in (NAME, "web")] == [1, 1]


def test_proxy_headers_stand_in_front_of_handshakes(
    tmp_path: Path, tls_files: TlsFiles, stack: ExitStack
) -> None:
    """In and out, each connection with its own caller, also when many are dialled at once."""
    context = tls_files.server_context(tls_files.web)

    def serve(sock: socket.socket) -> None:
        line = b""
        while not line.endswith(b"\r\n"):
            line += sock.recv(1)
        assert sock.recv(2, socket.MSG_PEEK) == RECORD
        with context.wrap_socket(sock, server_side=True) as inner:
            inner.sendall(line + inner.recv(100))
            inner.unwrap()

    place = Place(
        stack,
        tmp_path,
        tcp_config(
            server={"tls": server_tls(tls_files), "proxyProtocol": True},
            client={"tls": client_tls(tls_files), "proxyProtocol": "v1"},
        ),
        serve,
    )
    answers: dict[int, bytes] = {}

    def one(number: int) -> None:
        with dial(place.mesh.port) as raw:
            raw.sendall(b"PROXY TCP4 192.0.2.%d 198.51.100.2 %d 443\r\n" % (number, 5000 + number))
            with secure(tls_files, raw) as sock:
                sock.sendall(b"hello %d" % number)
                answers[number] = b"".join(iter(lambda: sock.recv(100), b""))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(1, 41)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == {
        n: b"PROXY TCP4 192.0.2.%d 198.51.100.2 %d 443\r\nhello %d" % (n, 5000 + n, n) for n in range(1, 41)
    }


def test_a_header_is_for_nobody_else(tmp_path: Path, tls_files: TlsFiles, stack: ExitStack) -> None:
    """Whose handshake takes too long is given up with its connection, which has named its caller already; the next
    caller has one of its own."""
    context = tls_files.server_context(tls_files.web)
    ended: list[bytes] = []
    go = threading.Event()

    def serve(sock: socket.socket) -> None:
        line = b""
        while not line.endswith(b"\r\n"):
            line += sock.recv(1)
        if not go.is_set():
            # A ClientHello comes, no answer to it goes, and then the connection ends.
            read_all(sock)
            ended.append(line)
            return
        with context.wrap_socket(sock, server_side=True) as inner:
            inner.sendall(line)
            inner.unwrap()

    keys = {"tls": client_tls(tls_files), "proxyProtocol": "v1"}
    text = tcp_config(client=keys, service={"totalTimeoutMs": 500}, server={"proxyProtocol": True})
    place = Place(stack, tmp_path, text, serve)

    def ask(number: int) -> bytes:
        with dial(place.mesh.port) as sock:
            sock.sendall(b"PROXY TCP4 192.0.2.%d 198.51.100.2 1 443\r\n" % number)
            return read_all(sock)

    with pytest.raises(ConnectionResetError):
        ask(1)
    place.mesh.wait(lambda: len(ended) == 1, "the endpoint's connection has ended")
    go.set()

    assert ask(2) == b"PROXY TCP4 192.0.2.2 198.51.100.2 1 443\r\n"
    assert ended == [b"PROXY TCP4 192.0.2.1 198.51.100.2 1 443\r\n"]
    place.wait("failures/total-timeout", 1)
    metrics = place.mesh.metrics()
    assert metrics["rt/r/client/#/io.l5d.fs/web/connections"] == 0


@pytest.mark.parametrize("callers", ["none", "good", "other"])
def test_x5_callers_that_must_show_a_certificate(
    tmp_path: Path, tls_files: TlsFiles, stack: ExitStack, callers: str
) -> None:
    """X5: nothing is dialled for those who do not, or show a wrong one; the reason is counted."""
    place = Place(stack, tmp_path, tcp_config(server={"tls": server_tls(tls_files, callers=True)}), echo)
    pair = {"none": None, "good": tls_files.client, "other": tls_files.other}[callers]
    context = tls_files.client_context(pair) if pair is not None else tls_files.client_context()
    back = b""
    try:
        with dial(place.mesh.port) as raw, context.wrap_socket(raw, server_hostname=NAME) as sock:
            sock.sendall(b"hello")
            back = sock.recv(100)
    except OSError:
        pass

    assert (back, place.endpoint.accepted) == ((b"hello", 1) if callers == "good" else (b"", 0))
    reasons = {"none": "tls-no-certificate", "other": "tls-untrusted"}
    if callers in reasons:
        place.wait(f"failures/{reasons[callers]}", 1)


def test_x1_an_endpoint_with_a_wrong_name_gets_nothing(
    tmp_path: Path, tls_files: TlsFiles, stack: ExitStack
) -> None:
    """X1: no byte of the caller, who is reset; the reason is in the log, and the endpoint's failure is counted."""
    context = tls_files.server_context(tls_files.web)
    heard: list[bytes] = []

    def serve(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as inner:
            heard.append(inner.recv(100))

    keys = {"tls": client_tls(tls_files) | {"commonName": "other.mesh"}}
    place = Place(stack, tmp_path, tcp_config(client=keys), serve)
    with dial(place.mesh.port) as sock:
        sock.sendall(b"secret")
        with pytest.raises(ConnectionResetError):
            sock.recv(100)

    place.mesh.wait_log('"reason": "tls-name-mismatch"')
    assert b"".join(heard) == b""


def test_x2_plain_text_where_tls_is_expected(tmp_path: Path, tls_files: TlsFiles, stack: ExitStack) -> None:
    """X2: it is refused with its reason, and nothing is dialled; so is a caller that says nothing and leaves."""
    place = Place(stack, tmp_path, tcp_config(server={"tls": server_tls(tls_files)}), echo)
    with dial(place.mesh.port) as sock:
        sock.sendall(b"hello, no TLS\r\n")
        assert sock.recv(100) == b""
    place.wait("failures/tls-not-spoken", 1)
    dial(place.mesh.port).close()
    place.wait("connections", 0)

    assert place.endpoint.accepted == 0
    assert place.server("tls/in_progress") == 0


HAPROXY = """\
defaults
  mode http
  timeout connect 5s
  timeout client 10s
  timeout server 10s
frontend secure
  bind 127.0.0.1:{port} accept-proxy ssl crt {pem}
  http-request return status 200 content-type text/plain lf-string "%ci %[ssl_fc_sni]"
"""


def test_curl_to_haproxy(tmp_path: Path, tls_files: TlsFiles, stack: ExitStack) -> None:
    """curl says PROXY and then TLS to us, and we both to HAProxy, which sees curl's address and the name we ask for."""
    program = Path("/usr/sbin/haproxy")
    if not program.exists():
        pytest.skip("HAProxy is not installed: apt-get install haproxy")
    port = free_port()
    pem = tmp_path / "both.pem"
    pem.write_bytes(tls_files.web.chain.read_bytes() + tls_files.web.key.read_bytes())
    (tmp_path / "haproxy.cfg").write_text(HAPROXY.format(port=port, pem=pem))
    running = subprocess.Popen([str(program), "-db", "-q", "-f", str(tmp_path / "haproxy.cfg")])
    stack.callback(running.wait)
    stack.callback(running.terminate)
    text = tcp_config(
        server={"tls": server_tls(tls_files), "proxyProtocol": True},
        client={"tls": client_tls(tls_files), "proxyProtocol": "v2"},
    )
    mesh = stack.enter_context(Hostmesh(tmp_path, text, start=False))
    mesh.set_endpoints("web", [f"127.0.0.1 {port}"])
    mesh.start()
    url = f"https://{NAME}:{mesh.port}/"

    def ask() -> str:
        done = subprocess.run(
            [
                "curl",
                "-sS",
                "--haproxy-protocol",
                "--cacert",
                str(tls_files.ca),
                "--resolve",
                f"{NAME}:{mesh.port}:127.0.0.1",
                url,
            ],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        return done.stdout

    mesh.wait(lambda: ask() == f"127.0.0.1 {NAME}", "HAProxy answers with what it has seen")
