"""WebSockets of the ``websockets`` library through tunnels of which a side is TLS, or both, over either HTTP.

Both ends are those of asyncio: the others use one TLS connection from two threads, which Python's ssl does not survive.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets.exceptions
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve

from tests.interop.test_interop_websocket import SIZES
from tests.tls_files import TlsFiles
from tests.wire.harness import Hostmesh
from tests.wire.tls_peers import NAME, client_tls, config, server_tls

WITHIN = 20.0
CLOSE = b"\x03\xe8"
"""What a close frame says: 1000."""
MASK = 4
"""Bytes that frames of clients are longer."""


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@contextmanager
def echo_server(context: ssl.SSLContext | None) -> Iterator[int]:
    """A server on a port of its own, which is given."""
    ready = threading.Event()
    found: dict[str, Any] = {}

    async def main() -> None:
        found["loop"], found["stop"] = asyncio.get_running_loop(), asyncio.Event()
        async with serve(echo, "127.0.0.1", 0, max_size=None, ssl=context) as server:
            found["port"] = server.sockets[0].getsockname()[1]
            ready.set()
            await found["stop"].wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert ready.wait(WITHIN)
    try:
        yield found["port"]
    finally:
        found["loop"].call_soon_threadsafe(found["stop"].set)
        thread.join()


class Place:
    """A hostmesh with the router ``out`` before callers; ``far`` says how endpoints are met.

    ``tls`` and ``plain`` are endpoints; ``h2`` is the router ``in`` of this hostmesh, over HTTP/2 and TLS (RFC 8441).
    """

    def __init__(self, stack: ExitStack, folder: Path, files: TlsFiles, *, near: bool, far: str) -> None:
        self.files, self.near = files, near
        context = files.server_context(files.web, alpn=["http/1.1"]) if far != "plain" else None
        endpoint = stack.enter_context(echo_server(context))
        client = {} if far == "plain" else {"tls": client_tls(files)}
        if far == "h2":
            client["protocol"] = "h2"
        text = config(server=server_tls(files) if near else None, more={"in": server_tls(files)}, client={})
        found = json.loads(re.sub(r"(?<!\")@(?!dir)(\w+)@", r'"@\1@"', text))
        first = found["routers"][0]
        second = first | {
            "label": "in",
            "servers": [first["servers"].pop()],
            "client": {"tls": client_tls(files)},
        }
        first["client"] = client
        second["dtab"] = "/svc => /#/io.l5d.fs/inner"
        found["routers"] = [first, second]
        text = re.sub(r'"(@(?!dir)\w+@)"', r"\1", json.dumps(found, indent=1))
        self.mesh = stack.enter_context(Hostmesh(folder, text, start=False))
        self.mesh.set_endpoints("inner", [f"127.0.0.1 {endpoint}"])
        self.mesh.set_endpoints("web", [f"127.0.0.1 {self.mesh.ports['in'] if far == 'h2' else endpoint}"])
        self.mesh.start()

    def talk(self, talk: Callable[[ClientConnection], Awaitable[None]], **options: Any) -> None:
        """Run ``talk`` with a connection through hostmesh."""
        if self.near:
            options |= {"ssl": self.files.client_context(alpn=["http/1.1"]), "server_hostname": NAME}
        url = f"{'wss' if self.near else 'ws'}://web/chat"

        async def main() -> None:
            where = {"host": "127.0.0.1", "port": self.mesh.port}
            async with connect(url, proxy=None, max_size=None, **where, **options) as connection:
                await talk(connection)

        asyncio.run(asyncio.wait_for(main(), WITHIN * 2))

    def server(self, name: str) -> float:
        return self.mesh.metrics().get(f"rt/r/server/127.0.0.1/{self.mesh.port}/{name}", 0)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


MIXES = [
    each for each in itertools.product((False, True), ("plain", "tls", "h2")) if each != (False, "plain")
]


@pytest.mark.parametrize(
    ("near", "far"), MIXES, ids=[f"{'wss' if near else 'ws'}-{far}" for near, far in MIXES]
)
def test_messages_of_every_size(
    tmp_path: Path, tls_files: TlsFiles, stack: ExitStack, near: bool, far: str
) -> None:
    """They come back as they were; the tunnel's bytes are those of the frames, and not of the records around them."""
    place = Place(stack, tmp_path, tls_files, near=near, far=far)
    messages: list[str | bytes] = [*map(os.urandom, SIZES), "grüße" * 1000]

    async def talk(client: ClientConnection) -> None:
        for message in messages:
            await client.send(message)
            assert await client.recv() == message

    place.talk(talk, compression=None)

    place.mesh.wait(lambda: place.server("tunnels/open") == 0, "the tunnel is closed")
    sizes = [len(each if isinstance(each, bytes) else each.encode()) for each in messages] + [len(CLOSE)]
    frames = sum(size + 2 + (0 if size < 126 else 2 if size < 65_536 else 8) for size in sizes)
    assert place.server("tunnels/received_bytes") == frames + MASK * len(sizes)
    assert place.server("tunnels/sent_bytes") == frames
    assert (place.server("pending"), place.server("failures")) == (0, 0)


@pytest.mark.parametrize(
    ("near", "far"), MIXES, ids=[f"{'wss' if near else 'ws'}-{far}" for near, far in MIXES]
)
def test_the_other_side_hears_of_the_end(
    tmp_path: Path, tls_files: TlsFiles, stack: ExitStack, near: bool, far: str
) -> None:
    """A close handshake is passed with its code; a drain that has come to its end cuts, and no end looks chosen."""
    place = Place(stack, tmp_path, tls_files, near=near, far=far)
    seen: list[tuple[int, str] | None] = []

    async def chosen(client: ClientConnection) -> None:
        await client.send(b"x")
        await client.recv()
        await client.close(4321, "enough")
        assert client.close_code is not None
        seen.append((client.close_code, client.close_reason or ""))

    async def cut(client: ClientConnection) -> None:
        await client.send(b"x")
        await client.recv()
        await asyncio.to_thread(place.mesh.close)
        with pytest.raises(websockets.exceptions.ConnectionClosedError) as ended:
            await client.recv()
        assert ended.value.rcvd is None

    place.talk(chosen)
    place.talk(cut)

    assert seen == [(4321, "enough")]
