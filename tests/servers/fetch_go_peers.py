"""Callers and servers of the Go world (grpc-go, net/http) for tests, built from tests/interop/go_peers.

The build takes a minute or two, less with Go's cache warm, and happens by itself where Go is installed; with
``CI=true`` everywhere. Its result stays in ``.servers/go_peers``, which git ignores, under a name that says of what
source it is.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from tests.servers.fetch import SERVERS, Unavailable, _only_one
from tests.servers.fetch_kube import build_go, go_compiler, installed_go

MODULE = Path(__file__).parents[1] / "interop" / "go_peers"


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
        build_go(go, MODULE, ".", path)
        return path


if __name__ == "__main__":
    try:
        print(f"go_peers: {go_peers(fetch_go=True)}")
    except Unavailable as why:
        sys.exit(f"go_peers: {why}")
