"""The server name in a ClientHello: what OpenSSL sends is read, what breaks the rules is refused."""

from __future__ import annotations

import random
import ssl

import pytest

from hostmesh.base.errors import MeshError
from hostmesh.base.reasons import Reason
from hostmesh.protocol.client_hello import MAX_HELLO, ClientHello, read_hello, starts_tls


def hello_of(name: str | None, *, most: ssl.TLSVersion | None = None, alpn: tuple[str, ...] = ()) -> bytes:
    """What OpenSSL says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if most is not None:
        context.maximum_version = most
    if alpn:
        context.set_alpn_protocols(list(alpn))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def record(payload: bytes, *, kind: int = 22, version: bytes = b"\x03\x01") -> bytes:
    return bytes((kind,)) + version + len(payload).to_bytes(2, "big") + payload


def extension(kind: int, body: bytes) -> bytes:
    return kind.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body


def sni(host: bytes, *, kind: int = 0) -> bytes:
    entry = bytes((kind,)) + len(host).to_bytes(2, "big") + host
    return extension(0, len(entry).to_bytes(2, "big") + entry)


def message(
    *extensions: bytes,
    version: bytes = b"\x03\x03",
    session: bytes = b"",
    suites: bytes = b"\x13\x01",
    compressions: bytes = b"\x00",
    tail: bytes = b"",
) -> bytes:
    """A ClientHello of our own."""
    block = b"".join(extensions)
    body = (
        version
        + bytes(32)
        + bytes((len(session),))
        + session
        + len(suites).to_bytes(2, "big")
        + suites
        + bytes((len(compressions),))
        + compressions
        + (len(block).to_bytes(2, "big") + block if extensions else b"")
        + tail
    )
    return b"\x01" + len(body).to_bytes(3, "big") + body


@pytest.mark.parametrize("most", [None, ssl.TLSVersion.TLSv1_2])
@pytest.mark.parametrize("alpn", [(), ("h2", "http/1.1")])
def test_openssl(most: ssl.TLSVersion | None, alpn: tuple[str, ...]) -> None:
    """The name, in lower case, of both versions in use."""
    assert read_hello(hello_of("DB.Example.org", most=most, alpn=alpn)) == ClientHello("db.example.org")


def test_without_a_name() -> None:
    """An address is no name, and callers that have only that send none."""
    assert read_hello(hello_of("127.0.0.1")) == ClientHello(None)
    assert read_hello(hello_of(None)) == ClientHello(None)
    assert read_hello(record(message())) == ClientHello(None)


def test_in_pieces() -> None:
    """Whatever has come of it, nothing is decided before all of it has; what follows is not looked at."""
    hello = hello_of("db.example.org")

    assert [read_hello(hello[:size]) for size in range(1, len(hello))] == [None] * (len(hello) - 1)
    assert read_hello(hello + b"\x17early data") == ClientHello("db.example.org")


@pytest.mark.parametrize("size", [1, 3, 4, 5, 100])
def test_in_several_records(size: int) -> None:
    """A handshake message may be cut into records (RFC 8446 5.1)."""
    whole = message(sni(b"db"))
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    data = b"".join(record(piece) for piece in pieces)

    assert read_hello(data) == ClientHello("db")
    assert [read_hello(data[:n]) for n in range(1, len(data))] == [None] * (len(data) - 1)


@pytest.mark.parametrize(
    "data",
    [
        record(message(sni(b"db")), kind=23),
        record(b"\x02" + message(sni(b"db"))[1:]),
        record(message(sni(b"db")), version=b"\x02\x00"),
        record(message(sni(b"db"), version=b"\x02\x00")),
        record(b""),
        b"\x16\x03\x01\xff\xff",
        record(message(sni(b"db"))[:20]) + record(b"x", kind=21),
        record(message(sni(b"db")) + b"\x01"),
        record(message(sni(b"db"), tail=b"x")),
        record(message(sni(b"db"), suites=b"")),
        record(message(sni(b"db"), suites=b"\x13")),
        record(message(sni(b"db"), compressions=b"")),
        record(message(sni(b"db"), session=bytes(33))),
        record(message(sni(b"db"), sni(b"other"))),
        record(message(sni(b"db"), extension(43, b"\x02\x03\x04"), extension(43, b"\x02\x03\x04"))),
        record(message(sni(b"db")[:-1])),
        record(message(extension(0, b""))),
        record(message(extension(0, b"\x00\x00"))),
        record(message(sni(b"db", kind=1))),
        record(message(extension(0, b"\x00\x0a\x00\x00\x02db\x00\x00\x02eb"))),
        record(message(extension(0, b"\x00\x05\x00\x00\x02dbx"))),
        record(message(extension(0, b"\x00\x06\x00\x00\x03db"))),
    ],
)
def test_what_breaks_the_rules_is_refused(data: bytes) -> None:
    """Two readers could take it differently, so it goes nowhere."""
    with pytest.raises(MeshError) as caught:
        read_hello(data)

    assert caught.value.reason is Reason.BAD_CLIENT_HELLO


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b".",
        b"db.",
        b".db",
        b"a..b",
        b"-db",
        b"db-.example",
        b"10.0.0.1",
        b"1",
        b"d b",
        b"d/b",
        b"d\x00b",
        b"d\xc3\xa4b",
        b"a" * 64 + b".b",
        b"a." * 127 + b"ab",
        b"[::1]",
        b"db:443",
        b"$",
        b"#",
    ],
)
def test_names_that_are_no_dns_names_are_refused(host: bytes) -> None:
    """RFC 6066: a DNS name, without the dot at its end, and no address."""
    with pytest.raises(MeshError) as caught:
        read_hello(record(message(sni(host))))

    assert caught.value.reason is Reason.BAD_CLIENT_HELLO


@pytest.mark.parametrize(
    "host",
    [b"a", b"db1", b"_sip.example", b"xn--bcher-kva.example", b"3com.example", b"a.3d", b"a." * 126 + b"a"],
)
def test_odd_names_that_are_fine(host: bytes) -> None:
    """Underscores are in use, and only the last label may not be a number."""
    assert read_hello(record(message(sni(host)))) == ClientHello(host.decode())


def test_r5_a_hello_is_bounded() -> None:
    """R5: one that says that it will be longer is refused at once; one that dribbles records, when it is."""
    long = message(extension(21, bytes(MAX_HELLO)))
    with pytest.raises(MeshError) as caught:
        read_hello(record(long[:100]))
    assert caught.value.reason is Reason.LIMIT_HEADER_BYTES

    dribble = b"".join(record(b"\x01\x00\x20\x00"[n : n + 1] or b"x") for n in range(3000))
    with pytest.raises(MeshError) as caught:
        read_hello(dribble)
    assert caught.value.reason is Reason.LIMIT_HEADER_BYTES
    assert read_hello(dribble[: MAX_HELLO - 100]) is None


def test_the_first_byte_tells_tls_from_others() -> None:
    """So that connections without TLS have a way of their own."""
    assert starts_tls(hello_of("db"))
    assert not any(starts_tls(first) for first in (b"GET / HTTP/1.1", b"\x00\x00\x00\x08", b"PROXY"))


def test_damaged_hellos_never_raise_anything_else() -> None:
    """Thousands of mutations: a name, None or a typed refusal, and never a longer look than the bytes."""
    dice = random.Random(22)
    hellos = [hello_of("db.example.org"), record(message(sni(b"db")))]
    outcomes = set()
    for _ in range(5000):
        data = bytearray(dice.choice(hellos))
        for _ in range(dice.randrange(1, 4)):
            at = dice.randrange(len(data))
            what = dice.randrange(3)
            if what == 0:
                data[at] = dice.randrange(256)
            elif what == 1:
                del data[at : at + dice.randrange(1, 8)]
            else:
                data[at:at] = dice.randbytes(dice.randrange(1, 8))
        try:
            found = read_hello(bytes(data))
        except MeshError as error:
            outcomes.add(error.reason)
        else:
            outcomes.add(None if found is None else "read")

    assert outcomes == {None, "read", Reason.BAD_CLIENT_HELLO, Reason.LIMIT_HEADER_BYTES}
