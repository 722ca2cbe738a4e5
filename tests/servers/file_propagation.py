"""How soon a change of a file is routed by: ``python -m tests.servers.file_propagation [--changes 200]``.

The acknowledgement of a change is the return of the rename that puts the new file in its place. The same numbers for
registries: ``propagation`` of ``consul_scenarios``, ``zookeeper_scenarios`` and ``k8s_scenarios``.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from tests.servers.observer import Observer, Prober
from tests.wire.harness import ROUTING, Hostmesh

CONFIG = ROUTING.replace("  rootDir: @dir@/disco\n", "  rootDir: @dir@/disco\n  holdMs: 0\n")


def propagation(folder: Path, changes: int) -> tuple[float, float, float]:
    """Milliseconds from each change to the first answer of the new endpoint: p50, p99, and the longest."""
    mesh = Hostmesh(folder, CONFIG, start=False)
    mesh.set_endpoints("web", [])
    mesh.start()
    times = []
    with mesh, Observer(mesh.port, paused=True) as seen, Prober(mesh.port) as prober:
        endpoints = [seen.endpoint() for _ in range(2)]
        for number in range(changes + 1):
            new = endpoints[number % 2]
            mesh.set_endpoints("web", [f"{new.host} {new.port}"])
            times.append(prober.time_to_route(new.key) * 1000)
    # The first is before there was any endpoint.
    cuts = statistics.quantiles(times[1:], n=100)
    return cuts[49], cuts[98], max(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        p50, p99, longest = propagation(Path(folder), options.changes)
    print(f"{options.changes} changes: p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {longest:.1f} ms")


if __name__ == "__main__":
    main()
