"""``hostmesh demo --mtls``: what it prints, and what is really on the wire between its two hosts."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostmesh.daemon.demo_mtls import knock
from tests.wire.harness import RawClient, free_port, replace_file
from tests.wire.test_wire_demo import RunningDemo

HANDSHAKE, APPLICATION_DATA, CHANGE_CIPHER_SPEC = 22, 23, 20
"""Types of TLS records (RFC 8446 section 5.1)."""

TLS_13_CHOSEN = b"\x00\x2b\x00\x02\x03\x04"
"""The extension supported_versions of a ServerHello that chose TLS 1.3 (RFC 8446 4.2.1)."""


class Relay:
    """Passes connections on to a port and keeps what went by."""

    def __init__(self, port: int) -> None:
        self.to = port
        self.seen: list[tuple[bytearray, bytearray]] = []
        """For each connection what came from its caller, and what was answered."""
        self.sockets: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                near, _address = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.to))
            self.sockets += (near, far)
            asked, answered = bytearray(), bytearray()
            self.seen.append((asked, answered))
            for source, target, kept in ((near, far, asked), (far, near, answered)):
                self.threads.append(threading.Thread(target=self._pass, args=(source, target, kept)))
                self.threads[-1].start()

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket, kept: bytearray) -> None:
        try:
            while data := source.recv(65536):
                kept += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other direction has ended both

    def close(self) -> None:
        """Cut what is there and wait for the threads."""
        self.listener.shutdown(socket.SHUT_RDWR)  # close alone does not wake who accepts
        self.threads[0].join(10)
        for each in self.sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(10)
        for each in (self.listener, *self.sockets):
            each.close()


def record_types(stream: bytes) -> list[int]:
    """The types of the TLS records in one direction, to its end or to the first incomplete one."""
    types, at = [], 0
    while at + 5 <= len(stream):
        types.append(stream[at])
        at += 5 + int.from_bytes(stream[at + 3 : at + 5])
    return types


class RunningMtlsDemo(RunningDemo):
    """``hostmesh demo --mtls`` on free ports."""

    def __init__(self, folder: Path) -> None:
        self.incoming = free_port()
        super().__init__(folder, "--mtls", "--incoming-port", str(self.incoming))
        found = re.search(r"to edit while it runs: (\S+)", self.text)
        assert found is not None
        self.folder = Path(found[1])

    def send_through(self, port: int) -> None:
        """Let host A look for host B at another port."""
        file = self.folder / "demo.yaml"
        text = file.read_text()
        transformer, prefix = f"      port: {self.incoming}\n", f"/io.l5d.port/{self.incoming}/"
        assert text.count(transformer) == text.count(prefix) == 1
        text = text.replace(transformer, f"      port: {port}\n").replace(prefix, f"/io.l5d.port/{port}/")
        replace_file(file, text)

    def serial(self) -> int:
        """The serial number of the certificate that host B shows now."""
        context = ssl.create_default_context(cafile=self.folder / "tls" / "ca.pem")
        with (
            socket.create_connection(("127.0.0.1", self.incoming), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="web.mesh") as secure,
        ):
            shown = secure.getpeercert()
            assert shown is not None
            return int(str(shown["serialNumber"]), 16)

    def counters_of_b(self) -> dict[str, float]:
        """The metrics of host B's server, below its own name."""
        scope = f"rt/incoming/server/127.0.0.1/{self.incoming}/"
        with RawClient(self.admin) as client:
            text = client.request("GET", "/admin/metrics.json", host=f"127.0.0.1:{self.admin}").text
        return {
            name.removeprefix(scope): value
            for name, value in json.loads(text).items()
            if name.startswith(scope)
        }


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningMtlsDemo]:
    demo = RunningMtlsDemo(tmp_path)
    yield demo
    demo.close()


def test_demo_proves_what_it_promises(running: RunningMtlsDemo) -> None:
    """The application is answered through both hosts, and the service is told that host A called; B takes A's
    certificate and nobody without one of the mesh."""
    proved = dict(re.findall(r"^  (an? \w+.*?)  +(200.*|refused.*)$", running.text, re.MULTILINE))

    assert re.match(
        r"200, web-[12] \(pid \d+\) answers GET /", proved["an application, to host A in plain text"]
    )
    assert re.search(
        r"; host B was called by Hash=[0-9a-f]{64};DNS=host-a\.mesh;Subject=\"CN=host-a,",
        proved["an application, to host A in plain text"],
    )
    assert proved["a neighbour with host A's certificate"] == "200 OK, TLSv1.3, TLS_AES_128_GCM_SHA256"
    assert proved["a neighbour that speaks TLS 1.2 only"].startswith("200 OK, TLSv1.2, ECDHE-ECDSA-")
    assert proved["a stranger without a certificate"] == "refused: tlsv13 alert certificate required"
    assert proved["a stranger with one of another CA"] == "refused: tlsv1 alert unknown ca"
    assert proved["a stranger in plain text"] == "refused: 400, tls-not-spoken"
    assert len(proved) == 6


def test_between_the_hosts_there_is_tls_13_and_no_plain_text(running: RunningMtlsDemo) -> None:
    """A relay between A and B sees two hellos, TLS 1.3 chosen, and encrypted records; requests go on being answered."""
    relay = Relay(running.incoming)
    try:
        running.send_through(relay.port)
        deadline = time.monotonic() + 20
        while not relay.seen:
            answer = running.ask()
            assert answer.startswith("web-")
            assert time.monotonic() < deadline, "the changed configuration was not taken"
    finally:
        relay.close()

    asked, answered = (bytes(kept) for kept in relay.seen[0])
    for stream in (asked, answered):
        types = record_types(stream)
        assert types[0] == HANDSHAKE
        assert set(types[1:]) <= {APPLICATION_DATA, CHANGE_CIPHER_SPEC}
        assert types.count(APPLICATION_DATA) >= 2
        assert not re.search(rb"GET|HTTP/1|answers|l5d-", stream)
    assert b"web.mesh" in asked  # the name asked for (SNI) is all that can be read
    assert TLS_13_CHOSEN in answered[:512]


def test_host_b_refuses_callers_without_a_certificate_of_the_mesh(running: RunningMtlsDemo) -> None:
    """Each for a reason of its own, and not one of their requests is taken."""
    before = running.counters_of_b()
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        knock(running.folder, running.incoming, None)
    with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
        knock(running.folder, running.incoming, running.folder / "strange" / "host-a")

    after = running.counters_of_b()
    assert after["failures/tls-no-certificate"] == before["failures/tls-no-certificate"] + 1
    assert after["failures/tls-untrusted"] == before["failures/tls-untrusted"] + 1
    assert after["requests"] == before["requests"]


def test_a_renewed_certificate_is_shown_without_a_restart(running: RunningMtlsDemo) -> None:
    """The files that the banner offers are moved over the old ones: new serial number, requests still answered."""
    before = running.serial()
    for file in sorted((running.folder / "renewed").iterdir()):
        shutil.move(file, running.folder / "tls" / file.name)

    deadline = time.monotonic() + 20
    while running.serial() == before:
        assert running.ask().startswith("web-")
        assert time.monotonic() < deadline, "the renewed certificate was not taken"

    assert running.ask().startswith("web-")


def test_demo_ends_cleanly_on_ctrl_c(running: RunningMtlsDemo) -> None:
    """SIGINT ends it with status 0, and nothing of it is left: no folder, no key."""
    running.process.send_signal(signal.SIGINT)

    assert running.process.wait(20) == 0
    assert not running.folder.exists()
