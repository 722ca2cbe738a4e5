"""What is read of a connection before it is routed: PROXY protocol headers and ClientHellos."""

from __future__ import annotations

import ssl

import pytest

from hostmesh.protocol.client_hello import MAX_HELLO
from hostmesh.protocol.proxy_protocol import MAX_V2, SIGNATURE, header_v1, header_v2, read_header
from hostmesh.proxy.tcp_server import PREFACE_TIME
from hostmesh.pump.listen import ListenOptions
from tests.flow.tcp_peers import Peer, TcpWorld, config

SNI_OR_WEB = """
  - kind: io.l5d.tcp.sni
  - {kind: io.l5d.tcp.static, path: /web}"""
CALLER, TARGET = ("192.0.2.7", 5555), ("198.51.100.2", 443)


def hello_of(name: str | None) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    outgoing = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def record_of(world: TcpWorld) -> tuple[str, str, str]:
    """Host, dst path and reason of the one connection there was."""
    assert world.sink is not None
    (record,) = world.sink.records
    return record.host.decode(), record.dst_path, record.reason


# -- server names -----------------------------------------------------------------------------------------------------


def test_the_server_name_is_the_name() -> None:
    """The ClientHello goes to the endpoint as it came, and so does what follows; TLS is between the two ends."""
    world = TcpWorld(config(identifier="{kind: io.l5d.tcp.sni}"))
    (endpoint,) = world.tcp(name="db.example.org")
    hello = hello_of("DB.example.org")
    caller, far = world.joined(endpoint, say=hello)

    caller.send(b"more of it")
    far.send(b"server hello")
    world.run(0.01)

    assert bytes(far.data) == hello + b"more of it"
    assert bytes(caller.data) == b"server hello"
    caller.reset()
    world.run(0.1)
    assert record_of(world) == ("db.example.org", "/svc/db.example.org", "reset-by-caller")
    world.check()


def test_a_hello_in_pieces() -> None:
    """A byte at a time, it is the same hello."""
    world = TcpWorld(config(identifier="{kind: io.l5d.tcp.sni}"))
    (endpoint,) = world.tcp()
    hello = hello_of("web")
    caller = world.dial()
    for at in range(len(hello)):
        assert endpoint.peers == []
        caller.send(hello[at : at + 1])
        world.run(0.005)
    world.run(0.1)

    assert bytes(endpoint.peers[0].data) == hello
    caller.reset()
    world.check()


@pytest.mark.parametrize("say", [hello_of(None), b"GET / HTTP/1.1\r\n", b"\x00\x00\x00\x08\x04\xd2\x16\x2f"])
def test_the_next_identifier_takes_what_has_no_server_name(say: bytes) -> None:
    """TLS without a name, and no TLS at all."""
    world = TcpWorld(config(identifier=SNI_OR_WEB))
    (endpoint,) = world.tcp()

    caller, far = world.joined(endpoint, say=say)

    assert bytes(far.data) == say
    caller.reset()
    world.check()


@pytest.mark.parametrize(
    ("say", "reason"),
    [
        (hello_of(None), "no-identifier"),
        (b"GET / HTTP/1.1\r\n", "no-identifier"),
        (b"\x16\x03\x01\x00\x05\x02xxxx", "bad-client-hello"),
        (b"\x16\x03\x01\x10\x00\x01\x01\x00\x00", "limit-header-bytes"),
    ],
)
def test_without_a_next_identifier_it_is_refused(say: bytes, reason: str) -> None:
    """A reset, and the reason in the log and the counters."""
    world = TcpWorld(config(identifier="{kind: io.l5d.tcp.sni}"))
    caller = world.dial(say=say)
    world.run(1)

    assert caller.was_reset
    assert world.reasons == [reason]
    assert world.server(f"failures/{reason}") == 1
    assert world.linker.connections == 0
    world.check()


@pytest.mark.parametrize("say", [b"", b"\x16", hello_of("web")[:100]])
def test_r1_a_hello_has_a_time(say: bytes) -> None:
    """R1: silence and dribbling end after PREFACE_TIME."""
    world = TcpWorld(config(identifier=SNI_OR_WEB))
    caller = world.dial(say=say)
    world.run(PREFACE_TIME - 0.1)
    assert not caller.gone
    world.run(0.2)

    assert caller.was_reset
    assert world.reasons == ["limit-head-time"]
    world.check()


def test_r1_the_time_is_a_setting() -> None:
    """readTimeoutMs shortens it."""
    world = TcpWorld(config(identifier=SNI_OR_WEB, server="socketOptions: {readTimeoutMs: 500}"))
    caller = world.dial()
    world.run(0.6)

    assert caller.was_reset
    world.check()


def test_r5_a_hello_has_a_size() -> None:
    """R5: records that never make a message."""
    world = TcpWorld(config(identifier="{kind: io.l5d.tcp.sni}"))
    caller = world.dial(say=b"\x16\x03\x01\x00\x01\x01" + b"\x16\x03\x01\x00\x01\x00" * MAX_HELLO)
    world.run(1)

    assert caller.was_reset
    assert world.reasons[0] in ("limit-header-bytes", "bad-client-hello")
    world.check()


def test_a_look_whether_somebody_listens_is_no_failure() -> None:
    """Health checks connect and close."""
    world = TcpWorld(config(identifier=SNI_OR_WEB))
    caller = world.dial()
    world.run(0.1)
    caller.close()
    world.run(3)

    assert world.reasons == []
    assert world.server("connects") == world.server("closes") == 1
    world.check()


