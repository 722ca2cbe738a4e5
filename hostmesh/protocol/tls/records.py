"""The calls into OpenSSL that every handshake and every piece of data cost, in two ways that do the same.

:class:`PublicRecords` uses what pyOpenSSL documents. :class:`DirectRecords` makes the same calls of OpenSSL through
the binding that pyOpenSSL itself is made of, without its checks, exceptions and allocations around each: 1.6 us instead
of 4.4 for 200 bytes in and out (docs/architecture.md). It is taken where that binding is as we know it, and wherever
OpenSSL fails it is pyOpenSSL that says why.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from OpenSSL import SSL

from hostmesh.protocol.tls.server_hello import resumes

RECORD: Final = 16384
"""Bytes of plaintext in a record, at most (RFC 8446 section 5.1)."""

OVERHEAD: Final = 128
"""Bytes that a record adds to its plaintext, at most: header, nonce, padding and MAC of any cipher that we take."""

ROOM: Final = 128 * 1024
"""Bytes of the buffer that results are written to: a session's ordinary writes, sealed. Larger ones get their own."""


class Records(Protocol):
    """One connection's handshake and data.

    All raise what pyOpenSSL raises if the connection is of no more use, and what a callback has raised.
    """

    def handshake(self) -> bool:
        """Go on with the handshake as far as what was fed allows; whether it is over."""
        ...

    def resumed(self, flight: bytes) -> bool:
        """Whether a server's handshake, which has just answered ``flight``, goes on with an earlier session."""
        ...

    def feed(self, data: bytes) -> None:
        """Take bytes of the wire."""
        ...

    def read(self, most: int) -> bytes | None:
        """The plaintext of one record, at most so many bytes of it.

        Empty if no whole one with data is there, None if the peer has said that it sends no more.
        """
        ...

    def open(self, data: bytes, most: int) -> bytes | None:
        """:meth:`feed`, then :meth:`read`."""
        ...

    def seal(self, data: bytes) -> bytes:
        """The records of ``data``, which is not empty, and whatever else had to be sent."""
        ...

    def flush(self) -> bytes:
        """What else has to be sent; it may be nothing."""
        ...


class PublicRecords:
    """See the module's text."""

    __slots__ = ("_connection",)

    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection

    def handshake(self) -> bool:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return False
        return True

    def resumed(self, flight: bytes) -> bool:
        return resumes(flight)

    def feed(self, data: bytes) -> None:
        self._connection.bio_write(data)

    def read(self, most: int) -> bytes | None:
        try:
            return self._connection.recv(most)
        except SSL.WantReadError:
            return b""
        except SSL.ZeroReturnError:
            return None

    def open(self, data: bytes, most: int) -> bytes | None:
        self._connection.bio_write(data)
        return self.read(most)

    def seal(self, data: bytes) -> bytes:
        connection = self._connection
        view = memoryview(data)
        # A call takes one record, whatever it is given (SSL_MODE_ENABLE_PARTIAL_WRITE).
        for at in range(0, len(data), RECORD):
            connection.send(view[at : at + RECORD])
        return connection.bio_read(_sealed_size(len(data)))

    def flush(self) -> bytes:
        pieces = []
        try:
            while True:
                pieces.append(self._connection.bio_read(ROOM))
        except SSL.WantReadError:
            return b"".join(pieces)


