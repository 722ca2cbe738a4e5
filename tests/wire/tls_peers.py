"""Peers that speak TLS, for tests on real sockets: an endpoint, a caller, ``openssl s_client``, ``curl``.

    with TlsEndpoint(files.server_context(files.web)) as web, tls_mesh(tmp_path, files, web) as mesh:
        with TlsClient(mesh.port, files.client_context(files.client)) as caller: ...

The endpoint and the caller use Python's ssl, which is another OpenSSL than the one that hostmesh uses.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

from attrs import frozen

from tests.tls_files import Issued, TlsFiles
from tests.wire.harness import EndpointServer, Hostmesh, RawClient

NAME = "web.mesh"
"""Whom the certificates of endpoints must be for."""


class TlsEndpoint(EndpointServer):
    """An EndpointServer behind TLS. ``raw`` and ``requests`` hold what was decrypted."""

    def __init__(self, context: ssl.SSLContext, name: str = "web-1", **options: Any) -> None:
        self.context = context
        self.failures: list[str] = []
        """Why handshakes failed, and the alerts that ended connections: OpenSSL's words for them."""
        self.callers: list[str] = []
        """One for each connection whose handshake succeeded: see :func:`caller_name`."""
        super().__init__(name, **options)

    def _connection(self, number: int, peer: socket.socket) -> None:
        peer.settimeout(10)
        try:
            secure = self.context.wrap_socket(peer, server_side=True)
        except OSError as error:
            with self.changed:
                self.failures.append(words(error))
                self.peers.pop(number, None)
                self.closed.append(number)
                self.changed.notify_all()
            peer.close()
            return
        secure.settimeout(None)
        with self.changed:
            self.peers[number] = secure
            self.callers.append(caller_name(secure))
            self.changed.notify_all()
        super()._connection(number, secure)

    def _exchange(self, *arguments: Any) -> bool:
        try:
            return super()._exchange(*arguments)
        except ssl.SSLError as error:
            with self.changed:
                self.failures.append(words(error))
            return False

    @property
    def received(self) -> bytes:
        """Every decrypted byte of every connection."""
        return b"".join(self.raw)


def caller_name(sock: socket.socket) -> str:
    """``none`` for a connection without TLS, ``tls`` for one without a certificate, else the first name in it."""
    if not isinstance(sock, ssl.SSLSocket):
        return "none"
    certificate = sock.getpeercert()
    if not certificate:
        return "tls"
    names: Any = certificate["subjectAltName"]
    return str(next(value for kind, value in names if kind == "DNS"))


class TlsClient(RawClient):
    """A connection whose handshake is done. Raises ssl.SSLError when it fails, with OpenSSL's ``reason``."""

    def __init__(
        self,
        port: int,
        context: ssl.SSLContext,
        name: str = NAME,
        *,
        session: ssl.SSLSession | None = None,
        **options: Any,
    ) -> None:
        super().__init__(port, **options)
        try:
            self.tls = context.wrap_socket(self.socket, server_hostname=name, session=session)
        except OSError:
            self.socket.close()
            raise
        self.socket = self.tls
        self.input.peer = self.tls


def alert_of(port: int, context: ssl.SSLContext, name: str = NAME, *, request: bytes = b"") -> str:
    """The alert with which the server refuses this client; "" if there is none.

    With TLS 1.3 a client has finished before the server has judged its certificate, so the alert comes with the
    first read.
    """
    try:
        with TlsClient(port, context, name) as client:
            if request:
                client.send(request)
            client.socket.recv(1)
    except ssl.SSLError as error:
        return words(error)
    except ConnectionError:
        return ""
    return ""


def words(error: OSError) -> str:
    """OpenSSL's reason as a constant; Python does not know the names of all alerts."""
    found = re.match(r"\[SSL\] (.*?) \(_ssl", str(error))
    reason = getattr(error, "reason", None) or (found[1] if found else str(error))
    return str(reason).upper().replace(" ", "_")


# -- hostmesh ---------------------------------------------------------------------------------------------------------


def server_tls(
    files: TlsFiles, pair: Issued | None = None, *, callers: bool = False, **more: Any
) -> dict[str, Any]:
    """``servers[].tls``; with ``callers`` they must show a certificate."""
    shown = pair or files.web
    found: dict[str, Any] = {"certPath": str(shown.cert), "keyPath": str(shown.key)}
    if shown.intermediates is not None:
        found["intermediateCertsPath"] = str(shown.intermediates)
    if callers:
        found |= {"caCertPath": str(files.ca), "requireClientAuth": True}
    return found | more


def client_tls(files: TlsFiles, pair: Issued | None = None, **more: Any) -> dict[str, Any]:
    """``client.tls``, with our own certificate if there is one."""
    found: dict[str, Any] = {"commonName": NAME, "trustCertsBundle": str(files.ca)}
    if pair is not None:
        found["clientAuth"] = {"certPath": str(pair.cert), "keyPath": str(pair.key)}
        if pair.intermediates is not None:
            found["clientAuth"]["intermediateCertsPath"] = str(pair.intermediates)
    return found | more


