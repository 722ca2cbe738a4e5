"""The metrics tree as the JSON of ``/admin/metrics.json``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import isfinite
from operator import itemgetter
from typing import Final

from hostmesh.telemetry.metrics import Counter, Gauge, Metric, Scope
from hostmesh.telemetry.stat import Stat, Window

MEDIA_TYPE: Final = "application/json;charset=UTF-8"

_PERCENTILES: Final = (
    ("p50", 0.5),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p9990", 0.999),
    ("p9999", 0.9999),
)
_NODES_PER_PART: Final = 100


def render(
    root: Scope, *, tree: bool = False, pretty: bool = False, window: Window = "last"
) -> Iterator[str]:
    """One JSON object in parts, some of them empty; between two parts the caller may let others run.

    Flat, it has one sorted key per number, ``rt/http/server/127.0.0.1/4140/requests``; a stat has several,
    ``….count`` and, if there are samples in the window, ``.sum .avg .min .max .p50 …``. As a tree, each node
    is an object: children by name, its own number as ``counter``, ``gauge`` or ``stat.count`` and so on. A
    gauge that cannot be read, or is not a finite number, is left out: JSON has no word for it.
    """
    return _tree(root, pretty, window) if tree else _flat(root, pretty, window)


def stat_values(stat: Stat, window: Window) -> dict[str, float]:
    """What is shown of a stat, in its unit: only ``count`` when the window has no samples."""
    histogram = stat.window(window)
    if not histogram.count:
        return {"count": 0}
    scale = stat.scale
    shown = [histogram.sum, histogram.minimum, histogram.maximum]
    shown += histogram.percentiles([point for _, point in _PERCENTILES])
    scaled: list[float] = [value / scale for value in shown] if scale != 1 else list(shown)
    values: dict[str, float] = {"count": histogram.count, "sum": scaled[0]}
    values["avg"] = histogram.average / scale
    values["min"], values["max"] = scaled[1:3]
    values.update(zip((name for name, _ in _PERCENTILES), scaled[3:], strict=True))
    return values


def _values(metric: Metric | None, names: tuple[str, str, str], window: Window) -> Iterator[tuple[str, str]]:
    """Keys and JSON numbers of one node; ``names`` are what a counter, a gauge and a stat are called."""
    if isinstance(metric, Counter):
        yield names[0], str(metric.value)
    elif isinstance(metric, Gauge):
        value = metric.read()
        if value is not None and isfinite(value):
            yield names[1], repr(value)
    elif isinstance(metric, Stat):
        for key, number in stat_values(metric, window).items():
            yield f"{names[2]}.{key}", repr(number)


def _flat(root: Scope, pretty: bool, window: Window) -> Iterator[str]:
    rows: list[tuple[str, str]] = []
    for seen, (path, node) in enumerate(root.walk(), 1):
        name = "/".join(path)
        rows += _values(node.metric, (name, name, name), window)
        if seen % _NODES_PER_PART == 0:
            yield ""
    rows.sort(key=itemgetter(0))
    start, between, end = ("{\n  ", ",\n  ", "\n}\n") if pretty and rows else ("{", ",", "}\n")
    colon = ": " if pretty else ":"
    yield start
    for at in range(0, len(rows), _NODES_PER_PART):
        some = rows[at : at + _NODES_PER_PART]
        part = between.join(f"{json.dumps(key)}{colon}{number}" for key, number in some)
        yield part if at == 0 else between + part
    yield end


def _tree(node: Scope, pretty: bool, window: Window) -> Iterator[str]:
    yield from _subtree(node, "\n" if pretty else "", ": " if pretty else ":", window)
    yield "\n"


def _subtree(node: Scope, newline: str, colon: str, window: Window) -> Iterator[str]:
    """``newline`` is a line break with the indentation of this object, or empty."""
    inner = newline and newline + "  "
    before = "{" + inner
    empty = True
    for key, number in _values(node.metric, ("counter", "gauge", "stat"), window):
        yield f"{before}{json.dumps(key)}{colon}{number}"
        before, empty = "," + inner, False
    for name in sorted(node.children):
        child = node.children.get(name)
        if child is not None:
            yield f"{before}{json.dumps(name)}{colon}"
            yield from _subtree(child, inner, colon, window)
            before, empty = "," + inner, False
    yield "{}" if empty else newline + "}"
