"""Callers that speak TLS: from the accept to the end of the handshake.

What comes then is the HTTP/1.1 or HTTP/2 session of any other caller, over a transport that encrypts. While the
handshake lasts the connection is counted as one of its server, which may drain, and belongs to nobody else.

Handshakes are the one thing that a stranger can make us pay for, so those in progress are bounded. At the bound the
oldest makes room: it has had the longest time, and a thousand peers that say nothing must not keep out those who do.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol

from attrs import frozen

from hostmesh.base.errors import MeshError, Side
from hostmesh.base.reasons import Reason
from hostmesh.base.var import Var
from hostmesh.protocol.tls.contexts import ServerContexts
from hostmesh.protocol.tls.failures import TlsFailure
from hostmesh.proxy.caller_session import CallerSession
from hostmesh.proxy.h2_caller import H2CallerSession
from hostmesh.proxy.sniff import Sniff
from hostmesh.pump.secure import HANDSHAKE_TIME, Handshake, SecureTransport

if TYPE_CHECKING:
    from hostmesh.proxy.server import Server
    from hostmesh.pump.loop import Session, Transport
    from hostmesh.telemetry.metrics import Counter, Scope

MAX_HANDSHAKES: Final = 1000
"""Handshakes in progress per server (hardening X3): of 60 KiB each, and some seconds of CPU if they all go on."""

MAX_CALLERS: Final = 200
"""Names of callers whose handshakes are counted apart, per server; those of later ones are ``other``."""

DRAIN_TIME: Final = 1.0
"""Seconds that a handshake in progress has when its server is to end: some round trips over any network, and far from
the whole time of a drain, which whoever opens a connection and says nothing could use up otherwise."""

ALPN: Final = (b"h2", b"http/1.1")
"""What an HTTP server takes, the preferred first."""

_starts_http = re.compile(rb"[A-Z]{3,10} \S").match

_PLAIN = b"This port speaks TLS: use https.\n"

PLAIN_ANSWER: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"l5d-err: tls-not-spoken\r\n\r\n%b" % (len(_PLAIN), _PLAIN)
)
"""What a caller is told that speaks HTTP without TLS, in the language that it understands."""


@frozen(eq=False)
class ServerTls:
    """How a server's callers are met: the contexts now in force, which a rotation replaces."""

    contexts: Var[ServerContexts]
    handshake_time: float = HANDSHAKE_TIME
    max_handshakes: int = MAX_HANDSHAKES

    def accept(self, server: Server, transport: Transport) -> SecureAccept:
        """Begin with a connection just accepted."""
        return SecureAccept(server, transport, self)


class Greeted(Protocol):
    """A caller whose handshake is in progress, whatever it will carry."""

    def abort(self) -> None:
        """End it now; it is not in progress afterwards."""
        ...


class TlsStats:
    """``tls/*`` below a server's node."""

    __slots__ = ("_callers", "_scope", "dropped", "handshakes", "in_progress", "resumed")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope.scope("callers")
        self._callers: dict[str, Counter] = {}
        self.in_progress: dict[Greeted, None] = {}
        """The oldest first."""
        self.handshakes = scope.counter("handshakes")
        self.resumed = scope.counter("resumed")
        self.dropped = scope.counter("dropped")
        scope.gauge("in_progress", lambda: float(len(self.in_progress)))

    def begin(self, greeted: Greeted, maximum: int) -> None:
        """Another handshake begins; with ``maximum`` in progress the oldest makes room."""
        if len(self.in_progress) >= maximum:
            self.dropped.value += 1
            next(iter(self.in_progress)).abort()
        self.in_progress[greeted] = None

    def established(self, transport: SecureTransport) -> None:
        """Count a handshake that has succeeded: in all, and for whom."""
        self.handshakes.value += 1
        if transport.resumed:
            self.resumed.value += 1
        identity = transport.identity
        if identity is not None:
            counter = self._callers.get(identity.name)
            if counter is None:
                name = identity.name if len(self._callers) < MAX_CALLERS else "other"
                counter = self._scope.counter(name)
                if name != "other":
                    self._callers[name] = counter
            counter.value += 1


class SecureAccept:
    """One caller whose handshake is in progress."""

    __slots__ = ("_handshake", "_opened", "_server", "_stats", "_transport")

    version = 11

    def __init__(self, server: Server, transport: Transport, tls: ServerTls) -> None:
        self._server = server
        self._transport = transport
        self._opened = server.loop.now()
        self._stats = stats = server.tls_stats
        stats.begin(self, tls.max_handshakes)
        self._handshake = Handshake(
            server.loop,
            transport,
            tls.contexts.value.connection(ALPN),
            self._established,
            self._failed,
            timeout=tls.handshake_time,
            answer=plain_answer,
        )

    @property
    def session(self) -> Session:
        """Who gets what the transport receives for now."""
        return self._handshake

    @property
    def peer(self) -> tuple[str, int]:
        return self._transport.peer

    def _established(self, transport: SecureTransport) -> Session:
        server = self._server
        del self._stats.in_progress[self]
        self._stats.established(transport)
        session = CallerSession(server, transport, self._opened)
        if transport.protocol == b"h2":
            h2 = H2CallerSession(server, transport, self._opened)
            session.leave()
            server.became(self, h2)
            h2.begin(b"")
            if server.draining:
                h2.drain()
            return h2
        server.became(self, session)
        if server.draining:
            session.drain()
        # Who names no protocol may still speak HTTP/2, with prior knowledge.
        return session if transport.protocol else Sniff(server, transport, session)

    def _failed(self, failure: TlsFailure) -> None:
        server = self._server
        del self._stats.in_progress[self]
        # Who leaves without a byte has tried whether the port is open: no failure here, as on a port without TLS.
        if self._transport.bytes_in or failure.reason is Reason.TLS_TIMEOUT:
            error = MeshError(failure.reason, failure.message, status=400, side=Side.CALLER)
            server.faulted(self, error, server.loop.now())
        server.gone(self, self._transport)

    def drain(self) -> None:
        """The caller's request is on its way: it is answered, and told to come no more. Who stalls is cut."""
        loop = self._server.loop
        loop.call_at(loop.now() + DRAIN_TIME, self.abort)

    def abort(self) -> None:
        """End it now, if it is still in progress."""
        if self in self._stats.in_progress:
            del self._stats.in_progress[self]
            self._handshake.cancel()
            self._server.gone(self, self._transport)


def plain_answer(data: bytes) -> bytes:
    """What to tell a peer that began with ``data`` instead of a handshake: nothing, if it does not speak HTTP/1."""
    return PLAIN_ANSWER if _starts_http(data) is not None else b""
