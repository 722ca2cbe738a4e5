"""Upgrade (RFC 9110 7.8): which of them may pass, what is asked of the endpoint, and what its 101 must say.

Only tokens on the allow-list of a server pass (hardening F20). Everything else is an ordinary request: the field is
hop-by-hop, so a proxy that does not take part in the other protocol leaves it out.
"""

from __future__ import annotations

import re

from hostmesh.protocol.h1_fields import TOKEN
from hostmesh.protocol.h1_message import RequestHead, ResponseHead, bad_response, excerpt

WEBSOCKET = b"websocket"

SWITCHING = 101

# RFC 9110 7.8: protocol-name, perhaps with a version.
is_protocol = re.compile(TOKEN + rb"++(?:/" + TOKEN + rb"++)?").fullmatch

_CARRIES_REQUESTS = re.compile(rb"(?:h2c?|http|https|tls|websocket\+http)(?:/.*)?", re.IGNORECASE).fullmatch


def token_problem(text: str) -> str | None:
    """What is wrong with a token on an allow-list, as the end of "expected ...", or None.

    A tunnel of HTTP or TLS would take requests past everything that is decided per request.
    """
    token = text.encode("utf-8", "replace")
    if not is_protocol(token):
        return "the name of a protocol, such as websocket"
    if _CARRIES_REQUESTS(token):
        return "a protocol that does not carry HTTP requests itself, such as websocket"
    return None


def protocols(value: bytes) -> list[bytes]:
    """The protocols that an Upgrade field names, as written; what is none is left out."""
    found = [each.strip(b" \t") for each in value.split(b",")]
    return [each for each in found if is_protocol(each)]


def upgrade_to_forward(head: RequestHead, allowed: frozenset[bytes]) -> bytes | None:
    """The Upgrade value that goes on to the endpoint, or None for an ordinary request.

    ``allowed`` are lower-case tokens. A request with a body is an ordinary one: its last byte would have to reach the
    endpoint before the first one of the tunnel does, and nobody needs it. WebSocket asks with GET (RFC 6455 4.1).
    """
    value = head.upgrade
    if value is None or head.content_length != 0:
        return None
    wanted = [
        each
        for each in protocols(value)
        if each.lower() in allowed and (head.method == b"GET" or each.lower() != WEBSOCKET)
    ]
    return b", ".join(wanted) or None


def upgrade_lines(value: bytes) -> bytes:
    """The lines that carry an upgrade over one hop."""
    return b"Connection: Upgrade\r\nUpgrade: %b\r\n" % value


def switched_to(head: ResponseHead, asked: bytes) -> bytes:
    """The protocol that a 101 switches to, one of those in ``asked``, as the endpoint writes it.

    Raises BadMessage (502): what follows such a head is neither HTTP nor what the caller expects.
    """
    offered = {each.lower() for each in protocols(asked)}
    chosen: list[bytes] = []
    connected = False
    for name, value in head.special:
        if name == b"upgrade":
            chosen += protocols(value)
        elif name == b"connection":
            connected = connected or b"upgrade" in [each.strip(b" \t") for each in value.lower().split(b",")]
    if head.version != 11 or not connected:
        raise bad_response("101 Switching Protocols without Connection: Upgrade")
    if not chosen or any(each.lower() not in offered for each in chosen):
        value = b", ".join(chosen)
        raise bad_response(f"101 Switching Protocols to {excerpt(value)}, asked for {excerpt(asked)}")
    return b", ".join(chosen)
