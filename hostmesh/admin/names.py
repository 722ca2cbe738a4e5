"""Pages about names: what is bound, where its endpoints are, what namers and interpreters have seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import trio
from starlette.requests import Request
from starlette.responses import Response

from hostmesh.admin.pages import READ, Page, wrong_method
from hostmesh.admin.replies import json_reply, paced_json
from hostmesh.admin.view import View
from hostmesh.naming.addr import Addr, AddrBound, AddrFailed, AddrNeg


class NamePages:
    """The pages that look through interpreters, namers and clients."""

    def __init__(self, view: View) -> None:
        self._view = view

    def pages(self) -> list[Page]:
        return [
            Page("/bound-names.json", self._bound_names, "bound ids that the namers list"),
            Page("/client_state.json", self._client_state, "clients and the addresses of their endpoints"),
        ]

    # /bound-names.json, /client_state.json

    async def _bound_names(self, _request: Request) -> Response:
        names: set[str] = set()
        for namer in self._view.namers.values():
            bound_names = getattr(namer, "bound_names", None)
            if bound_names is not None:
                names.update(path.show() for path in bound_names())
                await trio.lowlevel.checkpoint()
        return json_reply(sorted(names))

    async def _client_state(self, _request: Request) -> Response:
        def items() -> Iterator[tuple[str, object]]:
            seen: set[str] = set()
            for router in self._view.routers.values():
                # A copy: rendering lets other tasks run, and they may add clients.
                for bound_id, addr in list(router.clients()):
                    if bound_id not in seen:
                        seen.add(bound_id)
                        yield bound_id, client_state(addr)

        return await paced_json(items())

    # /namer_state/<prefix>.json, /<label>/interpreter_state/<page>.json

    async def named(self, request: Request) -> Response | None:
        """Pages with a name in their path; None if this is not one, or the name is unknown."""
        path: str = request.scope["path"]
        if not path.endswith(".json"):
            return None
        stem = path.removesuffix(".json")
        maker: Any = None
        if stem.startswith("/namer_state/"):
            namer = self._view.namers.get(stem.removeprefix("/namer_state/"))
            maker = getattr(namer, "state", None)
        elif "/interpreter_state/" in stem:
            label, _, name = stem[1:].partition("/interpreter_state/")
            router = self._view.routers.get(label)
            maker = router.interpreter_states().get(name) if router is not None else None
        if maker is None:
            return None
        if request.method not in READ:
            return wrong_method(READ)
        state = maker()
        if isinstance(state, dict):
            return await paced_json(iter(list(state.items())))
        return json_reply(state)

    def named_index(self) -> dict[str, str]:
        """The pages of :meth:`named` that exist now, for the index."""
        found = {
            f"/namer_state/{prefix}.json": "what this namer watches"
            for prefix, namer in self._view.namers.items()
            if getattr(namer, "state", None) is not None
        }
        for router in self._view.routers.values():
            for name in router.interpreter_states():
                found[f"/{router.label}/interpreter_state/{name}.json"] = "what this interpreter watches"
        return found


def client_state(addr: Addr) -> dict[str, object]:
    """One value of ``/client_state.json``."""
    if isinstance(addr, AddrBound):
        return {
            "state": "bound",
            "addresses": [show_address(each.host, each.port) for each in addr.endpoints],
        }
    if isinstance(addr, AddrFailed):
        return {"state": f"Failed: {addr.cause}"}
    return {"state": "Neg" if isinstance(addr, AddrNeg) else "Pending"}


def show_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
