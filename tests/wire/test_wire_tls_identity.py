"""Who a caller is, as endpoints and logs are told: what it has proved, and never what it says (T9)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tls_files import TlsFiles
from tests.wire.harness import EndpointServer, Hostmesh, RawClient, compose
from tests.wire.tls_peers import TlsClient, config, curl, server_tls, tls_mesh, trusting

HEADER = "x-forwarded-client-cert"
CALLER = "spiffe://mesh.test/ns/default/sa/caller"


class Hall:
    """A hostmesh that tells endpoints who calls: ``port`` demands certificates, ``open`` does not ask, ``plain`` has
    no TLS."""

    def __init__(self, folder: Path, files: TlsFiles) -> None:
        self.files = files
        self.endpoint = EndpointServer()
        text = config(
            server=server_tls(files, callers=True),
            more={"open": server_tls(files), "plain": None},
            client=None,
        ).replace('"label": "r",', '"label": "r", "client": {"forwardClientCert": true},')
        text = text.replace('"routers":', '"accessLog": {"sample": 1.0}, "routers":')
        self.mesh: Hostmesh = tls_mesh(folder, text, self.endpoint)

    def close(self) -> None:
        self.mesh.close()
        self.endpoint.stop()

    def told(self, client: RawClient, *fields: tuple[str, str]) -> list[str]:
        """What the endpoint is told of a caller that sends these fields."""
        self.endpoint.requests.clear()
        assert client.request(fields=fields).status == 200
        (request,) = self.endpoint.requests
        return request.get_all(HEADER)


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory, tls_files: TlsFiles) -> Iterator[Hall]:
    built = Hall(tmp_path_factory.mktemp("hall"), tls_files)
    yield built
    built.close()


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_an_endpoint_is_told_who_the_caller_is(hall: Hall, tls_files: TlsFiles, version: str) -> None:
    """forwardClientCert: hash, names and subject of the certificate that was verified, in either version."""
    hall.endpoint.requests.clear()
    options = [*trusting(tls_files, tls_files.client), version]
    assert curl(hall.mesh.ports["port"], *options).status == 200
    (request,) = hall.endpoint.requests
    (value,) = request.get_all(HEADER)

    assert re.fullmatch(rf'Hash=[0-9a-f]{{64}};SAN={CALLER};DNS=caller.mesh;Subject="CN=client"', value)


def test_t9_an_identity_is_never_taken_from_a_header(hall: Hall, tls_files: TlsFiles) -> None:
    """What the request says of itself is taken out: with TLS or without, with a certificate or without."""
    forged = (HEADER, "Hash=00;SAN=spiffe://mesh.test/ns/default/sa/admin")
    with TlsClient(hall.mesh.ports["port"], tls_files.client_context(tls_files.client)) as client:
        (told,) = hall.told(client, forged, ("X_Forwarded_Client_Cert", "admin"))
        assert "admin" not in told
    with TlsClient(hall.mesh.ports["open"], tls_files.client_context()) as client:
        assert hall.told(client, forged) == []
    with RawClient(hall.mesh.ports["plain"]) as client:
        assert hall.told(client, forged) == []


def test_the_log_says_who_the_caller_was(hall: Hall, tls_files: TlsFiles) -> None:
    """The line of a request has the identity; that of a caller who proved nothing has none."""
    data = compose("GET", "/who")
    for port, context in (
        ("port", tls_files.client_context(tls_files.client)),
        ("open", tls_files.client_context()),
    ):
        with TlsClient(hall.mesh.ports[port], context) as client:
            client.send(data)
            assert client.response().status == 200

    def lines() -> list[dict[str, object]]:
        return [each for each in hall.mesh.log_entries() if each.get("path") == "/who"]

    hall.mesh.wait(lambda: len(lines()) == 2, "both requests are logged")
    assert [each.get("identity") for each in lines()] == [CALLER, None]


def test_handshakes_are_counted_by_caller(hall: Hall, tls_files: TlsFiles) -> None:
    """tls/callers, and those among all that went on with an earlier session."""
    port = hall.mesh.ports["port"]
    node = f"rt/r/server/127.0.0.1/{port}/tls"
    before = hall.mesh.metrics()
    context = tls_files.client_context(tls_files.client)
    with TlsClient(port, context) as client:
        assert client.request().status == 200
        session = client.tls.session
    with TlsClient(port, context, session=session) as client:
        assert client.tls.session_reused
        assert client.request().status == 200
    after = hall.mesh.metrics()

    def more(name: str) -> float:
        return after[f"{node}/{name}"] - before.get(f"{node}/{name}", 0)

    assert (more("handshakes"), more("resumed"), more(f"callers/{CALLER}")) == (2, 1, 2)


def test_an_endpoint_is_told_that_the_caller_used_tls(tmp_path: Path, tls_files: TlsFiles) -> None:
    """addForwardedHeader: an endpoint that makes links must not make them for plain text."""
    more = '"addForwardedHeader": {"by": {"kind": "router"}, "for": {"kind": "ip"}}, "ip": "127.0.0.1",'
    text = config(server=server_tls(tls_files), more={"plain": None}).replace('"ip": "127.0.0.1",', more)
    text = text.replace(more, '"ip": "127.0.0.1",', 1)  # that of admin
    with EndpointServer() as endpoint, tls_mesh(tmp_path, text, endpoint) as mesh:
        with TlsClient(mesh.port, tls_files.client_context()) as caller:
            assert caller.request().seen("forwarded") == "by=r;for=127.0.0.1;host=web;proto=https"
        assert mesh.get("/", port="plain").seen("forwarded") == "by=r;for=127.0.0.1;host=web;proto=http"
