"""What an exchange asks of its two halves, whatever carries them, and what an HTTP/2 half hears of its output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from hostmesh.base.errors import MeshError

if TYPE_CHECKING:
    from random import Random

    from hostmesh.protocol.h1_head import ResponseHead
    from hostmesh.protocol.tls.identity import PeerIdentity
    from hostmesh.proxy.caller_session import CallerSession
    from hostmesh.proxy.client_session import ClientSession
    from hostmesh.proxy.exchange import Exchange
    from hostmesh.proxy.forwarded import Party
    from hostmesh.proxy.h2_caller_stream import H2CallerStream
    from hostmesh.proxy.h2_client_stream import H2EndpointStream
    from hostmesh.proxy.tunnel import Handover, Tunnel

    # Compiled code calls the classes directly, and whatever else is a half through the interpreter.
    AnyCaller: TypeAlias = "H2CallerStream | CallerSession | CallerHalf"
    AnyEndpoint: TypeAlias = "H2EndpointStream | ClientSession | EndpointHalf"


class CallerHalf(Protocol):
    """The caller's side of an exchange."""

    @property
    def peer(self) -> tuple[str, int]: ...

    @property
    def identity(self) -> PeerIdentity | None: ...

    def parties(self, router: str, rng: Random) -> tuple[Party, Party]: ...

    def send_head(self, ex: Exchange, head: ResponseHead, chunk: bytes, done: bool) -> None: ...

    def send_informational(self, ex: Exchange, head: ResponseHead) -> None: ...

    def send_data(self, chunk: bytes, done: bool, trailers: bytes) -> None: ...

    def send_error(self, ex: Exchange, error: MeshError) -> None: ...

    def send_answer(self, ex: Exchange, status: int, body: bytes) -> None:
        """A whole response made here that is no error (status service, diagnostics)."""
        ...

    def switch(self, ex: Exchange, head: ResponseHead, protocol: bytes, tunnel: Tunnel) -> Handover:
        """The endpoint has switched to ``protocol``: tell the caller with ``head``, and give away what carries it."""
        ...

    def cut(self) -> None:
        """The response cannot be completed: end the connection so that it does not look complete."""
        ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    @property
    def blocked(self) -> bool: ...


class Unused(Protocol):
    """A connection to an endpoint that carries nothing yet."""

    @property
    def closed(self) -> bool: ...

    def start(self, ex: Exchange) -> None:
        """Carry ``ex``."""
        ...

    def close(self) -> None: ...


class EndpointHalf(Protocol):
    """The endpoint's side of an attempt."""

    reused: bool
    got_bytes: bool

    def send_data(self, chunk: bytes, done: bool, trailers: bytes) -> None: ...

    def detach(self, now: float, *, reuse: bool) -> None:
        """The exchange is done with this session; it goes back to its pool or is closed."""
        ...

    def cancel(self) -> None:
        """The exchange gives up on this session; the endpoint learns of it at once."""
        ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    @property
    def blocked(self) -> bool: ...


class SendingOwner(Protocol):
    """The session of a connection. Called outside of its own calls into its output (h2_sending.py), or last in them."""

    def stream_writable(self, stream: int) -> None:
        """``blocked`` was True for this stream and is not any more."""
        ...

    def stream_overdue(self, stream: int, error: MeshError) -> None:
        """This stream was given up and is forgotten here: reset it and tell its exchange."""
        ...

    def connection_overdue(self, error: MeshError) -> None:
        """Too many streams were given up: close the connection."""
        ...

    def engine_failed(self, error: Exception) -> None:
        """A bug of ours: the engine cannot say what there is to send. Nothing is written any more."""
        ...
