"""The codec: the same plaintext however the wire cuts it, and an end that is told from a cut."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from hostmesh.base.reasons import Reason
from hostmesh.protocol.tls import records
from hostmesh.protocol.tls.codec import TlsCodec
from hostmesh.protocol.tls.failures import TlsFailure
from hostmesh.protocol.tls.records import RECORD, ROOM
from tests import tls_pairs
from tests.tls_files import TlsFiles
from tests.tls_records import DATA, KEY_UPDATE_WITH_ANSWER, maker_for

STEPS = (1, 7, 1000, 1 << 20)


@pytest.fixture(autouse=True, params=["direct", "public"])
def binding(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything holds for both ways to call OpenSSL."""
    if request.param == "public":
        monkeypatch.setattr(records, "BINDING", None)
    assert (records.BINDING is None) is (request.param == "public")


def agreed(files: TlsFiles, step: int = 1 << 20, **options: Any) -> tuple[TlsCodec, TlsCodec]:
    """A server's and a client's codec after their handshake."""
    server = tls_pairs.server(files, **options).connection()
    client = tls_pairs.client(files).connection("web.mesh", "web.mesh")
    tls_pairs.shake(server, client, step)
    expected = records.PublicRecords if records.BINDING is None else records.DirectRecords
    assert type(server._records) is expected
    return server, client


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_plaintext_is_the_same_however_it_is_cut(tls_files: TlsFiles, step: int, version: str) -> None:
    """Handshake and data byte by byte, in pieces that cut headers, and in one piece; both ways."""
    server, client = agreed(tls_files, step, protocols=[version])
    sent = [b"x", b"hello" * 10, b"y" * RECORD, b"z" * (RECORD + 1), b"w" * 100_000, b"v" * (2 * ROOM)]
    for sender, receiver in ((client, server), (server, client)):
        wire = b"".join(sender.encrypt(each) for each in sent)
        got = b"".join(receiver.decrypt(wire[at : at + step]) for at in range(0, len(wire), step))
        assert got == b"".join(sent)
        assert receiver.reply == b""
        assert not receiver.ended


def test_plaintext_is_the_same_for_any_cuts(tls_files: TlsFiles) -> None:
    """Two hundred conversations cut at random: several records at once, and parts of records behind them."""
    rng = Random(7)
    server, client = agreed(tls_files)
    for _ in range(200):
        sent = [rng.randbytes(rng.choice((1, 3, 200, 5000, 40_000))) for _ in range(rng.randrange(1, 6))]
        wire = b"".join(client.encrypt(each) for each in sent)
        got = b""
        at = 0
        while at < len(wire):
            size = rng.choice((1, 4, 5, 6, 300, 20_000, 60_000))
            got += server.decrypt(wire[at : at + size])
            at += size
        assert got == b"".join(sent)


def test_nothing_encrypts_to_nothing(tls_files: TlsFiles) -> None:
    """An empty write makes no record."""
    server, client = agreed(tls_files)

    assert client.encrypt(b"") == b""
    assert server.decrypt(client.encrypt(b"after")) == b"after"


@pytest.mark.parametrize("step", STEPS)
def test_close_notify_is_an_end_behind_the_data(tls_files: TlsFiles, step: int) -> None:
    """What came before it is delivered; the other direction goes on."""
    server, client = agreed(tls_files)
    wire = client.encrypt(b"the last words") + client.close_notify()
    got = b"".join(server.decrypt(wire[at : at + step]) for at in range(0, len(wire), step))

    assert got == b"the last words"
    assert server.ended
    assert client.decrypt(server.encrypt(b"still here")) == b"still here"


def test_bytes_changed_on_the_way_are_refused(tls_files: TlsFiles) -> None:
    """One bit is enough; the peer gets an alert."""
    server, client = agreed(tls_files)
    wire = bytearray(client.encrypt(b"pay 1 to Bob"))
    wire[-1] ^= 1

    with pytest.raises(TlsFailure, match="changed on the way") as caught:
        server.decrypt(bytes(wire))
    assert caught.value.reason is Reason.TLS_HANDSHAKE
    with pytest.raises(TlsFailure, match="alert 'bad record mac'"):
        client.decrypt(caught.value.farewell)


