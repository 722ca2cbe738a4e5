"""Reads request bodies under a bound."""

from __future__ import annotations

import trio
from starlette.responses import Response
from starlette.types import Message, Receive

from hostmesh.admin.replies import text

MAX_BODY_BYTES = 64 * 1024
"""The largest useful body is a dtab to explain, and those are hand-written."""

BODY_S = 10.0
"""A body of 64 KiB that takes longer than this is not being sent, it is being dripped."""


async def read_body(receive: Receive) -> tuple[Response | None, bytes]:
    """The whole body, or a refusal if it is longer than MAX_BODY_BYTES or slower than BODY_S.

    It is read before any page runs, also for pages that take none: the HTTP server hands body pieces over through a
    queue, and an application that answers without emptying it would leave the connection's reader stuck.
    """
    body = bytearray()
    with trio.move_on_after(BODY_S):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None, bytes(body)
            body += message.get("body", b"")
            if len(body) > MAX_BODY_BYTES:
                why = f"the body is longer than {MAX_BODY_BYTES} bytes"
                return text(why, 413, connection="close"), b""
            if not message.get("more_body", False):
                return None, bytes(body)
    return text(f"the body was not complete after {BODY_S:g} s", 408, connection="close"), b""


def replay(body: bytes) -> Receive:
    """A ``receive`` that delivers ``body`` once, for code that wants to read a body that was read already."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        await trio.lowlevel.checkpoint()
        return pending.pop() if pending else {"type": "http.disconnect"}

    return receive
