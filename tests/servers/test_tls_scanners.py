"""What two scanners of TLS servers find on a listener of hostmesh: nothing that is not the test CA's own fault."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import fetch
from tests.servers.fetch import required
from tests.tls_files import TlsFiles
from tests.wire.harness import EndpointServer, Hostmesh
from tests.wire.tls_peers import config, server_tls, tls_mesh

OF_THE_CA = {
    "cert_expirationStatus": "certificates of tests live a month",
    "cert_notAfter": "the same",
    "cert_revocation": "a CA without a public address offers no revocation list",
    "DNS_CAArecord": "a name that is not in the DNS has no CAA record",
    "cert_trust": "no scanner asks for the name that the certificate is for",
}
"""What testssl.sh finds that is not the listener's doing."""

OF_THE_SCANNER = {
    "engine_problem": "its OpenSSL has no engine for GOST ciphers",
    "RC4": "its OpenSSL cannot offer RC4 itself",
    "sessionresumption_ticket": "with TLS 1.3 its client may leave before the ticket comes; SSLyze waits for it",
}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, tls_files: TlsFiles) -> Iterator[Hostmesh]:
    """A listener with an ECDSA certificate and one with RSA, both with callers' certificates allowed."""
    text = config(
        server=server_tls(tls_files, caCertPath=str(tls_files.ca)),
        more={"rsa": server_tls(tls_files, tls_files.web_rsa)},
    )
    with (
        EndpointServer() as endpoint,
        tls_mesh(tmp_path_factory.mktemp("scanned"), text, endpoint) as running,
    ):
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("port", ["port", "rsa"], ids=["ecdsa", "rsa"])
def test_sslyze_mozilla_intermediate(mesh: Hostmesh, tls_files: TlsFiles, tmp_path: Path, port: str) -> None:
    """The listener is what Mozilla recommends as "intermediate", and has none of the old holes."""
    python = required(fetch.sslyze)
    file = tmp_path / "found.json"
    command = [str(python), "-m", "sslyze", "--mozilla_config", "intermediate", "--json_out", str(file)]
    command += ["--certinfo_ca_file", str(tls_files.ca), "--early_data", "--resum"]

    done = subprocess.run(
        [*command, f"127.0.0.1:{mesh.ports[port]}"], capture_output=True, text=True, timeout=120, check=False
    )

    found: dict[str, Any] = json.loads(file.read_text())["server_scan_results"][0]["scan_result"]
    results = {name: each["result"] for name, each in found.items() if each["status"] == "COMPLETED"}
    print(offered(results))
    verdict = done.stdout.partition("COMPLIANCE AGAINST TLS CONFIGURATION")[2]
    assert [line for line in verdict.splitlines() if line.strip().startswith("*")] == [], done.stdout
    assert "OK - Compliant" in verdict, done.stdout
    assert not results["tls_compression"]["supports_compression"]
    assert not results["tls_1_3_early_data"]["supports_early_data"]
    renegotiation = results["session_renegotiation"]
    assert renegotiation["supports_secure_renegotiation"]
    assert not renegotiation["is_vulnerable_to_client_renegotiation_dos"]
    assert results["session_resumption"]["tls_ticket_resumption_result"] == "FULLY_SUPPORTED"
    assert results["tls_fallback_scsv"]["supports_fallback_scsv"]
    assert results["tls_extended_master_secret"]["supports_ems_extension"]
    assert not results["heartbleed"]["is_vulnerable_to_heartbleed"]
    assert not results["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"]


def offered(results: dict[str, Any]) -> str:
    """Versions, ciphers and groups, for who reads the test's output."""
    lines = []
    for name, each in results.items():
        if name.endswith("_cipher_suites") and each["accepted_cipher_suites"]:
            suites = [suite["cipher_suite"]["name"] for suite in each["accepted_cipher_suites"]]
            lines.append(f"{each['tls_version_used']}: {', '.join(suites)}")
    groups = results["elliptic_curves"]["supported_curves"]
    lines.append(f"groups: {', '.join(each['name'] for each in groups)}")
    return "\n".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize("port", ["port", "rsa"], ids=["ecdsa", "rsa"])
def test_testssl(mesh: Hostmesh, tls_files: TlsFiles, tmp_path: Path, port: str) -> None:
    """Protocols, ciphers, forward secrecy, server defaults and every vulnerability that testssl.sh knows."""
    program, environment = required(fetch.testssl)
    file = tmp_path / "found.json"
    command = ["bash", str(program), "--warnings", "off", "--color", "0", "--quiet", "--add-ca"]
    command += [str(tls_files.ca), "--jsonfile", str(file)]
    command += ["--protocols", "--std", "--fs", "--server-preference", "--server-defaults", "--vulnerable"]

    done = subprocess.run(
        [*command, f"127.0.0.1:{mesh.ports[port]}"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, **environment},
        cwd=tmp_path,
    )

    found = json.loads(file.read_text())
    print("\n".join(f"{each['severity']}: {each['id']}: {each['finding']}" for each in found))
    by_id = {each["id"]: each for each in found}
    assert by_id["TLS1_3"]["severity"] == "OK", done.stdout
    assert by_id["TLS1_2"]["severity"] == "OK"
    bad = [
        f"{each['severity']} {each['id']}: {each['finding']}"
        for each in found
        if each["severity"] not in ("OK", "INFO") and each["id"] not in {**OF_THE_CA, **OF_THE_SCANNER}
    ]
    assert bad == []
