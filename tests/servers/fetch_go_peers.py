"""Callers and servers of the Go world (grpc-go, net/http) for tests, built from tests/interop/go_peers.

The build takes a minute or two, less with Go's cache warm, and happens by itself where Go is installed; with
``CI=true`` everywhere. Its result stays in ``.servers/go_peers``, which git ignores, under a name that says of what
source it is.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from tests.servers.fetch import SERVERS, Unavailable, _only_one
from tests.servers.fetch_kube import go_compiler, installed_go

MODULE = Path(__file__).parents[1] / "interop" / "go_peers"

BUILD_S = 600
"""How long the build may take: many times what it does, for machines that are busy."""


def go_peers(*, fetch_go: bool | None = None) -> Path:
    """The program that is each of these peers. Without Go on the machine it is Debian's only with ``fetch_go``."""
    source = hashlib.sha256()
    for file in sorted(MODULE.iterdir()):
        source.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    path = SERVERS / "go_peers" / f"go_peers-{source.hexdigest()[:12]}"
    with _only_one("go_peers"):
        if path.exists():
            return path
        go = installed_go()
        if go is None:
            if not (bool(os.environ.get("CI")) if fetch_go is None else fetch_go):
                raise Unavailable(
                    "the peers of the Go world are built with Go",
                    "install Go 1.23 or newer, or python -m tests.servers.fetch_go_peers",
                )
            go = go_compiler()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        command = ["nice", "-n", "10", str(go), "build", "-p", "1", "-mod=readonly", "-trimpath"]
        command += ["-ldflags", "-s -w", "-o", str(part), "."]
        environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": ""}
        try:
            subprocess.run(
                command,
                cwd=MODULE,
                env=environment,
                check=True,
                capture_output=True,
                text=True,
                timeout=BUILD_S,
            )
        except subprocess.CalledProcessError as error:
            said = error.stderr.strip().splitlines()[-3:]
            raise Unavailable(f"go build failed: {' / '.join(said)}", f"see {MODULE}") from error
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"go build took over {BUILD_S} s", "build it beforehand") from error
        part.rename(path)
        return path


if __name__ == "__main__":
    try:
        print(f"go_peers: {go_peers(fetch_go=True)}")
    except Unavailable as why:
        sys.exit(f"go_peers: {why}")
