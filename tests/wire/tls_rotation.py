"""Certificates, CAs and revocation lists replaced in every way that tools have, under mTLS that must not notice.

One hostmesh is both ends: its outgoing routers call its incoming one over mutual TLS, with the files of one host.

    load --plain--> out (HTTP/2, connections that live on) --mTLS--+
    load --plain--> brief (HTTP/1.1, a connection per second) -----+--> in --plain--> web
    callers of our own (HTTP/2 and HTTP/1.1, held open) --mTLS-----+

``python -m tests.wire.tls_rotation`` rotates eleven times at 500 requests a second and says what that cost whom;
tests/wire/test_wire_tls_rotation.py does the same in less time. What must hold: no request fails, every new handshake
sees the new files within 5 s, connections that are established stay, a mismatched key is an alarm and changes nothing,
and who has been revoked, or lost its CA, is not let in any more, with a session from before neither.
"""

from __future__ import annotations

import argparse
import json
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

from attrs import define, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.h2_raw import PREFACE, RawH2Client, get, settings
from tests.tls_making import Authority, Leaf, key_pem
from tests.wire.counting import CountingEndpoint
from tests.wire.endpoint import Answer, EndpointServer, Malformed
from tests.wire.harness import Hostmesh, free_port
from tests.wire.load import Call, Held, Load, Outcome, failed
from tests.wire.pem_folder import PemFolder
from tests.wire.tls_peers import TlsClient, words

NAME = "host.mesh"
WITHIN = 5.0
"""Seconds after which a new handshake must see new files."""

BRIEF_PART = 5
"""One request of so many goes over connections that live for a second."""

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@, shutdownGraceMs: 5000}
namers:
- {kind: io.l5d.fs, rootDir: @dir@/disco}
routers:
- protocol: http
  label: out
  dtab: /svc => /$/inet/127.0.0.1/@in@
  client:
    protocol: h2
    tls: &tls
      commonName: host.mesh
      trustCertsBundle: @dir@/tls/ca.pem
      crlPath: @dir@/tls/crl.pem
      clientAuth: {certPath: @dir@/tls/cert.pem, keyPath: @dir@/tls/key.pem}
  servers: [{port: @port@, ip: 127.0.0.1}]
- protocol: http
  label: brief
  dtab: /svc => /$/inet/127.0.0.1/@in@
  client:
    clientSession: {lifeTimeMs: 1000}
    tls: *tls
  servers: [{port: @brief@, ip: 127.0.0.1}]
- protocol: http
  label: in
  dtab: /svc => /#/io.l5d.fs
  client: {forwardClientCert: true}
  servers:
  - port: @in@
    ip: 127.0.0.1
    tls:
      certPath: @dir@/tls/cert.pem
      keyPath: @dir@/tls/key.pem
      caCertPath: @dir@/tls/ca.pem
      crlPath: @dir@/tls/crl.pem
      requireClientAuth: true
"""


@frozen
class Met:
    """What a caller knows after a request on a connection of its own."""

    serial: int
    """Of the certificate that it was shown."""
    session: ssl.SSLSession
    is_resumed: bool


@define
class Report:
    """What has been counted."""

    outcomes: list[Outcome] = field(factory=list)
    seen: dict[str, float] = field(factory=dict)
    """Seconds from the moment at which the files were complete to the first handshake that saw them, by rotation."""
    held: dict[str, int] = field(factory=dict)
    """Requests of each connection that was held open from the first rotation to the last."""
    problems: list[str] = field(factory=list)
    refused: list[str] = field(factory=list)
    """The alerts for those who came with a session from before they were revoked."""
    worst_pause_ms: float = 0.0
    """For which hostmesh's loop has served nobody, in the last minute or two."""
    connects: int = 0
    """Connections of the outgoing HTTP/2 router: one, if none was lost."""
    handshakes: int = 0
    """That hostmesh's incoming server has completed."""
    probes: int = 0

    @property
    def failures(self) -> list[Outcome]:
        return failed(self.outcomes)