def test_garbage_instead_of_a_handshake_is_refused(tls_files: TlsFiles) -> None:
    """In words that say what it is not."""
    codec = tls_pairs.server(tls_files).connection()

    with pytest.raises(TlsFailure, match="speak") as caught:
        codec.handshake(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
    assert caught.value.reason is Reason.TLS_NOT_SPOKEN


def test_a_session_is_resumed_without_a_certificate(tls_files: TlsFiles) -> None:
    """With the same context; the identity of the first handshake is that of the second."""
    contexts = tls_pairs.server(tls_files, callers=True)
    context = tls_pairs.client(tls_files, tls_files.client)
    sessions: list[Any] = []
    verified = []
    resumed = []
    names = []
    for _ in range(2):
        server = contexts.connection()
        client = context.connection("web.mesh", "web.mesh", session=sessions[-1] if sessions else None)
        client.on_session = sessions.append
        notes = client._notes
        tls_pairs.shake(server, client)
        verified.append(notes.verified)
        resumed.append(server.resumed)
        client.close()
        server.close()
        assert server.identity is not None
        names.append(server.identity.dns_names)

    assert verified == [True, False]
    assert resumed == [False, True]
    assert names == [("caller.mesh",)] * 2


def test_tickets_go_with_the_answer(tls_files: TlsFiles, tmp_path: Path) -> None:
    """They cost no send of their own, even where the first request has come with the end of the handshake."""
    server = tls_pairs.server(tls_files).connection()
    maker, flight = maker_for(tls_files, server, tmp_path)

    out = server.handshake(flight + maker.record(DATA, b"request"))
    request = server.decrypt(b"")
    waiting, server.reply = server.reply, b""
    answer = server.encrypt(b"answer")

    assert (out, request, waiting) == (b"", b"request", b"")
    # Two tickets of more than 200 bytes each, in front of the data; then data alone.
    assert len(answer) > 400 > 100 > len(server.encrypt(b"answer"))


def test_tickets_go_in_front_of_what_cannot_wait(tls_files: TlsFiles, tmp_path: Path) -> None:
    """Records are numbered: the answer to a KeyUpdate, which OpenSSL gives at the next record, takes them along."""
    server = tls_pairs.server(tls_files).connection()
    maker, flight = maker_for(tls_files, server, tmp_path)
    server.handshake(flight)

    updates = maker.key_update(KEY_UPDATE_WITH_ANSWER) + maker.key_update(KEY_UPDATE_WITH_ANSWER)
    assert server.decrypt(updates) == b""
    assert len(server.reply) > 400
    assert len(server.encrypt(b"answer")) < 100


BOTH = (b"h2", b"http/1.1")


@pytest.mark.parametrize(
    ("served", "offered", "spoken"),
    [
        (BOTH, (), b""),
        (BOTH, (b"http/1.1",), b"http/1.1"),
        (BOTH, (b"spdy/3", b"http/1.1"), b"http/1.1"),
        (BOTH, (b"http/1.1", b"h2"), b"h2"),
        (BOTH, (b"\x02h2\x08http/1.", b"h2"), b"h2"),
        ((), BOTH, b""),
    ],
)
def test_both_sides_know_what_is_spoken(
    tls_files: TlsFiles, served: tuple[bytes, ...], offered: tuple[bytes, ...], spoken: bytes
) -> None:
    """The first of ours that the caller has offered; nothing, if one of us has no list."""
    server = tls_pairs.server(tls_files).connection(served)
    client = tls_pairs.client(tls_files).connection("web.mesh", "web.mesh", alpn=offered)
    tls_pairs.shake(server, client)

    assert (server.protocol, client.protocol) == (spoken, spoken)


@pytest.mark.parametrize("offered", [(b"spdy/3",), (b"\x02h2", b"h2c")])
def test_who_offers_nothing_of_ours_is_refused(tls_files: TlsFiles, offered: tuple[bytes, ...]) -> None:
    """With the alert that says so, whatever the offer looks like."""
    server = tls_pairs.server(tls_files).connection(BOTH)
    client = tls_pairs.client(tls_files).connection("web.mesh", "web.mesh", alpn=offered)

    with pytest.raises(TlsFailure, match=r"offers only .* \(ALPN\)") as caught:
        server.handshake(client.handshake(b""))
    with pytest.raises(TlsFailure, match="alert 'no application protocol'"):
        client.handshake(caught.value.farewell)


def test_a_session_is_not_resumed_under_another_context(tls_files: TlsFiles) -> None:
    """X5: the ticket keys are the context's, so after a rotation everybody is verified again."""
    sessions: list[Any] = []
    context = tls_pairs.client(tls_files, tls_files.client)
    verified = []
    for _ in range(2):
        server = tls_pairs.server(tls_files, callers=True).connection()
        client = context.connection("web.mesh", "web.mesh", session=sessions[-1] if sessions else None)
        client.on_session = sessions.append
        notes = client._notes
        tls_pairs.shake(server, client)
        verified.append(notes.verified)
        client.close()

    assert verified == [True, True]


def test_a_closed_codec_says_nothing(tls_files: TlsFiles) -> None:
    """The engine is let go; a farewell is not asked of it any more."""
    _server, client = agreed(tls_files)
    client.close()

    assert client.close_notify() == b""
