"""Desync attacks: the same bytes through hostmesh to two other parsers, h11 and Node's, which must find the same
requests in what arrives, and never one that the caller smuggled.

The parsers are real endpoints: they answer what they found, so a disagreement would also show as a wrong answer.
"""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Protocol

import h11
import pytest

from tests.wire.harness import Hostmesh, Malformed

pytestmark = pytest.mark.server("node")

Found = tuple[str, str, int]
"""Method, target, bytes of the body."""


class Parser(Protocol):
    port: int
    found: list[Found]
    errors: list[str]

    def close(self) -> None: ...


class NodeEndpoint:
    def __init__(self, node: str) -> None:
        script = Path(__file__).with_name("node_endpoint.js")
        self.process = subprocess.Popen([node, str(script)], stdout=subprocess.PIPE, text=True)
        self.found: list[Found] = []
        self.errors: list[str] = []
        assert self.process.stdout is not None
        self.port: int = json.loads(self.process.stdout.readline())["port"]
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if "error" in said:
                self.errors.append(said["error"])
            else:
                self.found.append((said["method"], said["target"], said["size"]))

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self._thread.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


class H11Endpoint:
    def __init__(self) -> None:
        self.found: list[Found] = []
        self.errors: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._peers: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self._peers.append(peer)
            self._threads.append(threading.Thread(target=self._serve, args=(peer,), daemon=True))
            self._threads[-1].start()

    def _serve(self, peer: socket.socket) -> None:
        connection = h11.Connection(h11.SERVER)
        request: h11.Request | None = None
        size = 0
        with suppress(OSError):
            while True:
                try:
                    event = connection.next_event()
                except h11.RemoteProtocolError as error:
                    self.errors.append(str(error))
                    return
                if event is h11.NEED_DATA:
                    connection.receive_data(peer.recv(65536))
                elif isinstance(event, h11.Request):
                    request, size = event, 0
                elif isinstance(event, h11.Data):
                    size += len(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    assert request is not None
                    self.found.append((request.method.decode(), request.target.decode("latin-1"), size))
                    body = b"" if request.method == b"HEAD" else b"ok"
                    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + body)
                    connection.send(h11.Response(status_code=200, headers=[("Content-Length", "2")]))
                    if body:
                        connection.send(h11.Data(data=body))
                    connection.send(h11.EndOfMessage())
                    if connection.our_state is h11.MUST_CLOSE:
                        return
                    connection.start_next_cycle()
                else:
                    return

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in self._peers:
            with suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for peer in self._peers:
            peer.close()


class Both:
    """A hostmesh in front of each parser under the names ``h11`` and ``node``."""

    def __init__(self, folder: Path, node: str) -> None:
        self.stack = ExitStack()
        self.parsers: dict[str, Parser] = {"h11": H11Endpoint(), "node": NodeEndpoint(node)}
        for parser in self.parsers.values():
            self.stack.callback(parser.close)
        self.mesh = Hostmesh(folder, start=False)
        for name, parser in self.parsers.items():
            self.mesh.set_endpoints(name, [f"127.0.0.1 {parser.port}"])
        self.mesh.start()
        self.stack.enter_context(self.mesh)
        self._marks = 0

    def attack(self, name: str, data: bytes) -> tuple[list[int], list[Found], list[str]]:
        """Statuses of the answers, requests the parser found, and its complaints."""
        parser = self.parsers[name]
        first, complaints = len(parser.found), len(parser.errors)
        statuses: list[int] = []
        method = "HEAD" if data.startswith(b"HEAD") else "GET"
        with self.mesh.client(timeout=5) as client:
            client.send(data.replace(b"@HOST@", name.encode()))
            client.half_close()
            with suppress(Malformed, OSError):
                while True:
                    statuses.append(client.response(method).status)
        self._marks += 1
        mark = f"/marker-{self._marks}"
        assert self.mesh.get(mark, host=name).body == b"ok"
        self.mesh.wait(lambda: any(each[1] == mark for each in parser.found), "the marker")
        found = [each for each in parser.found[first:] if not each[1].startswith("/marker-")]
        return statuses, found, parser.errors[complaints:]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    from tests.conftest import find_program

    node = find_program("node")
    assert node is not None
    built = Both(tmp_path_factory.mktemp("desync"), str(node))
    yield built
    built.stack.close()


