"""TLS as a codec: bytes of the wire in, plaintext out, and back, without a socket (pyOpenSSL on memory BIOs).

A call into OpenSSL costs microseconds, and so does an exception of it, so the codec knows from the record headers
(RFC 8446 section 5.1) how many whole records have arrived and asks for no more than they can hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import define
from OpenSSL import SSL

from hostmesh.base.reasons import Reason
from hostmesh.protocol.tls.failures import TlsFailure, VerifyProblem, of_library, of_verification
from hostmesh.protocol.tls.identity import PeerIdentity, visible
from hostmesh.protocol.tls.records import CLOSED, RECORD, Records, records_of

SLICE: Final = 4096
"""Bytes that OpenSSL is given at once where many records may be in them: in one call it takes whatever it has."""

MAX_DATALESS: Final = 32
"""Records without data in what has arrived at once (KeyUpdates, tickets). A KeyUpdate costs 40 us, and a read has room
for 4,500 of them, during which nobody else is served. Who behaves sends one in hours."""

MAX_TOLD_PROTOCOLS: Final = 8
"""Of those that a peer has offered, in the text of a failure: it may offer thousands, to fill a log with."""

MAX_TOLD_BYTES: Final = 100
"""Of their names."""

_HEADER: Final = 5


class NothingInCommonError(Exception):
    """Raised through OpenSSL, which makes the alert no_application_protocol of it (RFC 7301 section 3.2)."""


@define(eq=False)
class Notes:
    """What the callbacks of a handshake are told, and what they have found out."""

    alpn: tuple[bytes, ...] = ()
    name: str | None = None
    from_subject: bool = False
    allowed: tuple[str, ...] = ()
    problem: VerifyProblem | None = None
    mismatch: str | None = None
    stranger: str | None = None
    offered: list[bytes] | None = None
    chosen: bytes = b""
    asks: bool = True
    """The peer may have shown a certificate."""
    verified: bool = False


class TlsCodec:
    """One side of one connection. Made by a context; :meth:`close` lets go of the engine."""

    __slots__ = (
        "_connection",
        "_greeting",
        "_head",
        "_notes",
        "_records",
        "_rest",
        "_skip",
        "_whose",
        "ended",
        "established",
        "identity",
        "on_session",
        "protocol",
        "reply",
        "resumed",
        "server_side",
    )

    def __init__(self, connection: SSL.Connection, notes: Notes, *, server_side: bool) -> None:
        connection.set_app_data(notes)
        self._connection: SSL.Connection | None = connection
        self._notes = notes
        self._whose = "the caller" if server_side else "the endpoint"
        self.server_side = server_side
        self._records: Records = records_of(connection)
        self._skip = 0
        """Bytes of the current record that have yet to come."""
        self._head = b""
        """The beginning of a record header."""
        self._rest = b""
        """What came behind the handshake and has not been given to the engine."""
        self.established = False
        self.ended = False
        """The peer has said that it sends no more (close_notify)."""
        self.reply = b""
        """What has to be sent after :meth:`decrypt`: the answer to a KeyUpdate. Whoever sends it empties it."""
        self._greeting = b""
        """What may go with the first data: tickets of TLS 1.3, for which nobody waits. A send costs more than they."""
        self.protocol = b""
        """What both sides have agreed on (ALPN); empty if nothing was said."""
        self.identity: PeerIdentity | None = None
        self.resumed = False
        """The handshake went on with an earlier session of the caller (server side)."""
        self.on_session: Callable[[Any], object] | None = None
        """Given what a later connection may resume (client side)."""

    @property
    def cipher(self) -> str:
        """OpenSSL's name of the cipher in use; empty before there is one."""
        return "" if self._connection is None else self._connection.get_cipher_name() or ""

    @property
    def server_name(self) -> bytes | None:
        """The host name that the caller has asked for (SNI), as it came; None for none."""
        return None if self._connection is None else self._connection.get_servername()

    def handshake(self, data: bytes) -> bytes:
        """Take bytes of the peer, none to begin with, and return what has to be sent.

        Raises :class:`TlsFailure`. When :attr:`established` is True the rest of ``data`` waits for
        ``decrypt(b"")``.
        """
        connection = self._connection
        assert connection is not None
        for at in range(0, len(data) or 1, SLICE):
            if data:
                piece = data[at : at + SLICE]
                self._whole_records(piece)
                self._records.feed(piece)
            try:
                over = self._records.handshake()
            except (SSL.Error, NothingInCommonError) as error:
                raise self._failure(error) from None
            if not over:
                continue
            self._rest = data[at + SLICE :]
            return self._finish(connection)
        out = self._flush()
        if out and self.server_side:
            self.resumed = self._records.resumed(out)
        return out

    def _finish(self, connection: SSL.Connection) -> bytes:
        self.established = True
        out = self._flush()
        notes = self._notes
        if notes.alpn:
            # What our callback has chosen needs no asking.
            self.protocol = notes.chosen if self.server_side else connection.get_alpn_proto_negotiated()
        if notes.asks:
            self.identity = self._identity(connection)
        # The notes are for the callbacks of the handshake, of which there is no second one.
        connection.set_app_data(None)
        if self.on_session is not None:
            self._remember()
        if self.server_side and connection.get_protocol_version() == SSL.TLS1_3_VERSION:
            self._greeting, out = out, b""
        return out

    def _identity(self, connection: SSL.Connection) -> PeerIdentity | None:
        try:
            certificate = connection.get_peer_certificate(as_cryptography=True)
            return None if certificate is None else PeerIdentity.of(certificate)
        except Exception as error:  # noqa: BLE001 - anybody's bytes; cryptography refuses them in many ways
            if connection.get_verify_mode() == SSL.VERIFY_NONE:
                # Nobody has asked who it is.
                return None
            raise TlsFailure(
                Reason.TLS_UNTRUSTED, f"{self._whose}'s certificate cannot be read: {error}"
            ) from None

    def _failure(self, error: Exception) -> TlsFailure:
        notes = self._notes
        if notes.mismatch is not None:
            found = Reason.TLS_NAME_MISMATCH, notes.mismatch
        elif notes.stranger is not None:
            found = (
                Reason.TLS_NOT_ALLOWED,
                f"the caller is {notes.stranger}, whom allowedCallers does not name",
            )
        elif notes.problem is not None:
            found = of_verification(notes.problem, f"{self._whose}'s")
        elif notes.offered is not None:
            few = b", ".join(notes.offered[:MAX_TOLD_PROTOCOLS])[:MAX_TOLD_BYTES]
            names = visible(few.decode("latin-1"))
            found = (
                Reason.TLS_HANDSHAKE,
                f"{self._whose} offers only {names} (ALPN), which is not served here",
            )
        elif isinstance(error, SSL.SysCallError):
            found = Reason.TLS_HANDSHAKE, f"{self._whose} ended the connection"
        else:
            errors = error.args[0] if error.args and isinstance(error.args[0], list) else []
            found = of_library(errors, self._whose)
        return TlsFailure(found[0], found[1], self._flush())

    def decrypt(self, data: bytes) -> bytes:
        """The plaintext in ``data`` and in what came before; then see :attr:`reply` and :attr:`ended`.

        Raises :class:`TlsFailure`: the connection is of no more use.
        """
        size = len(data)
        if size > _HEADER and not self._skip and not self._head:
            length = data[3] << 8 | data[4]
            if size == length + _HEADER:
                # One record, the ordinary case: its data is all there is.
                try:
                    plain = self._records.open(data, length or 1)
                except SSL.Error as error:
                    raise self._failure(error) from None
                return plain or self._no_data(plain)
        if not data:
            # No more records than bytes; the engine has been given a slice at most.
            found = b"".join(self._read(SLICE))
            rest, self._rest = self._rest, b""
            return found + self.decrypt(rest) if rest and not self.ended else found
        skip, head = self._skip, self._head
        whole = self._whole_records(data)
        if whole > MAX_DATALESS:
            self._skip, self._head = skip, head
            return self._decrypt_many(data)
        self._records.feed(data)
        return b"".join(self._read(whole))

    def _decrypt_many(self, data: bytes) -> bytes:
        """As :meth:`decrypt`, of so many records that they must be looked at bit by bit."""
        pieces: list[bytes] = []
        dataless = 0
        for at in range(0, len(data), SLICE):
            part = data[at : at + SLICE]
            whole = self._whole_records(part)
            self._records.feed(part)
            found = self._read(whole)
            if self.ended:
                return b"".join(pieces + found)
            pieces += found
            dataless += whole - len(found)
            if dataless > MAX_DATALESS:
                raise TlsFailure(
                    Reason.TLS_HANDSHAKE,
                    f"{self._whose} has sent more than {MAX_DATALESS} records without data at once (KeyUpdate)",
                )
        return b"".join(pieces)

    def _read(self, whole: int) -> list[bytes]:
        """The plaintext of each record that has some, of ``whole`` that the engine has."""
        pieces: list[bytes] = []
        read = self._records.read
        try:
            for _ in range(whole):
                piece = read(RECORD)
                if not piece:
                    # At least one of the records was no data.
                    self._no_data(piece)
                    break
                pieces.append(piece)
        except SSL.Error as error:
            raise self._failure(error) from None
        return pieces

    def _whole_records(self, data: bytes) -> int:
        """How many records end in ``data``, which follows what was seen before."""
        at = self._skip
        if self._head:
            data = self._head + data
            self._head = b""
        size = len(data)
        ends = 1 if 0 < at <= size else 0
        while at + _HEADER <= size:
            at += _HEADER + (data[at + 3] << 8 | data[at + 4])
            if at <= size:
                ends += 1
        if at > size:
            self._skip = at - size
        else:
            self._skip = 0
            self._head = data[at:]
        return ends

    def _no_data(self, nothing: bytes | None) -> bytes:
        """A record was none of data, or the last one: see what it has brought."""
        if nothing is None:
            self.ended = True
            return b""
        answer = self._records.flush()
        if answer:
            greeting, self._greeting = self._greeting, b""
            self.reply += greeting + answer
        if self.on_session is not None:
            self._remember()
        return b""

    def _remember(self) -> None:
        assert self._connection is not None
        assert self.on_session is not None
        session = self._connection.get_session()
        if session is not None:
            self.on_session(session)

    def _flush(self) -> bytes:
        greeting, self._greeting = self._greeting, b""
        return greeting + self._records.flush()

    def encrypt(self, data: bytes) -> bytes:
        """The records of ``data``. Raises :class:`TlsFailure` if the connection is of no more use."""
        if not data:
            return b""
        try:
            sealed = self._records.seal(data)
        except SSL.Error as error:
            raise self._failure(error) from None
        if self._greeting:
            greeting, self._greeting = self._greeting, b""
            return greeting + sealed
        return sealed

    def close_notify(self) -> bytes:
        """What tells the peer that no more will come (RFC 8446 section 6.1); nothing may be encrypted after it."""
        connection = self._connection
        if connection is None or not self.established:
            return b""
        try:
            connection.shutdown()
        except SSL.Error:
            # The engine has failed before and is good for nothing more; what it failed with has been reported.
            return b""
        return self._flush()

    def close(self) -> None:
        """Let go of the engine; nothing may be called after it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.set_app_data(None)
            if not self.server_side:
                # However it ended, its session may be resumed (RFC 8446 section 6.1); OpenSSL would spoil it.
                connection.set_shutdown(SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)
            self._records = CLOSED
            self.on_session = None