def _sealed_size(size: int) -> int:
    return size + (size // RECORD + 1) * OVERHEAD


class _Binding:
    """What :class:`DirectRecords` needs of the binding. Raises AttributeError where it is another."""

    def __init__(self) -> None:
        library: Any = SSL._lib  # type: ignore[attr-defined]  # not documented: that is what this is about
        self.ffi: Any = SSL._ffi  # type: ignore[attr-defined]  # as above
        self.bio_write = library.BIO_write
        self.bio_read = library.BIO_read
        self.ssl_read = library.SSL_read
        self.ssl_write = library.SSL_write
        self.do_handshake = library.SSL_do_handshake
        self.session_reused = library.SSL_session_reused
        self.set_alpn_select_cb = library.SSL_CTX_set_alpn_select_cb
        self.connections: Any = SSL.Connection._reverse_mapping
        """By their SSL object, for callbacks."""
        self.get_error = library.SSL_get_error
        self.want_read: int = library.SSL_ERROR_WANT_READ
        self.zero_return: int = library.SSL_ERROR_ZERO_RETURN
        self.unpack = self.ffi.unpack
        self.new = self.ffi.new_allocator(should_clear_after_alloc=False)
        self.room = self.new("char[]", ROOM)
        """One for all connections: what is in it is copied out before the next call."""


class DirectRecords:
    """See the module's text. Raises AttributeError where pyOpenSSL's connections are others than we know."""

    __slots__ = ("_binding", "_from_ssl", "_into_ssl", "_raise", "_ssl")

    def __init__(self, connection: SSL.Connection, binding: _Binding) -> None:
        known: Any = connection
        self._binding = binding
        # All of them live as long as the connection does, which the codec holds.
        self._ssl = known._ssl
        self._into_ssl = known._into_ssl
        self._from_ssl = known._from_ssl
        self._raise = known._raise_ssl_error

    def handshake(self) -> bool:
        binding = self._binding
        done = binding.do_handshake(self._ssl)
        if done > 0:
            return True
        if binding.get_error(self._ssl, done) != binding.want_read:
            self._raise(self._ssl, done)
        return False

    def resumed(self, flight: bytes) -> bool:
        return self._binding.session_reused(self._ssl) == 1  # type: ignore[no-any-return]  # int == int

    def feed(self, data: bytes) -> None:
        self._binding.bio_write(self._into_ssl, data, len(data))

    def read(self, most: int) -> bytes | None:
        binding = self._binding
        size = binding.ssl_read(self._ssl, binding.room, most)
        if size <= 0:
            return self._no_data(size)
        return binding.unpack(binding.room, size)  # type: ignore[no-any-return]  # bytes, of a char[]

    def open(self, data: bytes, most: int) -> bytes | None:
        binding = self._binding
        binding.bio_write(self._into_ssl, data, len(data))
        size = binding.ssl_read(self._ssl, binding.room, most)
        if size <= 0:
            return self._no_data(size)
        return binding.unpack(binding.room, size)  # type: ignore[no-any-return]  # bytes, of a char[]

    def _no_data(self, result: int) -> bytes | None:
        binding = self._binding
        error = binding.get_error(self._ssl, result)
        if error == binding.zero_return:
            return None
        if error != binding.want_read:
            self._raise(self._ssl, result)
        return b""

    def seal(self, data: bytes) -> bytes:
        binding = self._binding
        size = len(data)
        if size <= RECORD:
            done = binding.ssl_write(self._ssl, data, size)
            if done <= 0:
                self._raise(self._ssl, done)
            room, most = binding.room, ROOM
        else:
            room, most = self._seal_several(data, size)
        size = binding.bio_read(self._from_ssl, room, most)
        return binding.unpack(room, size)  # type: ignore[no-any-return]  # bytes, of a char[]

    def flush(self) -> bytes:
        binding = self._binding
        size = binding.bio_read(self._from_ssl, binding.room, ROOM)
        if size <= 0:
            return b""
        data: bytes = binding.unpack(binding.room, size)
        return data + self.flush() if size == ROOM else data

    def _seal_several(self, data: bytes, size: int) -> tuple[Any, int]:
        binding = self._binding
        with binding.ffi.from_buffer(data) as start:
            at = 0
            while at < size:
                done = binding.ssl_write(self._ssl, start + at, size - at)
                if done <= 0:
                    self._raise(self._ssl, done)
                at += done
        most = _sealed_size(size)
        return (binding.room, ROOM) if most <= ROOM else (binding.new("char[]", most), most)


class NoRecords:
    """Of a connection that is closed: asking for any is a mistake in a program."""

    def handshake(self) -> bool:
        raise RuntimeError("the TLS connection is closed")

    def resumed(self, flight: bytes) -> bool:
        raise RuntimeError("the TLS connection is closed")

    def feed(self, data: bytes) -> None:
        raise RuntimeError("the TLS connection is closed")

    def read(self, most: int) -> bytes | None:
        raise RuntimeError("the TLS connection is closed")

    def open(self, data: bytes, most: int) -> bytes | None:
        raise RuntimeError("the TLS connection is closed")

    def seal(self, data: bytes) -> bytes:
        raise RuntimeError("the TLS connection is closed")

    def flush(self) -> bytes:
        raise RuntimeError("the TLS connection is closed")


CLOSED: Final = NoRecords()


def _binding() -> _Binding | None:
    try:
        return _Binding()
    except AttributeError:
        return None


BINDING = _binding()
"""None where it cannot be had. Not Final: tests take it away."""


def records_of(connection: SSL.Connection) -> Records:
    """The faster way where it can be had."""
    if BINDING is not None:
        try:
            return DirectRecords(connection, BINDING)
        except AttributeError:
            pass  # another pyOpenSSL than we know: its documented calls do the same
    return PublicRecords(connection)
