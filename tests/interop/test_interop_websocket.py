"""WebSockets of three independent libraries through a running hostmesh, each as client and as server.

``websockets``, ``wsproto`` and Node's ``ws`` share no code: what all understand on both sides has passed untouched.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets.exceptions
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import Server, ServerConnection, serve
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.extensions import Extension, PerMessageDeflate

from tests.servers.fetch import node_ws, required
from tests.servers.running import free_port, running
from tests.wire.harness import ROUTING, Hostmesh

NODE_SCRIPT = Path(__file__).with_name("node_websocket.js")

SIZES = (0, 1, 125, 126, 65_535, 65_536, 1_000_000)
"""Every way in which a frame says its length, and more than any buffer on the way holds."""

WITHIN = 20.0


# -- peers of ``websockets`` ------------------------------------------------------------------------------------------


def echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


@contextlib.contextmanager
def websockets_server(handler: Callable[[ServerConnection], None] = echo, **options: Any) -> Iterator[int]:
    """A server on a port of its own, which is given."""
    server: Server = serve(handler, "127.0.0.1", 0, max_size=None, **options)
    port = server.socket.getsockname()[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield port
    finally:
        server.shutdown()
        thread.join()


def open_websocket(mesh: Hostmesh, name: str, **options: Any) -> ClientConnection:
    """A client's connection through hostmesh to the service of that name."""
    sock = socket.create_connection(("127.0.0.1", mesh.port))
    options.setdefault("max_size", None)
    connection: ClientConnection = connect(f"ws://{name}/chat", sock=sock, proxy=None, **options)
    return connection


# -- peers of ``wsproto`` ---------------------------------------------------------------------------------------------


class WsprotoPeer:
    """Either end, over a blocking socket."""

    def __init__(self, sock: socket.socket, kind: ConnectionType) -> None:
        self.sock = sock
        sock.settimeout(WITHIN)
        self.ws = WSConnection(kind)
        self.got: list[Event] = []
        self.closed: tuple[int, str | None] | None = None

    def send(self, event: Event) -> None:
        self.sock.sendall(self.ws.send(event))

    def events(self) -> Iterator[Event]:
        """What comes, until the connection ends."""
        while True:
            data = self.sock.recv(65_536)
            self.ws.receive_data(data or None)
            yield from self.ws.events()
            if not data:
                return

    def message(self) -> str | bytes:
        """The next whole message."""
        parts: list[Any] = []
        for event in self.events():
            if isinstance(event, Message):
                parts.append(event.data)
                if event.message_finished:
                    return parts[0][:0].join(parts)  # type: ignore[no-any-return]  # text or bytes, as the parts are
            elif isinstance(event, Ping):
                self.send(event.response())
            elif isinstance(event, CloseConnection):
                self.closed = (event.code, event.reason)
                break
            self.got.append(event)
        raise ConnectionError(f"closed: {self.closed}")

    def serve(self) -> None:
        """Accept, then echo message by message, until the peer closes."""
        parts: list[Any] = []
        for event in self.events():
            if isinstance(event, Request):
                extensions: list[Extension] = [PerMessageDeflate()] if event.extensions else []
                self.send(AcceptConnection(extensions=extensions))
            elif isinstance(event, Ping):
                self.send(event.response())
            elif isinstance(event, Message):
                parts.append(event.data)
                if event.message_finished:
                    whole = parts[0][:0].join(parts)
                    kind = TextMessage if isinstance(whole, str) else BytesMessage
                    self.send(kind(data=whole))
                    parts = []
            elif isinstance(event, CloseConnection):
                self.send(event.response())
                return


@contextlib.contextmanager
def wsproto_server() -> Iterator[int]:
    """An echo server on a port of its own, which is given. One thread per connection."""
    threads: list[threading.Thread] = []

    def connection(sock: socket.socket) -> None:
        # A tunnel that is cut ends it, which is the business of the test that does so.
        with sock, contextlib.suppress(OSError):
            WsprotoPeer(sock, ConnectionType.SERVER).serve()

    def accept(listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=connection, args=(sock,))
            thread.start()
            threads.append(thread)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = threading.Thread(target=accept, args=(listener,))
        acceptor.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        acceptor.join()
    for thread in threads:
        thread.join(WITHIN)


