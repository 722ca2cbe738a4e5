"""Rows X2 and X5 of the threat model for callers: who may not come in is told so with the right alert, counted and
logged with its own reason, and the endpoint hears nothing of it.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tls_files import Issued, TlsFiles
from tests.wire.harness import EndpointServer, RawClient, compose
from tests.wire.tls_peers import alert_of, config, s_client, s_client_renegotiating, server_tls, tls_mesh

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

GREETING = compose("GET", "/refused")


class Door:
    """A hostmesh that demands certificates on ``port``, none on ``open``, and has no TLS on ``plain``."""

    def __init__(self, folder: Path, files: TlsFiles) -> None:
        self.files = files
        self.endpoint = EndpointServer()
        demanding = server_tls(files, callers=True, crlPath=str(files.crl))
        text = config(server=demanding, more={"open": server_tls(files), "plain": None})
        self.mesh = tls_mesh(folder, text, self.endpoint)

    def close(self) -> None:
        self.mesh.close()
        self.endpoint.stop()

    def counted(self, port: str, reason: str) -> float:
        """How often the server of that port has failed for that reason."""
        return self.mesh.metrics().get(f"rt/r/server/127.0.0.1/{self.mesh.ports[port]}/failures/{reason}", 0)

    def refuses(self, call: Callable[[], object], reason: str, *, port: str = "port") -> None:
        """``call`` fails for that reason only: counted once, logged once, and nothing of it at the endpoint."""
        before, lines = self.counted(port, reason), self.logged(reason)
        self.endpoint.requests.clear()
        call()
        self.mesh.wait(lambda: self.counted(port, reason) == before + 1, f"{reason} is counted")
        self.mesh.wait(lambda: self.logged(reason) > lines, f"{reason} is logged")
        # What was asked later arrives, and nothing before it.
        with RawClient(self.mesh.ports["plain"]) as client:
            assert client.request(target="/marker").status == 200
        assert [each.target for each in self.endpoint.requests] == ["/marker"]

    def logged(self, reason: str) -> int:
        return sum(entry.get("reason") == reason for entry in self.mesh.log_entries())


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, tls_files: TlsFiles) -> Iterator[Door]:
    built = Door(tmp_path_factory.mktemp("door"), tls_files)
    yield built
    built.close()
    assert "Traceback" not in built.mesh.log(), built.mesh.log()[-6000:]


CERTIFICATES: list[tuple[str, Callable[[TlsFiles], Issued | None], str, tuple[str, str]]] = [
    ("X5-wrong-ca", lambda files: files.other, "tls-untrusted", ("UNKNOWN_CA", "UNKNOWN_CA")),
    (
        "X5-expired",
        lambda files: files.expired,
        "tls-expired",
        ("CERTIFICATE_EXPIRED", "CERTIFICATE_EXPIRED"),
    ),
    ("X5-not-yet-valid", lambda files: files.not_yet, "tls-expired", ("BAD_CERTIFICATE", "BAD_CERTIFICATE")),
    (
        "X5-revoked",
        lambda files: files.revoked,
        "tls-revoked",
        ("CERTIFICATE_REVOKED", "CERTIFICATE_REVOKED"),
    ),
    (
        "X5-wrong-usage",
        lambda files: files.server_only,
        "tls-wrong-usage",
        ("UNSUPPORTED_CERTIFICATE", "UNSUPPORTED_CERTIFICATE"),
    ),
    (
        "X5-no-certificate",
        lambda _: None,
        "tls-no-certificate",
        ("HANDSHAKE_FAILURE", "CERTIFICATE_REQUIRED"),
    ),
]
"""Id, what the caller shows, the reason, and the alerts of TLS 1.2 and 1.3 (RFC 5246 7.2.2, RFC 8446 6.2)."""


@pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
@pytest.mark.parametrize(
    ("shown", "reason", "alerts"), [row[1:] for row in CERTIFICATES], ids=[row[0] for row in CERTIFICATES]
)
def test_x5_certificate_of_a_caller_is_refused(
    door: Door,
    shown: Callable[[TlsFiles], Issued | None],
    reason: str,
    alerts: tuple[str, str],
    version: ssl.TLSVersion,
) -> None:
    """X5: a certificate that must not pass ends the handshake with the alert that says what is wrong with it."""
    context = door.files.client_context(shown(door.files), oldest=version, newest=version)
    alert: list[str] = []

    door.refuses(
        lambda: alert.append(alert_of(door.mesh.port, context, request=GREETING)), reason, port="port"
    )

    assert alert[0].endswith(f"ALERT_{alerts[version is V13]}")


def test_x5_a_leaf_without_its_intermediate_is_refused(door: Door) -> None:
    """X5: who shows no chain to a trusted CA is not trusted."""
    context = door.files.client_context()
    context.load_cert_chain(door.files.between.cert, door.files.between.key)
    alert: list[str] = []

    door.refuses(lambda: alert.append(alert_of(door.mesh.port, context, request=GREETING)), "tls-untrusted")

    assert alert[0].endswith("ALERT_UNKNOWN_CA")


@pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
@pytest.mark.parametrize("name", ["client", "client_rsa", "web", "between"])
def test_x5_certificate_of_a_caller_is_taken(door: Door, name: str, version: ssl.TLSVersion) -> None:
    """X5: the same door lets in who has what it asks for, ECDSA or RSA, directly or below an intermediate CA."""
    context = door.files.client_context(getattr(door.files, name), oldest=version, newest=version)
    # The list of revoked certificates is the root's; a leaf of an intermediate CA would need that CA's list.
    port = "port" if name != "between" else "open"

    assert alert_of(door.mesh.ports[port], context, request=compose(fields=(("Connection", "close"),))) == ""


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"], ids=["X2-tls1.0", "X2-tls1.1"])
def test_x2_old_versions_are_refused(door: Door, version: str) -> None:
    """X2: TLS 1.0 and 1.1 get ``protocol version``, whatever ciphers they bring."""
    seen: list[str] = []

    def call() -> None:
        seen.append(s_client(door.mesh.ports["open"], version, "-cipher", "ALL:@SECLEVEL=0").alert)

    door.refuses(call, "tls-version", port="open")

    assert seen == ["protocol version"]


def test_x2_ssl3_is_refused(door: Door) -> None:
    """X2: a ClientHello of SSL 3.0, which no library makes any more."""
    hello = bytes.fromhex("0300" + "11" * 32 + "00" + "0004" + "002f000a" + "0100")
    handshake = b"\x01" + len(hello).to_bytes(3, "big") + hello
    record = b"\x16\x03\x00" + len(handshake).to_bytes(2, "big") + handshake
    answer = bytearray()

    def call() -> None:
        with RawClient(door.mesh.ports["open"]) as client:
            client.send(record)
            answer.extend(client.read_until_close())

    door.refuses(call, "tls-version", port="open")

    # An alert record: fatal, protocol_version.
    assert (answer[0], bytes(answer[5:7])) == (21, bytes([2, 70]))


@pytest.mark.parametrize(
    "cipher",
    ["AES128-SHA", "AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA", "NULL-SHA256", "ADH-AES128-GCM-SHA256"],
    ids=lambda cipher: f"X2-{cipher}",
)
def test_x2_weak_ciphers_are_refused(door: Door, cipher: str) -> None:
    """X2: without forward secrecy or authenticated encryption there is no cipher in common."""
    seen: list[str] = []

    def call() -> None:
        seen.append(s_client(door.mesh.ports["open"], "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0").alert)

    door.refuses(call, "tls-handshake", port="open")

    assert seen == ["handshake failure"]


def test_x2_unknown_application_protocol_is_refused(door: Door) -> None:
    """X2: a caller that offers only protocols that we do not speak is told so, not given another one."""
    context = door.files.client_context(alpn=["spdy/3.1", "acme-tls/1"])
    alert: list[str] = []

    door.refuses(
        lambda: alert.append(alert_of(door.mesh.ports["open"], context)), "tls-handshake", port="open"
    )

    assert alert[0].endswith("ALERT_NO_APPLICATION_PROTOCOL")


def test_x2_renegotiation_is_refused(door: Door) -> None:
    """X2: a caller of TLS 1.2 that wants a new handshake on its connection gets none."""
    seen = s_client_renegotiating(door.mesh.ports["open"], "-CAfile", str(door.files.ca))

    assert seen.verified
    assert "RENEGOTIATING" in seen.text
    assert "no renegotiation" in seen.text


def test_x2_no_early_data_and_no_compression(door: Door, tmp_path: Path) -> None:
    """X2: a session's tickets allow no early data, and TLS compression is off."""
    session = tmp_path / "session.pem"
    request = compose(fields=(("Connection", "close"),))
    port = door.mesh.ports["open"]
    first = s_client(port, "-tls1_3", "-sess_out", str(session), request=request)
    early = tmp_path / "early"
    early.write_bytes(GREETING)
    door.endpoint.requests.clear()

    second = s_client(port, "-tls1_3", "-sess_in", str(session), "-early_data", str(early), request=request)

    assert "Max Early Data: 0" in first.text
    assert "Early data was accepted" not in second.text
    assert "Compression: NONE" in first.text
    assert [each.target for each in door.endpoint.requests] in ([], ["/"])


