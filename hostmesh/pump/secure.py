"""TLS on a connection: a session of the transport below, a transport for the session above.

The bytes of the wire come from any transport, a socket's or a virtual one, and go through a codec
(:mod:`hostmesh.protocol.tls.codec`). First a :class:`Handshake` stands between the two, bounded in time; when both
sides have agreed, a :class:`SecureTransport` takes its place, and the session above is made. Nothing of the session
leaves before the peer has been verified.

A connection that ends without close_notify was cut, by whomever: that is an error and not an end (RFC 8446 section
6.1).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from hostmesh.base.reasons import Reason
from hostmesh.protocol.client_hello import starts_tls
from hostmesh.protocol.tls.failures import TlsConnectionError, TlsFailure

if TYPE_CHECKING:
    from hostmesh.base.var import Turn
    from hostmesh.protocol.tls.codec import TlsCodec
    from hostmesh.protocol.tls.identity import PeerIdentity
    from hostmesh.pump.loop import Address, Loop, Session, TimerHandle, Transport

HANDSHAKE_TIME = 10.0
"""Seconds for a handshake, from the accept or the connect (hardening X3)."""

MAX_OWED = 16 * 1024
"""Bytes of answers of TLS itself that may wait behind a write buffer that is full: 600 renewals of keys. A peer may ask
for them without end and read none."""


class SecureTransport:
    """A :class:`~hostmesh.pump.loop.Transport` over another one, which belongs to it.

    ``bytes_in``, ``bytes_out``, ``blocked`` and ``unsent`` are those of the wire: ciphertext.
    """

    __slots__ = (
        "_codec",
        "_early",
        "_ended",
        "_inner",
        "_owed",
        "_paused",
        "_shut",
        "_turn",
        "_untold",
        "identity",
        "local",
        "peer",
        "protocol",
        "resumed",
        "session",
    )

    def __init__(self, inner: Transport, codec: TlsCodec, turn: Turn) -> None:
        self._inner = inner
        self._codec = codec
        self._turn = turn
        self.peer: Address = inner.peer
        self.local: Address = inner.local
        self.identity: PeerIdentity | None = codec.identity
        """Who the peer has proved to be; None if it has shown no certificate."""
        self.resumed = codec.resumed
        """The handshake went on with an earlier session (accepting side)."""
        self.protocol = codec.protocol
        """What both sides have agreed to speak (ALPN); empty if nothing was said."""
        self.session: Session | None = None
        self._paused = False
        self._early = b""
        """Plaintext that came before the session wanted it: behind the handshake, or behind a pause."""
        self._untold = False
        """The end came before the session wanted it."""
        self._ended = False
        self._shut = False
        self._owed = 0

    # -- from the transport below ---------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        codec = self._codec
        if self._ended:
            # Behind close_notify nothing counts.
            return
        try:
            plain = codec.decrypt(data)
        except TlsFailure as failure:
            self._fail(failure)
            return
        if codec.reply:
            self._answer(codec)
        if plain:
            if self._paused or self._early:
                self._early += plain
            else:
                session = self.session
                if session is not None:
                    session.data_received(plain)
        if codec.ended:
            self._on_end()

    def _answer(self, codec: TlsCodec) -> None:
        inner = self._inner
        reply, codec.reply = codec.reply, b""
        inner.write(reply)
        self._owed = self._owed + len(reply) if inner.blocked else 0
        if self._owed > MAX_OWED:
            self._shut = True
            inner.abort()
            self._lost(
                ConnectionResetError(
                    errno.ECONNRESET, "the peer asks for new keys and does not read the answers"
                )
            )

    def _on_end(self) -> None:
        self._ended = True
        if self._paused or self._early:
            self._untold = True
        elif self.session is not None and not self._inner.closed:
            self.session.eof_received()

    def begin(self, session: Session) -> None:
        """Deliver what the peer has sent behind the handshake; ``session`` is who it is for."""
        self.session = session
        self.data_received(b"")

    def eof_received(self) -> None:
        if not self._ended:
            self._lost(
                ConnectionResetError(errno.ECONNRESET, "the TLS connection was cut, without close_notify")
            )
            self._inner.abort()

    def connection_lost(self, error: OSError | None) -> None:
        self._codec.close()
        self._lost(error)

    def writable(self) -> None:
        if self.session is not None:
            self.session.writable()

    def _fail(self, failure: TlsFailure) -> None:
        self._shut = True
        if failure.farewell:
            self._inner.write(failure.farewell)
        self._inner.close()
        self._lost(TlsConnectionError(failure))

    def _lost(self, error: OSError | None) -> None:
        session, self.session = self.session, None
        if session is not None:
            session.connection_lost(error)

    # -- from the session above -----------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._shut or self._inner.closed:
            return
        try:
            sealed = self._codec.encrypt(data)
        except TlsFailure as failure:
            # write() runs inside a session's own method; telling it now would re-enter it.
            self._shut = True
            self._turn.call_soon(self._fail, failure)
            return
        self._inner.write(sealed)

    def pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._inner.pause()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            if self._early or self._untold:
                self._turn.call_soon(self._deliver)
            else:
                self._inner.resume()

    def _deliver(self) -> None:
        if self._paused or self.session is None or self._inner.closed:
            return
        early, self._early = self._early, b""
        if early:
            self.session.data_received(early)
        self._deliver_end()

    def _deliver_end(self) -> None:
        if self._paused or self.session is None or self._inner.closed:
            return
        if self._untold:
            self._untold = False
            self.session.eof_received()
        self._inner.resume()

    def acknowledge(self) -> None:
        self._inner.acknowledge()

    def shutdown_write(self) -> None:
        if not self._shut and not self._inner.closed:
            self._notify()
            self._inner.shutdown_write()

    def close(self, *, wait: bool = True) -> None:
        if not self._inner.closed:
            if not self._shut:
                self._notify()
            self._inner.close(wait=wait and not self._ended)

    def _notify(self) -> None:
        self._shut = True
        farewell = self._codec.close_notify()
        if farewell:
            self._inner.write(farewell)

    def abort(self) -> None:
        if self._codec.server_side or self._shut or self._inner.unsent:
            self._shut = True
            self._inner.abort()
        else:
            # What we ask of endpoints says itself how long it is, so nothing looks complete because of a farewell;
            # without one every idle connection that we close is an error in an endpoint's log.
            self.close()

    def reset(self) -> None:
        self._shut = True
        self._inner.reset()

    @property
    def server_name(self) -> bytes | None:
        """The host name that a caller has asked for (SNI), as it came; None for none."""
        return self._codec.server_name

    # -- what it is -----------------------------------------------------------------------------------------------

    @property
    def bytes_in(self) -> int:
        return self._inner.bytes_in

    @property
    def bytes_out(self) -> int:
        return self._inner.bytes_out

    @property
    def blocked(self) -> bool:
        return self._inner.blocked

    @property
    def closed(self) -> bool:
        return self._inner.closed

    @property
    def ended(self) -> bool:
        return self._ended and not self._untold

    @property
    def unsent(self) -> bool:
        return self._inner.unsent

    @property
    def unread(self) -> int:
        return len(self._early) or self._inner.unread

    @property
    def patient(self) -> bool:
        return self._inner.patient

    @patient.setter
    def patient(self, value: bool) -> None:
        self._inner.patient = value

    @property
    def write_stall(self) -> float:
        return self._inner.write_stall

    @write_stall.setter
    def write_stall(self, value: float) -> None:
        self._inner.write_stall = value


class Handshake:
    """The first session of a transport that is to carry TLS.

    ``established(transport)`` returns who gets the plaintext; ``failed(failure)`` is called instead, once, and the
    connection closes after its alert. Neither runs after :meth:`cancel`. ``answer`` is what a peer is told, in plain
    text, that does not speak TLS.
    """

    __slots__ = ("_answer", "_codec", "_established", "_failed", "_first", "_loop", "_timer", "_transport")

    def __init__(
        self,
        loop: Loop,
        transport: Transport,
        codec: TlsCodec,
        established: Callable[[SecureTransport], Session],
        failed: Callable[[TlsFailure], object],
        *,
        timeout: float = HANDSHAKE_TIME,
        answer: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._codec: TlsCodec | None = codec
        self._established: Callable[[SecureTransport], Session] | None = established
        self._failed: Callable[[TlsFailure], object] | None = failed
        self._answer = answer
        self._first = answer is not None
        self._timer: TimerHandle | None = loop.call_at(loop.now() + timeout, self._timed_out, timeout)

    def start(self) -> None:
        """Speak first: the dialling side."""
        self._step(b"")

    def _step(self, data: bytes) -> None:
        codec = self._codec
        if codec is None:
            return
        try:
            out = codec.handshake(data)
        except TlsFailure as failure:
            self._fail(failure, failure.farewell)
            return
        if out:
            self._transport.write(out)
        if codec.established:
            self._finish(codec)

    def _finish(self, codec: TlsCodec) -> None:
        established = self._established
        assert established is not None
        self._release()
        secure = SecureTransport(self._transport, codec, self._loop.turn)
        self._transport.session = secure
        try:
            session = established(secure)
        except Exception:
            # Nobody would ever close it.
            secure.abort()
            raise
        secure.begin(session)

    def _release(self) -> None:
        self._codec = None
        self._established = self._failed = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, failure: TlsFailure, farewell: bytes) -> None:
        codec, failed = self._codec, self._failed
        if codec is None or failed is None:
            return
        self._release()
        codec.close()
        if farewell:
            self._transport.write(farewell)
        self._transport.close()
        failed(failure)

    def cancel(self) -> None:
        """Give up."""
        codec = self._codec
        if codec is not None:
            self._release()
            codec.close()
            self._transport.abort()

    def _timed_out(self, timeout: float) -> None:
        self._timer = None
        self._fail(TlsFailure(Reason.TLS_TIMEOUT, f"no handshake within {timeout:g} s"), b"")

    def data_received(self, data: bytes) -> None:
        if self._first:
            self._first = False
            if not starts_tls(data):
                assert self._answer is not None
                what = "its first byte is none of a handshake"
                self._fail(
                    TlsFailure(Reason.TLS_NOT_SPOKEN, f"the caller does not speak TLS: {what}"),
                    self._answer(data),
                )
                return
        self._step(data)

    def eof_received(self) -> None:
        self._fail(TlsFailure(Reason.TLS_HANDSHAKE, "the connection was closed during the handshake"), b"")

    def connection_lost(self, error: OSError | None) -> None:
        what = "closed" if error is None else f"broken ({error.strerror or error})"
        self._fail(TlsFailure(Reason.TLS_HANDSHAKE, f"the connection was {what} during the handshake"), b"")

    def writable(self) -> None:
        """A handshake waits for the peer, whatever the kernel takes."""