def test_drain_does_not_wait_for_who_says_nothing() -> None:
    """A connection that has not begun is closed at once."""
    world = TcpWorld(config(identifier=SNI_OR_WEB))
    caller = world.dial()
    world.run(0.1)

    world.linker.drain()
    world.run(0.1)

    assert caller.gone
    assert world.linker.connections == 0
    world.check()


# -- PROXY protocol in ------------------------------------------------------------------------------------------------

TRUSTING = "proxyProtocol: true, proxyProtocolFrom: [10.9.9.0/24]"


@pytest.mark.parametrize("write", [header_v1, header_v2])
@pytest.mark.parametrize("rest", [b"", b"hello"])
def test_the_header_says_who_called(write: object, rest: bytes) -> None:
    """The caller in the log is the one it names; the endpoint gets what follows it, and no header."""
    world = TcpWorld(config(server=TRUSTING))
    (endpoint,) = world.tcp()
    header = write(CALLER, TARGET)  # type: ignore[operator]
    caller, far = world.joined(endpoint, say=header + rest)
    caller.send(b" world")
    world.run(0.01)

    assert bytes(far.data) == rest + b" world"
    caller.reset()
    world.run(0.1)
    assert world.sink is not None
    assert world.sink.records[0].caller == "192.0.2.7:5555"
    world.check()


def test_header_and_hello() -> None:
    """Both, in one read or in single bytes."""
    world = TcpWorld(config(server=TRUSTING, identifier="{kind: io.l5d.tcp.sni}"))
    (endpoint,) = world.tcp()
    hello = hello_of("web")
    data = header_v2(CALLER, TARGET) + hello
    world.joined(endpoint, say=data)
    slow = world.dial()
    for at in range(len(data)):
        slow.send(data[at : at + 1])
        world.run(0.001)
    world.run(0.1)

    assert [bytes(peer.data) for peer in endpoint.peers] == [hello, hello]
    for peer in endpoint.peers:
        peer.reset()
    world.check()


@pytest.mark.parametrize(
    "say",
    [
        b"hello, this is no header\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.2 5555 99999\r\n",
        SIGNATURE + b"\x21\x11" + (MAX_V2 + 1).to_bytes(2, "big"),
    ],
)
def test_without_a_good_header_nothing_is_carried(say: bytes) -> None:
    """Where one is expected, whoever sends none may be pretending."""
    world = TcpWorld(config(server=TRUSTING))
    (endpoint,) = world.tcp()
    caller = world.dial(say=say)
    world.run(1)

    assert caller.was_reset
    assert endpoint.peers == []
    assert world.reasons == ["bad-proxy-header"]
    world.check()


def test_only_trusted_addresses_may_send_one() -> None:
    """Anybody else is refused, header or not."""
    world = TcpWorld(config(server=TRUSTING))
    (endpoint,) = world.tcp()
    caller = world.dial(say=header_v1(CALLER, TARGET), source="10.9.8.9")
    world.run(1)

    assert caller.was_reset
    assert endpoint.peers == []
    assert world.reasons == ["bad-proxy-header"]
    assert world.sink is not None
    assert world.sink.records[0].caller.startswith("10.9.8.9:")
    world.check()


def test_not_configured_it_is_not_read() -> None:
    """A header from a caller is bytes like all others, and the caller is who connected."""
    world = TcpWorld()
    (endpoint,) = world.tcp()
    header = header_v1(CALLER, TARGET)
    caller, far = world.joined(endpoint, say=header)

    assert bytes(far.data) == header
    caller.reset()
    world.run(0.1)
    assert world.sink is not None
    assert world.sink.records[0].caller.startswith("10.9.9.9:")
    world.check()


def test_r1_a_header_has_a_time() -> None:
    """R1: half a header, and then nothing."""
    world = TcpWorld(config(server=TRUSTING))
    caller = world.dial(say=b"PROXY TCP4 192")
    world.run(PREFACE_TIME + 0.1)

    assert caller.was_reset
    assert world.reasons == ["limit-head-time"]
    world.check()


# -- PROXY protocol out -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_endpoints_are_told_who_called(version: str) -> None:
    """The header is the first thing on the connection, before what was read of the caller."""
    world = TcpWorld(config(client=f"proxyProtocol: {version}", identifier=SNI_OR_WEB))
    (endpoint,) = world.tcp()
    caller, far = world.joined(endpoint, say=b"hello")

    header = read_header(bytes(far.data))
    assert header is not None
    assert header.caller is not None
    assert header.caller[0] == "10.9.9.9"
    assert header.target == ("127.0.0.1", 5432)
    assert bytes(far.data)[header.end :] == b"hello"
    caller.reset()
    world.check()


def test_a_chain_keeps_the_first_caller() -> None:
    """In and out: the endpoint hears of who connected to the first proxy, and to what."""
    world = TcpWorld(config(client="proxyProtocol: v2", server=TRUSTING))
    (endpoint,) = world.tcp()
    caller, far = world.joined(endpoint, say=header_v1(CALLER, TARGET) + b"hello")

    header = read_header(bytes(far.data))
    assert header is not None
    assert (header.caller, header.target) == (CALLER, TARGET)
    caller.reset()
    world.check()


def test_a_probe_sends_nothing() -> None:
    """A connect without a caller has nobody to tell about."""
    world = TcpWorld(config(client="proxyProtocol: v1, failFast: true"))
    world.name("web", "10.0.0.77:80", "10.0.0.78:80")
    world.dial()
    world.run(0.1)
    heard: list[Peer] = []

    def accept(transport: object) -> Peer:
        heard.append(Peer(world.loop).begin(transport))
        return heard[-1]

    world.loop.open_listener("10.0.0.77", 80, ListenOptions()).serve(accept).start()
    world.run(3)

    assert [bytes(peer.data) for peer in heard] == [b""]
    world.check()