EVIL = b"GET /smuggled HTTP/1.1\r\nHost: @HOST@\r\n\r\n"


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join((b"POST /first HTTP/1.1", b"Host: @HOST@", *lines, b"", b"")) + body


TE = b"Transfer-Encoding: chunked"

ATTACKS: dict[str, bytes] = {
    "F1-CL.TE": post(b"Content-Length: 5", TE, body=b"0\r\n\r\n" + EVIL),
    "F1-TE.CL": post(TE, b"Content-Length: 4", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVIL), EVIL)),
    "F1-CL.TE upper": post(b"CONTENT-LENGTH: 5", b"TRANSFER-ENCODING: CHUNKED", body=b"0\r\n\r\n" + EVIL),
    "F2-two lengths": post(b"Content-Length: 0", b"Content-Length: %d" % len(EVIL), body=EVIL),
    "F2-list": post(b"Content-Length: 0, %d" % len(EVIL), body=EVIL),
    "F2-same twice": post(b"Content-Length: 2", b"Content-Length: 2", body=b"hi"),
    "F3-plus": post(b"Content-Length: +0", body=EVIL),
    "F3-hex": post(b"Content-Length: 0x5", body=EVIL),
    "F3-huge": post(b"Content-Length: 18446744073709551616", body=EVIL),
    "F4-xchunked": post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + EVIL),
    "F4-chunked twice": post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n" + EVIL),
    "F4-vertical tab": post(b"Transfer-Encoding:\x0bchunked", body=b"0\r\n\r\n" + EVIL),
    "F4-space before colon": post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n" + EVIL),
    "F4-underscore": post(b"Transfer_Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
    "F4-two headers": post(TE, b"Transfer-Encoding: identity", body=b"0\r\n\r\n" + EVIL),
    "F4-http 1.0": b"POST /first HTTP/1.0\r\nHost: @HOST@\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + EVIL,
    "F5-no CRLF": post(TE, body=b"2\r\nhiXX0\r\n\r\n" + EVIL),
    "F5-LF after size": post(TE, body=b"2\nhi\r\n0\r\n\r\n" + EVIL),
    "F5-LF in extension": post(TE, body=b"2;a\nxx\r\nhi\r\n0\r\n\r\n" + EVIL),
    "F5-extension": post(TE, body=b"2;a=b\r\nhi\r\n0;c\r\n\r\n"),
    "F5-negative": post(TE, body=b"-2\r\nhi\r\n0\r\n\r\n" + EVIL),
    "F5-zero chunk in the middle": post(TE, body=b"00\r\n\r\n" + EVIL),
    "F6-LF": b"POST /first HTTP/1.1\nHost: @HOST@\nContent-Length: 0\n\n" + EVIL,
    "F6-CR": b"POST /first HTTP/1.1\r\nHost: @HOST@\r\nA: b\rContent-Length: 41\r\n\r\n" + EVIL,
    "F7-folded length": post(b"A: b", b" Content-Length: 5", body=EVIL),
    "F7-folded coding": post(b"Transfer-Encoding:", b" chunked", body=b"0\r\n\r\n" + EVIL),
    "F8-NUL": post(b"A: b\x00c", body=EVIL),
    "F9-empty name": post(b": chunked", body=EVIL),
    "F9-space in name": post(b"Content-Length : 5", body=EVIL),
    "F10-empty length": post(b"Content-Length:", body=EVIL),
    "F11-bad then good": b"GET /first HTTP/1.1\r\nHost: @HOST@\r\nA : b\r\n\r\n" + EVIL,
    "F11-upgrade": b"GET /first HTTP/1.1\r\nHost: @HOST@\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    + EVIL,
    "F12-expect": post(b"Expect: 100-continue", b"Content-Length: 2", body=b"hi"),
    "F12-other expectation": post(b"Expect: 200-ok", b"Content-Length: %d" % len(EVIL), body=EVIL),
    "F18-two hosts": b"GET /first HTTP/1.1\r\nHost: @HOST@\r\nHost: other\r\n\r\n" + EVIL,
    "F18-absolute": b"GET http://@HOST@/first HTTP/1.1\r\nHost: other\r\n\r\n",
    "F19-trailers": post(TE, body=b"2\r\nhi\r\n0\r\nContent-Length: 40\r\nHost: evil\r\nX: y\r\n\r\n"),
    "F20-connect": b"CONNECT @HOST@:80 HTTP/1.1\r\nHost: @HOST@\r\n\r\n" + EVIL,
    # Not as clients ask for it, which hostmesh itself would follow.
    "F20-h2c": b"GET /first HTTP/1.1\r\nHost: @HOST@\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c, raw\r\n"
    b"HTTP2-Settings: AAMAAABk\r\n\r\n",
    "F21-0.9": b"GET /first\r\n\r\n" + EVIL,
    "F21-2.0": b"GET /first HTTP/2.0\r\nHost: @HOST@\r\n\r\n" + EVIL,
    "T5-length nominated": post(b"Connection: Content-Length", b"Content-Length: 2", body=b"hi"),
    "T5-coding nominated": post(b"Connection: Transfer-Encoding", TE, body=b"2\r\nhi\r\n0\r\n\r\n"),
    "T6-length twin": post(b"Content_Length: 41", b"Content-Length: 2", body=b"hi"),
    "GET with a body": b"GET /first HTTP/1.1\r\nHost: @HOST@\r\nContent-Length: 2\r\n\r\nhi",
    "GET with chunks": b"GET /first HTTP/1.1\r\nHost: @HOST@\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "HEAD with a body": b"HEAD /first HTTP/1.1\r\nHost: @HOST@\r\nContent-Length: 41\r\n\r\n" + b"x" * 41,
    "cut in the body": post(b"Content-Length: 100", body=b"hi"),
    "cut in a chunk": post(TE, body=b"5\r\nhi"),
}

