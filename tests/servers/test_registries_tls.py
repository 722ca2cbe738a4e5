"""TLS to real registries: what works, and that whatever is wrong is said by name and never taken (X1)."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.servers.consul_agent import ConsulServer
from tests.servers.running import eventually
from tests.servers.zookeeper_server import Secure, ZooKeeperServer
from tests.tls_files import Issued, TlsFiles
from tests.wire.harness import COMMAND, EndpointServer, Hostmesh, free_port

ROOT_TOKEN = "8e6b5a9c-0000-4000-8000-000000000001"

CONSUL = """\
admin: {ip: 127.0.0.1, port: @admin@}
namers:
- kind: io.l5d.consul
  host: 127.0.0.1
  port: @consul@
  token: TOKEN
  tls: TLS
routers:
- protocol: http
  dtab: |
    /svc => /#/io.l5d.consul/.local;
  servers:
  - {port: @port@, ip: 127.0.0.1}
"""


def tls_object(ca: Path, name: str, pair: Issued | None = None, **more: str) -> str:
    """A ``tls`` of the configuration, on one line."""
    found: dict[str, Any] = {"commonName": name, "trustCertsBundle": str(ca), **more}
    if pair is not None:
        found["clientAuth"] = {"certPath": str(pair.cert), "keyPath": str(pair.key)}
        if pair.intermediates is not None:
            found["clientAuth"]["intermediateCertsPath"] = str(pair.intermediates)
    return json.dumps(found)


def copied(pair: Issued, folder: Path, name: str = "rotating") -> Issued:
    """The files of a certificate where a test may change them."""
    copy = Issued(
        name=name,
        cert=folder / f"{name}.crt",
        key=folder / f"{name}.key",
        chain=folder / f"{name}-chain.crt",
        intermediates=None,
    )
    for source, target in ((pair.cert, copy.cert), (pair.key, copy.key), (pair.chain, copy.chain)):
        part = target.with_suffix(".part")
        shutil.copy(source, part)
        part.replace(target)
    return copy


@pytest.fixture(scope="module")
def web() -> Iterator[EndpointServer]:
    with EndpointServer("web-1") as server:
        yield server


@pytest.fixture(scope="module")
def consul(
    tmp_path_factory: pytest.TempPathFactory, tls_files: TlsFiles, web: EndpointServer
) -> Iterator[ConsulServer]:
    """An agent with https for whom the mesh knows, and ACLs; its plain port is the tests'."""
    agent = ConsulServer(
        tmp_path_factory.mktemp("consul"),
        token=ROOT_TOKEN,
        extra={
            "ca_file": str(tls_files.ca),
            "cert_file": str(tls_files.web.cert),
            "key_file": str(tls_files.web.key),
            "verify_incoming_https": True,
            "acl": {
                "enabled": True,
                "default_policy": "deny",
                "tokens": {"master": ROOT_TOKEN, "agent": ROOT_TOKEN},
            },
        },
    )
    agent.config["ports"]["https"] = free_port()
    with agent:
        agent.register("web", web.host, web.port)
        yield agent


def who(mesh: Hostmesh, host: str = "web") -> str | None:
    """Which endpoint answers."""
    answer = mesh.get("/", host=host)
    return answer.endpoint if answer.status == 200 else None


def consul_mesh(folder: Path, consul: ConsulServer, tls: str, *, token: str = ROOT_TOKEN) -> Hostmesh:
    text = CONSUL.replace("TOKEN", token).replace("TLS", tls)
    return Hostmesh(folder, text, ports={"consul": consul.config["ports"]["https"]})


def test_consul_over_mutual_tls_with_a_token(
    tmp_path: Path, consul: ConsulServer, tls_files: TlsFiles
) -> None:
    """The agent demands a certificate and a token, and gets both; our certificate may come with an intermediate that
    the agent does not know."""
    for number, pair in enumerate((tls_files.client, tls_files.between)):
        folder = tmp_path / str(number)
        folder.mkdir()
        with consul_mesh(folder, consul, tls_object(tls_files.ca, "web.mesh", pair)) as mesh:
            mesh.wait(lambda mesh=mesh: who(mesh) == "web-1", "routed")  # type: ignore[misc]
            assert mesh.metrics()[f"tls/certificate/{pair.cert}/days_to_expiry"] > 20
            assert ROOT_TOKEN not in mesh.log()
            assert ROOT_TOKEN not in mesh.admin("/config.json").body.decode()


