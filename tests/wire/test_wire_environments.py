"""Two environments side by side, with the same names and CAs of their own, cannot call each other.

Each has one hostmesh with an outgoing and an incoming router, and certificates made by ``hostmesh certs``. Addresses of
the other environment are known, as after a mistake in discovery: what stops the call is TLS alone.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from attrs import frozen

from tests.wire.harness import COMMAND, EndpointServer, Hostmesh, Response, free_port

ENVIRONMENTS = ("prod", "staging")

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@}
namers:
- kind: io.l5d.fs
  rootDir: @dir@/disco
routers:
# calls the incoming router of its own environment (/svc/web), of the other one (/svc/far), and of the other one as if
# somebody had told it to trust that one's CA (/svc/gullible)
- protocol: http
  label: outgoing
  dtab: |
    /svc/web => /$/inet/127.0.0.1/@incoming@;
    /svc/far => /$/inet/127.0.0.1/@other@;
    /svc/gullible => /$/inet/127.0.0.2/@other@;
  client:
    kind: io.l5d.static
    configs:
    - prefix: /$/inet/127.0.0.1
      tls:
        commonName: web.mesh
        trustCertsBundle: @dir@/tls/ca.pem
        crlPath: @dir@/tls/crl.pem
        clientAuth: {certPath: @dir@/tls/cert.pem, keyPath: @dir@/tls/key.pem}
    - prefix: /$/inet/127.0.0.2
      # live connections outlast a revocation
      clientSession: {lifeTimeMs: 100}
      tls:
        commonName: web.mesh
        trustCertsBundle: OTHER/tls/ca.pem
        clientAuth: {certPath: @dir@/tls/cert.pem, keyPath: @dir@/tls/key.pem}
  servers:
  - {ip: 127.0.0.1, port: @port@}
- protocol: http
  label: incoming
  dtab: |
    /svc => /#/io.l5d.fs/web
  servers:
  - ip: 0.0.0.0
    port: @incoming@
    tls:
      certPath: @dir@/tls/cert.pem
      keyPath: @dir@/tls/key.pem
      caCertPath: @dir@/tls/ca.pem
      crlPath: @dir@/tls/crl.pem
      requireClientAuth: true
"""


@frozen
class Environment:
    """One of the two."""

    mesh: Hostmesh
    web: EndpointServer

    def call(self, name: str) -> Response:
        """One request of an application in this environment."""
        return self.mesh.get("/", host=name)

    def refusals(self, reason: str) -> float:
        """How many callers its incoming server has refused for that."""
        incoming = f"rt/incoming/server/0.0.0.0/{self.mesh.ports['incoming']}"
        return self.mesh.metrics().get(f"{incoming}/failures/{reason}", 0.0)


def reason(response: Response) -> str:
    """The first word of ``l5d-err``."""
    return (response.get("l5d-err") or "").partition("%3A")[0]


def certs(*arguments: str | Path) -> None:
    subprocess.run([COMMAND, "certs", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def environments(tmp_path: Path) -> Iterator[dict[str, Environment]]:
    """Both, running; ``host`` of each holds a certificate for web.mesh of its own CA."""
    ports = {name: free_port() for name in ENVIRONMENTS}
    with ExitStack() as stack:
        for name in ENVIRONMENTS:
            (tmp_path / name).mkdir()
            certs("init", tmp_path / f"{name}-ca")
            certs(
                "issue",
                tmp_path / f"{name}-ca",
                "host",
                "--dns",
                "web.mesh",
                "--out",
                tmp_path / name / "tls",
            )
        found = {}
        for name, other in zip(ENVIRONMENTS, reversed(ENVIRONMENTS), strict=True):
            web = stack.enter_context(EndpointServer(f"{name}-web"))
            mesh = Hostmesh(
                tmp_path / name,
                CONFIG.replace("OTHER", str(tmp_path / other)),
                ports={"incoming": ports[name], "other": ports[other]},
                start=False,
            )
            mesh.set_endpoints("web", [web])
            mesh.start()
            found[name] = Environment(stack.enter_context(mesh), web)
        yield found


@pytest.mark.parametrize("caller", ENVIRONMENTS)
def test_environments_cannot_call_each_other(environments: dict[str, Environment], caller: str) -> None:
    """Within an environment a call succeeds; across, the caller refuses the other's certificate, and where it was
    made to believe it, the other refuses the caller's. Not one byte reaches the other's endpoint."""
    mine = environments[caller]
    theirs = environments[next(name for name in ENVIRONMENTS if name != caller)]

    near, far, gullible = mine.call("web"), mine.call("far"), mine.call("gullible")

    assert (near.status, near.endpoint) == (200, f"{caller}-web")
    assert (far.status, reason(far)) == (502, "tls-untrusted")
    assert (gullible.status, reason(gullible)) == (502, "tls-rejected")
    assert "unknown ca" in gullible.text
    assert theirs.refusals("tls-untrusted") > 0
    assert theirs.web.requests == []
    assert theirs.web.connections == 0


def test_a_revoked_host_is_out_without_a_restart(
    environments: dict[str, Environment], tmp_path: Path
) -> None:
    """After ``hostmesh certs revoke`` the CRL, which the daemon watches, keeps out a certificate of the same CA."""
    prod = environments["prod"]
    ca = tmp_path / "prod-ca"
    certs("issue", ca, "thief", "--out", tmp_path / "staging" / "tls-of-thief")
    staging = environments["staging"]
    # the thief calls prod with a certificate of prod, and believes prod's CA
    text = staging.mesh.file.read_text().replace("staging/tls/cert.pem", "staging/tls-of-thief/cert.pem")
    staging.mesh.write_config(text.replace("staging/tls/key.pem", "staging/tls-of-thief/key.pem"))
    staging.mesh.wait(lambda: staging.call("gullible").status == 200, "the thief's certificate is good")

    certs("revoke", ca, "thief")

    staging.mesh.wait(lambda: reason(staging.call("gullible")) == "tls-rejected", "the revocation")
    assert prod.refusals("tls-revoked") > 0
    assert prod.call("web").status == 200
