"""TLS on the admin port: the codec of the listeners, over the streams that hypercorn is given.

trio.SSLStream is not used because it keeps an engine's last words to itself: whoever shows a wrong certificate would
see a connection that ends, instead of the alert that says why. Here everything that the codec has to say is sent before
an error is raised, and the connection is closed in a way that lets it arrive.

A handshake costs a millisecond and a half of the daemon's thread, so there are bounds on how long one may take and on
how many there may be.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

import structlog
import trio

from hostmesh.protocol.tls.failures import TlsFailure

if TYPE_CHECKING:
    from hostmesh.protocol.tls.codec import TlsCodec
    from hostmesh.protocol.tls.contexts import ServerContexts
    from hostmesh.telemetry.metrics import MetricsTree

ALPN = (b"http/1.1",)
"""What is spoken here. A browser's page is a handful of requests, and scrapers have no use for HTTP/2."""

HANDSHAKE_S = 10.0
"""From the connection to the end of the handshake; a person on a bad line needs two."""

MAX_HANDSHAKES = 50
"""At once, per listener. The oldest is given up for one more: whoever stalls loses to whoever does not, and a
handshake in progress costs 100 KiB."""

LINGER_S = 1.0
"""For an alert or a refusal to arrive before the connection is closed under it."""

PIECE = 64 * 1024
"""Bytes that are read or encrypted at a time."""

HANDSHAKE_RECORD = 0x16
"""The first byte of every TLS connection (RFC 8446, 5.1); no HTTP method begins with it."""

_REFUSAL = b"This admin port speaks TLS: ask for it with https:// instead of http://.\n"
PLAINTEXT_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_REFUSAL), _REFUSAL)
)
"""What a request without TLS is answered with."""

CUT = "it cut the connection in the middle of the handshake"

_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


class Transport(Protocol):
    """A stream whose writes end by themselves when the peer does not read."""

    socket: Any

    def send_all(self, data: bytes) -> Awaitable[None]: ...
    def receive_some(self, max_bytes: int | None = None) -> Awaitable[bytes | bytearray]: ...
    def send_eof(self) -> Awaitable[None]: ...
    def aclose(self) -> Awaitable[None]: ...


class HandshakeError(Exception):
    """There will be no TLS on this connection; the text says why, about the caller as "it"."""


class PlaintextError(HandshakeError):
    """The caller speaks something else."""


class SecureStream:
    """A TLS connection as hypercorn wants it: what trio.SSLStream has of which it makes use.

    :meth:`handshake` comes first. One task may read while others write. :meth:`aclose` closes ``transport_stream``.
    """

    def __init__(self, transport: Transport, codec: TlsCodec) -> None:
        self.transport_stream = transport
        self._codec: TlsCodec | None = codec
        self._sending = trio.Lock()
        self._is_first = True

    async def handshake(self) -> None:
        """Raises HandshakeError, when the alert has been sent, and what the transport raises."""
        codec = self._open
        while not codec.established:
            data = bytes(await self.transport_stream.receive_some(PIECE))
            if self._is_first and data and data[0] != HANDSHAKE_RECORD:
                raise PlaintextError("it does not speak TLS")
            if not data:
                raise HandshakeError("" if self._is_first else CUT)
            self._is_first = False
            try:
                out = codec.handshake(data)
            except TlsFailure as failure:
                if failure.farewell:
                    await self.transport_stream.send_all(failure.farewell)
                raise HandshakeError(failure.message) from None
            if out:
                await self.transport_stream.send_all(out)
        self._is_first = True

    @property
    def _open(self) -> TlsCodec:
        if self._codec is None:
            raise trio.ClosedResourceError
        return self._codec

    async def do_handshake(self) -> None:
        """hypercorn tells TLS from plain connections by this method; it has been done."""

    def selected_alpn_protocol(self) -> str:
        return self._open.protocol.decode("ascii")

    async def send_all(self, data: bytes) -> None:
        view = memoryview(data)
        for start in range(0, len(view), PIECE):
            async with self._sending:
                try:
                    records = self._open.encrypt(bytes(view[start : start + PIECE]))
                except TlsFailure as failure:
                    raise trio.BrokenResourceError(failure.message) from None
                await self.transport_stream.send_all(records)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """As much as has arrived, whatever ``max_bytes`` is; that is a record or two."""
        del max_bytes
        if self._open.ended:
            return b""
        # What came together with the end of the handshake waits in the codec.
        data, self._is_first = (b"" if self._is_first else await self._received()), False
        while True:
            try:
                found = self._open.decrypt(data)
            except TlsFailure as failure:
                await self._send(failure.farewell)
                raise trio.BrokenResourceError(failure.message) from None
            reply, self._open.reply = self._open.reply, b""
            await self._send(reply)
            if found or self._open.ended:
                return found
            data = await self._received()
            if not data:
                # An end without TLS's own: HTTP says for itself where a request ends.
                return b""

    async def _received(self) -> bytes:
        return bytes(await self.transport_stream.receive_some(PIECE))

    async def _send(self, records: bytes) -> None:
        if records:
            async with self._sending:
                await self.transport_stream.send_all(records)

    def abandon(self) -> None:
        """Let go of the engine, and not of the transport."""
        codec, self._codec = self._codec, None
        if codec is not None:
            codec.close()

    async def aclose(self) -> None:
        """Say goodbye if nobody is writing, and close. May be called again."""
        codec, self._codec = self._codec, None
        try:
            if codec is not None:
                farewell = b"" if self._sending.locked() else codec.close_notify()
                codec.close()
                with contextlib.suppress(*_GONE):
                    await self._send(farewell)
        finally:
            await self.transport_stream.aclose()


