"""PROXY protocol on an http server, said by curl, in front of HTTP/1.1, HTTP/2 and TLS."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostmesh.protocol.proxy_protocol import header_v2
from tests.tls_files import TlsFiles
from tests.wire.harness import EndpointServer, Hostmesh
from tests.wire.tls_peers import NAME, config, server_tls

SERVER_KEYS = """"ip": "127.0.0.1",
     "proxyProtocol": true,
     "proxyProtocolFrom": ["127.0.0.1"],
     "addForwardedHeader": {"by": {"kind": "ip:port"}, "for": {"kind": "ip:port"}},
     "port":"""


@pytest.fixture
def web() -> Iterator[EndpointServer]:
    with EndpointServer() as endpoint:
        yield endpoint


@pytest.fixture
def mesh(tmp_path: Path, tls_files: TlsFiles, web: EndpointServer) -> Iterator[Hostmesh]:
    text = config(more={"tls": server_tls(tls_files)}, httpAccessLog="@dir@/access.log")
    text, changed = re.subn(r'"ip": "127.0.0.1",\n {5}"port":', SERVER_KEYS, text)
    assert changed == 2
    with Hostmesh.routing(tmp_path, text, web=[web]) as running:
        yield running


def curl(*arguments: str) -> subprocess.CompletedProcess[str]:
    shown = "\n%{http_version} %{http_code} %{local_port}"
    return subprocess.run(
        ["curl", "-sS", "-H", "Host: web", "-w", shown, *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.parametrize("how", ["--http1.1", "--http2-prior-knowledge", "--http2", "tls http/1.1", "tls h2"])
def test_curl_says_who_it_is(mesh: Hostmesh, web: EndpointServer, tls_files: TlsFiles, how: str) -> None:
    """Its header comes first of all, before a ClientHello, too: the endpoint and the access log hear its address."""
    if how.startswith("tls"):
        port = mesh.ports["tls"]
        version = "--http2" if how == "tls h2" else "--http1.1"
        resolve = f"{NAME}:{port}:127.0.0.1"
        url = (f"https://{NAME}:{port}/x", "--resolve", resolve, "--cacert", str(tls_files.ca), version)
    else:
        port = mesh.port
        url = (f"http://127.0.0.1:{port}/x", how)

    done = curl("--haproxy-protocol", *url)
    without = curl(*url)

    _, _, seen = done.stdout.rpartition("\n")
    spoken, status, own = seen.split()
    # An http router does not follow Upgrade: h2c, which is what --http2 is without TLS.
    one = "1.1" in how or how == "--http2"
    assert (spoken, status) == ("1.1" if one else "2", "200"), done.stderr
    forwarded = dict(web.requests[0].fields)["Forwarded"]
    assert f'by="127.0.0.1:{port}";for="127.0.0.1:{own}"' in forwarded
    assert (without.returncode != 0, len(web.requests)) == (True, 1)
    mesh.wait_log('"reason": "bad-proxy-header"')


def test_an_address_that_is_not_the_connections(mesh: Hostmesh, web: EndpointServer) -> None:
    """What a load balancer says is what counts, in the access log and in Forwarded."""
    with mesh.client() as client:
        client.send(header_v2(("192.0.2.7", 5555), ("198.51.100.2", 80)))
        assert client.request(target="/announced").status == 200

    assert 'for="192.0.2.7:5555"' in dict(web.requests[0].fields)["Forwarded"]
    log = mesh.folder / "access.log"
    mesh.wait(lambda: log.exists() and "192.0.2.7" in log.read_text(), "the access log has that address")
