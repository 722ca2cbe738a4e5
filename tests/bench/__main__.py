"""``make bench``: cost, latency and memory of hostmesh beside nginx, HAProxy and Envoy, in one run.

    python -m tests.bench [--quick] [--seconds S] [--rounds N] [--json FILE] [NAME ...]

A NAME is a proxy (``envoy``) or a case, with wildcards (``sat-*``, ``memory``); none means all. The proxy
under test has one core for itself, load and endpoints share the other. All proxies of a case are measured
one right after the other and the whole is repeated in rounds, so that a noisy minute hits all of them;
medians are printed. It prints and asserts nothing: whether a number is good enough is decided by people.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import sys
import tempfile
from pathlib import Path

from hostmesh.protocol.h2.engines import ENGINES
from tests.bench.cases import CASES, MEMORY
from tests.bench.h2_proxies import H2Hostmesh
from tests.bench.proxies import KINDS
from tests.bench.report import print_environment, print_report
from tests.bench.run import Bench


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help="proxies and cases, wildcards allowed")
    parser.add_argument("--quick", action="store_true", help="short runs, one round: a first impression")
    parser.add_argument("--seconds", type=float, help="length of one measurement (5)")
    parser.add_argument("--rounds", type=int, help="measurements of each case and proxy (3)")
    parser.add_argument("--h2-engine", choices=ENGINES, help="hostmesh's engine in cases of HTTP/2")
    parser.add_argument("--json", type=Path, help="also write every measurement to this file")
    parser.add_argument(
        "--nice", type=int, default=0, help="priority of everything measured (-15 on a busy machine)"
    )
    options = parser.parse_args()
    os.nice(options.nice)
    H2Hostmesh.engine = options.h2_engine

    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("the bench needs two cores: one for the proxy, one for load and endpoints")
    proxies = [name for name in KINDS if name != "direct"]
    cases = [case.name for case in CASES] + [MEMORY]
    unknown = [n for n in options.names if not fnmatch.filter([*proxies, *cases], n)]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; proxies {', '.join(proxies)}; cases {', '.join(cases)}")
    wanted_proxies = selected(proxies, options.names)
    wanted_cases = selected(cases, options.names)

    with tempfile.TemporaryDirectory(prefix="hostmesh-bench-") as folder:
        bench = Bench(
            folder=Path(folder),
            proxy_core=cores[0],
            load_core=cores[1],
            seconds=options.seconds or (2 if options.quick else 5),
            rounds=options.rounds or (1 if options.quick else 3),
            idle_seconds=5 if options.quick else 60,
        )
        print_environment(bench)
        results = bench.run(wanted_proxies, wanted_cases)
    print_report(results)
    if options.json:
        options.json.write_text(json.dumps(results.as_json(), indent=1))
    return 0


def selected(all_names: list[str], patterns: list[str]) -> list[str]:
    """The names that a pattern matches; all of them when no pattern is about this kind of name."""
    matching = [name for name in all_names if any(fnmatch.fnmatch(name, p) for p in patterns)]
    return matching or all_names


if __name__ == "__main__":
    sys.exit(main())
