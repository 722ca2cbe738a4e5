"""The daemon's admin over TLS: its files, its callers, and the commands that ask it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tls_files import Issued, TlsFiles
from tests.wire.harness import COMMAND, EndpointServer, Hostmesh, RawClient
from tests.wire.tls_admin import TlsAdminMesh
from tests.wire.tls_peers import alert_of, server_tls

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@, tls: TLS}
namers:
- {kind: io.l5d.fs, rootDir: @dir@/disco}
routers:
- protocol: http
  dtab: /svc => /#/io.l5d.fs
  servers:
  - {port: @port@, ip: 127.0.0.1}
"""


def config(tls: object) -> str:
    return CONFIG.replace("TLS", json.dumps(tls))


def put(pair: Issued, folder: Path) -> Issued:
    """The files of a certificate as ``admin.crt`` and ``admin.key``, each exchanged at once."""
    found = Issued(
        name="admin",
        cert=folder / "admin.crt",
        key=folder / "admin.key",
        chain=folder / "admin.crt",
        intermediates=None,
    )
    for source, target in ((pair.key, found.key), (pair.chain, found.cert)):
        part = folder / "part"
        shutil.copy(source, part)
        part.replace(target)
    return found


def test_admin_certificates_rotate(tmp_path: Path, tls_files: TlsFiles) -> None:
    """New connections get the new certificate without a restart, also after a reload that knows nothing of TLS; a
    broken pair leaves the old one in use, with an alarm, until it is mended."""
    pair = put(tls_files.web, tmp_path)
    text = config({"certPath": str(pair.cert), "keyPath": str(pair.key)})
    with TlsAdminMesh(tmp_path, text, tls_files.client_context()) as mesh:
        assert mesh.serial() == tls_files.web.serial
        put(tls_files.between, tmp_path)
        mesh.wait(lambda: mesh.serial() == tls_files.between.serial, "the second", within=15)

        mesh.write_config(text.replace("disco", "elsewhere"))
        mesh.wait_log("reloaded")
        pair.key.write_bytes(tls_files.shop.key.read_bytes())
        mesh.wait(lambda: mesh.metrics()["tls/alarms"] > 0, "an alarm", within=15)
        assert mesh.serial() == tls_files.between.serial
        put(tls_files.web_rsa, tmp_path)
        mesh.wait(lambda: mesh.serial() == tls_files.web_rsa.serial, "the third", within=15)
        mesh.wait(lambda: mesh.metrics()["tls/alarms"] == 0, "no alarm")


def test_an_admin_that_wants_certificates(tmp_path: Path, tls_files: TlsFiles) -> None:
    """Only callers of the mesh see a page; the others get the alert that says why, and plain text a 400."""
    text = config(server_tls(tls_files, callers=True))
    with TlsAdminMesh(tmp_path, text, tls_files.client_context(tls_files.client)) as mesh:
        port = mesh.ports["admin"]

        assert mesh.metrics()["admin/tls/failures"] == 0
        assert "CERTIFICATE_REQUIRED" in alert_of(port, tls_files.client_context(), "localhost", request=b"G")
        wrong = tls_files.client_context(tls_files.other)
        assert "UNKNOWN_CA" in alert_of(port, wrong, "localhost", request=b"G")
        with RawClient(port) as plain:
            answer = plain.request("GET", "/admin/ping", host="localhost")
        assert (answer.status, "https://" in answer.text) == (400, True)
        mesh.wait(lambda: mesh.metrics()["admin/tls/failures"] == 3, "counted")
        causes = [str(e["cause"]) for e in mesh.log_entries() if e["event"] == "admin.tls_refused"]
        assert [("shown no certificate" in causes[0]), ("the caller's certificate" in causes[1])] == [
            True,
            True,
        ], causes
        assert "does not speak TLS" in causes[2]


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        ({"certPath": "/nowhere/cert.pem", "keyPath": "KEY"}, "admin.tls.certPath: /nowhere/cert.pem:"),
        ({"certPath": "CERT", "keyPath": "SHOP"}, "this is not the key of the certificate in"),
        ({"certPath": "CERT", "keyPath": "KEY", "caCertPath": "KEY"}, "admin.tls.keyPath: "),
    ],
)
def test_files_that_cannot_be_used_end_the_start(
    tmp_path: Path, tls_files: TlsFiles, tls: dict[str, str], said: str
) -> None:
    """Exit code 1, and the text names key and file; no part of a key is in it."""
    files = {"CERT": tls_files.web.cert, "KEY": tls_files.web.key, "SHOP": tls_files.shop.key}
    named = {key: str(files.get(value, value)) for key, value in tls.items()}
    mesh = Hostmesh(tmp_path, config(named), start=False)

    done = subprocess.run(
        [str(COMMAND), "run", str(mesh.file)], capture_output=True, text=True, timeout=30, check=False
    )

    assert done.returncode == 1
    if "caCertPath" not in tls:
        assert said in done.stderr
    else:
        assert "found PRIVATE KEY, expected CERTIFICATE in PEM" in done.stderr
    assert key_text(tls_files.web) not in done.stderr


def key_text(pair: Issued) -> str:
    """A line from the middle of a private key."""
    return pair.key.read_text().splitlines()[1]


def test_names_log_asks_over_tls(tmp_path: Path, tls_files: TlsFiles) -> None:
    """With the CA and, where it is wanted, a certificate; what is wrong is said."""
    text = config(server_tls(tls_files, callers=True))

    def ask(*more: str, scheme: str = "https://") -> tuple[int, str]:
        admin = f"{scheme}127.0.0.1:{mesh.ports['admin']}"
        command = [str(COMMAND), "names", "log", "web", "--admin", admin, *more]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, done.stdout + done.stderr

    with (
        EndpointServer("web-1") as web,
        TlsAdminMesh(tmp_path, text, tls_files.client_context(tls_files.client)) as mesh,
    ):
        mesh.set_endpoints("web", [web])
        mesh.wait(lambda: mesh.get("/").status == 200, "routed")
        ours = ("--admin-cert", str(tls_files.client.cert), "--admin-key", str(tls_files.client.key))
        ca = ("--admin-ca", str(tls_files.ca))

        status, out = ask(*ca, *ours)
        assert (status, f"add        127.0.0.1:{web.port}  /#/io.l5d.fs/web" in out) == (0, True)
        status, out = ask(*ca, *ours, "--admin-name", "shop.mesh")
        assert (status, "127.0.0.1, expected shop.mesh; see docs/tls.md" in out) == (1, True)
        status, out = ask(*ours)
        assert (status, "no TLS with admin at" in out, "CA that is not among" in out) == (1, True, True)
        status, out = ask(*ca)
        assert (status, "certificate required" in out) == (1, True)
        status, out = ask(scheme="")
        assert (status, f"speaks TLS: --admin https://127.0.0.1:{mesh.ports['admin']}" in out) == (1, True)
        status, out = ask(*ca, "--admin-key", "x")
        assert (status, out) == (1, "--admin-key: needs --admin-cert\n")