def open_wsproto(mesh: Hostmesh, name: str, *, deflate: bool = True) -> WsprotoPeer:
    """A client's connection through hostmesh to the service of that name, after its handshake."""
    peer = WsprotoPeer(socket.create_connection(("127.0.0.1", mesh.port)), ConnectionType.CLIENT)
    peer.send(Request(host=name, target="/chat", extensions=[PerMessageDeflate()] if deflate else []))
    for event in peer.events():
        if isinstance(event, AcceptConnection):
            return peer
        assert not isinstance(event, RejectConnection), event
    raise ConnectionError("no handshake")


def routing(folder: Path, config: str = ROUTING, **ports: int) -> Hostmesh:
    """A hostmesh whose services are the servers on these ports."""
    services: dict[str, Any] = {name: [f"127.0.0.1 {port}"] for name, port in ports.items()}
    return Hostmesh.routing(folder, config, **services)


# -- one hostmesh, two servers ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostmesh]:
    with websockets_server() as one, wsproto_server() as other:
        folder = tmp_path_factory.mktemp("websocket")
        with routing(folder, websockets=one, wsproto=other) as running:
            yield running


def messages(seed: str) -> list[str | bytes]:
    """Text and bytes of every size."""
    rng = random.Random(seed)
    found: list[str | bytes] = []
    for size in SIZES:
        found += ["é☃a"[size % 3] * size, rng.randbytes(size)]
    return found


@pytest.mark.parametrize("server", ["websockets", "wsproto"])
@pytest.mark.parametrize("compression", ["deflate", None])
def test_messages_of_websockets_come_back(mesh: Hostmesh, server: str, compression: str | None) -> None:
    """Every size, compressed or not, and the extension is what the two ends have agreed on."""
    with open_websocket(mesh, server, compression=compression) as client:
        assert client.response is not None
        agreed = client.response.headers.get("Sec-WebSocket-Extensions", "")
        for message in messages(server):
            client.send(message)
            assert client.recv(WITHIN) == message

    assert agreed.startswith("permessage-deflate" if compression else "")
    assert bool(agreed) == bool(compression)
    assert client.protocol.close_code == 1000


@pytest.mark.parametrize("server", ["websockets", "wsproto"])
@pytest.mark.parametrize("deflate", [True, False])
def test_messages_of_wsproto_come_back(mesh: Hostmesh, server: str, deflate: bool) -> None:
    """The same with the other library as client."""
    peer = open_wsproto(mesh, server, deflate=deflate)
    with peer.sock:
        for message in messages(server):
            if isinstance(message, str):
                peer.send(TextMessage(data=message))
            else:
                peer.send(BytesMessage(data=message))
            assert peer.message() == message
        peer.send(CloseConnection(code=1000, reason="done"))
        with pytest.raises(ConnectionError):
            peer.message()

    assert peer.closed is not None
    assert peer.closed[0] == 1000


def test_fragments_stay_fragments(tmp_path: Path) -> None:
    """A message of three frames arrives as three frames, with a ping in between."""
    seen: list[list[str | bytes]] = []

    def handler(connection: ServerConnection) -> None:
        seen.append(list(connection.recv_streaming()))
        connection.send(iter(["a", "b", "c", "d"]))

    with websockets_server(handler) as port, routing(tmp_path, web=port) as mesh:
        peer = open_wsproto(mesh, "web", deflate=False)
        with peer.sock:
            peer.send(TextMessage(data="one ", message_finished=False))
            peer.send(TextMessage(data="two ", message_finished=False))
            peer.send(Ping(payload=b"there?"))
            peer.send(TextMessage(data="three", message_finished=True))
            back = peer.message()
            pongs = [bytes(event.payload) for event in peer.got if isinstance(event, Pong)]

    assert seen == [["one ", "two ", "three"]]
    assert (back, pongs) == ("abcd", [b"there?"])


@pytest.mark.parametrize("server", ["websockets", "wsproto"])
def test_pings_are_answered_by_the_other_end(mesh: Hostmesh, server: str) -> None:
    """Not by hostmesh, which knows nothing of them."""
    with open_websocket(mesh, server) as client:
        answered = client.ping(b"payload")

        assert answered.wait(WITHIN)


