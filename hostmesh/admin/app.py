"""The admin application: checks, then pages, then the one place where a page's exception ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hostmesh.admin.body import read_body, replay
from hostmesh.admin.certificates import CertificatePages
from hostmesh.admin.control import ControlPages
from hostmesh.admin.explain import ExplainPages
from hostmesh.admin.journal import JournalPages
from hostmesh.admin.metrics import MetricsPages
from hostmesh.admin.names import NamePages
from hostmesh.admin.overview import OverviewPages
from hostmesh.admin.pages import READ, Page, Table, not_found, wrong_method
from hostmesh.admin.replies import json_reply, paced, reply, text
from hostmesh.admin.security import PathGate, host_refusal, origin_refusal
from hostmesh.admin.view import AdminRoute, View

if TYPE_CHECKING:
    from hostmesh.config.model import SecurityConfig


class AdminApp:
    """The ASGI application behind the admin port.

    ``loopback`` says that the listener is bound to a loopback address, which switches the Host check on. The object has
    no tasks and nothing to close. Only the http scope is served: no WebSocket, no lifespan.
    """

    def __init__(self, view: View, *, security: SecurityConfig, loopback: bool) -> None:
        self._view = view
        self._gate = PathGate(security)
        self._loopback = loopback
        self._log = structlog.get_logger("hostmesh.admin")
        metrics = MetricsPages(view)
        self._names = NamePages(view)
        self._fixed = Table(
            [
                *OverviewPages(view).pages(),
                *ExplainPages(view).pages(),
                *ControlPages(view).pages(),
                *metrics.pages(),
                *self._names.pages(),
                *JournalPages(view).pages(),
                *CertificatePages(view).pages(),
                Page("/admin", self._index, "this list"),
                Page("/admin/index.txt", self._index, "this list"),
            ]
        )
        # A telemeter that is configured with its own prefix or path takes the place of these.
        self._defaults = Table(metrics.default_pages())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            return
        response = await self._answer(scope, receive)
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        refusal, body = await read_body(receive)
        if refusal is not None:
            return refusal
        request = Request(scope, replay(body))
        try:
            refusal = self._refusal(request)
            return refusal if refusal is not None else await self._find(request)
        except Exception as error:  # noqa: BLE001  (a broken page must not take the listener down)
            self._log.exception("admin page failed", path=scope["path"], method=scope["method"])
            return json_reply({"error": f"{type(error).__name__}: {error}", "path": scope["path"]}, 500)

    def _refusal(self, request: Request) -> Response | None:
        headers = request.headers
        host = headers.get("host")
        if self._loopback and (why := host_refusal(host)) is not None:
            return text(why, 403)
        if not self._gate.admits(request.scope["path"]):
            return not_found()
        if request.method not in READ:
            why = origin_refusal(host, headers.get("origin"), headers.get("sec-fetch-site"))
            if why is not None:
                return text(f"refused: {why}", 403)
        return None

    async def _find(self, request: Request) -> Response:
        found = await self._fixed.answer(request)
        if found is not None:
            return found
        route = self._view.admin_routes.get(request.scope["path"])
        if route is not None:
            return await _telemeter_page(route, request)
        return await self._defaults.answer(request) or await self._names.named(request) or not_found()

    async def _index(self, request: Request) -> Response:
        lines = {
            page.path: page.about for table in (self._defaults, self._fixed) for page in table.pages.values()
        }
        lines.update(dict.fromkeys(self._view.admin_routes, "telemeter"))
        lines.update(self._names.named_index())
        width = max(len(path) for path in lines)
        return text(
            "\n".join(f"{path:<{width}}  {lines[path]}" for path in sorted(lines) if self._gate.admits(path))
        )


async def _telemeter_page(route: AdminRoute, request: Request) -> Response:
    if request.method not in READ:
        return wrong_method(READ)
    query = {**request.query_params, ":host": request.headers.get("host", "")}
    media_type, body = route(query)
    if not isinstance(body, str | bytes):
        body = await paced(body)
    if media_type.startswith("text/html"):
        # Tables of what callers sent: nothing in them may run, even where escaping was forgotten.
        return reply(
            body, media_type, content_security_policy="default-src 'none'; style-src 'unsafe-inline'"
        )
    return reply(body, media_type)
