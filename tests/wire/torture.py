"""Callers and endpoints that do what they like, all at once, and what must hold in spite of it.

``python -m tests.wire.torture --seed 7 --seconds 60``. Seeded: the same seed makes the same requests and answers, in an
order that threads decide. Afterwards nothing may be left: no exchange, no waiter, no descriptor, no traceback; and no
answer may ever have gone to another request than its own.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random

from tests.wire.harness import Answer, EndpointServer, Hostmesh, Malformed, RawClient, Received
from tests.wire.lab import CONFIG

CALLERS = 12
TORTURED = CONFIG.replace(
    "  servers:\n",
    "  service:\n    responseClassifier: {kind: io.l5d.http.retryableAll5XX}\n    totalTimeoutMs: 3000\n"
    "  client: {requestAttemptTimeoutMs: 1000, hostConnectionPool: {maxSize: 8, maxWaiters: 20}}\n  servers:\n",
    1,
)

BAD = (
    b"garbage\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloEXTRA",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX",
    b"HTTP/1.1 101 X\r\n\r\n",
)


def misbehave(rng: Random, request: Received) -> Answer:
    """One of the things that endpoints do."""
    framing = rng.choice(["chunked", "length", "close"])
    match rng.randrange(20):
        case 0:
            return Answer(cut_after=rng.randrange(200), reset=rng.random() < 0.5)
        case 1:
            body = b"z" * rng.randrange(200_000)
            return Answer(
                body=body, framing=framing, cut_after=rng.randrange(300_000), reset=rng.random() < 0.5
            )
        case 2 | 3:
            return Answer(body=b"z" * rng.randrange(500_000), framing=framing, trailers=(("X-T", "1"),))
        case 4:
            status = rng.choice([500, 502, 503, 404, 204, 304])
            return Answer(status=status, early=rng.random() < 0.5, read_body=rng.random() < 0.5)
        case 5:
            return Answer(status=413, early=True, read_body=False, close=True)
        case 6:
            return Answer(raw=rng.choice(BAD))
        case 7:
            return Answer(delay_s=rng.random() * 1.5)
        case 8:
            return Answer(informational=(b"HTTP/1.1 103 E\r\n\r\n" * rng.randrange(1, 14),))
        case 9:
            return Answer(status=503, fields=(("l5d-retryable", "true"),))
        case 10:
            return Answer(close=True)
        case _:
            return Answer(early=rng.random() < 0.3)


def compose(rng: Random, method: str, target: str) -> bytes:
    """A legal request, most of the time to a name that exists."""
    lines = []
    body = b""
    if method in ("POST", "PUT"):
        if rng.random() < 0.5:
            body = b"b" * rng.choice([0, 5, 4000, 6000, 70_000, 400_000])
            lines.append(f"Content-Length: {len(body)}")
        else:
            pieces = [b"c" * rng.randrange(1, 9000) for _ in range(rng.randrange(6))]
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
            lines.append("Transfer-Encoding: chunked")
        if rng.random() < 0.2:
            lines.append("Expect: 100-continue")
    if rng.random() < 0.1:
        lines.append("Connection: close")
    if rng.random() < 0.1:
        lines.append(f"l5d-ctx-deadline: 1 {int((time.time() + rng.random() / 2) * 1e9)}")
    if rng.random() < 0.1:
        lines.append("l5d-dtab: /svc/web => /svc/none | /#/io.l5d.fs/web")
    host = rng.choice(["web", "web", "web", "web", "dead", "none"])
    version = rng.choice("1111110")
    return (
        "\r\n".join((f"{method} {target} HTTP/1.{version}", f"Host: {host}", *lines, "", "")).encode() + body
    )


class Torture:
    """Runs for a while; ``seen`` counts what callers met."""

    def __init__(self, folder: Path, seed: int, seconds: float) -> None:
        self.seed = seed
        self.seconds = seconds
        self.seen: Counter[str] = Counter()
        self.folder = folder

    def run(self) -> None:
        """Raises AssertionError when something is left, or went to the wrong request."""
        rng = Random(f"{self.seed}/endpoints")
        endpoints = [
            EndpointServer(f"web-{n}", respond=lambda r: misbehave(rng, r), keep_bodies=False)
            for n in range(3)
        ]
        mesh = Hostmesh(self.folder, TORTURED, start=False)
        mesh.set_endpoints("web", endpoints)
        mesh.set_endpoints("dead", ["127.0.0.1 1"])
        try:
            mesh.start()
            self._run(mesh, endpoints)
        finally:
            mesh.close()
            for endpoint in endpoints:
                endpoint.stop()

    def _run(self, mesh: Hostmesh, endpoints: list[EndpointServer]) -> None:
        descriptors = mesh.open_descriptors()
        end = time.monotonic() + self.seconds
        threads = [threading.Thread(target=self._caller, args=(mesh, n, end)) for n in range(CALLERS)]
        for thread in threads:
            thread.start()
        rng = Random(f"{self.seed}/operator")
        over = threading.Event()
        while time.monotonic() < end:
            over.wait(0.3)
            mesh.set_endpoints("web", rng.sample(endpoints, rng.randrange(1, 4)))
            if rng.random() < 0.2:
                mesh.write_config(TORTURED.replace("3000", str(rng.randrange(2500, 3500))))
        for thread in threads:
            thread.join()
        self._check(mesh, descriptors)

    def _caller(self, mesh: Hostmesh, number: int, end: float) -> None:
        rng = Random(f"{self.seed}/{number}")
        while time.monotonic() < end:
            port = rng.choice(["port", "edge"])
            client = mesh.client(port, timeout=8, receive_buffer=rng.choice([None, 4096]))
            try:
                for _ in range(rng.randrange(1, 5)):
                    if not self._request(client, rng):
                        break
            except TimeoutError:
                self.seen["no answer"] += 1
            except Malformed:
                self.seen["malformed"] += 1
            except OSError:
                self.seen["cut"] += 1
            finally:
                client.close()

    def _request(self, client: RawClient, rng: Random) -> bool:
        """One request; whether the connection is to go on."""
        method = rng.choice(["GET", "POST", "PUT", "HEAD", "DELETE"])
        target = f"/{rng.getrandbits(60):x}"
        data = compose(rng, method, target)
        mutated = rng.random() < 0.05
        if mutated:
            changed = bytearray(data)
            changed[rng.randrange(len(data))] = rng.randrange(256)
            data = bytes(changed)
        fate = rng.random()
        if fate < 0.15:
            client.send(data[: rng.randrange(len(data))])
        else:
            step = max(1, len(data) // 5) if fate < 0.3 else len(data)
            for start in range(0, len(data), step):
                client.send(data[start : start + step])
        if fate < 0.15 or rng.random() < 0.1:
            if rng.random() < 0.5:
                client.reset()
            self.seen["left"] += 1
            return False
        if rng.random() < 0.1:
            client.half_close()
        if mutated:
            # Nobody knows what was asked for: perhaps a longer body, perhaps another method.
            client.socket.settimeout(0.2)
            with contextlib.suppress(Malformed, OSError):
                self.seen[str(client.response(method).status)] += 1
            return False
        response = client.response(method)
        self.seen[str(response.status)] += 1
        if response.status == 200 and response.body[:1] == b"{" and response.json()["target"] != target:
            self.seen["another's answer"] += 1
        return response.get("connection") != "close"

    def _check(self, mesh: Hostmesh, descriptors: int) -> None:
        print(f"seed {self.seed}:", dict(self.seen))
        wrong = {
            name: self.seen[name]
            for name in ("no answer", "malformed", "another's answer")
            if self.seen[name]
        }
        assert not wrong, wrong

        def nothing_left() -> bool:
            metrics = mesh.metrics()
            return not any(
                value for name, value in metrics.items() if name.endswith(("/pending", "/pool_waiters"))
            )

        mesh.wait(nothing_left, "nothing left in flight")
        # Pools may hold eight connections to each of three endpoints.
        mesh.wait(lambda: mesh.open_descriptors() <= descriptors + 30, "descriptors given back")
        assert mesh.metrics()["process/bugs"] == 0
        assert "Traceback" not in mesh.log(), mesh.log()[-6000:]


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--seconds", type=float, default=60.0)
    wanted = arguments.parse_args()
    with tempfile.TemporaryDirectory() as place:
        Torture(Path(place), wanted.seed, wanted.seconds).run()