def test_files_of_a_registry_are_judged_at_the_start(tmp_path: Path, tls_files: TlsFiles) -> None:
    """As those of servers and clients: the key and the file are named."""
    missing = tmp_path / "nowhere.crt"
    text = CONSUL.replace("TOKEN", "x").replace("TLS", tls_object(missing, "web.mesh"))
    mesh = Hostmesh(tmp_path, text, start=False)

    done = subprocess.run(
        [str(COMMAND), "run", str(mesh.file)], capture_output=True, text=True, timeout=30, check=False
    )

    assert done.returncode == 1
    assert f"namers[0].tls.trustCertsBundle: {missing}: " in done.stderr


def test_a_spiffe_id_can_be_what_is_expected(
    tmp_path: Path, consul: ConsulServer, tls_files: TlsFiles
) -> None:
    """The agent proves its URI instead of a DNS name."""
    tls = tls_object(tls_files.ca, "spiffe://mesh.test/ns/default/sa/web", tls_files.client)
    with consul_mesh(tmp_path, consul, tls) as mesh:
        mesh.wait(lambda: who(mesh) == "web-1", "routed")


@pytest.mark.parametrize(
    ("ca", "name", "who", "said"),
    [
        ("other_ca", "web.mesh", "client", "the agent's certificate is signed by a CA that is not among the"),
        ("ca", "shop.mesh", "client", "web.mesh, web, localhost, 127.0.0.1, expected shop.mesh"),
        (
            "ca",
            "spiffe://mesh.test/ns/default/sa/shop",
            "client",
            "expected spiffe://mesh.test/ns/default/sa/shop",
        ),
        ("ca", "web.mesh", None, "the agent sent the alert"),
        ("ca", "web.mesh", "other", "the agent sent the alert"),
    ],
    ids=["X1-wrong-ca", "X1-wrong-name", "X1-wrong-spiffe-id", "X1-no-certificate", "X1-wrong-certificate"],
)
def test_consul_is_not_taken_unverified(
    tmp_path: Path, consul: ConsulServer, tls_files: TlsFiles, ca: str, name: str, who: str | None, said: str
) -> None:
    """The alarm in the log and the answer to the caller say what is wrong."""
    pair = None if who is None else getattr(tls_files, who)
    with consul_mesh(tmp_path, consul, tls_object(getattr(tls_files, ca), name, pair)) as mesh:
        answer = mesh.get("/")
        assert answer.status in (502, 503)
        mesh.wait_log("names.registry_lost")
        cause = next(e["cause"] for e in mesh.log_entries() if e["event"] == "names.registry_lost")
        assert said in str(cause)


def test_a_port_without_tls_is_not_used(tmp_path: Path, consul: ConsulServer, tls_files: TlsFiles) -> None:
    """With ``tls`` and the plain port no token leaves, and the alarm says why."""
    text = CONSUL.replace("TOKEN", ROOT_TOKEN).replace("TLS", tls_object(tls_files.ca, "web.mesh"))
    with Hostmesh(tmp_path, text, ports={"consul": consul.port}) as mesh:
        assert mesh.get("/").status in (502, 503)
        mesh.wait_log("it does not speak TLS")


def test_consul_certificates_rotate(tmp_path: Path, consul: ConsulServer, tls_files: TlsFiles) -> None:
    """Our certificate and the CA are read again for the next connection; a broken file leaves the old one in use and
    is reported."""
    ca = tmp_path / "ca.crt"
    shutil.copy(tls_files.other_ca, ca)
    pair = copied(tls_files.other, tmp_path)
    with consul_mesh(tmp_path, consul, tls_object(ca, "web.mesh", pair)) as mesh:
        assert mesh.get("/").status in (502, 503)
        mesh.wait_log("names.registry_lost")
        copied(tls_files.client, tmp_path)
        shutil.copy(tls_files.ca, ca)
        mesh.wait(lambda: who(mesh) == "web-1", "routed", within=15)
        mesh.wait_log("tls.files_renewed")

        pair.cert.write_text("-----BEGIN CERTIFICATE-----\nbroken\n")
        # A name that is new needs a connection of its own while the others wait in theirs.
        assert mesh.get("/", host="nobody").status in (502, 503)
        mesh.wait_log("tls.files_refused")
        refused = next(e for e in mesh.log_entries() if e["event"] == "tls.files_refused")
        assert str(pair.cert) in str(refused["cause"])
        assert mesh.get("/").endpoint == "web-1"
        eventually(lambda: True if consul.instances("web") else None)


