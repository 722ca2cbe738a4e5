"""Why a path binds as it does: ``/delegator.json`` as Linkerd has it, and the same for people at ``/delegator``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape

import trio
from starlette.requests import Request
from starlette.responses import Response

from hostmesh.admin.markup import document
from hostmesh.admin.pages import READ, Page
from hostmesh.admin.replies import JSON, dumps, reply, text
from hostmesh.admin.view import Delegator, RouterView, View
from hostmesh.base.var import Pending, Var
from hostmesh.naming.delegate import DelegateTree
from hostmesh.naming.dtab import Dtab
from hostmesh.naming.path import Path

DELEGATE_S = 2.0
"""How long a delegation may wait for namers, as in Linkerd."""

# Linkerd's links to this page have the path after '#', which never reaches a server.
_SCRIPT = """
"use strict";
const query = new URLSearchParams(location.search);
if (location.hash.length > 1 && !query.get("path")) {
  query.set("path", decodeURIComponent(location.hash.slice(1)));
  location.replace(location.pathname + "?" + query);
}
"""


class DelegationError(Exception):
    """A delegation request that cannot be answered; carries the answer to give."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class ExplainPages:
    """Delegations, as JSON and as a page."""

    def __init__(self, view: View) -> None:
        self._view = view

    def pages(self) -> list[Page]:
        about = "how a path binds: path, namespace (router label), dtab; or POST them as JSON"
        return [
            Page("/delegator.json", self._json, about, (*READ, "POST")),
            Page("/delegator", self._page, "how a path binds, for people"),
        ]

    async def _json(self, request: Request) -> Response:
        try:
            fields = await _fields(request)
            tree = await self._delegated(self._router(fields.get("namespace")), fields)
        except DelegationError as error:
            return text(error.message, error.status)
        if unanswered(tree):
            return text("Request timed out.", 503)
        return reply(dumps(tree.json()) + "\n", JSON)

    async def _page(self, request: Request) -> Response:
        fields = dict(request.query_params)
        status, result = 200, ""
        try:
            router = self._router(fields.get("router"))
            fields.setdefault("dtab", router.base_dtab())
            if fields.get("path"):
                tree = await self._delegated(router, fields)
                result = "".join(f"{escape(line)}\n" for line in tree.render())
        except DelegationError as error:
            status, result = error.status, escape(error.message)
        options = "".join(
            f"<option{' selected' if label == fields.get('router') else ''}>{escape(label)}</option>"
            for label in self._view.routers
        )
        form = (
            f'<form><label>router <select name="router">{options}</select></label>'
            f'<label>path <input name="path" placeholder="/svc/web" value="{escape(fields.get("path", ""))}"></label>'
            f'<label>dtab <textarea name="dtab" rows="8">{_one_rule_a_line(fields.get("dtab", ""))}</textarea></label>'
            "<button>explain</button></form>"
        )
        return document("dtab", "", f"{form}<pre>{result}</pre>", _SCRIPT, status)

    async def _delegated(self, router: RouterView, fields: Mapping[str, str]) -> DelegateTree:
        path = _path(fields.get("path"))
        dtab = _dtab(fields.get("dtab", router.base_dtab()))
        if router.interpreter is None:
            raise DelegationError(501, f"Name Interpreter for {router.label} cannot show delegations")
        return await wait_delegated(router.interpreter, dtab, path)

    def _router(self, label: str | None) -> RouterView:
        routers = self._view.routers
        if label is None and len(routers) == 1:
            return next(iter(routers.values()))
        router = None if label is None else routers.get(label)
        if router is None:
            known = ", ".join(routers) or "(none is configured)"
            raise DelegationError(
                501,
                f"Name Interpreter for {label or '(no namespace given)'} cannot show delegations; "
                f"expected the label of a router: {known}",
            )
        return router


async def wait_delegated(interpreter: Delegator, dtab: Dtab, path: Path) -> DelegateTree:
    """The delegation once everything in it is known, or as far as it is known after DELEGATE_S.

    Observing it starts the watches it needs, and leaving ends those that nobody else holds.
    """
    known: Var[DelegateTree] = interpreter.delegation(dtab, path)
    settled = trio.Event()

    def look(tree: DelegateTree) -> None:
        if not tree.pending:
            settled.set()

    close = known.observe(look, initial=True)
    try:
        with trio.move_on_after(DELEGATE_S):
            await settled.wait()
        return known.value
    finally:
        close()


def unanswered(tree: DelegateTree) -> bool:
    """Whether a namer's answer is missing. An address that is pending is not: the tree says so where it stands."""
    return any(each.type == "exception" and isinstance(each.state, Pending) for each in tree.walk())


async def _fields(request: Request) -> dict[str, str]:
    if request.method != "POST":
        return dict(request.query_params)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise DelegationError(
            415, f"Unsupported Media Type: {media_type or 'none'}, expected application/json"
        )
    try:
        fields = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise DelegationError(400, f"Malformed delegation request: {error}") from error
    if not isinstance(fields, dict):
        raise DelegationError(400, "Malformed delegation request: expected an object")
    for name, value in fields.items():
        if value is not None and not isinstance(value, str):
            raise DelegationError(400, f"Malformed delegation request: {name} is not a string")
    return {name: value for name, value in fields.items() if value is not None}


def _path(value: str | None) -> Path:
    if not value:
        raise DelegationError(400, "Invalid path: parameter path is missing")
    try:
        return Path.read(value)
    except ValueError as error:
        raise DelegationError(400, f"Invalid path: {error}") from error


def _dtab(value: str) -> Dtab:
    try:
        return Dtab.read(value)
    except ValueError as error:
        raise DelegationError(400, f"Invalid dtab: {error}") from error


def _one_rule_a_line(dtab: str) -> str:
    return escape(dtab if "\n" in dtab else dtab.replace(";", ";\n"))
