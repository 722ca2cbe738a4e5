"""The ``httpIdentifierPort`` listener: send it a request, it says what each http router would make of it."""

from __future__ import annotations

import structlog
import trio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hostmesh.admin.body import read_body
from hostmesh.admin.replies import json_reply, text
from hostmesh.admin.view import Identified, RouterView, View
from hostmesh.base.errors import MeshError
from hostmesh.protocol.h1_head import RequestHead, parse_request
from hostmesh.protocol.limits import Limits


class IdentifierApp:
    """Answers every request with ``{"<router label>": {"path": ..., "dtab": ...} or {"error": ...}}``.

    No Host check here: the Host header is what people come to try out, and the answer holds nothing but their own
    request seen through the identifiers.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._log = structlog.get_logger("hostmesh.admin")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http":
            response = await self._answer(scope, receive)
            await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        refusal, _body = await read_body(receive)
        if refusal is not None:
            return refusal
        try:
            head = parse_request(head_bytes(scope), Limits())
        except MeshError as error:
            return text(error.message, error.status)
        if head is None:
            return text("the request head is not complete", 400)
        answers = {}
        for label, router in self._view.routers.items():
            if router.identify is not None:
                answers[label] = self._identify(router, head)
                await trio.lowlevel.checkpoint()
        return json_reply(answers)

    def _identify(self, router: RouterView, head: RequestHead) -> dict[str, str]:
        assert router.identify is not None
        try:
            found = router.identify(head)
        except MeshError as error:
            return {"error": error.message}
        except Exception as error:  # noqa: BLE001
            # A plugin's identifier: its bug is an answer for this router, the others still answer.
            self._log.exception("identifier failed", router=router.label)
            return {"error": f"{type(error).__name__}: {error}"}
        if isinstance(found, Identified):
            return {"path": found.path, "dtab": found.dtab}
        return {"error": found.reason}


def head_bytes(scope: Scope) -> bytes:
    """The request head again as HTTP/1.1 bytes, so that identifiers see the very head type that the routers parse."""
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    headers = scope["headers"]
    lines = [b"%s %s HTTP/1.1" % (scope["method"].encode("ascii"), target)]
    names = {name for name, _value in headers}
    if b"host" not in names and b":authority" in names:
        lines.append(b"host: " + dict(headers)[b":authority"])
    lines += [name + b": " + value for name, value in headers if not name.startswith(b":")]
    return b"\r\n".join(lines) + b"\r\n\r\n"
