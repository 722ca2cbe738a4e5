"""The certificates of the tests, judged by OpenSSL's own ``verify``."""

from __future__ import annotations

import subprocess

import pytest

from tests.tls_files import TlsFiles


@pytest.mark.parametrize(
    ("name", "purpose", "expected"),
    [
        ("web", "sslserver", "OK"),
        ("web", "sslclient", "OK"),
        ("web_rsa", "sslserver", "OK"),
        ("client", "sslclient", "OK"),
        ("between", "sslserver", "OK"),
        ("other", "sslserver", "unable to get local issuer certificate"),
        ("expired", "sslserver", "certificate has expired"),
        ("not_yet", "sslserver", "certificate is not yet valid"),
        ("revoked", "sslserver", "certificate revoked"),
        ("server_only", "sslclient", "unsuitable certificate purpose"),
        ("client_only", "sslserver", "unsuitable certificate purpose"),
    ],
)
def test_certificates_are_what_they_say(tls_files: TlsFiles, name: str, purpose: str, expected: str) -> None:
    """Each certificate is valid, or wrong in the one way that its name says."""
    issued = getattr(tls_files, name)
    command = ["openssl", "verify", "-purpose", purpose, "-CAfile", str(tls_files.ca)]
    if issued.intermediates is not None:
        command += ["-untrusted", str(issued.intermediates)]
    else:
        command += ["-crl_check", "-CRLfile", str(tls_files.crl)]

    done = subprocess.run([*command, str(issued.cert)], capture_output=True, text=True, check=False)

    assert expected in done.stdout + done.stderr
