"""The DNS client, against scripted servers on loopback (a real one is in tests/servers)."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable

import pytest
import trio

from hostmesh.registry import dns
from hostmesh.registry import dns_wire as wire
from hostmesh.registry.dns import DnsClient, DnsError, Found, NotFound, has_ipv6, servers_of
from tests.fs_world import RealEnv

Respond = Callable[[bytes], "list[bytes]"]


def answering(query: bytes, *records: bytes, rcode: int = 0, flags: int = 0x8400) -> bytes:
    """An answer to this question."""
    asked = query[12 : query.index(b"\0", 12) + 5]
    return query[:2] + struct.pack("!HHHHH", flags | rcode, 1, len(records), 0, 0) + asked + b"".join(records)


def a(host: str, *, ttl: int = 60, owner: bytes = b"\xc0\x0c") -> bytes:
    data = bytes(map(int, host.split(".")))
    return owner + struct.pack("!HHIH", wire.A, wire.IN, ttl, 4) + data


def cname(target: bytes, *, ttl: int = 60, owner: bytes = b"\xc0\x0c") -> bytes:
    return owner + struct.pack("!HHIH", wire.CNAME, wire.IN, ttl, len(target)) + target


def serve(
    respond: Respond, test: Callable[[tuple[str, int]], Awaitable[None]], tcp: Respond | None = None
) -> None:
    """Run ``test(address)`` beside a server whose answers to one datagram are what ``respond`` returns."""

    async def udp(sock: trio.socket.SocketType) -> None:
        while True:
            data, peer = await sock.recvfrom(4096)
            for answer in respond(data):
                await sock.sendto(answer, peer)

    async def stream(peer: trio.SocketStream) -> None:
        assert tcp is not None
        async with peer:
            data = await peer.receive_some()
            for answer in tcp(data[2:]):
                await peer.send_all(answer)

    async def main() -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        address = listeners[0].socket.getsockname()
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
            await sock.bind(address)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(udp, sock)
                if tcp is not None:
                    nursery.start_soon(trio.serve_listeners, stream, listeners)
                with trio.fail_after(10):
                    await test(address)
                nursery.cancel_scope.cancel()
        for listener in listeners:
            await listener.aclose()

    trio.run(main)


def client(*servers: tuple[str, int]) -> DnsClient:
    return DnsClient(RealEnv(), servers)


def addresses(answer: Found | NotFound) -> list[str]:
    assert isinstance(answer, Found)
    return [str(record.data) for record in answer.records]


def test_aliases_are_followed_within_and_beyond_an_answer() -> None:
    """The smallest TTL on the way counts."""

    def respond(query: bytes) -> list[bytes]:
        if b"\x03end" in query:
            return [answering(query, a("10.0.0.9", ttl=7))]
        return [answering(query, cname(b"\x03mid\0", ttl=30), cname(b"\x03end\0", owner=b"\x03mid\0"))]

    async def test(server: tuple[str, int]) -> None:
        answer = await client(server).ask("web", wire.A)
        assert (addresses(answer), answer.ttl) == (["10.0.0.9"], 7)

    serve(respond, test)


def test_x8_aliases_in_a_ring_end() -> None:
    """With an error, after a bounded number."""

    async def test(server: tuple[str, int]) -> None:
        with pytest.raises(DnsError, match="more than 8 aliases after each other"):
            await client(server).ask("a", wire.A)

    serve(
        lambda query: [answering(query, cname(b"\x01b\0" if query[13:14] == b"a" else b"\x01a\0"))],
        test,
    )


@pytest.mark.parametrize("rcode", [wire.NOERROR, wire.NXDOMAIN])
def test_absence_is_an_answer(rcode: int) -> None:
    """No such name, or no such record of it; believed for a bounded time."""

    async def test(server: tuple[str, int]) -> None:
        assert await client(server).ask("web", wire.A) == NotFound(dns.NEGATIVE_TTL_S)

    serve(lambda query: [answering(query, rcode=rcode)], test)


def test_x9_failures_of_servers_are_errors() -> None:
    """SERVFAIL and REFUSED say nothing of the name."""

    async def test(server: tuple[str, int]) -> None:
        with pytest.raises(DnsError, match=f"web: 127.0.0.1:{server[1]}: SERVFAIL"):
            await client(server).ask("web", wire.A)

    serve(lambda query: [answering(query, rcode=2)], test)


def test_the_next_server_is_asked() -> None:
    """And first the next time."""

    async def test(server: tuple[str, int]) -> None:
        mine = client(("127.0.0.1", 1), server)
        assert addresses(await mine.ask("web", wire.A)) == ["10.0.0.1"]
        assert mine.questions == 2
        await mine.ask("web", wire.A)
        assert mine.questions == 3

    serve(lambda query: [answering(query, a("10.0.0.1"))], test)


def test_x8_only_the_answer_to_the_question_counts() -> None:
    """A wrong id, another question and noise are passed over and counted."""

    def respond(query: bytes) -> list[bytes]:
        forged = answering(query, a("10.6.6.6"))
        return [
            bytes((forged[0] ^ 1,)) + forged[1:],
            forged.replace(b"\x03web", b"\x03bad", 1),
            b"noise",
            answering(query, a("10.0.0.1")),
        ]

    async def test(server: tuple[str, int]) -> None:
        mine = client(server)
        assert addresses(await mine.ask("web", wire.A)) == ["10.0.0.1"]
        assert mine.strangers == 3

    serve(respond, test)


def test_x8_a_flood_of_other_datagrams_ends() -> None:
    """After a bounded number the server counts as broken."""

    async def test(server: tuple[str, int]) -> None:
        with pytest.raises(DnsError, match="20 datagrams that are no answer"):
            await client(server).ask("web", wire.A)

    serve(lambda _query: [b"noise"] * 25, test)


def test_x8_a_malformed_answer_is_an_error() -> None:
    """What is wrong with it is in the message."""

    async def test(server: tuple[str, int]) -> None:
        with pytest.raises(DnsError, match="expected a message of 21 bytes, found 22"):
            await client(server).ask("web", wire.A)

    serve(lambda query: [answering(query) + b"x"], test)


def test_what_does_not_fit_comes_over_tcp() -> None:
    """In as many pieces as TCP likes."""

    def tcp(query: bytes) -> list[bytes]:
        whole = answering(query, *(a(f"10.0.{i // 250}.{i % 250}") for i in range(500)))
        return [struct.pack("!H", len(whole))[:1], struct.pack("!H", len(whole))[1:] + whole[:9], whole[9:]]

    async def test(server: tuple[str, int]) -> None:
        mine = client(server)
        assert len(addresses(await mine.ask("web", wire.A))) == 500
        assert mine.over_tcp == 1

    serve(lambda query: [answering(query, flags=0x8600)], test, tcp)


def test_a_connection_closed_in_mid_answer_is_an_error() -> None:
    """No half set of addresses is believed."""

    async def test(server: tuple[str, int]) -> None:
        with pytest.raises(DnsError, match="connection closed in the middle of an answer"):
            await client(server).ask("web", wire.A)

    serve(lambda query: [answering(query, flags=0x8600)], test, lambda query: [b"\x01\x00" + query])


def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After several attempts."""
    monkeypatch.setattr(dns, "ATTEMPT_S", 0.02)

    async def test(server: tuple[str, int]) -> None:
        mine = client(server)
        with pytest.raises(DnsError, match=r"no answer in 0\.02 s"):
            await mine.ask("web", wire.A)
        assert mine.questions == dns.ROUNDS

    serve(lambda _query: [], test)


