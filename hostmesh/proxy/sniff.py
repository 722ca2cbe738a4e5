"""Which HTTP a caller speaks, found out at its first bytes, once per connection.

Until then this stands between the transport and the HTTP/1.1 session, which has the timers; afterwards it is gone.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from binascii import Error as BadBase64
from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError
from hostmesh.protocol.client_hello import starts_tls
from hostmesh.protocol.h1_head import parse_request, without_context
from hostmesh.protocol.h2.engine import PREFACE
from hostmesh.proxy import refusals
from hostmesh.proxy.h2_caller import H2CallerSession

if TYPE_CHECKING:
    from hostmesh.protocol.h1_message import RequestHead
    from hostmesh.proxy.caller_session import CallerSession
    from hostmesh.proxy.server import Server
    from hostmesh.pump.loop import Transport

_is_base64url = re.compile(rb"[A-Za-z0-9_-]*+={0,2}").fullmatch


class Sniff:
    """The first session of a caller's connection; ``session`` is the one that gets it if it speaks HTTP/1.1."""

    __slots__ = ("_buf", "_server", "_session", "_transport")

    def __init__(self, server: Server, transport: Transport, session: CallerSession) -> None:
        self._server = server
        self._transport = transport
        self._session = session
        self._buf = b""

    def data_received(self, data: bytes) -> None:
        if self._buf:
            data = self._buf + data
        if data.startswith(PREFACE):
            self._become_h2().begin(data)
        elif len(data) < len(PREFACE) and PREFACE.startswith(data):
            self._buf = data
        elif starts_tls(data) and not self._buf:
            self._refuse_tls()
        elif b"h2c" not in data or not self._upgraded(data):
            self._transport.session = self._session
            self._session.data_received(data)

    def _refuse_tls(self) -> None:
        server, transport = self._server, self._transport
        self._session.leave()
        server.faulted(self._session, refusals.unexpected_tls(), server.loop.now())
        transport.write(refusals.TLS_ALERT)
        transport.close()
        server.gone(self._session, transport)

    def _become_h2(self) -> H2CallerSession:
        server, transport = self._server, self._transport
        session = H2CallerSession(server, transport, self._session.opened)
        self._session.leave()
        server.became(self._session, session)
        transport.session = session
        return session

    def _upgraded(self, data: bytes) -> bool:
        """Whether these bytes are a request to go on in HTTP/2 (RFC 7540 section 3.2), which was followed.

        Who asks otherwise than clients do (with a body, in a second request, not in one piece) is answered in HTTP/1.1:
        a server may always do that. On http routers everybody is, as in Linkerd 1: Java's HttpClient asks for h2c
        unasked, with its first request, and then cannot do in HTTP/2 what it can in HTTP/1.1. It fails requests above
        our number of streams instead of opening connections, and waits for ever when an answer ends an upload early.
        """
        server = self._server
        if server.router.protocol != "h2":
            return False
        try:
            head = parse_request(data, server.limits)
        except MeshError:
            return False
        if head is None or (settings := upgrade_settings(head)) is None:
            return False
        if server.clear_context:
            head = without_context(head)
        session = H2CallerSession(server, self._transport, self._session.opened)
        try:
            session.begin_upgraded(settings)
        except MeshError:
            return False
        self._session.leave()
        server.became(self._session, session)
        self._transport.session = session
        session.first_request(head, data[head.end :])
        return True

    # What may happen before the first byte is the HTTP/1.1 session's: it has waited for a request.

    def eof_received(self) -> None:
        session = self._session
        self._transport.session = session
        if self._buf:
            session.data_received(self._buf)
        session.eof_received()

    def connection_lost(self, error: OSError | None) -> None:
        self._session.connection_lost(error)

    def writable(self) -> None:
        self._session.writable()


def upgrade_settings(head: RequestHead) -> bytes | None:
    """The payload of HTTP2-Settings of a request that asks for h2c and for nothing else; None if it does not."""
    if (
        head.upgrade is None
        or head.upgrade.lower() != b"h2c"
        or head.content_length != 0
        or head.version != 11
    ):
        return None
    found = head.get_all(b"http2-settings")
    if len(found) != 1 or b"http2-settings" not in head.nominated or _is_base64url(found[0]) is None:
        return None
    try:
        payload = urlsafe_b64decode(found[0].rstrip(b"=") + b"=" * (-len(found[0].rstrip(b"=")) % 4))
    except BadBase64:
        return None
    return payload if len(payload) % 6 == 0 else None
