"""X7: whatever a daemon is told in confidence is in none of its logs, pages, errors and answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tls_files import TlsFiles
from tests.wire.harness import COMMAND, EndpointServer, Hostmesh, free_port

MARK = "S3CRET"
"""In every secret of these tests, and in nothing else."""

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@}
accessLog: {sample: 1.0, path: @dir@/canonical.log}
telemetry:
- {kind: io.l5d.recentRequests, sampleRate: 1.0}
- {kind: io.l5d.prometheus}
namers:
- {kind: io.l5d.fs, rootDir: @dir@/disco}
- {kind: io.l5d.consul, host: 127.0.0.1, port: @nobody@, token: S3CRET-consul}
- kind: io.l5d.serversets
  zkAddrs: [{host: 127.0.0.1, port: @nobody@}]
  authInfo: {scheme: digest, auth: "mesh:S3CRET-zookeeper"}
- {kind: io.l5d.marathon, host: 127.0.0.1, port: @nobody@}
- {kind: io.l5d.k8s, api: {kubeconfig: @dir@/kubeconfig}}
routers:
- protocol: http
  label: plain
  httpAccessLog: @dir@/access.log
  dtab: |
    /svc => /#/io.l5d.fs;
    /svc/consul => /#/io.l5d.consul/.local/web;
    /svc/serversets => /#/io.l5d.serversets/web;
    /svc/marathon => /#/io.l5d.marathon/web;
    /svc/k8s => /#/io.l5d.k8s/default/http/web;
  servers:
  - {port: @port@, ip: 127.0.0.1}
- protocol: http
  label: h2
  h2Engine: library
  dtab: /svc => /#/io.l5d.fs
  servers:
  - {port: @h2@, ip: 127.0.0.1}
- protocol: http
  label: secure
  dtab: /svc => /#/io.l5d.fs
  servers:
  - port: @secure@
    ip: 127.0.0.1
    tls: {certPath: CERT, keyPath: KEY}
"""

PRIVATE = (
    ("Authorization", f"Bearer {MARK}-bearer"),
    ("Proxy-Authorization", f"Basic {MARK}-proxy"),
    ("Cookie", f"session={MARK}-cookie"),
    ("X-Api-Key", f"{MARK}-key"),
)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, tls_files: TlsFiles) -> Iterator[Hostmesh]:
    """A daemon that knows many secrets, and whose registries are all away."""
    folder = tmp_path_factory.mktemp("secrets")
    user = {"token": f"{MARK}-kubeconfig"}
    (folder / "kubeconfig").write_text(
        json.dumps(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": f"https://127.0.0.1:{free_port()}"}}],
                "users": [{"name": "u", "user": user}],
            }
        )
    )
    text = CONFIG.replace("CERT", str(tls_files.web.cert)).replace("KEY", str(tls_files.web.key))
    environment = {"MARATHON_HTTP_AUTH_CREDENTIAL": f"mesh:{MARK}-marathon"}
    with (
        EndpointServer("web-1") as web,
        Hostmesh(folder, text, environment=environment, start=False) as hostmesh,
    ):
        hostmesh.set_endpoints("web", [web])
        hostmesh.set_endpoints("gone", [f"127.0.0.1 {free_port()}"])
        hostmesh.start()
        yield hostmesh


WRITTEN = ("canonical.log", "access.log")


def written(mesh: Hostmesh, name: str) -> str:
    file = mesh.folder / name
    return file.read_text(errors="replace") if file.exists() else ""


def everything_said(mesh: Hostmesh) -> dict[str, str]:
    """Logs and all pages of the admin, by where they were found."""
    said = {"log": mesh.log()} | {name: written(mesh, name) for name in WRITTEN}
    index = mesh.admin("/admin").text
    pages = [line.split()[0] for line in index.splitlines() if line.startswith("/")]
    assert len(pages) > 20
    for page in pages:
        if page != "/admin/shutdown":
            said[page] = mesh.admin(page).text
    for path in ("/svc/web", "/svc/consul", "/svc/serversets", "/svc/marathon", "/svc/k8s"):
        said[f"delegation of {path}"] = mesh.admin(f"/delegator.json?namespace=plain&path={path}").text
    return said


def assert_secrets_kept(said: dict[str, str], keys: list[str]) -> None:
    for place, text in said.items():
        for secret in (MARK, *keys):
            assert secret not in text, (
                place,
                re.findall(rf".{{0,80}}{re.escape(secret)}.{{0,20}}", text)[:3],
            )


