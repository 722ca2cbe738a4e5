"""Advice of ``hostmesh check``: what is legal and mostly a slip."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostmesh.cli import OK, main
from hostmesh.config.load import load

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
