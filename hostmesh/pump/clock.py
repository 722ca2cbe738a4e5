"""The real clock and the real dice behind :class:`hostmesh.base.env.Env`."""

from __future__ import annotations

import random
import secrets
import time


class SystemEnv:
    """Monotonic and wall time of this machine; generators seeded from one seed and a name.

    ``seed`` None draws one from the operating system. It is logged at start, so that a production oddity can be
    replayed with the same draws.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = secrets.randbits(64) if seed is None else seed
        # Bound once: a request reads the clock several times and must not pay for a frame of ours each time.
        self.now = time.monotonic
        self.wall = time.time

    def rng(self, name: str) -> random.Random:
        # A string seed is stable across processes and hash seeds (random.Random hashes it with SHA-512).
        return random.Random(f"{self.seed}/{name}")
