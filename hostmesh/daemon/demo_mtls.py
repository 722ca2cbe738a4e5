"""``hostmesh demo --mtls``: two hosts on one machine, and between them TLS with a certificate on either side.

The router `outgoing` is host A's, `incoming` host B's. The application speaks plain text to A, A speaks TLS to B, and B
speaks plain text to the service. When both listen, the demo calls them as an application, as a neighbour and as
strangers, and prints what came of it.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import trustme

from hostmesh.daemon.demo import SERVICES, Replica, Serve, run_replicas

INCOMING_PORT: Final = 4141

PROBE_S: Final = 10.0
"""For one of the calls that the demo makes; they stay on this machine."""

CONFIG = """\
# The configuration of `hostmesh demo --mtls`.
#   curl -H 'Host: web' http://127.0.0.1:{port}/
admin:
  ip: 127.0.0.1
  port: {admin}

telemetry:
- kind: io.l5d.prometheus

namers:
- kind: io.l5d.fs
  rootDir: {folder}/disco

routers:
# host A: from applications in plain text, to the hostmesh beside the service in TLS
- protocol: http
  label: outgoing
  originator: true
  dtab: /svc => /#/io.l5d.fs
  interpreter:
    kind: default
    transformers:
    - kind: io.l5d.port
      port: {incoming}
  client:
    kind: io.l5d.static
    configs:
    - prefix: /%/io.l5d.port/{incoming}/#/io.l5d.fs/{{service}}
      tls:
        commonName: "{{service}}.mesh"
        trustCertsBundle: {folder}/tls/ca.pem
        clientAuth:
          certPath: {folder}/tls/host-a.pem
          keyPath: {folder}/tls/host-a-key.pem
  servers:
  - ip: 127.0.0.1
    port: {port}

# host B: from other hosts in TLS with a certificate, to the service in plain text
- protocol: http
  label: incoming
  dtab: /svc => /#/io.l5d.fs
  client:
    forwardClientCert: true
  servers:
  - ip: 127.0.0.1
    port: {incoming}
    tls:
      certPath: {folder}/tls/host-b.pem
      keyPath: {folder}/tls/host-b-key.pem
      caCertPath: {folder}/tls/ca.pem
      requireClientAuth: true
"""


def mtls_config(folder: str, *, port: int, incoming: int, admin: int) -> str:
    """The configuration text for a folder with ``disco`` and ``tls`` in it."""
    return CONFIG.format(folder=folder, port=port, incoming=incoming, admin=admin)


def write_certificates(folder: Path) -> None:
    """Make two CAs: the mesh's, with a pair for either host and a second one for B, and a stranger's."""
    mesh, strange = trustme.CA(organization_name="mesh"), trustme.CA(organization_name="somebody else")
    of_b = [f"{service}.mesh" for service in SERVICES]
    pairs = {
        "tls/host-a": mesh.issue_cert("host-a.mesh", common_name="host-a"),
        "tls/host-b": mesh.issue_cert(*of_b, common_name="host-b"),
        "renewed/host-b": mesh.issue_cert(*of_b, common_name="host-b"),
        "strange/host-a": strange.issue_cert("host-a.mesh", common_name="host-a"),
    }
    for place in ("tls", "renewed", "strange"):
        (folder / place).mkdir(0o700)
    _write(folder / "tls" / "ca.pem", mesh.cert_pem.bytes())
    for name, pair in pairs.items():
        _write(folder / f"{name}.pem", b"".join(each.bytes() for each in pair.cert_chain_pems))
        _write(folder / f"{name}-key.pem", pair.private_key_pem.bytes())


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags | os.O_EXCL, 0o600)) as file:
        file.write(data)


# What is proved.


def proofs(folder: Path, port: int, incoming: int) -> list[str]:
    """Call A as an application and B as everybody; one line for each call."""
    mine, strange = folder / "tls" / "host-a", folder / "strange" / "host-a"
    calls: list[tuple[str, Callable[[], str]]] = [
        ("an application, to host A in plain text", lambda: ask(port)),
        ("a neighbour with host A's certificate", lambda: knock(folder, incoming, mine)),
        (
            "a neighbour that speaks TLS 1.2 only",
            lambda: knock(folder, incoming, mine, newest=ssl.TLSVersion.TLSv1_2),
        ),
        ("a stranger without a certificate", lambda: knock(folder, incoming, None)),
        ("a stranger with one of another CA", lambda: knock(folder, incoming, strange)),
        ("a stranger in plain text", lambda: ask(incoming)),
    ]
    width = max(len(who) for who, _call in calls)
    return [f"  {who:{width}}  {_outcome(call)}" for who, call in calls]


def _outcome(call: Callable[[], str]) -> str:
    try:
        return call()
    except ssl.SSLError as error:
        return f"refused: {str(error.reason).lower().replace('_', ' ')}"
    except (OSError, http.client.HTTPException) as error:
        return f"refused: {error or type(error).__name__}"


def ask(port: int) -> str:
    """The answer of ``web`` to a request in plain text: who gave it, and whom host B took for the caller."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PROBE_S)
    try:
        connection.request("GET", "/", headers={"Host": "web"})
        answer = connection.getresponse()
        lines = answer.read().decode("utf-8", "replace").splitlines()
    finally:
        connection.close()
    if answer.status != 200:
        return f"refused: {answer.status}, {answer.headers.get('l5d-err', answer.reason)}"
    called = [line.split(":", 1)[1].strip() for line in lines if "x-forwarded-client-cert:" in line]
    seen = f"; host B was called by {called[0]}" if called else ""
    return f"200, {lines[0]}{seen}"


