"""What scanners say of a listener with certificates of ``hostmesh certs``."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.servers import fetch
from tests.servers.fetch import required
from tests.wire.harness import COMMAND, Hostmesh

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@}
routers:
- protocol: http
  dtab: /svc => /$/inet/127.0.0.1/1
  servers:
  - ip: 127.0.0.1
    port: @port@
    tls:
      certPath: @dir@/tls/cert.pem
      keyPath: @dir@/tls/key.pem
      caCertPath: @dir@/tls/ca.pem
      crlPath: @dir@/tls/crl.pem
"""


@pytest.mark.slow
def test_sslyze_mozilla_intermediate(tmp_path: Path) -> None:
    """Nothing to say against the certificate; the chain is trusted, in order, and without its root."""
    python = required(fetch.sslyze)
    for arguments in (("init", "ca"), ("issue", "ca", "web", "--ip", "127.0.0.1", "--out", "tls")):
        subprocess.run([COMMAND, "certs", *arguments], check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)
    file = tmp_path / "found.json"
    command = [str(python), "-m", "sslyze", "--mozilla_config", "intermediate", "--json_out", str(file)]
    command += ["--certinfo_ca_file", str(tmp_path / "tls" / "ca.pem")]

    with Hostmesh(tmp_path, CONFIG) as mesh:
        done = subprocess.run(
            [*command, f"127.0.0.1:{mesh.ports['port']}"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    verdict = done.stdout.partition("COMPLIANCE AGAINST TLS CONFIGURATION")[2]
    assert "127.0.0.1" in verdict, done.stdout
    # versions, ciphers and groups are the listener's own, and have a test of their own
    assert [line for line in verdict.splitlines() if "certificate_" in line or "rsa_" in line] == []
    found = json.loads(file.read_text())["server_scan_results"][0]["scan_result"]
    (chain,) = found["certificate_info"]["result"]["certificate_deployments"]
    (ours,) = (
        each for each in chain["path_validation_results"] if each["trust_store"]["name"] == "Supplied CA file"
    )
    assert ours["was_validation_successful"], ours["validation_error"]
    assert chain["received_chain_has_valid_order"]
    assert not chain["received_chain_contains_anchor_certificate"]
