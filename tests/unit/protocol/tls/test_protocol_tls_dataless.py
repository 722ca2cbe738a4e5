"""Records that carry no data: a peer may send some, and not keep us busy with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostmesh.base.reasons import Reason
from hostmesh.protocol.tls.codec import MAX_DATALESS, SLICE, TlsCodec
from hostmesh.protocol.tls.failures import TlsFailure
from tests import tls_pairs
from tests.tls_files import TlsFiles
from tests.tls_records import DATA, KEY_UPDATE_WITH_ANSWER, RecordMaker, maker_for

A_READ = 120 * 1024
"""Bytes that arrive at once, at most."""


@pytest.fixture
def met(tls_files: TlsFiles, tmp_path: Path) -> tuple[TlsCodec, RecordMaker]:
    """A server that has shaken hands, and its caller."""
    codec = tls_pairs.server(tls_files).connection()
    maker, flight = maker_for(tls_files, codec, tmp_path)
    codec.handshake(flight)
    assert codec.established
    assert codec.decrypt(b"") == b""
    return codec, maker


def test_keys_may_be_renewed_between_data(met: tuple[TlsCodec, RecordMaker]) -> None:
    """Each renewal that asks for it is answered with ours, and no byte of data is lost, whatever came at once."""
    codec, maker = met
    wire = b"".join(
        maker.record(DATA, b"%d " % number) + maker.key_update(KEY_UPDATE_WITH_ANSWER)
        for number in range(MAX_DATALESS)
    )

    assert codec.decrypt(wire) == b"".join(b"%d " % number for number in range(MAX_DATALESS))
    assert len(codec.reply) >= MAX_DATALESS * 27


def test_small_records_are_data_however_many(met: tuple[TlsCodec, RecordMaker]) -> None:
    """A peer that writes byte by byte keeps to the rules, and records may end anywhere in what arrives."""
    codec, maker = met
    wire = b"".join(maker.record(DATA, b"%d" % (number % 10)) for number in range(5000))

    at = codec.decrypt(wire[: A_READ // 2 + 3])
    assert at + codec.decrypt(wire[A_READ // 2 + 3 :]) == b"0123456789" * 500


def test_x3_a_flood_of_key_updates_is_refused(met: tuple[TlsCodec, RecordMaker]) -> None:
    """Before it costs more than two slices of it: nobody else is served meanwhile."""
    codec, maker = met
    wire = b"".join(maker.key_update(KEY_UPDATE_WITH_ANSWER) for _ in range(A_READ // 27))

    with pytest.raises(TlsFailure, match="without data") as caught:
        codec.decrypt(wire)
    assert caught.value.reason is Reason.TLS_HANDSHAKE
    assert len(codec.reply) <= 2 * SLICE


def test_x3_a_flood_of_key_updates_behind_the_handshake_is_refused(
    tls_files: TlsFiles, tmp_path: Path
) -> None:
    """The engine gets no more of it than of any other."""
    codec = tls_pairs.server(tls_files).connection()
    maker, flight = maker_for(tls_files, codec, tmp_path)
    wire = b"".join(maker.key_update(KEY_UPDATE_WITH_ANSWER) for _ in range(4000))
    codec.handshake(flight + wire)
    assert codec.established

    with pytest.raises(TlsFailure, match="without data"):
        codec.decrypt(b"")
    assert len(codec.reply) <= 3 * SLICE


def test_x3_a_flood_of_empty_records_is_refused(met: tuple[TlsCodec, RecordMaker]) -> None:
    """Records of no bytes, which are allowed one by one."""
    codec, maker = met
    assert codec.decrypt(maker.record(DATA, b"") + maker.record(DATA, b"a")) == b"a"
    wire = b"".join(maker.record(DATA, b"") for _ in range(5000))

    with pytest.raises(TlsFailure):
        codec.decrypt(wire)


def test_data_behind_the_handshake_is_delivered_whole(tls_files: TlsFiles, tmp_path: Path) -> None:
    """Whatever comes together with the last flight, with records that are cut anywhere."""
    sent = bytes(range(256)) * 300
    for cut in (0, 1, 5, 40, SLICE, len(sent) // 2):
        codec = tls_pairs.server(tls_files).connection()
        folder = tmp_path / str(cut)
        folder.mkdir()
        maker, flight = maker_for(tls_files, codec, folder)
        wire = flight + b"".join(maker.record(DATA, sent[at : at + 1000]) for at in range(0, len(sent), 1000))
        first = len(flight) + cut
        codec.handshake(wire[:first])
        assert codec.established
        got = codec.decrypt(b"")

        assert got + codec.decrypt(wire[first:]) == sent