def config(
    protocol: str = "http",
    *,
    server: dict[str, Any] | None = None,
    client: dict[str, Any] | None = None,
    more: dict[str, dict[str, Any] | None] | None = None,
    **router: Any,
) -> str:
    """A configuration for :class:`Hostmesh` with one router, whose halves have these ``tls`` objects.

    ``more`` are more servers: the ``tls`` of each, by the name of its port.
    """
    listeners = [
        {"ip": "127.0.0.1", "port": f"@{port}@", **({"tls": tls} if tls is not None else {})}
        for port, tls in {"port": server, **(more or {})}.items()
    ]
    one = {"protocol": protocol, "label": "r", "dtab": "/svc => /#/io.l5d.fs", "servers": listeners, **router}
    if client is not None:
        one["client"] = {**router.get("client", {}), "tls": client}
    whole = {
        "admin": {"ip": "127.0.0.1", "port": "@admin@", "shutdownGraceMs": 5000},
        "namers": [{"kind": "io.l5d.fs", "rootDir": "@dir@/disco"}],
        "routers": [one],
    }
    # Ports are numbers, and @dir@ a string.
    return re.sub(r'"(@(?!dir)\w+@)"', r"\1", json.dumps(whole, indent=1))


# -- programs ---------------------------------------------------------------------------------------------------------


@frozen
class SClient:
    """What ``openssl s_client`` has seen."""

    text: str

    def _found(self, pattern: str) -> str:
        match = re.search(pattern, self.text, re.MULTILINE)
        return match[1].strip() if match else ""

    @property
    def version(self) -> str:
        return self._found(r"^(?:New|Reused), (TLSv[\d.]+), Cipher")

    @property
    def cipher(self) -> str:
        return self._found(r"^(?:New|Reused), .*Cipher is (\S+)$")

    @property
    def alpn(self) -> str:
        return self._found(r"^ALPN protocol: (\S+)$")

    @property
    def reused(self) -> bool:
        return bool(self._found(r"^(Reused), "))

    @property
    def alert(self) -> str:
        """The alert that the server sent, in OpenSSL's words."""
        return self._found(r":(?:ssl|tls)\S* alert ([^:]+):")

    @property
    def subject(self) -> str:
        return self._found(r"^subject=(.*)$")

    @property
    def verified(self) -> bool:
        return "Verify return code: 0 (ok)" in self.text


def s_client(port: int, *options: str, request: bytes = b"", within: float = 20.0) -> SClient:
    """Run it: connect, send ``request`` if there is one, and read until the server closes."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options]
    if not request:
        done = subprocess.run(
            command, input=b"", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=within, check=False
        )
        return SClient(done.stdout.decode(errors="replace"))
    # Its input has to stay open while it waits for the answer, or it hangs up.
    process = subprocess.Popen(
        [*command, "-ign_eof"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        out, _ = process.communicate(request, timeout=within)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return SClient(out.decode(errors="replace"))


@frozen(kw_only=True)
class Curled:
    """What ``curl`` has got."""

    code: int
    """Its exit code."""
    status: int
    version: str
    """Of HTTP: 1.1 or 2."""
    body: str
    error: str


def s_client_renegotiating(port: int, *options: str, within: float = 20.0) -> SClient:
    """Run it with TLS 1.2, and ask for a new handshake on the connection; it ends when it is refused."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2", *options]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    timer = threading.Timer(within, process.kill)
    timer.start()
    try:
        # It reads commands from the line that it has read alone.
        process.stdin.write(b"R\n")
        process.stdin.flush()
        text = process.stdout.read().decode(errors="replace")
        process.wait()
    finally:
        timer.cancel()
        process.stdin.close()
        process.stdout.close()
    return SClient(text)


def curl(port: int, *options: str, name: str = NAME, scheme: str = "https", host: str = "web") -> Curled:
    """One request to ``host``, on a connection to ``name`` at the port of this machine."""
    form = "\\n%{http_code} %{http_version}"
    command = ["curl", "-sS", "--max-time", "20", "--resolve", f"{name}:{port}:127.0.0.1", "-w", form]
    command += ["-H", f"Host: {host}", *options, f"{scheme}://{name}:{port}/"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    body, _, last = done.stdout.rpartition("\n")
    status, version = last.split()
    return Curled(code=done.returncode, status=int(status), version=version, body=body, error=done.stderr)


def trusting(files: TlsFiles, pair: Issued | None = None) -> list[str]:
    """Options of curl: trust the mesh, and show a certificate if there is one."""
    shown = [] if pair is None else ["--cert", str(pair.chain), "--key", str(pair.key)]
    return ["--cacert", str(files.ca), *shown]


@contextlib.contextmanager
def nothing_arrives(endpoint: EndpointServer) -> Any:
    """Nobody sends a byte of a request to the endpoint meanwhile; connections without any are allowed."""
    before = sum(len(each) for each in endpoint.raw)
    yield
    assert sum(len(each) for each in endpoint.raw) == before, endpoint.raw


def tls_mesh(folder: Path, text: str, *endpoints: EndpointServer) -> Hostmesh:
    """A hostmesh whose service ``web`` is these endpoints."""
    return Hostmesh.routing(folder, text, web=list(endpoints))
