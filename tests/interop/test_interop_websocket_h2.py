"""WebSockets over HTTP/2 (RFC 8441) with peers that are not ours: Hypercorn as endpoint, Envoy before and behind.

Envoy turns an Upgrade into an extended CONNECT and back, so the clients and servers of HTTP/1.1 may be at the ends.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets.exceptions
from websockets.sync.client import ClientConnection

from tests.interop.test_interop_websocket import (
    WITHIN,
    messages,
    open_websocket,
    routing,
    server_metric,
    websockets_server,
)
from tests.servers.fetch import envoy, required
from tests.servers.running import free_port, running
from tests.wire.harness import ROUTING, Hostmesh

H2_ROUTING = ROUTING.replace("- protocol: http\n", "- protocol: http\n  client: {protocol: h2}\n")
"""The same, with endpoints that speak HTTP/2."""

APP = '''
async def app(scope, receive, send):
    """Echo; the first message tells which version of HTTP carries it."""
    if scope["type"] == "lifespan":
        return
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept", "subprotocol": next(iter(scope["subprotocols"]), None)})
    await send({"type": "websocket.send", "text": scope["http_version"]})
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            return
        if event.get("text") == "leave":
            await send({"type": "websocket.close", "code": 4000, "reason": "as you wish"})
            return
        answer = {key: event[key] for key in ("bytes", "text") if event.get(key) is not None}
        await send({"type": "websocket.send", **answer})
'''


@contextlib.contextmanager
def hypercorn_server(folder: Path) -> Iterator[int]:
    """An echo server that takes both versions of HTTP, on a port of its own."""
    folder.mkdir()
    (folder / "echo.py").write_text(APP)
    port = free_port()
    (folder / "config.py").write_text("websocket_max_message_size = 16 * 1024 * 1024\n")
    options = ["--bind", f"127.0.0.1:{port}", "--config", "file:config.py"]
    with running([sys.executable, "-m", "hypercorn", *options, "echo:app"], folder, port):
        yield port


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


@contextlib.contextmanager
def envoy_proxy(folder: Path, target: int, *, h2_in: bool = False, h2_out: bool = False) -> Iterator[int]:
    """An Envoy before ``target``, on a port of its own, with HTTP/2 on either side."""
    binary = required(envoy)
    folder.mkdir()
    port = free_port()
    package = "type.googleapis.com/envoy.extensions"
    manager: dict[str, Any] = {
        "@type": f"{package}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "codec_type": "HTTP2" if h2_in else "HTTP1",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "target"}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{package}.filters.http.router.v3.Router"},
            }
        ],
    }
    if h2_in:
        manager["http2_protocol_options"] = {"allow_connect": True}
    replicas: dict[str, Any] = {
        "name": "target",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "target",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(target)}}]}],
        },
    }
    if h2_out:
        options = f"{package}.upstreams.http.v3.HttpProtocolOptions"
        replicas["typed_extension_protocol_options"] = {
            options.removeprefix("type.googleapis.com/"): {
                "@type": options,
                "explicit_http_config": {"http2_protocol_options": {"allow_connect": True}},
            }
        }
    listener = {
        "name": "in",
        "address": address(port),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    (folder / "envoy.json").write_text(
        json.dumps({"static_resources": {"listeners": [listener], "clusters": [replicas]}})
    )
    options_ = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    with running([str(binary), "-c", "envoy.json", *options_], folder, port):
        yield port


def converse(client: ClientConnection, seed: str) -> None:
    """Every size, and back."""
    for message in messages(seed):
        client.send(message)
        assert client.recv(WITHIN) == message


def through(mesh: Hostmesh, port: int, name: str, **options: Any) -> Any:
    """A client of the Envoy on ``port``, that asks for ``name``."""
    near = Hostmesh.__new__(Hostmesh)
    near.ports = {"port": port}
    return open_websocket(near, name, **options)


# -- hostmesh to an endpoint in HTTP/2 --------------------------------------------------------------------------------


def test_a_client_in_http1_and_hypercorn_in_http2(tmp_path: Path) -> None:
    """The handshake is translated; messages, subprotocol and close code pass."""
    with (
        hypercorn_server(tmp_path / "hypercorn") as port,
        routing(tmp_path, H2_ROUTING, web=port) as mesh,
        open_websocket(mesh, "web", subprotocols=["chat"]) as client,
    ):
        version = client.recv(WITHIN)
        converse(client, "hypercorn")
        client.send("leave")
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            client.recv(WITHIN)
        mesh.wait_metric(server_metric(mesh, "tunnels/open"), lambda value: value == 0)
        metrics = mesh.metrics()

    assert (version, client.subprotocol) == ("2", "chat")
    assert (client.protocol.close_code, client.protocol.close_reason) == (4000, "as you wish")
    assert metrics[server_metric(mesh, "status/101")] == metrics[server_metric(mesh, "success")] == 1
    assert metrics[server_metric(mesh, "pending")] == 0


def test_many_clients_share_a_connection(tmp_path: Path) -> None:
    """Thirty WebSockets are thirty streams, on one connection to the endpoint."""
    problems: list[str] = []

    def talk(mesh: Hostmesh, number: int) -> None:
        with open_websocket(mesh, "web") as client:
            client.recv(WITHIN)
            for turn in range(20):
                message = f"{number}/{turn}/" + "x" * (turn * 311 % 9000)
                client.send(message)
                if client.recv(WITHIN) != message:
                    problems.append(f"{number}: {turn}")

    with (
        hypercorn_server(tmp_path / "hypercorn") as port,
        routing(tmp_path, H2_ROUTING, web=port) as mesh,
    ):
        threads = [threading.Thread(target=talk, args=(mesh, number)) for number in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        connects = mesh.metrics()["rt/http/client/#/io.l5d.fs/web/connects"]

    assert problems == []
    assert connects == 1


def test_envoy_as_an_endpoint_in_http2(tmp_path: Path) -> None:
    """hostmesh asks Envoy with extended CONNECT; Envoy asks the server behind it with Upgrade."""
    with (
        websockets_server() as server,
        envoy_proxy(tmp_path / "envoy", server, h2_in=True) as port,
        routing(tmp_path, H2_ROUTING, web=port) as mesh,
        open_websocket(mesh, "web") as client,
    ):
        converse(client, "envoy")

    assert client.protocol.close_code == 1000


# -- callers in HTTP/2 ------------------------------------------------------------------------------------------------


def test_envoy_as_a_caller_in_http2(tmp_path: Path) -> None:
    """Envoy asks hostmesh with extended CONNECT, and hostmesh the server with Upgrade."""
    with (
        websockets_server() as server,
        routing(tmp_path, web=server) as mesh,
        envoy_proxy(tmp_path / "envoy", mesh.port, h2_out=True) as port,
        through(mesh, port, "web") as client,
    ):
        converse(client, "caller")
        streams = mesh.metrics()[server_metric(mesh, "open_streams")]

    assert streams == 1
    assert client.protocol.close_code == 1000


def test_http2_all_the_way(tmp_path: Path) -> None:
    """Envoy, hostmesh, Hypercorn: extended CONNECT on both hops."""
    with (
        hypercorn_server(tmp_path / "hypercorn") as server,
        routing(tmp_path, H2_ROUTING, web=server) as mesh,
        envoy_proxy(tmp_path / "envoy", mesh.port, h2_out=True) as port,
        through(mesh, port, "web") as client,
    ):
        version = client.recv(WITHIN)
        converse(client, "all the way")

    assert version == "2"
    assert client.protocol.close_code == 1000


def test_a_client_that_vanishes_frees_everything(tmp_path: Path) -> None:
    """A reset at one end is seen at the other, over all hops, and nothing is left open."""
    with (
        hypercorn_server(tmp_path / "hypercorn") as server,
        routing(tmp_path, H2_ROUTING, web=server) as mesh,
        envoy_proxy(tmp_path / "envoy", mesh.port, h2_out=True) as port,
    ):
        with through(mesh, port, "web", close_timeout=0) as client:
            client.recv(WITHIN)
            client.socket.setsockopt(1, 13, b"\x01\0\0\0\0\0\0\0")
            client.socket.close()
        mesh.wait_metric(server_metric(mesh, "tunnels/open"), lambda value: value == 0)
        metrics = mesh.metrics()

    assert metrics[server_metric(mesh, "pending")] == metrics[server_metric(mesh, "open_streams")] == 0