ZOOKEEPER = """\
admin: {ip: 127.0.0.1, port: @admin@}
namers:
- kind: io.l5d.serversets
  zkAddrs: [{host: localhost, port: @zookeeper@}]
  tls: TLS
routers:
- protocol: http
  announcers:
  - kind: io.l5d.serversets
    zkAddrs: [{host: localhost, port: @zookeeper@}]
    tls: TLS
    pathPrefix: /discovery
  dtab: |
    /svc => /#/io.l5d.serversets/discovery;
  servers:
  - {port: @port@, ip: 127.0.0.1, announce: [/#/io.l5d.serversets/mesh]}
"""


@pytest.fixture(scope="module")
def zookeeper(
    tmp_path_factory: pytest.TempPathFactory, tls_files: TlsFiles, web: EndpointServer
) -> Iterator[tuple[ZooKeeperServer, int]]:
    """A server with a TLS port for whom the mesh knows; its plain port is the tests'."""
    folder = tmp_path_factory.mktemp("zookeeper")
    store = folder / "store.pem"
    store.write_bytes(tls_files.web.key.read_bytes() + tls_files.web.chain.read_bytes())
    ca = folder / "ca.pem"
    shutil.copy(tls_files.ca, ca)
    secure = Secure(free_port(), store, ca)
    with ZooKeeperServer(folder, secure=secure) as server:
        server.put("/discovery/web", web.host, web.port)
        yield server, secure.port


def zookeeper_mesh(folder: Path, port: int, tls: str) -> Hostmesh:
    return Hostmesh(folder, ZOOKEEPER.replace("TLS", tls), ports={"zookeeper": port})


def test_zookeeper_over_mutual_tls(
    tmp_path: Path, zookeeper: tuple[ZooKeeperServer, int], tls_files: TlsFiles, web: EndpointServer
) -> None:
    """Namer and announcer, in one session over the secure port, follow changes there; ``{host}`` is the server's own
    name."""
    server, port = zookeeper
    with zookeeper_mesh(tmp_path, port, tls_object(tls_files.ca, "{host}", tls_files.client)) as mesh:
        mesh.wait(lambda: who(mesh) == "web-1", "routed")
        mesh.wait(lambda: len(server.children("/discovery/mesh")) == 1, "announced")
        assert who(mesh, "late") is None
        nodes = [server.put("/discovery/late", web.host, web.port) for _ in range(50)]
        mesh.wait(lambda: who(mesh, "late") == "web-1", "followed")
        for node in nodes:
            server.remove(node)
        mesh.wait(lambda: who(mesh, "late") is None, "followed to the end")


@pytest.mark.parametrize("outage", ["frozen", "killed"])
def test_zookeeper_over_tls_comes_back(
    tmp_path: Path,
    zookeeper: tuple[ZooKeeperServer, int],
    tls_files: TlsFiles,
    web: EndpointServer,
    outage: str,
) -> None:
    """A server that stands still is noticed and left, one that dies is found again; requests go on meanwhile, and what
    changes afterwards is followed."""
    server, port = zookeeper
    with zookeeper_mesh(tmp_path, port, tls_object(tls_files.ca, "{host}", tls_files.client)) as mesh:
        mesh.wait(lambda: who(mesh) == "web-1", "routed")
        server.close_client()
        if outage == "frozen":
            server.freeze()
        else:
            server.kill()
        mesh.wait_log("zookeeper.disconnected", within=30)
        assert who(mesh) == "web-1"
        if outage == "frozen":
            server.thaw()
        else:
            server.start()
        mesh.wait(lambda: mesh.log().count("zookeeper.connected") > 1, "connected again", within=30)
        node = server.put(f"/discovery/{outage}", web.host, web.port)
        mesh.wait(lambda: who(mesh, outage) == "web-1", "followed")
        server.remove(node)


@pytest.mark.parametrize(
    ("ca", "name", "pair", "said"),
    [
        (
            "other_ca",
            "{host}",
            "client",
            "localhost's certificate is signed by a CA that is not among the trusted",
        ),
        ("ca", "shop.mesh", "client", "web.mesh, web, localhost, 127.0.0.1, expected shop.mesh"),
        ("ca", "{host}", None, "no TLS with localhost"),
        ("ca", "{host}", "other", "no TLS with localhost"),
    ],
    ids=["X1-wrong-ca", "X1-wrong-name", "X1-no-certificate", "X1-wrong-certificate"],
)
def test_zookeeper_is_not_taken_unverified(
    tmp_path: Path,
    zookeeper: tuple[ZooKeeperServer, int],
    tls_files: TlsFiles,
    ca: str,
    name: str,
    pair: str | None,
    said: str,
) -> None:
    """The cause is in the answer to the caller and on the admin page; there is never a session."""
    _server, port = zookeeper
    shown = None if pair is None else getattr(tls_files, pair)
    with zookeeper_mesh(tmp_path, port, tls_object(getattr(tls_files, ca), name, shown)) as mesh:

        def cause() -> str:
            page = json.loads(mesh.admin("/namer_state/io.l5d.serversets.json").body)
            return str(page["zookeeper"]["error"])

        assert mesh.get("/").status in (502, 503)
        mesh.wait(lambda: said in cause(), f"{said} in {cause()}")
        assert "zookeeper.connected" not in mesh.log()


