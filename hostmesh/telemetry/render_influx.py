"""The metrics tree in InfluxDB's line protocol, with Linkerd's measurements and tags."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isfinite
from typing import Final

from hostmesh.telemetry.labels import extract, join
from hostmesh.telemetry.metrics import Counter, Gauge, Scope
from hostmesh.telemetry.stat import Stat

MEDIA_TYPE: Final = "text/plain;charset=UTF-8"

_PERCENTILES: Final = (
    ("p50", 0.5),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p999", 0.999),
    ("p9999", 0.9999),
)
# A backslash cannot be escaped in a tag or key (before a comma it would escape that), nor can a line break.
_UNSAYABLE: Final = re.compile(r"[\\\x00-\x1f\x7f]")
_SPECIAL: Final = re.compile(r"([ ,=])")


def render(root: Scope, *, host: str = "none") -> Iterator[str]:
    """One line, or nothing, per node that has metrics as children; between two the caller may let others run.

    ``host`` becomes a tag of every line: what the reader called this host. Linkerd escapes nothing, so a name
    with a comma or blank spoils its lines; here it is escaped. Stats are of the last finished minute.
    """
    for path, node in root.walk():
        fields = sorted(_fields(node))
        if not fields:
            yield ""
            continue
        names, labels = extract(path)
        tags = sorted([*labels, ("host", host)])
        shown = "".join(f",{_escape(key)}={_escape(value)}" for key, value in tags if value)
        numbers = ",".join(f"{_escape(key)}={value}" for key, value in fields)
        yield f"{join(names) or 'root'}{shown} {numbers}\n"


def _fields(node: Scope) -> Iterator[tuple[str, str]]:
    for name, child in list(node.children.items()):
        metric = child.metric
        if isinstance(metric, Counter):
            yield name, str(metric.value)
        elif isinstance(metric, Gauge):
            value = metric.read()
            if value is not None and isfinite(value):
                yield name, repr(value)
        elif isinstance(metric, Stat):
            yield from ((f"{name}_{key}", repr(value)) for key, value in _stat(metric))


def _stat(stat: Stat) -> Iterator[tuple[str, float]]:
    last = stat.last
    if not last.count:
        return
    scale = stat.scale
    yield "count", last.count
    yield "sum", last.sum / scale
    yield "avg", last.average / scale
    yield "min", last.minimum / scale
    yield "max", last.maximum / scale
    values = last.percentiles([point for _, point in _PERCENTILES])
    for (name, _), value in zip(_PERCENTILES, values, strict=True):
        yield name, value / scale


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", _UNSAYABLE.sub("_", text))
