"""``io.l5d.prometheus``: a page in the Prometheus text format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Final

from attrs import field, frozen

from hostmesh.config.shape import Text
from hostmesh.telemeters.telemeter import AdminRoute, TelemeterConfig, TelemeterDeps
from hostmesh.telemetry.metrics import MetricsTree
from hostmesh.telemetry.render_prometheus import MEDIA_TYPE, render


def _path_problem(text: str) -> str | None:
    return None if text.startswith("/") and not set(text) & set("?# ") else "a path that starts with '/'"


DEFAULT_PATH: Final = "/admin/metrics/prometheus"


@frozen(kw_only=True)
class PrometheusConfig(TelemeterConfig):
    """Metrics for Prometheus to scrape from the admin port.

    Counts and sums only grow. Quantiles and averages are those of the last finished minute.
    """

    path: Annotated[str, Text(_path_problem)] = DEFAULT_PATH
    """Path of the page on the admin port."""
    prefix: str = ""
    """Put before every name. Characters that a name cannot have become ``_``."""
    buckets: bool = field(default=False, metadata={"extension": True})
    """Stats as histograms with cumulative buckets, one per power of two, instead of quantiles: these can be
    added over many hosts. Default: quantiles, which the dashboards made for Linkerd read."""

    def mk(self, deps: TelemeterDeps) -> PrometheusTelemeter:
        return PrometheusTelemeter(deps.metrics, self.path, self.prefix, self.buckets)


class PrometheusTelemeter:
    """Renders the tree when it is scraped."""

    def __init__(
        self, metrics: MetricsTree, path: str = DEFAULT_PATH, prefix: str = "", buckets: bool = False
    ) -> None:
        self._metrics = metrics
        self._path = path
        self._prefix = prefix
        self._buckets = buckets

    def admin_routes(self) -> Mapping[str, AdminRoute]:
        return {self._path: self._page}

    def _page(self, _query: Mapping[str, str]) -> tuple[str, Iterator[str]]:
        return MEDIA_TYPE, render(self._metrics, prefix=self._prefix, buckets=self._buckets)