def knock(folder: Path, port: int, pair: Path | None, *, newest: ssl.TLSVersion | None = None) -> str:
    """A handshake with host B and a request in it; SSLError if B does not want it."""
    context = ssl.create_default_context(cafile=folder / "tls" / "ca.pem")
    if newest is not None:
        context.maximum_version = newest
    if pair is not None:
        context.load_cert_chain(f"{pair}.pem", f"{pair}-key.pem")
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PROBE_S) as plain,
        context.wrap_socket(plain, server_hostname="web.mesh") as secure,
    ):
        # In TLS 1.3 a server refuses after the client's last flight: only reading tells.
        secure.sendall(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
        status = secure.recv(64).split(b"\r\n")[0].decode("ascii", "replace")
        cipher = secure.cipher()
        name = cipher[0] if cipher is not None else "no cipher"
        return f"{status.partition(' ')[2]}, {secure.version()}, {name}"


# The demo.


def banner(
    folder: Path, replicas: list[Replica], proved: list[str], *, port: int, incoming: int, admin: int
) -> str:
    """What runs, what was proved, and what to try."""
    tls = folder / "tls"
    client = f"-CAfile {tls}/ca.pem -cert {tls}/host-a.pem -key {tls}/host-a-key.pem"
    lines = [
        "",
        f"hostmesh demo: application -> host A 127.0.0.1:{port} -> TLS -> host B 127.0.0.1:{incoming} -> service",
        *(f"  {replica.name:8} pid {replica.pid}, 127.0.0.1:{replica.port}" for replica in replicas),
        f"  configuration and certificates, to edit while it runs: {folder}",
        "",
        "Called just now:",
        *proved,
        "",
        "Try, in another terminal:",
        f"  curl -H 'Host: web' http://127.0.0.1:{port}/",
        f"  curl -k https://127.0.0.1:{incoming}/",
        f"  openssl s_client -connect 127.0.0.1:{incoming} -servername web.mesh {client} </dev/null",
        f"  mv {folder}/renewed/* {tls}/      a new certificate for host B: s_client shows it, and nobody is cut off",
        f"  curl 'http://127.0.0.1:{admin}/admin/metrics.json?pretty=true' | grep tls",
        "",
        "Ctrl-C ends it.",
        "",
        "",
    ]
    return "\n".join(lines)


def demo_mtls(serve: Serve, *, port: int, incoming: int, admin: int, say: Callable[[str], object]) -> int:
    """Run it until ``serve`` returns, and return what that returned, as :func:`hostmesh.daemon.demo.demo` does."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="hostmesh-demo-")))
        write_certificates(folder)
        replicas = run_replicas(stack, folder / "disco", say)
        file = folder / "demo.yaml"
        file.write_text(mtls_config(str(folder), port=port, incoming=incoming, admin=admin))

        def prove() -> None:
            proved = proofs(folder, port, incoming)
            say(banner(folder, replicas, proved, port=port, incoming=incoming, admin=admin))

        # A thread, because it calls and waits, and whoever is called is the loop of this process.
        thread = threading.Thread(target=prove, daemon=True)
        return serve(file, thread.start)