def test_close_codes_and_reasons_pass(tmp_path: Path) -> None:
    """From the server to the client, who answers."""

    def handler(connection: ServerConnection) -> None:
        connection.close(4321, "enough")

    with websockets_server(handler) as port, routing(tmp_path, web=port) as mesh:
        with open_websocket(mesh, "web") as client, pytest.raises(websockets.exceptions.ConnectionClosed):
            client.recv(WITHIN)
        mesh.wait_metric(server_metric(mesh, "tunnels/open"), lambda value: value == 0)
        metrics = mesh.metrics()

    assert (client.protocol.close_code, client.protocol.close_reason) == (4321, "enough")
    assert metrics[server_metric(mesh, "status/101")] == 1
    assert metrics[server_metric(mesh, "success")] == 1


def server_metric(mesh: Hostmesh, name: str) -> str:
    return f"rt/http/server/127.0.0.1/{mesh.port}/{name}"


def test_subprotocols_are_negotiated_end_to_end(tmp_path: Path) -> None:
    """The client offers two and gets the one that the server has."""
    with (
        websockets_server(subprotocols=["mqtt"]) as port,
        routing(tmp_path, web=port) as mesh,
        open_websocket(mesh, "web", subprotocols=["stomp", "mqtt"]) as client,
    ):
        agreed = client.subprotocol

    assert agreed == "mqtt"


def test_a_server_may_refuse(tmp_path: Path) -> None:
    """Its answer is an ordinary one, and the client sees it."""

    def refuse(connection: ServerConnection, _request: Any) -> Any:
        return connection.respond(403, "not you\n")

    with websockets_server(process_request=refuse) as port, routing(tmp_path, web=port) as mesh:
        with pytest.raises(websockets.exceptions.InvalidStatus) as raised:
            open_websocket(mesh, "web")
        metrics = mesh.metrics()

    assert raised.value.response.status_code == 403
    assert raised.value.response.body == b"not you\n"
    assert metrics[server_metric(mesh, "status/403")] == 1


def test_many_at_once_do_not_mix(mesh: Hostmesh) -> None:
    """Thirty connections, each with its own messages in flight in both directions."""
    problems: list[str] = []

    def talk(number: int) -> None:
        server = ("websockets", "wsproto")[number % 2]
        with open_websocket(mesh, server) as client:
            sent = [f"{number}/{turn}/" + "x" * (turn * 37 % 5000) for turn in range(60)]
            for start in range(0, 60, 10):
                for message in sent[start : start + 10]:
                    client.send(message)
                got = [client.recv(WITHIN) for _ in range(10)]
                if got != sent[start : start + 10]:
                    problems.append(f"{number}: {start}")

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert problems == []


# -- a third library --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def node_server(folder: Path) -> Iterator[int]:
    """An echo server on the library ``ws`` of Node, on a port of its own."""
    node, modules = required(node_ws)
    folder.mkdir()
    port = free_port()
    command = [node, str(NODE_SCRIPT), "serve", str(port)]
    with running(command, folder, port, {"NODE_PATH": str(modules)}):
        yield port


def node_talk(port: int, name: str) -> dict[str, Any]:
    """What a client on ``ws`` has seen: every size, a ping, and a close that the server was asked for."""
    node, modules = required(node_ws)
    done = subprocess.run(
        [node, str(NODE_SCRIPT), "talk", str(port), name],
        capture_output=True,
        text=True,
        env={**os.environ, "NODE_PATH": str(modules)},
        timeout=60,
        check=True,
    )
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def test_node_talks_to_node(tmp_path: Path) -> None:
    """Compressed messages of every size, a pong from the other end, its close code and reason."""
    with node_server(tmp_path / "node") as port, routing(tmp_path, web=port) as mesh:
        seen = node_talk(mesh.port, "web")

    assert seen == {
        "extensions": "permessage-deflate",
        "same": len(SIZES),
        "pong": True,
        "code": 4001,
        "reason": "as you wish",
    }


