"""Starting a real server and stopping it, whatever happens between."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

READY_S = 30.0
"""How long a server may take to listen on a busy machine."""


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def eventually(ask: Callable[[], T | None], seconds: float = READY_S) -> T:
    """What ``ask`` returns as soon as that is not None; OSError counts as not yet."""
    end = time.monotonic() + seconds
    pause = threading.Event()
    last: OSError | None = None
    while time.monotonic() < end:
        try:
            answer = ask()
            if answer is not None:
                return answer
        except OSError as error:
            last = error
        # Another program has no event to wait for.
        pause.wait(0.05)
    raise AssertionError(f"not within {seconds:g} s: {last or 'no answer'}")


@contextmanager
def running(
    command: list[str],
    folder: Path,
    port: int,
    env: Mapping[str, str] | None = None,
    *,
    host: str = "127.0.0.1",
) -> Iterator[subprocess.Popen[bytes]]:
    """The process of ``command``, in ``folder``, once it listens on ``port``; its output goes to a file
    there."""
    with open(folder / "output.log", "wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}
        )
        try:

            def listens() -> bool | None:
                assert process.poll() is None, (folder / "output.log").read_text(errors="replace")[-2000:]
                with socket.create_connection((host, port), timeout=1):
                    return True

            eventually(listens)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
