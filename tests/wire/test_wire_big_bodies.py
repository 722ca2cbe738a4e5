"""Streamed bodies: equal at both ends, flat memory, and whoever is slow stalls the other end and not the router."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.wire.big_bodies import MAX_RISE, run
from tests.wire.harness import Answer, EndpointServer, Hostmesh

BuildEndpoint = Callable[..., EndpointServer]
BuildHostmesh = Callable[..., Hostmesh]


def test_r5_bodies_of_256_mb_leave_memory_flat(tmp_path: Path) -> None:
    """R5: up and down, chunked and with Content-Length, 64 MB each: equal digests, less than 10 MB more memory."""
    results = run(tmp_path, 64_000_000)

    assert len(results) == 4
    assert max(result.rise for result in results) < MAX_RISE


def serves_others(mesh: Hostmesh, count: int = 50) -> None:
    with mesh.client() as other:
        for _ in range(count):
            assert other.request("GET", "/other").status == 200


def test_r5_caller_that_stops_reading_stalls_its_endpoint(
    endpoint: BuildEndpoint, hostmesh: BuildHostmesh
) -> None:
    """R5: the endpoint cannot send on, others are served, memory is flat; the caller then gets every byte."""
    size = 64 * 1024 * 1024
    sent = [0]

    def pieces() -> Iterator[bytes]:
        while sent[0] < size:
            sent[0] += 65536
            yield b"x" * 65536

    server = endpoint(
        respond=lambda r: Answer(body=pieces(), length=size) if r.target == "/big" else Answer()
    )
    mesh = hostmesh(web=[server])
    serves_others(mesh)
    resident = mesh.resident_bytes()

    with mesh.client(receive_buffer=65536) as client:
        client.send(b"GET /big HTTP/1.1\r\nHost: web\r\n\r\n")
        serves_others(mesh)
        # The kernel's buffers on the way fill up and then nothing moves any more.
        last = -1
        while sent[0] != last:
            last = sent[0]
            serves_others(mesh, 100)
        assert last < size / 2
        assert mesh.resident_bytes() - resident < MAX_RISE
        received = [0]
        response = client.response(sink=lambda piece: received.__setitem__(0, received[0] + len(piece)))

    assert (response.status, received[0], sent[0]) == (200, size, size)


def test_r5_endpoint_that_stops_reading_stalls_its_caller(
    endpoint: BuildEndpoint, hostmesh: BuildHostmesh
) -> None:
    """R5: the same for an upload."""
    go = threading.Event()
    size = 64 * 1024 * 1024

    def respond(request: object) -> Answer:
        if getattr(request, "method", "") == "PUT":
            go.wait(60)
        return Answer()

    server = endpoint(respond=respond, keep_bodies=False, receive_buffer=65536)
    mesh = hostmesh(web=[server])
    serves_others(mesh)
    resident = mesh.resident_bytes()

    with mesh.client() as client:
        client.send(b"PUT /big HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % size)
        client.socket.settimeout(0.3)
        sent = 0
        try:
            while sent < size:
                sent += client.socket.send(b"x" * min(65536, size - sent))
        except TimeoutError:
            pass
        assert sent < size / 2
        serves_others(mesh)
        assert mesh.resident_bytes() - resident < MAX_RISE
        go.set()
        client.socket.settimeout(30)
        while sent < size:
            sent += client.socket.send(b"x" * min(65536, size - sent))
        response = client.response("PUT")

    assert response.json()["body_bytes"] == size


def test_r5_dead_caller_frees_what_it_held(endpoint: BuildEndpoint, hostmesh: BuildHostmesh) -> None:
    """R5: a caller that vanishes in the middle of a download frees its endpoint's connection."""
    server = endpoint(
        respond=lambda r: (
            Answer(body=(b"x" * 65536 for _ in range(10_000)), length=655_360_000)
            if r.target == "/big"
            else Answer()
        )
    )
    mesh = hostmesh(web=[server])

    client = mesh.client(receive_buffer=65536)
    client.send(b"GET /big HTTP/1.1\r\nHost: web\r\n\r\n")
    assert client.socket.recv(1000, socket.MSG_WAITALL)
    client.reset()

    server.wait_for(lambda: server.closed == [0])
    mesh.wait_metric(f"rt/http/server/127.0.0.1/{mesh.port}/failures/reset-by-caller", lambda n: n == 1)
    mesh.wait_metric(f"rt/http/server/127.0.0.1/{mesh.port}/pending", lambda n: n == 0)
