"""Pages of numbers."""

from __future__ import annotations

from typing import cast, get_args

from starlette.requests import Request
from starlette.responses import Response

from hostmesh.admin.pages import Page, flag
from hostmesh.admin.replies import json_reply, paced, reply
from hostmesh.admin.view import View
from hostmesh.telemetry import render_json, render_prometheus
from hostmesh.telemetry.stat import Window

_WINDOWS = get_args(Window)


class MetricsPages:
    """The metrics tree as JSON, and as Prometheus text where no telemeter has been configured for that."""

    def __init__(self, view: View) -> None:
        self._view = view

    def pages(self) -> list[Page]:
        about = "metrics as JSON: pretty=true, tree=1, q=a/b for a part, window=last|current|all"
        return [
            Page("/admin/metrics.json", self._json, about),
            Page("/metrics.json", self._json, "the same"),
        ]

    def default_pages(self) -> list[Page]:
        """Pages that a telemeter's page of the same path replaces."""
        about = "metrics for Prometheus"
        return [
            Page("/admin/metrics/prometheus", self._prometheus, about),
            Page("/metrics", self._prometheus, about),
        ]

    async def _json(self, request: Request) -> Response:
        query = request.query_params.get("q")
        root = self._view.metrics if query is None else self._view.metrics.find(query)
        if root is None:
            return json_reply({"error": f"No such subtree: {query}"}, 404)
        window = request.query_params.get("window", "last")
        if window not in _WINDOWS:
            return json_reply({"error": f"window is {window!r}, expected one of {', '.join(_WINDOWS)}"}, 400)
        parts = render_json.render(
            root, tree=flag(request, "tree"), pretty=flag(request, "pretty"), window=cast("Window", window)
        )
        return reply(await paced(parts), render_json.MEDIA_TYPE)

    async def _prometheus(self, _request: Request) -> Response:
        return reply(await paced(render_prometheus.render(self._view.metrics)), render_prometheus.MEDIA_TYPE)
