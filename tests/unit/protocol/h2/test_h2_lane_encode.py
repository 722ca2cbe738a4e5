"""Header blocks written by the lane's encoder."""

from __future__ import annotations

import random

import pytest
from hpack import Decoder, NeverIndexedHeaderTuple

from hostmesh.protocol.h2 import lane_encode
from hostmesh.protocol.h2.lane_encode import (
    MAX_LEARNED_NAMES,
    MAX_LITERAL_NAMES,
    MAX_TABLE,
    VARIES_AFTER,
    HeaderEncoder,
)
from hostmesh.protocol.h2.lane_pair import NeverIndexedPair

BASE = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"web"), (b"user-agent", b"probe/1.0")]


def test_what_repeats_becomes_one_octet_per_field() -> None:
    """The third time a head comes, its fields are all indexed."""
    encoder = HeaderEncoder()
    sizes = [len(encoder.encode(BASE)) for _ in range(3)]

    assert sizes == [19, 18, 4]


def test_values_that_vary_never_enter_the_table() -> None:
    """A thousand trace ids leave the table as it was, so the indexes of what repeats stay."""
    encoder = HeaderEncoder()
    for number in range(1000):
        encoder.encode([*BASE, (b"x-trace", b"%032x" % number)])

    assert repr(encoder) == "<HeaderEncoder 2 entries, 96/4096 bytes>"


def test_a_value_that_returns_after_others_is_indexed_while_its_name_is_not_known_to_vary() -> None:
    """Callers that alternate among a few values get an entry for each."""
    encoder = HeaderEncoder()
    for number in range(12):
        block = encoder.encode([(b"x-caller", b"caller-%d" % (number % 3))])

    assert len(block) == 1
    assert VARIES_AFTER >= 12


@pytest.mark.parametrize(
    "pair",
    [
        (b"authorization", b"Bearer abc"),
        (b"proxy-authorization", b"Basic abc"),
        (b"cookie", b"a=b"),
        NeverIndexedPair(b"x-secret", b"1"),
        NeverIndexedHeaderTuple(b"x-secret", b"1"),
    ],
    ids=["authorization", "proxy-authorization", "short cookie", "marked by a peer", "marked by hpack"],
)
def test_secrets_are_written_never_to_be_indexed(pair: tuple[bytes, bytes]) -> None:
    """Credentials, short cookies, and what came with that order keep it (RFC 7541, 6.2.3 and 7.1.3)."""
    encoder, decoder = HeaderEncoder(), Decoder()
    for _ in range(VARIES_AFTER + 3):
        (found,) = decoder.decode(encoder.encode([pair]), raw=True)

        assert NeverIndexedHeaderTuple is type(found)
        assert pair == found


def test_a_marked_field_is_not_written_as_its_indexed_twin() -> None:
    """The plain pair is in the table; the marked one is still written as a literal never to be indexed."""
    encoder, decoder = HeaderEncoder(), Decoder()
    for _ in range(3):
        decoder.decode(encoder.encode([(b"x-secret", b"1")]), raw=True)
    (found,) = decoder.decode(encoder.encode([NeverIndexedPair(b"x-secret", b"1")]), raw=True)

    assert NeverIndexedHeaderTuple is type(found)


def test_a_full_table_takes_no_more_and_loses_nothing() -> None:
    """Entries are never pushed out by others: 4 KiB of what repeated first stays."""
    encoder, decoder = HeaderEncoder(), Decoder()
    fields = [(b"name-%d" % number, b"v" * 300) for number in range(40)]
    for _ in range(4):
        decoded = decoder.decode(encoder.encode(fields), raw=True)
        assert fields == decoded

    assert repr(encoder) == "<HeaderEncoder 12 entries, 4058/4096 bytes>"
    assert list(decoder.header_table.dynamic_entries) == [*reversed(fields[:12])]


def test_the_table_is_bounded_whatever_the_peer_offers() -> None:
    """An offer of 1 GiB changes nothing, not even the next block."""
    encoder = HeaderEncoder()
    encoder.offer(1 << 30)

    assert encoder.encode([(b":method", b"GET")]) == b"\x82"
    assert MAX_TABLE == 4096


@pytest.mark.parametrize(
    ("offers", "updates"),
    [([0], b"\x20"), ([4096], b""), ([0, 4096], b"\x20\x3f\xe1\x1f"), ([100, 50, 70], b"\x3f\x13\x3f\x27")],
    ids=["none", "as before", "none and back", "lowest, then last"],
)
def test_changed_offers_are_answered_at_the_start_of_the_next_block(
    offers: list[int], updates: bytes
) -> None:
    """The least size meanwhile, then the last (RFC 7541, 4.2); once."""
    encoder = HeaderEncoder()
    for _ in range(3):
        encoder.encode(BASE)
    for offer in offers:
        encoder.offer(offer)
    get = [(b":method", b"GET")]

    assert updates + b"\x82" == encoder.encode(get)
    assert encoder.encode(get) == b"\x82"


def test_what_is_learned_about_names_is_bounded() -> None:
    """Names come from callers: a connection learns about so many, the process keeps so many literal forms."""
    encoder = HeaderEncoder()
    for number in range(MAX_LITERAL_NAMES * 2):
        encoder.encode([(b"x-%d" % number, b"1")])

    assert len(encoder._names) <= MAX_LEARNED_NAMES
    assert len(lane_encode._literal_names) <= MAX_LITERAL_NAMES


def test_random_dialogues_are_read_by_hpack_as_they_were_written() -> None:
    """Seeded heads of repeating and varying fields, with changing offers: hpack's decoder finds what was meant."""
    rng = random.Random(7541)
    for _ in range(150):
        encoder, decoder = HeaderEncoder(), Decoder()
        for _ in range(60):
            if rng.random() < 0.05:
                size = rng.choice((0, 40, 300, 4096, 9000))
                encoder.offer(size)
                decoder.max_allowed_table_size = max(size, 4096)
            fields = [
                (
                    b"n%d" % rng.randrange(30),
                    b"v" * rng.choice((0, 1, 126, 127, 128, 300)) + b"%d" % rng.randrange(3),
                )
                for _ in range(rng.randrange(9))
            ]
            fields += [
                (b":status", rng.choice((b"200", b"204", b"299"))),
                (b"date", b"%d" % rng.randrange(1 << 30)),
            ]
            assert fields == decoder.decode(encoder.encode(fields), raw=True)
