"""The metrics tree in the Prometheus text format, with Linkerd's names.

Linkerd escapes label values wrongly, writes no types, and exports counts and sums that start over every
minute. Here values are escaped, each family is together under its ``# TYPE``, and counts and sums only grow,
as ``rate()`` needs. Quantiles and averages are those of the last finished minute.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isinf, isnan
from typing import Final

from attrs import define, field

from hostmesh.telemetry.labels import Labels, extract_failures, join
from hostmesh.telemetry.metrics import Counter, Gauge, Scope
from hostmesh.telemetry.stat import Stat

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

QUANTILES: Final = (
    ("0", 0.0),
    ("0.5", 0.5),
    ("0.9", 0.9),
    ("0.95", 0.95),
    ("0.99", 0.99),
    ("0.999", 0.999),
    ("0.9999", 0.9999),
    ("1", 1.0),
)

BUCKET_EXPONENTS: Final = range(6, 28)
"""Powers of two that are bucket limits when buckets are asked for: as microseconds 64 us to 134 s. A fixed
list, so that buckets of different hosts and times can be added."""

_NODES_PER_PART: Final = 50
_LINES_PER_PART: Final = 200
_BAD_LABEL: Final = re.compile(r"[^A-Za-z0-9_]")
_ESCAPED: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


@define
class _Family:
    """The samples of one name. Two paths that differ only in characters a name cannot have share a family."""

    type: str
    samples: dict[str, float] = field(factory=dict)

    def add(self, type_: str, series: str, value: float) -> None:
        if type_ != self.type:
            self.type = "untyped"
        known = self.samples.get(series)
        if known is None:
            self.samples[series] = value
        elif type_ == "counter":
            # One line per series is all the format allows, and of counters the sum is the truth.
            self.samples[series] = known + value


def render(root: Scope, *, prefix: str = "", buckets: bool = False) -> Iterator[str]:
    """The text in parts, some of them empty; between two parts the caller may let others run.

    ``prefix`` is put before every name as it is, but for characters that names cannot have. With ``buckets``
    stats are histograms with cumulative ``le`` buckets, one per octave, instead of summaries with quantiles.
    """
    families: dict[str, _Family] = {}
    start = join((prefix,))
    for seen, (path, node) in enumerate(root.walk(), 1):
        metric = node.metric
        if metric is not None:
            names, labels = extract_failures(path)
            name = _name(start + join(names))
            if isinstance(metric, Counter):
                _add(families, name, "counter", _series(name, labels), metric.value)
            elif isinstance(metric, Gauge):
                value = metric.read()
                if value is not None:
                    _add(families, name, "gauge", _series(name, labels), value)
            elif buckets:
                _add_buckets(families, name, labels, metric)
            else:
                _add_summary(families, name, labels, metric)
        if seen % _NODES_PER_PART == 0:
            yield ""
    lines: list[str] = []
    for name in sorted(families):
        family = families[name]
        lines.append(f"# TYPE {name} {family.type}\n")
        for series, value in family.samples.items():
            lines.append(f"{series} {_number(value)}\n")
            if len(lines) >= _LINES_PER_PART:
                yield "".join(lines)
                lines = []
    yield "".join(lines)


def _add(families: dict[str, _Family], family: str, type_: str, series: str, value: float) -> None:
    if family not in families:
        families[family] = _Family(type_)
    families[family].add(type_, series, value)


def _add_summary(families: dict[str, _Family], name: str, labels: Labels, stat: Stat) -> None:
    total = stat.cumulative
    if not total.count:
        return
    last = stat.last
    if last.count:
        values = last.percentiles([point for _, point in QUANTILES])
        for (shown, _), value in zip(QUANTILES, values, strict=True):
            _add(families, name, "summary", _series(name, (*labels, ("quantile", shown))), value / stat.scale)
        average = last.average / stat.scale
        _add(families, f"{name}_avg", "gauge", _series(f"{name}_avg", labels), average)
    _add(families, name, "summary", _series(f"{name}_sum", labels), total.sum / stat.scale)
    _add(families, name, "summary", _series(f"{name}_count", labels), total.count)


def _add_buckets(families: dict[str, _Family], name: str, labels: Labels, stat: Stat) -> None:
    total = stat.cumulative
    if not total.count:
        return
    octaves = dict(total.octaves())
    for exponent in BUCKET_EXPONENTS:
        limit = 1 << exponent
        # Samples are whole numbers, so "less than 64" is "at most 63".
        shown = _number((limit - 1) / stat.scale)
        series = _series(f"{name}_bucket", (*labels, ("le", shown)))
        _add(families, name, "histogram", series, octaves.get(limit, total.count))
    series = _series(f"{name}_bucket", (*labels, ("le", "+Inf")))
    _add(families, name, "histogram", series, total.count)
    _add(families, name, "histogram", _series(f"{name}_sum", labels), total.sum / stat.scale)
    _add(families, name, "histogram", _series(f"{name}_count", labels), total.count)


def _name(name: str) -> str:
    return f"_{name}" if not name or name[0].isdigit() else name


def _series(name: str, labels: Labels) -> str:
    if not labels:
        return name
    shown = ", ".join(f'{_BAD_LABEL.sub("_", key)}="{value.translate(_ESCAPED)}"' for key, value in labels)
    return f"{name}{{{shown}}}"


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    if isnan(value):
        return "NaN"
    if isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
