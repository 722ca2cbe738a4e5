"""Diagnostic tracing: a TRACE request that asks, with ``l5d-add-context: true`` or ``Max-Forwards``, where it goes.

Each hop that takes part appends a block with its router, names, addresses and dtab resolution to the answer
(reference 8.8). It runs where the endpoint has been picked, so that it can name it. A server with ``clearContext``
shows nothing: the question is an ``l5d-*`` field, and those are removed there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError, Side
from hostmesh.base.reasons import Reason
from hostmesh.base.var import Ok
from hostmesh.naming import nametree
from hostmesh.naming.path import Path

if TYPE_CHECKING:
    from hostmesh.naming.delegate import DelegateTree
    from hostmesh.protocol.h1_message import RequestHead, ResponseHead
    from hostmesh.proxy.client_stack import ClientStack
    from hostmesh.proxy.endpoint_stack import EndpointStack
    from hostmesh.proxy.exchange import Exchange

STREAMED_NOTE = b"Diagnostic trace encountered chunked response. Response content discarded.\n"


class Diagnosis:
    """What one TRACE request wants to know."""

    __slots__ = ("add_context", "max_forwards")

    def __init__(self, max_forwards: int | None, add_context: bool) -> None:
        self.max_forwards = max_forwards
        self.add_context = add_context

    @property
    def ends_here(self) -> bool:
        """Whether this hop answers instead of forwarding."""
        return self.max_forwards == 0

    @property
    def line(self) -> bytes:
        """The ``Max-Forwards`` line for the next hop."""
        return b"" if self.max_forwards is None else b"Max-Forwards: %d\r\n" % (self.max_forwards - 1)


def diagnosis_of(head: RequestHead) -> Diagnosis | None:
    """None for requests that ask nothing. MeshError (400) for a Max-Forwards that is no number."""
    if head.method != b"TRACE":
        return None
    value = head.get(b"max-forwards")
    add_context = (head.get(b"l5d-add-context") or b"").lower() == b"true"
    if value is None:
        return Diagnosis(None, True) if add_context else None
    if not value.isdigit() or len(value) > 9:
        raise MeshError(
            Reason.BAD_REQUEST, "Invalid value for Max-Forwards header", status=400, side=Side.CALLER
        )
    return Diagnosis(int(value), add_context)


def answer_here(ex: Exchange, client: ClientStack, node: EndpointStack, now: float) -> None:
    """Answer a TRACE that must go no further."""
    assert ex.diagnosis is not None
    body = context_block(ex, client, node, now) if ex.diagnosis.add_context else b""
    ex.committed = True
    ex.status = 200
    ex.caller.send_answer(ex, 200, body)
    ex.finish(200, ok=True)


def with_context(ex: Exchange, head: ResponseHead, chunk: bytes, done: bool, now: float) -> bytes:
    """The body of the answer to the caller for an endpoint's answer: its body with our block behind it.

    A body that has not arrived whole is replaced by a note that says what it would have been.
    """
    client, endpoint = ex.client, ex.last_endpoint
    assert client is not None
    assert endpoint is not None
    block = context_block(ex, client, endpoint, now)
    if done and head.content_length >= 0:
        return chunk + (b"\n" if chunk else b"") + block
    status = b"HTTP/1.1 %d %b\n" % (head.status, head.reason)
    return head.block.replace(b"\r\n", b"\n") + status + STREAMED_NOTE + b"\n" + block


def context_block(ex: Exchange, client: ClientStack, node: EndpointStack, now: float) -> bytes:
    """The block of this hop, one item per line."""
    path = ex.path
    assert path is not None
    router = ex.router
    addresses = ", ".join(each.text for each in client.endpoints)
    lines = [
        f"--- Router: {router.label} ---",
        f"request duration: {(now - ex.start) * 1000:.0f} ms",
        f"service name: {path.text}",
        f"client name: {client.text}",
        f"addresses: [{addresses}]",
        f"selected address: {node.text}",
        "dtab resolution:",
    ]
    base = getattr(router.interpreter, "base", None)
    dtab = base.value if isinstance(base, Ok) else router.base_dtab
    tree = router.interpreter.delegate(dtab + ex.local if ex.local is not None else dtab, path.path)
    lines += _steps(tree)
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")


def _steps(tree: DelegateTree) -> list[str]:
    lines: list[str] = []
    for step in tree.walk():
        dentry = step.dentry
        rule = ""
        if dentry is not None:
            rule = f" ({dentry.prefix.show()}=>{nametree.show(dentry.dst, Path.show)})"
        lines.append(f"  {step.path.show()}{rule}")
    return lines
