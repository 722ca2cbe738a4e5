"""What importing the daemon costs."""

from __future__ import annotations

import subprocess
import sys

UNWANTED = ("rich", "OpenSSL", "kazoo", "consul", "httpx", "h2", "starlette", "hypercorn")


def test_the_daemon_imports_no_more_than_every_host_uses() -> None:
    """What only some configurations need, or nobody at all, is not resident on every host."""
    code = f"import sys, hostmesh.daemon.run; print([name for name in {UNWANTED!r} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