class Handshakes:
    """Those of one listener. ``contexts`` is asked for each connection, so that new certificates are used at once."""

    def __init__(self, contexts: Callable[[], ServerContexts], metrics: MetricsTree) -> None:
        self._contexts = contexts
        self._pending: dict[trio.CancelScope, None] = {}
        self._log = structlog.get_logger("hostmesh.admin.tls")
        scope = metrics.scope("admin", "tls")
        self._succeeded = scope.counter("handshakes")
        self._failed = scope.counter("failures")
        self._plaintext = scope.counter("plaintext")

    @property
    def pending(self) -> int:
        """How many are in progress, those included whose refusal is on its way."""
        return len(self._pending)

    def end(self) -> None:
        """Give up those in progress."""
        for scope in list(self._pending):
            scope.cancel()

    async def secured(self, transport: Transport, peer: str) -> SecureStream | None:
        """The connection, ready for HTTP; None if there will be none. The caller closes ``transport``, at once."""
        if len(self._pending) >= MAX_HANDSHAKES:
            oldest = next(iter(self._pending))
            del self._pending[oldest]
            oldest.cancel()
        stream = cause = None
        with trio.move_on_after(HANDSHAKE_S) as scope:
            self._pending[scope] = None
            try:
                stream, cause = await self._attempt(transport)
                if stream is None:
                    self._refused(peer, cause)
                    scope.deadline = trio.current_time() + LINGER_S
                    await _wait_read(transport)
            finally:
                was_evicted = scope not in self._pending
                self._pending.pop(scope, None)
        if stream is not None:
            self._succeeded.value += 1
        elif cause is None and was_evicted:
            self._refused(peer, f"it had the oldest of {MAX_HANDSHAKES} unfinished handshakes")
        elif cause is None:
            self._refused(peer, f"no handshake within {HANDSHAKE_S:g} s")
        return stream

    def _refused(self, peer: str, cause: str) -> None:
        """Nothing is said of one that has ended without a word: somebody has tried whether the port is open."""
        if cause:
            self._failed.value += 1
            self._log.warning("admin.tls_refused", peer=peer, cause=cause)

    async def _attempt(self, transport: Transport) -> tuple[SecureStream | None, str]:
        """The connection, or why there is none."""
        stream = SecureStream(transport, self._contexts().connection(ALPN))
        is_done = False
        try:
            await stream.handshake()
            is_done = True
        except PlaintextError as error:
            self._plaintext.value += 1
            with contextlib.suppress(*_GONE):
                await transport.send_all(PLAINTEXT_ANSWER)
            return None, str(error)
        except HandshakeError as error:
            return None, str(error)
        except _GONE:
            return None, CUT
        finally:
            if not is_done:
                stream.abandon()
        return stream, ""


async def _wait_read(transport: Transport) -> None:
    """Until the peer has closed: with bytes of its unread the kernel would drop what we said last."""
    with contextlib.suppress(*_GONE):
        await transport.send_eof()
        while await transport.receive_some(PIECE):
            pass
