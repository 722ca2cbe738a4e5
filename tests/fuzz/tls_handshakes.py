"""Two codecs and somebody between them who changes, adds and cuts bytes: ``python -m tests.fuzz.tls_handshakes``.

Whatever he does, each side either fails with a TlsFailure, waits for more, or is connected to the other one: it knows
who that is, what it decrypts is the beginning of what was sent, and an end is one that was said.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import Random

from attrs import define, field

from hostmesh.protocol.tls.codec import TlsCodec
from hostmesh.protocol.tls.failures import TlsFailure
from tests import tls_pairs
from tests.tls_files import TlsFiles

ROUNDS = 12
"""Flights there and back, at most; a handshake has three."""

CUTS = (1, 7, 100, 1000, 1 << 20)
"""Bytes that arrive at once."""


class Broken(AssertionError):
    """What must never happen."""


@define
class End:
    """One side, as the other one knows it."""

    name: str
    codec: TlsCodec
    certified: str | None
    """The name in the certificate that this side shows."""
    sent: bytes = b""
    """Plaintext."""
    heard: bytes = b""
    said_end: bool = False
    failure: TlsFailure | None = None
    out: bytes = b""
    """Ciphertext on its way."""
    speaking: bool = field(default=True)

    def take(self, data: bytes) -> None:
        """Bytes of the wire. Sets ``failure``, after which nothing is taken."""
        codec = self.codec
        if self.failure is not None or codec.ended:
            return
        try:
            if not codec.established:
                self.out += codec.handshake(data)
                data = b""
            if codec.established:
                self.heard += codec.decrypt(data)
                self.out += codec.reply
                codec.reply = b""
        except TlsFailure as failure:
            self.failure = failure
            self.out += failure.farewell

    def speak(self, data: bytes, *, end: bool) -> None:
        """Say something, once connected."""
        codec = self.codec
        if self.failure is not None or not codec.established or not self.speaking:
            return
        try:
            self.out += codec.encrypt(data)
            self.sent += data
            if end:
                self.out += codec.close_notify()
                self.said_end, self.speaking = True, False
        except TlsFailure as failure:
            self.failure = failure
            self.speaking = False


@define
class Fuzz:
    """Contexts are made once: they are the dear part."""

    files: TlsFiles
    servers: list[tuple[object, bool]] = field(init=False)
    clients: list[object] = field(init=False)

    def __attrs_post_init__(self) -> None:
        files = self.files
        self.servers = [
            (tls_pairs.server(files, pair, callers=callers, protocols=protocols), callers)
            for pair in (files.web, files.web_rsa)
            for callers in (False, True)
            for protocols in ((), ("TLSv1.2",))
        ]
        self.clients = [tls_pairs.client(files, files.client)]

    def run(self, seed: int) -> str:
        """One connection; what came of it. Raises Broken."""
        rng = Random(seed)
        contexts, demands = rng.choice(self.servers)
        server = End("server", contexts.connection((b"h2", b"http/1.1")), "web.mesh")  # type: ignore[attr-defined]
        client = End(
            "client",
            rng.choice(self.clients).connection("web.mesh", "web.mesh", alpn=(b"h2",)),  # type: ignore[attr-defined]
            "caller.mesh" if demands else None,
        )
        client.take(b"")
        victim = rng.randrange(8)
        changed = False
        for turn in range(ROUNDS):
            speaker, hearer = (client, server) if turn % 2 == 0 else (server, client)
            size = rng.choice((0, 1, 200, 20_000))
            speaker.speak(rng.randbytes(size), end=rng.random() < 0.1)
            flight, speaker.out = speaker.out, b""
            if turn == victim and flight:
                flight, changed = damaged(rng, flight), True
            step = rng.choice(CUTS)
            for at in range(0, len(flight), step):
                hearer.take(flight[at : at + step])
            judge(hearer, speaker)
        for each in (server, client):
            each.codec.close()
        failure = server.failure or client.failure
        if failure is not None and not changed:
            raise Broken(f"an honest connection failed: {failure}")
        return "connected" if failure is None else failure.reason.value


def judge(hearer: End, speaker: End) -> None:
    """What must hold whatever happened to the bytes."""
    codec = hearer.codec
    if not speaker.sent.startswith(hearer.heard):
        raise Broken(f"the {hearer.name} has decrypted what was not sent")
    if codec.ended and not (speaker.said_end or speaker.failure):
        raise Broken(f"the {hearer.name} sees an end that nobody has said")
    if not codec.established:
        if hearer.heard:
            raise Broken(f"the {hearer.name} has plaintext before the handshake is over")
        return
    identity = codec.identity
    if speaker.certified is not None and (identity is None or speaker.certified not in identity.dns_names):
        raise Broken(f"the {hearer.name} is connected to {identity}, not to {speaker.certified}")


def damaged(rng: Random, flight: bytes) -> bytes:
    """A flight as nobody has sent it."""
    found = bytearray(flight)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(found) + 1)
        kind = rng.randrange(6)
        if kind == 0 and at < len(found):
            found[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(found):
            found[at] = rng.randrange(256)
        elif kind == 2:
            del found[at : at + rng.randrange(1, 30)]
        elif kind == 3:
            found[at:at] = rng.randbytes(rng.randrange(1, 30))
        elif kind == 4:
            del found[at:]
        else:
            found += found[at:]
    return bytes(found)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--count", type=int, default=10_000)
    arguments = parser.parse_args()
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        fuzz = Fuzz(TlsFiles(Path(folder)))
        for seed in range(arguments.first, arguments.first + arguments.count):
            try:
                seen[fuzz.run(seed)] += 1
            except Exception:
                print(f"seed {seed}", file=sys.stderr)
                raise
    print(f"{arguments.count} connections: " + ", ".join(f"{n} {what}" for what, n in seen.most_common()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
