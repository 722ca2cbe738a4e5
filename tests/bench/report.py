"""The tables that the bench prints."""

from __future__ import annotations

import platform
import statistics
import sys
from collections.abc import Callable

from hostmesh import core
from hostmesh.protocol.h2.engines import DEFAULT_ENGINE
from tests.bench.cases import CASES
from tests.bench.h2_proxies import H2Hostmesh
from tests.bench.proxies import KINDS
from tests.bench.run import Bench, Memory, Results

REFERENCE = "envoy"


def print_environment(bench: Bench) -> None:
    """What the numbers depend on."""
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}")
    print(
        f"proxy on core {bench.proxy_core}, load and endpoints on core {bench.load_core}; "
        f"{bench.rounds} x {bench.seconds:g} s per measurement, medians"
    )
    print(f"hostmesh: {core.kind()} core, HTTP/2 engine {H2Hostmesh.engine or DEFAULT_ENGINE}")


def print_report(results: Results) -> None:
    """One table per case, then memory, then what hostmesh is meant to reach."""
    print("\r\033[K", end="", file=sys.stderr, flush=True)
    for name, why in results.absent.items():
        print(f"\n{name} left out: {why}")
    for case in CASES:
        proxies = [name for name in KINDS if results.of(case.name, name)]
        if not proxies:
            continue
        rows = [case_row(results, case.name, proxy) for proxy in proxies]
        head = [
            "",
            "requests/s",
            "CPU us",
            f"/{REFERENCE}",
            "p50 us",
            "p99 us",
            "p99.9",
            "worst",
            "pause ms",
            "",
        ]
        print(f"\n{case.name}: {case.title}")
        print_table(head, rows)
    if results.memory:
        print("\nresident memory, MB")
        rows = [memory_row(m) for m in results.memory]
        print_table(["", "idle", "loaded", "5,000 idle connections", "of which they added"], rows)
    goals = [(text, value, limit) for text, value, limit in goal_values(results) if value is not None]
    if goals:
        print("\nwhat hostmesh is meant to reach")
        rows = [
            [text, f"{value:.2f}", f"{limit:g}", "met" if value <= limit else "MISSED"]
            for text, value, limit in goals
        ]
        print_table(["", "measured", "at most", ""], rows)


def case_row(results: Results, case: str, proxy: str) -> list[str]:
    found = results.of(case, proxy)
    cpu, reference = results.cpu(case, proxy), results.cpu(case, REFERENCE)
    notes = []
    bad = sum(m.load.bad for m in found)
    if bad:
        notes.append(f"{bad} FAILED")
    if any(m.counts_equal is False for m in found):
        notes.append("COUNTS DIFFER")
    elif all(m.counts_equal for m in found):
        notes.append("counts equal")
    resumed = [m.load.resumed for m in found if m.load.resumed is not None]
    if resumed:
        notes.append(f"{statistics.median(resumed):.0%} resumed")
    pauses = [m.worst_pause_ms for m in found if m.worst_pause_ms is not None]
    return [
        proxy,
        f"{statistics.median(m.load.rate for m in found):,.0f}",
        number(cpu, "{:.1f}"),
        number(cpu / reference if cpu and reference else None, "{:.2f}"),
        *(
            number(results.latency(case, proxy, which) or None, "{:,.0f}")
            for which in ("p50", "p99", "p999", "worst")
        ),
        number(max(pauses) if pauses else None, "{:.1f}"),
        ", ".join(notes),
    ]


def memory_row(memory: Memory) -> list[str]:
    added = memory.held - memory.loaded
    return [memory.proxy, *(f"{v:.1f}" for v in (memory.idle, memory.loaded, memory.held, added))]


def number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def print_table(head: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
        print("  " + "  ".join([*cells, row[-1]]).rstrip())


def goal_values(results: Results) -> list[tuple[str, float | None, float]]:
    """(what, measured, limit); measured is None when this run does not tell."""

    def cpu(case: str) -> float | None:
        ours, theirs = results.cpu(case, "hostmesh"), results.cpu(case, REFERENCE)
        return ours / theirs if ours and theirs else None

    def stream(case: str) -> float | None:
        ours, theirs = results.cpu(case, "hostmesh"), results.cpu(case, "haproxy")
        return ours / theirs if ours and theirs else None

    def latency(case: str, which: str) -> float | None:
        ours, theirs = (results.latency(case, name, which) for name in ("hostmesh", REFERENCE))
        return ours / theirs if ours and theirs else None

    def added() -> float | None:
        direct, ours, theirs = (results.latency("lone", n, "p50") for n in ("direct", "hostmesh", REFERENCE))
        return (ours - direct) / (theirs - direct) if direct and ours and theirs else None

    def pause(case: str) -> float | None:
        found = [m.worst_pause_ms for m in results.of(case, "hostmesh") if m.worst_pause_ms is not None]
        return max(found) if found else None

    def memory(value: Callable[[Memory], float]) -> float | None:
        return next((value(m) for m in results.memory if m.proxy == "hostmesh"), None)

    limits = {"sat-32": 0.5, "sat-512": 0.9, "sat-32-64k": 0.9, "sat-512-64k": 0.9, "upload": 0.9}
    limits |= {"sat-32-varied": 0.5, "sat-512-varied": 0.9}
    limits |= {f"ws-{size}-{connections}": 0.5 for size in (64, 4096) for connections in (32, 512)}
    limits |= {"h2-8x16-varied": 0.5, "h2-rate-1000-varied": 0.8, "grpc-8x16": 0.7, "grpc-rate-1000": 0.8}
    limits |= dict.fromkeys(("tls-in-32", "tls-out-32", "mtls-32", "mtls-32-varied"), 0.7)
    limits |= {"tls-full": 1.2, "tls-resumed": 1.0}
    limits |= {"rate-1000": 0.7, "rate-200": 0.9, "rate-1000-varied": 0.7, "rate-200-varied": 0.9}
    return [
        *(
            (f"CPU per request or message / Envoy, {case}", cpu(case), limit)
            for case, limit in limits.items()
        ),
        ("CPU per MiB / HAProxy that always splices, tcp-1g", stream("tcp-1g"), 1.0),
        ("CPU per MiB / HAProxy that always splices, tcp-8", stream("tcp-8"), 1.0),
        ("p99 / Envoy, rate-1000", latency("rate-1000", "p99"), 1.0),
        ("p99.9 / Envoy, rate-1000", latency("rate-1000", "p999"), 1.0),
        ("p99 / Envoy, rate-1000-varied", latency("rate-1000-varied", "p99"), 1.0),
        ("p99.9 / Envoy, rate-1000-varied", latency("rate-1000-varied", "p999"), 1.0),
        ("added p50 / Envoy's, lone caller", added(), 0.8),
        ("worst pause ms, 40,000 endpoints", pause("endpoints"), 5.0),
        ("worst pause ms, storm of changes", pause("storm"), 5.0),
        ("idle memory MB", memory(lambda m: m.idle), 50.0),
        ("MB added by 5,000 idle connections", memory(lambda m: m.held - m.loaded), 40.0),
    ]
