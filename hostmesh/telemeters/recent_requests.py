"""``io.l5d.recentRequests``: the last few requests as a table on the admin port."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import quote

from attrs import frozen

from hostmesh.config.shape import Bounds
from hostmesh.config.types import Ratio
from hostmesh.telemeters.telemeter import AdminRoute, TelemeterConfig, TelemeterDeps
from hostmesh.telemetry.record import Record

if TYPE_CHECKING:
    from random import Random

_COLUMNS: Final = (
    "Timestamp",
    "Source",
    "Server",
    "Router",
    "Logical Name",
    "Concrete Name",
    "Destination",
    "Status",
    "Reason",
    "Time (ms)",
)
"""Linkerd's seven, and how it ended."""


@frozen(kw_only=True)
class RecentRequestsConfig(TelemeterConfig):
    """The last requests at ``/requests``, and as JSON at ``/requests.json``."""

    sample_rate: Ratio
    """Share of requests that are remembered, from 0 to 1."""
    capacity: Annotated[int, Bounds(1, 10_000)] = 10
    """How many requests are remembered. Each holds its head, so at most 10,000."""

    def mk(self, deps: TelemeterDeps) -> RecentRequestsTelemeter:
        return RecentRequestsTelemeter(
            self.sample_rate, self.capacity, deps.env.rng("telemeter/recentRequests")
        )


class RecentRequestsTelemeter:
    """A ring of records, rendered when somebody looks."""

    def __init__(self, sample_rate: float, capacity: int, rng: Random) -> None:
        self._sample_rate = sample_rate
        self._random = rng.random
        self._ring: deque[Record] = deque(maxlen=capacity)

    def wants(self, failed: bool) -> bool:
        # random() is less than 1, so a rate of 1 takes all, and 0 none.
        return self._random() < self._sample_rate

    def on_exchange(self, record: Record) -> None:
        self._ring.append(record)

    def admin_routes(self) -> Mapping[str, AdminRoute]:
        return {"/requests": self._html, "/requests.json": self._json}

    def _html(self, _query: Mapping[str, str]) -> tuple[str, str]:
        head = "".join(f"<th>{column}</th>" for column in _COLUMNS)
        body = "".join(f"<tr>{_row(record)}</tr>\n" for record in reversed(self._ring))
        return "text/html;charset=UTF-8", (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Recent requests</title></head>\n'
            f"<body><h1>Recent requests</h1>\n<table><thead><tr>{head}</tr></thead>\n"
            f"<tbody>\n{body}</tbody></table></body></html>\n"
        )

    def _json(self, _query: Mapping[str, str]) -> tuple[str, str]:
        rows = [
            {
                "timestamp": _time(record),
                "source": record.caller,
                "server": record.server,
                "router": record.router,
                "method": record.method.decode("latin-1"),
                "host": record.host.decode("latin-1"),
                "logicalName": record.dst_path,
                "concreteName": record.bound_id,
                "residual": record.residual,
                "destination": record.endpoint,
                "status": record.status,
                "reason": record.reason,
                "attempts": record.attempts,
                "ms": round(record.total * 1000, 3),
            }
            for record in reversed(self._ring)
        ]
        return "application/json;charset=UTF-8", json.dumps(rows)


def _row(record: Record) -> str:
    router = quote(record.router, safe="")
    cells = [
        _time(record),
        escape(record.caller),
        escape(record.server),
        escape(record.router),
        _delegator_link(router, record.dst_path),
        _delegator_link(router, record.bound_id),
        escape(record.endpoint),
        str(record.status or "cut"),
        escape(record.reason),
        f"{record.total * 1000:.3f}",
    ]
    return "".join(f"<td>{cell}</td>" for cell in cells)


def _delegator_link(router: str, name: str) -> str:
    return f'<a href="/delegator?router={router}#{quote(name, safe="/")}">{escape(name)}</a>' if name else ""


def _time(record: Record) -> str:
    return datetime.fromtimestamp(record.start, UTC).isoformat(timespec="milliseconds")
