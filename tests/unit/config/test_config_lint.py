"""Advice of ``hostmesh check``: what is legal and mostly a slip."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hostmesh.cli import OK, main
from hostmesh.config.load import load
from tests.tls_files import TlsFiles

HEAD = "routers:\n- protocol: http\n  servers:\n  - {port: 4140}\n"
CLIENT = HEAD + "  client:\n    tls: {TLS}\n"
SERVER = "routers:\n- protocol: http\n  servers:\n  - port: 4140\n    tls: {certPath: /c.pem, keyPath: /k.pem, TLS}\n"


def advice(text: str) -> list[str]:
    config, report = load(text, "f", advice=True)
    assert config is not None, report.mistake_lines()
    return report.advice_lines()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            CLIENT.replace("TLS", "disableValidation: true"),
            "f:6: routers[0].client.tls.disableValidation: found true",
        ),
        (
            CLIENT.replace("TLS", "commonName: web"),
            "f:6: routers[0].client.tls.commonName: found without trust",
        ),
        (
            SERVER.replace("TLS", "caCertPath: /ca.pem"),
            "f:5: routers[0].servers[0].tls.caCertPath: found without",
        ),
        ("admin: {ip: 0.0.0.0}\n" + HEAD, "f:1: admin.ip: found 0.0.0.0 without tls, expected a loopback"),
        ("admin: {ip: '::'}\n" + HEAD, "f:1: admin.ip: found :: without tls"),
        (
            "admin: {ip: 10.0.0.1, tls: {certPath: /c.pem, keyPath: /k.pem}}\n" + HEAD,
            "f:1: admin.ip: found 10.0.0.1 with tls and without requireClientAuth",
        ),
        (
            "namers:\n- kind: io.l5d.consul\n  tls: {disableValidation: true}\n" + HEAD,
            "f:3: namers[0].tls.disableValidation: found true",
        ),
    ],
    ids=[
        "X1-no-validation",
        "X1-system-cas",
        "X1-optional-certificates",
        "X6-admin-for-all",
        "X6-admin-for-all-v6",
        "X6-admin-with-tls-for-all",
        "X1-registry-no-validation",
    ],
)
def test_a_slip_is_pointed_out(text: str, said: str) -> None:
    """One line, with the place, and only on request."""
    (line,) = advice(text)

    assert line.startswith(said)
    assert load(text, "f")[1].advice_lines() == []


@pytest.mark.parametrize(
    "text",
    [
        HEAD,
        CLIENT.replace("TLS", "enabled: false"),
        CLIENT.replace("TLS", "commonName: web, trustCertsBundle: /ca.pem"),
        SERVER.replace("TLS", "caCertPath: /ca.pem, requireClientAuth: true"),
        "admin: {ip: '::1'}\n" + HEAD,
        "admin: {ip: 0.0.0.0, security: {controlEnabled: false}}\n" + HEAD,
        "admin: {ip: 0.0.0.0, tls: {certPath: /c, keyPath: /k, caCertPath: /a, requireClientAuth: true}}\n"
        + HEAD,
    ],
)
def test_what_is_right_needs_no_advice(text: str) -> None:
    """Nothing is said of it."""
    assert advice(text) == []


@pytest.fixture
def pems(tmp_path: Path, tls_files: TlsFiles) -> Path:
    """A pair and its CA, the key of another pair, and garbage."""
    for name, source in {
        "web.crt": tls_files.web.cert,
        "web.key": tls_files.web.key,
        "shop.key": tls_files.shop.key,
        "ca.pem": tls_files.ca,
        "crl.pem": tls_files.crl,
    }.items():
        shutil.copyfile(source, tmp_path / name)
        (tmp_path / name).chmod(0o600)
    (tmp_path / "bad.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    return tmp_path


OWN = "certPath: @/web.crt, keyPath: @/web.key"


@pytest.mark.parametrize(
    ("server", "client", "said"),
    [
        (OWN, "commonName: a, trustCertsBundle: @/ca.pem, crlPath: @/crl.pem", []),
        (OWN + ", intermediateCertsPath: @/later.pem", "commonName: a, trustCerts: [@/later.pem]", []),
        (
            "certPath: @/web.crt, keyPath: @/shop.key",
            "commonName: a, trustCerts: [@/ca.pem, @/bad.pem]",
            [
                "f:5: routers[0].servers[0].tls.keyPath: run refuses this: @/shop.key: this is not the key of the "
                "certificate in @/web.crt",
                "f:7: routers[0].client.tls.trustCerts[1]: run refuses this: @/bad.pem: ",
            ],
        ),
        (
            f"{OWN}, certificates: [{{certPath: @/bad.pem, keyPath: @/web.key}}], requireClientAuth: true, "
            "caCertPath: @/ca.pem, crlPath: @/bad.pem",
            "commonName: a, trustCertsBundle: @/ca.pem, clientAuth: {certPath: @/web.crt, keyPath: @/ca.pem}",
            [
                "f:5: routers[0].servers[0].tls.certificates[0].certPath: run refuses this: @/bad.pem: ",
                "f:5: routers[0].servers[0].tls.crlPath: run refuses this: @/bad.pem: ",
                "f:7: routers[0].client.tls.clientAuth.keyPath: run refuses this: @/ca.pem: ",
            ],
        ),
    ],
    ids=["good", "not-there-yet", "other-key-and-bad-ca", "one-of-many"],
)
def test_x4_a_file_that_run_would_refuse(pems: Path, server: str, client: str, said: list[str]) -> None:
    """Known before it is deployed, each at the key that names it; what is not there is not judged."""
    text = (
        SERVER.replace("certPath: /c.pem, keyPath: /k.pem, TLS", server)
        + f"  client:\n    tls: {{{client}}}\n"
    )

    lines = [line.replace(str(pems), "@") for line in advice(text.replace("@", str(pems)))]

    assert [line[: len(start)] for line, start in zip(lines, said, strict=True)] == said


def test_x4_a_key_that_others_may_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The mode of every key file that is there; ``check`` says it and is content."""
    safe, open_to_group, open_to_all = (tmp_path / name for name in ("safe", "group", "all"))
    for key, mode in ((safe, 0o600), (open_to_group, 0o640), (open_to_all, 0o644)):
        key.touch()
        key.chmod(mode)
    file = tmp_path / "f.yaml"
    file.write_text(
        SERVER.replace("/k.pem", str(open_to_group)).replace(
            "TLS",
            f"certificates: [{{certPath: /c, keyPath: {safe}}}, {{certPath: /c, keyPath: {open_to_all}}}]",
        )
        + f"  client:\n    tls: {{commonName: web, trustCertsBundle: /ca, clientAuth: "
        f"{{certPath: /c, keyPath: {open_to_all}}}}}\n"
    )

    assert main(["check", str(file)]) == OK

    lines = capsys.readouterr().err.splitlines()
    where = "routers[0].servers[0].tls"
    assert lines == [
        f"{file}:5: {where}.certificates[1].keyPath: found {open_to_all} with mode 0644, expected 0600: others may "
        "read or replace the key (warning)",
        f"{file}:5: {where}.keyPath: found {open_to_group} with mode 0640, expected 0600: others may read or replace "
        "the key (warning)",
        f"{file}:7: routers[0].client.tls.clientAuth.keyPath: found {open_to_all} with mode 0644, expected 0600: "
        "others may read or replace the key (warning)",
    ]
