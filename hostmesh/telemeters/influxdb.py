"""``io.l5d.influxdb``: a page in InfluxDB's line protocol, for telegraf to collect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from attrs import frozen

from hostmesh.telemeters.telemeter import AdminRoute, TelemeterConfig, TelemeterDeps
from hostmesh.telemetry.metrics import MetricsTree
from hostmesh.telemetry.render_influx import MEDIA_TYPE, render

PATH: Final = "/admin/metrics/influxdb"

_MAX_HOST: Final = 255
"""The host tag is what the collector wrote in its Host header; a DNS name is no longer than this."""


@frozen(kw_only=True)
class InfluxdbConfig(TelemeterConfig):
    """Metrics as InfluxDB lines at ``/admin/metrics/influxdb`` on the admin port."""

    def mk(self, deps: TelemeterDeps) -> InfluxdbTelemeter:
        return InfluxdbTelemeter(deps.metrics)


class InfluxdbTelemeter:
    """Renders the tree when it is asked."""

    def __init__(self, metrics: MetricsTree) -> None:
        self._metrics = metrics

    def admin_routes(self) -> Mapping[str, AdminRoute]:
        return {PATH: self._page}

    def _page(self, query: Mapping[str, str]) -> tuple[str, Iterator[str]]:
        return MEDIA_TYPE, render(self._metrics, host=query.get(":host", "")[:_MAX_HOST] or "none")