def test_websockets_and_wsproto_talk_to_node(tmp_path: Path) -> None:
    """The other two libraries as clients."""
    with node_server(tmp_path / "node") as port, routing(tmp_path, web=port) as mesh:
        with open_websocket(mesh, "web") as client:
            for message in messages("node"):
                client.send(message)
                assert client.recv(WITHIN) == message
        peer = open_wsproto(mesh, "web")
        with peer.sock:
            peer.send(TextMessage(data="here"))
            back = peer.message()

    assert (client.protocol.close_code, back) == (1000, "here")


# -- the life of the daemon -------------------------------------------------------------------------------------------


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Hostmesh]:
    """A hostmesh of its own in front of an echo server."""
    with websockets_server() as port, routing(tmp_path, web=port) as running:
        yield running


def test_a_conversation_survives_reloads(lone: Hostmesh) -> None:
    """Five of them, while messages go back and forth."""
    text = lone.file.read_text()
    with open_websocket(lone, "web") as client:
        for turn in range(5):
            lone.write_config(text + f"# {turn}\n")
            lone.hup()
            lone.wait_metric("config/reloads", lambda value, turn=turn: value > turn)  # type: ignore[misc]
            client.send(f"turn {turn}")
            assert client.recv(WITHIN) == f"turn {turn}"


def test_a_conversation_may_end_within_the_grace(lone: Hostmesh) -> None:
    """SIGTERM: it goes on, and the process ends when it has ended, with nothing cut."""
    with open_websocket(lone, "web") as client:
        lone.terminate()
        lone.wait_log('"stopping"')
        for turn in range(3):
            client.send(f"turn {turn}")
            assert client.recv(WITHIN) == f"turn {turn}"
    code = lone.wait_exit()

    assert (code, client.protocol.close_code) == (0, 1000)
    assert '"cut": 0' in lone.log()


def test_a_conversation_is_cut_after_the_grace(tmp_path: Path) -> None:
    """The client is told by a reset, and the log says why."""
    config = ROUTING.replace("shutdownGraceMs: 5000", "shutdownGraceMs: 200")
    with websockets_server() as port, routing(tmp_path, config, web=port) as mesh:
        with open_websocket(mesh, "web", close_timeout=0) as client:
            mesh.terminate()
            with pytest.raises(websockets.exceptions.ConnectionClosedError):
                client.recv(WITHIN)
        code = mesh.wait_exit()

    assert code == 0
    assert '"reason": "draining"' in mesh.log()


def test_an_endpoint_that_dies_takes_its_tunnel_with_it(tmp_path: Path) -> None:
    """A server that resets: the client sees an abnormal end, at once."""
    accepted: list[socket.socket] = []

    def accept(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        accepted.append(sock)
        peer = WsprotoPeer(sock, ConnectionType.SERVER)
        for event in itertools.islice(peer.events(), 1):
            assert isinstance(event, Request)
            peer.send(AcceptConnection())

    listener = socket.create_server(("127.0.0.1", 0))
    with listener, routing(tmp_path, web=listener.getsockname()[1]) as mesh:
        thread = threading.Thread(target=accept, args=(listener,))
        thread.start()
        with open_websocket(mesh, "web", close_timeout=0) as client:
            thread.join()
            accepted[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            accepted[0].close()
            with pytest.raises(websockets.exceptions.ConnectionClosedError):
                client.recv(WITHIN)
        mesh.wait_metric(server_metric(mesh, "failures/reset-by-endpoint"), lambda value: value == 1)
        metrics = mesh.metrics()

    assert metrics[server_metric(mesh, "tunnels/open")] == 0
    assert metrics[server_metric(mesh, "pending")] == 0


def test_tunnels_are_off_where_they_are_forbidden(tmp_path: Path) -> None:
    """``upgrades: []``: the server sees a request without Upgrade, and says so."""
    with (
        websockets_server() as port,
        routing(tmp_path, FORBIDDEN, web=port) as mesh,
        pytest.raises(websockets.exceptions.InvalidStatus) as raised,
    ):
        open_websocket(mesh, "web")

    assert raised.value.response.status_code == 426


FORBIDDEN = """\
admin: {ip: 127.0.0.1, port: @admin@}
namers:
- kind: io.l5d.fs
  rootDir: @dir@/disco
routers:
- protocol: http
  dtab: /svc => /#/io.l5d.fs
  servers:
  - {port: @port@, ip: 127.0.0.1, upgrades: []}
"""
