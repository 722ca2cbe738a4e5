"""Files of TLS and a running hostmesh: what a start, a reload and a look at every page make of good and bad ones."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tls_files import Issued, TlsFiles
from tests.wire.harness import COMMAND, EndpointServer, Hostmesh
from tests.wire.tls_peers import TlsClient, config

TLS = {"certPath": "@dir@/web.crt", "keyPath": "@dir@/web.key"}


def install(folder: Path, cert: Issued, key: Issued) -> None:
    shutil.copy(cert.cert, folder / "web.crt")
    shutil.copy(key.key, folder / "web.key")


def line_of(mesh: Hostmesh, key: str) -> int:
    """Where ``key`` stands in the configuration."""
    lines = mesh.file.read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if key in line)


def test_a_start_with_a_wrong_key_names_key_and_file(tmp_path: Path, tls_files: TlsFiles) -> None:
    """On stderr, with exit status 1, before any port is open to callers."""
    install(tmp_path, tls_files.web, tls_files.shop)
    mesh = Hostmesh(tmp_path, config(server=TLS), start=False)

    done = subprocess.run(
        [str(COMMAND), "run", str(mesh.file)], capture_output=True, text=True, timeout=30, check=False
    )

    assert done.returncode == 1
    where = f"{mesh.file}:{line_of(mesh, 'keyPath')}: routers[0].servers[0].tls.keyPath"
    assert (
        f"{where}: {tmp_path}/web.key: this is not the key of the certificate in {tmp_path}/web.crt"
        in done.stderr
    )
    assert "Traceback" not in done.stderr


def test_a_reload_with_a_bad_file_changes_nothing(tmp_path: Path, tls_files: TlsFiles) -> None:
    """The old configuration goes on to serve, with its own files still watched."""
    install(tmp_path, tls_files.web, tls_files.web)
    with EndpointServer("web-1") as web, Hostmesh.routing(tmp_path, config(server=TLS), web=[web]) as mesh:
        mesh.write_config(config(server={**TLS, "keyPath": "@dir@/no.key"}))
        mesh.wait_log("reload refused")
        where = f"{mesh.file}:{line_of(mesh, 'keyPath')}: routers[0].servers[0].tls.keyPath"
        assert f"{where}: {tmp_path}/no.key: expected a file" in mesh.log()

        install(tmp_path, tls_files.shop, tls_files.shop)
        mesh.wait_log("tls.reloaded")

        with TlsClient(mesh.port, tls_files.client_context(), "shop.mesh") as caller:
            assert caller.request("GET", "/", host="web").status == 200


def test_x7_no_page_and_no_line_has_a_part_of_a_key(tmp_path: Path, tls_files: TlsFiles) -> None:
    """Every page of admin, and the log, after a rotation, a key of another certificate, and a damaged key."""
    keys = [tls_files.web.key.read_text(), tls_files.shop.key.read_text()]
    install(tmp_path, tls_files.web, tls_files.web)
    with EndpointServer("web-1") as web, Hostmesh.routing(tmp_path, config(server=TLS), web=[web]) as mesh:
        install(tmp_path, tls_files.shop, tls_files.shop)
        mesh.wait_log("tls.reloaded")
        install(tmp_path, tls_files.shop, tls_files.web)
        mesh.wait_log("this is not the key")
        lines = keys[0].splitlines()
        (tmp_path / "web.key").write_text("\n".join([lines[0], lines[1][:-4], *lines[2:]]))
        mesh.wait_log("web.key: the private key in it cannot be parsed")
        index = mesh.admin("/admin").body.decode()
        paths = [line.split()[0] for line in index.splitlines() if line.startswith("/")]
        assert "/config.json" in paths
        shown = [mesh.admin(path).body.decode(errors="replace") for path in paths] + [mesh.log()]

    secrets = [line for key in keys for line in key.splitlines() if line and not line.startswith("-----")]
    found = [text[:80] for text in shown for secret in secrets if secret in text]
    assert found == []


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_x4_a_key_that_others_may_read_is_warned_about(
    tmp_path: Path, tls_files: TlsFiles, mode: int
) -> None:
    """In the log and on the overview, and served all the same: a Kubernetes secret is mounted so."""
    install(tmp_path, tls_files.web, tls_files.web)
    (tmp_path / "web.key").chmod(mode)
    with EndpointServer("web-1") as web, Hostmesh.routing(tmp_path, config(server=TLS), web=[web]) as mesh:
        with TlsClient(mesh.port, tls_files.client_context()) as caller:
            assert caller.request("GET", "/", host="web").status == 200

        text = "web.key: this private key has mode 0644, expected 0600"
        if mode == 0o644:
            mesh.wait_log(text)
        assert (text in mesh.log()) is (mode == 0o644)
        assert (text in mesh.admin("/").body.decode()) is (mode == 0o644)
