"""Peers of the Go world: grpc-go and net/http, as servers and as callers, in processes of their own.

    with GoServer(program, "serve", name="a") as server, GoPeer(program, "call", ports=[mesh.port], ...) as caller:
        found = caller.ask("call", kind="unary", messages=["hello"])
        server.wait(completed=1)

``program`` is built by tests/servers/fetch_go_peers.py; what it takes and answers is in tests/interop/go_peers.
"""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path
from typing import Any

WITHIN = 15.0
"""Seconds for one answer on a busy machine."""


class GoPeer:
    """A process that answers one order after the other. Raises AssertionError when it does not in time."""

    def __init__(self, program: Path, what: str, **options: Any) -> None:
        self.process = subprocess.Popen(
            [str(program), what, json.dumps(options)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, op: str, *, within: float = WITHIN, **order: Any) -> dict[str, Any]:
        """Its answer to one order."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"op": op, **order}).encode() + b"\n")
        self.process.stdin.flush()
        return self.read(f"{op} {order}", within)

    def read(self, what: str, within: float = WITHIN) -> dict[str, Any]:
        """The next line that it says."""
        assert self.process.stdout is not None
        timer = threading.Timer(within, self.process.kill)
        timer.start()
        try:
            line = self.process.stdout.readline()
        finally:
            timer.cancel()
        assert line, f"no answer within {within:g} s, or it ended: {what}"
        found: dict[str, Any] = json.loads(line)
        return found

    def wait(self, *, within: float = WITHIN, **counts: int) -> dict[str, int]:
        """All that it has counted, as soon as each of ``counts`` has reached its number."""
        found = self.ask("wait", within=within + WITHIN, counts=counts, timeout_ms=int(within * 1000))
        missing = {name: number for name, number in counts.items() if found.get(name, 0) < number}
        assert not missing, f"not within {within:g} s: {missing} of {found}"
        return found

    def count(self, what: str) -> int:
        """What it has counted so far."""
        return self.wait().get(what, 0)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> GoPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class GoServer(GoPeer):
    """One that listens; fits into ``Hostmesh.set_endpoints``."""

    host = "127.0.0.1"

    def __init__(self, program: Path, what: str, **options: Any) -> None:
        super().__init__(program, what, **options)
        self.port: int = self.read("port")["port"]

    def __enter__(self) -> GoServer:
        return self