MAY_REACH = {
    "F2-same twice": ("POST", 2),
    "F4-underscore": ("POST", 5),
    "F5-extension": ("POST", 2),
    "F11-upgrade": ("GET", 0),
    "F12-expect": ("POST", 2),
    "F18-absolute": ("GET", 0),
    "F19-trailers": ("POST", 2),
    "F20-h2c": ("GET", 0),
    "T5-length nominated": ("POST", 2),
    "T5-coding nominated": ("POST", 2),
    "T6-length twin": ("POST", 2),
    "GET with a body": ("GET", 2),
    "GET with chunks": ("GET", 2),
    "HEAD with a body": ("HEAD", 41),
}
"""Legal messages: exactly this one request is to be found. The others are attacks, in which none is."""


@pytest.mark.parametrize("name", ATTACKS)
def test_two_parsers_find_the_same_requests(both: Both, name: str) -> None:
    """Both parsers behind hostmesh find one and the same list of requests, and nobody finds the smuggled one."""
    results = {parser: both.attack(parser, ATTACKS[name]) for parser in both.parsers}

    (statuses, found, _), (other_statuses, other_found, _) = results["h11"], results["node"]
    assert found == other_found
    assert statuses == other_statuses
    legal = MAY_REACH.get(name)
    if legal is not None:
        assert found == [(legal[0], "/first", legal[1])]
        assert statuses == [200]
    elif name == "F5-zero chunk in the middle":
        # Two requests in one packet, and nothing wrong with either: what follows a last chunk is the next request.
        assert found == [("POST", "/first", 0), ("GET", "/smuggled", 0)]
    else:
        assert found == []
        assert all(status in (400, 405, 417, 501, 505) for status in statuses)


def test_no_parser_ever_complained_of_a_whole_message(both: Both) -> None:
    """What hostmesh forwards is strict: a parser's only complaint is of a body that was cut with its connection."""
    for data in (ATTACKS[name] for name in MAY_REACH):
        for parser in both.parsers:
            assert both.attack(parser, data)[2] == []
