"""The bench's own tools tell the truth: its generator, its endpoint and its requests."""

from __future__ import annotations

from pathlib import Path

import hpack
import pytest

from tests.bench import requests
from tests.bench.h2_load import H2Endpoint, h2
from tests.bench.h2_requests import Encoder, write_frames
from tests.bench.load import Endpoint, HeldConnections, Source, compile_tools, openload, stream
from tests.bench.measure import cpu_seconds, family, resident_mb
from tests.bench.tls_load import TlsEndpoint, compile_tls, tls
from tests.servers.fetch import nginx, required
from tests.tls_files import TlsFiles

CORE = 0

pytestmark = pytest.mark.server("gcc")


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    compile_tools()


@pytest.mark.parametrize(
    ("rate", "seconds", "sent"), [(500, 0.4, 200), (0, -300, 300)], ids=["open", "closed"]
)
def test_counts_of_caller_and_endpoint_agree(tmp_path: Path, rate: float, seconds: float, sent: int) -> None:
    """Every request is sent once, answered once and counted once."""
    file = tmp_path / "varied.bin"
    requests.write_templates(file, requests.varied(["a", "b"], 20))
    endpoint = Endpoint(CORE, 64)
    try:
        outcome = openload(CORE, endpoint.port, 4, rate, seconds, file)

        assert (outcome.completed, outcome.bad, endpoint.count()) == (sent, 0, sent)
    finally:
        endpoint.stop()


def test_uploads_are_read_to_their_end(tmp_path: Path) -> None:
    """Bodies larger than any buffer are taken whole, and the connection goes on."""
    file = tmp_path / "upload.bin"
    requests.write_templates(file, requests.upload("web"))
    endpoint = Endpoint(CORE, 64)
    try:
        outcome = openload(CORE, endpoint.port, 2, 0, -10, file)

        assert (outcome.completed, outcome.bad, endpoint.count()) == (10, 0, 10)
    finally:
        endpoint.stop()


def test_held_connections_carried_a_request_each(tmp_path: Path) -> None:
    """Connections that are held were used once and no more."""
    file = tmp_path / "plain.bin"
    requests.write_templates(file, requests.plain("web"))
    endpoint = Endpoint(CORE, 64)
    try:
        held = HeldConnections(CORE, endpoint.port, 50, file)

        assert (held.outcome.completed, endpoint.count()) == (50, 50)
        held.release()
    finally:
        endpoint.stop()


def test_varied_requests_are_as_announced() -> None:
    """600 to 900 bytes of head, all names, and slots for what differs each time."""
    names = [f"n{n}" for n in range(50)]

    heads = requests.varied(names)

    assert min(map(len, heads)) >= 600
    assert max(map(len, heads)) <= 900
    assert {head.split(b"Host: ")[1].split(b"\r\n")[0].decode() for head in heads} == set(names)
    assert {len(requests.slots(head)) for head in heads} == {8}


def test_costs_of_another_process_can_be_read(tmp_path: Path) -> None:
    """CPU time and memory of a child are positive and come from the kernel."""
    endpoint = Endpoint(CORE, 64)
    try:
        pids = family(endpoint.process.pid)

        assert len(pids) >= 1
        assert cpu_seconds(pids) > 0
        assert resident_mb(pids[:1]) > 0
    finally:
        endpoint.stop()


def test_h2_frames_are_what_the_heads_say() -> None:
    """A decoder reads from the frames what the HTTP/1.1 heads have, the first one from an empty table."""
    heads = requests.varied(["web"], 5)
    encoder, decoder = Encoder(), hpack.Decoder()

    blocks = [encoder.frame(heads[0], first=True), *(encoder.frame(head, first=False) for head in heads)]

    for head, frame in zip([heads[0], *heads], blocks, strict=True):
        start, *lines = head.decode().rstrip("\r\n").split("\r\n")
        fields = [tuple(line.split(": ", 1)) for line in lines]
        path = start.split(" ")[1]
        pseudo = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", fields[0][1])]
        expected = pseudo + [(name.lower(), value) for name, value in fields[1:]]
        assert int.from_bytes(frame[:3], "big") == len(frame) - 9
        assert decoder.decode(frame[9:]) == expected


def test_h2_load_counts_as_its_endpoint_does(tmp_path: Path) -> None:
    """Load and endpoint agree on the number of requests, at a rate and as fast as it goes."""
    write_frames(tmp_path / "frames", requests.varied(["web"], 20))
    core = CORE
    endpoint = H2Endpoint(core, 64)
    try:
        open_loop = h2(core, endpoint.port, 3, 10, 500, 0.5, tmp_path / "frames")
        counted = endpoint.count()
        closed_loop = h2(core, endpoint.port, 3, 10, 0, 0.2, tmp_path / "frames")
        both = endpoint.count()
    finally:
        endpoint.stop()

    assert (open_loop.completed, open_loop.bad, counted) == (250, 0, 250)
    assert (closed_loop.completed, closed_loop.bad) == (both - 250, 0)
    assert closed_loop.completed > 100


def test_streams_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source sends what is asked for, and what the sink counts is what came."""
    monkeypatch.setattr("tests.bench.load.STREAM_BYTES", 32 << 20)
    source = Source(CORE)
    try:
        outcome = stream(CORE, source.port, 4)

        assert (outcome.completed, outcome.bad) == (32, 0)
    finally:
        source.stop()


@pytest.mark.parametrize(("mode", "resumed"), [("keep", None), ("full", 0.0), ("resumed", 76 / 80)])
def test_handshakes_are_of_the_kind_that_was_asked_for(
    tmp_path: Path, tls_files: TlsFiles, mode: str, resumed: float | None
) -> None:
    """A connection's first handshake is full and the others are resumed, or all are full."""
    required(nginx)
    compile_tls()
    file = tmp_path / "plain.bin"
    requests.write_templates(file, requests.plain("web"))
    endpoint = TlsEndpoint(tmp_path, CORE, tls_files)
    try:
        seen = tls(CORE, endpoint.port, 4, -80, file, mode, tls_files, tls_files.client)
    finally:
        endpoint.stop()

    assert (seen.completed, seen.bad, seen.resumed) == (80, 0, resumed)