def test_zookeeper_certificates_rotate(
    tmp_path: Path, zookeeper: tuple[ZooKeeperServer, int], tls_files: TlsFiles
) -> None:
    """A pair and a CA that were wrong are replaced, and used without a restart."""
    ca = tmp_path / "ca.crt"
    shutil.copy(tls_files.other_ca, ca)
    pair = copied(tls_files.other, tmp_path)
    with zookeeper_mesh(tmp_path, zookeeper[1], tls_object(ca, "localhost", pair)) as mesh:
        assert mesh.get("/").status in (502, 503)
        copied(tls_files.client, tmp_path)
        shutil.copy(tls_files.ca, ca)
        mesh.wait(lambda: who(mesh) == "web-1", "routed", within=15)
        mesh.wait_log("tls.files_renewed")


# Marathon: Debian has none and its last release is of 2021, so that its words are scripted here, over real TLS.


class Master(ThreadingHTTPServer):
    """One application, at which ``web-1`` runs."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext, web: EndpointServer) -> None:
        super().__init__(("127.0.0.1", 0), Reply)
        self.web = web
        self.asked = 0
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, *_: object) -> None:
        """Handshakes fail here on purpose."""


class Reply(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, Master)
        self.server.asked += 1
        answer: dict[str, Any] = {"apps": [{"id": "/web"}]}
        if self.path.startswith("/v2/apps/web"):
            answer = {"app": {"tasks": [{"host": "127.0.0.1", "ports": [self.server.web.port]}]}}
        known = self.path.startswith("/v2/apps")
        body = json.dumps(answer).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


MARATHON = """\
admin: {ip: 127.0.0.1, port: @admin@}
namers:
- kind: io.l5d.marathon
  host: localhost
  port: @marathon@
  ttlMs: 200
  tls: TLS
routers:
- protocol: http
  dtab: |
    /svc => /#/io.l5d.marathon;
  servers:
  - {port: @port@, ip: 127.0.0.1}
"""


@pytest.fixture(scope="module")
def marathon(tls_files: TlsFiles, web: EndpointServer) -> Iterator[Master]:
    """A master that demands a certificate of the mesh."""
    with Master(tls_files.server_context(tls_files.web, callers=True), web) as master:
        threading.Thread(target=master.serve_forever, daemon=True).start()
        yield master
        master.shutdown()


def marathon_mesh(folder: Path, master: Master, tls: str) -> Hostmesh:
    return Hostmesh(folder, MARATHON.replace("TLS", tls), ports={"marathon": master.server_address[1]})


def test_marathon_over_mutual_tls_with_files_that_rotate(
    tmp_path: Path, marathon: Master, tls_files: TlsFiles
) -> None:
    """First with the wrong pair and CA, which is said; then they are replaced and used without a restart."""
    ca = tmp_path / "ca.crt"
    shutil.copy(tls_files.other_ca, ca)
    pair = copied(tls_files.other, tmp_path)
    before = marathon.asked
    with marathon_mesh(tmp_path, marathon, tls_object(ca, "web.mesh", pair)) as mesh:
        assert mesh.get("/").status in (502, 503)
        mesh.wait_log("the master's certificate comes with a CA that is not among the trusted ones")
        shutil.copy(tls_files.ca, ca)
        mesh.wait(lambda: b"sent the alert" in mesh.get("/").body, "refused")
        assert marathon.asked == before
        copied(tls_files.client, tmp_path)
        mesh.wait(lambda: who(mesh) == "web-1", "routed", within=15)


def test_x1_marathon_is_not_taken_under_another_name(
    tmp_path: Path, marathon: Master, tls_files: TlsFiles
) -> None:
    """Not one request reaches it."""
    before = marathon.asked
    with marathon_mesh(tmp_path, marathon, tls_object(tls_files.ca, "shop.mesh", tls_files.client)) as mesh:
        answer = mesh.get("/")
        assert answer.status in (502, 503)
        assert b"127.0.0.1, expected shop.mesh" in answer.body
        assert marathon.asked == before
