"""``python -m tests.wire.scenarios NAME...``: the scenarios of the suite at full length, with what they measure.

Without a name they are listed. Each makes its own folder, ports and processes; a scenario that fails says by how much.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.wire.scenarios import drain, failing, files, kill, reload, splits
from tests.wire.scenarios.world import Figures

SCENARIOS: dict[str, Callable[[Path], Figures]] = {
    "kill": lambda folder: kill.kill_under_load(folder, seconds=30),
    "refused": lambda folder: kill.refused_connects(folder, total=8000),
    "retries": lambda folder: failing.retry_storm(folder, seconds=30, rate=500),
    "all-dead": lambda folder: failing.all_dead(folder, total=5000),
    "fail-fast": lambda folder: failing.fail_fast(folder, rate=500),
    "deadlines": failing.deadlines,
    "split-file": lambda folder: splits.split(folder, requests=20_000, through="file"),
    "split-config": lambda folder: splits.split(folder, requests=20_000, through="config"),
    "own-dtab": lambda folder: splits.one_caller_to_v2(folder, requests=5000),
    "header": lambda folder: splits.header_splits(folder, requests=6000),
    "fallback": lambda folder: splits.fallback(folder, requests=5000),
    "files": lambda folder: files.troubled_file(folder, rounds=5, hold_ms=2000),
    "moved": lambda folder: files.moved_endpoint(folder, hold_ms=2000),
    "reload": lambda folder: reload.reload_under_load(folder, times=10, rate=1000, per_phase=3000),
    "rebuilt": lambda folder: reload.rebuilt_under_load(folder, times=15, rate=300),
    "bad-reload": lambda folder: reload.refused_reloads(folder, rate=1000),
    "drain": lambda folder: drain.drain_under_load(
        folder, rate=1000, connections=50, delay_ms=40, warm=10_000
    ),
}


def main(names: list[str]) -> int:
    if not names:
        for name in SCENARIOS:
            print(name)
        return 2
    status = 0
    for name in SCENARIOS if names == ["all"] else names:
        begin = time.monotonic()
        print(f"== {name}", flush=True)
        with tempfile.TemporaryDirectory(prefix="hostmesh-scenario-") as folder:
            try:
                figures = SCENARIOS[name](Path(folder))
            except AssertionError as error:
                status = 1
                print(f"   FAILED: {str(error)[:4000]}")
                continue
        for what, value in figures.items():
            print(f"   {what}: {value}")
        print(f"   ({time.monotonic() - begin:.1f} s)", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
