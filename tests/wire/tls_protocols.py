"""Real callers and endpoints of five protocols, each with and without TLS: the rows of the matrix.

A *way* says which half is TLS. :class:`Ends` are an endpoint that demands what its half of the way says, and a call
that does what the other half says and returns what the endpoint saw of it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from attrs import frozen
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from tests.grpc_peers import ECHO
from tests.servers.fetch import nginx, required
from tests.servers.running import free_port, running
from tests.tls_files import TlsFiles
from tests.wire.harness import EndpointServer
from tests.wire.tls_peers import NAME, TlsEndpoint, caller_name, client_tls, curl, server_tls, trusting


@frozen
class Way:
    """Which half is TLS, and whether both show certificates."""

    name: str
    callers: bool
    endpoints: bool
    mutual: bool = False


WAYS = (
    Way("plain", callers=False, endpoints=False),
    Way("tls-in", callers=True, endpoints=False),
    Way("tls-out", callers=False, endpoints=True),
    Way("mtls", callers=True, endpoints=True, mutual=True),
)


@frozen
class Ends:
    """A running endpoint, and how to call it."""

    port: int
    call: Callable[[int], str]
    """A call to a port; the answer says which TLS the endpoint has seen: ``none``, ``tls`` or the name that the
    certificate of its caller is for.
    """


def halves(files: TlsFiles, way: Way) -> dict[str, Any]:
    """The ``tls`` objects of hostmesh for a way: ``server`` and ``client`` of :func:`tests.wire.tls_peers.config`."""
    return {
        "server": server_tls(files, callers=way.mutual) if way.callers else None,
        "client": client_tls(files, files.client if way.mutual else None) if way.endpoints else None,
    }


def seen(way: Way) -> str:
    """What the endpoint of a way has to say."""
    return "caller.mesh" if way.mutual else "tls" if way.endpoints else "none"


def endpoint_context(files: TlsFiles, way: Way, *alpn: str) -> ssl.SSLContext | None:
    return files.server_context(files.web, callers=way.mutual, alpn=alpn) if way.endpoints else None


def caller_context(files: TlsFiles, way: Way, *alpn: str) -> ssl.SSLContext | None:
    return files.client_context(files.client if way.mutual else None, alpn=alpn) if way.callers else None


def curl_options(files: TlsFiles, way: Way) -> tuple[list[str], str]:
    if not way.callers:
        return [], "http"
    return trusting(files, files.client if way.mutual else None), "https"


@contextlib.contextmanager
def http1(files: TlsFiles, way: Way, folder: Path) -> Iterator[Ends]:
    """curl, and an endpoint that reads bytes."""
    context = endpoint_context(files, way)
    server = EndpointServer() if context is None else TlsEndpoint(context)

    def call(port: int) -> str:
        options, scheme = curl_options(files, way)
        got = curl(port, "--http1.1", *options, scheme=scheme)
        assert (got.code, got.status, got.version) == (0, 200, "1.1"), got
        return server.callers[-1] if isinstance(server, TlsEndpoint) else "none"

    with server:
        yield Ends(server.port, call)


@contextlib.contextmanager
def http2(files: TlsFiles, way: Way, folder: Path) -> Iterator[Ends]:
    """curl, and nginx."""
    program = required(nginx)
    port = free_port()
    listen, verify = "http2", ""
    if way.endpoints:
        listen = "ssl http2"
        verify = f"ssl_certificate {files.web.chain}; ssl_certificate_key {files.web.key};"
    if way.mutual:
        verify += f" ssl_client_certificate {files.ca}; ssl_verify_client on;"
    (folder / "nginx.conf").write_text(
        f"""{"user root;" if os.getuid() == 0 else ""}
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} {listen};
    {verify}
    return 200 "$http2 $ssl_protocol $ssl_client_s_dn";
  }}
}}
"""
    )

    def call(port: int) -> str:
        options, scheme = curl_options(files, way)
        version = "--http2" if way.callers else "--http2-prior-knowledge"
        got = curl(port, version, *options, scheme=scheme)
        assert (got.code, got.status, got.version) == (0, 200, "2"), got
        spoken, _, rest = got.body.partition(" ")
        assert spoken == ("h2" if way.endpoints else "h2c"), got
        version, _, subject = rest.partition(" ")
        # nginx names the subject; the certificate of that subject is the one for this name.
        return "caller.mesh" if subject == "CN=client" else "tls" if version else "none"

    with running([str(program), "-p", str(folder), "-c", str(folder / "nginx.conf")], folder, port):
        yield Ends(port, call)


@contextlib.contextmanager
def grpc_calls(files: TlsFiles, way: Way, folder: Path) -> Iterator[Ends]:
    """grpcio on both sides."""

    def unary(request: bytes, context: grpc.ServicerContext) -> bytes:
        auth = context.auth_context()
        if auth.get("transport_security_type") != [b"ssl"]:
            return b"none"
        return next(
            (name for name in auth.get("x509_subject_alternative_name", ()) if b"/" not in name), b"tls"
        )

    server = grpc.server(ThreadPoolExecutor(2))
    handlers = {"Unary": grpc.unary_unary_rpc_method_handler(unary)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(ECHO, handlers),))
    if way.endpoints:
        pair = (files.web.key.read_bytes(), files.web.chain.read_bytes())
        ca = files.ca.read_bytes() if way.mutual else None
        credentials = grpc.ssl_server_credentials([pair], ca, require_client_auth=way.mutual)
        port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    def call(port: int) -> str:
        # A router for HTTP/2 names the service by the authority, as a router for HTTP/1 by the Host.
        options = [("grpc.default_authority", "web"), ("grpc.use_local_subchannel_pool", 1)]
        target = f"127.0.0.1:{port}"
        if way.callers:
            options[0] = ("grpc.ssl_target_name_override", "web")
            ca = files.ca.read_bytes()
            shown = (
                (files.client.key.read_bytes(), files.client.chain.read_bytes())
                if way.mutual
                else (None, None)
            )
            channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(ca, *shown), options)
        else:
            channel = grpc.insecure_channel(target, options)
        with channel:
            answer: bytes = channel.unary_unary(f"/{ECHO}/Unary")(b"hello", timeout=20)
            return answer.decode()

    try:
        yield Ends(port, call)
    finally:
        server.stop(None).wait()


@contextlib.contextmanager
def websocket(files: TlsFiles, way: Way, folder: Path) -> Iterator[Ends]:
    """``websockets`` on both sides."""

    def answer(connection: ServerConnection) -> None:
        for message in connection:
            assert message == "hello"
            connection.send(caller_name(connection.socket))

    server = serve(answer, "127.0.0.1", 0, ssl=endpoint_context(files, way))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def call(port: int) -> str:
        context = caller_context(files, way)
        scheme = "ws" if context is None else "wss"
        sock = socket.create_connection(("127.0.0.1", port))
        with connect(f"{scheme}://web/", sock=sock, ssl=context, proxy=None) as connection:
            connection.send("hello")
            return str(connection.recv(timeout=20))

    try:
        yield Ends(server.socket.getsockname()[1], call)
    finally:
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def tcp(files: TlsFiles, way: Way, folder: Path) -> Iterator[Ends]:
    """Sockets: the endpoint answers when it has read to the end, so that half-closing is a part of the call."""
    context = endpoint_context(files, way)

    def one(peer: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            sock: socket.socket = stack.enter_context(peer)
            sock.settimeout(20)
            if context is not None:
                sock = stack.enter_context(context.wrap_socket(sock, server_side=True))
            assert sock.recv(5) == b"hello"
            sock.sendall(caller_name(sock).encode())
            if isinstance(sock, ssl.SSLSocket):
                # An end that is not said is a cut, and handed on as one.
                sock.unwrap()

    def accept() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            # A port that is only tried out closes again.
            with contextlib.suppress(OSError, AssertionError):
                one(peer)

    def call(port: int) -> str:
        context = caller_context(files, way)
        with contextlib.ExitStack() as stack:
            sock: socket.socket = stack.enter_context(socket.create_connection(("127.0.0.1", port), 20))
            if context is not None:
                sock = stack.enter_context(context.wrap_socket(sock, server_hostname=NAME))
            sock.sendall(b"hello")
            answer = b""
            while data := sock.recv(1000):
                answer += data
            return answer.decode()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield Ends(listener.getsockname()[1], call)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


PROTOCOLS = {"http1": http1, "http2": http2, "grpc": grpc_calls, "websocket": websocket, "tcp": tcp}
"""The rows, by the name under which the tests show them."""

ROUTERS: dict[str, dict[str, Any]] = {
    "http1": {"protocol": "http"},
    "http2": {"protocol": "h2"},
    "grpc": {"protocol": "h2"},
    "websocket": {"protocol": "http"},
    "tcp": {"protocol": "tcp", "identifier": {"kind": "io.l5d.tcp.static", "path": "/web"}},
}
"""The router that carries each."""