def test_x7_a_daemon_keeps_its_secrets_at_every_level(mesh: Hostmesh, tls_files: TlsFiles) -> None:
    """Whatever fails and however much is logged: no token, no password, no header that proves somebody, no key."""
    levels = json.loads(mesh.admin("/logging.json").body)
    for entry in levels:
        mesh.admin(f"/logging.json?logger={entry['logger']}&level=ALL", "POST", body=b"")

    for host in ("web", "gone", "consul", "serversets", "marathon", "k8s", "nobody", "bad host"):
        for body in (None, MARK.encode()):
            mesh.send("POST" if body else "GET", "/x", host=host, fields=PRIVATE, body=body)
    with mesh.client() as client:
        client.send(f"GET / HTTP/1.1\r\nAuthorization: {MARK}\r\n\r\n".encode())
        client.read_until_close()
    for port in ("h2", "secure"):
        command = ["curl", "-sk", "--http2-prior-knowledge" if port == "h2" else "--http1.1"]
        for name, value in PRIVATE:
            command += ["-H", f"{name}: {value}"]
        scheme = "https" if port == "secure" else "http"
        done = subprocess.run(
            [*command, "-H", "Host: web", f"{scheme}://127.0.0.1:{mesh.ports[port]}/y"],
            capture_output=True,
            check=False,
        )
        assert b"web-1" in done.stdout
    mesh.write_config(mesh.file.read_text() + f"\nnope: {MARK}\n")
    mesh.wait_log("reload refused")
    for name in WRITTEN:
        mesh.wait(lambda name=name: "/x" in written(mesh, name), f"{name} written")  # type: ignore[misc]

    assert_secrets_kept(everything_said(mesh), key_lines(tls_files))


def key_lines(files: TlsFiles) -> list[str]:
    """Lines from the middle of private keys."""
    return [pair.key.read_text().splitlines()[1] for pair in (files.web, files.client)]


def test_x7_no_core_dumps(mesh: Hostmesh) -> None:
    """Also outside the systemd unit, soft and hard."""
    limits = Path(f"/proc/{mesh.pid}/limits").read_text()
    (line,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]

    assert line.split()[4:6] == ["0", "0"]


@pytest.mark.parametrize(
    "mistake",
    [
        "- {kind: io.l5d.consul, token: [S3CRET]}",
        "- {kind: io.l5d.consul, token: {S3CRET: 1}}",
        "- {kind: io.l5d.consul, token: !S3CRET x}",
        "- {kind: io.l5d.consul, token: *S3CRET}",
        "- {kind: io.l5d.consul, token: @S3CRET}",
        '- {kind: io.l5d.consul, token: "S3CRET}',
        "- {kind: io.l5d.consul, token: S3CRET, token: S3CRET}",
        "- {kind: io.l5d.consul, tokn: S3CRET}",
        "- {kind: io.l5d.serversets, zkAddrs: [{host: a}], authInfo: S3CRET}",
        "- {kind: io.l5d.serversets, zkAddrs: [{host: a}], authInfo: {auth: [S3CRET]}}",
        "- {kind: io.l5d.serversets, zkAddrs: [{host: a}], authInfo: {password: S3CRET}}",
    ],
)
def test_x7_mistakes_in_a_file_repeat_no_secret(tmp_path: Path, mistake: str) -> None:
    """``hostmesh check`` says where and what was expected."""
    file = tmp_path / "wrong.yaml"
    file.write_text(f"namers:\n{mistake}\nrouters:\n- {{protocol: http, servers: [{{port: 1}}]}}\n")

    done = subprocess.run(
        [str(COMMAND), "check", str(file)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ},
    )

    assert done.returncode == 1
    assert MARK not in done.stdout + done.stderr
    assert "wrong.yaml:" in done.stderr


@pytest.mark.parametrize("rest", [f"{MARK}}}", f'"{MARK}}}', f'"{MARK}" x}}'])
def test_x7_mistakes_in_json_repeat_no_secret(tmp_path: Path, rest: str) -> None:
    """Where the mistake is the secret itself, or just behind it."""
    file = tmp_path / "wrong.json"
    file.write_text(f'{{"namers": [{{"kind": "io.l5d.consul", "token": {rest}')

    done = subprocess.run(
        [str(COMMAND), "check", str(file)], capture_output=True, text=True, timeout=30, check=False
    )

    assert done.returncode == 1
    assert MARK not in done.stdout + done.stderr
