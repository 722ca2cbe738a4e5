"""``hostmesh certs`` renews what a running hostmesh uses: no restart, no signal, and no request that fails."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.wire.harness import COMMAND, EndpointServer, Hostmesh

WITHIN_S = 5.0
"""Until new handshakes use new files (hardening X4)."""

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@}
namers:
- kind: io.l5d.fs
  rootDir: @dir@/disco
routers:
- protocol: http
  label: outgoing
  dtab: /svc => /$/inet/127.0.0.1/@incoming@
  client:
    # a new handshake for nearly every request
    clientSession: {lifeTimeMs: 1}
    tls:
      commonName: web.mesh
      trustCertsBundle: @dir@/tls/ca.pem
      crlPath: @dir@/tls/crl.pem
      clientAuth: {certPath: @dir@/tls/cert.pem, keyPath: @dir@/tls/key.pem}
  servers:
  - {ip: 127.0.0.1, port: @port@}
- protocol: http
  label: incoming
  dtab: /svc => /#/io.l5d.fs/web
  servers:
  - ip: 127.0.0.1
    port: @incoming@
    tls:
      certPath: @dir@/tls/cert.pem
      keyPath: @dir@/tls/key.pem
      caCertPath: @dir@/tls/ca.pem
      crlPath: @dir@/tls/crl.pem
      requireClientAuth: true
"""


class Calling:
    """Calls without a pause, in a thread, and remembers what was no success."""

    def __init__(self, call: Callable[[], int]) -> None:
        self.call = call
        self.answered = 0
        self.failed: list[object] = []
        self.stopping = False
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self.stopping:
            try:
                status = self.call()
            except OSError as error:
                self.failed.append(error)
                continue
            self.answered += 1
            if status != 200:
                self.failed.append(status)

    def __enter__(self) -> Calling:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping = True
        self.thread.join(30)


def certs(*arguments: str | Path) -> str:
    done = subprocess.run(
        [COMMAND, "certs", *map(str, arguments)], check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    """A CA whose holder ``web`` has its files in ``tls``, where CONFIG looks for them."""
    certs("init", tmp_path / "ca")
    certs("issue", tmp_path / "ca", "web", "--out", tmp_path / "tls")
    return tmp_path / "ca"


@pytest.fixture
def mesh(tmp_path: Path, ca: Path) -> Iterator[Hostmesh]:
    with EndpointServer("web-1") as web, Hostmesh.routing(tmp_path, CONFIG, web=[web]) as running:
        yield running


def shown(mesh: Hostmesh) -> int:
    """The serial number that the incoming server shows now, to a caller with the files of now."""
    tls = mesh.folder / "tls"
    context = ssl.create_default_context(cafile=tls / "ca.pem")
    context.load_cert_chain(tls / "cert.pem", tls / "key.pem")
    with (
        socket.create_connection(("127.0.0.1", mesh.ports["incoming"]), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="web.mesh") as secure,
    ):
        certificate = secure.getpeercert()
        assert certificate is not None
        return int(str(certificate["serialNumber"]), 16)


def wait_shown(mesh: Hostmesh, serial: int) -> None:
    mesh.wait(lambda: shown(mesh) == serial, f"serial number {serial:x}", within=WITHIN_S)


def serial_of(mesh: Hostmesh) -> int:
    """The serial number in the file."""
    return x509.load_pem_x509_certificate((mesh.folder / "tls" / "cert.pem").read_bytes()).serial_number


def test_renewals_and_an_exchange_of_the_ca_under_traffic(mesh: Hostmesh, ca: Path) -> None:
    """Five renewals, then the CA: every new serial number is shown within 5 s, and every request is answered."""
    seen = {shown(mesh)}
    with Calling(lambda: mesh.get("/").status) as calling:
        for _ in range(5):
            certs("rotate", ca, "--all")
            wait_shown(mesh, serial_of(mesh))
            seen.add(serial_of(mesh))

        certs("rotate", ca, "--ca", "--overlap-hours", "0")
        reloads = f"tls/ca/{mesh.folder}/tls/ca.pem/reloads"
        mesh.wait_metric(reloads, lambda value: value >= 1, within=WITHIN_S)
        assert certs("rotate", ca) == "web: renewed (new CA)\n"
        wait_shown(mesh, serial_of(mesh))
        seen.add(serial_of(mesh))

        enough = calling.answered + 20
        mesh.wait(lambda: calling.answered >= enough or bool(calling.failed), "20 requests more")

    assert len(seen) == 7
    assert calling.failed == []
    assert calling.answered > 40
    alarms = {name: value for name, value in mesh.metrics().items() if name.endswith("/alarm")}
    assert set(alarms.values()) == {0.0}


def test_a_stolen_ca_key_is_worth_nothing_after_replacement(mesh: Hostmesh, ca: Path, tmp_path: Path) -> None:
    """``rotate --ca --now``: the host goes on with the new CA within 5 s; a certificate of the old one is refused."""
    certs("issue", ca, "thief", "--out", tmp_path / "thief")
    old = (tmp_path / "thief" / "cert.pem").read_bytes(), (tmp_path / "thief" / "key.pem").read_bytes()
    (tmp_path / "stolen.pem").write_bytes(b"".join(old))

    certs("rotate", ca, "--ca", "--now")
    wait_shown(mesh, serial_of(mesh))

    context = ssl.create_default_context(cafile=tmp_path / "tls" / "ca.pem")
    context.load_cert_chain(tmp_path / "stolen.pem")
    deadline = time.monotonic() + WITHIN_S
    refused = None
    while refused is None and time.monotonic() < deadline:
        with (
            socket.create_connection(("127.0.0.1", mesh.ports["incoming"]), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="web.mesh") as secure,
        ):
            try:
                secure.sendall(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
                secure.recv(1)
            except ssl.SSLError as error:
                refused = error.reason
    assert refused == "TLSV1_ALERT_UNKNOWN_CA"
    mesh.wait(lambda: mesh.get("/").status == 200, "calls with the new CA on either side", within=WITHIN_S)
