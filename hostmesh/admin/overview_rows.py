"""What the overview shows, read out of the metrics tree. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import nlargest

from attrs import frozen

from hostmesh.telemetry.metrics import Counter, Gauge, MetricsTree, Scope
from hostmesh.telemetry.stat import Stat

MAX_ROWS = 100
"""Of one kind per router, the busiest. More is not read by people, and a page must not grow with the mesh."""


@frozen(kw_only=True)
class Row:
    """One server, service or client of a router."""

    kind: str
    """``server``, ``service`` or ``client``: the node it lies under."""
    name: str
    requests: int
    success: int
    failures: int
    pending: float | None = None
    p50_ms: float | None = None
    """Of the last finished minute, or of this one while there is none."""
    p99_ms: float | None = None
    available: int | None = None
    """Endpoints that the balancer would pick; clients only."""
    endpoints: int | None = None
    ejections: int = 0
    """By failure accrual, since the start; clients only."""

    @property
    def success_rate(self) -> float | None:
        """0 to 1; None before anything was counted."""
        known = self.success + self.failures
        return self.success / known if known else None


@frozen
class Section:
    """The rows of one kind, and how many there are in all."""

    rows: tuple[Row, ...]
    total: int


def router_sections(tree: MetricsTree, label: str) -> dict[str, Section]:
    """Rows by kind for one router, busiest first, at most MAX_ROWS of each."""
    sections = {}
    for kind in ("server", "service", "client"):
        parent = _node(tree, "rt", label, kind)
        found = [] if parent is None else [_row(kind, name, node) for name, node in _entries(parent)]
        rows = nlargest(MAX_ROWS, found, key=lambda row: row.requests)
        sections[kind] = Section(tuple(rows), len(found))
    return sections


def _entries(parent: Scope) -> Iterator[tuple[str, Scope]]:
    # A node is one server, service or client, whatever characters its name has; stray metrics have no requests.
    for name, node in list(parent.children.items()):
        if "requests" in node.children:
            yield name, node


def _row(kind: str, name: str, node: Scope) -> Row:
    p50, p99 = _latency(node)
    return Row(
        kind=kind,
        name=name,
        requests=_count(node, "requests"),
        success=_count(node, "success"),
        failures=_count(node, "failures"),
        pending=_gauge(node, "pending"),
        p50_ms=p50,
        p99_ms=p99,
        available=_whole(_gauge(node, "loadbalancer", "available")),
        endpoints=_whole(_gauge(node, "loadbalancer", "size")),
        ejections=_count(node, "failure_accrual", "removals"),
    )


def _node(node: Scope, *names: str) -> Scope | None:
    found: Scope | None = node
    for name in names:
        if found is None:
            return None
        found = found.children.get(name)
    return found


def _count(node: Scope, *names: str) -> int:
    found = _node(node, *names)
    return found.metric.value if found is not None and isinstance(found.metric, Counter) else 0


def _gauge(node: Scope, *names: str) -> float | None:
    found = _node(node, *names)
    return found.metric.read() if found is not None and isinstance(found.metric, Gauge) else None


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _latency(node: Scope) -> tuple[float | None, float | None]:
    found = _node(node, "request_latency_ms")
    if found is None or not isinstance(found.metric, Stat):
        return None, None
    stat = found.metric
    histogram = stat.last if stat.last.count else stat.current
    if not histogram.count:
        return None, None
    p50, p99 = histogram.percentiles((0.5, 0.99))
    return p50 / stat.scale, p99 / stat.scale
