"""Bodies of many gigabytes through a running hostmesh: equal checksums, flat memory.

``python -m tests.wire.big_bodies --gb 10`` sends ten gigabytes up and ten down, chunked and with Content-Length, and
prints for each the rate, the router's CPU and by how much its resident memory rose. It fails when a checksum differs
or memory rises by 10 MB.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from tests.wire.endpoint import Answer, EndpointServer, Received
from tests.wire.harness import Hostmesh

PIECE = 256 * 1024
MAX_RISE = 10_000_000
"""Bytes of resident memory that a body of any size may cost (hardening R5)."""


@frozen(kw_only=True)
class Result:
    what: str
    size: int
    seconds: float
    cpu_seconds: float
    rise: int
    """Bytes by which resident memory was higher than before, at its highest."""

    def __str__(self) -> str:
        rate = self.size / self.seconds / 1e6
        cpu = self.cpu_seconds / self.size * 1e9
        return (
            f"{self.what:28} {self.size / 1e9:7.2f} GB  {rate:7.0f} MB/s  router CPU {cpu:5.2f} s/GB  "
            f"memory +{self.rise / 1e6:.1f} MB"
        )


class Body:
    """Pieces that differ from their neighbours, so that a lost, doubled or swapped one changes the digest."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.digest = hashlib.blake2b(digest_size=16)
        seed = hashlib.sha256(b"big bodies").digest()
        self._pool = b"".join(hashlib.sha256(seed + bytes([n])).digest() for n in range(251)) * 40

    def __iter__(self) -> Iterator[bytes]:
        left, n = self.size, 0
        while left:
            start = n * 7919 % 8000
            piece = self._pool[start : start + min(PIECE, left)]
            left -= len(piece)
            n += 1
            self.digest.update(piece)
            yield piece


class Watch:
    """Samples of the router's memory, taken every so many bytes."""

    def __init__(self, mesh: Hostmesh) -> None:
        self.mesh = mesh
        self.before = mesh.resident_bytes()
        self.highest = self.before
        self.cpu = cpu_seconds(mesh.pid)
        self.start = time.monotonic()
        self._seen = 0

    def saw(self, size: int) -> None:
        self._seen += size
        if self._seen >= 16 * 1024 * 1024:
            self._seen = 0
            self.highest = max(self.highest, self.mesh.resident_bytes())

    def result(self, what: str, size: int) -> Result:
        return Result(
            what=what,
            size=size,
            seconds=time.monotonic() - self.start,
            cpu_seconds=cpu_seconds(self.mesh.pid) - self.cpu,
            rise=max(self.highest, self.mesh.resident_bytes()) - self.before,
        )


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def upload(mesh: Hostmesh, size: int, *, chunked: bool) -> Result:
    """One request with a body of that size; the endpoint's digest must be ours."""
    body = Body(size)
    watch = Watch(mesh)
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
    with mesh.client(timeout=60) as client:
        client.send(b"PUT /up HTTP/1.1\r\nHost: web\r\n%b\r\n\r\n" % framing)
        for piece in body:
            if chunked:
                client.send(b"%x\r\n" % len(piece))
            client.send(piece)
            if chunked:
                client.send(b"\r\n")
            watch.saw(len(piece))
        if chunked:
            client.send(b"0\r\n\r\n")
        answer = client.response("PUT").json()
    result = watch.result(f"upload, {'chunked' if chunked else 'Content-Length'}", size)
    if (answer["body_bytes"], answer["body_sha256"]) != (size, body.digest.hexdigest()):
        raise AssertionError(f"upload of {size} bytes arrived as {answer}")
    return result


def download(mesh: Hostmesh, size: int, *, chunked: bool) -> Result:
    """One response with a body of that size."""
    digest = hashlib.blake2b(digest_size=16)
    watch = Watch(mesh)

    def sink(piece: bytes) -> None:
        digest.update(piece)
        watch.saw(len(piece))

    with mesh.client(timeout=60) as client:
        client.send(b"GET /down/%d/%d HTTP/1.1\r\nHost: web\r\n\r\n" % (size, chunked))
        response = client.response(sink=sink)
    result = watch.result(f"download, {'chunked' if chunked else 'Content-Length'}", size)
    expected = Body(size)
    for _ in expected:
        pass
    if (response.body_bytes, digest.hexdigest()) != (size, expected.digest.hexdigest()):
        raise AssertionError(f"download of {size} bytes arrived as {response.body_bytes}")
    return result


def respond(request: Received) -> Answer:
    if request.target.startswith("/down/"):
        size, chunked = map(int, request.target.split("/")[2:])
        if chunked:
            return Answer(body=Body(size), framing="chunked")
        return Answer(body=Body(size), length=size)
    return Answer()


class DigestingEndpoint(EndpointServer):
    """An endpoint that takes the digest of bodies with the faster hash of :class:`Body`."""

    digest = staticmethod(lambda: hashlib.blake2b(digest_size=16))


def run(folder: Path, size: int) -> list[Result]:
    """All four directions and framings, after a warm-up of the buffers that every connection has."""
    with (
        DigestingEndpoint("web-1", respond=respond, keep_bodies=False) as web,
        Hostmesh.routing(folder, web=[web]) as mesh,
    ):
        for chunked in (False, True):
            upload(mesh, 4_000_000, chunked=chunked)
            download(mesh, 4_000_000, chunked=chunked)
        results = []
        for move in (upload, download):
            for chunked in (False, True):
                results.append(move(mesh, size, chunked=chunked))
                print(results[-1], flush=True)
        return results


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--gb", type=float, default=10.0, help="gigabytes in each of the four bodies")
    wanted = arguments.parse_args()
    with tempfile.TemporaryDirectory() as place:
        worst = max(result.rise for result in run(Path(place), int(wanted.gb * 1e9)))
    if worst >= MAX_RISE:
        raise SystemExit(f"resident memory rose by {worst / 1e6:.1f} MB")