@pytest.mark.parametrize("port", ["port", "open"])
def test_x2_plain_http_on_a_tls_port(door: Door, port: str) -> None:
    """X2: a caller without TLS is told in its own language to use it, and is not served."""
    answers: list[int] = []

    def call() -> None:
        with RawClient(door.mesh.ports[port]) as client:
            client.send(GREETING)
            response = client.response()
            answers.append(response.status)
            assert (response.get("l5d-err") or "").startswith("tls-not-spoken")
            assert client.is_closed()

    door.refuses(call, "tls-not-spoken", port=port)

    assert answers == [400]


@pytest.mark.parametrize(
    "data",
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x00" * 64, b"SSH-2.0-OpenSSH_9.2\r\n", b"\x80\x2e\x01\x00\x02"],
    ids=["X2-h2-preface", "X2-zeros", "X2-ssh", "X2-sslv2"],
)
def test_x2_what_is_no_tls_is_closed(door: Door, data: bytes) -> None:
    """X2: bytes that begin no handshake end the connection at once."""

    def call() -> None:
        with RawClient(door.mesh.ports["open"]) as client:
            client.send(data)
            client.half_close()
            client.read_until_close()

    door.refuses(call, "tls-not-spoken", port="open")


def test_x2_tls_on_a_plain_port(door: Door) -> None:
    """X2: a handshake on a port without TLS is answered with an alert, which its library understands."""
    alert: list[str] = []
    context = door.files.client_context()

    door.refuses(
        lambda: alert.append(alert_of(door.mesh.ports["plain"], context)), "tls-unexpected", port="plain"
    )

    assert alert[0].endswith("ALERT_HANDSHAKE_FAILURE")


def test_x5_the_wrong_name_is_the_callers_to_notice(door: Door) -> None:
    """X5: a caller that asks for a name that our certificate has not leaves, and what it said is counted as such."""
    context = door.files.client_context()

    def call() -> None:
        with (
            socket.create_connection(("127.0.0.1", door.mesh.ports["open"]), 10) as sock,
            pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"),
        ):
            context.wrap_socket(sock, server_hostname="shop.mesh")

    door.refuses(call, "tls-rejected", port="open")