class Rotation(ExitStack):
    """A hostmesh under load whose files are about to change. ``rate`` is in requests per second."""

    def __init__(self, folder: Path, *, rate: float, hold: float) -> None:
        super().__init__()
        self.hold = hold
        self.report = Report()
        self.old, self.new = Authority("old CA"), Authority("new CA")
        self.files = PemFolder(folder / "tls")
        self.leaf = self.old.leaf(NAME, "spiffe://mesh/host")
        self.caller = self.old.leaf("caller.mesh")
        """Who our own callers are at present."""
        self.mallory = self.old.leaf("mallory.mesh")
        """Revoked halfway."""
        self._roots = self.old.pem + self.new.pem
        self.files.rename(
            cert=self.leaf.cert_pem,
            key=self.leaf.key_pem,
            ca=self.old.pem,
            crl=self.old.crl() + self.new.crl(),
        )
        self.files.swap()
        web = self.enter_context(CountingEndpoint(folder, "web", free_port()))
        self.who = self.enter_context(
            EndpointServer(
                "who",
                respond=lambda request: Answer(body=(request.get("x-forwarded-client-cert") or "").encode()),
            )
        )
        self.mesh = Hostmesh(folder, CONFIG, start=False)
        self.mesh.set_endpoints("web", [web.line])
        self.mesh.set_endpoints("who", [self.who])
        self.mesh.start()
        self.enter_context(self.mesh)
        self._own = Path(self.enter_context(tempfile.TemporaryDirectory()))
        """Python's ssl takes certificates of its own from files only."""
        self._loads = [
            self.enter_context(Load(self.mesh.port, Call(), rate=rate * (1 - 1 / BRIEF_PART), prefix="o")),
            self.enter_context(Load(self.mesh.ports["brief"], Call(), rate=rate / BRIEF_PART, prefix="b")),
        ]
        self._held = [Held(self._hold_h2(), "HTTP/2"), Held(self._hold_h1(), "HTTP/1.1")]
        for load in self._loads:
            load.more(20)

    # -- callers --------------------------------------------------------------------------------------------------

    def context(self, leaf: Leaf) -> ssl.SSLContext:
        """A caller's, with a certificate of its own, that believes both CAs at any time."""
        name = f"{leaf.serial:x}"
        cert, key = self._own / f"{name}.crt", self._own / f"{name}.key"
        if not key.exists():
            cert.write_bytes(leaf.cert_pem)
            key.write_bytes(leaf.key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self._roots.decode())
        context.load_cert_chain(cert, key)
        return context

    def _hold_h2(self) -> Callable[[int], int]:
        client = self.enter_context(RawH2Client(self.mesh.ports["in"], start=False))
        context = self.context(self.caller)
        context.set_alpn_protocols(["h2"])
        client.sock = context.wrap_socket(client.sock, server_hostname=NAME)
        client.send(PREFACE, settings())

        def ask(number: int) -> int:
            stream = 1 + 2 * number
            client.request(stream, get(authority="web"))
            client.ended(stream)
            status = int(client.head(stream).get(b":status") or b"0")
            client.frames.clear()
            return status

        return ask

    def _hold_h1(self) -> Callable[[int], int]:
        client = self.enter_context(TlsClient(self.mesh.ports["in"], self.context(self.caller), NAME))
        return lambda number: client.request("GET", "/", host="web", fields=(("X-Id", f"h{number}"),)).status

    def probe(self, leaf: Leaf) -> int:
        """A new handshake and a request of ``leaf``: the serial number of what it was shown. OSError if refused."""
        return self._call(self.context(leaf)).serial

    def _call(self, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> Met:
        """A request on a connection of its own, which is closed afterwards."""
        self.report.probes += 1
        with TlsClient(self.mesh.ports["in"], context, NAME, session=session) as client:
            answer = client.request("GET", "/", host="web", fields=(("X-Id", "p"),))
            assert answer.status == 200, answer
            der, left = client.tls.getpeercert(binary_form=True), client.tls.session
            assert der is not None
            assert left is not None
            serial = x509.load_der_x509_certificate(der).serial_number
            return Met(serial, left, bool(client.tls.session_reused))

    def is_let_in(self, leaf: Leaf) -> bool:
        try:
            self.probe(leaf)
        except (OSError, EOFError, Malformed):
            return False
        return True

    # -- rotations ------------------------------------------------------------------------------------------------

    def rotate(self, title: str, replace: Callable[[], None], is_seen: Callable[[], bool]) -> None:
        """Replace files, and look with one new handshake after the other until it is seen."""
        replace()
        done = time.monotonic()
        try:
            self.mesh.wait(is_seen, title, within=WITHIN)
        except AssertionError:
            self.report.problems.append(f"{title}: not seen within {WITHIN} s")
        self.report.seen[title] = time.monotonic() - done
        self.steady()

    def steady(self) -> None:
        """Traffic on what is in force now."""
        end = time.monotonic() + self.hold
        while time.monotonic() < end:
            for load in self._loads:
                load.more(5)

    def new_pair(self, title: str, replace: Callable[[Leaf], None], ca: Authority | None = None) -> None:
        """Another certificate and key, shown to callers and to endpoints."""
        leaf = (ca or self.old).leaf(NAME, "spiffe://mesh/host")
        mark = sha256(leaf.certificate.public_bytes(Encoding.DER)).hexdigest().encode()

        def is_seen() -> bool:
            if self.probe(self.caller) != leaf.serial:
                return False
            # The other half: who we are to endpoints, as the incoming side has verified it.
            return mark in self.mesh.get(host="who", port="brief").body

        self.rotate(title, lambda: replace(leaf), is_seen)
        self.leaf = leaf

    def key_first(self, leaf: Leaf, put: Callable[..., None], pause: float) -> None:
        put(key=leaf.key_pem)
        self._quiet(pause)
        put(cert=leaf.cert_pem)

    def _quiet(self, seconds: float) -> None:
        """What is shown meanwhile is the old certificate, and nobody is alarmed."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.probe(self.caller) != self.leaf.serial:
                self.report.problems.append("half a pair is in use")
        if "tls.old_kept" in self.mesh.log():
            self.report.problems.append("an alarm although the pair was not late")

    def mismatched_key(self) -> None:
        """A key of another certificate: the old pair stays, and everybody can see that something is wrong."""
        self.files.rename(key=key_pem(self.new.key))
        began = time.monotonic()
        self.mesh.wait_log("tls.old_kept")
        self.report.seen["mismatched key: alarm"] = time.monotonic() - began
        if self.mesh.metrics().get("tls/alarms") != 1:
            self.report.problems.append("mismatched key: not in the metrics")
        page, machine = (
            self.mesh.admin("/").body.decode(),
            json.loads(self.mesh.admin("/certificates.json").body),
        )
        text = "this is not the key of the certificate in"
        if text not in page or not any(text in alarm for alarm in machine["alarms"]):
            self.report.problems.append("mismatched key: not on the admin page")
        if self.probe(self.caller) != self.leaf.serial:
            self.report.problems.append("mismatched key: the old certificate is not in use any more")
        self.steady()

    def lose(self, title: str, victim: Leaf, honest: Leaf, replace: Callable[[], None]) -> None:
        """``victim`` was let in and is not any more, with a session from before neither; ``honest`` is, after a full
        handshake: nobody is resumed who was checked against something else (X5)."""
        callers = [(context := self.context(leaf), self._call(context).session) for leaf in (victim, honest)]
        met = [(context, self._call(context, session)) for context, session in callers]
        if not all(each.is_resumed for _context, each in met):
            self.report.problems.append(f"{title}: a session was not resumed although nothing had changed")
        self.rotate(title, replace, lambda: not self.is_let_in(victim))
        sessions = [(context, each.session) for context, each in met]
        try:
            self._call(*sessions[0])
        except OSError as error:
            self.report.refused.append(words(error))
        else:
            self.report.problems.append(f"{title}: let in with a session from before")
        if self._call(*sessions[1]).is_resumed:
            self.report.problems.append(f"{title}: resumed without being checked again")

    # -- the whole ------------------------------------------------------------------------------------------------

    def run(self) -> Report:
        """Eleven rotations, and a mistake."""
        files, old, new = self.files, self.old, self.new
        self.steady()
        self.new_pair("pair, symlink swap", lambda leaf: files.swap(cert=leaf.cert_pem, key=leaf.key_pem))
        self.new_pair("pair, renamed", lambda leaf: files.rename(cert=leaf.cert_pem, key=leaf.key_pem))
        self.new_pair("pair, in place", lambda leaf: files.in_place(cert=leaf.cert_pem, key=leaf.key_pem))
        self.new_pair("pair, key first, renamed", lambda leaf: self.key_first(leaf, files.rename, 0.5))
        self.new_pair("pair, key first, in place", lambda leaf: self.key_first(leaf, files.in_place, 1.0))
        revoked = old.crl(self.mallory) + new.crl()
        self.lose("CRL, renamed", self.mallory, self.caller, lambda: files.rename(crl=revoked))
        newcomer = new.leaf("caller.mesh")
        self.rotate(
            "CA, overlap, in place",
            lambda: files.in_place(ca=old.pem + new.pem),
            lambda: self.is_let_in(newcomer),
        )
        self.new_pair(
            "pair of the new CA, renamed",
            lambda leaf: files.rename(cert=leaf.cert_pem, key=leaf.key_pem),
            new,
        )
        former, self.caller = self.caller, newcomer
        self.lose("CA, the old one gone, renamed", former, self.caller, lambda: files.rename(ca=new.pem))
        self.mismatched_key()
        self.new_pair(
            "pair after the mismatch, renamed",
            lambda leaf: files.rename(cert=leaf.cert_pem, key=leaf.key_pem),
            new,
        )
        if self.mesh.metrics().get("tls/alarms") != 0:
            self.report.problems.append("the alarm has not ended")
        eve = new.leaf("eve.mesh")
        self.lose("CRL, symlink swap", eve, self.caller, lambda: files.swap(crl=new.crl(eve)))
        return self._end()

    def _end(self) -> Report:
        report = self.report
        for held in self._held:
            held.stop()
            report.held[held.title] = held.asked
            if held.problem:
                report.problems.append(held.problem)
        for load in self._loads:
            report.outcomes += load.stop()
        for name, value in self.mesh.metrics().items():
            if name.startswith("rt/in/server/") and name.endswith("/tls/handshakes"):
                report.handshakes = int(value)
            elif name.endswith("loop/worst_pause_ms"):
                report.worst_pause_ms = value
            elif name.startswith("rt/out/client/") and name.endswith("/connects"):
                report.connects = int(value)
        return report


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=500.0, help="requests per second (500)")
    parser.add_argument("--hold", type=float, default=3.0, help="seconds of traffic after each rotation (3)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        with Rotation(Path(folder), rate=options.rate, hold=options.hold) as made:
            report = made.run()
        seconds = time.monotonic() - began
    for title, took in report.seen.items():
        print(f"{title:40} {took:6.2f} s")
    slowest = sorted(outcome.done - outcome.sent for outcome in report.outcomes)
    print(f"{len(report.outcomes)} requests in {seconds:.0f} s, {len(report.failures)} failed")
    print(
        f"latency p50 {slowest[len(slowest) // 2] * 1000:.1f} ms, longest {slowest[-1] * 1000:.0f} ms; "
        f"longest pause of hostmesh's loop {report.worst_pause_ms:.1f} ms"
    )
    print(
        f"{report.handshakes} handshakes done; {report.probes} probes tried, of which some were to be refused"
    )
    print(
        f"{report.connects} connection of the outgoing HTTP/2 router; refused with a session: {report.refused}"
    )
    print("held connections: " + ", ".join(f"{name} {count} requests" for name, count in report.held.items()))
    for problem in [*report.problems, *map(str, report.failures[:10])]:
        print(f"PROBLEM: {problem}")
    return 1 if report.problems or report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