def test_addresses_are_kept_for_their_ttl() -> None:
    """Asked for again, nothing is sent; absence is kept, too."""

    async def test(server: tuple[str, int]) -> None:
        mine = client(server)
        for _ in range(2):
            kept, ttl = await mine.kept_addresses("web", v6=False)
            assert kept == ("10.0.0.1",)
            assert 0 < ttl <= 60
        assert mine.questions == 1

    serve(lambda query: [answering(query, a("10.0.0.1"))], test)


def test_without_servers_nothing_is_known() -> None:
    """An error, not an absence."""

    async def main() -> None:
        with pytest.raises(DnsError, match="expected at least one name server, found none"):
            await client().ask("web", wire.A)

    trio.run(main)


def test_servers_of_resolv_conf() -> None:
    """The first three, comments and options left out; none is the local host."""
    text = "# x\nnameserver 10.0.0.1\noptions ndots:5\nnameserver ::1 # y\n nameserver 10.0.0.2\nnameserver 10.0.0.3\n"

    assert servers_of(text) == (("10.0.0.1", 53), ("::1", 53), ("10.0.0.2", 53))
    assert servers_of("") == (("127.0.0.1", 53),)


def test_ipv6_counts_when_it_reaches_further_than_a_link() -> None:
    """Loopback (10) and link-local (20) addresses do not."""
    line = "{} 01 80 {} 80 eth0\n"

    assert not has_ipv6(line.format("0" * 31 + "1", "10") + line.format("fe80" + "0" * 28, "20"))
    assert has_ipv6(line.format("2001" + "0" * 28, "00"))


def test_an_answer_that_is_the_last_one_is_not_read_again() -> None:
    """Whatever its id; another one is."""
    hosts = ["10.0.0.1", "10.0.0.1", "10.0.0.2"]

    async def test(server: tuple[str, int]) -> None:
        mine = client(server)
        first = await mine.ask("web", wire.A)
        assert isinstance(first, Found)
        assert await mine.ask_again("web", wire.A, first.raw) is None
        third = await mine.ask_again("web", wire.A, first.raw)
        assert third is not None
        assert addresses(third) == ["10.0.0.2"]

    serve(lambda query: [answering(query, a(hosts.pop(0)))], test)
