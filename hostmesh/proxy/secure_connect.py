"""Connections to endpoints that speak TLS: the connect, then the handshake, as one attempt.

A session that an endpoint has given us is offered to it again, for as long as the context is the same: so a
rotation of CAs or of our certificate makes every later handshake a full one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from hostmesh.protocol.tls.failures import TlsConnectionError, TlsFailure
from hostmesh.pump.secure import Handshake, SecureTransport

if TYPE_CHECKING:
    from hostmesh.base.var import Var
    from hostmesh.protocol.tls.contexts import ClientContext
    from hostmesh.proxy.client_stack import ClientStack
    from hostmesh.proxy.endpoint_stack import EndpointStack
    from hostmesh.pump.loop import Connecting, Session, Transport


ENDPOINT_HANDSHAKE_TIME: Final = 5.0
"""Seconds from a connect to the end of its handshake: less than strangers have, because a request waits, and is to be
tried elsewhere. It is what Envoy gives connect and handshake together."""


@frozen(kw_only=True)
class EndpointTls:
    """How the endpoints of a bound name are met. Equal ones have the same contexts."""

    contexts: Var[ClientContext]
    """The one now in force, which a rotation replaces."""
    name: str | None
    """Whom the certificate must be for; None takes anybody's."""
    server_name: str | None
    """The host name that we ask for (SNI)."""
    from_subject: bool = False
    handshake_time: float = ENDPOINT_HANDSHAKE_TIME

    def connect(self, client: ClientStack, endpoint: EndpointStack) -> Connecting:
        """Dial ``endpoint`` for whoever waits there, and tell it how that went."""
        return SecureConnect(self, client, endpoint)


class SecureConnect:
    """One attempt."""

    __slots__ = ("_client", "_connecting", "_endpoint", "_handshake", "_tls")

    def __init__(self, tls: EndpointTls, client: ClientStack, endpoint: EndpointStack) -> None:
        self._tls = tls
        self._client = client
        self._endpoint = endpoint
        self._handshake: Handshake | None = None
        self._connecting: Connecting | None = client.dial(endpoint, self._connected, self._refused)

    def _connected(self, transport: Transport) -> Session:
        self._connecting = None
        tls, endpoint = self._tls, self._endpoint
        context = tls.contexts.value
        codec = context.connection(
            tls.name,
            tls.server_name,
            from_subject=tls.from_subject,
            alpn=self._client.alpn,
            session=endpoint.remembered(context),
        )

        def remember(session: Any) -> None:
            endpoint.remembers = (context, session)

        codec.on_session = remember
        self._handshake = Handshake(
            self._client.loop,
            transport,
            codec,
            self._established,
            self._failed,
            timeout=tls.handshake_time,
        )
        greeting = endpoint.greeting(self)
        if greeting:
            transport.write(greeting)
        self._handshake.start()
        return self._handshake

    def _established(self, transport: SecureTransport) -> Session:
        self._handshake = None
        return self._endpoint.connected(self, transport)

    def _failed(self, failure: TlsFailure) -> None:
        self._handshake = None
        self._endpoint.connect_failed(self, TlsConnectionError(failure))

    def _refused(self, error: OSError) -> None:
        self._connecting = None
        self._endpoint.connect_failed(self, error)

    def cancel(self) -> None:
        """Give up; the endpoint's stack is not told any more."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._handshake is not None:
            self._handshake.cancel()
            self._handshake = None
