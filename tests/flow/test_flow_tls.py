"""TLS in a virtual world: how long endpoints are waited for."""

from __future__ import annotations

from hostmesh.proxy.secure_connect import ENDPOINT_HANDSHAKE_TIME
from tests.flow.tcp_peers import TcpEndpoint
from tests.flow.world import World, config
from tests.tls_files import TlsFiles


def test_x3_an_endpoint_that_says_nothing_is_given_up(tls_files: TlsFiles) -> None:
    """X3: each attempt is over after 5 s, and the request is answered; the silent connections are closed."""
    tls = f'tls: {{commonName: web.mesh, trustCertsBundle: "{tls_files.ca}"}}'
    world = World(config(client=tls))
    endpoint = TcpEndpoint(world.loop, "10.0.0.7", 80)
    world.name("web", endpoint.text)
    started = world.loop.now()
    call = world.caller().request("/")
    world.run(ENDPOINT_HANDSHAKE_TIME - 0.1)
    assert call.ended is None
    assert endpoint.open == 1
    world.finish(call)
    took = world.loop.now() - started

    assert call.status == 502
    assert call.reason == "tls-timeout"
    # As often as a request may be tried again without a word of it having been sent.
    assert took < 4 * ENDPOINT_HANDSHAKE_TIME
    world.run(1)
    assert all(peer.saw_eof for peer in endpoint.peers)
    world.check()
